"""Whether PEs keep up: instructions of an average tick, and of the fullest one, against 1 ms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmc.ir.module import Module
from nmc.ir.ops.mapped import Route
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.build import PeProgram
from nmc.targets.spinnaker2.cycles import CLOCKS, CPI, tick_instructions
from nmc.targets.spinnaker2.emit import Layout
from nmc.targets.spinnaker2.target import chip_data, core_of, pe_number, place_of


@dataclass(frozen=True)
class Load:
    """Instructions of a PE in a tick.

    Parameters
    ----------
    core : int
    population : str
    mean : float
        Average tick, by the spikes that placement counted (or guessed).
    peak : float
        The tick in which all that the host sends at once arrives, on top of the average.
    """

    core: int
    population: str
    mean: float
    peak: float

    def margin(self, clock: int) -> float:
        """Share of a tick that is left in the fullest one; below 0 the deadline is missed."""
        tick: float = chip_data()["chip"]["tick"]["value"]
        return 1.0 - self.peak * CPI / (clock * tick)


def loads(module: Module, where: Layout, programs: Sequence[PeProgram]) -> list[Load]:
    """Load of every PE."""
    steps = max(int(module.attr("steps") or 1), 1)
    routes = {
        route.source.name: dict(zip(route.to, route.spikes, strict=False)) for route in module.of_type(Route)
    }
    sender, names = {}, {}
    for name, parts in where.parts.items():
        for part, keys in zip(parts, where.keys[name], strict=True):
            sender[keys.base] = (part.out, _at_once(module, name))
            names[part.core] = name
    found = []
    for item in programs:
        core = core_of(item.chip, item.pe)
        mean, peak = [], []
        for entry in item.entries:
            source, at_once = sender[entry.key]
            spikes = float(routes.get(source, {}).get(core, 0))
            mean.append((entry.rows, spikes / steps))
            peak.append((entry.rows, spikes if at_once else spikes / steps))
        shared = all(value.size == 1 for value in item.params.values())
        sent = sum(
            max(routes.get(part.out, {}).values(), default=0)
            for part in where.parts[names[core]]
            if part.core == core
        )
        takes = [
            tick_instructions(item.law, item.neurons, uniform=shared, sent=sent / steps, received=table)
            for table in (mean, peak)
        ]
        found.append(Load(core, names[core], *takes))
    return found


def _at_once(module: Module, name: str) -> bool:
    """Whether an input sends everything in one step."""
    op = module.producers[name]
    return isinstance(op, s2.Input) and op.encoder == "burst"


def summary(module: Module, table: Sequence[Load]) -> dict[str, Any]:
    """The fullest PE with its margins, and whether spikes were measured; for the report."""
    worst = max(table, key=lambda load: load.peak)
    placement: Mapping[str, Any] = module.attr("placement") or {}
    return {
        "core": pe_number(*place_of(worst.core)), "population": worst.population, "instructions": round(worst.peak),
        "mean_instructions": round(worst.mean),
        "margins": {f"{clock // 1_000_000} MHz": round(worst.margin(clock), 4) for clock in CLOCKS},
        "measured": placement.get("spikes") == "measured",
    }  # fmt: skip


def warnings(table: Sequence[Load], measured: bool) -> list[str]:
    """One line for the PEs that miss the tick even at the highest clock."""
    clock, tick = max(CLOCKS), float(chip_data()["chip"]["tick"]["value"])
    late = sorted((load for load in table if load.margin(clock) < 0), key=lambda load: -load.peak)
    if not late:
        return []
    worst = late[0]
    counted = "on sample data" if measured else "if every neuron spiked once"
    milliseconds = 1e3 * worst.peak * CPI / clock
    fullest = f"%{worst.population} on PE {pe_number(*place_of(worst.core))}"
    return [
        f"{len(late)} of {len(table)} PEs miss a tick of {1e3 * tick:g} ms at {clock // 1_000_000} MHz {counted}; the "
        f"fullest ({fullest}) takes {milliseconds:.2f} ms: cut it smaller (spinnaker2-partition{{neurons=...}}), or "
        f"run slower than real time"
    ]
