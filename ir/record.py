"""The discretisation record: which arithmetic a network in continuous time was turned into.

The list of its entries is that of facts/nir.md 1.6. Every module of level ``snn`` that nmc makes has it as its
attribute ``record``, whatever it was made from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op
from nmc.ir.ops.neurons import Precision, Reset

#: Entries that each population says itself; where populations differ, the record says `MIXED`.
PER_POPULATION = ("order", "compare", "reset", "bias_site", "max_spikes", "decay_last", "precision")
MIXED = "mixed"


@dataclass(frozen=True)
class Record:
    """How time is cut into steps and what happens in one; nothing of it is guessed later on.

    Parameters
    ----------
    dt : float
        Length of a step, in the unit of the time constants.
    integrator : {"euler", "exact"}
        Decays of ``1 - dt / tau`` or of ``exp(-dt / tau)``.
    drive : {"step", "impulse", "delta"}
        Input held over a step (exact: its gain is ``1 - exp(-dt / tau)``), an impulse of ``dt / tau``, or one
        that moves the state by the weight itself.
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
    drive: Literal["step", "impulse", "delta"] = "step"
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

    def of(self, ops: Iterable[Op]) -> dict[str, Any]:
        """All entries, those of `PER_POPULATION` as the populations among `ops` have them.

        An entry in which populations differ is `MIXED`: their ops say theirs.
        """
        entries = self.attrs()
        spiking = [op for op in ops if getattr(op, "reset", "none") != "none"]
        for name in PER_POPULATION if spiking else ():
            found = {getattr(op, name, getattr(_PLAIN, name)) for op in spiking}
            entries[name] = found.pop() if len(found) == 1 else MIXED
        return entries

    @staticmethod
    def read(entries: Mapping[str, Any]) -> Record:
        """Read the module attribute ``record``; a `MIXED` entry gets its default.

        Raises
        ------
        ValueError
            When an entry is unknown, missing (dt) or holds what it may not.
        """
        wrong = problems(entries)
        if wrong:
            raise ValueError("; ".join(wrong))
        own = {name: item for name, item in entries.items() if item != MIXED}
        return Record(**{**own, "dt": float(own["dt"])})


_PLAIN = Record(1.0)


def problems(entries: object) -> list[str]:
    """Tell everything that is wrong with a module attribute ``record``."""
    if not isinstance(entries, Mapping):
        return [f"a record is a list of entries, not {str(entries)[:40]!r}"]
    known = {entry.name for entry in fields(Record)}
    found = [f"record has no entry {str(name)[:40]!r}" for name in entries if name not in known]
    if "dt" not in entries:
        found.append("record lacks dt")
    return [*found, *(text for name in entries if name in known and (text := _wrong(name, entries[name])))]


@cache
def _kinds() -> dict[str, Any]:
    """Types of the entries by name; resolving them takes longer than everything else here."""
    return get_type_hints(Record)


def _wrong(name: str, item: object) -> str:
    """What is wrong with one entry; empty where nothing is."""
    if name in PER_POPULATION and item == MIXED:
        return ""
    kind = _kinds()[name]
    if name == "dt":
        number = isinstance(item, int | float) and not isinstance(item, bool)
        return (
            "" if number and 0 < float(str(item)) < math.inf else f"dt = {item!s:.40} is no positive number"
        )
    if kind is bool:
        return "" if isinstance(item, bool) else f"{name} = {item!s:.40} is neither true nor false"
    if kind is int:
        least = 1 if name == "max_spikes" else 0
        whole = isinstance(item, int) and not isinstance(item, bool) and least <= item <= 1 << 20
        return "" if whole else f"{name} = {item!s:.40} is no whole number from {least} on"
    choices = get_args(kind)
    return "" if item in choices else f"{name} = {item!s:.40} is none of {', '.join(choices)}"
