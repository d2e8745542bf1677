"""Search for a memory allocation within a capacity: buffers in the order of their offsets, in C or in Python.

Where nothing can sink any lower, a buffer lies on one that was placed before it (Moffitt, "MiniMalloc", ASPLOS 2023).
A buffer is not tried above the place where another would fit whole; one that could have come earlier must be raised by
another that is left; a branch ends where, at some time, what is left exceeds the room above its lowest offset; and
buffers that no chain of others ties together are placed apart from one another. Where some time has no room to spare,
one of those that can begin at its lowest free offset must do so: on request these alone are tried. The search is
complete: within its budget it finds an allocation, or proves that there is none.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.passes.map import kernel
from nmc.passes.map.kernel import Engine
from nmc.passes.map.sparse import IntArray

MOST = 2_000  # buffers: the search keeps a copy of all offsets at every depth
_FAR = 1 << 60
_ARRAYS = (
    "size", "align", "first", "last", "rank", "offset", "told", "low", "list", "next", "floor", "total",
    "roof", "tally", "least", "order",
)  # fmt: skip


class _Pack(ctypes.Structure):
    """The structure ``Pack`` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("count", "capacity", "budget", "squeeze")),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Packed:
    """What a search found.

    Attributes
    ----------
    offsets : IntArray or None
        (n,) an allocation within the capacity.
    impossible : bool
        The search ended without one: there is none.
    nodes : int
        States visited.
    """

    offsets: IntArray | None
    impossible: bool
    nodes: int


def pack(
    begin: IntArray,
    end: IntArray,
    size: IntArray,
    align: IntArray,
    rank: IntArray,
    capacity: int,
    budget: int,
    engine: Engine = "auto",
    *,
    squeeze: bool = False,
) -> Packed:
    """Look for offsets of buffers within a capacity.

    Parameters
    ----------
    begin, end, size, align : IntArray
        (n,) life, size and alignment of each buffer.
    rank : IntArray
        (n,) a permutation: which of several buffers at the same offset comes first.
    capacity : int
        No buffer ends above it.
    budget : int
        States that may be visited.
    engine : {"auto", "c", "numpy"}
        Compiled or Python, with the same result; "auto" takes C where it can be had.
    squeeze : bool
        Where some time has no room to spare, decide first what begins there.

    Raises
    ------
    ValueError
        For more than `MOST` buffers.
    RuntimeError
        If `engine` is "c" and there is no C compiler.
    """
    if len(size) > MOST:
        raise ValueError(f"{len(size)} buffers are more than {MOST}")
    order = np.lexsort((np.arange(len(size)), begin))
    times = np.unique(begin)
    fields = {
        "size": size[order], "align": align[order],
        "first": np.searchsorted(times, begin[order]).astype(np.int32),
        "last": np.searchsorted(times, end[order]).astype(np.int32),
        "rank": rank[order].astype(np.int32),
    }  # fmt: skip
    code = None if engine == "numpy" else kernel.library()
    if code is None and engine == "c":
        raise RuntimeError("there is no C compiler")
    if code is None:
        twin = _Twin(fields, capacity, budget, squeeze)
        result, nodes, found = twin.run(), twin.nodes, np.array(twin.offset, np.int64)
    else:
        result, nodes, found = _compiled(code, fields, len(times), (capacity, budget, int(squeeze)))
    offsets = np.zeros(len(size), np.int64)
    offsets[order] = found
    return Packed(offsets if result == 1 else None, result == 0, nodes)


def _compiled(
    code: Any, fields: dict[str, Any], sections: int, limits: tuple[int, int, int]
) -> tuple[int, int, IntArray]:
    count = len(fields["size"])
    square = (count + 1) * count
    arrays = {
        **fields, "offset": np.zeros(count, np.int64), "told": np.zeros(2, np.int64),
        "low": np.zeros(square, np.int64), "list": np.zeros(square, np.int32),
        "next": np.zeros(square, np.int32), "floor": np.zeros(sections, np.int64),
        "total": np.zeros(sections, np.int64), "tally": np.zeros(sections, np.int64),
        "roof": np.zeros(sections, np.int64), "least": np.zeros(count, np.int64),
        "order": np.zeros(count, np.int32),
    }  # fmt: skip
    whole = {name: np.ascontiguousarray(arrays[name]) for name in _ARRAYS}
    code.nmc_pack(ctypes.byref(_Pack(count, *limits, *(a.ctypes.data for a in whole.values()))))
    return int(whole["told"][1]), int(whole["told"][0]), whole["offset"]


