"""What sample data say about the activations of a layer, and the thresholds that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Activations kept for each channel when searching the best threshold.
_KEPT = 8192
#: Threshold balancing has converged when no threshold of the layer grows by more than this share any more.
_CONVERGED = 1e-3
_ROUNDS = 2000


class Range:
    """Activations of each channel: the largest, and a regular sample of all."""

    def __init__(self) -> None:
        self._chunks: list[Array] = []
        self.highest: Array | float = 0.0
        self.largest = 0.0

    def add(self, values: Array) -> None:
        """Look at a batch (B, C, ...)."""
        channels = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        self.largest = max(self.largest, float(np.abs(channels).max(initial=0.0)))
        self.highest = np.maximum(self.highest, channels.max(axis=1))
        stride = max(1, channels.shape[1] // (_KEPT // 4))
        self._chunks.append(channels[:, ::stride])

    def threshold(self, method: str, levels: int) -> Array:
        """Threshold of each channel, (C,) float64; 1 for a channel that is never active."""
        highest = np.asarray(self.highest, np.float64)
        silent = highest < np.finfo(np.float32).tiny
        safe = np.where(silent, 1.0, highest)
        if method == "max":
            return safe
        values = np.concatenate(self._chunks, axis=1)
        values = values[:, :: max(1, values.shape[1] // _KEPT)]
        if method == "percentile":
            found = np.percentile(values, 99.9, axis=1)
        elif method == "ltb":
            found = _balanced(values)
        else:
            return _least_squares(values, safe, levels)
        return np.where(silent | (found <= 0), safe, found)


def drawn_together(threshold: Array, seen: Range, share: float) -> Array:
    """Move the thresholds of active channels towards their geometric mean: few samples make each of them noisy."""
    active = np.asarray(seen.highest) > 0
    if not share or not active.any():
        return threshold
    middle = float(np.log(threshold[active]).mean())
    return np.where(active, np.exp((1 - share) * np.log(threshold) + share * middle), threshold)


def with_floor(threshold: Array, seen: Range, floor: float) -> Array:
    """Raise the thresholds of nearly silent channels: their weights would take the range of all others' registers."""
    active = threshold[np.asarray(seen.highest) > 0]
    if not active.size:
        return threshold
    middle = float(np.median(active))
    return np.where(np.asarray(seen.highest) > 0, np.maximum(threshold, floor * middle), middle)


def round_bits(values: Array, bits: int) -> Array:
    """Round to a number of significant bits."""
    fraction, exponent = np.frexp(values)
    rounded: Array = np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits)
    return rounded


def _balanced(values: Array) -> Array:
    """Local threshold balancing, per channel: theta += 2 mean(relu(x - theta)) from 0 until it stands.

    As in Inference-scale (arXiv 2409.03368; facts/conversion.md 1.3), on activations that are not clamped in earlier
    layers; the step tends to 0 as theta nears the largest activation.
    """
    theta: Array = np.zeros(len(values))
    for _ in range(_ROUNDS):
        step = 2 * np.maximum(values - theta[:, None], 0).mean(axis=1)
        theta = theta + step
        if (step <= _CONVERGED * theta).all():
            break
    return theta


def _least_squares(values: Array, highest: Array, levels: int) -> Array:
    """Choose, per channel, the share of the largest activation with the least squared rate error."""
    best, least = highest, np.full(highest.shape, np.inf)
    for share in np.linspace(1.0, 0.3, 36):
        trial = highest * share
        rates = np.clip(np.floor(values / trial[:, None] * levels + 0.5) / levels, 0.0, 1.0)
        error = ((values - rates * trial[:, None]) ** 2).sum(axis=1)
        best = np.where(error < least * (1 - 1e-9), trial, best)
        least = np.minimum(error, least)
    return best
