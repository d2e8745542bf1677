"""Projections as lists of synapses, and which of them a box of the target has."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, Span
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Sparse

Array = NDArray[Any]
Box = tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class Synapses:
    """Synapses one by one, int64 arrays of one length: flat indices of source and target, weight; none is 0."""

    source: Array
    target: Array
    weight: Array


def synapses(via: Op) -> Synapses:
    """All synapses of a projection."""
    assert isinstance(via, snn.ProjectionOp)
    if isinstance(via, snn.Conv):
        found = _convolution(via)
    elif isinstance(via, snn.Dense):
        weight = via.weight.array()
        target, source = np.nonzero(weight)
        found = Synapses(source, target, weight[target, source])
    elif isinstance(via, Sparse):
        target = via.target.array()
        found = Synapses(via.source.array(), target, np.broadcast_to(via.weight.array(), target.shape))
    else:
        weight = np.broadcast_to(via.weight.array(), via.result.shape).reshape(-1)
        found = Synapses(np.arange(weight.size), np.arange(weight.size), weight)
    kept = found.weight != 0
    return Synapses(*(part[kept].astype(np.int64) for part in (found.source, found.target, found.weight)))


def _convolution(via: snn.Conv) -> Synapses:
    """Synapses of a kernel at every place, one offset of it after the other."""
    weight = via.weight.array()
    channels, (outs, *out_space) = via.spikes.shape[0], via.result.shape
    space, inside = via.spikes.shape[1:], weight.shape[1]
    per_group = outs // via.groups
    out, inner = np.divmod(np.arange(outs * inside), inside)
    taken = out // per_group * (channels // via.groups) + inner
    parts: list[tuple[Array, Array, Array]] = []
    for tap in product(*map(range, weight.shape[2:])):
        axes = [
            _axis(length, extent, stride, pad, at * step)
            for length, extent, stride, pad, at, step in zip(
                out_space, space, via.stride, via.pad, tap, via.dilation, strict=False
            )
        ]  # fmt: skip
        to = _flat([axis[0] for axis in axes], out_space)
        come = _flat([axis[1] for axis in axes], space)
        source = taken[:, None] * prod(space) + come[None, :]
        target = out[:, None] * prod(out_space) + to[None, :]
        values = np.broadcast_to(
            weight.reshape(outs * inside, -1)[:, _place(tap, weight.shape[2:])][:, None], source.shape
        )
        parts.append((source.reshape(-1), target.reshape(-1), values.reshape(-1)))
    return Synapses(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _place(tap: tuple[int, ...], extents: tuple[int, ...]) -> int:
    """Row-major index of an offset of the kernel."""
    return int(np.ravel_multi_index(tap, extents))


def _axis(length: int, extent: int, stride: int, pad: int, offset: int) -> tuple[Array, Array]:
    """Target and source places along one axis that one offset of the kernel connects."""
    to = np.arange(length)
    come = to * stride - pad + offset
    kept = (come >= 0) & (come < extent)
    return to[kept], come[kept]


def _flat(axes: list[Array], space: Any) -> Array:
    """Row-major indices of all combinations."""
    total = np.zeros(1, np.int64)
    for axis, extent in zip(axes, space, strict=True):
        total = (total[:, None] * extent + axis[None, :]).reshape(-1)
    return total


def inside(shape: tuple[int, ...], box: Box) -> NDArray[np.bool_]:
    """Which flat indices a box holds."""
    mask = np.zeros(shape, bool)
    mask[tuple(span.slice() for span in box)] = True
    return mask.reshape(-1)


def onto(lists: Synapses, shape: tuple[int, ...], box: Box) -> Synapses:
    """The synapses onto a box."""
    kept = inside(shape, box)[lists.target]
    return Synapses(lists.source[kept], lists.target[kept], lists.weight[kept])
