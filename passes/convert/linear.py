"""Linear maps between populations: what stands between one neuron and the next in a trained network.

A value of an ``ann`` module that is not itself a population is a sum of `Term`, each a chain of linear ops applied
to one population, plus a constant array. A chain that one structured projection can carry becomes that projection:
pooling before a convolution is folded into its kernel, padding into its border, concatenation into a slice of its
input channels, whatever stands before a dense layer into its matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.op import Op, Value
from nmc.ir.ops import ann, kernels

Array = NDArray[Any]
Ints = tuple[int, ...]

#: A chain is turned into a plain matrix when that has at most this many elements.
MAX_MATRIX = 1 << 24


@dataclass(frozen=True)
class Source:
    """A population and what a spike of it stands for.

    Parameters
    ----------
    spikes : Value
        Its spikes.
    scale : ndarray
        Activation of a firing rate of one, broadcastable to the population's shape, float64.
    """

    spikes: Value
    scale: Array


@dataclass(frozen=True)
class Term:
    """A chain of linear ops on a population, in the order of application; biases are kept elsewhere."""

    source: Source
    chain: tuple[Op, ...] = ()

    @property
    def shape(self) -> Ints:
        """Shape of the result."""
        return self.chain[-1].result.shape if self.chain else self.source.spikes.shape


@dataclass(frozen=True)
class ConvMap:
    """A convolution from a population."""

    weight: Array
    stride: Ints
    pad: Ints
    groups: int


@dataclass(frozen=True)
class DenseMap:
    """A matrix (outputs, inputs) from a population, both row-major; `shape` is that of the outputs."""

    weight: Array
    shape: Ints


@dataclass(frozen=True)
class ScaleMap:
    """A factor for each neuron, broadcastable to the population's shape."""

    weight: Array


LinearMap = ConvMap | DenseMap | ScaleMap


def realise(term: Term) -> LinearMap | None:
    """Find the one projection that carries a chain; its weights include the source's scale.

    Returns
    -------
    ConvMap, DenseMap, ScaleMap or None
        None when no structured projection does and the matrix would exceed `MAX_MATRIX`.
    """
    found = _structured(term)
    if found is None and term.source.spikes.type.size * prod(term.shape) <= MAX_MATRIX:
        found = DenseMap(_matrix(term), term.shape)
    return found


def realisable(term: Term) -> bool:
    """Tell whether `realise` finds a projection, without computing weights where that is dear."""
    small = term.source.spikes.type.size * prod(term.shape) <= MAX_MATRIX
    return small and _ends_dense(term) or _structured(term) is not None or small


def _ends_dense(term: Term) -> bool:
    return bool(term.chain) and isinstance(term.chain[-1], ann.Dense)


def _structured(term: Term) -> ConvMap | ScaleMap | None:
    """Fold the chain op by op into a scale or a convolution."""
    done: ConvMap | ScaleMap | None = ScaleMap(term.source.scale)
    shape = term.source.spikes.shape
    space = shape[1:]
    pending: Ints | None = None
    chain = list(term.chain)
    for op in chain:
        if pending is not None and not isinstance(op, ann.Conv):
            return None
        if isinstance(op, ann.Pad):
            pending = _spatial_border(op) if isinstance(done, ScaleMap) else None
            if pending is None:
                return None
            continue
        done = _absorb(done, op, pending, shape, space)
        pending = None
        if done is None:
            return None
    return done if pending is None else None


def _absorb(
    done: ConvMap | ScaleMap | None, op: Op, pending: Ints | None, shape: Ints, space: Ints
) -> ConvMap | ScaleMap | None:
    if isinstance(op, ann.BatchNorm | ann.Affine):
        scale = op.factors()[0] if isinstance(op, ann.BatchNorm) else np.asarray(op.scale.array(), np.float64)
        return _scaled(done, scale, len(op.data.shape), isinstance(op, ann.BatchNorm))
    if isinstance(op, ann.Conv):
        weight, groups = np.asarray(op.weight.array(), np.float64), op.groups
        if any(step != 1 for step in op.dilation):
            weight = _dilated(weight, op.dilation)
        if isinstance(done, ScaleMap):
            border = pending or (0,) * (2 * (len(shape) + 0))
            return _conv_of_scale(done, weight, op, groups, border, shape)
        return _conv_of_pool(done, weight, op, space) if pending is None and done is not None else None
    if isinstance(op, ann.AvgPool) and isinstance(done, ScaleMap):
        return _pool_of_scale(done, op, shape)
    return None


def _scaled(
    done: ConvMap | ScaleMap | None, scale: Array, rank: int, channels: bool
) -> ConvMap | ScaleMap | None:
    if channels:
        scale = scale.reshape(-1, *[1] * (rank - 1))
    if isinstance(done, ScaleMap):
        return ScaleMap(done.weight * scale)
    if isinstance(done, ConvMap) and scale.size in (1, done.weight.shape[0]):
        if scale.size > 1 and scale.shape[:1] != done.weight.shape[:1]:
            return None
        return replace(done, weight=done.weight * scale.reshape(-1, *[1] * (done.weight.ndim - 1)))
    return None


