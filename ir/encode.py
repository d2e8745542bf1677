"""From numbers to spikes, the same on any machine, in any batch and for any partition."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_U = np.uint64
_MASK = (1 << 64) - 1


def _mix(word: Array) -> Array:
    """Finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that passes BigCrush."""
    word = (word ^ (word >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> _U(27))) * _U(0x94D049BB133111EB)
    mixed: Array = word ^ (word >> _U(31))
    return mixed


@lru_cache(maxsize=64)
def _mix_one(word: int) -> int:
    """`_mix` of one word."""
    return int(_mix(np.array([word], _U))[0])


def uniform_words(seed: int, sample: Array, step: int, index: Array) -> Array:
    """Counter-based random 64-bit words keyed by (seed, sample, step, index).

    Parameters
    ----------
    seed : int
        Any integer; its low 64 bits count.
    sample : (B,) integer array
        Number of each sample in its data set, not in the batch.
    step : int
        Time step.
    index : (N,) integer array
        Flat neuron index.

    Returns
    -------
    (B, N) uint64 array
    """
    start = _mix_one((seed + 0x9E3779B97F4A7C15) & _MASK)
    key = _mix(_U(start) + sample.astype(_U)[:, None] * _U(0xD1342543DE82EF95))
    key = _mix(key + _U((step * 0x9E3779B97F4A7C15) & _MASK))
    return _mix(key + index.astype(_U)[None, :] * _U(0xBF58476D1CE4E5B9))


def rate_spikes(rate: Array, seed: int, first_sample: int, step: int) -> Array:
    """Bernoulli spikes of one step: each element fires with probability `rate` (cut to [0, 1]).

    Parameters
    ----------
    rate : (B, ...) float array
        Probability of a spike in a step.
    seed, first_sample, step : int
        Key of the random words; `first_sample` is the data-set number of the first row.

    Returns
    -------
    (B, ...) uint8 array
    """
    batch = rate.shape[0]
    flat = rate.reshape(batch, -1)
    samples = np.arange(first_sample, first_sample + batch)
    words = uniform_words(seed, samples, step, np.arange(flat.shape[1])) >> _U(11)
    spikes = words.astype(np.float64) < flat.astype(np.float64) * 2.0**53
    return spikes.astype(np.uint8).reshape(rate.shape)
