"""Simple recurrent layers, and tensors whose batch axis is in the middle, as these want it."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmc.frontends.onnx.call import Call, Moved
from nmc.frontends.onnx.fold import Array, Known, axes_of, repeats
from nmc.frontends.onnx.moved import settle
from nmc.frontends.onnx.node import Unsupported
from nmc.frontends.onnx.table import Handler
from nmc.ir.op import Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import Rnn

#: Longest sequence: every step becomes layers of its own.
MAX_STEPS = 4096
_FUNCTIONS = {"relu": "relu", "tanh": "tanh"}


def rnn(call: Call) -> tuple[Value | Moved | None, ...]:
    """Convert RNN over a sequence of known length, from a state of zero."""
    data, weight, recurrent = _sequence(call), call.weight(1, "weights W"), call.weight(2, "weights R")
    directions, functions = _directions(call)
    count = len(directions)
    hidden = call.node.integer("hidden_size", recurrent.shape[-1] if recurrent.ndim else 0)
    shapes = ((count, hidden, data.shape[1]), (count, hidden, hidden))
    if (weight.shape, recurrent.shape) != shapes:
        raise Unsupported(f"weights of shape {weight.shape} and {recurrent.shape} instead of {shapes}")
    bias = np.zeros((count, 2 * hidden), np.float32) if call.arg(3) is None else call.weight(3, "bias B")
    if bias.shape != (count, 2 * hidden):
        raise Unsupported(f"its bias has the shape {bias.shape}")
    _starts_at_zero(call, data.shape[0])
    rows = [
        _direction(call, data, index, reverse, functions[index], (weight, recurrent, bias))
        for index, reverse in enumerate(directions)
    ]
    return _all_steps(call, rows), _last_steps(call, rows, directions)


def _sequence(call: Call) -> Value:
    """The operand as one sequence (T, inputs) a sample."""
    found, layout = call.arg(0), call.node.integer("layout", 0)
    if layout:
        data = call.value()
    elif isinstance(found, Moved) and len(found.perm) == 3 and found.perm[1] == 0:
        data = found.value
        if found.perm[0] > found.perm[2]:
            data = call.emit(ann.Transpose, "sequence", data=data, perm=(1, 0))
    else:
        call.value()
        raise Unsupported(
            "axis 0 of its operand is the sequence and the network's batch axis at once",
            "export with batch_first=True, so that the network's input is (batch, steps, features)",
        )
    if len(data.shape) != 2:
        raise Unsupported(f"a sequence has the shape {data.shape} a sample; (steps, features) is needed")
    if data.shape[0] > MAX_STEPS:
        raise Unsupported(
            f"a sequence of {data.shape[0]:,} steps; up to {MAX_STEPS:,} can be unrolled", "cut it into parts"
        )
    return data


def _directions(call: Call) -> tuple[list[bool], list[str]]:
    """Whether each direction runs backwards, and its function."""
    kinds = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    name = call.node.text("direction", "forward")
    if name not in kinds:
        raise Unsupported(f"direction {name!r} is not defined")
    given = call.node.texts("activations", ("Tanh",) * len(kinds[name]))
    functions = [_FUNCTIONS.get(item.lower(), "") for item in given]
    if "" in functions or len(functions) != len(kinds[name]):
        raise Unsupported(f"its activations are {given}", "use relu or tanh")
    return kinds[name], functions


def _starts_at_zero(call: Call, steps: int) -> None:
    lengths = call.optional(4, "sequence_lens")
    if lengths is not None and (lengths != steps).any():
        raise Unsupported("its sequences differ in length", "pad them to one length")
    state = call.arg(5)
    if state is None:
        return
    known = call.known(5, "initial_h") if isinstance(state, Known) else None
    if known is None or (known.array[(0,) * known.array.ndim] if repeats(known.array) else known.array).any():
        raise Unsupported("its initial state is not zero", "start from zero")


def _direction(
    call: Call, data: Value, index: int, reverse: bool, fn: str, parts: tuple[Array, Array, Array]
) -> Value:
    weight, recurrent, bias = (part[index] for part in parts)
    half = len(bias) // 2
    consts: dict[str, Any] = {
        "weight": call.const(f"w{index}", weight),
        "recurrent": call.const(f"r{index}", recurrent),
        "bias": call.const(f"b{index}", bias[:half] + bias[half:]),
    }
    name = "backward" if reverse else "forward"
    output = 0 if call.node.outputs[0] else 1
    return call.emit(Rnn, name, output=output, data=data, fn=fn, reverse=reverse, **consts)


def _all_steps(call: Call, rows: list[Value]) -> Value | Moved | None:
    """Y: (steps, directions, batch, hidden), with layout 1 (batch, steps, directions, hidden)."""
    if not call.used(0):
        return None
    steps, hidden = rows[0].shape
    parts = tuple(
        call.emit(ann.Reshape, f"steps{index}", data=row, shape=(steps, 1, hidden))
        for index, row in enumerate(rows)
    )
    whole = parts[0] if len(parts) == 1 else call.emit(ann.Concat, "steps", data=parts, axis=1)
    return whole if call.node.integer("layout", 0) else Moved(whole, (1, 2, 0, 3))


def _last_steps(call: Call, rows: list[Value], directions: list[bool]) -> Value | Moved | None:
    """Y_h: (directions, batch, hidden), with layout 1 (batch, directions, hidden)."""
    if not call.used(1):
        return None
    parts = []
    for index, (row, reverse) in enumerate(zip(rows, directions, strict=True)):
        before, after = (0, 1 - row.shape[0]) if reverse else (1 - row.shape[0], 0)
        pad = (before, 0, after, 0)
        parts.append(call.emit(ann.Pad, f"last{index}", output=1, data=row, pad=pad) if any(pad) else row)
    whole = (
        parts[0] if len(parts) == 1 else call.emit(ann.Concat, "last", output=1, data=tuple(parts), axis=0)
    )
    return whole if call.node.integer("layout", 0) else Moved(whole, (1, 0, 2))


def squeeze_moved(call: Call, found: Moved) -> Value | Moved:
    """Convert Squeeze of a tensor whose batch axis is not the first."""
    axes = axes_of(call.node, (None, call.optional(1, "axes")), 1, len(found.perm))
    places = [found.perm[axis] for axis in axes or ()]
    if not places or 0 in places or any(found.value.shape[place - 1] != 1 for place in places):
        raise Unsupported(f"it removes the axes {axes}, of which not all have the extent 1")
    shape = tuple(extent for axis, extent in enumerate(found.value.shape) if axis + 1 not in places)
    value = call.emit(ann.Reshape, data=found.value, shape=shape)
    kept = [place for place in found.perm if place not in places]
    order = sorted(kept)
    return settle(call, value, tuple(order.index(place) for place in kept))


HANDLERS = (
    Handler(
        "RNN",
        rnn,
        (3, 6),
        "activations direction hidden_size layout",
        "relu or tanh, known length, initial state zero; all directions. `unroll` makes one layer a step.",
    ),
)
