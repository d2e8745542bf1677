"""Linear maps between populations: what stands between one neuron and the next in a trained network.

A value of an ``ann`` module that is not itself a population is a sum of `Term`, each a chain of linear ops applied
to one population, plus a constant array. A chain that one structured projection can carry becomes that projection:
pooling before a convolution is folded into its kernel, padding into its border, concatenation into a slice of its
input channels, whatever stands before a dense layer into its matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import Take
from nmc.passes.convert.compose import border_is_empty, composite, permutation, ungrouped

Array = NDArray[Any]
Ints = tuple[int, ...]

#: Ops that only bring elements to other places (or to several).
MOVING = (ann.Reshape, ann.Transpose, ann.Pad, Take)
#: Those that bring no zeros in.
SHUFFLING = (ann.Reshape, ann.Transpose, Take)
#: A chain is turned into a plain matrix when that has at most this many elements.
MAX_MATRIX = 1 << 24
#: Elements of a few columns of a matrix that are computed at once.
_AT_ONCE = 1 << 22
#: Else its synapses are listed when the matrix has at most this many, nearly all of which are zero.
MAX_LISTED = 1 << 28
#: So many of them at most.
MAX_SYNAPSES = 1 << 24
#: Layers behind each other become one convolution when its kernel has at most this many elements.
MAX_KERNEL = 1 << 24


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


@dataclass(frozen=True)
class SparseMap:
    """Synapses one by one, by target: `weight`, `source` and `target` (flat indices) of each, into `shape`."""

    weight: Array
    source: Array
    target: Array
    shape: Ints

    def padded(self, values: Array) -> Array:
        """Bring one number a synapse to (targets, most synapses of one), with zeros behind."""
        counts = np.bincount(self.target, minlength=prod(self.shape))
        place = np.arange(len(self.target)) - (np.cumsum(counts) - counts)[self.target]
        made: Array = np.zeros((len(counts), max(int(counts.max(initial=0)), 1)), values.dtype)
        made[self.target, place] = values
        return made


LinearMap = ConvMap | DenseMap | ScaleMap | SparseMap


def realise(term: Term) -> LinearMap | None:
    """Find the one projection that carries a chain; its weights include the source's scale.

    Returns
    -------
    LinearMap or None
        None when no structured projection does, the matrix would exceed `MAX_MATRIX` and its synapses are too many to
        be listed.
    """
    found = _structured(term)
    if found is not None:
        return found
    if _moves_only(term.chain[:-1]) and _ends_dense(term):
        return DenseMap(_gathered(term), term.shape)
    if _small(term):
        return DenseMap(_matrix(term), term.shape)
    return _listed(term) if listable(term) else None


def listable(term: Term) -> bool:
    """Tell whether `realise` would try to list the synapses of a chain that is no structured projection.

    Upsampling (nearest, or a transposed convolution) before a convolution is such a chain.
    """
    spreads = any(isinstance(op, MOVING) for op in term.chain)
    return spreads and term.source.spikes.type.size * prod(term.shape) <= MAX_LISTED


def realisable(term: Term) -> bool:
    """Tell whether `realise` finds a projection, without computing weights where that is dear."""
    return (
        _small(term) or (_moves_only(term.chain[:-1]) and _ends_dense(term)) or _structured(term) is not None
    )


def _small(term: Term) -> bool:
    return term.source.spikes.type.size * prod(term.shape) <= MAX_MATRIX


def _ends_dense(term: Term) -> bool:
    return bool(term.chain) and isinstance(term.chain[-1], ann.Dense)


def _moves_only(chain: tuple[Op, ...]) -> bool:
    """Whether a chain only brings elements to other places."""
    return all(isinstance(op, MOVING) for op in chain)


def _structured(term: Term) -> ConvMap | ScaleMap | None:
    """Fold the chain op by op into a scale or a convolution; a border waits for the op that follows it."""
    done: ConvMap | ScaleMap | None = ScaleMap(term.source.scale)
    shape = term.source.spikes.shape
    border: Ints | None = None
    chain = list(term.chain)
    while chain:
        op = chain.pop(0)
        if border is None and (found := _reordered(done, [op, *chain], shape)) is not None:
            done, taken = found
            del chain[: taken - 1]
            continue
        if isinstance(op, ann.Pad):
            border = _joined(border, op.pad)
            if border is None:
                return None
            continue
        if isinstance(op, SHUFFLING):
            return None
        if border is not None and not _takes_border(done, op):
            done, border = _bordered(done, border, shape), None
        done, border = _absorb(done, op, border, shape), None
        if done is None:
            return None
    return done if border is None else _bordered(done, border, shape)


def _takes_border(done: ConvMap | ScaleMap | None, op: Op) -> bool:
    """Whether an op can be folded together with the border in front of it."""
    pools = ann.AvgPool | ann.SumPool
    return isinstance(op, ann.Conv) or (isinstance(op, pools) and isinstance(done, ScaleMap))


def _reordered(done: ConvMap | ScaleMap | None, chain: list[Op], shape: Ints) -> tuple[ConvMap, int] | None:
    """The first ops of a chain as one, where they only reorder, drop and add whole channels; and how many they are."""
    moving = next((at for at, op in enumerate(chain) if not isinstance(op, MOVING)), len(chain))
    shuffling = next((at for at, op in enumerate(chain) if not isinstance(op, SHUFFLING)), len(chain))
    for count in dict.fromkeys((moving, shuffling)):
        if any(isinstance(op, SHUFFLING) for op in chain[:count]):
            fetched = _shuffled(done, chain[:count], shape)
            if fetched is not None:
                return fetched, count
    return None


def _shuffled(done: ConvMap | ScaleMap | None, moving: list[Op], shape: Ints) -> ConvMap | None:
    """Channels in another order (as in ShuffleNet): a kernel of one element that fetches each."""
    factor = _channel_factor(done.weight, shape) if isinstance(done, ScaleMap) else None
    if factor is None:
        return None
    places: Array = np.arange(1, prod(shape) + 1).reshape(1, *shape)
    for op in moving:
        places = op.run(places)
    source = permutation(places - 1, shape)
    if source is None or len(source) * len(factor) > MAX_KERNEL:
        return None
    ones = (1,) * (len(shape) - 1)
    fetched: Array = np.eye(len(factor))[source] * factor
    fetched[source < 0] = 0.0
    return ConvMap(fetched.reshape(*fetched.shape, *ones), ones, (0,) * (2 * len(ones)), 1)


def _joined(first: Ints | None, second: Ints) -> Ints | None:
    """Two borders in a row as one; None where the second pads what the first has cropped."""
    if first is None:
        return second
    lost = any(a < 0 < b for a, b in zip(first, second, strict=True))
    return None if lost else tuple(a + b for a, b in zip(first, second, strict=True))


def _absorb(
    done: ConvMap | ScaleMap | None, op: Op, border: Ints | None, shape: Ints
) -> ConvMap | ScaleMap | None:
    if isinstance(op, ann.BatchNorm | ann.Affine):
        return _scaled(done, _factor(op))
    if isinstance(op, ann.Conv):
        weight = _dilated(np.asarray(op.weight.array(), np.float64), op.dilation)
        if isinstance(done, ScaleMap):
            return _conv_of_scale(done, weight, op, border or (0,) * (2 * len(shape)), shape)
        return _conv_of_conv(done, weight, op, border, shape[1:]) if done is not None else None
    if isinstance(op, ann.AvgPool | ann.SumPool):
        if isinstance(done, ScaleMap):
            return _pool_of_scale(done, op, border or (0,) * (2 * len(shape)), shape)
        window = _window(op)
        if done is None or window is None:
            return None
        weight = np.broadcast_to(window, (len(done.weight), *window.shape[1:]))
        return _behind(done, weight, (op.stride, op.pad, len(weight)), shape[1:])
    return None


def _factor(op: ann.BatchNorm | ann.Affine) -> Array:
    """What an op multiplies its operand with, in the operand's rank."""
    rank = len(op.data.shape)
    if isinstance(op, ann.BatchNorm):
        return op.factors()[0].reshape(-1, *[1] * (rank - 1))
    scale = np.asarray(op.scale.array(), np.float64)
    return scale.reshape((1,) * (rank - scale.ndim) + scale.shape)


