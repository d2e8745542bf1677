"""Activation functions that are no relu."""

from __future__ import annotations

from functools import partial
from math import inf

import numpy as np

from nmc.frontends.onnx.arithmetic import affine, factor, total
from nmc.frontends.onnx.call import Call
from nmc.frontends.onnx.fold import cheap_map
from nmc.frontends.onnx.node import Unsupported
from nmc.frontends.onnx.private import Rounding
from nmc.frontends.onnx.reasons import why_unsupported
from nmc.frontends.onnx.table import Handler
from nmc.ir.op import Value
from nmc.ir.ops import ann, ann_pointwise


class NotNeuronal(Unsupported):
    """An operator that could only be imported together with others around it, which are not there."""

    code = "E0301"


def function(call: Call, fn: str, alpha: float = 1.0, beta: float = 1.0) -> Value:
    """Convert a smooth function; `alpha` and `beta` are the defaults of its attributes."""
    node = call.node
    return call.emit(
        ann_pointwise.Activation,
        data=call.value(),
        fn=fn,
        alpha=node.number("alpha", alpha),
        beta=node.number("gamma", beta),
    )


def gelu(call: Call) -> Value:
    """Convert Gelu, in both forms."""
    form = call.node.text("approximate", "none")
    if form not in ("none", "tanh"):
        raise Unsupported(f"approximate={form!r} is not defined")
    return function(call, "gelu" if form == "none" else "gelu_tanh")


def hard_sigmoid(call: Call) -> Value:
    """Convert HardSigmoid: a line, cut at 0 and 1."""
    scale = np.float32(call.node.number("alpha", 0.2))
    offset = np.asarray(call.node.number("beta", 0.5), np.float32)
    line = affine(call, call.value(), scale, offset, suffix="line")
    return call.emit(ann.Relu, data=line, limit=1.0)


def leaky_relu(call: Call) -> Value:
    """Convert LeakyRelu."""
    return _leaky(call, call.node.number("alpha", 0.01))


def absolute(call: Call) -> Value:
    """Convert Abs: the other side is turned over."""
    return _leaky(call, -1.0)


def _leaky(call: Call, slope: float) -> Value:
    data = call.value()
    return call.emit(
        ann_pointwise.LeakyRelu, data=data, slope=call.const("slope", np.asarray(slope, np.float32))
    )


def prelu(call: Call) -> Value:
    """Convert PRelu with a constant slope: one number, one a channel, or one an element."""
    data, slope = call.value(), factor(call, 1, call.value())
    if call.node.opset < 7 and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (len(data.shape) - 1))
    return call.emit(ann_pointwise.LeakyRelu, data=data, slope=call.const(1, slope))


def rounding(call: Call) -> Value:
    """Convert Floor, Ceil and Round as parts of a quantised activation."""
    kind = call.node.op_type.lower()
    error = NotNeuronal(f"operator {call.node.op_type} is not supported: " + why_unsupported("Floor", "", False)[0],
                        why_unsupported("Floor", "", False)[1])  # fmt: skip
    return call.emit_pending(Rounding, error, data=call.value(), mode=kind)


def maximum(call: Call) -> Value:
    """Convert Max and Min: of an activation and constants, or of activations by way of their difference."""
    sign = 1 if call.node.op_type == "Max" else -1
    values = [arg for arg in call.args if isinstance(arg, Value)]
    constants = [index for index, arg in enumerate(call.args) if not isinstance(arg, Value)]
    data = call.value(0) if not values else values[0]
    for step, other in enumerate(values[1:], 1):
        last = step == len(values) - 1 and not constants
        data = _larger(call, data, other, sign, "" if last else f"of{step + 1}")
    for step, index in enumerate(constants, 1):
        data = _bounded(call, data, index, sign, "" if step == len(constants) else f"bound{step}")
    return data


