"""Exact packing: over all subsets where they are few, by CP-SAT in deterministic time beyond."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.passes.map.binpack import Group, IntArray
from nmc.passes.map.solver import solver as cp_solver

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

#: Items up to which subsets are bits of an index.
_BITS = 20
#: Items times bins up to which a CP-SAT model is built.
_CELLS = 1500


def subsets(group: Group, budget: int) -> IntArray | None:
    """Pack optimally by dynamic programming over subsets; None where that takes more than `budget` steps.

    The best packing of a set is one lawful bin with the set's first item and the best packing of the rest. Bins and
    traffic kept inside add up and the fill is a maximum, so the order by (bins, traffic, fill) goes through.
    """
    n = group.count
    if n > _BITS:
        return None
    lawful = _lawful(group)
    sizes = np.bitwise_count(lawful.astype(np.uint64)).astype(np.int64)
    first = np.bitwise_count((lawful & -lawful).astype(np.uint64) - 1).astype(np.int64)
    steps = np.where(first > 0, 1 << np.maximum(n - first - sizes, 0), 1)
    if int(steps.sum()) + 64 * len(lawful) > budget:
        return None
    kept, fill = _worth(group, lawful)
    base = int(group.traffic.sum()) // 2 + 1
    cost = base - kept  # one bin and what it does not keep, so that fewer bins come first
    return _program(n, lawful, first, cost, fill)


def _lawful(group: Group) -> IntArray:
    """All sets of items that one bin holds, as bits, ascending."""
    sets, loads = np.zeros(1, np.int64), np.zeros((1, len(group.capacity)), np.int64)
    for item in range(group.count):
        more = loads + group.sizes[item]
        enemies = int((group.clash[item].astype(np.int64) << np.arange(group.count)).sum())
        good = (more <= group.capacity).all(axis=1) & ((sets & enemies) == 0)
        sets = np.concatenate([sets, sets[good] | 1 << item])
        loads = np.concatenate([loads, more[good]])
    return sets[1:]


def _worth(group: Group, lawful: IntArray) -> tuple[IntArray, IntArray]:
    """Traffic inside each set, and its fill."""
    inside = (lawful[:, None] >> np.arange(group.count)) & 1
    kept = np.einsum("si,si->s", inside @ group.traffic, inside) // 2
    load = inside @ group.sizes
    return kept, (-(-1000 * load // np.maximum(group.capacity, 1))).max(axis=1, initial=0)


def _program(n: int, lawful: IntArray, first: IntArray, cost: IntArray, fill: IntArray) -> IntArray:
    """Best packing of all items, given every lawful bin, its first item, cost and fill."""
    top = np.iinfo(np.int64).max // 2
    best = np.full(1 << n, top)
    most = np.zeros(1 << n, np.int64)
    bin_of = np.zeros(1 << n, np.int64)
    best[0] = 0
    for item in range(n - 1, -1, -1):
        later = (1 << n) - (1 << (item + 1))
        for at in np.flatnonzero(first == item):
            chosen = int(lawful[at])
            rest = _parts_of(later & ~chosen) if item else np.array([later & ~chosen])
            total, filled = best[rest] + cost[at], np.maximum(most[rest], fill[at])
            whole = rest | chosen
            better = (total < best[whole]) | ((total == best[whole]) & (filled < most[whole]))
            where = whole[better]
            best[where], most[where], bin_of[where] = total[better], filled[better], chosen
    bins, left, number = np.zeros(n, np.int64), (1 << n) - 1, 0
    while left:
        members = int(bin_of[left])
        bins[(members >> np.arange(n)) & 1 == 1] = number
        left, number = left & ~members, number + 1
    return bins


def _parts_of(bits: int) -> IntArray:
    """All subsets of a set of bits."""
    found = np.zeros(1, np.int64)
    while bits:
        low = bits & -bits
        found = np.concatenate([found, found | low])
        bits ^= low
    return found


@dataclass(frozen=True, eq=False)
class Proof:
    """The best bins known, a bound on their number, and one on the traffic with at most so many."""

    bins: IntArray
    bins_bound: int
    traffic_bound: int


def cp_sat(group: Group, bins: IntArray, least: int, limit: float) -> Proof:
    """Prove or improve a packing: fewer bins while that can be had, then less traffic on so many.

    Parameters
    ----------
    group : Group
        What is packed.
    bins : IntArray
        (N,) a lawful packing, bins 0..k-1.
    least : int
        Known lower bound on the bins.
    limit : float
        Deterministic time, for each of the two questions.
    """
    if group.count * (int(bins.max()) + 1) > _CELLS:
        return Proof(bins, least, 0)
    while (count := int(bins.max()) + 1) > least:
        found, refuted = _fewer(group, bins, count - 1, limit)
        if refuted:
            least = count
        if found is None:
            break
        bins = found
    return _less_traffic(group, bins, least, limit)


def _choices(model: cp_model.CpModel, group: Group, count: int) -> list[list[cp_model.IntVar]]:
    """One boolean for each item and bin; capacities, clashes, and bins in the order of their first items."""
    order = range(group.count)
    chosen = [[model.new_bool_var(f"i{i}b{b}") for b in range(count)] for i in order]
    for i, row in enumerate(chosen):
        model.add_exactly_one(row)
        for b in range(i + 1, count):
            model.add(row[b] == 0)
    for b in range(count):
        for resource, room in enumerate(group.capacity):
            model.add(sum(int(group.sizes[i, resource]) * chosen[i][b] for i in order) <= int(room))
        for i, j in zip(*np.nonzero(np.triu(group.clash)), strict=True):
            model.add_bool_or(chosen[i][b].negated(), chosen[j][b].negated())
    for i in range(1, group.count):
        for b in range(1, min(i + 1, count)):
            model.add(sum(chosen[j][b - 1] for j in range(i)) >= chosen[i][b])
    return chosen


def _fewer(group: Group, bins: IntArray, count: int, limit: float) -> tuple[IntArray | None, bool]:
    """A packing on `count` bins if one is found, and whether there is proved to be none."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    order = np.argsort(-(group.sizes / np.maximum(group.capacity, 1)).max(axis=1), kind="stable")
    chosen = _choices(model, group.part(order), count)
    solver = cp_solver(limit, f"{group.count:,} boxes on {count:,} cores")
    status = solver.solve(model)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        found = np.zeros_like(bins)
        found[order] = _values(solver, chosen)
        return canonical(found), False
    return None, status == cp_model.INFEASIBLE


