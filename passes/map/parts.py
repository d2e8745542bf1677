"""Write how a network is cut and put together as ops: parts, the synapses between them, and their routes."""

from __future__ import annotations

from collections.abc import Sequence

from nmc.ir.dataclass import dataclass
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.ops.mapped import HOST, Neurons, Route, Synapses
from nmc.ir.target import Box, Target


@dataclass(frozen=True)
class Part:
    """A box and, once packed, its core and first slot."""

    population: str
    box: Box
    core: int = HOST
    slot: int = 0


def written(module: Module, target: Target, boxes: Sequence[Part]) -> Module:
    """Write the parts, their synapses and routes as ops behind the network's own."""
    demands = target.demands
    parts = _part_ops(module, target, boxes)
    synapses: list[Op] = []
    reached: dict[str, dict[int, None]] = {}
    for population in demands.populations(module):
        for via in demands.projections(module, population):
            source = demands.source_of(module, via)
            for goal in parts[population.out]:
                mask = demands.sources(module, via, goal.box).reshape(source.result.shape)
                for part in parts[source.out]:
                    own = via is population and part is not goal
                    if own or not mask[part.slices].any():
                        continue
                    synapses.append(
                        Synapses(source=part.result, target=goal.result, via=via.result, loc=via.loc)
                    )
                    reached.setdefault(part.out, {}).setdefault(goal.core)
    every = [part for found in parts.values() for part in found]
    routes = [
        Route(source=part.result, to=tuple(sorted(reached[part.out])), loc=part.loc)
        for part in every
        if part.out in reached
    ]
    return module.with_ops([*module.ops, *every, *synapses, *routes], level="mapped")


def _free(module: Module, name: str) -> str:
    """A name that nothing in the network has."""
    while name in module.producers:
        name += "_"
    return name


def _part_ops(module: Module, target: Target, boxes: Sequence[Part]) -> dict[str, list[Neurons]]:
    """Parts by population: those on cores, then inputs that the host injects as one part each."""
    parts: dict[str, list[Neurons]] = {}
    for part in boxes:
        op = module.producers[part.population]
        number = len(parts.setdefault(part.population, []))
        size = target.demands.incoming(module, op, part.box, part.slot)["compartments"]
        name = _free(module, f"{part.population}.p{number}")
        parts[part.population].append(Neurons(
            out=name, of=op.result, box=part.box, core=part.core, slots=Span(part.slot, part.slot + size),
            loc=fuse("partition", [op.loc]),
        ))  # fmt: skip
    for population in target.demands.populations(module):
        for via in target.demands.projections(module, population):
            source = target.demands.source_of(module, via)
            if source.out not in parts:
                box = tuple(Span(0, extent) for extent in source.result.shape)
                slots = Span(0, source.result.type.size)
                host = Neurons(
                    out=_free(module, f"{source.out}.p0"),
                    of=source.result,
                    box=box,
                    core=HOST,
                    slots=slots,
                    loc=source.loc,
                )
                parts[source.out] = [host]
    return parts
