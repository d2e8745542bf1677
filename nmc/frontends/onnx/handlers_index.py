"""Operators that repeat, drop or reorder elements along an axis: index maps with ``ann.take``."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.frontends.onnx.arithmetic import check_index, common_shape, expanded
from nmc.frontends.onnx.call import MAX_VALUE, Call
from nmc.frontends.onnx.fold import whole_numbers
from nmc.frontends.onnx.node import Ints, Unsupported, normal_axis
from nmc.frontends.onnx.table import Handler
from nmc.ir.op import Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import Take
from nmc.ir.types import Type

Vector = NDArray[np.int64]
Floats = NDArray[Any]


def take(call: Call, data: Value, axis: int, index: Vector, last: bool) -> Value:
    """Emit an index map along an axis of a sample: a crop where it is one, nothing where it is the identity."""
    if _identity(index, data.shape[axis]):
        return data
    suffix = "" if last else f"axis{axis + 1}"
    if len(index) == 1 or (np.diff(index) == 1).all():
        pad = [0] * (2 * len(data.shape))
        pad[axis], pad[len(data.shape) + axis] = -int(index[0]), int(index[-1]) + 1 - data.shape[axis]
        return call.emit(ann.Pad, suffix, data=data, pad=tuple(pad))
    return call.emit(Take, suffix, data=data, index=call.index(index, f"index{axis + 1}"), axis=axis)


def _identity(index: Vector, extent: int) -> bool:
    return len(index) == extent and bool(np.array_equal(index, np.arange(extent)))


def take_each(call: Call, data: Value, maps: dict[int, Vector]) -> Value:
    """Apply index maps along several axes; the last one carries the node's name."""
    useful = [axis for axis, index in maps.items() if not _identity(index, data.shape[axis])]
    for axis in useful:
        data = take(call, data, axis, maps[axis], axis == useful[-1])
    return data


def gather(call: Call) -> Value:
    """Convert Gather with constant indices behind the batch axis."""
    data, index = call.value(), call.array(1, "indices")
    if index.dtype.kind not in "iu":
        raise Unsupported(f"its indices are {index.dtype} instead of integers")
    axis = normal_axis(call.node.integer("axis", 0), len(data.shape) + 1)
    if axis == 0:
        raise Unsupported("it picks samples of the batch", "keep the batch axis as it is")
    extent = data.shape[axis - 1]
    check_index(index.size)
    flat = index.reshape(-1).astype(np.int64)
    if flat.size == 0 or flat.min() < -extent or flat.max() >= extent:
        raise Unsupported(f"its indices leave the {extent} elements of axis {axis}")
    picked = take(call, data, axis - 1, np.where(flat < 0, flat + extent, flat), index.ndim == 1)
    if index.ndim == 1:
        return picked
    shape = (*data.shape[: axis - 1], *index.shape, *data.shape[axis:])
    return call.emit(ann.Reshape, data=picked, shape=shape)


def tile(call: Call) -> Value:
    """Convert Tile behind the batch axis."""
    data = call.value()
    repeats = whole_numbers(call.array(1, "repeats"), "repeats")
    if len(repeats) != len(data.shape) + 1 or min(repeats) < 1 or repeats[0] != 1:
        raise Unsupported(f"it repeats a batch of {data.shape} by {repeats}", "leave the batch axis alone")
    _bounded(data, tuple(extent * count for extent, count in zip(data.shape, repeats[1:], strict=True)))
    maps = {}
    for axis, (extent, count) in enumerate(zip(data.shape, repeats[1:], strict=True)):
        if count > 1:
            check_index(extent * count)
            maps[axis] = np.tile(np.arange(extent), count)
    return take_each(call, data, maps)


def _bounded(data: Value, shape: Ints) -> None:
    if min(shape, default=1) < 1 or float(np.prod(np.asarray(shape, np.float64))) > MAX_VALUE:
        raise Unsupported(f"it makes {shape} of {data.shape} a sample", "use sensible extents")