def _values(solver: cp_model.CpSolver, chosen: list[list[cp_model.IntVar]]) -> IntArray:
    return np.array([next(b for b, x in enumerate(row) if solver.value(x)) for row in chosen], np.int64)


def _less_traffic(group: Group, bins: IntArray, least: int, limit: float) -> Proof:
    """Minimise the traffic between as many bins as there are."""
    from ortools.sat.python import cp_model

    count, bins = int(bins.max()) + 1, canonical(bins)
    model = cp_model.CpModel()
    chosen = _choices(model, group, count)
    kept = []
    for i, j in zip(*np.nonzero(np.triu(group.traffic)), strict=True):
        if group.clash[i, j]:
            continue
        together = model.new_bool_var(f"i{i}i{j}")
        for b in range(count):
            model.add_bool_or(together.negated(), chosen[i][b].negated(), chosen[j][b])
        kept.append(int(group.traffic[i, j]) * together)
    for row, b in zip(chosen, bins, strict=True):
        for number, x in enumerate(row):
            model.add_hint(x, number == int(b))
    model.maximize(sum(kept))
    solver = cp_solver(limit, f"traffic of {group.count:,} boxes on {count:,} cores")
    status = solver.solve(model)
    total = int(group.traffic.sum()) // 2
    top = solver.best_objective_bound
    bound = max(0, total - math.floor(top + 1e-6)) if math.isfinite(top) else 0
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        found = canonical(_values(solver, chosen))
        if (group.cut(found), group.fill(found)) < (group.cut(bins), group.fill(bins)):
            bins = found
    return Proof(bins, least, bound)


def canonical(bins: IntArray) -> IntArray:
    """Number bins in the order in which items first use them."""
    _, where, back = np.unique(bins, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(where))[back], np.int64)
