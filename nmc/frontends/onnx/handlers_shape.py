"""Operators that move elements: index maps, borders, parts."""

from __future__ import annotations

from math import prod
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nmc.frontends.onnx.arithmetic import check_index
from nmc.frontends.onnx.call import Call, Moved
from nmc.frontends.onnx.fold import (
    BATCH_MARKS,
    Known,
    axes_of,
    shape_slice,
    slice_arguments,
    split_sizes,
    whole_numbers,
)
from nmc.frontends.onnx.handlers_index import take_each
from nmc.frontends.onnx.handlers_recurrent import squeeze_moved
from nmc.frontends.onnx.moved import only_read_moved, settle
from nmc.frontends.onnx.node import MAX_INT, Ints, Unsupported, normal_axis
from nmc.frontends.onnx.table import Handler
from nmc.ir.op import Value
from nmc.ir.ops import ann

#: Names that numpy has for ONNX's kinds of border.
_BORDERS: MappingProxyType[str, Literal["edge", "reflect", "wrap"]] = MappingProxyType(
    {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}
)
#: Longest border of repeated elements.
MAX_EXTENT = 1 << 16

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
    wanted = list(whole_numbers(known.array, "shape"))
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


def squeeze(call: Call) -> Value | Moved:
    """Convert Squeeze of other axes than the batch axis."""
    if isinstance(found := call.arg(0), Moved):
        return squeeze_moved(call, found)
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


def transpose(call: Call) -> Value | Moved:
    """Convert Transpose; the batch axis may move only on its way into and out of a recurrent layer."""
    found = call.arg(0)
    value, order = (found.value, found.perm) if isinstance(found, Moved) else (call.value(), None)
    rank = len(value.shape) + 1
    perm = call.node.integers("perm", tuple(range(rank))[::-1], count=rank)
    if sorted(perm) != list(range(rank)):
        raise Unsupported(f"perm={list(perm)} is no order of {rank} axes")
    if order is not None:
        return settle(call, value, tuple(order[axis] for axis in perm))
    if perm[0] != 0:
        if only_read_moved(call):
            return Moved(value, perm)
        raise Unsupported(f"perm={list(perm)} moves the batch axis", _BATCH_HINT)
    if perm == tuple(range(rank)):
        return value
    return call.emit(ann.Transpose, data=value, perm=tuple(axis - 1 for axis in perm[1:]))


def pad(call: Call) -> Value:
    """Convert Pad: attributes (operator set 2) or inputs (11 and later)."""
    data, node = call.value(), call.node
    if (mode := node.text("mode", "constant")) not in ("constant", *_BORDERS):
        raise Unsupported(f"mode {mode!r} is not defined", "pad with zeros")
    if "pads" in node.attrs:
        pads, value = node.integers("pads"), node.number("value", 0.0)
    else:
        pads = whole_numbers(call.array(1, "pads"), "pads")
        fill = call.optional(2, "constant_value")
        value = 0.0 if fill is None or fill.size == 0 else float(fill.reshape(-1)[0])
    rank = len(data.shape) + 1
    pads = _spread_pads(pads, call, rank)
    if pads[0] or pads[rank]:
        raise Unsupported("it pads the batch axis", _BATCH_HINT)
    border = (*pads[1:rank], *pads[rank + 1 :])
    if mode != "constant":
        return take_each(call, data, _mirrored(data, border, mode))
    return call.emit(ann.Pad, data=data, pad=border, value=value) if any(border) else data


def _mirrored(data: Value, border: Ints, mode: str) -> dict[int, NDArray[np.int64]]:
    """Index maps that make a border of the elements themselves (negative: crop)."""
    half, maps = len(data.shape), {}
    for axis, extent in enumerate(data.shape):
        before, after = border[axis], border[half + axis]
        if before == after == 0:
            continue
        check_index(extent)
        if max(before, after) >= (extent if mode == "reflect" else MAX_EXTENT) or extent + before + after < 1:
            raise Unsupported(f"a border of {before} and {after} around {extent} elements, mode {mode!r}")
        inner = np.arange(max(-before, 0), extent - max(-after, 0))
        maps[axis] = np.pad(inner, (max(before, 0), max(after, 0)), mode=_BORDERS[mode])
    return maps


def _spread_pads(pads: Ints, call: Call, rank: int) -> Ints:
    """Fill in the axes that input 3 leaves out (operator set 18)."""
    given = call.optional(3, "axes")
    named = range(rank) if given is None else whole_numbers(given, "axes")
    axes = [normal_axis(axis, rank) for axis in named]
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
    """Convert Slice behind the batch axis: a negative border, or an index map where it has steps."""
    data = call.value()
    rank = len(data.shape) + 1
    arrays = [None, *(call.optional(index, "bounds") for index in range(1, len(call.args)))]
    border, maps = [0] * (2 * len(data.shape)), {}
    for axis, start, stop, step in zip(*slice_arguments(call.node, arrays, rank), strict=True):
        if axis == 0:
            if start == 0 and step == 1 and (stop >= MAX_INT - 1 or stop == call.net.batch):
                continue
            raise Unsupported("it slices the batch axis", _BATCH_HINT)
        extent = data.shape[axis - 1]
        places = range(extent)[slice(start, stop, step)]
        if not places:
            raise Unsupported(f"it takes {start}:{stop}:{step} of {extent} elements, which are none")
        if step != 1:
            check_index(len(places))
            maps[axis - 1] = np.asarray(places, np.int64)
        else:
            border[axis - 1] = -places[0]
            border[len(data.shape) + axis - 1] = places[-1] + 1 - extent
    if any(border):
        data = call.emit(ann.Pad, "crop" if maps else "", data=data, pad=tuple(border))
    return take_each(call, data, maps)


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
    Handler("Pad", pad, (1, 4), "mode pads value", "All modes, other axes than the batch axis."),
    Handler("Concat", concat, (1, 1 << 16), "axis", "Activations, other axes than the batch axis."),
    Handler(
        "Shape",
        shape_of,
        (1, 1),
        "end start",
        "Folded; a free batch size may only become a batch size again.",
    ),
    Handler("Slice", slice_, (1, 5), "axes ends starts", "Constant bounds, other axes than the batch axis."),
    Handler("Split", split, (1, 2), "axis num_outputs split", "Other axes than the batch axis."),
)
