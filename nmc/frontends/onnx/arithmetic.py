"""What several handlers need: constants without their batch axis, affine ops, sums with broadcasting."""

from __future__ import annotations

import numpy as np

from nmc.frontends.onnx.call import Call
from nmc.frontends.onnx.fold import Array, as_float32
from nmc.frontends.onnx.node import Ints, Unsupported
from nmc.ir.op import Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import Take

#: Elements that an index map along one axis may have.
MAX_INDEX = 1 << 22


def factor(call: Call, index: int, data: Value) -> Array:
    """Give constant operand `index` without its batch axis, float32."""
    found = call.weight(index, "constant operand")
    array, rank = as_float32(found), len(data.shape) + 1
    call.finite(array, "constant operand as float32")
    if call.node.opset < 7 and "axis" in call.node.attrs:
        array = _from_axis(array, call.node.integer("axis"), rank)
    if array.ndim > rank or (array.ndim == rank and array.shape[0] != 1):
        raise Unsupported(
            f"its constant of shape {found.shape} does not broadcast to {rank} axes, the first a batch axis",
            "give the constant one entry on the batch axis",
        )
    return array[0] if array.ndim == rank else array


def _from_axis(array: Array, axis: int, rank: int) -> Array:
    """Place the axes of a constant as the attribute ``axis`` of operator set 6 says."""
    behind = rank - axis - array.ndim
    if axis < 0 or behind < 0:
        raise Unsupported(f"a constant of shape {array.shape} from axis {axis} on, of {rank} axes")
    return array.reshape(*array.shape, *[1] * behind)


def affine(
    call: Call,
    data: Value,
    scale: Array | np.float32 | None,
    offset: Array | None,
    *,
    suffix: str = "",
    scale_name: int | str = "scale",
    offset_name: int | str = "offset",
) -> Value:
    """Emit scale * data + offset; None stands for one and zero."""
    consts = call.net.consts
    if scale is None or (isinstance(scale, np.float32) and scale == 1):
        multiplier = consts.get("one", np.asarray(1, np.float32))
    elif isinstance(scale, np.float32) and scale == -1:
        multiplier = consts.get("minus_one", np.asarray(scale))
    else:
        multiplier = call.const(scale_name, np.asarray(scale))
    zero = np.asarray(0, np.float32)
    addend = consts.get("zero", zero) if offset is None else call.const(offset_name, offset)
    return call.emit(ann.Affine, suffix, data=data, scale=multiplier, offset=addend)


def total(call: Call, values: tuple[Value, ...], suffix: str = "") -> Value:
    """Emit the sum of activations, of one shape or broadcast to one."""
    shape = common_shape(values)
    whole = tuple(expanded(call, value, shape) for value in values)
    return whole[0] if len(whole) == 1 else call.emit(ann.Add, suffix, data=whole)


def common_shape(values: tuple[Value, ...]) -> Ints:
    """Give the shape per sample that activations broadcast to.

    Raises
    ------
    Unsupported
        When there is none, or their ranks differ, so that a batch axis would meet another axis.
    """
    shapes = [value.shape for value in values]
    if len({len(shape) for shape in shapes}) > 1:
        raise Unsupported(f"operands of different rank: {shapes} a sample", "reshape them to one rank")
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise Unsupported(f"operands do not broadcast: {shapes} a sample") from None


def check_index(count: int) -> None:
    """Refuse an index map along an axis before it takes memory.

    Raises
    ------
    Unsupported
        When the axis has more elements than an index map may have.
    """
    if count > MAX_INDEX:
        raise Unsupported(
            f"an index map of {count:,} elements, {MAX_INDEX:,} are allowed", "use sensible extents"
        )


def expanded(call: Call, data: Value, shape: Ints) -> Value:
    """Repeat the axes of extent 1 until the activation has the given shape."""
    for axis, (have, want) in enumerate(zip(data.shape, shape, strict=True)):
        if have != want:
            check_index(want)
            index = call.index(np.zeros(want, np.int64), f"repeat{axis}")
            data = call.emit(Take, f"repeat{axis}", data=data, index=index, axis=axis)
    return data