def _scaled(done: ConvMap | ScaleMap | None, scale: Array) -> ConvMap | ScaleMap | None:
    if isinstance(done, ScaleMap):
        return ScaleMap(done.weight * scale)
    if isinstance(done, ConvMap) and scale.size in (1, scale.shape[0]):
        return replace(done, weight=done.weight * scale.reshape(-1, *[1] * (done.weight.ndim - 1)))
    return None


def _channel_factor(scale: Array, shape: Ints) -> Array | None:
    """A scale as one factor a channel (C,), None when it is not the same all over a channel."""
    if len(shape) < 2 or scale.size not in (1, shape[0]):
        return None
    if scale.size > 1 and scale.shape != (shape[0], *[1] * (len(shape) - 1)):
        return None
    return np.broadcast_to(scale.reshape(-1), (shape[0],))


def _bordered(done: ConvMap | ScaleMap | None, border: Ints, shape: Ints) -> ConvMap | None:
    """A border that no convolution follows: a kernel of one element that puts each channel in its place."""
    rank, ones = len(shape), (1,) * (len(shape) - 1)
    pads = (*border[1:rank], *border[rank + 1 :])
    if (border[0] or border[rank]) and not _room(done, border[0] + border[rank], shape[0]):
        return None
    if isinstance(done, ConvMap) and not any(pads):
        whole = ungrouped(done.weight, done.groups)
        placed = _placed(np.ones(len(whole)), border)
        return replace(done, weight=np.tensordot(placed, whole, axes=1), groups=1)
    factor = _channel_factor(done.weight, shape) if isinstance(done, ScaleMap) else None
    if factor is None:
        return None
    if not border[0] and not border[rank]:
        return ConvMap(factor.reshape(-1, 1, *ones), ones, pads, shape[0])
    placed = _placed(factor, border)
    return ConvMap(placed.reshape(*placed.shape, *ones), ones, pads, 1)


