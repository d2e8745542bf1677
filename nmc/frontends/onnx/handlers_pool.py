"""Poolings."""

from __future__ import annotations

from typing import Any

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


def reduce_mean(call: Call) -> Value:
    """Convert ReduceMean over spatial axes."""
    data = call.value()
    space, rank = spatial(data), len(data.shape) + 1
    given = None if call.arg(1) is None else call.array(1, "axes")
    axes = axes_of(call.node, (None, given), 1, rank)
    if not axes:
        if call.node.integer("noop_with_empty_axes", 0):
            return data
        axes = tuple(range(rank))
    if axes[0] < 2:
        raise Unsupported(f"it averages over axes {axes}", "only axes from 2 on (space) can be averaged")
    kernel = tuple(extent if axis + 2 in axes else 1 for axis, extent in enumerate(space))
    if call.node.integer("keepdims", 1):
        return call.emit(ann.AvgPool, data=data, **_full(kernel))
    mean = call.emit(ann.AvgPool, "mean", data=data, **_full(kernel))
    shape = tuple(extent for axis, extent in enumerate(mean.shape) if axis + 1 not in axes)
    return call.emit(ann.Reshape, data=mean, shape=shape)


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
    Handler("ReduceMean", reduce_mean, (1, 2), "axes keepdims noop_with_empty_axes", "Over spatial axes."),
)
