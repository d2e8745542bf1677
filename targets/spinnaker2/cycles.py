"""How many instructions a tick of the firmware takes: measured constants, and the deadline margin that they give.

The constants are counted in the prebuilt ELF (`nmc.targets.spinnaker2.engines.exact.InstructionCounter`); a test
counts them again. Cycles an instruction are not public for this chip: `CPI` is an assumption (facts/spinnaker2.md
5.1: 1.3 to 1.5, unmeasured).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.targets.spinnaker2.laws import Law
from nmc.targets.spinnaker2.machine import LANES, Machine
from nmc.targets.spinnaker2.rows import ConvRows, Rows, SparseRows

Array = NDArray[Any]

#: Assumed cycles an instruction.
CPI = 1.4
#: Hz (facts 1.1, clocks: ``version_spin2.py``).
CLOCKS = (150_000_000, 300_000_000)
#: Instructions of a tick without neurons and spikes.
TICK = 365
#: Instructions a neuron that does not fire: all parameters shared, or not; `lif2` and `lif_fixed2` with two types.
NEURON = {
    "if": (25, 42), "stbif": (22, 34), "graded": (41, 41), "phased": (23, 23), "bit_serial": (26, 26),
    "readout": (15, 15), "max_pool": (18, 18), "lif": (49, 110), "lif2": (64, 145), "lif_fixed": (75, 126),
    "lif_fixed2": (101, 161),
}  # fmt: skip
#: Instructions of ``max_pool`` a place of the window.
POOL_TAP = 13
#: ``user``: instructions of a tick; of each constant or parameter and of each other value in it; of a block of `LANES`
#: neurons, and of each state and parameter in it; of a current in floats and in fixed point; of asking who fires.
USER_TICK, USER_CONSTANT, USER_VALUE, USER_BLOCK, USER_ROW, USER_CURRENT, USER_FIRE = (
    294,
    73,
    18,
    85,
    8,
    (32, 47),
    6,
)
#: ``user``: what an instruction takes a block, and a neuron in floats and in fixed point (at most).
USER_CODE = 36
USER_OP = {
    "add": (12, 17), "sub": (12, 14), "mul": (12, 19), "div": (12, 322), "min": (17, 8), "max": (17, 8),
    "neg": (10, 16), "abs": (5, 9), "floor": (20, 6), "lt": (12, 9), "le": (12, 9), "gt": (12, 9), "ge": (12, 9),
    "eq": (12, 8), "ne": (12, 8), "copy": (4, 4), "and": (6, 6), "or": (6, 6), "not": (5, 5), "select": (10, 10),
}  # fmt: skip
#: Instructions that a neuron's spike takes to send (at most).
SEND = 20
#: Instructions of the spikes of a tick for one entry, all together: found in the table (`SEARCH` for each halving), and
#: what ``dense8`` takes more.
RUN, SEARCH, DENSE_RUN = 76, 10, 45
#: Instructions a received spike for each entry that it matches, by row format.
SPIKE = {"dense8": 30, "sparse16": 51, "sparse32": 39, "conv": 103}
#: Instructions a received spike that comes from outside the rows of its entry.
MISS = 20
#: Instructions a synaptic event, by row format (a payload or gain other than 1 adds one to ``conv``).
EVENT = {"dense8": 2.25, "sparse16": 16.0, "sparse32": 14.0, "conv": 4.8}
#: ``dense8``: what each of up to `FEW` spikes takes more, and each synaptic event of theirs; and a target of each
#: `AT_ONCE` rows that are summed together where there are more.
FEW, FEW_SPIKE, FEW_EVENT, AT_ONCE, FLUSH = 4, 26, 1.75, 32, 8.6
#: Instructions of ``conv`` a row of the kernel, a row that reaches the box, a position of such a row, and a position
#: that reaches the box.
KERNEL_ROW, KERNEL_LINE, KERNEL_TAP, KERNEL_HIT = 13, 20, 19, 34


def neuron_instructions(law: Law, *, uniform: bool) -> int:
    """Instructions of one neuron in one tick; `uniform` where all parameters are shared."""
    if law.machine:
        return round(user_tick(law.machine, LANES) / LANES)
    name = f"{law.model}2" if f"{law.model}2" in NEURON and law.types == 2 else law.model
    taps = law.types * POOL_TAP if law.model == "max_pool" else 0
    return NEURON[name][0 if uniform else 1] + taps


def row_instructions(
    form: str, events: Array, geometry: Mapping[str, int] | None = None
) -> NDArray[np.int64]:
    """Instructions of a received spike, by source of an entry.

    Parameters
    ----------
    form : str
        Row format.
    events : (sources,) array
        Synaptic events of a spike of each source.
    geometry : mapping or None
        Of ``conv`` (`layout.GEOMETRY`).
    """
    found = SPIKE[form] + EVENT[form] * events
    if geometry is not None:
        lines, taps = hits(geometry, events.size)
        found += geometry["kernel_y"] * KERNEL_ROW + lines * KERNEL_LINE
        found += lines * geometry["kernel_x"] * KERNEL_TAP + lines * taps * KERNEL_HIT
    return np.asarray(np.rint(found), np.int64)


def run_instructions(entries: Any, targets: Array, spikes: Array) -> NDArray[np.float64]:
    """Instructions that the spikes of a tick for an entry take together, on top of `row_instructions` for each.

    Parameters
    ----------
    entries : int or array
        Entries of the population table.
    targets : array
        Targets of a row of ``dense8``, 0 for other formats.
    spikes : array
        Spikes that come for it in a tick (all of one sign; broadcast with `targets`).
    """
    few = spikes * (FEW_SPIKE + FEW_EVENT * targets)
    many = np.ceil(spikes / AT_ONCE) * FLUSH * targets
    dense = np.where(targets > 0, DENSE_RUN + np.where(spikes <= FEW, few, many), 0)
    halvings = np.frexp(entries)[1]  # bits of a whole number
    return np.asarray((spikes > 0) * (RUN + SEARCH * halvings + dense), np.float64)


def hits(geometry: Mapping[str, int], sources: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the kernel, and positions in each of them, with which each source of a box reaches the target box."""
    width = geometry["width"]
    at = np.arange(sources) // geometry["channels"]
    lines = _axis_hits(geometry, "y", -(-sources // (geometry["channels"] * width)))
    return lines[at // width], _axis_hits(geometry, "x", width)[at % width]


def _axis_hits(geometry: Mapping[str, int], axis: str, extent: int) -> NDArray[np.int64]:
    """Kernel positions along an axis with which each place of the source box reaches the target box."""
    taps = np.arange(geometry[f"kernel_{axis}"]) * geometry[f"dilation_{axis}"]
    away = (geometry[f"{axis}0"] + geometry[f"pad_{axis}"] + np.arange(extent))[:, None] - taps
    out, rest = np.divmod(away, geometry[f"stride_{axis}"])
    inside = (out >= geometry[f"t{axis}0"]) & (out < geometry[f"t{axis}1"])
    return np.asarray(((away >= 0) & (rest == 0) & inside).sum(axis=1), np.int64)


def row_events(rows: Rows) -> NDArray[np.int64]:
    """Synaptic events of a spike, by source of an entry (a dense row counts whole)."""
    if isinstance(rows, SparseRows):
        return np.bincount(rows.source, minlength=rows.sources)
    if isinstance(rows, ConvRows):
        lines, taps = hits(rows.geometry(), rows.sources)
        return lines * taps * np.resize(rows.widths, rows.sources)
    return np.full(rows.sources, rows.weights.shape[1])


def spike_instructions(rows: Rows) -> NDArray[np.int64]:
    """Instructions of a received spike, by source of an entry."""
    geometry = rows.geometry() if isinstance(rows, ConvRows) else None
    return row_instructions(rows.format, row_events(rows), geometry)


def tick_instructions(law: Law, neurons: int, *, uniform: bool) -> int:
    """Instructions of a tick without spikes; `uniform` where all parameters are shared by all neurons."""
    if law.machine:
        return user_tick(law.machine, neurons)
    return TICK + neurons * neuron_instructions(law, uniform=uniform)


def user_tick(machine: Machine, neurons: int) -> int:
    """Instructions of a tick of a model of the user's without spikes."""
    which = bool(machine.fixed)
    constants = len(machine.constants) + machine.params
    once = USER_TICK + USER_CONSTANT * constants + USER_VALUE * (1 + machine.states + machine.registers)
    block = USER_BLOCK + USER_ROW * (machine.states + machine.params) + USER_CODE * len(machine.code)
    lane = USER_CURRENT[which] + sum(USER_OP[line[0]][which] for line in machine.code)
    lane += USER_FIRE if machine.fire else 0
    return once + -(-neurons // LANES) * block + neurons * lane


def deadline_margin(instructions: float, clock: int, tick_seconds: float = 1e-3) -> float:
    """Share of a tick that is left: below 0 the deadline is missed."""
    return 1.0 - instructions * CPI / (clock * tick_seconds)
