"""Search for a memory allocation by annealing the order in which buffers are laid on one another, in C or in Python.

Each buffer rests on the highest of those before it that it meets in time: in the order of its offsets, every allocation
in which nothing can sink (canonical: Moffitt, "MiniMalloc", ASPLOS 2023) is given back by that. A step takes one
buffer to another place of the order: one that ends above the capacity, or below it the next one down that holds it up,
goes under what it rests on or the other way round; else any. The cost is what reaches above the capacity.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.passes.map import kernel
from nmc.passes.map.kernel import Engine
from nmc.passes.map.sparse import IntArray
from nmc.passes.map.twin import draws

MOST = 1 << 30  # units: no offset may be larger
_FAR = 1 << 60
_STAGES = 200
#: The first temperature is this share of the capacity, the last one this share of the first.
_HOT, _COLD = 1 / 85, 1 / 17
_CHUNK = 1 << 13
_SLOT = 32  # places between two states that the compiled code keeps
_INTEGERS = ("count", "sections", "capacity", "stages", "steps")
_ARRAYS = (
    "size", "align", "first", "last", "weight", "heat", "surprise", "order", "place", "offset", "trial", "rest",
    "sky", "kept", "sums", "which", "best", "told",
)  # fmt: skip


class _Heap(ctypes.Structure):
    """The structure ``Heap`` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _INTEGERS),
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Heaped:
    """The lowest allocation that a search came by.

    Attributes
    ----------
    offsets : IntArray
        (n,) lawful, within the capacity or not.
    height : int
        Of its highest end.
    moves : int
        Orders tried.
    """

    offsets: IntArray
    height: int
    moves: int


