"""Activations and element-wise arithmetic."""

from __future__ import annotations

import numpy as np

from nmc.frontends.onnx.arithmetic import affine, common_shape, expanded, factor, total
from nmc.frontends.onnx.call import Call
from nmc.frontends.onnx.fold import Array, cheap_map
from nmc.frontends.onnx.node import Unsupported, normal_axis
from nmc.frontends.onnx.private import Product
from nmc.frontends.onnx.table import Handler
from nmc.frontends.onnx.tensors import FLOAT_CODES
from nmc.ir.op import Value
from nmc.ir.ops import ann

_FLOAT_MAX = float(np.finfo(np.float32).max)

#: Operators behind a final Softmax that change no element.
_MOVES = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Dropout"})


def relu(call: Call) -> Value:
    """Convert Relu."""
    return call.emit(ann.Relu, data=call.value())


def clip(call: Call) -> Value:
    """Convert Clip: bounds as attributes (operator set 6) or inputs (11 and later)."""
    data = call.value()
    low, high = _bound(call, "min", 1, float("-inf")), _bound(call, "max", 2, float("inf"))
    if low > high:
        raise Unsupported(f"its lower bound {low} is above its upper bound {high}")
    if low == float("-inf") and high == float("inf"):
        return data
    if low == 0 and high > 0:
        return call.emit(ann.Relu, data=data, limit=high)
    return call.emit(ann.Clip, data=data, low=low, high=high)


def _bound(call: Call, name: str, index: int, default: float) -> float:
    array = call.optional(index, name)
    if array is None:
        found = call.node.number(name, default)
    elif array.size == 1:
        found = float(array.reshape(-1)[0])
    else:
        raise Unsupported(f"its {name} has {array.size} elements instead of one")
    if found != found:
        raise Unsupported(f"its {name} is NaN")
    return default if abs(found) >= _FLOAT_MAX and (found > 0) == (default > 0) else found


def lrn(call: Call) -> Value:
    """Convert LRN."""
    node = call.node
    data, size = call.value(), node.integer("size")
    if not data.shape:
        raise Unsupported("its operand has no channels")
    if size > 2 * data.shape[0] + 1:
        raise Unsupported(f"a window of {size} over {data.shape[0]} channels")
    return call.emit(
        ann.Lrn,
        data=data,
        size=size,
        alpha=node.number("alpha", 1e-4),
        beta=node.number("beta", 0.75),
        bias=node.number("bias", 1.0),
    )


def add(call: Call) -> Value:
    """Convert Add and Sum: activations of one shape, and constants that broadcast to it."""
    values = tuple(arg for arg in call.args if isinstance(arg, Value))
    constants = [index for index, arg in enumerate(call.args) if not isinstance(arg, Value)]
    if not values:
        raise Unsupported("none of its operands depends on the network's input")
    data = values[0]
    if len(values) > 1:
        data = total(call, values, "values" if constants else "")
    for step, index in enumerate(constants, 1):
        offset = factor(call, index, data)
        if len(call.args) == 2 and len(values) == 1 and (folded := _dense_bias(call, 1 - index, offset)):
            return folded
        suffix = "" if step == len(constants) else f"offset{step}"
        data = affine(call, data, None, offset, suffix=suffix, offset_name=index)
    return data


def _dense_bias(call: Call, index: int, offset: Array) -> Value | None:
    """Fold the constant into the matrix product that it follows, if there is one and it fits."""
    dense = call.sole_producer(index, "MatMul")
    if not isinstance(dense, ann.Dense) or dense.bias is not None:
        return None
    outputs = dense.weight.shape[0]
    if offset.shape not in ((), (1,), (outputs,)):
        return None
    return call.take_over(dense, bias=call.const(1 - index, np.broadcast_to(offset, (outputs,))))


def subtract(call: Call) -> Value:
    """Convert Sub of two activations, or of an activation and a constant."""
    left, right = call.arg(0), call.arg(1)
    if isinstance(left, Value) and isinstance(right, Value):
        negative = affine(call, right, np.float32(-1), None, suffix="negative")
        return total(call, (left, negative))
    if isinstance(left, Value):
        offset = factor(call, 1, left)
        return affine(call, left, None, cheap_map(np.negative, offset))
    data = call.value(1)
    return affine(call, data, np.float32(-1), factor(call, 0, data), offset_name=0)


def multiply(call: Call) -> Value:
    """Convert Mul of an activation by a constant, or by a function of itself (Silu, Gelu and their like)."""
    if isinstance(call.arg(0), Value) and isinstance(call.arg(1), Value):
        both = (call.value(0), call.value(1))
        left, right = (expanded(call, value, common_shape(both)) for value in both)
        error = Unsupported(
            "it multiplies two activations",
            "neurons add, they do not multiply; only constant factors and x * sigmoid(x) and its like are supported",
        )
        return call.emit_pending(Product, error, left=left, right=right)
    index = 1 if isinstance(call.arg(0), Value) else 0
    data = call.value(1 - index)
    return affine(call, data, factor(call, index, data), None, scale_name=index)


