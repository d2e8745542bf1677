"""Other ways to cut a population than into the fewest equal boxes, and what no way of cutting a network can spare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import ceil, prod

from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.target import Box, Target
from nmc.passes.map.tiling import boxes, cut, smallest_box, tilings

#: Boxes of a population beyond which it stays as it is cut, further boxes that are tried, and tilings at most.
_MOST, _MORE, _TILINGS = 24, 2, 16
#: Sizes of uneven pieces that are tried along each axis.
_STEPS = 4


def other_tilings(
    shape: tuple[int, ...], found: Sequence[Box], fits: Callable[[Sequence[Box]], bool]
) -> list[list[Box]]:
    """Tilings of a population that fit cores, the known one first.

    Parameters
    ----------
    shape : tuple of int
        Shape of the population.
    found : sequence of Box
        The tiling with the fewest boxes.
    fits : callable
        Whether all boxes of a tiling fit cores.

    Returns
    -------
    list of list of Box
        Regular ones of as many boxes and a few more, and ones of which the last piece along an axis is smaller.
    """
    kept = [list(found)]
    if len(found) > _MOST:
        return kept
    for tiling in [*_regular(shape, len(found)), *_uneven(shape, len(found))]:
        if len(kept) < _TILINGS and tiling not in kept and fits(tiling):
            kept.append(tiling)
    return kept


def _regular(shape: tuple[int, ...], count: int) -> Iterator[list[Box]]:
    for number in range(count, min(count + _MORE, prod(shape)) + 1):
        for splits in tilings(shape, number):
            yield boxes(shape, splits)


def _uneven(shape: tuple[int, ...], count: int) -> Iterator[list[Box]]:
    """Pieces of some size along one axis and a smaller rest, in at most one box more than there are."""
    for axis, extent in enumerate(shape):
        even = -(-extent // max(count, 2))
        sizes = (
            even + step * (extent - even) // (_STEPS * max(1, count - 1)) for step in range(_STEPS, 0, -1)
        )
        for size in dict.fromkeys(sizes):
            if even < size < extent:
                edges = [*range(0, extent, size), extent]
                pieces = [Span(a, b) for a, b in zip(edges, edges[1:], strict=False)]
                axes = [pieces if k == axis else cut(other, 1) for k, other in enumerate(shape)]
                yield [tuple(box) for box in product(*axes)]


def least_anyhow(
    module: Module, target: Target, shared: Mapping[str, tuple[tuple[str, int], ...]]
) -> dict[str, int]:
    """Cores that each resource asks for however populations are cut and put together.

    A neuron needs its compartments, a source neuron an in-axon on some core for every projection that carries it, and
    a core that updates few populations as many cores as there are populations. Populations with unequal registers
    share no core.

    Parameters
    ----------
    module : Module
        The network.
    target : Target
        The chip.
    shared : mapping of str to registers
        What the core of each population must have, by name of the population.
    """
    needs: dict[str, dict[object, int]] = {"compartments": {}, "in_axons": {}, "populations": {}}
    for population in target.demands.populations(module):
        key = shared[population.out]
        for name, amount in _least(module, target, population).items():
            needs[name][key] = needs[name].get(key, 0) + amount
    limits = target.limits
    return {
        name: sum(max(1, ceil(amount / limits[name])) for amount in each.values())
        for name, each in needs.items()
        if limits.get(name)
    }


def _least(module: Module, target: Target, population: Op) -> dict[str, int]:
    """What a population takes at least, in all cores together."""
    demands, whole = target.demands, tuple(Span(0, extent) for extent in population.result.shape)
    one = demands.incoming(module, population, smallest_box(population.result.shape))
    neurons = population.result.type.size * one["compartments"]
    projections = demands.projections(module, population)
    return {
        "compartments": neurons,
        "in_axons": sum(int(demands.sources(module, via, whole).sum()) for via in projections)
        * ("in_axons" in one),
        "populations": ceil(neurons / target.limits["compartments"]) * one.get("populations", 0),
    }
