"""Which shape: block RAMs, LUTs and clocks of candidates, and the cheapest that fits a device and reaches a rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nmc.ir.diagnostics import Diagnostic, DoesNotFit, NmcError
from nmc.ir.module import Module
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import Target
from nmc.targets.fpga import dialect
from nmc.targets.fpga.bram import luts, total_ebr
from nmc.targets.fpga.demands import FpgaDemands
from nmc.targets.fpga.layout import CoreLayout, layout_of
from nmc.targets.fpga.shape import Shape

#: Lanes and numbers of cores that are tried.
LANES = (1, 2, 4, 8, 16)
CORES = (1, 2, 4, 8, 16)


def multipliers_of(shape: Shape) -> int:
    """Multipliers: one a lane for payloads, one where membranes leak, one more for currents; two beyond 18 bits."""
    leaks = (2 if shape.cuba else 1) * (2 if shape.vb > 18 else 1) if shape.leak == "multiply" else 0
    return shape.cores * shape.lanes * (leaks + (1 if shape.payload_bits > 2 else 0))


def sample_time(shape: Shape, events: float, walks: float, ticks: float, cycles: float = 0.0) -> float:
    """Seconds of a sample at the clock of ``target.toml``.

    Parameters
    ----------
    events, walks, ticks : float
        A sample: events that cores take, rows that they walk (shared evenly by the cores), ticks.
    cycles : float
        Clocks of a sample where they were counted (engine ``rtl``).
    """
    from nmc.targets.fpga.target import chip_data

    timing = chip_data()["timing"]
    model = events + walks / shape.cores + ticks * (shape.groups + timing["tick"]["value"])
    return float((cycles or model) / timing["hertz"]["value"])


@dataclass(frozen=True)
class Candidate:
    """A shape with the network on it.

    Parameters
    ----------
    mapped : Module
    shape : Shape
    block_rams, luts, multipliers : int
    rate : float
        Samples a second, if every neuron and every input spiked once a sample.
    """

    mapped: Module
    shape: Shape
    block_rams: int
    luts: int
    multipliers: int
    rate: float

    def lacks(self, device: dict[str, Any], rate: float) -> list[str]:
        """What a device or a rate asks for and the candidate has not."""
        wrong = []
        for name in ("block_rams", "luts", "multipliers"):
            have = getattr(self, name)
            if device and have > device[name]:
                wrong.append(f"{have:,} of {device[name]:,} {name.replace('_', ' ')}")
        if self.rate < rate:
            wrong.append(f"{self.rate:,.0f} of {rate:,.0f} samples a second")
        return wrong

    def __str__(self) -> str:
        return f"{self.shape.cores} cores x {self.shape.lanes} lanes"


def choose(module: Module, target: Target, name: str) -> Candidate:
    """Give the candidate with the fewest LUTs that fits the target's device and reaches its rate.

    Raises
    ------
    NmcError
        E0949 (`DoesNotFit`) where none does, with what the nearest ones lack.
    """
    device = dict(target.data["devices"].get(target.data["device"], {}))
    rate = float(target.data["target_rate"])
    found = list(_candidates(module, target, name, device))
    good = [item for item in found if not item.lacks(device, rate)]
    if good:
        return min(good, key=lambda item: (item.luts, item.block_rams, -item.rate))
    nearest = sorted(found, key=lambda item: (len(item.lacks(device, 0.0)), -item.rate, item.luts))[:3]
    told = (
        "; ".join(f"{item}: {', '.join(item.lacks(device, rate))}" for item in nearest) or "no core holds it"
    )
    what = " and ".join(
        text for text in (target.data["device"], f"{rate:,.0f} samples a second" if rate else "") if text
    )
    hint = "fewer weight bits, a larger device, a lower rate, or fewer steps"
    raise DoesNotFit(Diagnostic("E0949", f"no shape does for {what}: {told}", hint=hint))


def _candidates(module: Module, target: Target, name: str, device: dict[str, Any]) -> list[Candidate]:
    """All candidates, skipping those whose lanes alone take more LUTs than the device has."""
    given, found = target.data["shape"], list[Candidate]()
    neurons = sum(op.result.type.size for op in module.of_type(dialect.Neuron))
    problems: list[NmcError] = []
    for lanes in (given["lanes"],) if "lanes" in given else LANES:
        for cores in (given["cores"],) if "cores" in given else CORES:
            small = Shape(cores=cores, lanes=lanes, neurons=lanes, axons=1)
            if (device and luts(small) > device["luts"]) or cores > neurons:
                continue
            try:
                made = _candidate(module, target, name, (lanes, cores))
            except DoesNotFit as error:
                problems.append(error)
                continue
            if made.shape not in [item.shape for item in found]:
                found.append(made)
    if not found and problems:
        raise problems[0]
    return found


def _candidate(module: Module, target: Target, name: str, size: tuple[int, int]) -> Candidate:
    """Partition for some lanes, with neurons shared out among about as many cores."""
    from nmc.targets.fpga.fit import partitioned, shape_of

    lanes, cores = size
    demands = FpgaDemands(lanes)
    groups = sum(
        -(-op.result.shape[0] // lanes) * int(np.prod(op.result.shape[1:]))
        for op in module.of_type(dialect.Neuron)
    )
    limits = dict(target.limits)
    limits["groups"] = min(limits["groups"], max(1, -(-groups // cores)))
    trial = replace(target, limits=limits, demands=demands)
    mapped = partitioned(module, trial, name)
    shape = shape_of(mapped)
    rams = total_ebr(shape)
    return Candidate(mapped, shape, rams, luts(shape), multipliers_of(shape), _rate(mapped, shape, demands))


def _rate(mapped: Module, shape: Shape, demands: FpgaDemands) -> float:
    """Samples a second if everything that can spike did so once a sample."""
    layout = layout_of(mapped, demands)
    busiest = max(_walk(core) + core.count for core in layout.cores)
    sent = sum(part.result.type.size for part in mapped.of_type(Neurons) if part.core != HOST)
    steps = int(mapped.attr("steps") or 1)
    seconds = sample_time(shape, busiest + sent, 0.0, steps, 0.0)
    return 1.0 / seconds if seconds else float("inf")


def _walk(core: CoreLayout) -> int:
    """Rows that one event of every axon of a core walks."""
    if not core.count:
        return 0
    table = np.array([*core.geometries, (0,) * 6], np.int64)  # the last for axons that name their groups
    geo = table[core.column("geo")]
    rows = np.where(core.column("sparse") == 1, core.column("first") + 1, (geo[:, 0] + 1) * (geo[:, 1] + 1))
    return int((rows * core.column("ny")).sum())
