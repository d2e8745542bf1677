"""Constant folding: operators whose inputs are all known, computed with numpy.

Arrays of one repeated value are kept as stride-0 broadcasts, so that the weights of a model that fills them
with ConstantOfShape cost nothing. `Folder` bounds the memory that all folding together may take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.frontends.onnx.grid import dequantize, quantize
from nmc.frontends.onnx.node import Node, Unsupported, normal_axes, normal_axis
from nmc.frontends.onnx.tensors import BFLOAT16, DTYPES, MAX_ELEMENTS, MAX_RANK
from nmc.ir.dataclass import dataclass

Array = NDArray[Any]
Args = Sequence[Array | None]

#: Elements that folding may write in all: 2 GiB as float32, thrice what the largest weights of VGG-19 take.
BUDGET = 1 << 29

#: Longest list of axes, extents, bounds or parts.
MAX_LIST = 1 << 16

#: Extents that folding gives in place of an unknown batch size. Two runs that differ tell what depends on it.
BATCH_MARKS = (1_000_003, 1_000_033)


@dataclass(frozen=True)
class Known:
    """The value of a constant tensor.

    Parameters
    ----------
    array : ndarray
        The value.
    other : ndarray or None
        The value under the second of `BATCH_MARKS`, when the two differ.
    """

    array: Array
    other: Array | None = None


@dataclass
class Folder:
    """Folds nodes within a budget.

    Parameters
    ----------
    left : int
        Elements that may still be written.
    """

    left: int = field(default=BUDGET)

    def fold(self, node: Node, args: Sequence[Known | None]) -> tuple[Known, ...]:
        """Compute the outputs of a node that `FOLDABLE` holds.

        Raises
        ------
        Unsupported
            When the node is malformed, or larger than the budget.
        """
        first = self._compute(node, [known.array if known else None for known in args])
        if not any(known and known.other is not None for known in args):
            return tuple(Known(array) for array in first)
        second = self._compute(node, [_other(known) for known in args])
        return tuple(
            Known(one) if _equal(one, two) else Known(one, two)
            for one, two in zip(first, second, strict=True)
        )

    def _compute(self, node: Node, args: Args) -> tuple[Array, ...]:
        rule = FOLDABLE[node.op_type]
        try:
            with np.errstate(all="ignore"):
                if rule.bound is not None:
                    self._spend(rule.bound(node, args))
                found = rule.run(node, args)
        except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
            raise Unsupported(
                f"its constant inputs do not fit it: {error}", "check the model with onnx.checker"
            ) from None
        outputs = found if isinstance(found, tuple) else (np.asarray(found),)
        if rule.bound is None:
            self._spend(sum(array.size for array in outputs if _is_new(array, args)))
        return outputs

    def _spend(self, size: int) -> None:
        if size > self.left:
            raise Unsupported(
                f"computing it takes {size:,} elements of memory, {self.left:,} are allowed",
                "fold the constants beforehand, with onnxsim or the exporter's constant folding",
            )
        self.left -= size


def _is_new(array: Array, args: Args) -> bool:
    return not repeats(array) and not any(arg is not None and np.may_share_memory(array, arg) for arg in args)


def _other(known: Known | None) -> Array | None:
    return None if known is None else known.array if known.other is None else known.other


def _equal(one: Array, two: Array) -> bool:
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if repeats(one) and repeats(two):
        return bool(_sole(one) == _sole(two))
    return bool(np.array_equal(one, two))


def repeats(array: Array) -> bool:
    """Tell whether an array is one element in memory."""
    strides = zip(array.strides, array.shape, strict=True)
    return array.size > 0 and all(stride == 0 or extent == 1 for stride, extent in strides)


def _sole(array: Array) -> Array:
    return np.asarray(array[(0,) * array.ndim])


def spread(value: Array, shape: tuple[int, ...]) -> Array:
    """Broadcast without memory, after checking the size."""
    if len(shape) > MAX_RANK or min(shape, default=0) < 0 or prod(shape) > MAX_ELEMENTS:
        raise Unsupported(f"a constant of shape {shape[:8]} is negative or too large")
    return np.broadcast_to(value, shape)


def cheap_map(change: Callable[[Array], Array], array: Array) -> Array:
    """Apply an element-wise function, once where all elements are one in memory."""
    if repeats(array):
        return np.broadcast_to(np.asarray(change(_sole(array))), array.shape)
    return np.asarray(change(array))


def as_float32(array: Array) -> Array:
    """Convert to float32, keeping stride-0 broadcasts."""
    return array if array.dtype == np.float32 else cheap_map(lambda part: part.astype(np.float32), array)


def _elementwise_size(node: Node, args: Args) -> int:
    arrays = [array for array in args if array is not None]
    if all(map(repeats, arrays)):
        return 0
    return prod(np.broadcast_shapes(*(array.shape for array in arrays)))


@dataclass(frozen=True)
class Rule:
    """How one operator is folded.

    Parameters
    ----------
    run : callable (Node, args) -> ndarray or tuple of ndarray
        Computes it.
    bound : callable (Node, args) -> int, or None
        What `run` may write at most, None when it gives views or no more than its inputs hold.
    """

    run: Callable[[Node, Args], Array | tuple[Array, ...]]
    bound: Callable[[Node, Args], int] | None = None


def _elementwise(function: Callable[..., Any]) -> Rule:
    def run(node: Node, args: Args) -> Array:
        arrays = [_need(args, index) for index in range(len(args))]
        if all(map(repeats, arrays)):
            shape = np.broadcast_shapes(*(array.shape for array in arrays))
            return spread(np.asarray(function(*map(_sole, arrays))), shape)
        return np.asarray(function(*arrays))

    return Rule(run, _elementwise_size)


def _need(args: Args, index: int) -> Array:
    found = args[index] if index < len(args) else None
    if found is None:
        raise Unsupported(f"input {index} is missing")
    return found


def whole_numbers(array: Array, what: str) -> tuple[int, ...]:
    """Give the elements of a constant that must hold integers.

    Raises
    ------
    Unsupported
        When it holds something else.
    """
    if array.dtype.kind not in "iub":
        raise Unsupported(f"its {what} holds {array.dtype} instead of integers")
    if array.size > MAX_LIST:
        raise Unsupported(f"its {what} holds {array.size:,} numbers, far more than there are axes")
    return tuple(int(item) for item in array.reshape(-1))


def _integers(args: Args, index: int) -> tuple[int, ...]:
    return whole_numbers(_need(args, index), f"input {index}")


def axes_of(node: Node, args: Args, index: int, rank: int) -> tuple[int, ...] | None:
    """Axes from the attribute (older operator sets) or from input `index`, None where not given."""
    if "axes" in node.attrs:
        return normal_axes(node.integers("axes"), rank)
    if index < len(args) and args[index] is not None:
        return normal_axes(_integers(args, index), rank)
    return None


def _reshaped(array: Array, shape: tuple[int, ...]) -> Array:
    return spread(_sole(array), shape) if repeats(array) else array.reshape(shape)


def _divide(one: Array, two: Array) -> Array:
    if np.issubdtype(one.dtype, np.integer):
        sign = np.sign(one) * np.sign(two)
        return np.asarray(sign * (np.abs(one) // np.abs(two))).astype(one.dtype)
    return np.asarray(one / two)


def _power(base: Array, exponent: Array) -> Array:
    return np.asarray(np.power(base, exponent)).astype(base.dtype)


def _constant(node: Node, args: Args) -> Array:
    if "value" in node.attrs:
        return node.tensor("value")
    if "value_float" in node.attrs:
        return np.asarray(node.number("value_float"), np.float32)
    if "value_floats" in node.attrs:
        return np.asarray(node.attrs["value_floats"], np.float32)
    if "value_int" in node.attrs:
        return np.asarray(node.attrs["value_int"], np.int64)
    if "value_ints" in node.attrs:
        return np.asarray(node.attrs["value_ints"], np.int64)
    raise Unsupported("it holds a sparse tensor or strings", "store the constant as a dense tensor")


def _constant_of_shape(node: Node, args: Args) -> Array:
    value = node.tensor("value").reshape(-1) if "value" in node.attrs else np.zeros(1, np.float32)
    if value.size != 1:
        raise Unsupported(f"attribute 'value' holds {value.size} elements instead of one")
    return spread(value[0], _integers(args, 0))


def _reshape(node: Node, args: Args) -> Array:
    data, wanted = _need(args, 0), list(_integers(args, 1))
    if not node.integer("allowzero", 0):
        wanted = [data.shape[axis] if extent == 0 else extent for axis, extent in enumerate(wanted)]
    if wanted.count(-1) == 1:
        others = -prod(wanted)
        wanted[wanted.index(-1)] = data.size // others if others else 0
    if prod(wanted) != data.size or min(wanted, default=0) < 0:
        raise Unsupported(f"{data.size} elements do not reshape to {tuple(wanted)}")
    return _reshaped(data, tuple(wanted))


def _flatten(node: Node, args: Args) -> Array:
    data = _need(args, 0)
    axis = node.integer("axis", 1)
    axis = data.ndim if axis == data.ndim else normal_axis(axis, data.ndim)
    return _reshaped(data, (prod(data.shape[:axis]), prod(data.shape[axis:])))


def _squeeze(node: Node, args: Args) -> Array:
    data = _need(args, 0)
    axes = axes_of(node, args, 1, data.ndim)
    if axes is None:
        axes = tuple(axis for axis, extent in enumerate(data.shape) if extent == 1)
    return np.squeeze(data, axes)


def _unsqueeze(node: Node, args: Args) -> Array:
    data = _need(args, 0)
    count = len(node.integers("axes")) if "axes" in node.attrs else len(_integers(args, 1))
    if data.ndim + count > MAX_RANK:
        raise Unsupported(f"the result has rank {data.ndim + count}")
    axes = axes_of(node, args, 1, data.ndim + count) or ()
    return np.expand_dims(data, axes)


def _transpose(node: Node, args: Args) -> Array:
    data = _need(args, 0)
    return data.transpose(node.integers("perm", tuple(range(data.ndim))[::-1], count=data.ndim))


def _concat(node: Node, args: Args) -> Array:
    arrays = [_need(args, index) for index in range(len(args))]
    return np.concatenate(arrays, axis=normal_axis(node.integer("axis"), arrays[0].ndim))


def _total_size(node: Node, args: Args) -> int:
    return sum(array.size for array in args if array is not None)


def _slice(node: Node, args: Args) -> Array:
    data = _need(args, 0)
    axes, starts, stops, steps = slice_arguments(node, args, data.ndim)
    cuts = [slice(None)] * data.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        extent = data.shape[axis]
        from_end = step < 0 and stop < -extent
        cuts[axis] = slice(start, None if from_end else stop, step)
    return data[tuple(cuts)]


def slice_arguments(node: Node, args: Args, rank: int) -> tuple[tuple[int, ...], ...]:
    """Axes, starts, stops and steps of a Slice, from attributes (opset 9) or inputs.

    Raises
    ------
    Unsupported
        When they do not belong together.
    """
    if "starts" in node.attrs:
        starts, stops = node.integers("starts", bounded=False), node.integers("ends", bounded=False)
        axes, steps = node.integers("axes") if "axes" in node.attrs else None, None
    else:
        starts, stops = _integers(args, 1), _integers(args, 2)
        axes = _integers(args, 3) if len(args) > 3 and args[3] is not None else None
        steps = _integers(args, 4) if len(args) > 4 and args[4] is not None else None
    axes = tuple(normal_axis(axis, rank) for axis in (range(len(starts)) if axes is None else axes))
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(stops) == len(axes) == len(steps) == len(set(axes)) or 0 in steps:
        raise Unsupported("starts, ends, axes and steps do not belong together")
    return axes, tuple(starts), tuple(stops), steps


def _split(node: Node, args: Args) -> tuple[Array, ...]:
    data = _need(args, 0)
    axis = normal_axis(node.integer("axis", 0), data.ndim)
    sizes = split_sizes(node, args, data.shape[axis])
    return tuple(np.split(data, np.cumsum(sizes)[:-1], axis=axis))


def split_sizes(node: Node, args: Args, extent: int) -> tuple[int, ...]:
    """Extents of the parts of a Split, which add up to `extent`.

    Raises
    ------
    Unsupported
        When they do not.
    """
    count = len(node.outputs)
    if "split" in node.attrs:
        sizes = node.integers("split")
    elif len(args) > 1 and args[1] is not None:
        sizes = _integers(args, 1)
    else:
        part = -(-extent // node.integer("num_outputs", count)) if count else 0
        sizes = (*[part] * (count - 1), extent - part * (count - 1))
    if len(sizes) != count or sum(sizes) != extent or min(sizes, default=0) < 0:
        raise Unsupported(f"parts of {sizes} do not make up {extent} elements in {count} outputs")
    return sizes


def _gather(node: Node, args: Args) -> Array:
    data, where = _need(args, 0), _need(args, 1)
    axis = normal_axis(node.integer("axis", 0), data.ndim)
    if where.dtype.kind not in "iu":
        raise Unsupported(f"its indices are {where.dtype} instead of integers")
    return np.take(data, where.astype(np.int64), axis=axis)


def _gather_size(node: Node, args: Args) -> int:
    data, where = _need(args, 0), _need(args, 1)
    axis = normal_axis(node.integer("axis", 0), data.ndim)
    return prod(data.shape[:axis]) * where.size * prod(data.shape[axis + 1 :])


def _expand(node: Node, args: Args) -> Array:
    data, shape = _need(args, 0), _integers(args, 1)
    spread(np.zeros(()), shape)
    return spread(data, np.broadcast_shapes(data.shape, shape))


def _range(node: Node, args: Args) -> Array:
    start, stop, step = (_need(args, index).reshape(-1)[0] for index in range(3))
    return np.arange(start, stop, step, dtype=np.asarray(start).dtype)


def _range_size(node: Node, args: Args) -> int:
    start, stop, step = (float(_need(args, index).reshape(-1)[0]) for index in range(3))
    return max(0, int(np.ceil((stop - start) / step)))


def _cast(node: Node, args: Args) -> Array:
    code = node.integer("to")
    if code not in DTYPES:
        raise Unsupported(f"it casts to element type {code}", "cast to float32")
    target = np.dtype("float32" if code == BFLOAT16 else DTYPES[code])
    return cheap_map(lambda part: part.astype(target), _need(args, 0))


def _reduce(function: Callable[..., Any]) -> Rule:
    def run(node: Node, args: Args) -> Array:
        data = _need(args, 0)
        axes = axes_of(node, args, 1, data.ndim)
        if axes is None and node.integer("noop_with_empty_axes", 0):
            return data
        return np.asarray(function(data, axis=axes, keepdims=bool(node.integer("keepdims", 1)))).astype(
            data.dtype
        )

    return Rule(run, lambda node, args: _need(args, 0).size)


def _mean(data: Array, **how: Any) -> Array:
    return np.asarray(np.mean(data, dtype=np.float64, **how))


def _shape(node: Node, args: Args) -> Array:
    return shape_slice(node, _need(args, 0).shape)


def shape_slice(node: Node, shape: Sequence[int]) -> Array:
    """What Shape gives for a tensor of this shape (with its `start` and `end`)."""
    return np.asarray(shape[node.integer("start", 0) : node.integer("end", len(shape))], np.int64)


def _first(node: Node, args: Args) -> Array:
    return _need(args, 0)


def _sum_all(*arrays: Array) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = np.asarray(total + array)
    return total


def _on_grid(function: Callable[..., Array]) -> Rule:
    def run(node: Node, args: Args) -> Array:
        zero = args[2] if len(args) > 2 else None
        return function(node, _need(args, 0), _need(args, 1), zero)

    return Rule(run, lambda node, args: _need(args, 0).size)


def _half_even(array: Array) -> Array:
    return np.asarray(np.rint(array)).astype(array.dtype)


_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": np.abs, "Ceil": np.ceil, "Exp": np.exp, "Floor": np.floor, "Log": np.log, "Neg": np.negative,
    "Not": np.logical_not, "Reciprocal": np.reciprocal, "Round": _half_even, "Sqrt": np.sqrt,
}  # fmt: skip
_BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add, "And": np.logical_and, "Div": _divide, "Equal": np.equal, "Greater": np.greater,
    "Less": np.less, "Max": lambda *items: np.max(np.broadcast_arrays(*items), axis=0),
    "Min": lambda *items: np.min(np.broadcast_arrays(*items), axis=0), "Mul": np.multiply,
    "Or": np.logical_or, "Pow": _power, "Sub": np.subtract, "Sum": _sum_all, "Where": np.where,
}  # fmt: skip

FOLDABLE = MappingProxyType(
    {name: _elementwise(function) for name, function in {**_UNARY, **_BINARY}.items()}
    | {
        "Cast": Rule(_cast, lambda node, args: 0 if repeats(_need(args, 0)) else _need(args, 0).size),
        "Concat": Rule(_concat, _total_size),
        "Constant": Rule(_constant),
        "ConstantOfShape": Rule(_constant_of_shape),
        "DequantizeLinear": _on_grid(dequantize),
        "Dropout": Rule(_first),
        "Expand": Rule(_expand),
        "Flatten": Rule(_flatten, _total_size),
        "Gather": Rule(_gather, _gather_size),
        "Identity": Rule(_first),
        "QuantizeLinear": _on_grid(quantize),
        "Range": Rule(_range, _range_size),
        "ReduceMax": _reduce(np.max),
        "ReduceMean": _reduce(_mean),
        "ReduceMin": _reduce(np.min),
        "ReduceProd": _reduce(np.prod),
        "ReduceSum": _reduce(np.sum),
        "Reshape": Rule(_reshape),
        "Shape": Rule(_shape),
        "Size": Rule(lambda node, args: np.asarray(_need(args, 0).size, np.int64)),
        "Slice": Rule(_slice),
        "Split": Rule(_split),
        "Squeeze": Rule(_squeeze),
        "Transpose": Rule(_transpose),
        "Unsqueeze": Rule(_unsqueeze),
    }
)
