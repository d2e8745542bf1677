"""Cut a population into boxes that each fit a core."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Span
from nmc.ir.target import Box, Demand

Ints = tuple[int, ...]
DemandOf = Callable[[Box, Sequence[Box]], Demand]


@dataclass(frozen=True)
class Excess:
    """A limit that a demand exceeds."""

    resource: str
    amount: int
    limit: int

    @property
    def ratio(self) -> float:
        """How many times over."""
        return self.amount / self.limit


def excesses(demand: Demand, limits: Mapping[str, int]) -> list[Excess]:
    """All limits that a demand exceeds, the worst first."""
    over = [
        Excess(name, amount, limits[name])
        for name, amount in demand.items()
        if amount > limits.get(name, amount)
    ]
    return sorted(over, key=lambda item: -item.ratio)


def cut(extent: int, pieces: int) -> list[Span]:
    """Cut 0:extent into `pieces` ranges whose sizes differ by at most one, the larger first."""
    size, more = divmod(extent, pieces)
    bounds = [0]
    for index in range(pieces):
        bounds.append(bounds[-1] + size + (index < more))
    return [Span(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]


def boxes(shape: Ints, splits: Ints) -> list[Box]:
    """All boxes of a regular tiling, row-major."""
    return [tuple(box) for box in product(*(cut(e, s) for e, s in zip(shape, splits, strict=True)))]


def tilings(shape: Ints, count: int) -> Iterator[Ints]:
    """All ways to cut a shape into exactly `count` boxes, as pieces an axis; cuts of later axes last."""

    def extend(axes: Ints, left: int) -> Iterator[Ints]:
        if len(axes) == 1:
            if left <= axes[0]:
                yield (left,)
            return
        for pieces in range(1, min(axes[0], left) + 1):
            if left % pieces == 0:
                for rest in extend(axes[1:], left // pieces):
                    yield (pieces, *rest)

    yield from extend(shape, count)


def smallest_box(shape: Ints) -> Box:
    """The single neuron in the middle, which has the largest fan-in."""
    return tuple(Span(extent // 2, extent // 2 + 1) for extent in shape)


def middle_box(found: list[Box], splits: Ints) -> Box:
    """A box from the middle of a tiling: the one most likely not to fit."""
    index = 0
    for pieces in splits:
        index = index * pieces + min(1, pieces - 1) * (pieces // 2)
    return found[index]


def best_tiling(
    shape: Ints,
    demand: DemandOf,
    limits: Mapping[str, int],
    most: int,
    first: int = 1,
    per_axon: float = 0.0,
) -> list[Box] | None:
    """Find the tiling whose boxes all fit and which costs least: boxes, and `per_axon` for each in-axon.

    Parameters
    ----------
    shape : tuple of int
        Shape of the population.
    demand : callable
        Demand of a box in a tiling (which a population that projects onto itself depends on).
    limits : mapping
        Capacity of a core by resource.
    most : int
        Largest number of boxes that is worth trying.
    first : int
        Number of boxes to begin with.
    per_axon : float
        What an in-axon costs the cores that send to it, in boxes. Among tilings of equal cost the one with the
        fewest in-axons is taken.

    Returns
    -------
    list of Box or None
        None when no regular tiling of at most `most` boxes fits.
    """
    best: tuple[float, int, list[Box]] | None = None
    for count in range(first, min(most, prod(shape)) + 1):
        if best is not None and count >= best[0]:
            break
        for splits in tilings(shape, count):
            found = boxes(shape, splits)
            axons = _in_axons(found, middle_box(found, splits), demand, limits)
            cost = count + per_axon * (axons or 0)
            if axons is not None and (best is None or (cost, axons) < best[:2]):
                best = (cost, axons, found)
    return None if best is None else best[2]


def _in_axons(found: list[Box], middle: Box, demand: DemandOf, limits: Mapping[str, int]) -> int | None:
    """In-axons of all boxes of a tiling, None when one of them does not fit; the middle one is tried first."""
    cost = 0
    for box in [middle, *(box for box in found if box != middle)]:
        needed = demand(box, found)
        if excesses(needed, limits):
            return None
        cost += needed.get("in_axons", 0)
    return cost
