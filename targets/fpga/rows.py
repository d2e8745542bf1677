"""Weight rows and axons of a projection onto a box of neurons, relative to where the box and its rows will lie.

Three formats (`nmc.targets.fpga.shape`): convolutions walk a kernel that is stored once; rows of one source that are
side by side are walked without naming their groups, and equal ones are stored once; other rows name their groups.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.targets.fpga import connect
from nmc.targets.fpga.connect import Box

Array = NDArray[Any]
#: Lengths of rows side by side that get a geometry; sources with others name their groups.
_LENGTHS = 16
#: Longest walk along one axis that the fields of geometries and axons hold.
_LONGEST = 63
#: Walks of one row each need no geometry of their own kind: (len - 1, nx - 1, dgx, dgy, dwx, dwy).
Geometry = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, eq=False)
class Place:
    """Where the neurons of a box lie on a core: neuron (row-major in the box) `slots[i]` after the first of the box."""

    slots: Array
    groups: int


def place(shape: tuple[int, ...], lanes: int, aligned: bool) -> Place:
    """Lay out a box: channels fastest; `aligned`: each place of a convolution begins a group."""
    channels, positions = shape[0] if shape else 1, prod(shape[1:])
    stride = -(-channels // lanes) * lanes if aligned else channels
    slots = (np.arange(positions)[None, :] * stride + np.arange(channels)[:, None]).reshape(-1)
    return Place(slots, -(-(positions * stride) // lanes))


def walked(via: Op) -> bool:
    """Whether events of a projection walk a stored kernel."""
    return (
        isinstance(via, snn.Conv)
        and via.groups == 1
        and len(via.weight.shape) in (3, 4)
        and all(step == 1 for step in via.dilation)
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """What a projection brings to the memories of a core.

    Parameters
    ----------
    source : int array (axons,)
        Flat index of the source neuron, each once, ascending.
    base, first, ny, sparse : int arrays (axons,)
        Fields of memory ``axons``; base relative to the first row, first to the first group (not where sparse).
    geo : int array (axons,)
        Index into `geometries`.
    geometries : tuple of Geometry
    weight : int array (rows, lanes)
    group : int array (rows,)
        Relative to the first group.
    """

    source: Array
    base: Array
    first: Array
    ny: Array
    sparse: Array
    geo: Array
    geometries: tuple[Geometry, ...]
    weight: Array
    group: Array


def rows(via: Op, box: Box, lanes: int, aligned: bool) -> Rows:
    """Make the rows of a projection onto a box."""
    if aligned and isinstance(via, snn.Conv) and walked(via):
        found = _kernel(via, box, lanes)
        if found is not None:
            return found
    where = place(tuple(len(span) for span in box), lanes, aligned)
    return _matrix(via, box, lanes, where)


# ------------------------------------------------------------------------------------------------ convolutions
def _kernel(via: snn.Conv, box: Box, lanes: int) -> Rows | None:
    """Rows that all places share; None where a walk is too long for its fields."""
    weight = via.weight.array()[box[0].slice()].astype(np.int64)
    if weight.ndim == 3:  # one axis of space: a second of extent 1
        weight = weight[:, :, None, :]
    outs, ins, high, wide = weight.shape
    groups = -(-outs // lanes)
    stored = np.zeros((ins, high, wide, groups * lanes), np.int64)
    stored[..., :outs] = weight.transpose(1, 2, 3, 0)
    down, along = _axes(via, box)
    if max(int(down.count.max(initial=0)), int(along.count.max(initial=0))) > _LONGEST:
        return None
    channel, y, x = (part.reshape(-1) for part in np.indices((ins, len(down.count), len(along.count))))
    reached = (down.count[y] > 0) & (along.count[x] > 0)
    channel, y, x = channel[reached], y[reached], x[reached]
    kernel = (channel * high + down.kernel[y]) * wide + along.kernel[x]
    counts, geo = np.unique(along.count[x], return_inverse=True)
    width = len(box[2]) if len(box) > 2 else len(box[1])
    geometries = tuple(_steps(int(nx), groups, width, wide, down.stride, along.stride) for nx in counts)
    source = (channel * len(down.count) + y) * len(along.count) + x
    first = (down.first[y] * width + along.first[x]) * groups
    return Rows(source, kernel * groups, first, down.count[y], np.zeros_like(source), geo, geometries,
                stored.reshape(-1, lanes), np.zeros(ins * high * wide * groups, np.int64))  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Axis:
    """Of each source place along an axis: the first target place in the box, how many, the kernel's place there."""

    first: Array
    count: Array
    kernel: Array
    stride: int