class _Twin:
    """The search of ``kernel.c``, state by state."""

    def __init__(self, fields: dict[str, Any], capacity: int, budget: int, squeeze: bool) -> None:
        self._size, self._align, self._first, self._last, self._rank = (
            fields[name].tolist() for name in ("size", "align", "first", "last", "rank")
        )
        self._capacity, self._budget, self._squeeze = capacity, budget, squeeze
        self.nodes, self.offset = 0, [0] * len(self._size)

    def run(self) -> int:
        """1 for an allocation, 0 if there is none, -1 if the budget is spent."""
        with _deep(4 * len(self._size) + 1_000):
            return self._search(list(range(len(self._size))), [0] * len(self._size), -1, -1)

    def _search(self, left: list[int], low: list[int], at: int, mark: int) -> int:
        i = 0
        while i < len(left):
            reach, j = self._last[left[i]], i + 1
            while j < len(left) and self._first[left[j]] < reach:
                reach, j = max(reach, self._last[left[j]]), j + 1
            found = self._component(left[i:j], low, at, mark)
            if found != 1:
                return found
            i = j
        return 1

    def _component(self, left: list[int], low: list[int], at: int, mark: int) -> int:
        if self.nodes >= self._budget:
            return -1
        self.nodes += 1
        chosen, tight = self._choices(left, low, at, mark)
        for b in chosen:
            top, lows = low[b] + self._size[b], low.copy()
            self.offset[b] = low[b]
            for j in left:
                if low[j] < top and self._first[j] < self._last[b] and self._first[b] < self._last[j]:
                    lows[j] = -(-top // self._align[j]) * self._align[j]
            after = (at, mark) if tight else (low[b], self._rank[b])
            found = self._search([j for j in left if j != b], lows, *after)
            if found:
                return found
        return 0

    def _choices(self, left: list[int], low: list[int], at: int, mark: int) -> tuple[list[int], bool]:
        ceiling = min(low[b] + self._size[b] for b in left)
        late = {b for b in left if (low[b], self._rank[b]) <= (at, mark)}
        least = {b: self._raised(left, low, b, at) if b in late else low[b] for b in left}
        if any(least[b] + self._size[b] > self._capacity for b in left):
            return [], False
        total: dict[int, int] = {}
        floor: dict[int, int] = {}
        for b in sorted(left, key=lambda b: -least[b]):
            for s in range(self._first[b], self._last[b]):
                floor[s], total[s] = least[b], total.get(s, 0) + self._size[b]
                if floor[s] + total[s] > self._capacity:
                    return [], False
        usual = [b for b in left if b not in late and low[b] < ceiling]
        full = {s for s in floor if self._squeeze and floor[s] + total[s] == self._capacity}
        few = self._tightest(left, late, least, floor, full) if full else []
        chosen = few if 0 < len(few) <= len(usual) else usual
        return sorted(chosen, key=lambda b: (low[b], self._rank[b])), chosen is few

    def _tightest(
        self, left: list[int], late: set[int], least: dict[int, int], floor: dict[int, int], full: set[int]
    ) -> list[int]:
        """At a time without room to spare one of few buffers lies lowest: those of the time with the fewest."""
        spans = {b: range(self._first[b], self._last[b]) for b in left}
        roof: dict[int, int] = {}
        for b in left:
            for s in spans[b]:
                roof[s] = min(roof.get(s, _FAR), least[b] + self._size[b])
        lowest: dict[int, list[int]] = {s: [] for s in sorted(full)}
        unclear: set[int] = set()
        for b in left:
            clear = b not in late and all(roof[s] > least[b] for s in spans[b])
            for s in full.intersection(spans[b]):
                if least[b] == floor[s]:
                    lowest[s].append(b)
                    unclear.update(() if clear else (s,))
        return min((found for s, found in lowest.items() if s not in unclear), key=len, default=[])

    def _raised(self, left: list[int], low: list[int], b: int, at: int) -> int:
        tops = [
            max(low[j], at) + self._size[j]
            for j in left
            if j != b and self._first[j] < self._last[b] and self._first[b] < self._last[j]
        ]
        return -(-min(tops) // self._align[b]) * self._align[b] if tops else _FAR


@contextmanager
def _deep(frames: int) -> Iterator[None]:
    """Room for so many calls within one another; Python's own frames take no C stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, frames))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
