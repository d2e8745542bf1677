"""QuantizeLinear and DequantizeLinear on constants, and the range of their integer types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.frontends.onnx.node import Node, Unsupported, normal_axis
from nmc.frontends.onnx.tensors import DTYPES

Array = NDArray[Any]

#: numpy types of the integers that quantised tensors of ONNX hold.
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32")


def grid_of(node: Node, scale: Array, zero: Array | None) -> tuple[Array, Array, int, int]:
    """Check the parameters of a QuantizeLinear.

    Returns
    -------
    (scale, zero_point, low, high)
        float32 and int32 arrays of one shape, and the range of the integers.

    Raises
    ------
    Unsupported
        When they are none.
    """
    code = node.integer("output_dtype", 0)
    name = str(zero.dtype) if zero is not None else DTYPES.get(code or 2, "")
    if name not in INTEGERS:
        raise Unsupported(f"it quantises to {name or f'element type {code}'}", "quantise to int8 or uint8")
    limits = np.iinfo(name)
    scale, zero = checked(node, scale, zero)
    return scale, zero, int(limits.min), int(limits.max)


def checked(node: Node, scale: Array, zero: Array | None) -> tuple[Array, Array]:
    """Scale and zero point of a node, float32 and int32 of one shape; refuses what are none."""
    if node.integer("block_size", 0):
        raise Unsupported("it has one scale a block", "quantise per tensor or per channel")
    scale = np.asarray(scale, np.float32)
    zero = np.zeros(scale.shape, np.int32) if zero is None else zero.astype(np.int32)
    if scale.size == zero.size == 1:  # a scalar or one number in a vector, as quantisers please
        scale, zero = scale.reshape(()), zero.reshape(())
    if scale.ndim > 1 or zero.shape != scale.shape:
        raise Unsupported(f"its scale has the shape {scale.shape}, its zero point {zero.shape}")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise Unsupported("a scale is not a positive number", "quantise the model again")
    return scale, zero


def along(vector: Array, axis: int, rank: int) -> Array:
    """Shape one number a channel so that it broadcasts to a tensor of `rank` axes; one number alone is a scalar."""
    if vector.size == 1:
        return vector.reshape(())
    return vector.reshape(-1, *[1] * (rank - 1 - axis))


def quantize(node: Node, data: Array, scale: Array, zero: Array | None) -> Array:
    """Fold QuantizeLinear."""
    dtype = (
        zero.dtype
        if zero is not None
        else np.dtype(DTYPES.get(node.integer("output_dtype", 0) or 2, "uint8"))
    )
    scale, zeros, low, high = grid_of(node, scale, zero)
    scale, zeros = _spread(node, scale, data), _spread(node, zeros, data)
    grid = np.rint(data.astype(np.float32) / scale).astype(np.float64) + zeros
    return np.clip(grid, low, high).astype(dtype)


def dequantize(node: Node, data: Array, scale: Array, zero: Array | None) -> Array:
    """Fold DequantizeLinear."""
    if str(data.dtype) not in INTEGERS:
        raise Unsupported(f"it dequantises {data.dtype}", "quantise to int8 or uint8")
    scale, zeros = checked(node, scale, zero)
    shifted = data.astype(np.int32) - _spread(node, zeros, data)
    return np.asarray(shifted.astype(np.float32) * _spread(node, scale, data))


def _spread(node: Node, vector: Array, data: Array) -> Array:
    if vector.size == 1:
        return vector.reshape(())
    axis = normal_axis(node.integer("axis", 1), data.ndim)
    if vector.size != data.shape[axis]:
        raise Unsupported(f"{vector.size} scales for {data.shape[axis]} channels on axis {axis}")
    return along(vector, axis, data.ndim)
