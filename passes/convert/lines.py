"""Straight lines in place of a smooth function: knots with the least worst error, and that error."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.ops.functions import FUNCTIONS, evaluate

Array = NDArray[Any]

#: Places where a line may begin or end.
_GRID = 97
#: Samples between two of them on which errors are looked at.
_FINE = 8
#: Places where the final error is looked at.
_SAMPLES = 20_001


@dataclass(frozen=True)
class Lines:
    """offset + the sum of slope_k * clip(x - start_k, 0, width_k).

    Parameters
    ----------
    offset : float
        Value left of the first line.
    pieces : tuple of (start, width, slope)
        Lines from left to right; the last width is infinite where the function goes on as a straight line.
    low, high : float
        Range for which the lines were chosen.
    error : float
        Largest absolute difference to the function on that range.
    """

    offset: float
    pieces: tuple[tuple[float, float, float], ...]
    low: float
    high: float
    error: float

    def __call__(self, x: Array) -> Array:
        """Evaluate the lines."""
        total: Array = np.full(np.shape(x), self.offset)
        for start, width, slope in self.pieces:
            total = total + slope * np.clip(x - start, 0, width)
        return total


def fit_lines(fn: str, alpha: float, beta: float, low: float, high: float, segments: int) -> Lines:
    """Choose the lines for a function of `nmc.ir.ops.functions` on [low, high].

    Raises
    ------
    ValueError
        When the function is not finite there.
    """
    x: Array = np.linspace(low, high, (_GRID - 1) * _FINE + 1)
    y = evaluate(fn, x, alpha, beta)
    if not np.isfinite(y).all():
        raise ValueError(f"{fn} is not finite on [{low:.6g}, {high:.6g}]")
    knots = _best_knots(_errors(x, y), segments) * _FINE
    slopes = np.diff(y[knots]) / np.diff(x[knots])
    widths = np.diff(x[knots])
    if FUNCTIONS[fn].goes_on:
        widths[-1] = inf
    pieces = tuple(
        (float(start), float(width), float(slope))
        for start, width, slope in zip(x[knots[:-1]], widths, slopes, strict=True)
        if slope
    )
    plain = Lines(float(y[knots[0]]), pieces, low, high, 0.0)
    lowest, highest, between = _extremes(fn, alpha, beta, plain)
    middle = (highest + lowest) / 2
    error = (highest - lowest) / 2 + between
    return Lines(plain.offset + middle, pieces, low, high, error)


def _extremes(fn: str, alpha: float, beta: float, lines: Lines) -> tuple[float, float, float]:
    """Smallest and largest difference to the function, and what may lie above them between two samples.

    A function of curvature c deviates from a chord of length h by at most c h^2 / 8.
    """
    x: Array = np.linspace(lines.low, lines.high, _SAMPLES)
    y = evaluate(fn, x, alpha, beta)
    difference = y - lines(x)
    curved = float(np.abs(np.diff(y, 2)).max())
    return float(difference.min()), float(difference.max()), curved / 4


def _errors(x: Array, y: Array) -> Array:
    """Largest error (G, G) of the line from each place of the grid to each later one."""
    errors: Array = np.full((_GRID, _GRID), inf)
    for first in range(_GRID - 1):
        at = first * _FINE
        ends = np.arange(first + 1, _GRID) * _FINE
        slopes = (y[ends] - y[at]) / (x[ends] - x[at])
        gaps = np.abs(y[at] + slopes[:, None] * (x[at:] - x[at]) - y[at:])
        inside = np.arange(at, len(x)) <= ends[:, None]
        errors[first, first + 1 :] = np.where(inside, gaps, 0).max(axis=1)
    return errors


def _best_knots(errors: Array, segments: int) -> NDArray[np.int64]:
    """Places from the first to the last of the grid whose lines have the least worst error."""
    worst, before = errors[0], []
    for _ in range(segments - 1):
        through = np.maximum(worst[:, None], errors)
        through[0, :] = np.minimum(through[0, :], errors[0])
        before.append(through.argmin(axis=0))
        worst = through.min(axis=0)
    knots = [_GRID - 1]
    for choice in reversed(before):
        knots.append(int(choice[knots[-1]]))
        if knots[-1] == 0:
            break
    return np.unique(np.asarray([0, *knots], np.int64))
