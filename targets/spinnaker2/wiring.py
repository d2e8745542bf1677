"""The synapses of a projection between boxes: which sources reach a box, and the rows that a PE holds of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.ops.mapped import slot_order
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.layout import Box
from nmc.targets.spinnaker2.rows import ConvRows, DenseRows, Rows, SparseRows

Array = NDArray[Any]
Shape = tuple[int, ...]
#: Population or input, which of its boxes, rows from neuron `first` of that box on, `first`, factor of the weights.
Arriving = tuple[str, int, Rows, int, int]


def whole(shape: Shape) -> Box:
    """The box that is all of a shape."""
    return tuple(Span(0, extent) for extent in shape)


def neurons_of(shape: Shape, box: Box) -> NDArray[np.int64]:
    """Flat (row-major) index of each neuron of a box, in the order of its keys."""
    strides = np.cumprod([1, *shape[:0:-1]])[::-1]
    grid: Array = np.zeros(1, np.int64)
    for axis, (span, stride) in enumerate(zip(box, strides.tolist(), strict=True)):
        line = np.arange(span.start, span.stop, dtype=np.int64) * stride
        grid = line if axis == 0 else grid[..., None] + line
    return slot_order(grid)


def vias_of(module: Module, population: Op) -> list[tuple[s2.SynapseOp, int]]:
    """The projections onto a population with their synapse types."""
    assert isinstance(population, s2.NeuronOp)
    pool = isinstance(population, s2.MaxPool)
    found = [(module.producers[value.name], k if pool else 0) for k, value in enumerate(population.current)]
    found += [(module.producers[value.name], 1) for value in population.second]
    return [(via, kind) for via, kind in found if isinstance(via, s2.SynapseOp)]


def source_mask(via: s2.SynapseOp, box: Box) -> NDArray[np.bool_]:
    """Which sources have synapses onto a box of the target: flat bool array over the source."""
    if isinstance(via, s2.Conv):
        return _conv_mask(via, box)
    if isinstance(via, s2.Dense):
        rows = neurons_of(via.result.shape, box)
        return np.asarray((via.weight.array()[rows] != 0).any(axis=0))
    mask = np.zeros(via.spikes.type.size, bool)
    mask[pairs(via, box)[0]] = True
    return mask


def _conv_mask(via: s2.Conv, box: Box) -> NDArray[np.bool_]:
    """By structure: a kernel is stored whole."""
    shape, kernel = via.spikes.shape, via.weight.shape
    outer = kernel[0] // via.groups
    groups = np.arange(box[0].start, box[0].stop) // outer
    mask = np.isin(np.arange(shape[0]) // kernel[1], groups)
    for axis, span in enumerate(box[1:]):
        reach = np.zeros(shape[axis + 1], bool)
        first = np.arange(span.start, span.stop) * via.stride[axis] - via.pad[axis]
        seen = (first[:, None] + np.arange(kernel[axis + 2]) * via.dilation[axis]).reshape(-1)
        reach[seen[(seen >= 0) & (seen < len(reach))]] = True
        mask = mask[..., None] & reach
    return np.asarray(mask.reshape(-1))


def pairs(via: s2.SynapseOp, box: Box) -> tuple[Array, Array, Array]:
    """Source (flat), target (neuron of the box) and stored weight of each synapse onto a box, zeros left out."""
    shape = via.result.shape
    neurons = neurons_of(shape, box)
    if isinstance(via, s2.Dense):
        block = via.weight.array()[neurons]
        target, source = np.nonzero(block)
        return source, target, block[target, source].astype(np.int64)
    if isinstance(via, s2.Diagonal):
        weight = np.broadcast_to(via.weight.array(), shape).reshape(-1)[neurons]
        target = np.flatnonzero(weight)
        return neurons[target], target, weight[target].astype(np.int64)
    assert isinstance(via, s2.Sparse)
    source, target, weight, starts = _by_target(via)
    if len(shape) == 1:
        cut = slice(int(starts[box[0].start]), int(starts[box[0].stop]))
        return source[cut], target[cut] - box[0].start, weight[cut]
    slot = np.full(int(np.prod(shape)), -1, np.int64)
    slot[neurons] = np.arange(neurons.size)
    inside = np.flatnonzero(slot[target] >= 0)
    return source[inside], slot[target[inside]], weight[inside]


@lru_cache(maxsize=64)
def _by_target(via: s2.Sparse) -> tuple[Array, Array, Array, Array]:
    """Sources, targets and weights sorted by target, zeros left out, and where each target's begin."""
    target = via.target.array().astype(np.int64)
    weight = np.broadcast_to(via.weight.array().astype(np.int64), target.shape)
    used = np.flatnonzero(weight)
    order = used[np.argsort(target[used], kind="stable")]
    target = target[order]
    starts = np.searchsorted(target, np.arange(via.result.type.size + 1))
    return via.source.array().astype(np.int64)[order], target, weight[order], starts