def _axes(via: snn.Conv, box: Box) -> tuple[_Axis, _Axis]:
    """The two axes of space."""
    space, size = via.spikes.shape[1:], via.weight.shape[2:]
    found = [
        _axis(space[i], size[i], via.stride[i], via.pad[i], box[i + 1].start, box[i + 1].stop)
        for i in range(len(space))
    ]
    one = np.ones(1, np.int64)
    return (_Axis(one * 0, one, one * 0, 1), found[0]) if len(found) == 1 else (found[0], found[1])


def _axis(extent: int, size: int, stride: int, pad: int, start: int, stop: int) -> _Axis:
    at = np.arange(extent) + pad
    first = np.maximum(-((size - 1 - at) // stride), start)
    last = np.minimum(at // stride, stop - 1)
    count = np.maximum(last - first + 1, 0)
    return _Axis(first - start, count, at - stride * first, stride)


def _steps(nx: int, groups: int, width: int, wide: int, down: int, along: int) -> Geometry:
    """Steps from place to place: targets go up by one, the kernel goes back by the stride."""
    dwy = -down * wide * groups + along * (nx - 1) * groups - (groups - 1)
    return groups - 1, nx - 1, 1, (width - nx) * groups + 1, -along * groups - (groups - 1), dwy


# ------------------------------------------------------------------------------------------------ matrices and lists
def _matrix(via: Op, box: Box, lanes: int, where: Place) -> Rows:
    """Rows of each source, equal ones side by side stored once."""
    shape = via.result.shape
    lists = connect.onto(connect.synapses(via), shape, box)
    local = np.full(prod(shape), -1, np.int64)
    local[connect.inside(shape, box)] = where.slots
    slot = local[lists.target]
    key, row = np.unique(lists.source * where.groups + slot // lanes, return_inverse=True)
    weight = (
        np.bincount(row * lanes + slot % lanes, lists.weight, len(key) * lanes)
        .reshape(-1, lanes)
        .astype(np.int64)
    )
    group = key % where.groups
    source, begin, count = np.unique(key // where.groups, return_index=True, return_counts=True)
    beside = group[begin + count - 1] - group[begin] + 1 == count
    lengths = np.unique(count[beside])
    lengths = lengths if len(lengths) <= _LENGTHS else lengths[:0]
    walk = beside & np.isin(count, lengths)
    base, kept = _shared(weight, begin, count, walk)
    geo = np.where(walk, np.searchsorted(lengths, count), 0)
    first = np.where(walk, group[begin], count - 1)
    one = np.ones(len(source), np.int64)
    geometries = tuple((int(length) - 1, 0, 0, 0, 0, 0) for length in lengths)
    return Rows(
        source, base, first, one, (~walk).astype(np.int64), geo, geometries, weight[kept], group[kept]
    )


def _shared(weight: Array, begin: Array, count: Array, walk: Array) -> tuple[Array, Array]:
    """Where the rows of each source begin once equal blocks are stored once, and which rows are kept."""
    leader = np.arange(len(begin))
    for length in np.unique(count[walk]):
        some = np.flatnonzero(walk & (count == length))
        blocks = weight[(begin[some][:, None] + np.arange(length)[None, :])].reshape(len(some), -1)
        _, head, same = np.unique(blocks, axis=0, return_index=True, return_inverse=True)
        leader[some] = some[head[same.reshape(-1)]]
    own = leader == np.arange(len(begin))
    sizes = np.where(own, count, 0)
    start = np.cumsum(sizes) - sizes
    offsets = np.arange(int(sizes.sum())) - np.repeat(start[own], count[own])
    return start[leader], np.repeat(begin[own], count[own]) + offsets
