"""The discretisation record: which arithmetic a network in continuous time was turned into.

The list of its entries is that of facts/nir.md 1.6; frontends print it into the module attribute ``record``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from nmc.ir.ops.neurons import Precision, Reset


@dataclass(frozen=True)
class Record:
    """How time is cut into steps and what happens in one; nothing of it is guessed later on.

    Parameters
    ----------
    dt : float
        Length of a step, in the unit of the time constants.
    integrator : {"euler", "exact"}
        Decays of ``1 - dt / tau`` or of ``exp(-dt / tau)``.
    drive : {"step", "impulse"}
        Input held over a step (exact: its gain is ``1 - exp(-dt / tau)``), or an impulse of ``dt / tau``.
    order : {"synapse-first", "membrane-first"}
        Whether the membrane sees the synaptic state of this step or of the one before.
    compare : {"gt", "ge"}
        Whether reaching the threshold suffices.
    reset : str
        As ``snn.neuron`` has it.
    recurrent_delay, output_delay : int
        Steps round a loop, and steps that a population's spikes come later than they are computed.
    bias_site : {"current", "membrane"}
        Whether the bias passes the synapse or bypasses it.
    max_spikes : int
        Spikes of a neuron in one step, at most.
    decay_last : bool
        Decay after the spike instead of before the input.
    recurrent_bias : {"kept", "late", "dropped"}
        Bias of recurrent branches: from the first step on, from the second, or never.
    quantize : {"none", "int8-trunc"}
        Weights as given, or ``trunc(127 w / max|w|)`` over all weights into a population.
    precision : {"f32", "f64", "fixed12"}
        Of the states.
    """

    dt: float
    integrator: Literal["euler", "exact"] = "exact"
    drive: Literal["step", "impulse"] = "step"
    order: Literal["synapse-first", "membrane-first"] = "synapse-first"
    compare: Literal["gt", "ge"] = "gt"
    reset: Reset = "to-value"
    recurrent_delay: int = 1
    output_delay: int = 0
    bias_site: Literal["current", "membrane"] = "current"
    max_spikes: int = 1
    decay_last: bool = False
    recurrent_bias: Literal["kept", "late", "dropped"] = "kept"
    quantize: Literal["none", "int8-trunc"] = "none"
    precision: Precision = "f64"

    def attrs(self) -> dict[str, Any]:
        """All entries, for the module attribute ``record``."""
        return asdict(self)
