"""Operators that move elements: index maps, borders, parts."""

from __future__ import annotations

from math import prod

import numpy as np

from nmc.frontends.onnx.call import Call
from nmc.frontends.onnx.fold import BATCH_MARKS, Known, axes_of, shape_slice, slice_arguments, split_sizes
from nmc.frontends.onnx.node import MAX_INT, Ints, Unsupported, normal_axis
from nmc.frontends.onnx.table import Handler
from nmc.ir.op import Value
from nmc.ir.ops import ann

_BATCH_HINT = "keep the batch axis first and alone; export with a free batch axis"


def _reshape_to(call: Call, data: Value, shape: Ints) -> Value:
    if shape == data.shape:
        return data
    if prod(shape) != prod(data.shape):
        raise Unsupported(
            f"a sample of shape {data.shape} does not reshape to {shape}: the batch axis would take part",
            _BATCH_HINT,
        )
    return call.emit(ann.Reshape, data=data, shape=shape)


def reshape(call: Call) -> Value:
    """Convert Reshape with a constant shape."""
    data, known = call.value(), call.known(1, "shape")
    wanted = [int(extent) for extent in known.array.reshape(-1)]
    other = known.array if known.other is None else known.other
    if not wanted or other.size != len(wanted) or any(abs(extent) > MAX_INT for extent in wanted):
        raise Unsupported(f"its shape {wanted[:8]} is no shape of a batch")
    if not np.array_equal(known.array.reshape(-1)[1:], other.reshape(-1)[1:]):
        raise Unsupported("its shape moves the batch axis", _BATCH_HINT)
    follows_batch = bool(wanted[0] == BATCH_MARKS[0] and int(other.reshape(-1)[0]) == BATCH_MARKS[1])
    copies = not call.node.integer("allowzero", 0)
    first = wanted[0]
    if not (follows_batch or first in (-1, call.net.batch) or (first == 0 and copies)):
        raise Unsupported(f"its shape {wanted} does not begin with the batch axis", _BATCH_HINT)
    return _reshape_to(call, data, _rest(data, wanted, copies))


def _rest(data: Value, wanted: list[int], copies: bool) -> Ints:
    """Resolve the entries 0 and -1 behind the batch axis."""
    rest = wanted[1:]
    if copies:
        if any(extent == 0 and axis >= len(data.shape) for axis, extent in enumerate(rest)):
            raise Unsupported(f"a 0 in its shape {wanted} copies an axis that is not there")
        rest = [data.shape[axis] if extent == 0 else extent for axis, extent in enumerate(rest)]
    if rest.count(-1) == 1 and wanted[0] != -1:
        others = -prod(rest)
        rest[rest.index(-1)] = prod(data.shape) // others if others else 0
    if min(rest, default=1) < 1:
        raise Unsupported(f"its shape {wanted} does not fit a sample of shape {data.shape}", _BATCH_HINT)
    return tuple(rest)


def flatten(call: Call) -> Value:
    """Convert Flatten behind the batch axis."""
    data, axis = call.value(), call.node.integer("axis", 1)
    rank = len(data.shape) + 1
    axis = axis + rank if axis < 0 else axis
    if axis != 1 and not (axis == 0 and call.net.batch == 1):
        raise Unsupported(f"axis={axis} mixes the batch axis with others", "flatten with axis=1")
    return _reshape_to(call, data, (prod(data.shape),))


def squeeze(call: Call) -> Value:
    """Convert Squeeze of other axes than the batch axis."""
    data = call.value()
    rank = len(data.shape) + 1
    axes = axes_of(call.node, (None, call.optional(1, "axes")), 1, rank)
    if axes is None:
        if call.net.batch == 1:
            raise Unsupported("without axes it removes the batch axis too", "give the axes")
        axes = tuple(axis + 1 for axis, extent in enumerate(data.shape) if extent == 1)
    if 0 in axes or any(data.shape[axis - 1] != 1 for axis in axes):
        raise Unsupported(
            f"axes {axes} of a batch of shape {data.shape}: only axes of extent 1 behind the batch axis"
        )
    shape = tuple(extent for axis, extent in enumerate(data.shape) if axis + 1 not in axes)
    return _reshape_to(call, data, shape)


def unsqueeze(call: Call) -> Value:
    """Convert Unsqueeze behind the batch axis."""
    data, given = call.value(), call.optional(1, "axes")
    count = len(call.node.integers("axes")) if given is None else given.size
    axes = axes_of(call.node, (None, given), 1, len(data.shape) + 1 + count) or ()
    if 0 in axes:
        raise Unsupported("it puts an axis before the batch axis", _BATCH_HINT)
    shape = list(data.shape)
    for axis in axes:
        shape.insert(axis - 1, 1)
    return _reshape_to(call, data, tuple(shape))


def transpose(call: Call) -> Value:
    """Convert Transpose that leaves the batch axis where it is."""
    data = call.value()
    rank = len(data.shape) + 1
    perm = call.node.integers("perm", tuple(range(rank))[::-1], count=rank)
    if perm[0] != 0:
        raise Unsupported(f"perm={list(perm)} moves the batch axis", _BATCH_HINT)
    if perm == tuple(range(rank)):
        return data
    return call.emit(ann.Transpose, data=data, perm=tuple(axis - 1 for axis in perm[1:]))


