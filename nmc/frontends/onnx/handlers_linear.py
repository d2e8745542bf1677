"""Convolution, matrix products and normalisation."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from nmc.frontends.onnx.call import Call, spatial
from nmc.frontends.onnx.fold import Array, cheap_map
from nmc.frontends.onnx.geometry import read_transposed, read_window
from nmc.frontends.onnx.node import Unsupported
from nmc.frontends.onnx.table import Handler
from nmc.ir.op import Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import ConvTranspose


def conv(call: Call) -> Value:
    """Convert Conv over one to three spatial axes."""
    data, weight = call.value(), call.weight(1, "kernel")
    space = spatial(data)
    if len(space) > 3:
        raise Unsupported(f"a convolution over {len(space)} axes", "up to 3 spatial axes are supported")
    if weight.ndim != len(space) + 2:
        raise Unsupported(f"a kernel of shape {weight.shape} over {len(space)} spatial axes")
    kernel = weight.shape[2:]
    if call.node.integers("kernel_shape", kernel) != kernel:
        raise Unsupported(f"kernel_shape contradicts the kernel, which is {kernel}")
    window = read_window(call.node, space, kernel)
    bias = None if call.arg(2) is None else call.const(2, call.weight(2, "bias"))
    return call.emit(
        ann.Conv,
        data=data,
        weight=call.const(1, weight),
        bias=bias,
        stride=window.stride,
        pad=window.pad,
        dilation=window.dilation,
        groups=call.node.integer("group", 1),
    )


def conv_transpose(call: Call) -> Value:
    """Convert ConvTranspose: `output_shape` and ``auto_pad`` become pads."""
    data, weight, node = call.value(), call.weight(1, "kernel"), call.node
    space = spatial(data)
    if weight.ndim != len(space) + 2 or 0 in weight.shape:
        raise Unsupported(f"a kernel of shape {weight.shape} over {len(space)} spatial axes")
    kernel = weight.shape[2:]
    if node.integers("kernel_shape", kernel) != kernel:
        raise Unsupported(f"kernel_shape contradicts the kernel, which is {kernel}")
    stride, dilation, pad = read_transposed(node, space, kernel)
    bias = None if call.arg(2) is None else call.const(2, call.weight(2, "bias"))
    return call.emit(
        ConvTranspose,
        data=data,
        weight=call.const(1, weight),
        bias=bias,
        stride=stride,
        pad=pad,
        dilation=dilation,
        groups=node.integer("group", 1),
    )


def gemm(call: Call) -> Value:
    """Convert Gemm with constant B and C."""
    data, weight = call.value(), call.weight(1, "matrix B")
    alpha, beta = call.node.number("alpha", 1.0), call.node.number("beta", 1.0)
    if call.node.integer("transA", 0):
        raise Unsupported("transA moves the batch axis", "export with transA=0")
    if weight.ndim != 2:
        raise Unsupported(f"its matrix B has the shape {weight.shape}")
    if not call.node.integer("transB", 0):
        weight = weight.T
    bias = None
    if call.arg(2) is not None:
        bias = call.const(2, _times(_row(call.weight(2, "bias C"), weight.shape[0]), beta))
    return call.emit(ann.Dense, data=data, weight=call.const(1, _times(weight, alpha)), bias=bias)


def _times(array: Array, factor: float) -> Array:
    if factor == 1.0:
        return array
    return cheap_map(lambda part: (part.astype(np.float64) * factor).astype(np.float32), array)


def _row(array: Array, size: int) -> Array:
    """Broadcast to one row of a (batch, size) result."""
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim > 1 or array.shape not in ((), (1,), (size,)):
        raise Unsupported(
            f"its bias of shape {array.shape} is not one row of {size}", "use one bias an output"
        )
    return np.broadcast_to(array, (size,))


def matmul(call: Call) -> Value:
    """Convert MatMul with a constant right-hand side."""
    if not isinstance(call.arg(0), Value):
        raise Unsupported(
            "its left operand is a constant", "transpose the product, so that the constant is on the right"
        )
    if isinstance(call.arg(1), Value):
        raise Unsupported(
            "both operands depend on the network's input",
            "a product of two activations has no synaptic weights",
        )
    data, weight = call.value(), call.weight(1, "right operand")
    if weight.ndim != 2:
        raise Unsupported(f"its right operand has the shape {weight.shape}; a matrix is needed")
    if len(data.shape) == 1:
        return call.emit(ann.Dense, data=data, weight=call.const(1, weight.T))
    return _matmul_rows(call, data, weight)


def _matmul_rows(call: Call, data: Value, weight: Array) -> Value:
    """Multiply each of several rows with one matrix: a convolution with a kernel of one element."""
    rows, shape = prod(data.shape[:-1]), data.shape
    if len(shape) != 2:
        data = call.emit(ann.Reshape, "rows", data=data, shape=(rows, shape[-1]))
    data = call.emit(ann.Transpose, "columns", data=data, perm=(1, 0))
    kernel = call.const(1, weight.T[:, :, np.newaxis])
    data = call.emit(
        ann.Conv, "product", data=data, weight=kernel, stride=(1,), pad=(0, 0), dilation=(1,), groups=1
    )
    if len(shape) == 2:
        return call.emit(ann.Transpose, data=data, perm=(1, 0))
    data = call.emit(ann.Transpose, "back", data=data, perm=(1, 0))
    return call.emit(ann.Reshape, data=data, shape=(*shape[:-1], weight.shape[1]))


def batch_norm(call: Call) -> Value:
    """Convert BatchNormalization in inference form."""
    old = call.node.opset < 7 and not call.node.integer("is_test", 0)
    if old or call.node.integer("training_mode", 0):
        raise Unsupported("it is in training mode", "export the model after model.eval()")
    if not call.node.integer("spatial", 1):
        raise Unsupported("spatial=0 normalises each element by itself", "export with spatial=1")
    data, eps = call.value(), call.node.number("epsilon", 1e-5)
    if not data.shape:
        raise Unsupported("its operand has no channels")
    names = ("scale", "bias", "mean", "var")
    arrays = [call.weight(index + 1, name) for index, name in enumerate(names)]
    for name, array in zip(names, arrays, strict=True):
        if array.shape != data.shape[:1]:
            raise Unsupported(f"its {name} has the shape {array.shape}, the operand {data.shape[0]} channels")
    if not float(arrays[3].min(initial=0)) + eps > 0:
        raise Unsupported(f"a variance of {arrays[3].min(initial=0)} plus epsilon {eps} is not positive")
    consts: dict[str, Any] = {
        name: call.const(index + 1, array)
        for index, (name, array) in enumerate(zip(names, arrays, strict=True))
    }
    return call.emit(ann.BatchNorm, data=data, eps=eps, **consts)


_CONV_ATTRS = "auto_pad dilations group kernel_shape pads strides"

HANDLERS = (
    Handler(
        "Conv",
        conv,
        (2, 3),
        _CONV_ATTRS,
        "1-d to 3-d, constant kernel; groups, dilations, all kinds of padding.",
    ),
    Handler(
        "ConvTranspose",
        conv_transpose,
        (2, 3),
        f"{_CONV_ATTRS} output_padding output_shape",
        "Constant kernel; groups, dilations, all kinds of padding.",
    ),
    Handler(
        "Gemm", gemm, (2, 3), "alpha beta broadcast transA transB", "Constant B and C (one row); transA=0."
    ),
    Handler("MatMul", matmul, (2, 2), "", "Constant matrix on the right; a following Add becomes the bias."),
    Handler(
        "BatchNormalization",
        batch_norm,
        (5, 5),
        "epsilon is_test momentum spatial training_mode",
        "Inference form with constant statistics; spatial.",
    ),
)
