"""Boxes of several populations on one core: fewer cores than first fit finds, and how few there could be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from nmc.ir.op import Op
from nmc.ir.target import Box, Demand, Target

#: Boxes beyond which only bounds are counted: the search looks at all pairs.
_MOST = 600


@dataclass(frozen=True)
class Boxed:
    """A box, its demand from slot 0 on, and the registers that its core must have."""

    population: Op
    box: Box
    demand: Demand = field(repr=False)
    shared: tuple[tuple[str, int], ...]


def least_cores(boxes: Sequence[Boxed], target: Target) -> dict[str, int]:
    """Cores that each resource alone asks for, with these boxes; boxes with unequal registers stay apart.

    Nothing takes fewer synapse words than at slot 0, where indices are shortest, so that the bound holds for all slots.
    """
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
    if len(boxes) > _MOST:
        return None, 1
    found = pack(Items(
        sizes=[[boxed.demand.get(name, 0) for name in names] for boxed in boxes],
        capacity=[target.limits[name] for name in names],
        shared=[boxed.shared for boxed in boxes],
    ), "fast")  # fmt: skip
    return (found.assignment if found.bins < below else None), found.bins_bound


def _neurons_alone(group: Sequence[Boxed], target: Target) -> int:
    """Cores for as many compartments as there are neurons, which no cut can spare."""
    room = target.limits.get("compartments", 1 << 62)
    return max(1, -(-sum(prod(map(len, boxed.box)) for boxed in group) // room))


def described(
    boxes: Sequence[Boxed], cores: int, bounds: dict[str, int], target: Target, merge: bool, refuted: int
) -> dict[str, Any]:
    """What is proved about a number of cores, for the report.

    ``bound`` holds however the boxes are put together, ``bound_any`` however the populations are cut: a
    neuron needs a compartment. ``limit`` is the resource that asks for most cores.
    """
    limit = max(bounds, key=lambda name: bounds[name])
    bound = max(bounds[limit], refuted) if merge else len(boxes)
    anyhow = sum(_neurons_alone(group, target) for group in _groups(boxes))
    status = "optimal" if cores == anyhow else "optimal for these boxes" if cores == bound else "feasible"
    return {
        "boxes": len(boxes), "cores": cores, "bound": bound, "bound_any": anyhow,
        "status": status, "limit": limit if bounds[limit] == bound else "boxes", "least": bounds,
    }  # fmt: skip