def expand(call: Call) -> Value:
    """Convert Expand behind the batch axis."""
    data = call.value()
    wanted = whole_numbers(call.array(1, "shape"), "shape")
    rank = len(data.shape) + 1
    if len(wanted) > rank or (len(wanted) == rank and wanted[0] not in (1, call.net.batch)):
        raise Unsupported(f"it expands a batch of {data.shape} to {wanted}", "leave the batch axis alone")
    rest = (1,) * (rank - 1 - len(wanted)) + wanted[-(rank - 1) :] if rank > 1 else ()
    _bounded(data, rest)
    shape = common_shape((data, Value("", Type("f32", rest))))
    return expanded(call, data, shape)


def depth_to_space(call: Call) -> Value:
    """Convert DepthToSpace and SpaceToDepth: reshape, transpose, reshape."""
    data, size = call.value(), call.node.integer("blocksize")
    if len(data.shape) != 3:
        raise Unsupported(f"it takes channels and two spatial axes, not {data.shape}")
    (channels, height, width), mode = data.shape, call.node.text("mode", "DCR")
    spreads = call.node.op_type == "DepthToSpace"
    fits = channels % (size * size) == 0 if spreads else height % size == 0 and width % size == 0
    if size < 1 or not fits or mode not in ("DCR", "CRD") or (mode == "CRD" and not spreads):
        raise Unsupported(f"blocks of {size} in a sample of {data.shape}, mode {mode}")
    if spreads:
        inner = channels // (size * size)
        split = (size, size, inner, height, width) if mode == "DCR" else (inner, size, size, height, width)
        perm = (2, 3, 0, 4, 1) if mode == "DCR" else (0, 3, 1, 4, 2)
        shape: Ints = (inner, height * size, width * size)
    else:
        split, perm = (channels, height // size, size, width // size, size), (2, 4, 0, 1, 3)
        shape = (channels * size * size, height // size, width // size)
    data = call.emit(ann.Reshape, "blocks", data=data, shape=split)
    data = call.emit(ann.Transpose, "order", data=data, perm=perm)
    return call.emit(ann.Reshape, data=data, shape=shape)


def resize(call: Call) -> Value:
    """Convert Resize and Upsample that pick the nearest element."""
    data, node = call.value(), call.node
    if (mode := node.text("mode", "nearest")) != "nearest":
        raise Unsupported(f"mode {mode!r}: only 'nearest' is supported", "upsample with mode 'nearest'")
    if node.op_type == "Upsample" or node.opset < 11:
        scales, sizes = _floats(call, 1, "scales"), None
        how, rounding = "asymmetric", "floor"
    else:
        scales, sizes = _floats(call, 2, "scales"), _floats(call, 3, "sizes")
        how = node.text("coordinate_transformation_mode", "half_pixel")
        rounding = node.text("nearest_mode", "round_prefer_floor")
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("it keeps an aspect ratio", "export with the scale of every axis")
    if "axes" in node.attrs:
        scales, sizes = _of_all_axes(call, scales, 1.0), _of_all_axes(call, sizes, 0.0)
    maps = _nearest_maps(data, scales, sizes, how, rounding)
    return take_each(call, data, maps)


def _floats(call: Call, index: int, what: str) -> Floats | None:
    if what in call.node.attrs:
        return np.asarray(call.node.numbers(what), np.float64)
    found = call.optional(index, what)
    return None if found is None or not found.size else found.astype(np.float64).reshape(-1)


def _of_all_axes(call: Call, given: Floats | None, other: float) -> Floats | None:
    """Scales or sizes (`other` 0: the extents) of all axes from those that the attribute ``axes`` names."""
    if given is None:
        return None
    shape = (1, *call.value().shape)
    axes = [normal_axis(axis, len(shape)) for axis in call.node.integers("axes")]
    if len(axes) != given.size or len(set(axes)) != len(axes):
        raise Unsupported(f"{given.size} scales or sizes of {len(axes)} axes")
    full = np.full(len(shape), other) if other else np.asarray(shape, np.float64)
    full[axes] = given
    return full


def _nearest_maps(
    data: Value, scales: Floats | None, sizes: Floats | None, how: str, rounding: str
) -> dict[int, Vector]:
    rank = len(data.shape) + 1
    given = scales if scales is not None else sizes
    if given is None or given.size != rank or not (given > 0).all() or not np.isfinite(given).all():
        raise Unsupported(f"scales or sizes of {rank} axes are needed, there is {given}")
    space = np.asarray(data.shape, np.float64)
    target = np.floor(space * given[1:]) if scales is not None else given[1:]
    if (scales is not None and given[0] != 1) or how not in _COORDINATES or rounding not in _NEAREST:
        raise Unsupported(
            f"scale {given[0]:g} of the batch axis, {how}, {rounding}", "export with mode 'nearest'"
        )
    _bounded(data, tuple(int(extent) for extent in np.minimum(target, 2.0 * MAX_VALUE)))
    maps = {}
    for axis, (extent, size) in enumerate(zip(data.shape, target.astype(int), strict=True)):
        if size == extent and (scales is None or given[axis + 1] == 1):
            continue
        check_index(int(size))
        scale = given[axis + 1] if scales is not None else size / extent
        places = np.arange(size, dtype=np.float32)  # as onnxruntime computes: ties fall as they do there
        where = _COORDINATES[how](places, np.float32(scale), extent, int(size))
        maps[axis] = np.clip(_NEAREST[rounding](where), 0, extent - 1).astype(np.int64)
    return maps


def _half_pixel(x: Floats, scale: Any, extent: int, size: int) -> Floats:
    return np.asarray((x + np.float32(0.5)) / scale - np.float32(0.5))


def _symmetric(x: Floats, scale: Any, extent: int, size: int) -> Floats:
    adjusted = size / (scale * extent)
    return np.asarray(extent / 2 * (1 - adjusted) + _half_pixel(x, scale, extent, size))


#: Place in the operand of an element of the result, by ``coordinate_transformation_mode`` (ONNX operator Resize).
_COORDINATES: MappingProxyType[str, Callable[[Floats, Any, int, int], Floats]] = MappingProxyType(
    {
        "align_corners": lambda x, scale, extent, size: (
            x * np.float32(extent - 1) / np.float32(max(size - 1, 1))
        ),
        "asymmetric": lambda x, scale, extent, size: x / scale,
        "half_pixel": _half_pixel,
        "half_pixel_symmetric": _symmetric,
        "pytorch_half_pixel": lambda x, scale, extent, size: (
            _half_pixel(x, scale, extent, size) if size > 1 else 0 * x
        ),
    }
)
#: What ``nearest_mode`` makes of a place between two elements.
_NEAREST: MappingProxyType[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        "ceil": np.ceil,
        "floor": np.floor,
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    }
)

_RESIZE = (
    "axes coordinate_transformation_mode nearest_mode mode scales keep_aspect_ratio_policy cubic_coeff_a "
    "exclude_outside extrapolation_value antialias height_scale width_scale"
)
_BEHIND = "Behind the batch axis."

HANDLERS = (
    Handler("DepthToSpace", depth_to_space, (1, 1), "blocksize mode", "Both modes."),
    Handler("Expand", expand, (2, 2), "", f"Constant shape. {_BEHIND}"),
    Handler("Gather", gather, (2, 2), "axis", f"Constant indices. {_BEHIND}"),
    Handler("Resize", resize, (1, 4), _RESIZE, "Mode nearest, constant scales or sizes."),
    Handler("SpaceToDepth", depth_to_space, (1, 1), "blocksize mode", "Two spatial axes, mode DCR."),
    Handler("Tile", tile, (2, 2), "", f"Constant repeats. {_BEHIND}"),
    Handler("Upsample", resize, (1, 2), "mode scales", "Mode nearest, constant scales."),
)
