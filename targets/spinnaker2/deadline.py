"""Whether PEs keep up: instructions of an average tick, and of the fullest one, against 1 ms (`activity`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.ops.mapped import Neurons
from nmc.ir.target import Target
from nmc.targets.spinnaker2.cycles import CLOCKS, CPI
from nmc.targets.spinnaker2.target import chip_data, pe_number, place_of


@dataclass(frozen=True)
class Load:
    """Instructions of a PE in a tick.

    Parameters
    ----------
    core : int
    population : str
    mean : float
        Average tick, by the spikes that were counted (or guessed).
    peak : float
        Fullest tick.
    """

    core: int
    population: str
    mean: float
    peak: float

    def margin(self, clock: int) -> float:
        """Share of a tick that is left in the fullest one; below 0 the deadline is missed."""
        tick: float = chip_data()["chip"]["tick"]["value"]
        return 1.0 - self.peak * CPI / (clock * tick)


def loads(module: Module) -> list[Load]:
    """Load of every PE, as the partition noted it; nothing where another pass cut the network."""
    noted: Mapping[str, Any] = module.attr("ticks") or {"loads": {}}
    return [
        Load(part.core, part.of.name, *noted["loads"][part.out])
        for part in module.of_type(Neurons)
        if part.out in noted["loads"]
    ]


def summary(module: Module, table: Sequence[Load]) -> dict[str, Any]:
    """The fullest PE with its margins, and whether spikes were measured; for the report."""
    worst = max(table, key=lambda load: load.peak)
    return {
        "core": pe_number(*place_of(worst.core)), "population": worst.population, "instructions": round(worst.peak),
        "mean_instructions": round(worst.mean),
        "margins": {f"{clock // 1_000_000} MHz": round(worst.margin(clock), 4) for clock in CLOCKS},
        "measured": module.attr("ticks")["spikes"] == "measured",
    }  # fmt: skip


def warnings(table: Sequence[Load], measured: bool, target: Target, used: int) -> list[str]:
    """One line for the PEs that miss the tick at the clock that the target was asked for; `used` PEs are in use."""
    tick = float(chip_data()["chip"]["tick"]["value"])
    clock = round(target.limits["update_cycles"] / tick)
    late = sorted((load for load in table if load.margin(clock) < 0), key=lambda load: -load.peak)
    if not late:
        return []
    worst = late[0]
    counted = "on sample data" if measured else "if every neuron spiked once"
    milliseconds = 1e3 * worst.peak * CPI / clock
    fullest = f"%{worst.population} on PE {pe_number(*place_of(worst.core))}"
    faster = "" if clock >= max(CLOCKS) else f"a clock of {max(CLOCKS) // 1_000_000}, "
    chips = "" if used < target.cores else "allow more chips, "
    return [
        f"{len(late)} of {len(table)} PEs miss a tick of {1e3 * tick:g} ms at {clock // 1_000_000} MHz {counted}; the "
        f"fullest ({fullest}) takes {milliseconds:.2f} ms, and {target.cores - used} PEs are free: {faster}pool before "
        f"the layer or use fewer --levels (fewer spikes a tick), {chips}or run slower than real time"
    ]
