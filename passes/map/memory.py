"""Memory allocation: blocks with lifetimes and alignment, as low as they go, proved where it can be.

Two-dimensional packing with given times (Moffitt, "MiniMalloc", ASPLOS 2023): each buffer lives in a half-open span of
time and takes a contiguous range of addresses; buffers that live at the same time must not overlap. The least height
is at least the largest sum of sizes alive at one time.
First a canonical search (buffers in a fixed order, each at the lowest free offset, orders improved step by step), then
annealed orders, then CP-SAT's ``no_overlap_2d`` for what those leave open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.passes.map import heap, packing
from nmc.passes.map.canonical import first_fit, ranks, shaken
from nmc.passes.map.solver import solver as cp_solver
from nmc.passes.map.sparse import IntArray

_MAX_BUFFERS = 200_000
_MAX_BYTES = 1 << 48
_EXACT_BUFFERS = 1_000
#: Shares of the budget of the search: twice with each order as it is, and many short ones with the orders shaken.
_PLAIN, _SHAKEN, _SHAKES = (0.01, 0.06), 0.002, 120
#: Annealed orders, each with as many moves as the search has states: for a height that is enough, and before the rest
#: is left to halving, for a little more than that.
_HEAPS, _MORE_HEAPS, _MORE = 4, 12, 0.0196
_MOVES = 50_000  # where there are fewer, one more try is not worth its beginning
_LOWER = 0.05  # share of the budget for each height tried between the bound and the best found


@dataclass(frozen=True)
class Buffer:
    """A contiguous block that lives for a while.

    Attributes
    ----------
    name : str
        For messages.
    begin, end : int
        Life, `end` excluded.
    size : int
        Bytes (or words), positive.
    align : int
        Its offset is a multiple of this.
    """

    name: str
    begin: int
    end: int
    size: int
    align: int = 1


@dataclass(frozen=True)
class Allocation:
    """Offsets and what is proved about them.

    Attributes
    ----------
    offsets : tuple[int, ...]
        Of each buffer.
    height : int
        Bytes needed: the largest offset + size.
    bound : int
        No allocation needs less.
    status : str
        "optimal" if `height` equals `bound`, else "feasible".
    method : str
        "first-fit", "canonical", "annealed" or "cp-sat": the step that found the offsets.
    """

    offsets: tuple[int, ...]
    height: int
    bound: int
    status: str
    method: str

    @property
    def fragmentation(self) -> float:
        """Share of the height that the bound does not explain."""
        return (self.height - self.bound) / self.height if self.height else 0.0

    def fits(self, capacity: int) -> bool:
        """Whether a memory of so many bytes holds everything."""
        return self.height <= capacity


def allocate(
    buffers: Sequence[Buffer], capacity: int = 0, limit: float = 3.6, nodes: int = 1_000_000
) -> Allocation:
    """Give every buffer an offset.

    Parameters
    ----------
    buffers : Sequence[Buffer]
        What has to live in the memory.
    capacity : int
        Size of the memory: the search ends when everything fits. 0 asks for the least height.
    limit : float
        Deterministic time of CP-SAT (a unit is some ten seconds), used if the search before it leaves the
        question open; 0 does without.
    nodes : int
        States that the search may visit, about a million in ten seconds of compiled code; 0 does without.

    Returns
    -------
    Allocation
        Its height may exceed `capacity`: then none that fits was found, and if its bound does too, none exists.

    Raises
    ------
    ValueError
        For a buffer without size, life or alignment, or too many of them.
    """
    _check(buffers)
    if not buffers:
        return Allocation((), 0, 0, "optimal", "first-fit")
    work = _Work(*_columns(buffers), load(buffers), capacity)
    if work.open and nodes > 0 and len(buffers) <= packing.MOST:
        work.search(nodes)
        work.anneal(nodes, 0.0, range(_HEAPS))
    if work.open and work.bound <= work.enough and limit > 0 and len(buffers) <= _EXACT_BUFFERS:
        work.exact(limit)
    if work.open and nodes > 0 and len(buffers) <= packing.MOST:
        work.anneal(nodes, _MORE, range(_HEAPS, _HEAPS + _MORE_HEAPS))
        work.lower(nodes)
    status = "optimal" if work.height == work.bound else "feasible"
    return Allocation(tuple(work.offsets.tolist()), work.height, work.bound, status, work.method)


class _Work:
    """The best offsets so far, and what is proved."""

    def __init__(
        self, begin: IntArray, end: IntArray, size: IntArray, align: IntArray, bound: int, capacity: int
    ) -> None:
        self._columns = begin, end, size, align
        self.bound, self.enough = bound, max(bound, capacity)
        self.offsets, self.method = first_fit(begin, end, size, align, self.enough), "first-fit"
        unaligned = size if (align == 1).all() else np.concatenate([size, align])
        self._unit = int(np.gcd.reduce(unaligned))  # all heights are multiples

    @property
    def height(self) -> int:
        """Bytes needed."""
        return int((self.offsets + self._columns[2]).max())

    @property
    def open(self) -> bool:
        """Whether a lower allocation is of use and may exist."""
        return self.height > max(self.enough, self.bound)

    @property
    def _least_enough(self) -> int:
        """The height that is low enough, in whole units."""
        return self.enough // self._unit * self._unit

    def _take(self, offsets: IntArray, method: str) -> None:
        self.offsets, self.method = offsets, method

    def search(self, nodes: int) -> None:
        """Look for an allocation that is low enough, in several orders, then in many that are like them."""
        orders = ranks(*self._columns[:3])
        rounds = [(rank, share, False) for share in _PLAIN for rank in orders]
        rounds += [
            (shaken(orders[k % len(orders)], k, 1 + 2 * (k // 4 % 3)), _SHAKEN, k // 12 % 2 == 0)
            for k in range(_SHAKES)
        ]
        for rank, share, squeeze in rounds:
            budget = max(1, int(share * nodes))
            done = packing.pack(*self._columns, rank, self._least_enough, budget, squeeze=squeeze)
            if done.offsets is not None:
                return self._take(done.offsets, "canonical")
            if done.impossible:
                self.bound = self._least_enough + self._unit
                return None
        return None

    def anneal(self, moves: int, more: float, seeds: Iterable[int]) -> None:
        """Anneal orders for a height that is low enough, or a share `more` than that."""
        begin, end, size, align = self._columns
        high = int(self._least_enough * (1 + more)) // self._unit
        scaled = size // self._unit, np.maximum(align // self._unit, 1)
        if scaled[0].sum() + scaled[1].sum() >= heap.MOST:
            return
        for seed in islice(seeds, 1 + moves // _MOVES):
            if not self.open or self.bound > self.enough * (1 + more) or self.height <= high * self._unit:
                return
            found = heap.heap(begin, end, *scaled, high, moves, seed, timed=seed % 2 == 1)
            if found.height * self._unit < self.height:
                self._take(found.offsets * self._unit, "annealed")

    def exact(self, limit: float) -> None:
        """Ask CP-SAT for an allocation that is low enough."""
        if self.bound <= self._least_enough < self.height:
            found, infeasible = _solve_within(*self._columns, self._least_enough, limit)
            if found is not None:
                self._take(found, "cp-sat")
            elif infeasible:
                self.bound = max(self.bound, self._least_enough + self._unit)

    def lower(self, nodes: int) -> None:
        """Halve what lies between the heights known to be too low, or given up, and the best one."""
        low = max(self.bound, self._least_enough + self._unit) // self._unit
        budget, orders = max(1, int(_LOWER * nodes / 4)), ranks(*self._columns[:3])
        while low * self._unit < self.height:
            middle = (low + self.height // self._unit - 1) // 2
            done = packing.Packed(None, False, 0)
            for rank in orders:
                done = packing.pack(*self._columns, rank, middle * self._unit, budget)
                if done.offsets is not None or done.impossible:
                    break
            if done.offsets is not None:
                self._take(done.offsets, "canonical")
            else:
                low = middle + 1
            if done.impossible and middle * self._unit >= self.bound:
                self.bound = (middle + 1) * self._unit


def _check(buffers: Sequence[Buffer]) -> None:
    if len(buffers) > _MAX_BUFFERS:
        raise ValueError(f"{len(buffers)} buffers are more than {_MAX_BUFFERS}")
    for item in buffers:
        if not (item.begin < item.end and 0 < item.size <= _MAX_BYTES and 0 < item.align <= _MAX_BYTES):
            raise ValueError(f"buffer {item.name} needs a life, a size and an alignment above 0, not {item}")
        if max(abs(item.begin), abs(item.end)) > _MAX_BYTES:
            raise ValueError(f"buffer {item.name} lives outside of +-2^48")
    if sum(item.size + item.align for item in buffers) > _MAX_BYTES:
        raise ValueError("all buffers together exceed 2^48 bytes")


def _columns(buffers: Sequence[Buffer]) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    table = np.array([(b.begin, b.end, b.size, b.align) for b in buffers], np.int64)
    return table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy(), table[:, 3].copy()


def load(buffers: Sequence[Buffer]) -> int:
    """Largest sum of sizes alive at one time: a lower bound on the height."""
    events = sorted((time, change) for b in buffers for time, change in ((b.begin, b.size), (b.end, -b.size)))
    now = most = 0
    for _, change in events:  # at one time ends come first: their change is negative
        now += change
        most = max(most, now)
    return most


def conflicts(buffers: Sequence[Buffer], offsets: Sequence[int]) -> list[str]:
    """Check an allocation independently: every overlap, misalignment and negative offset, in words."""
    problems = [
        f"{b.name} at {o}: not a multiple of {b.align}"
        for b, o in zip(buffers, offsets, strict=True)
        if o % b.align
    ]
    problems += [f"{b.name} at {o}" for b, o in zip(buffers, offsets, strict=True) if o < 0]
    alive: list[int] = []
    for number in sorted(range(len(buffers)), key=lambda k: buffers[k].begin):
        one = buffers[number]
        alive = [k for k in alive if buffers[k].end > one.begin]
        problems += [
            f"{one.name} overlaps {buffers[k].name}"
            for k in alive
            if offsets[number] < offsets[k] + buffers[k].size and offsets[k] < offsets[number] + one.size
        ]
        alive.append(number)
    return problems


def _solve_within(
    begin: IntArray, end: IntArray, size: IntArray, align: IntArray, height: int, limit: float
) -> tuple[IntArray | None, bool]:
    """Offsets within `height`, if found; whether there are none."""
    from ortools.sat.python import cp_model

    unit = (
        int(np.gcd.reduce(np.concatenate([size, align]))) if (align > 1).any() else int(np.gcd.reduce(size))
    )
    model = cp_model.CpModel()
    size, align, top = (
        size // unit,
        np.maximum(align // unit, 1),
        height // unit,
    )  # all are multiples of the unit
    if (size > top).any():
        return None, True
    offsets, times, spaces = [], [], []
    for k in range(len(size)):
        slot = model.new_int_var(0, (top - int(size[k])) // int(align[k]), f"o{k}")
        offsets.append(int(align[k]) * slot)
        times.append(model.new_fixed_size_interval_var(int(begin[k]), int(end[k] - begin[k]), f"t{k}"))
        spaces.append(model.new_fixed_size_interval_var(offsets[k], int(size[k]), f"s{k}"))
    model.add_no_overlap_2d(times, spaces)
    for clique in cliques(begin, end):
        model.add_no_overlap([spaces[k] for k in clique])
    solver = cp_solver(limit, f"{len(size):,} buffers within {height:,}")
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, status == cp_model.INFEASIBLE
    return np.array([solver.value(o) for o in offsets], np.int64) * unit, False


def cliques(begin: IntArray, end: IntArray) -> list[list[int]]:
    """Maximal sets of buffers alive together, in the order of time."""
    found: list[list[int]] = []
    order = np.argsort(begin, kind="stable").tolist()
    alive: list[int] = []
    grown = False
    for k in order:
        if grown and any(end[j] <= begin[k] for j in alive):
            found.append(sorted(alive))
            grown = False
        alive = [j for j in alive if end[j] > begin[k]]
        alive.append(k)
        grown = True
    if alive:
        found.append(sorted(alive))
    return [clique for clique in found if len(clique) > 2]
