"""From real weights to integers: one scale and one threshold a channel, exact where a threshold must be.

A population's channel i counts steps of its activation, each worth ``step_i``. Its real weights W' (activation
per count of the source) are multiplied by a scale k_i and rounded; its threshold is ``theta_i = step_i * k_i``,
made an integer first, so that only the weights and the bias carry a rounding error
(design 04-conversion.md, "The exact neuron").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.passes.convert.linear import ConvMap, DenseMap, LinearMap, SparseMap

Array = NDArray[Any]
Ints = tuple[int, ...]

#: Shares of the largest weight that narrow weights may be cut at; more bits gain nothing from cutting.
_CUTS = (1.0, 0.92, 0.85, 0.78, 0.71, 0.64, 0.57, 0.5)
_CUT_BITS = 6


@dataclass(frozen=True)
class Form:
    """What integers a target takes.

    Parameters
    ----------
    bits : int
        Bits of a weight with its sign.
    theta_max : int
        Largest threshold, 0 for none.
    theta_digits : int
        Significant bits of a threshold, 0 for any odd number.
    uniform : bool
        One threshold for the whole population.
    accumulator : int
        Bits of a membrane with its sign.
    unipolar : bool
        Counts only grow while they are sent (plain spikes): rising and falling currents then bound a membrane apart.
    """

    bits: int = 8
    theta_max: int = 0
    theta_digits: int = 0
    uniform: bool = False
    accumulator: int = 32
    unipolar: bool = False

    @property
    def w_max(self) -> int:
        """Largest weight."""
        return int(2 ** (self.bits - 1) - 1)


@dataclass(frozen=True)
class Scaled:
    """Integer parameters of one population.

    Parameters
    ----------
    weights : tuple of ndarray
        Integer weights of each branch, in the shape of the branch's map.
    theta : (C,) int64 array
        Thresholds; ones where nothing fires.
    k : (C,) float64 array
        Integer units of one unit of activation.
    bias : ndarray
        Integer bias (without the half threshold), broadcastable to the population, int64.
    bound : (C,) int64 array
        Largest possible absolute membrane.
    clipped : float
        Share of weights that were cut at the largest one.
    """

    weights: tuple[Array, ...]
    theta: Array
    k: Array
    bias: Array
    bound: Array
    clipped: float


def per_channel(values: Array, shape: Ints) -> Array:
    """A (C,) array in the rank of a population's shape."""
    return values.reshape(-1, *[1] * (len(shape) - 1))


def rows(found: LinearMap, shape: Ints) -> Array:
    """Weights as (C, neurons of the channel that differ, inputs of each)."""
    channels = shape[0]
    if isinstance(found, ConvMap):
        return found.weight.reshape(channels, 1, -1)
    if isinstance(found, DenseMap):
        return found.weight.reshape(channels, -1, found.weight.shape[1])
    if isinstance(found, SparseMap):
        listed = found.padded(found.weight)
        return listed.reshape(channels, -1, listed.shape[1])
    return np.asarray(np.broadcast_to(found.weight, shape).reshape(channels, -1, 1))