def _room(done: ConvMap | ScaleMap | None, more: int, channels: int) -> bool:
    """Whether a kernel that brings `channels` to their places among `more` others is not too large."""
    if isinstance(done, ConvMap):
        return (len(done.weight) + more) * channels * prod(done.weight.shape[2:]) <= MAX_KERNEL
    return (channels + more) * channels <= MAX_KERNEL


def _placed(factor: Array, border: Ints) -> Array:
    """Matrix (C, C_in) that puts each scaled channel into its place among the channels of a border."""
    before, after = border[0], border[len(border) // 2]
    placed: Array = np.eye(len(factor) + before + after, len(factor), -before) * factor
    return placed


def _conv_of_scale(done: ScaleMap, weight: Array, op: ann.Conv, border: Ints, shape: Ints) -> ConvMap | None:
    rank, groups = len(shape), op.groups
    spatial = (*border[1:rank], *border[rank + 1 :])
    factor = _channel_factor(done.weight, shape)
    pads = _joined(spatial, op.pad)
    if factor is None or pads is None:
        return None
    if border[0] or border[rank]:
        weight, groups = _part_of_inputs(ungrouped(weight, groups), border[0], shape[0]), 1
    return ConvMap(_scale_inputs(weight, factor, groups), op.stride, pads, groups)


def _part_of_inputs(weight: Array, before: int, channels: int) -> Array:
    """The kernel for `channels` input channels that lie behind `before` others (or start that many earlier)."""
    part = np.zeros((weight.shape[0], channels, *weight.shape[2:]))
    start, stop = max(-before, 0), min(channels, weight.shape[1] - before)
    part[:, start:stop] = weight[:, before + start : before + stop]
    return part


def _scale_inputs(weight: Array, factor: Array, groups: int) -> Array:
    """Multiply the kernel's input channels by `factor` (C_in,)."""
    per_group = weight.shape[0] // groups
    rows = np.repeat(factor.reshape(groups, -1), per_group, axis=0)
    scaled: Array = weight * rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))
    return scaled


def _pool_of_scale(
    done: ScaleMap, op: ann.AvgPool | ann.SumPool, border: Ints, shape: Ints
) -> ConvMap | None:
    rank = len(shape)
    factor, window = _channel_factor(done.weight, shape), _window(op)
    pads = _joined((*border[1:rank], *border[rank + 1 :]), op.pad)
    if factor is None or pads is None or window is None:
        return None
    if not border[0] and not border[rank]:
        return ConvMap(window * factor.reshape(-1, *[1] * rank), op.stride, pads, shape[0])
    placed = _placed(factor, border)
    return ConvMap(window * placed.reshape(*placed.shape, *[1] * (rank - 1)), op.stride, pads, 1)


def _conv_of_conv(
    done: ConvMap, weight: Array, op: ann.Conv, border: Ints | None, space: Ints
) -> ConvMap | None:
    """A convolution behind another, perhaps of a part of the channels that it reads."""
    rank, channels = len(space) + 1, len(done.weight)
    if border is None:
        return _behind(done, weight, (op.stride, op.pad, op.groups), space)
    pads = _joined((*border[1:rank], *border[rank + 1 :]), op.pad)
    if pads is None:
        return None
    if not border[0] and not border[rank]:
        return _behind(done, weight, (op.stride, pads, op.groups), space)
    part = _part_of_inputs(ungrouped(weight, op.groups), border[0], channels)
    return _behind(done, part, (op.stride, pads, 1), space)