def heap(
    begin: IntArray,
    end: IntArray,
    size: IntArray,
    align: IntArray,
    capacity: int,
    moves: int,
    seed: int,
    engine: Engine = "auto",
    *,
    timed: bool = False,
) -> Heaped:
    """Look for an allocation within a capacity; there may be none, which this search cannot tell.

    Parameters
    ----------
    begin, end, size, align : IntArray
        (n,) life, size and alignment of each buffer; sizes and alignments add up to less than `MOST`.
    capacity : int
        The search ends when nothing is above it.
    moves : int
        Orders that may be tried, a million in three to ten seconds of compiled code for some hundred buffers.
    seed : int
        Another search for each.
    engine : {"auto", "c", "numpy"}
        Compiled or Python, with the same result; "auto" takes C where it can be had.
    timed : bool
        What is above the capacity counts in proportion to the time that it lives, not the same for all buffers.

    Raises
    ------
    RuntimeError
        If `engine` is "c" and there is no C compiler.
    """
    order = np.lexsort((np.arange(len(size)), begin - end))  # long lives first
    times = np.unique(np.concatenate([begin, end]))
    first, last = (np.searchsorted(times, each[order]).astype(np.int32) for each in (begin, end))
    weight = last - first if timed else np.full(len(size), 8, np.int32)
    arrays = {
        "size": size[order].astype(np.int32), "align": align[order].astype(np.int32), "first": first, "last": last,
        "weight": weight.astype(np.int32), "heat": _heat(capacity), "surprise": kernel.SURPRISE,
    }  # fmt: skip
    numbers = (len(size), len(times), capacity, _STAGES, max(1, moves // _STAGES))
    code = None if engine == "numpy" else kernel.library()
    if code is None and engine == "c":
        raise RuntimeError("there is no C compiler")
    if code is None:
        twin = _Twin(arrays, numbers, seed)
        found, height, tried = np.array(twin.run(), np.int64), twin.height, twin.moves
    else:
        found, height, tried = _compiled(code, arrays, numbers, seed)
    offsets = np.zeros(len(size), np.int64)
    offsets[order] = found
    return Heaped(offsets, height, tried)


def _heat(capacity: int) -> IntArray:
    """Temperatures of the stages, times 1024, falling by one factor: rounded, whatever the libm."""
    factor = np.cumprod(np.full(_STAGES, _COLD ** (1 / (_STAGES - 1)))) / _COLD ** (1 / (_STAGES - 1))
    heat: IntArray = np.rint(capacity * _HOT * factor * 1024).astype(np.int64)
    return heat


def _compiled(
    code: Any, arrays: dict[str, Any], numbers: tuple[int, ...], seed: int
) -> tuple[IntArray, int, int]:
    count, sections = numbers[:2]
    own: dict[str, Any] = {
        name: np.zeros(count, np.int32) for name in ("place", "offset", "trial", "rest", "best")
    }
    own |= {"order": np.arange(count, dtype=np.int32), "sky": np.zeros(sections, np.int32)}
    slots = -(-count // _SLOT)
    own |= {"kept": np.zeros(2 * slots * sections, np.int32), "which": np.zeros(slots, np.int32)}
    told, own["sums"] = np.zeros(3, np.int64), np.zeros(4 * slots, np.int64)
    whole = {name: np.ascontiguousarray(value) for name, value in {**arrays, **own, "told": told}.items()}
    code.nmc_heap(ctypes.byref(_Heap(*numbers, seed, *(whole[name].ctypes.data for name in _ARRAYS))))
    best: IntArray = whole["best"].astype(np.int64)
    return best, int(whole["told"][1]), int(whole["told"][2])


class _Twin:
    """The search of ``kernel.c``, move by move."""

    def __init__(self, arrays: dict[str, Any], numbers: tuple[int, ...], seed: int) -> None:
        self._size, self._align, self._first, self._last, self._weight, self._heat, self._surprise = (
            arrays[name].tolist() for name in ("size", "align", "first", "last", "weight", "heat", "surprise")
        )
        self._count, self._sections, self._capacity, self._stages, self._steps = numbers
        self._seed, self._cost, self.height, self.moves = seed, 0, _FAR, 0
        self._order = list(range(self._count))
        self._place, self._offset, self._best = list(self._order), [0] * self._count, [0] * self._count

    def run(self) -> list[int]:
        """Offsets of the lowest allocation seen."""
        self._straighten()
        whole = self._stages * self._steps
        for begin in range(0, whole, _CHUNK):
            for n, (u, v) in enumerate(
                zip(*draws(self._seed, begin, min(begin + _CHUNK, whole)), strict=True), begin
            ):
                if self._cost == 0:
                    return self._best
                self.moves += 1
                self._move(n, u, v)
        return self._best

    def _move(self, n: int, u: int, v: int) -> None:
        source, goal = self._shift(u, v)
        if source == goal:
            return
        trial = self._order.copy()
        trial.insert(goal, trial.pop(source))
        limit = self._cost + ((self._heat[n // self._steps] * self._surprise[v & 4095]) >> 30)
        cost, rest = self._laid(trial, limit)
        if cost < _FAR:
            self._accept(trial, cost, rest)
            if n % 64 == 0:
                self._straighten()

    def _laid(self, trial: list[int], limit: int) -> tuple[int, list[int]]:
        cost, rest, sky = 0, [0] * self._count, [0] * self._sections
        for b in trial:
            first, last = self._first[b], self._last[b]
            rest[b] = -(-max(sky[first:last]) // self._align[b]) * self._align[b]
            top = rest[b] + self._size[b]
            sky[first:last] = [top] * (last - first)
            if top > self._capacity:
                cost += (min(top - self._capacity, self._size[b]) * self._weight[b] >> 3) + 1
                if cost > limit:
                    return _FAR, rest
        return cost, rest

    def _straighten(self) -> None:
        order = sorted(self._order, key=self._offset.__getitem__)
        self._accept(order, *self._laid(order, _FAR))

    def _accept(self, trial: list[int], cost: int, rest: list[int]) -> None:
        self._order, self._offset, self._cost = trial, rest, cost
        for at, b in enumerate(self._order):
            self._place[b] = at
        height = max(map(int.__add__, rest, self._size), default=0)
        if height < self.height:
            self._best, self.height = rest, height

    def _shift(self, u: int, v: int) -> tuple[int, int]:
        kind, some, far = u & 7, (u >> 32) * self._count >> 32, (v >> 38) * self._count >> 26
        if kind < 5 and (pair := self._stacked(some, (u >> 3) & 7)):
            upper, lower = (self._place[b] for b in pair)
            return (lower if kind == 3 else upper), (lower if kind < 3 else upper if kind == 3 else far)
        source = self._place[some]
        if kind == 7:
            return source, min(max(source + ((v >> 38) * 21 >> 26) - 10, 0), self._count - 1)
        return source, far

    def _stacked(self, start: int, down: int) -> tuple[int, int] | None:
        around = [*range(start, self._count), *range(start)]
        b = next((j for j in around if self._offset[j] + self._size[j] > self._capacity), start)
        found = None
        for _ in range(down + 1):
            below = next((j for j in around if self._holds(j, b)), -1)
            if below < 0:
                break
            found, b = (b, below), below
        return found

    def _holds(self, j: int, b: int) -> bool:
        if not (self._first[j] < self._last[b] and self._first[b] < self._last[j]):
            return False
        top = self._offset[j] + self._size[j]
        return bool(self._offset[j] < self._offset[b] == -(-top // self._align[b]) * self._align[b])