def spread(values: Array, found: LinearMap, shape: Ints) -> Array:
    """One number a channel in a shape that multiplies the weights of a map."""
    if isinstance(found, ConvMap):
        return values.reshape(-1, *[1] * (found.weight.ndim - 1))
    if isinstance(found, DenseMap):
        return np.repeat(values, prod(shape[1:])).reshape(-1, 1)
    if isinstance(found, SparseMap):
        return np.asarray(values[found.target // prod(shape[1:])])
    return per_channel(values, shape)


def scale_population(
    maps: Sequence[LinearMap],
    reach: Sequence[tuple[int, int]],
    bias: Array,
    step: Array,
    shape: Ints,
    form: Form,
) -> Scaled:
    """Find thresholds and integer weights of a population that fires.

    Parameters
    ----------
    maps : sequence of LinearMap
        One a branch; weights in activation per count of the source.
    reach : sequence of (int, int)
        Smallest and largest count of each branch's source.
    bias : ndarray
        Constant part of the activation, broadcastable to `shape`.
    step : (C,) float64 array
        Activation that one count stands for.
    shape : tuple of int
        Of the population, channels first.
    form : Form
        What the integers may be.

    Returns
    -------
    Scaled
        The best that keeps the static bound below ``2 ** (accumulator - 1)``; where not even a threshold of one
        does, `bound` tells.
    """
    scales = _largest_scales(maps, shape, form)
    heard = np.isfinite(scales)  # a channel without weights must not set the threshold of all
    middle = float(np.median((step * scales)[heard])) if heard.any() else float(form.w_max)
    ideal = np.where(
        heard, step * np.where(heard, scales, 1.0), np.inf if form.uniform and heard.any() else middle
    )
    for _ in range(8):
        theta = legal_thresholds(ideal, form)
        found = _with_scale(maps, reach, bias, theta / step, theta, shape, form)
        over = found.bound / float(2 ** (form.accumulator - 1) - 1)
        if (over <= 1).all() or (theta == 1).all():
            break
        ideal = theta / np.maximum(over, 1.0) * np.where(over > 1, 0.98, 1.0)
    return found


def scale_readout(
    maps: Sequence[LinearMap], reach: Sequence[tuple[int, int]], bias: Array, shape: Ints, form: Form
) -> Scaled:
    """Find the integer weights of a readout: one scale for all outputs, so that they compare."""
    smallest = float(_largest_scales(maps, shape, form).min())
    k = np.full(shape[0], smallest if np.isfinite(smallest) else 1.0)
    for _ in range(8):
        found = _with_scale(maps, reach, bias, k, np.zeros(shape[0], np.int64), shape, form)
        over = found.bound.max() / float(2 ** (form.accumulator - 1) - 1)
        if over <= 1:
            break
        k = k / over * 0.98
    return found


def legal_thresholds(ideal: Array, form: Form) -> Array:
    """The largest legal thresholds not above `ideal`, at least 1: (C,) int64."""
    top = 2 ** (form.accumulator - 1) - 1
    limit = min(form.theta_max or top, top)
    capped = np.clip(ideal, 1.0, limit)
    if form.uniform:
        capped = np.full_like(capped, capped.min())
    if form.theta_digits:
        exponent = np.maximum(np.frexp(np.floor(capped))[1] - form.theta_digits, 0)
        unit = np.ldexp(1.0, exponent)
        return np.asarray((np.floor(capped / unit) * unit).astype(np.int64))
    odd = 2 * np.floor((capped - 1) / 2) + 1
    return np.asarray(odd.astype(np.int64))


def _largest_scales(maps: Sequence[LinearMap], shape: Ints, form: Form) -> Array:
    """Scale of each channel that brings its largest weight to the largest integer, (C,) float64; inf without weights.

    Narrow weights may be cut: of a few cuts, each channel takes the one with the least squared rounding error.
    """
    flat = np.concatenate([rows(found, shape).reshape(shape[0], -1) for found in maps], axis=1)
    largest = np.abs(flat).max(axis=1)
    silent = largest <= np.finfo(np.float32).tiny
    best = form.w_max / np.where(silent, 1.0, largest)
    if form.bits <= _CUT_BITS:
        best = _cut_scales(flat, best, form.w_max)
    return np.where(silent, np.inf, best)


def _cut_scales(flat: Array, full: Array, w_max: int) -> Array:
    best, least = full, np.full(full.shape, np.inf)
    for cut in _CUTS:
        k = (full / cut)[:, None]
        error = ((flat - np.clip(np.rint(flat * k), -w_max, w_max) / k) ** 2).sum(axis=1)
        best = np.where(error < least * (1 - 1e-9), k[:, 0], best)
        least = np.minimum(error, least)
    return best


def _sums(weights: Array, low: int, high: int) -> tuple[Array, Array]:
    """How far counts of `low`..`high` can raise and lower each neuron, (C, neurons of the channel that differ)."""
    positive, negative = np.maximum(weights, 0).sum(axis=2), np.maximum(-weights, 0).sum(axis=2)
    return positive * high - negative * low, negative * high - positive * low


def _with_scale(
    maps: Sequence[LinearMap],
    reach: Sequence[tuple[int, int]],
    bias: Array,
    k: Array,
    theta: Array,
    shape: Ints,
    form: Form,
) -> Scaled:
    weights, clipped, count = [], 0, 0
    up = down = np.zeros((len(k), 1))
    for found, ends in zip(maps, reach, strict=True):
        exact = np.rint(found.weight * spread(k, found, shape))
        cut = np.clip(exact, -form.w_max, form.w_max)
        clipped, count = clipped + int((cut != exact).sum()), count + cut.size
        rise, fall = _sums(rows(replace(found, weight=cut), shape), *ends)
        up, down = up + rise, down + fall
        weights.append(cut)
    whole = np.rint(bias * per_channel(k, shape))
    start = np.broadcast_to(whole + per_channel(theta // 2, shape), shape).reshape(len(k), -1)
    if form.unipolar:
        bound = np.maximum(np.abs(start + up), np.abs(start - down)).max(axis=1) + theta
    else:
        bound = np.abs(start).max(axis=1) + theta + (up + down).max(axis=1)
    bound = np.minimum(bound, 2.0**62)
    return Scaled(
        tuple(weights), theta, k, np.clip(whole, -(2.0**62), 2.0**62).astype(np.int64), bound.astype(np.int64),
        clipped / max(count, 1),
    )  # fmt: skip