def pad(call: Call) -> Value:
    """Convert Pad with a constant border: attributes (operator set 2) or inputs (11 and later)."""
    data, node = call.value(), call.node
    if (mode := node.text("mode", "constant")) != "constant":
        raise Unsupported(f"mode {mode!r}: only a constant border is supported", "pad with zeros")
    if "pads" in node.attrs:
        pads, value = node.integers("pads"), node.number("value", 0.0)
    else:
        pads = tuple(int(item) for item in call.array(1, "pads").reshape(-1))
        fill = call.optional(2, "constant_value")
        value = 0.0 if fill is None or fill.size == 0 else float(fill.reshape(-1)[0])
    rank = len(data.shape) + 1
    pads = _spread_pads(pads, call, rank)
    if pads[0] or pads[rank]:
        raise Unsupported("it pads the batch axis", _BATCH_HINT)
    border = (*pads[1:rank], *pads[rank + 1 :])
    return call.emit(ann.Pad, data=data, pad=border, value=value) if any(border) else data


def _spread_pads(pads: Ints, call: Call, rank: int) -> Ints:
    """Fill in the axes that input 3 leaves out (operator set 18)."""
    given = call.optional(3, "axes")
    axes = range(rank) if given is None else [normal_axis(int(axis), rank) for axis in given.reshape(-1)]
    if (
        len(pads) != 2 * len(axes)
        or len(set(axes)) != len(axes)
        or any(abs(size) >= MAX_INT for size in pads)
    ):
        raise Unsupported(f"{len(pads)} pads for {len(axes)} axes")
    result = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        result[axis], result[rank + axis] = pads[place], pads[len(axes) + place]
    return tuple(result)


def concat(call: Call) -> Value:
    """Convert Concat of activations behind the batch axis."""
    values = tuple(call.value(index) for index in range(len(call.args)))
    axis = normal_axis(call.node.integer("axis"), len(values[0].shape) + 1)
    if axis == 0:
        raise Unsupported("it concatenates along the batch axis", _BATCH_HINT)
    return values[0] if len(values) == 1 else call.emit(ann.Concat, data=values, axis=axis - 1)


def shape_of(call: Call) -> Known:
    """Convert Shape of an activation; a free batch size is marked and may only become a batch size again."""
    data = call.value()
    one, two = BATCH_MARKS if call.net.batch is None else (call.net.batch, call.net.batch)
    first, second = (shape_slice(call.node, (batch, *data.shape)) for batch in (one, two))
    return Known(first) if np.array_equal(first, second) else Known(first, second)


def slice_(call: Call) -> Value:
    """Convert Slice with steps of 1 behind the batch axis: a negative border."""
    data = call.value()
    rank = len(data.shape) + 1
    arrays = [None, *(call.optional(index, "bounds") for index in range(1, len(call.args)))]
    border = [0] * (2 * len(data.shape))
    for axis, start, stop, step in zip(*slice_arguments(call.node, arrays, rank), strict=True):
        if axis == 0:
            if start == 0 and stop >= MAX_INT - 1 and step == 1:
                continue
            raise Unsupported("it slices the batch axis", _BATCH_HINT)
        extent = data.shape[axis - 1]
        first, last, _ = slice(start, stop, step).indices(extent)
        if step != 1 or last <= first:
            raise Unsupported(
                f"it takes {start}:{stop}:{step} of {extent} elements", "only steps of 1 are supported"
            )
        border[axis - 1], border[len(data.shape) + axis - 1] = -first, last - extent
    return call.emit(ann.Pad, data=data, pad=tuple(border)) if any(border) else data


def split(call: Call) -> tuple[Value, ...]:
    """Convert Split behind the batch axis: one crop a part."""
    data, half = call.value(), len(call.value().shape)
    axis = normal_axis(call.node.integer("axis", 0), half + 1)
    if axis == 0:
        raise Unsupported("it splits the batch axis", _BATCH_HINT)
    extent, start, parts = data.shape[axis - 1], 0, []
    sizes = split_sizes(call.node, (None, call.optional(1, "split")), extent)
    for output, size in enumerate(sizes):
        border = [0] * (2 * half)
        border[axis - 1], border[half + axis - 1] = -start, start + size - extent
        parts.append(call.emit(ann.Pad, data=data, pad=tuple(border), output=output) if any(border) else data)
        start += size
    return tuple(parts)


HANDLERS = (
    Handler(
        "Reshape", reshape, (2, 2), "allowzero", "Constant shape that keeps the batch axis first and alone."
    ),
    Handler("Flatten", flatten, (1, 1), "axis", "axis=1."),
    Handler("Squeeze", squeeze, (1, 2), "axes", "Other axes than the batch axis."),
    Handler("Unsqueeze", unsqueeze, (1, 2), "axes", "Behind the batch axis."),
    Handler("Transpose", transpose, (1, 1), "perm", "The batch axis stays first."),
    Handler("Pad", pad, (1, 4), "mode pads value", "Constant border, other axes than the batch axis."),
    Handler("Concat", concat, (1, 1 << 16), "axis", "Activations, other axes than the batch axis."),
    Handler(
        "Shape",
        shape_of,
        (1, 1),
        "end start",
        "Folded; a free batch size may only become a batch size again.",
    ),
    Handler("Slice", slice_, (1, 5), "axes ends starts", "Steps of 1, other axes than the batch axis."),
    Handler("Split", split, (1, 2), "axis num_outputs split", "Other axes than the batch axis."),
)
