"""Populations of means: where an average cannot be part of the projection that follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, lcm, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann, exact, kernels, snn
from nmc.ir.ops.neurons import Sparse
from nmc.passes.convert.expr import followed
from nmc.passes.convert.linear import Source, Term
from nmc.passes.quantize.scales import Form, legal_thresholds

Array = NDArray[Any]
Ints = tuple[int, ...]

#: Synapses of windows that divide by different numbers, at most.
MAX_SYNAPSES = 1 << 25


@dataclass(frozen=True)
class Mean:
    """What a population of means sums up.

    A count of it stands for ``round(S / theta)`` with S the sum of the window's counts, each times ``whole / n``, n the
    number of elements that the window of a place holds: S is ``whole`` times the mean.

    Parameters
    ----------
    pool : SumPool
        Gives the windows.
    elements : (*out) int64 array
        n of each place.
    whole : int
        A multiple of all n where weights of the form can express that; else as large as they allow.
    """

    pool: ann.SumPool
    elements: Array
    whole: int

    @property
    def weights(self) -> Array:
        """Weight of each place (*out), int64, at least 1."""
        return np.maximum(np.rint(self.whole / self.elements), 1).astype(np.int64)

    @property
    def key(self) -> tuple[Any, ...]:
        """What two means of one source must share to be the same population."""
        pool = self.pool
        return (*pool.kernel, *pool.stride, *pool.pad, *pool.dilation, self.elements.tobytes())


def mean_of(chain: Sequence[Op], w_max: int) -> Mean | None:
    """Give the mean that a chain begins with; None where it begins with something else or is too large.

    An ``ann.affine`` behind the sum that differs from place to place tells that windows divide by what they hold; such
    windows at the border are listed synapse by synapse, of which there may be `MAX_SYNAPSES`.
    """
    if not chain or not isinstance(chain[0], ann.SumPool):
        return None
    pool = chain[0]
    inside = ann.AvgPool(
        out="n", data=pool.data, kernel=pool.kernel, stride=pool.stride, pad=pool.pad, dilation=pool.dilation
    ).divisors()
    varies = len(chain) > 1 and isinstance(chain[1], ann.Affine) and _varies(chain[1])
    if varies and pool.result.type.size * prod(pool.kernel) > MAX_SYNAPSES:
        return None
    held = np.maximum(inside, 1) if varies else np.full(inside.shape, prod(pool.kernel))
    elements = held.astype(np.int64)
    whole = lcm(*(int(n) for n in np.unique(elements)))
    least = int(elements.min())
    return Mean(pool, elements, whole if whole <= w_max * least else w_max * least)


def _varies(op: ann.Affine) -> bool:
    shape = op.data.shape
    scale = np.asarray(op.scale.array(), np.float64)
    full = scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)
    return any(extent > 1 for extent in full.shape[1:])


def wires(mean: Mean, source: Value, names: tuple[str, str], op: Op) -> list[snn.ProjectionOp]:
    """The projections into a population of means: one kernel of ones, and more for windows that hold fewer elements.

    Parameters
    ----------
    mean : Mean
    source : Value
        What is averaged.
    names : (str, str)
        Of the two projections.
    op : Op
        Gives the location.
    """
    pool, weights, channels = mean.pool, mean.weights, source.shape[0]
    base = int(weights.min())
    window = np.full((channels, 1, *pool.kernel), base, np.int16 if base > 127 else np.int8)
    made: list[snn.ProjectionOp] = [
        snn.Conv(
            out=names[0], spikes=source, weight=Const(f"{names[0]}.w", window), stride=pool.stride, pad=pool.pad,
            dilation=pool.dilation, groups=channels, loc=op.loc,
        )
    ]  # fmt: skip
    if (weights > base).any():
        made.append(_rest(mean, source, names[1], weights - base, op))
    return made


def _rest(mean: Mean, source: Value, name: str, more: Array, op: Op) -> Sparse:
    """Synapse by synapse, what the windows of some places weigh more."""
    pool, (channels, *space) = mean.pool, source.shape
    numbers = np.arange(1, prod(space) + 1).reshape(1, 1, *space)
    seen = kernels.windows(kernels.pad_array(numbers, pool.pad), pool.kernel, pool.stride, pool.dilation)
    reads = seen.reshape(more.size, -1)
    place, tap = np.nonzero((more.reshape(-1, 1) > 0) & (reads > 0))
    first = np.arange(channels)[:, None]
    sources = (first * prod(space) + reads[place, tap] - 1).reshape(-1)
    targets = (first * more.size + place).reshape(-1)
    weight = np.tile(more.reshape(-1)[place], channels)
    return Sparse(
        out=name, spikes=source, weight=Const(f"{name}.w", weight.astype(np.int16 if weight.max() > 127 else np.int8)),
        source=Const(f"{name}.source", sources.astype(np.int32)),
        target=Const(f"{name}.target", targets.astype(np.int32)), shape=mean.pool.result.shape, loc=op.loc,
    )  # fmt: skip


def threshold(mean: Mean, largest: Array | None, levels: int, form: Form) -> Array:
    """Thresholds (C,) int64: `levels` counts reach the largest sum seen of each channel, or the largest mean.

    Parameters
    ----------
    mean : Mean
    largest : (C,) array or None
        Largest sums on calibration data; channels with 0 get the threshold of the others.
    levels : int
        Largest count.
    form : Form
        What thresholds may be.
    """
    channels = mean.pool.result.shape[0]
    ideal: Array = np.full(channels, float(mean.whole))
    if largest is not None and (largest > 0).any():
        top = float(largest.max())
        needed = np.where(largest > 0, largest, top)
        ideal = np.array([ceil(item / levels) for item in needed.tolist()], np.float64)
        if form.uniform:
            ideal = np.full(channels, float(ceil(top / levels)))
    ideal = np.minimum(ideal, float(mean.whole))
    if form.theta_digits or form.theta_max:
        return legal_thresholds(ideal, form)
    return ideal.astype(np.int64)  # an even one is as good: ties are rounded up


def behind(mean: Mean, spikes: Value, step: Array, theta: Array, chain: Sequence[Op]) -> Term:
    """The rest of a chain behind a population of means.

    Parameters
    ----------
    mean : Mean
    spikes : Value
        The population.
    step : array
        Value of one count of what is averaged, broadcastable to its shape.
    theta : (C,) int64 array
        Thresholds.
    chain : sequence of Op
        The whole chain, from the sum on.
    """
    shape = mean.pool.result.shape
    own = np.broadcast_to(step, (shape[0], *[1] * (len(shape) - 1))) * (
        theta.reshape(-1, *[1] * (len(shape) - 1)) / mean.whole
    )
    rest, factor = list(chain[1:]), mean.elements[None].astype(np.float64)
    if rest and isinstance(rest[0], ann.Affine):
        scale = np.asarray(rest[0].scale.array(), np.float64)
        factor = factor * scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)
        rest = rest[1:]
    flat = factor.reshape(len(factor), -1)
    if np.allclose(flat, flat[:, :1], rtol=1e-5, atol=0):
        return _followed(Term(Source(spikes, own * flat[:, :1].reshape(-1, *[1] * (len(shape) - 1)))), rest)
    zero = Const("zero", np.zeros((1,) * len(shape), np.float32))
    kept = ann.Affine(out=f"{spikes.name}.factor", data=spikes, scale=Const("factor", factor), offset=zero)
    return _followed(Term(Source(spikes, own)), [kept, *rest])


def _followed(term: Term, chain: Sequence[Op]) -> Term:
    for op in chain:
        term = followed(term, op)
    return term


def population(
    out: str, mean: Mean, currents: Sequence[snn.ProjectionOp], theta: Array, levels: int, op: Op
) -> exact.Graded:
    """The neurons: c = clip(floor((S + theta // 2) / theta), 0, levels); its `bound` is still to be proved."""
    rank = len(mean.pool.result.shape)
    each = theta.reshape(-1, *[1] * (rank - 1))
    kept = each[:1] if (theta == theta[0]).all() else each
    return exact.Graded(
        out=out, current=tuple(item.result for item in currents), levels=levels, loc=op.loc,
        theta=Const(f"{out}.theta", kept.astype(np.int32)), offset=Const(f"{out}.offset", (kept // 2).astype(np.int32)),
    )  # fmt: skip


def proved(made: exact.Graded, mean: Mean, high: int) -> exact.Graded:
    """The same with its bound: half a threshold, a threshold, and the fullest window of counts up to `high`."""
    theta = int(made.theta.array().max())
    inside = ann.AvgPool(
        out="n", data=mean.pool.data, kernel=mean.pool.kernel, stride=mean.pool.stride, pad=mean.pool.pad,
        dilation=mean.pool.dilation,
    ).divisors()  # fmt: skip
    return replace(made, bound=theta // 2 + theta + high * int((mean.weights * inside).max()))
