"""Weights that make up for counts: those that bring a layer, which hears counts, nearest to the trained one's sums.

A count stands for an activation only to half a step, and not at all beyond its highest level. What a layer loses by
that is partly linear in the counts that it hears, so that other weights win it back: least squares of the trained
network's sums over what its sources count on the calibration data, drawn towards the trained weights. How far they
are drawn is chosen on one half of the samples with weights fitted on the other. (Layer-wise calibration of weights, as
in SNN_Calibration, facts/conversion.md 1.10, but solved, not trained.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.ops import kernels
from nmc.passes.convert.linear import ConvMap, DenseMap, LinearMap, SparseMap

Array = NDArray[Any]
Ints = tuple[int, ...]

#: Rows of the least squares (samples times places of a convolution) at most, for each layer.
ROWS = 1 << 14
#: Elements of all layers' rows of sums that are kept at once.
KEPT = 1 << 26
#: Weights of one output at most: the equations are solved as a dense matrix.
MOST = 2048
#: How strongly weights are drawn towards the trained ones, in units of the mean variance of what is heard.
_DRAWN = (16.0, 4.0, 1.0, 0.25, 0.06, 0.015, 0.004)
#: Fitted weights are taken where they leave at most this share of the squared error on the samples held out.
_WORTH = 0.98
#: Fewer samples than these tell nothing about weights.
_FEWEST = 16
_BATCH = 64


class Sums:
    """What the trained network sums up before each relu and output, at some places of each calibration sample.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of the values (C, *space) that are wanted, by name.
    samples : int
        How many there will be.
    """

    def __init__(self, shapes: Mapping[str, Ints], samples: int) -> None:
        wide = sum(shape[0] for shape in shapes.values())
        most = min(ROWS, KEPT // max(wide, 1)) // max(samples, 1)
        self.samples = samples
        self._at = {name: _places(shape, samples, most) for name, shape in shapes.items() if most}
        self._parts: dict[str, list[Array]] = {name: [] for name in self._at}

    def add(self, name: str, values: Array) -> None:
        """Take a batch (B, C, *space) of a value; batches come in their order."""
        if name in self._at:
            done = sum(len(part) for part in self._parts[name]) // self._at[name].shape[1]
            self._parts[name].append(
                _picked(values, self._at[name][done : done + len(values)]).astype(np.float32)
            )

    def refitted(self, name: str, maps: Sequence[LinearMap], counts: Sequence[Array], constant: Array) -> Fit:
        """Weights of the branches of a layer that bring its sums nearest to the trained network's.

        Parameters
        ----------
        name : str
            Value of the trained network that the sum stands for.
        maps : sequence of LinearMap
            One a branch; weights in activation per count. Those whose weights differ from neuron to neuron of a channel
            or that hear only some channels stay as they are.
        counts : sequence of (N, ...) arrays
            What each branch's source counts on the samples.
        constant : (C, *space) array
            What the layer's neurons get whatever they hear: where it differs from place to place (offsets before a
            convolution with a border), weights must not make up for it.
        """
        shape = constant.shape
        plain = Fit(tuple(maps), 1.0)
        shared = [index for index, found in enumerate(maps) if _shared(found)]
        if name not in self._at or self.samples < _FEWEST or not shared:
            return plain
        at, left = self._at[name], np.concatenate(self._parts[name]).astype(np.float64)
        if any(
            isinstance(found, DenseMap | SparseMap) and index not in shared
            for index, found in enumerate(maps)
        ):
            return plain
        weights = np.concatenate([maps[index].weight.reshape(shape[0], -1) for index in shared], axis=1).T
        heard = (weights != 0).any(axis=1)
        full = (weights[heard] != 0).all(axis=0)  # synapses that were pruned stay away
        if not 0 < heard.sum() <= MOST or not full.any():
            return plain
        if np.ptp(constant.reshape(shape[0], -1), axis=1).any():
            left -= _picked(np.broadcast_to(constant, (len(at), *shape)), at)
        for index, found in enumerate(maps):
            if index not in shared:
                left -= _fixed(found, counts[index], at)
        rows = np.concatenate([_heard(counts[index], maps[index], at, shape[1:]) for index in shared], axis=1)
        fitted, gain = _least_squares(
            rows[:, heard], left[:, full], weights[np.ix_(heard, full)], self.samples
        )
        weights[np.ix_(heard, full)] = fitted
        ends = np.cumsum([maps[index].weight[0].size for index in shared])[:-1]
        made = list(maps)
        for index, part in zip(shared, np.split(weights, ends), strict=True):
            made[index] = replace(
                maps[index], weight=np.ascontiguousarray(part.T).reshape(maps[index].weight.shape)
            )
        return Fit(tuple(made), gain)


@dataclass(frozen=True)
class Fit:
    """What fitting a layer gave.

    Parameters
    ----------
    maps : tuple of LinearMap
        With fitted weights.
    gain : float
        Squared error on samples held out relative to that of the trained weights; 1 where those were kept.
    """

    maps: tuple[LinearMap, ...]
    gain: float


def _places(shape: Ints, samples: int, most: int) -> Array:
    """Places of a population (C, *space) that are looked at in each sample, (samples, P) flat indices."""
    total = prod(shape[1:])
    count = max(1, min(total, most))
    return np.asarray((np.arange(count) * total // count + 7 * np.arange(samples)[:, None]) % total)


def _picked(values: Array, at: Array) -> Array:
    """Values (B, C, *space) at chosen places (B, P), as rows (B * P, C)."""
    flat = values.reshape(*values.shape[:2], -1)
    return np.take_along_axis(flat, at[:, None, :], axis=2).transpose(0, 2, 1).reshape(-1, values.shape[1])


def _shared(found: LinearMap) -> bool:
    """Whether all neurons of a channel have the same weights, and all channels hear the same neurons."""
    if isinstance(found, DenseMap):
        return prod(found.shape[1:]) == 1
    return isinstance(found, ConvMap) and found.groups == 1


def _heard(counts: Array, found: LinearMap, at: Array, space: Ints) -> Array:
    """What the shared weights of a map are multiplied with, rows (B * P, inputs)."""
    if not isinstance(found, ConvMap):
        return counts.reshape(len(counts), -1)
    kernel = found.weight.shape[2:]
    view = kernels.windows(kernels.pad_array(counts, found.pad), kernel, found.stride, (1,) * len(kernel))
    where = np.unravel_index(at, space)
    picked = np.moveaxis(view, 1, -1)[(np.arange(len(counts))[:, None], *where)]  # (B, P, *kernel, C_in)
    picked = np.moveaxis(picked, -1, 2)
    return np.asarray(picked.reshape(-1, prod(picked.shape[2:])))


def _fixed(found: LinearMap, counts: Array, at: Array) -> Array:
    """What a branch that is not fitted brings, as rows."""
    parts = []
    for first in range(0, len(counts), _BATCH):
        some = counts[first : first + _BATCH].astype(np.float64)
        if isinstance(found, ConvMap):
            ones = (1,) * len(found.stride)
            some = kernels.conv(some, found.weight, found.stride, found.pad, ones, found.groups)
        else:
            some = some * found.weight
        parts.append(_picked(some, at[first : first + _BATCH]))
    return np.concatenate(parts)


def _least_squares(rows: Array, targets: Array, weights: Array, samples: int) -> tuple[Array, float]:
    """Weights (inputs, outputs) that bring ``rows @ weights`` near `targets` up to constants, and their gain."""
    half = len(rows) // samples * ((samples + 1) // 2)
    first, second = _Moments.of(rows[:half], targets[:half]), _Moments.of(rows[half:], targets[half:])
    base = second.error(weights)
    error = {drawn: float(f"{second.error(first.solved(weights, drawn)):.6g}") for drawn in _DRAWN}
    best = min(error, key=lambda drawn: error[drawn])
    gain = error[best] / base if base > 0 else 1.0
    if gain > _WORTH:
        return weights, 1.0
    return _Moments.of(rows, targets).solved(weights, best), gain


@dataclass(frozen=True)
class _Moments:
    """Second moments of rows and targets, means taken off."""

    gram: Array
    cross: Array
    square: float

    @classmethod
    def of(cls, rows: Array, targets: Array) -> _Moments:
        """Compute them; those of counts are exact."""
        wide, aims = rows.astype(np.float64), targets - targets.mean(axis=0)
        centred = wide - wide.mean(axis=0)
        return cls(centred.T @ centred, centred.T @ aims, float(np.square(aims).sum()))

    def solved(self, weights: Array, drawn: float) -> Array:
        """Weights of least squares, drawn towards given ones."""
        held = drawn * max(float(np.trace(self.gram)) / len(self.gram), 1e-12)
        system = self.gram + held * np.eye(len(self.gram))
        return np.asarray(weights + np.linalg.solve(system, self.cross - self.gram @ weights))

    def error(self, weights: Array) -> float:
        """Squared error of all outputs."""
        found = self.square - 2 * (weights * self.cross).sum() + (weights * (self.gram @ weights)).sum()
        return max(float(found), 0.0)
