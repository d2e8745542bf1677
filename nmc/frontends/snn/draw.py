"""Random numbers of a network: keyed by (seed, projection, purpose, pair), the same on any machine.

Only additions, multiplications, divisions and square roots of float64 are used, which IEEE 754 rounds the same way
everywhere; logarithms come from `log`, not from the machine's library.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.frontends.snn.values import Random
from nmc.ir.encode import uniform_words

Array = NDArray[Any]
#: What a word is for: which pairs are connected, their weight, their delay, the start of a neuron.
PAIRS, WEIGHT, DELAY, START = 0, 1, 2, 3
_CHUNK = 1 << 20
_LN2 = 0.6931471805599453

# Coefficients of PPND16: M. J. Wichura, Algorithm AS 241, Applied Statistics 37 (1988) 477-484; highest power first.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)  # fmt: skip
_NEAR = (
    (7.74545014278341407640e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.67638483018380384940, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.00124266094738807843860, 0.0265321895265761230930,
     0.296560571828504891230, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     0.0148753612908506148525, 0.136929880922735805310, 0.599832206555887937690, 1.0),
)  # fmt: skip


def unit(seed: int, stream: int, purpose: int, index: Array) -> Array:
    """Uniform numbers in (0, 1), one an index: the middles of 2**53 equal cells.

    Parameters
    ----------
    seed : int
        Of the network.
    stream : int
        Number of the projection or population.
    purpose : int
        `PAIRS`, `WEIGHT`, `DELAY` or `START`.
    index : (N,) integer array
        Number of the pair or neuron.
    """
    parts = [
        uniform_words(seed, np.array([stream]), purpose, index[start : start + _CHUNK])[0]
        for start in range(0, len(index), _CHUNK)
    ]
    words = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
    cells: Array = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return cells


def log(x: Array) -> Array:
    """Natural logarithm of positive numbers from basic arithmetic (error below 1e-15 of the result's scale)."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    power = exponent.astype(np.float64) - low
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square = z * z
    total = np.zeros_like(z)
    for odd in range(25, 0, -2):  # atanh series; |z| < 0.172, so the next term is below 1e-20
        total = total * square + 1.0 / odd
    result: Array = power * _LN2 + 2.0 * z * total
    return result


def normal(p: Array) -> Array:
    """Quantiles of the standard normal distribution at `p` in (0, 1) (Wichura's AS 241, about 1e-15)."""
    q = p - 0.5
    centre = np.abs(q) <= 0.425
    r = np.where(centre, 0.180625 - q * q, 0.0)
    middle = q * _ratio(_CENTRE, r)
    tail = np.sqrt(-log(np.where(centre, 0.25, np.minimum(p, 1.0 - p))))
    outer = np.where(tail <= 5.0, _ratio(_NEAR, tail - 1.6), _ratio(_FAR, tail - 5.0))
    result: Array = np.where(centre, middle, np.where(q < 0, -outer, outer))
    return result


def _ratio(table: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    top, bottom = np.zeros_like(x), np.zeros_like(x)
    for above, below in zip(*table, strict=True):
        top, bottom = top * x + above, bottom * x + below
    ratio: Array = top / bottom
    return ratio


def sample(law: Random, u: Array) -> Array:
    """Numbers of a distribution from uniform ones."""
    if law.kind == "normal":
        return law.first + law.second * normal(u)
    drawn: Array = law.first + (law.second - law.first) * u
    return drawn


def bernoulli(seed: int, stream: int, p: float, count: int) -> Array:
    """Which of `count` pairs are connected, each with probability `p`: their numbers, rising."""
    found = []
    for start in range(0, count, _CHUNK):
        index = np.arange(start, min(start + _CHUNK, count), dtype=np.int64)
        found.append(index[unit(seed, stream, PAIRS, index) < p])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def choose(seed: int, stream: int, rows: int, columns: int, k: int, banned: Array | None) -> Array:
    """For each row, `k` different columns: (rows * k,) pair numbers ``row * columns + column``, rising.

    `banned` gives a column that each row may not have, or -1.
    """
    return np.concatenate([np.zeros(0, np.int64), *_chosen(seed, stream, rows, columns, k, banned)])


def _chosen(seed: int, stream: int, rows: int, columns: int, k: int, banned: Array | None) -> Iterator[Array]:
    at_once = max(1, _CHUNK // max(columns, 1))
    for start in range(0, rows, at_once):
        here = np.arange(start, min(start + at_once, rows), dtype=np.int64)
        index = (here[:, None] * columns + np.arange(columns)).reshape(-1)
        rank = unit(seed, stream, PAIRS, index).reshape(len(here), columns)
        if banned is not None:
            row = np.flatnonzero(banned[here] >= 0)
            rank[row, banned[here][row]] = 2.0
        picked = np.sort(np.argsort(rank, axis=1, kind="stable")[:, :k], axis=1)
        yield (here[:, None] * columns + picked).reshape(-1)
