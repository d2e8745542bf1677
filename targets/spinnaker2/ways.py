"""Where the spikes of a part go: all to the same PEs, or by range of keys where shared kernels reach only some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.module import Module
from nmc.ir.ops.mapped import HOST, Neurons, Synapses, slot_order
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.keys import KeyRange
from nmc.targets.spinnaker2.router import Flow, Place
from nmc.targets.spinnaker2.target import place_of
from nmc.targets.spinnaker2.wiring import source_mask

Array = NDArray[Any]
#: Ranges of keys of a part up to which they are told apart: each takes a few router entries.
_RANGES = 512


def place_of_part(part: Neurons) -> Place:
    """Chip and PE of a part; inputs enter at chip 0."""
    return (0, -1) if part.core == HOST else place_of(part.core)


def ways(module: Module, keys: Mapping[str, KeyRange], *, ranges: bool = True) -> dict[str, list[Flow]]:
    """The flows of every part, by its name.

    A spike comes to all PEs that any neuron of its part has synapses onto; with `ranges`, through a shared kernel only
    to those that its own neuron reaches.

    Parameters
    ----------
    module : Module
    keys : mapping of str to KeyRange
        Keys of each part.
    ranges : bool
    """
    parts = {part.out: part for part in module.of_type(Neurons)}
    always: dict[str, set[Place]] = {name: set() for name in parts}
    some: dict[str, dict[Place, Array]] = {name: {} for name in parts}
    for link in module.of_type(Synapses):
        source, goal = parts[link.source.name], parts[link.target.name]
        via, place = module.producers[link.via.name], place_of_part(goal)
        if isinstance(via, s2.Conv) and ranges:
            mask = source_mask(via, goal.box).reshape(source.of.shape)[source.slices]
            before = some[source.out].get(place)
            some[source.out][place] = slot_order(mask) if before is None else before | slot_order(mask)
        else:
            always[source.out].add(place)
    return {
        name: list(_flows(keys[name], place_of_part(part)[0], frozenset(always[name]), some[name]))
        for name, part in parts.items()
    }


def _flows(
    keys: KeyRange, chip: int, always: frozenset[Place], some: Mapping[Place, Array]
) -> Iterator[Flow]:
    """Flows of a part: by runs of neurons that reach the same PEs."""
    places = sorted(some)
    table = np.stack([some[place] for place in places], axis=1) if places else np.zeros((1, 0), bool)
    starts = [0, *(np.flatnonzero((table[1:] != table[:-1]).any(axis=1)) + 1).tolist()]
    if len(starts) > _RANGES:
        starts, table = [0], np.ones((1, len(places)), bool)
    size = (~keys.mask & 0xFFFFFFFF) + 1  # keys behind the last neuron are nobody's
    for start, stop in zip(starts, [*starts[1:], size], strict=True):
        targets = always | {place for place, hit in zip(places, table[start].tolist(), strict=True) if hit}
        if targets:
            yield from (Flow(block, chip, targets) for block in blocks(keys.base + start, keys.base + stop))


def blocks(first: int, last: int) -> Iterator[KeyRange]:
    """The fewest ranges with prefix masks that hold exactly the keys from `first` to `last` - 1."""
    while first < last:
        size = min(first & -first if first else 1 << 32, 1 << (last - first).bit_length() - 1)
        yield KeyRange(first, 0xFFFFFFFF ^ (size - 1))
        first += size