def _larger(call: Call, one: Value, other: Value, sign: int, suffix: str) -> Value:
    """max(a, b) = b + relu(a - b), min(a, b) = b - relu(b - a)."""
    minus = np.float32(-1)
    first = one if sign > 0 else affine(call, one, minus, None, suffix=f"{suffix or 'y'}.minus")
    second = other if sign < 0 else affine(call, other, minus, None, suffix=f"{suffix or 'y'}.minus")
    difference = total(call, (first, second), f"{suffix or 'y'}.difference")
    rest = call.emit(ann.Relu, f"{suffix or 'y'}.rest", data=difference)
    if sign < 0:
        rest = affine(call, rest, minus, None, suffix=f"{suffix or 'y'}.less")
    return total(call, (other, rest), suffix)


def _bounded(call: Call, data: Value, index: int, sign: int, suffix: str) -> Value:
    bound = factor(call, index, data)
    if bound.size == 1:
        level = float(bound.reshape(-1)[0])
        if sign > 0 and level == 0:
            return call.emit(ann.Relu, suffix, data=data)
        low, high = (level, inf) if sign > 0 else (-inf, level)
        return call.emit(ann.Clip, suffix, data=data, low=low, high=high)
    side, back = np.float32(sign), cheap_map(np.negative, bound)
    moved = affine(call, data, side, back if sign > 0 else bound, suffix=f"above{index}")
    rest = call.emit(ann.Relu, f"rest{index}", data=moved)
    return affine(call, rest, side, bound, suffix=suffix, offset_name=index)


_LINES = "Imported; `approximate` replaces it by straight lines with a stated error."
_ROUND = "As part of a quantised activation: scale, round, clip, scale back (QCFS and others)."

HANDLERS = (
    Handler("Abs", absolute, (1, 1), "", "As a LeakyRelu of slope -1."),
    Handler("Celu", partial(function, fn="celu"), (1, 1), "alpha", _LINES),
    Handler("Elu", partial(function, fn="elu"), (1, 1), "alpha", _LINES),
    Handler("Erf", partial(function, fn="erf"), (1, 1), "", f"{_LINES} As part of a Gelu it becomes that."),
    Handler("Exp", partial(function, fn="exp"), (1, 1), "", _LINES),
    Handler("Ceil", rounding, (1, 1), "", _ROUND),
    Handler("Floor", rounding, (1, 1), "", _ROUND),
    Handler("Gelu", gelu, (1, 1), "approximate", _LINES),
    Handler("HardSigmoid", hard_sigmoid, (1, 1), "alpha beta", "Exact: a line and a Relu with a limit."),
    Handler("HardSwish", partial(function, fn="hard_swish"), (1, 1), "", _LINES),
    Handler("LeakyRelu", leaky_relu, (1, 1), "alpha", "Exact: two relus after `unroll`."),
    Handler("Max", maximum, (1, 1 << 10), "", "By constants; of activations as a sum and a relu of their difference."),
    Handler("Min", maximum, (1, 1 << 10), "", "By constants; of activations as a sum and a relu of their difference."),
    Handler("Mish", partial(function, fn="mish"), (1, 1), "", _LINES),
    Handler("PRelu", prelu, (2, 2), "", "Constant slope; exact: two relus after `unroll`."),
    Handler("Round", rounding, (1, 1), "", _ROUND),
    Handler("Selu", partial(function, fn="selu", alpha=1.6732632423543772, beta=1.0507009873554805), (1, 1),
            "alpha gamma", _LINES),
    Handler("Sigmoid", partial(function, fn="sigmoid"), (1, 1), "", _LINES),
    Handler("Softplus", partial(function, fn="softplus"), (1, 1), "", _LINES),
    Handler("Softsign", partial(function, fn="softsign"), (1, 1), "", _LINES),
    Handler("Sqrt", partial(function, fn="sqrt"), (1, 1), "", _LINES),
    Handler("Swish", partial(function, fn="silu"), (1, 1), "alpha", _LINES),
    Handler("Tanh", partial(function, fn="tanh"), (1, 1), "", _LINES),
)  # fmt: skip
