"""QuantizeLinear and DequantizeLinear of activations: rounding to the grid of the file's own scales."""

from __future__ import annotations

import numpy as np

from nmc.frontends.onnx.call import Call, Quantised
from nmc.frontends.onnx.fold import Array, Known
from nmc.frontends.onnx.grid import along, checked, grid_of
from nmc.frontends.onnx.node import Unsupported, normal_axis
from nmc.frontends.onnx.table import Handler
from nmc.ir.const import Const
from nmc.ir.op import Value
from nmc.ir.ops import ann, ann_pointwise


def quantize(call: Call) -> Quantised:
    """Convert QuantizeLinear: a relu with levels where the grid begins at zero, else ``ann.quantize``."""
    data, node = call.value(), call.node
    given, zeros = call.weight(1, "scale"), call.optional(2, "zero point")
    scale, zero, low, high = grid_of(node, given, zeros)
    rank = len(data.shape) + 1
    axis = normal_axis(node.integer("axis", 1), rank) if scale.size > 1 else 1
    if scale.size > 1 and (axis == 0 or scale.size != data.shape[axis - 1]):
        raise Unsupported(f"{scale.size} scales on axis {axis} of a batch of {data.shape}")
    shaped, offsets = along(scale, axis - 1, rank - 1), along(zero, axis - 1, rank - 1)
    is_input = isinstance(call.net.ops.get(data.name), ann.Input)
    if (zero == low).all() and not is_input:
        rounded = _levels(call, data, shaped, high - low)
    else:
        rounded = call.emit(
            ann_pointwise.Quantize,
            data=data,
            scale=call.const(1, shaped),
            zero_point=call.net.consts.get(f"{node.outputs[0]}.zero_point", offsets, np.int32),
            low=low,
            high=high,
        )
    return Quantised(rounded, scale, zero)


def _levels(call: Call, data: Value, scale: Array, levels: int) -> Value:
    """A relu with levels; it takes the place of a relu that only this node reads."""
    top = scale.astype(np.float64) * levels
    before = call.sole_producer(0, "Relu") or call.sole_producer(0, "Clip")
    unlimited = isinstance(before, ann.Relu) and not before.levels and before.limit >= float(top.max())
    threshold = Const(call.net.consts.fresh(f"{call.node.outputs[0]}.threshold"), top)
    if isinstance(before, ann.Relu) and unlimited:
        return call.take_over(before, threshold=threshold, levels=levels, limit=float("inf"))
    return call.emit(ann.Relu, data=data, threshold=threshold, levels=levels)


def dequantize(call: Call) -> Value | Known:
    """Convert DequantizeLinear behind the QuantizeLinear of the same grid: nothing is left to do."""
    found = call.arg(0)
    if not isinstance(found, Quantised):
        call.value()
        raise Unsupported(
            "its input holds no integers that a QuantizeLinear made", "export the model in QDQ format"
        )
    scale, zero = checked(call.node, call.weight(1, "scale"), call.optional(2, "zero point"))
    same = np.array_equal(scale, found.scale) and np.array_equal(zero, found.zero_point)
    if not same:
        raise Unsupported("its scale or zero point is not that of the QuantizeLinear before it")
    return found.value


HANDLERS = (
    Handler(
        "QuantizeLinear",
        quantize,
        (2, 3),
        "axis block_size output_dtype precision saturate",
        "int8, uint8, int16, uint16; per tensor or channel. A grid from 0 up makes a Relu with levels.",
    ),
    Handler(
        "DequantizeLinear",
        dequantize,
        (2, 3),
        "axis block_size output_dtype",
        "Behind the QuantizeLinear of the same scale; weights and biases are folded.",
    ),
)
