"""Which shape: block RAMs, LUTs and clocks of candidates, and the cheapest that fits a device and reaches a rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit
from nmc.ir.module import Module
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import Target
from nmc.targets.fpga import dialect
from nmc.targets.fpga.demands import FpgaDemands
from nmc.targets.fpga.devices import Device, Needs, device, needs
from nmc.targets.fpga.layout import CoreLayout, layout_of
from nmc.targets.fpga.shape import Shape, WeightType

#: Lanes and numbers of cores that are tried.
LANES = (1, 2, 4, 8, 16)
CORES = (1, 2, 4, 8, 16)
#: Candidates that a refusal tells of.
_TOLD = 3


def hertz_of(name: str) -> float:
    """The clock assumed for a device, or where none is named."""
    from nmc.targets.fpga.target import chip_data

    return device(name).hertz if name else float(chip_data()["timing"]["hertz"]["value"])


def sample_time(
    shape: Shape, events: float, walks: float, ticks: float, cycles: float = 0.0, chip: str = ""
) -> float:
    """Seconds of a sample at the clock of ``target.toml``, events and rows shared evenly by all cores.

    Parameters
    ----------
    shape : Shape
    events, walks, ticks : float
        A sample: events that cores take, rows that they walk (shared evenly by the cores), ticks.
    cycles : float
        Clocks of a sample where they were counted (engine ``rtl``).
    chip : str
        Name of the device.
    """
    return (cycles or sample_clocks(shape, events, walks, ticks)) / hertz_of(chip)


def sample_clocks(shape: Shape, events: float, walks: float, ticks: float) -> float:
    """Clocks of a sample whose ticks all have events.

    Events enter one a clock, and a core fetches one while it walks the rows of the one before.
    """
    busy = max(events, walks / shape.cores, _timing("event") * events / shape.cores)
    return busy + ticks * (shape.groups + _timing("tick") + _timing("fill"))


def _timing(name: str) -> int:
    """An entry of ``timing`` in clocks."""
    from nmc.targets.fpga.target import chip_data

    return int(chip_data()["timing"][name]["value"])


@dataclass(frozen=True)
class Candidate:
    """A shape with the network on it.

    Parameters
    ----------
    mapped : Module
    shape : Shape
    needs : Needs
    rate : float
        Samples a second, if every neuron and every input spiked once a sample.
    """

    mapped: Module
    shape: Shape
    needs: Needs
    rate: float

    def lacks(self, chip: Device | None, rate: float) -> list[str]:
        """What a device or a rate asks for and the candidate has not."""
        wrong = self.needs.beyond(chip) if chip else []
        if self.rate < rate:
            wrong.append(f"{self.rate:,.0f} of {rate:,.0f} samples a second")
        return wrong

    @property
    def cost(self) -> tuple[float, ...]:
        """What is made small: LUTs, then block RAMs; of equals the fastest one."""
        return (self.needs.luts, self.needs.block_rams, -self.rate)

    def __str__(self) -> str:
        return _shown(self.shape.cores, self.shape.lanes)


def _shown(cores: int, lanes: int) -> str:
    return f"{cores} core{'s' if cores > 1 else ''} x {lanes} lanes"


def choose(module: Module, target: Target, name: str) -> Candidate:
    """Give the candidate with the fewest LUTs that fits the target's device and reaches its rate.

    Numbers of lanes and cores are tried in the order of what they cost at least; the search ends where no further one
    can be cheaper than the best. Axons, weight rows and all bits are those that the network needs on them.

    Raises
    ------
    NmcError
        E0949 (`DoesNotFit`) where none does, with what the nearest ones lack.
    """
    chip = device(target.data["device"], target.data["devices"]) if target.data["device"] else None
    rate = float(target.data["target_rate"])
    found, best = list[Candidate](), None
    problems = list[DoesNotFit]()
    sizes = _sizes(module, target, chip)
    for least, size in sizes:
        if best is not None and least.luts > best.needs.luts:
            break
        if _lacking(least, chip):
            continue
        try:
            made = _candidate(module, target, name, size, chip)
        except DoesNotFit as error:
            problems.append(error)
            continue
        found.append(made)
        if not made.lacks(chip, rate) and (best is None or made.cost < best.cost):
            best = made
    if best is not None:
        return _noted(best, target)
    if not found and problems:
        raise problems[0]
    raise _refusal(found, chip, rate, sizes)


def _lacking(least: Needs, chip: Device | None) -> list[str]:
    """What a device has too little of for a size, before anything is on it; block RAMs depend on the network."""
    return replace(least, block_rams=0).beyond(chip) if chip else []


def _noted(best: Candidate, target: Target) -> Candidate:
    """The candidate whose module tells what was asked for."""
    asked = {"device": target.data["device"], "target_rate": float(target.data["target_rate"])}
    return replace(best, mapped=best.mapped.with_attrs(**asked))


def _refusal(
    found: list[Candidate], chip: Device | None, rate: float, sizes: list[tuple[Needs, tuple[int, int]]]
) -> DoesNotFit:
    """Why no candidate does, or where there is none no size, in figures, and what would help."""

    def distance(item: Candidate) -> tuple[float, ...]:
        return (len(item.lacks(chip, 0.0)), -item.rate if rate else 0.0, *item.cost)

    nearest = sorted(found, key=distance)[:_TOLD]
    short = [(str(item), item.lacks(chip, rate)) for item in nearest]
    larger = [(_shown(cores, lanes), _lacking(least, chip)) for least, (lanes, cores) in sizes]
    larger = [item for item in larger if item[1]]
    # for a rate, also what keeps a larger size from being tried
    short = [*short, *larger[:1]] if short and rate else short or larger[:_TOLD]
    told = "; ".join(f"{size}: {', '.join(lacks)}" for size, lacks in short) or "no core holds it"
    asked = (chip.name if chip else "", f"{rate:,.0f} samples a second" if rate else "")
    hint = "fewer weight bits, a larger device, a lower rate, or fewer steps"
    if chip and nearest and (ways := _narrower(nearest[0], chip)):
        hint = f"{ways}; or a larger device"
    text = f"no shape does for {' and '.join(filter(None, asked))}: {told}"
    return DoesNotFit(Diagnostic("E0949", text, hint=hint))


def _narrower(item: Candidate, chip: Device) -> str:
    """What fewer weight bits would take, where block or large RAMs are what lacks."""
    narrower: dict[str, WeightType] = {"int8": "int4", "int4": "int2"}
    bits = narrower.get(item.shape.weights)
    if bits is None or not any("rams" in text for text in item.needs.beyond(chip)):
        return ""
    less = needs(replace(item.shape, weights=bits), chip.family)
    which = "large_rams" if item.needs.large_rams > chip.large_rams else "block_rams"
    shown = f"{getattr(less, which):,} of {getattr(chip, which):,} {which.replace('_', ' ')}"
    return f"--bits {bits.removeprefix('int')} takes {shown}"


def _sizes(module: Module, target: Target, chip: Device | None) -> list[tuple[Needs, tuple[int, int]]]:
    """Lanes and cores to try, with what they take at least, the fewest LUTs first."""
    given, found = target.data["shape"], list[tuple[Needs, tuple[int, int]]]()
    populations = module.of_type(dialect.Neuron)
    neurons, first = sum(op.result.type.size for op in populations), populations[0]
    for lanes in (given["lanes"],) if "lanes" in given else LANES:
        groups = _groups(module, lanes)
        for cores in (given["cores"],) if "cores" in given else CORES:
            if cores > min(neurons, groups):
                continue
            at_least = -(-groups // -(-groups // cores))
            small = needs(
                Shape(
                    cores=min(64, at_least), lanes=lanes, neurons=lanes, axons=1, classes=2, geometries=2, counter=1,
                    vb=first.vb, leak=first.leak, cuba=first.cuba, stbif=any(op.signed for op in populations),
                    late=any(op.late for op in populations), windows=False, weights="ternary",
                    probes=given.get("probes", True), fifo=given.get("fifo", 16),
                    sparse=False, conv=False, queue=4, targets=2,
                ),
                chip.family if chip else "ecp5",
            )  # fmt: skip
            found.append((small, (lanes, cores)))
    return sorted(found, key=lambda item: (item[0].luts, item[1]))


def _groups(module: Module, lanes: int) -> int:
    """Groups of neurons that a network has at least."""
    return sum(
        -(-op.result.shape[0] // lanes) * int(np.prod(op.result.shape[1:]))
        for op in module.of_type(dialect.Neuron)
    )


def _candidate(
    module: Module, target: Target, name: str, size: tuple[int, int], chip: Device | None
) -> Candidate:
    """Partition for some lanes, with neurons shared out among about as many cores."""
    from nmc.targets.fpga.fit import partitioned, shape_of

    lanes, cores = size
    limits = dict(target.limits)
    limits["groups"] = min(limits["groups"], max(1, -(-_groups(module, lanes) // cores)))
    mapped = partitioned(module, replace(target, limits=limits, demands=FpgaDemands(lanes)), name)
    shape = shape_of(mapped)
    rate = hertz_of(chip.name if chip else "") / max(1.0, sample_cycles(mapped))
    return Candidate(mapped, shape, needs(shape, chip.family if chip else "ecp5"), rate)


def sample_cycles(mapped: Module) -> float:
    """Clocks of a sample if everything that can spike did so once."""
    from nmc.targets.fpga.fit import shape_of

    shape = shape_of(mapped)
    layout = layout_of(mapped, FpgaDemands(shape.lanes))
    busiest = max(_walk(core) for core in layout.cores)
    sent = sum(part.result.type.size for part in mapped.of_type(Neurons) if part.core != HOST)
    steps = int(mapped.attr("steps") or 1)
    return busiest + sent + steps * (shape.groups + _timing("tick") + _timing("fill"))


def sizing(mapped: Module) -> dict[str, Any]:
    """For the report: device, what the model says of the shape, what was asked for."""
    from nmc.targets.fpga.fit import shape_of

    name, shape = str(mapped.attr("device") or ""), shape_of(mapped)
    chip = device(name) if name else None
    model = needs(shape, chip.family if chip else "ecp5")
    return {
        "device": name or None,
        "model": {"luts": model.luts, "block_rams": model.block_rams, "large_rams": model.large_rams,
                  "multipliers": model.multipliers},
        "available": {"luts": chip.luts, "block_rams": chip.block_rams, "large_rams": chip.large_rams,
                      "multipliers": chip.multipliers} if chip else None,
        "hertz": hertz_of(name), "samples_per_second": hertz_of(name) / max(1.0, sample_cycles(mapped)),
        "target_rate": mapped.attr("target_rate") or None,
        "shape": {"cores": shape.cores, "lanes": shape.lanes, "neurons": shape.neurons, "axons": shape.axons,
                  "weights": shape.weights, "vb": shape.vb},
    }  # fmt: skip


def _walk(core: CoreLayout) -> int:
    """Clocks that one event of every axon of a core takes: one a row, and some at least."""
    if not core.count:
        return 0
    table = np.array([*core.geometries, (0,) * 6], np.int64)  # the last for axons that name their groups
    geo = table[core.column("geo")]
    rows = np.where(core.column("sparse") == 1, core.column("first") + 1, (geo[:, 0] + 1) * (geo[:, 1] + 1))
    return int(np.maximum(rows * core.column("ny"), _timing("event")).sum())
