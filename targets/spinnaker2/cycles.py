"""How many instructions a tick of the firmware takes: measured constants, and the deadline margin that they give.

The constants are counted in the prebuilt ELF (`nmc.targets.spinnaker2.engines.exact.InstructionCounter`); a test
counts them again. Cycles an instruction are not public for this chip: `CPI` is an assumption (facts/spinnaker2.md
5.1: 1.3 to 1.5, unmeasured).
"""

from __future__ import annotations

from collections.abc import Iterable

from nmc.targets.spinnaker2.laws import Law
from nmc.targets.spinnaker2.rows import ConvRows, Rows, SparseRows

#: Assumed cycles an instruction.
CPI = 1.4
#: Hz (facts 1.1, clocks: ``version_spin2.py``).
CLOCKS = (150_000_000, 300_000_000)
#: Instructions of a tick without neurons and spikes.
TICK = 365
#: Instructions a neuron that does not fire: all parameters shared, or not; `lif2` and `lif_fixed2` with two types.
NEURON = {
    "if": (25, 46), "stbif": (22, 34), "graded": (41, 41), "phased": (23, 23), "bit_serial": (26, 26),
    "readout": (15, 15), "max_pool": (18, 18), "lif": (46, 110), "lif2": (64, 145), "lif_fixed": (75, 126),
    "lif_fixed2": (101, 166),
}  # fmt: skip
#: Instructions of ``max_pool`` a place of the window.
POOL_TAP = 13
#: Instructions that a neuron's spike takes to send (at most).
SEND = 20
#: Instructions a received spike for each entry that it matches, by row format; a table of more than one entry adds
#: `SEARCH` for each halving.
SPIKE = {"dense8": 107, "sparse16": 91, "sparse32": 81, "conv": 108}
SEARCH = 10
#: Instructions a synaptic event, by row format (a payload or gain other than 1 adds one to ``dense8`` and ``conv``).
EVENT = {"dense8": 4.0, "sparse16": 16.0, "sparse32": 14.0, "conv": 4.0}
#: Instructions of ``conv`` a row of the kernel, and a position in a row.
KERNEL_ROW, KERNEL_TAP = 99, 34


def neuron_instructions(law: Law, *, uniform: bool) -> int:
    """Instructions of one neuron in one tick; `uniform` where all parameters are shared."""
    name = f"{law.model}2" if f"{law.model}2" in NEURON and law.types == 2 else law.model
    taps = law.types * POOL_TAP if law.model == "max_pool" else 0
    return NEURON[name][0 if uniform else 1] + taps


def spike_instructions(rows: Rows, entries: int) -> float:
    """Instructions of one received spike on average over its sources, in a table of `entries`."""
    fixed = SPIKE[rows.format] + SEARCH * entries.bit_length()
    if isinstance(rows, ConvRows):
        kernel: tuple[int, ...] = rows.weight.shape[2:]
        lines = kernel[0] if len(kernel) == 2 else 1
        return float(fixed) + lines * (
            KERNEL_ROW + kernel[-1] * (KERNEL_TAP + EVENT["conv"] * rows.kernel_stride)
        )
    elements = rows.source.size if isinstance(rows, SparseRows) else rows.weights.size
    return fixed + EVENT[rows.format] * elements / max(rows.sources, 1)


def tick_instructions(
    law: Law, neurons: int, *, uniform: bool, sent: float = 0.0, received: Iterable[tuple[Rows, float]] = ()
) -> float:
    """Instructions of a tick.

    Parameters
    ----------
    law : Law
    neurons : int
    uniform : bool
        Whether all parameters are shared by all neurons.
    sent : float
        Spikes that the neurons send.
    received : iterable of (rows, spikes)
        For each entry of the population table, the spikes that match it.
    """
    table = list(received)
    incoming = sum(spikes * spike_instructions(rows, len(table)) for rows, spikes in table)
    return TICK + neurons * neuron_instructions(law, uniform=uniform) + sent * SEND + incoming


def deadline_margin(instructions: float, clock: int, tick_seconds: float = 1e-3) -> float:
    """Share of a tick that is left: below 0 the deadline is missed."""
    return 1.0 - instructions * CPI / (clock * tick_seconds)
