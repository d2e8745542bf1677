"""Poolings."""

from __future__ import annotations

from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from nmc.frontends.onnx.arithmetic import affine
from nmc.frontends.onnx.call import Call, spatial
from nmc.frontends.onnx.fold import axes_of
from nmc.frontends.onnx.geometry import check_reach, read_window
from nmc.frontends.onnx.node import Ints, Unsupported
from nmc.frontends.onnx.table import Handler
from nmc.ir.op import Value
from nmc.ir.ops import ann


def average_pool(call: Call) -> Value:
    """Convert AveragePool.

    Padding that counts becomes real zeros where ``ceil_mode`` adds room that does not count.
    """
    data = call.value()
    window = read_window(call.node, spatial(data), call.node.integers("kernel_shape"))
    check_reach(window)
    counts, pad = bool(call.node.integer("count_include_pad", 0)), window.whole_pad
    if counts and any(window.extra):
        half = len(window.kernel)
        border = (0, *window.pad[:half], 0, *window.pad[half:])
        if any(border):
            data = call.emit(ann.Pad, "pad", data=data, pad=border)
        counts, pad = False, (*(0,) * half, *window.extra)
    return call.emit(
        ann.AvgPool,
        data=data,
        kernel=window.kernel,
        stride=window.stride,
        pad=pad,
        dilation=window.dilation,
        count_pad=counts and any(pad),
    )


def max_pool(call: Call) -> Value:
    """Convert MaxPool without indices."""
    data = call.value()
    if call.node.integer("storage_order", 0):
        raise Unsupported("storage_order is for its Indices output", "export with storage_order=0")
    window = read_window(call.node, spatial(data), call.node.integers("kernel_shape"))
    check_reach(window)
    return call.emit(
        ann.MaxPool,
        data=data,
        kernel=window.kernel,
        stride=window.stride,
        pad=window.whole_pad,
        dilation=window.dilation,
    )


def global_average_pool(call: Call) -> Value:
    """Convert GlobalAveragePool: a window as large as the operand."""
    data = call.value()
    return call.emit(ann.AvgPool, data=data, **_full(spatial(data)))


def global_max_pool(call: Call) -> Value:
    """Convert GlobalMaxPool: a window as large as the operand."""
    data = call.value()
    return call.emit(ann.MaxPool, data=data, **_full(spatial(data)))


def _full(kernel: Ints) -> dict[str, Any]:
    ones = (1,) * len(kernel)
    return {"kernel": kernel, "stride": ones, "pad": (0,) * (2 * len(kernel)), "dilation": ones}


def reduce(call: Call) -> Value:
    """Convert ReduceMean, ReduceSum and ReduceMax behind the batch axis: a pooling over all of the axes."""
    data, node = call.value(), call.node
    rank = len(data.shape) + 1
    axes = axes_of(node, (None, call.optional(1, "axes")), 1, rank)
    if not axes:
        if node.integer("noop_with_empty_axes", 0):
            return data
        axes = tuple(range(rank))
    if axes[0] < 1:
        raise Unsupported(f"it reduces the axes {axes}", "the batch axis (axis 0) cannot be reduced")
    keeps = bool(node.integer("keepdims", 1))
    inner = tuple(axis - 1 for axis in axes)
    shape = tuple(
        1 if axis in inner else extent for axis, extent in enumerate(data.shape) if keeps or axis not in inner
    )
    pooled = _pool_space(call, data, inner) if inner[0] > 0 else _pool_moved(call, data, inner)
    if node.op_type == "ReduceSum":
        count = prod(data.shape[axis] for axis in inner)
        pooled = affine(call, pooled, np.float32(count), None, suffix="" if pooled.shape == shape else "sum")
    return pooled if pooled.shape == shape else call.emit(ann.Reshape, data=pooled, shape=shape)


def _pool_space(call: Call, data: Value, axes: Ints) -> Value:
    """Pool over spatial axes; they keep the extent 1."""
    kernel = tuple(extent if axis + 1 in axes else 1 for axis, extent in enumerate(data.shape[1:]))
    keeps = call.node.integer("keepdims", 1) and call.node.op_type != "ReduceSum"
    return call.emit(_POOLS[call.node.op_type], "" if keeps else "pool", data=data, **_full(kernel))


def _pool_moved(call: Call, data: Value, axes: Ints) -> Value:
    """Pool over axes among which are the channels: bring them together behind the others, in one axis."""
    others = tuple(axis for axis in range(len(data.shape)) if axis not in axes)
    kept = tuple(data.shape[axis] for axis in others)
    extent = prod(data.shape[axis] for axis in axes)
    data = call.emit(ann.Transpose, "order", data=data, perm=(*others, *axes))
    data = call.emit(ann.Reshape, "rows", data=data, shape=(prod(kept), extent))
    pooled = call.emit(_POOLS[call.node.op_type], "pool", data=data, **_full((extent,)))
    return call.emit(ann.Reshape, "pooled", data=pooled, shape=kept or (1,))


_POOLS = MappingProxyType({"ReduceMax": ann.MaxPool, "ReduceMean": ann.AvgPool, "ReduceSum": ann.AvgPool})
_REDUCE = "axes keepdims noop_with_empty_axes"
_WINDOW = "auto_pad ceil_mode dilations kernel_shape pads strides"

HANDLERS = (
    Handler(
        "AveragePool",
        average_pool,
        (1, 1),
        f"{_WINDOW} count_include_pad",
        "All kinds of padding, ceil_mode.",
    ),
    Handler(
        "MaxPool",
        max_pool,
        (1, 1),
        f"{_WINDOW} storage_order",
        "All kinds of padding, ceil_mode; no Indices.",
    ),
    Handler("GlobalAveragePool", global_average_pool, (1, 1), "", "Any spatial axes."),
    Handler("GlobalMaxPool", global_max_pool, (1, 1), "", "Any spatial axes."),
    Handler("ReduceMax", reduce, (1, 2), _REDUCE, "Any axes behind the batch axis."),
    Handler("ReduceMean", reduce, (1, 2), _REDUCE, "Any axes behind the batch axis."),
    Handler("ReduceSum", reduce, (1, 2), _REDUCE, "Any axes behind the batch axis."),
)