def _behind(done: ConvMap, weight: Array, geometry: tuple[Ints, Ints, int], space: Ints) -> ConvMap | None:
    """A kernel of (stride, pad, groups) behind a convolution as one; None where borders differ or it is too large."""
    own_stride, own_pad, groups = geometry
    kernel = done.weight.shape[2:]
    if not border_is_empty(kernel, done.stride, done.pad, space, own_pad):
        return None
    reach = [n + (k - 1) * s for n, k, s in zip(kernel, weight.shape[2:], done.stride, strict=True)]
    alone = groups == len(weight) == len(done.weight)
    inputs = done.weight.shape[1] * (1 if alone else done.groups)
    if len(weight) * inputs * prod(reach) > MAX_KERNEL:
        return None
    made, groups = composite(done.weight, done.stride, done.groups, weight, groups)
    stride = tuple(a * b for a, b in zip(own_stride, done.stride, strict=True))
    pad = tuple(a * b + c for a, b, c in zip(own_pad, done.stride * 2, done.pad, strict=True))
    return ConvMap(made, stride, pad, groups)


def _window(op: ann.AvgPool | ann.SumPool) -> Array | None:
    """Kernel (1, 1, *reach) of a pooling; None where its windows divide by different numbers."""
    divisors = np.maximum(op.divisors(), 1) if isinstance(op, ann.AvgPool) else np.ones(1)
    if (divisors != divisors.flat[0]).any():
        return None
    return _dilated(np.full((1, 1, *op.kernel), 1.0 / float(divisors.flat[0])), op.dilation)


def _dilated(weight: Array, dilation: Ints) -> Array:
    """Write the zeros of a dilated kernel out."""
    shape = tuple(d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    full = np.zeros((*weight.shape[:2], *shape))
    full[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = weight
    return full


def _gathered(term: Term) -> Array:
    """The matrix of a dense layer whose inputs only changed places since the population."""
    shape = term.source.spikes.shape
    places: Array = np.arange(1, prod(shape) + 1).reshape(1, *shape)
    for op in term.chain[:-1]:
        places = op.run(places)
    places = places.reshape(-1)
    kept, last = places > 0, term.chain[-1]
    assert isinstance(last, ann.Dense)
    matrix: Array = np.zeros((last.weight.shape[0], prod(shape)))
    if any(isinstance(op, Take) for op in term.chain):  # an element may have come to several places
        np.add.at(matrix.T, places[kept] - 1, last.weight.array()[:, kept].T)
    else:
        matrix[:, places[kept] - 1] = last.weight.array()[:, kept]
    matrix *= np.broadcast_to(term.source.scale, shape).reshape(1, -1)
    return matrix


def _matrix(term: Term) -> Array:
    """The chain as a matrix (outputs, inputs)."""
    return np.ascontiguousarray(np.concatenate([block for _, block in _columns(term)]).T)


def _columns(term: Term) -> Iterator[tuple[int, Array]]:
    """Columns of the chain's matrix, by applying it to unit vectors: the first input's number, (inputs, outputs)."""
    shape = term.source.spikes.shape
    size, step = prod(shape), max(1, min(512, _AT_ONCE // prod(term.shape)))
    scale = np.broadcast_to(term.source.scale, shape).reshape(-1)
    for start in range(0, size, step):
        stop = min(start + step, size)
        data: Array = np.zeros((stop - start, size))
        data[np.arange(stop - start), np.arange(start, stop)] = scale[start:stop]
        data = data.reshape(stop - start, *shape)
        for op in term.chain:
            data = op.run(data)
        yield start, data.reshape(stop - start, -1)


def _listed(term: Term) -> SparseMap | None:
    """The chain's synapses; None where they are too many."""
    sources, targets, weights, count = list[Array](), list[Array](), list[Array](), 0
    for start, block in _columns(term):
        source, target = np.nonzero(block)
        count += len(source)
        if count > MAX_SYNAPSES:
            return None
        sources.append((source + start).astype(np.int32))
        targets.append(target.astype(np.int32))
        weights.append(block[source, target])
    target = np.concatenate(targets)
    order = np.argsort(target, kind="stable")
    return SparseMap(
        np.concatenate(weights)[order], np.concatenate(sources)[order], target[order], term.shape
    )


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