def divide(call: Call) -> Value:
    """Convert Div of an activation by a constant."""
    if isinstance(call.arg(1), Value):
        raise Unsupported("it divides by an activation", "only division by a constant is supported")
    data = call.value()
    divisor = factor(call, 1, data)
    with np.errstate(all="ignore"):
        scale = cheap_map(lambda part: (1.0 / part.astype(np.float64)).astype(np.float32), divisor)
    call.finite(scale, "reciprocal of the divisor")
    return affine(call, data, scale, None)


def negate(call: Call) -> Value:
    """Convert Neg."""
    return affine(call, call.value(), np.float32(-1), None)


def identity(call: Call) -> Value:
    """Convert Identity: nothing to do."""
    return call.value()


def dropout(call: Call) -> Value:
    """Convert Dropout in inference form: nothing to do."""
    mode = call.optional(2, "training_mode")
    trains = call.node.opset < 7 and not call.node.integer("is_test", 0)
    if trains or (mode is not None and mode.any()):
        raise Unsupported("it is in training mode", "export the model after model.eval()")
    return call.value()


def cast(call: Call) -> Value:
    """Convert Cast between floating types: activations are float32 throughout."""
    code = call.node.integer("to")
    if code not in FLOAT_CODES:
        raise Unsupported(
            f"it casts activations to element type {code}", "only casts between floating types are supported"
        )
    return call.value()


def arg_max(call: Call) -> Value:
    """Convert ArgMax as the last node: dropped, because nmc's readout takes the argmax of the scores."""
    data, rank = call.value(), len(call.value().shape) + 1
    if normal_axis(call.node.integer("axis", 0), rank) == 0:
        raise Unsupported("it compares the samples of a batch")
    if call.node.integer("select_last_index", 0):
        raise Unsupported("select_last_index=1: the readout takes the first of equal scores")
    if call.net.graph.readers.get(call.node.outputs[0]):
        raise Unsupported(
            "it is in the middle of the network",
            "end the network at the scores; the readout takes the argmax",
        )
    return data


def softmax(call: Call) -> Value:
    """Convert Softmax and LogSoftmax just before an output: dropped, the largest element stays it."""
    data, rank = call.value(), len(call.value().shape) + 1
    axis = normal_axis(call.node.integer("axis", 1 if call.node.opset < 13 else -1), rank)
    if axis == 0:
        raise Unsupported("it normalises over the batch axis")
    if not _only_outputs_follow(call, axis):
        raise Unsupported(
            "it is in the middle of the network",
            "only a last Softmax is supported (it is dropped: argmax is unchanged)",
        )
    return data


def _only_outputs_follow(call: Call, axis: int) -> bool:
    rank = len(call.value().shape) + 1
    graph, stack, seen = call.net.graph, [call.node], {call.node.index}
    while stack:
        for reader in graph.readers.get(stack.pop().outputs[0], ()):
            if reader.op_type == "ArgMax" and normal_axis(reader.integer("axis", 0), rank) == axis:
                continue
            if reader.op_type not in _MOVES:
                return False
            if reader.index not in seen:
                seen.add(reader.index)
                stack.append(reader)
    return True


_LAST = "Only before an output; dropped, which leaves the argmax as it is."

HANDLERS = (
    Handler("Relu", relu, (1, 1), "", "Any shape."),
    Handler(
        "Clip",
        clip,
        (1, 3),
        "max min",
        "Constant bounds; a lower bound of 0 makes a Relu with a limit, others do after `unroll`.",
    ),
    Handler("LRN", lrn, (1, 1), "alpha beta bias size", "Imported; not every target can run it."),
    Handler("Add", add, (2, 2), "axis broadcast", "Activations and constants that broadcast to one shape."),
    Handler("Sum", add, (1, 1 << 16), "", "Activations and constants that broadcast to one shape."),
    Handler(
        "Sub", subtract, (2, 2), "axis broadcast", "Activations and constants that broadcast to one shape."
    ),
    Handler(
        "Mul",
        multiply,
        (2, 2),
        "axis broadcast",
        "By a constant that broadcasts to it, or as part of Silu, Gelu and others.",
    ),
    Handler("Div", divide, (2, 2), "axis broadcast", "By a constant that broadcasts to the activation."),
    Handler("Neg", negate, (1, 1), "", "Any shape."),
    Handler("Identity", identity, (1, 1), "", "Removed."),
    Handler("Dropout", dropout, (1, 3), "is_test ratio seed", "Inference form; removed."),
    Handler("Cast", cast, (1, 1), "round_mode saturate to", "Between floating types; removed."),
    Handler("ArgMax", arg_max, (1, 1), "axis keepdims select_last_index", "Only as the last node; dropped."),
    Handler("Softmax", softmax, (1, 1), "axis", _LAST),
    Handler("LogSoftmax", softmax, (1, 1), "axis", _LAST),
)