def rows_onto(
    module: Module, population: Op, box: Box, boxes_of: dict[str, Sequence[Box]]
) -> Iterator[Arriving]:
    """All rows that a PE holds for a box.

    Parameters
    ----------
    module : Module
    population : Op
    box : Box
        The neurons of the PE.
    boxes_of : mapping of str to sequence of Box
        How each source population is cut; whole where it is not named.

    Yields
    ------
    (source, part, rows, first, gain)
        Population or input, which of its boxes, rows from neuron `first` of that box on, factor of the weights.
    """
    assert isinstance(population, s2.NeuronOp)
    types = population.law.types
    groups: dict[tuple[str, str, int], list[tuple[s2.SynapseOp, int]]] = {}
    for via, kind in vias_of(module, population):
        name = via.spikes.name
        boxes = boxes_of.get(name) or [whole(via.spikes.shape)]
        if via.format.startswith("sparse"):
            groups.setdefault((name, via.format, via.gain), []).append((via, kind))
        elif isinstance(via, s2.Conv):
            yield from _conv_rows(via, kind, box, boxes)
        else:
            yield from _dense_rows(via, kind, box, boxes)
    for (name, _, gain), members in groups.items():
        shape = members[0][0].spikes.shape
        boxes = boxes_of.get(name) or [whole(shape)]
        for part, rows, first in _sparse_rows(members, box, boxes, types):
            yield name, part, rows, first, gain


def _conv_rows(via: s2.Conv, kind: int, box: Box, boxes: Sequence[Box]) -> Iterator[Arriving]:
    mask = _conv_mask(via, box).reshape(via.spikes.shape)
    for part, source in enumerate(boxes):
        if mask[tuple(span.slice() for span in source)].any():
            rows = ConvRows(via.weight.array(), via.stride, via.pad, via.dilation, via.groups, source, box,
                            via.delay, kind)  # fmt: skip
            yield via.spikes.name, part, rows, 0, via.gain


def _dense_rows(via: s2.SynapseOp, kind: int, box: Box, boxes: Sequence[Box]) -> Iterator[Arriving]:
    assert isinstance(via, s2.Dense)
    block = via.weight.array()[neurons_of(via.result.shape, box)]
    for part, source in enumerate(boxes):
        columns = block[:, neurons_of(via.spikes.shape, source)]
        used = np.flatnonzero(columns.any(axis=0))
        if used.size:
            first, last = int(used[0]), int(used[-1]) + 1
            yield via.spikes.name, part, DenseRows(columns[:, first:last].T, via.delay, kind), first, via.gain


def _sparse_rows(
    members: Sequence[tuple[s2.SynapseOp, int]], box: Box, boxes: Sequence[Box], types: int
) -> Iterator[tuple[int, SparseRows, int]]:
    """Rows of all projections of one source, format and gain, whatever their delays and types."""
    found = [pairs(via, box) for via, _ in members]
    counts = [len(item[0]) for item in found]
    source, target, weight = (np.concatenate([item[k] for item in found]) for k in range(3))
    delay = np.repeat([via.delay for via, _ in members], counts)
    kind = np.repeat([kind for _, kind in members], counts)
    first_via = members[0][0]
    shape, format = first_via.spikes.shape, first_via.format
    assert format in ("sparse16", "sparse32")
    part_of, slot_of = cut_of(shape, tuple(boxes))
    part = part_of[source]
    order = np.argsort(part, kind="stable")
    edges = np.searchsorted(part[order], np.arange(len(boxes) + 1))
    for number in range(len(boxes)):
        mine = order[edges[number] : edges[number + 1]]
        if mine.size == 0:
            continue
        slots = slot_of[source[mine]]
        first, last = int(slots.min()), int(slots.max()) + 1
        late = delay[mine]
        same = bool((late == late[0]).all())
        yield number, SparseRows(
            format, last - first, slots - first, target[mine], weight[mine], int(late[0]) if same else late,
            kind[mine] if types == 2 else 0, types,
        ), first  # fmt: skip


@lru_cache(maxsize=256)
def cut_of(shape: Shape, boxes: tuple[Box, ...]) -> tuple[Array, Array]:
    """For each (flat) neuron of a population the number of its box and its number in the box's key order."""
    size = int(np.prod(shape))
    part, slot = np.zeros(size, np.int32), np.zeros(size, np.int32)
    for number, box in enumerate(boxes):
        neurons = neurons_of(shape, box)
        part[neurons], slot[neurons] = number, np.arange(neurons.size)
    return part, slot
