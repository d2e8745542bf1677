"""Start a placement from an earlier one: cores keep the sites that their neurons had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nmc.ir.module import Module
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import Box

if TYPE_CHECKING:
    from nmc.passes.map.result import Placement

#: Boxes of each population and the sites that they had.
Homes = Mapping[str, Sequence[tuple[Box, int]]]


def homes(module: Module) -> Homes:
    """Where a placed module has its neurons."""
    found: dict[str, list[tuple[Box, int]]] = {}
    for part in module.of_type(Neurons):
        if part.core != HOST:
            found.setdefault(part.of.name, []).append((part.box, part.core))
    return found


def kept_sites(module: Module, hint: Homes, sites: int, pinned: Mapping[int, int]) -> dict[int, int]:
    """Give each logical core the site where most of its neurons were, as far as one is left.

    Parameters
    ----------
    module : Module
        Partitioned, with logical cores.
    hint : Homes
        Of the earlier mapping.
    sites : int
        Sites of the chip; what lies beyond is not kept.
    pinned : mapping
        Sites that ``place`` statements fix; these cores and sites are left to them.
    """
    votes: dict[tuple[int, int], int] = {}
    for part in module.of_type(Neurons):
        for box, site in hint.get(part.of.name, ()) if part.core != HOST else ():
            if shared := _overlap(part.box, box):
                votes[part.core, site] = votes.get((part.core, site), 0) + shared
    kept: dict[int, int] = {}
    taken = set(pinned.values())
    for core, site in sorted(votes, key=lambda pair: (-votes[pair], pair)):
        if core not in kept and core not in pinned and site not in taken and site < sites:
            kept[core] = site
            taken.add(site)
    return kept


def _overlap(one: Box, other: Box) -> int:
    """Neurons that are in both boxes."""
    total = int(len(one) == len(other))
    for a, b in zip(one, other, strict=False):
        total *= max(0, min(a.stop, b.stop) - max(a.start, b.start))
    return total


def around(free: Placement, kept: Placement) -> Placement:
    """The placement with kept sites, judged by the bounds of the free one: those of its own hold only for it."""
    gap = (kept.objective - free.bound) / kept.objective if kept.objective else 0.0
    status = "optimal" if kept.objective == free.bound else "feasible"
    return replace(
        kept, bound=free.bound, bounds=free.bounds, gap=gap, status=status, method=f"hint+{kept.method}"
    )
