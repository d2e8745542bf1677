"""Memory allocation by first fit in several orders, and the orders that the search in `packing` begins with."""

from __future__ import annotations

import numpy as np

from nmc.passes.map.sparse import IntArray

_ROUNDS = 12  # of first fit with changing priorities
_FAR = np.int64(1 << 60)


def first_fit(begin: IntArray, end: IntArray, size: IntArray, align: IntArray, enough: int) -> IntArray:
    """Each buffer at the lowest free offset, in several orders; those that end up too high come earlier next time.

    Parameters
    ----------
    begin, end, size, align : IntArray
        (n,) each: life, size and alignment.
    enough : int
        The search ends at this height.

    Returns
    -------
    IntArray
        (n,) offsets of the lowest allocation found.
    """
    life = end - begin
    keys = [(-size * life,), (-life, -size), (-size, -life), (begin, -size), (-align, -size)]
    best, height = np.zeros(0, np.int64), int(_FAR)
    rounds = max(1, min(_ROUNDS, 200_000 // len(size)))
    for key in keys:
        order = np.lexsort((np.arange(len(size)), *key[::-1]))
        for _ in range(rounds):
            offset = _fitted(order, begin, end, size, align)
            top = int((offset + size).max())
            if top < height:
                best, height = offset, top
            if height <= enough:
                return best
            late = (offset + size > enough)[order]
            if rounds == 1 or not late.any():
                break
            # too high: a fifth of the way to the front
            rank = np.arange(len(order)) * 10 - np.where(late, 2 * len(order) + 11, 0)
            order = order[np.argsort(rank, kind="stable")]
    return best


def _fitted(order: IntArray, begin: IntArray, end: IntArray, size: IntArray, align: IntArray) -> IntArray:
    """Offsets (n,) by first fit in this order."""
    placed: IntArray = np.zeros(0, np.int64)  # ascending offset
    offset = np.full(len(size), -1, np.int64)
    for k in order.tolist():
        near = placed[(begin[placed] < end[k]) & (end[placed] > begin[k])]
        tops = np.maximum.accumulate(np.concatenate([[0], (offset + size)[near]]))
        lows = -(-tops // align[k]) * align[k]
        gaps = np.concatenate([offset[near], [_FAR]]) - lows
        offset[k] = lows[int((gaps >= size[k]).argmax())]
        at = int(np.searchsorted(offset[placed], offset[k]))
        placed = np.insert(placed, at, k)
    return offset


def ranks(begin: IntArray, end: IntArray, size: IntArray) -> tuple[IntArray, ...]:
    """Orders (n,) in which buffers are tried at equal offsets: by life, crowd and area, each first in turn."""
    times = np.unique(begin)
    events = np.zeros(len(times) + 1, np.int64)
    first, last = np.searchsorted(times, begin), np.searchsorted(times, end)
    np.add.at(events, first, size)
    np.subtract.at(events, last, size)
    load = np.cumsum(events)[:-1]
    crowd = np.array([load[a:b].max() for a, b in zip(first.tolist(), last.tolist(), strict=True)], np.int64)
    life = end - begin
    area = life * size
    found = []
    for keys in ((life, area, crowd), (crowd, area, life), (crowd, life, area), (area, life, crowd)):
        rank = np.empty(len(size), np.int64)
        rank[np.lexsort((np.arange(len(size)), *(-key for key in keys[::-1])))] = np.arange(len(size))
        found.append(rank)
    return tuple(found)


def shaken(rank: IntArray, number: int, tenths: int = 3) -> IntArray:
    """An order (n,) in which buffers are off their place by some tenths of all at most, another for every number."""
    count = len(rank)
    mixed = (rank * 2_654_435_761 + (number + 1) * 40_503 * 65_537) % (1 << 32)
    mixed = (mixed ^ (mixed >> 15)) * 0x2C1B3C6D % (1 << 32)
    mixed ^= mixed >> 12
    found = np.empty(count, np.int64)
    found[np.argsort(rank * 10_000 + mixed % (1_000 * tenths * count), kind="stable")] = np.arange(count)
    return found
