"""Buffers for memory allocation: random ones, and ones that tile a rectangle so that the least height is known."""

from __future__ import annotations

import numpy as np

from nmc.passes.map.memory import Buffer


def random_buffers(count: int, seed: int = 0, align: bool = True) -> list[Buffer]:
    """Buffers of random lives and sizes, some aligned."""
    rng = np.random.default_rng(seed)
    begin = rng.integers(0, 3 * count, count)
    life = 1 + rng.geometric(min(1.0, 2 / max(count, 2)) ** 0.5, count)
    size = np.rint(np.exp(rng.normal(4, 1.2, count))).astype(int) + 1
    every = rng.choice([1, 1, 4, 16], count) if align else np.ones(count, int)
    return [
        Buffer(f"b{k}", int(begin[k]), int(begin[k] + life[k]), int(size[k]), int(every[k]))
        for k in range(count)
    ]


def tiled_buffers(count: int, capacity: int, seed: int = 0) -> list[Buffer]:
    """Cut a rectangle of `capacity` by time into `count` pieces: the least height is `capacity` exactly."""
    rng = np.random.default_rng(seed)
    pieces = [(0, 4 * count, 0, capacity)]
    while len(pieces) < count:
        areas = np.array([(b - a) * (d - c) if b - a > 1 or d - c > 1 else 0 for a, b, c, d in pieces], float)
        a, b, c, d = pieces.pop(int(rng.choice(len(areas), p=areas / areas.sum())))
        by_time = b - a > 1 and (d - c < 2 or rng.random() < 0.5)
        low, high = (a, b) if by_time else (c, d)
        cut = int(np.clip(round(low + (high - low) * rng.uniform(0.25, 0.75)), low + 1, high - 1))
        pieces += [(a, cut, c, d), (cut, b, c, d)] if by_time else [(a, b, c, cut), (a, b, cut, d)]
    order = rng.permutation(len(pieces))
    return [
        Buffer(f"b{k}", pieces[p][0], pieces[p][1], pieces[p][3] - pieces[p][2]) for k, p in enumerate(order)
    ]