def _spatial_border(op: ann.Pad) -> Ints | None:
    """The border of a zero padding (its channels count too: a concatenation places channels so)."""
    return op.pad


def _conv_of_scale(
    done: ScaleMap, weight: Array, op: ann.Conv, groups: int, border: Ints, shape: Ints
) -> ConvMap | None:
    rank = len(shape)
    before, after = border[:rank] or (0,) * rank, border[rank:] or (0,) * rank
    if before[0] or after[0]:
        if groups != 1 or min(before[0], after[0]) < 0:
            return None
        weight = weight[:, before[0] : before[0] + shape[0]]
    scale = done.weight
    if scale.size == 1:
        factor = np.full(shape[0], float(scale.reshape(-1)[0]))
    elif scale.shape == (shape[0], *[1] * (rank - 1)):
        factor = scale.reshape(-1)
    else:
        return None
    half = rank - 1
    pads = tuple(a + b for a, b in zip(op.pad, (*before[1:], *after[1:]), strict=True))
    return ConvMap(_scale_inputs(weight, factor, groups), op.stride, pads[: 2 * half], groups)


def _scale_inputs(weight: Array, factor: Array, groups: int) -> Array:
    """Multiply the kernel's input channels by `factor` (C_in,)."""
    per_group = weight.shape[0] // groups
    rows = np.repeat(factor.reshape(groups, -1), per_group, axis=0)
    return weight * rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))


def _pool_of_scale(done: ScaleMap, op: ann.AvgPool, shape: Ints) -> ConvMap | None:
    divisors = op.divisors()
    if any(step != 1 for step in op.dilation) or (divisors != divisors.flat[0]).any():
        return None
    weight = np.full((shape[0], 1, *op.kernel), 1.0 / float(divisors.flat[0]))
    scale = done.weight
    if scale.size != 1 and scale.shape != (shape[0], *[1] * (len(shape) - 1)):
        return None
    factor = np.broadcast_to(scale.reshape(-1), (shape[0],))
    return ConvMap(_scale_inputs(weight, factor, shape[0]), op.stride, op.pad, shape[0])


def _conv_of_pool(done: ConvMap, weight: Array, op: ann.Conv, space: Ints) -> ConvMap | None:
    """Fold a non-overlapping, unpadded pooling into the kernel that follows it."""
    kernel = done.weight.shape[2:]
    depthwise = done.groups == done.weight.shape[0] and done.weight.shape[1] == 1
    flat = done.weight.reshape(done.weight.shape[0], -1)
    uniform = depthwise and bool((flat == flat[:, :1]).all())
    if not uniform or kernel != done.stride or any(done.pad):
        return None
    covered = all(extent % step == 0 for extent, step in zip(space, done.stride, strict=True))
    if any(op.pad) and not covered:
        return None  # the border would fall on elements that the pooling drops
    spread = _scale_inputs(weight, flat[:, 0], op.groups)
    for axis, step in enumerate(done.stride):
        spread = np.repeat(spread, step, axis=2 + axis)
    stride = tuple(a * b for a, b in zip(op.stride, done.stride, strict=True))
    pad = tuple(a * b for a, b in zip(op.pad, done.stride * 2, strict=True))
    return ConvMap(spread, stride, pad, op.groups)


def _dilated(weight: Array, dilation: Ints) -> Array:
    """Write the zeros of a dilated kernel out."""
    shape = tuple(d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    full = np.zeros((*weight.shape[:2], *shape))
    full[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = weight
    return full


def _matrix(term: Term) -> Array:
    """The chain as a matrix (outputs, inputs), by applying it to unit vectors."""
    shape = term.source.spikes.shape
    size = prod(shape)
    scale = np.broadcast_to(term.source.scale, shape).reshape(-1)
    chain = list(term.chain)
    last = chain.pop() if chain and isinstance(chain[-1], ann.Dense) else None
    columns = []
    for start in range(0, size, 512):
        stop = min(start + 512, size)
        data: Array = np.zeros((stop - start, size))
        data[np.arange(stop - start), np.arange(start, stop)] = scale[start:stop]
        data = data.reshape(stop - start, *shape)
        for op in chain:
            data = op.run(data)
        if isinstance(last, ann.Dense):
            data = kernels.dense(data, last.weight.array().astype(np.float64))
        columns.append(data.reshape(stop - start, -1))
    return np.ascontiguousarray(np.concatenate(columns).T)


def without_bias(op: Op, data: Value) -> Op:
    """The linear part of an op, applied to `data`."""
    if isinstance(op, ann.Conv | ann.Dense):
        return replace(op, data=data, bias=None)
    if isinstance(op, ann.BatchNorm):
        zero = np.zeros(op.mean.shape, np.float32)
        return replace(op, data=data, bias=replace(op.bias, data=zero), mean=replace(op.mean, data=zero))
    if isinstance(op, ann.Affine):
        return replace(op, data=data, offset=replace(op.offset, data=np.zeros(op.offset.shape, np.float32)))
    if isinstance(op, ann.Pad):
        return replace(op, data=data, value=0.0)
    return replace(op, data=data)  # type: ignore[call-arg]
