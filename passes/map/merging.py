"""Boxes of several populations on one core: fewer cores than first fit finds, and how few there could be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.target import Box, Demand, Target

Effort = Literal["fast", "normal", "best"]

#: Boxes beyond which only bounds are counted: the search looks at all pairs.
MOST = 600
#: Boxes up to which spikes between cores are made fewer.
_TRAFFIC = {"fast": 24, "normal": 60, "best": MOST}
_WHOLE = 16  # boxes for which any budget takes a second at most


@dataclass(frozen=True)
class Boxed:
    """A box, what it takes at least whatever slot it begins at, and the registers that its core must have."""

    population: Op
    box: Box
    demand: Demand = field(repr=False)
    shared: tuple[tuple[str, int], ...]


def least_cores(boxes: Sequence[Boxed], target: Target) -> dict[str, int]:
    """Cores that each resource alone asks for, with these boxes; boxes with unequal registers stay apart."""
    return {
        resource: sum(
            -(-sum(boxed.demand.get(resource, 0) for boxed in group) // max(target.limits[resource], 1)) or 1
            for group in _groups(boxes)
        )
        for resource in _added(boxes, target)
    } or {"boxes": len(_groups(boxes))}


def _groups(boxes: Sequence[Boxed]) -> list[list[Boxed]]:
    groups: dict[tuple[tuple[str, int], ...], list[Boxed]] = {}
    for boxed in boxes:
        groups.setdefault(boxed.shared, []).append(boxed)
    return list(groups.values())


def _added(boxes: Sequence[Boxed], target: Target) -> list[str]:
    """Limited resources whose demands add up."""
    names = dict.fromkeys(name for boxed in boxes for name in boxed.demand)
    return [name for name in names if name in target.limits and name not in target.combined_by_max]


def packed(boxes: Sequence[Boxed], below: int, target: Target) -> tuple[tuple[int, ...] | None, int]:
    """A core for each box with fewer than `below` cores, or None; and a proven bound on the cores of these boxes."""
    from nmc.passes.map.binpack import Items, pack

    names = _added(boxes, target)
    if len(boxes) > MOST:
        return None, 1
    found = pack(Items(
        sizes=[[boxed.demand.get(name, 0) for name in names] for boxed in boxes],
        capacity=[target.limits[name] for name in names],
        shared=[boxed.shared for boxed in boxes],
    ), "fast")  # fmt: skip
    return (found.assignment if found.bins < below else None), found.bins_bound


def rechosen(
    boxes: Sequence[Boxed],
    cores: Sequence[int],
    offers: Mapping[str, Sequence[tuple[Sequence[Box], Sequence[Demand]]]],
    limits: Mapping[str, int],
    effort: Effort,
) -> tuple[int, dict[str, list[Box]], list[int]]:
    """Choose tilings and cores together, those with unequal registers apart.

    Parameters
    ----------
    boxes : sequence of Boxed
        In program order.
    cores : sequence of int
        The core of each.
    offers : mapping
        Tilings of each population with the demands of their boxes, the one that `boxes` have first.
    limits : mapping
        What a core has of each resource that counts here.
    effort : {"fast", "normal", "best"}
        See `nmc.passes.map.joint.fewer`.

    Returns
    -------
    int, dict, list of int
        Cores that any of these tilings take at least; the tilings chosen; a core for each of their boxes.
    """
    from nmc.passes.map import joint

    at: dict[str, list[int]] = {}
    for boxed, core in zip(boxes, cores, strict=True):
        at.setdefault(boxed.population.out, []).append(core)
    bound, used, chosen = 0, 0, dict[str, tuple[list[Box], list[int]]]()
    capacity = joint.vector(limits, limits)
    for group in _groups(boxes):
        names = list(dict.fromkeys(boxed.population.out for boxed in group))
        choices = [
            [joint.Tiling.of(demands, limits, "in_axons") for _, demands in offers[name]] for name in names
        ]
        start = joint.numbered([0] * len(names), [at[name] for name in names])
        found, least = joint.fewer(choices, capacity, start, effort)
        for name, number, own in zip(names, found.tilings, found.cores, strict=True):
            chosen[name] = list(offers[name][number][0]), [used + core for core in own]
        bound, used = bound + least, used + found.used
    order = list(dict.fromkeys(boxed.population.out for boxed in boxes))
    return (
        bound,
        {name: tiling for name, (tiling, _) in chosen.items()},
        [core for name in order for core in chosen[name][1]],
    )


def spikes_between(module: Module, target: Target, boxes: Sequence[Boxed]) -> dict[tuple[int, int], int]:
    """Spikes that boxes send to others, by their numbers, if every neuron spikes once."""
    found: dict[tuple[int, int], int] = {}
    own: dict[str, list[int]] = {}
    for number, boxed in enumerate(boxes):
        own.setdefault(boxed.population.out, []).append(number)
    for number, boxed in enumerate(boxes):
        for via in target.demands.projections(module, boxed.population):
            source = target.demands.source_of(module, via)
            if via is boxed.population or source.out not in own:
                continue  # a reset stays in its box, and what the host sends comes from outside
            mask = target.demands.sources(module, via, boxed.box).reshape(source.result.shape)
            for other in own[source.out]:
                count = int(mask[tuple(span.slice() for span in boxes[other].box)].sum())
                if count and other != number:
                    found[other, number] = found.get((other, number), 0) + count
    return found


def cut_traffic(cores: Sequence[int], between: Mapping[tuple[int, int], int]) -> int:
    """Spikes that leave a core."""
    return sum(count for (a, b), count in between.items() if cores[a] != cores[b])


def less_traffic(
    boxes: Sequence[Boxed],
    cores: Sequence[int],
    between: Mapping[tuple[int, int], int],
    target: Target,
    effort: Effort,
) -> tuple[tuple[int, ...] | None, dict[int, int]]:
    """Put boxes on no more cores with fewer spikes between them.

    Returns
    -------
    tuple of int or None, dict of int to int
        A core for each box where that saves cores or spikes; by number of cores, how many spikes leave a core at least.
    """
    from nmc.passes.map.binpack import Items, pack

    now, names = (len(set(cores)), cut_traffic(cores, between)), _added(boxes, target)
    if not between or len(boxes) > _TRAFFIC[effort]:
        return None, {}
    found = pack(Items(
        sizes=[[boxed.demand.get(name, 0) for name in names] for boxed in boxes],
        capacity=[target.limits[name] for name in names],
        shared=[boxed.shared for boxed in boxes], traffic=between,
    ), effort if effort == "best" or len(boxes) <= _WHOLE else "fast")  # fmt: skip
    better = (found.bins, found.traffic) < now
    return (found.assignment if better else None), {found.bins: found.traffic_bound}


@dataclass(frozen=True)
class Proved:
    """What is known beside what the boxes tell.

    Attributes
    ----------
    anyhow : mapping of str to int
        Cores that each resource asks for, however populations are cut.
    refuted : int
        Cores below which these boxes are proved not to fit.
    tilings : int
        The same of all tilings that were looked at; 0 where none were.
    traffic, traffic_bound : int or None
        Spikes that leave a core and how many do at least on so many cores, if every neuron spikes once.
    """

    anyhow: Mapping[str, int]
    refuted: int = 1
    tilings: int = 0
    traffic: int | None = None
    traffic_bound: int | None = None


def described(
    boxes: Sequence[Boxed], cores: int, target: Target, merge: bool, proved: Proved
) -> dict[str, Any]:
    """What is proved about a number of cores, for the report.

    ``bound`` holds however the boxes are put together, ``bound_any`` however the populations are cut, and
    ``bound_tilings`` for all tilings that were looked at. ``limit`` is the resource that asks for most cores.
    """
    bounds, anyhow = least_cores(boxes, target), max(proved.anyhow.values())
    limit = max(bounds, key=lambda name: bounds[name])
    bound = max(bounds[limit], proved.refuted, anyhow) if merge else len(boxes)
    tilings = max(anyhow, proved.tilings)
    status = (
        "optimal" if cores == anyhow
        else "optimal for these tilings" if merge and cores == tilings
        else "optimal for these boxes" if cores == bound
        else "feasible"
    )  # fmt: skip
    sent = {"traffic": proved.traffic, "traffic_bound": proved.traffic_bound}
    return {
        "boxes": len(boxes), "cores": cores, "bound": bound, "bound_tilings": tilings, "bound_any": anyhow,
        "status": status, "limit": limit if bounds[limit] == bound else "boxes", "least": bounds,
        "least_any": dict(proved.anyhow), **({} if proved.traffic is None else sent),
    }  # fmt: skip
