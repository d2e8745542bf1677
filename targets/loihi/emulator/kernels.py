"""Synaptic sums of one core: dense products or scatter, both exact.

Sums are taken in floats, which are exact because no partial sum can exceed the bound that `load` computed:
below 2^24 in float32, else below 2^53 in float64. Arrays have neurons first and samples last.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nmc.ir.dataclass import dataclass
from nmc.targets.loihi.emulator.load import Kernel
from nmc.targets.loihi.layout import Ints

Method = Literal["auto", "gemm", "scatter", "int64"]
Numbers = NDArray[Any]
# Measured on one core: seconds of a multiply-add in a product and of one scattered event. Only speed depends
# on it.
SECONDS_PER_MAC = 4e-11
SECONDS_PER_EVENT = 1.5e-8
# Below this share of non-zero entries no dense matrix is kept.
MIN_DENSITY = 1 / 256
MAX_DENSE_ENTRIES = 1 << 24
# Bounds of memory: entries of all dense matrices of an image, events that one scatter call takes at once.
DENSE_BUDGET = 1 << 27
SCATTER_EVENTS = 1 << 21


def as_slice(index: Ints) -> slice | Ints:
    """Give an arithmetic progression as a slice, which numpy reads without a copy."""
    if index.size < 2:
        return slice(int(index[0]), int(index[0]) + 1) if index.size else slice(0, 0)
    step = int(index[1] - index[0])
    if step > 0 and bool((np.diff(index) == step).all()):
        return slice(int(index[0]), int(index[-1]) + 1, step)
    return index


@dataclass(frozen=True, eq=False)
class Matrix:
    """A kernel ready to multiply.

    Attributes
    ----------
    delay : int
    rows, cols : used in-axon rows and compartments (positions)
    dense : (rows used, cols used) array or None
    source : Kernel
    fan_out : synapses per used row
    """

    delay: int
    rows: Ints
    cols: Ints
    dense: Numbers | None
    source: Kernel
    fan_out: Ints

    def add(self, target: Numbers, spikes: NDArray[np.float32], arrivals: Ints, method: Method) -> bool:
        """Add what the spikes of one step bring.

        Parameters
        ----------
        target : (compartments, samples) array, changed
        spikes : (rows, samples) float32 array of spike counts
        arrivals : spikes per row over all samples

        Returns
        -------
        bool : whether anything arrived.
        """
        active = np.flatnonzero(arrivals[self.rows])
        if not active.size:
            return False
        if self.dense is None or (method == "auto" and self._scatter_wins(arrivals, active, spikes)):
            events = np.cumsum(arrivals[self.rows[active]] * self.fan_out[active])
            cuts = np.flatnonzero(np.diff(events // SCATTER_EVENTS)) + 1
            for rows in np.split(self.rows[active], cuts):
                self._scatter(target, spikes, rows)
            return True
        x = spikes[as_slice(self.rows[active])].astype(self.dense.dtype, copy=False)
        weights = self.dense if active.size == self.rows.size else self.dense[active]
        target[as_slice(self.cols)] += weights.T @ x
        return True

    def _scatter_wins(self, arrivals: Ints, active: Ints, spikes: NDArray[np.float32]) -> bool:
        events = int(arrivals[self.rows[active]] @ self.fan_out[active])
        macs = active.size * self.cols.size * spikes.shape[1]
        return bool(events * SECONDS_PER_EVENT < macs * SECONDS_PER_MAC)

    def _scatter(self, target: Numbers, spikes: NDArray[np.float32], rows: Ints) -> None:
        """Add event by event (bincount sums in float64, exact below 2^53)."""
        samples = spikes.shape[1]
        part = spikes[rows]
        at, sample = np.nonzero(part)
        indptr = self.source.indptr
        start, count = indptr[rows[at]], (indptr[rows + 1] - indptr[rows])[at]
        ends = np.cumsum(count)
        pick = np.arange(int(ends[-1])) + np.repeat(start - ends + count, count)
        cell = self.source.cols[pick].astype(np.int64) * samples + np.repeat(sample, count)
        value = self.source.values[pick] * np.repeat(part[at, sample].astype(np.float64), count)
        total = np.bincount(cell, weights=value, minlength=target.size).reshape(target.shape)
        target += total.astype(target.dtype)


def sum_dtype(bound: int, method: Method) -> DTypeLike:
    """Choose the number type in which sums up to `bound` are exact."""
    if method == "int64":
        return np.int64
    return np.float32 if bound < 1 << 24 else np.float64


def make_matrix(kernel: Kernel, dtype: DTypeLike, method: Method, room: int) -> Matrix:
    """Prepare a kernel; a dense copy is made unless it is nearly empty, huge or over `room` entries."""
    fan_out = np.diff(kernel.indptr)
    rows = np.flatnonzero(fan_out)
    cols = np.unique(kernel.cols).astype(np.int64)
    size = rows.size * cols.size
    wanted = method in ("gemm", "int64") or (
        method == "auto" and kernel.cols.size >= size * MIN_DENSITY and size <= min(MAX_DENSE_ENTRIES, room)
    )
    dense = _dense(kernel, fan_out[rows], cols, dtype) if wanted else None
    return Matrix(kernel.delay, rows, cols, dense, kernel, fan_out[rows])


def _dense(kernel: Kernel, fan_out: Ints, cols: Ints, dtype: DTypeLike) -> Numbers:
    cell = np.repeat(np.arange(fan_out.size) * cols.size, fan_out) + np.searchsorted(cols, kernel.cols)
    flat = np.bincount(cell, weights=kernel.values, minlength=fan_out.size * cols.size)
    result: Numbers = flat.reshape(fan_out.size, cols.size).astype(dtype)
    return result
