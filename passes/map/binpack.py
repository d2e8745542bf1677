"""Put items on the fewest bins, then with the least traffic between bins, then evenly: solved, bounded, proved.

Items that differ in what a core shares (`Items.shared`) never meet in a bin, so each class is a problem of its own and
the answers add up. Small classes are solved exactly over subsets (`binpack_exact.subsets`), larger ones by first fit in
several orders, exact windows and CP-SAT (`binpack_search`, `binpack_exact.cp_sat`); the bounds are in `binpack_bounds`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass

IntArray = NDArray[np.int64]
Effort = Literal["fast", "normal", "best"]

#: Steps of subset search, of one class and of one window; windows tried; deterministic seconds of CP-SAT a class.
_BUDGETS: Mapping[str, tuple[int, int, int, float]] = {
    "fast": (20_000_000, 500_000, 40, 1.0),
    "normal": (200_000_000, 2_000_000, 200, 2.0),
    "best": (1_000_000_000, 8_000_000, 1000, 30.0),
}


@dataclass(frozen=True)
class Items:
    """What is to be packed.

    Attributes
    ----------
    sizes : sequence of sequence of int
        (N, R) what each item takes of each resource; amounts in a bin add up.
    capacity : sequence of int
        (R,) what a bin has.
    shared : sequence
        Class of each item; items of different classes may not share a bin. Empty: all may.
    traffic : mapping
        Traffic between two different items, given once or in both directions (which add up).
    fixed : mapping
        Bin of each item that has one; items of one class with different bins stay apart.
    """

    sizes: Sequence[Sequence[int]]
    capacity: Sequence[int]
    shared: Sequence[Hashable] = ()
    traffic: Mapping[tuple[int, int], int] = field(default_factory=dict)
    fixed: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Packing:
    """An assignment of items to bins and what is proved about it.

    Attributes
    ----------
    assignment : tuple of int
        Bin of each item. Fixed items have the bin they asked for, the others the lowest free numbers in the order in
        which they come.
    bins : int
        Bins used.
    traffic : int
        Traffic between items of different bins.
    fill : int
        The largest share of a resource that a bin has in use, in thousandths, rounded up.
    bins_bound, traffic_bound : int
        No lawful assignment has fewer bins; none with at most `bins` bins has less traffic.
    status : str
        "optimal" if both bounds are reached, else "feasible".
    bounds : tuple of (str, int)
        Every lower bound on the bins that was computed, by name.
    """

    assignment: tuple[int, ...]
    bins: int
    traffic: int
    fill: int
    bins_bound: int
    traffic_bound: int
    status: str
    bounds: tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Items of one class as arrays: sizes (N, R), capacity (R,), symmetric traffic (N, N), pairs that clash (N, N)."""

    sizes: IntArray
    capacity: IntArray
    traffic: IntArray
    clash: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Number of items."""
        return len(self.sizes)

    def part(self, items: IntArray) -> Group:
        """The group that only these items make."""
        at = np.ix_(items, items)
        return Group(self.sizes[items], self.capacity, self.traffic[at], self.clash[at])

    def cut(self, bins: IntArray) -> int:
        """Traffic between items of different bins."""
        return int(self.traffic[bins[:, None] != bins[None]].sum()) // 2

    def fill(self, bins: IntArray) -> int:
        """Largest share of a resource in use, in thousandths, rounded up."""
        load = np.zeros((int(bins.max()) + 1, len(self.capacity)), np.int64)
        np.add.at(load, bins, self.sizes)
        return int((-(-1000 * load // np.maximum(self.capacity, 1))).max(initial=0))


@dataclass(frozen=True, eq=False)
class Answer:
    """Bins 0..k-1 of the items of a group and the bounds that are proved for it."""

    bins: IntArray
    bins_bound: int
    traffic_bound: int
    bounds: Mapping[str, int]


def pack(items: Items, effort: Effort = "normal", seed: int = 0) -> Packing:
    """Assign items to bins: fewest bins, then least traffic between bins, then least fill of the fullest.

    Parameters
    ----------
    items : Items
        Sizes, capacities, classes, traffic and fixed bins.
    effort : {"fast", "normal", "best"}
        How much is tried; all limits are counts of steps or CP-SAT's deterministic time.
    seed : int
        Of the choice of windows.

    Returns
    -------
    Packing
        The same on every machine for the same items, effort and seed.

    Raises
    ------
    ValueError
        When an item or the items fixed to one bin take more than a bin has, or a bin is asked for by two classes.
    """
    shared = list(items.shared) or [()] * len(items.sizes)
    members: dict[Hashable, list[int]] = {}
    for index, key in enumerate(shared):
        members.setdefault(key, []).append(index)
    _check(items, shared)
    chosen = np.zeros(len(shared), np.int64)
    used = bound = cut = cut_bound = fill = 0
    names: dict[str, int] = {}
    for found in members.values():
        group, joined = _group(items, found)
        answer = _solve(group, effort, seed)
        chosen[found] = answer.bins[joined] + used
        used += int(answer.bins.max()) + 1
        bound, cut_bound = bound + answer.bins_bound, cut_bound + answer.traffic_bound
        cut, fill = cut + group.cut(answer.bins), max(fill, group.fill(answer.bins))
        for name, value in answer.bounds.items():
            names[name] = names.get(name, 0) + value
    apart = sum(each for (a, b), each in items.traffic.items() if shared[a] != shared[b])
    status = "optimal" if (used, cut) == (bound, cut_bound) else "feasible"
    assignment = _numbers(chosen, items.fixed)
    return Packing(
        assignment, used, cut + apart, fill, bound, cut_bound + apart, status, tuple(names.items())
    )


def _check(items: Items, shared: Sequence[Hashable]) -> None:
    owner: dict[int, Hashable] = {}
    for index, number in items.fixed.items():
        if owner.setdefault(number, shared[index]) != shared[index]:
            raise ValueError(f"bin {number} is asked for by items that may not share one")
    if any(weight < 0 for weight in items.traffic.values()) or any(a == b for a, b in items.traffic):
        raise ValueError("traffic is between two different items and not negative")
    if any(size < 0 for row in items.sizes for size in row):
        raise ValueError("sizes are not negative")


def _group(items: Items, members: Sequence[int]) -> tuple[Group, IntArray]:
    """The items of a class, those fixed to one bin joined into one; and which of them each item went into."""
    ids: dict[tuple[str, int], int] = {}
    joined = [
        ids.setdefault(("bin", items.fixed[i]) if i in items.fixed else ("item", i), len(ids))
        for i in members
    ]
    capacity = np.asarray(items.capacity, np.int64)
    sizes = np.zeros((len(ids), len(capacity)), np.int64)
    np.add.at(
        sizes, joined, np.asarray([items.sizes[i] for i in members], np.int64).reshape(len(members), -1)
    )
    if (sizes > capacity).any():
        raise ValueError("an item takes more than a bin has")
    place = dict(zip(members, joined, strict=True))
    traffic = np.zeros((len(ids), len(ids)), np.int64)
    for (a, b), weight in items.traffic.items():
        if a in place and b in place and place[a] != place[b]:
            traffic[place[a], place[b]] += weight
            traffic[place[b], place[a]] += weight
    tied = np.array([kind == "bin" for kind, _ in ids])
    clash = tied[:, None] & tied[None]
    for resource, room in enumerate(capacity):
        column = sizes[:, resource]
        clash |= column[:, None] + column[None] > room
    np.fill_diagonal(clash, False)
    return Group(sizes, capacity, traffic, clash), np.asarray(joined, np.int64)


def _numbers(chosen: IntArray, fixed: Mapping[int, int]) -> tuple[int, ...]:
    """Bins as they are numbered in the answer."""
    name = {int(chosen[index]): number for index, number in fixed.items()}
    taken, free = set(fixed.values()), 0
    for each in map(int, chosen):
        if each not in name:
            while free in taken:
                free += 1
            name[each] = free
            taken.add(free)
    return tuple(name[int(each)] for each in chosen)


def _solve(group: Group, effort: Effort, seed: int) -> Answer:
    """Pack one class: over subsets where that is few steps, else search, CP-SAT and bounds."""
    from nmc.passes.map import binpack_exact as exact
    from nmc.passes.map import binpack_search as search
    from nmc.passes.map.binpack_bounds import bin_bounds, traffic_bound

    whole, window, rounds, limit = _BUDGETS[effort]
    bounds = bin_bounds(group)
    solved = exact.subsets(group, whole)
    if solved is not None:
        count = int(solved.max()) + 1
        return Answer(solved, count, group.cut(solved), {**bounds, "subsets": count})
    least = max(bounds.values())
    bins = search.search(group, least, rounds, window, seed)
    proof = exact.cp_sat(group, bins, least, limit)
    bounds["cp-sat"] = proof.bins_bound
    least = max(bounds.values())
    count = int(proof.bins.max()) + 1
    below = max(proof.traffic_bound, traffic_bound(group, count))
    return Answer(proof.bins, least, min(below, group.cut(proof.bins)), bounds)
