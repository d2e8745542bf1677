"""Search for a memory allocation without a solver: first fit, and canonical search with dominance pruning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nmc.passes.map.sparse import IntArray

_ROUNDS = 60  # of first fit with changing priorities
_CELLS = 3 * 10**8  # entries of (times x buffers) looked at by the search, at most
_FAR = np.int64(1 << 60)


def overlaps(begin: IntArray, end: IntArray) -> NDArray[np.bool_]:
    """Which buffers (n, n) live at the same time."""
    return np.asarray((begin[:, None] < end[None]) & (begin[None] < end[:, None]))


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


def search(
    begin: IntArray, end: IntArray, size: IntArray, align: IntArray, capacity: int, nodes: int
) -> IntArray | None:
    """Depth-first search for an allocation within `capacity`, in the order of offsets.

    Where nothing can sink any lower, a buffer lies on top of those placed before it. A buffer is not tried
    above the place where another one would fit whole (dominance); a branch ends where what is left at some time
    exceeds the room above the lowest offset (Moffitt 2023).

    Returns
    -------
    IntArray or None
        (n,) offsets; None if the search ran out of `nodes`.
    """
    times = np.unique(begin)
    alive = (begin[None] <= times[:, None]) & (times[:, None] < end[None])
    if alive.size * 2 > _CELLS:
        return None
    nodes = min(nodes, _CELLS // alive.size)
    load = alive @ size
    tallest = np.where(alive, load[:, None], 0).max(axis=0)
    for key in ((-tallest, -size * (end - begin)), (-(end - begin), -size)):
        rank = np.empty(len(size), np.int64)
        rank[np.lexsort((np.arange(len(size)), *key[::-1]))] = np.arange(len(size))
        found = _Canonical(begin, end, size, align, capacity, alive, rank).run(nodes // 2)
        if found is not None:
            return found
    return None


class _Canonical:
    """One depth-first search."""

    def __init__(
        self,
        begin: IntArray,
        end: IntArray,
        size: IntArray,
        align: IntArray,
        capacity: int,
        alive: NDArray[np.bool_],
        rank: IntArray,
    ) -> None:
        self._size, self._align, self._capacity = size, align, capacity
        self._alive, self._rank = alive, rank
        self._meets = overlaps(begin, end)

    def run(self, nodes: int) -> IntArray | None:
        """Offsets, if found within `nodes` placements."""
        count = len(self._size)
        open_, floor = np.ones(count, bool), np.zeros(count, np.int64)
        offset = np.zeros(count, np.int64)
        stack: list[tuple[Iterator[int], NDArray[np.bool_], IntArray]] = [
            (self._candidates(open_, floor, 0), open_, floor)
        ]
        while stack and nodes > 0:
            candidates, open_, floor = stack[-1]
            k = next(candidates, None)
            if k is None:
                stack.pop()
                continue
            nodes -= 1
            offset[k] = floor[k]
            open_, floor = open_.copy(), floor.copy()
            open_[k] = False
            if not open_.any():
                return offset
            top = floor[k] + self._size[k]
            hit = open_ & self._meets[k] & (floor < top)
            floor[hit] = -(-top // self._align[hit]) * self._align[hit]
            if self._fits(open_, floor):
                stack.append((self._candidates(open_, floor, int(offset[k])), open_, floor))
        return None

    def _fits(self, open_: NDArray[np.bool_], floor: IntArray) -> bool:
        """Whether at every time what is left has room above its lowest floor."""
        here = self._alive & open_
        lowest = np.where(here, floor, _FAR).min(axis=1)
        left = here @ self._size
        return bool((lowest + left <= self._capacity)[left > 0].all())

    def _candidates(self, open_: NDArray[np.bool_], floor: IntArray, least: int) -> Iterator[int]:
        """Buffers that may come next, best first."""
        ceiling = int((floor + self._size)[open_].min())
        found = np.flatnonzero(open_ & (floor >= least) & (floor < ceiling))
        order = np.lexsort((self._rank[found], floor[found]))
        return iter(found[order].tolist())
