"""CP-SAT models for placement: boxes of a mesh, and any small problem.

Deterministic on every machine: one worker, a fixed seed, limits in deterministic time, models built in the
order of the parts and sites.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.passes.map.quadratic import Grid, IntArray, Quadratic, SiteClasses
from nmc.passes.map.solver import solver as cp_solver

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


_FIRST_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Proof:
    """What a search established: the best sites (P,), their cost, a proven bound, and the effort spent."""

    site: IntArray
    cost: int
    bound: int
    effort: float


@dataclass(frozen=True)
class _Answer:
    """Result of one model: chosen class of each part (None if nothing better exists or was found)."""

    classes: tuple[int, ...] | None
    bound: int
    effort: float


def _choices(model: cp_model.CpModel, parts: int, capacity: list[int]) -> list[list[cp_model.IntVar]]:
    """One boolean for each part and class; every part in one class, no class over its capacity."""
    chosen = [[model.new_bool_var(f"p{i}c{c}") for c in range(len(capacity))] for i in range(parts)]
    for row in chosen:
        model.add_exactly_one(row)
    for c, room in enumerate(capacity):
        if room < parts:
            model.add(sum(row[c] for row in chosen) <= room)
    return chosen


def _solve(
    model: cp_model.CpModel,
    chosen: list[list[cp_model.IntVar]],
    below: int,
    limit: float,
    scale: int = 1,
) -> _Answer:
    """Run the solver for `limit` units of deterministic time; nothing found proves `below` if it finished."""
    from ortools.sat.python import cp_model

    solver = cp_solver(limit, f"places of {len(chosen):,} cores")
    status = solver.solve(model)
    effort = float(solver.response_proto.deterministic_time)
    if status == cp_model.INFEASIBLE:
        return _Answer(None, below, effort)
    floor = solver.best_objective_bound
    bound = -(-round(floor) // scale) if math.isfinite(floor) and status != cp_model.MODEL_INVALID else 0
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return _Answer(None, min(below, bound), effort)
    found = tuple(next(c for c, x in enumerate(row) if solver.value(x)) for row in chosen)
    return _Answer(found, bound, effort)


def solve_boxes(
    problem: Quadratic,
    classes: SiteClasses,
    grid: Grid,
    profile: IntArray,
    boxes: dict[tuple[int, int], int],
    start: IntArray,
    limit: float,
) -> Proof:
    """Prove or improve a placement on a mesh, one bounding box of filled columns and rows after another.

    Parameters
    ----------
    problem, classes, grid : Quadratic, SiteClasses, Grid
        The problem, its tiles and its mesh (no linear terms).
    profile : IntArray
        (P + 1,) least traffic between k parts and the others (`bounds.cut_profile`).
    boxes : dict[tuple[int, int], int]
        Lower bound of every box that has to be considered (`bounds.box_bounds`).
    start : IntArray
        (P,) the best placement known.
    limit : float
        Deterministic time of all boxes together.

    Returns
    -------
    Proof
        Optimal if its bound equals its cost.
    """
    best, cost, spent = start, problem.cost(start), 0.0
    bounds = dict(boxes)
    for share in (_FIRST_SHARE, 1.0):  # the first pass closes the easy boxes, the second spends what is left
        for box in sorted(boxes, key=lambda b: (bounds[b], b)):
            if bounds[box] >= cost or spent >= limit:
                continue
            slot = min(share * limit, limit - spent)
            answer = _solve_box(problem, grid, profile, box, bounds[box], cost, slot)
            spent += answer.effort
            bounds[box] = max(bounds[box], answer.bound)
            if answer.classes is not None:
                best = classes.spread([c // box[1] * grid.height + c % box[1] for c in answer.classes])
                cost = problem.cost(best)
    return Proof(best, cost, min([cost, *bounds.values()]), spent)


def _solve_box(
    problem: Quadratic,
    grid: Grid,
    profile: IntArray,
    box: tuple[int, int],
    least: int,
    below: int,
    limit: float,
) -> _Answer:
    """Best placement cheaper than `below` on `box` columns x rows, all of them used."""
    from ortools.sat.python import cp_model

    wide, high = box
    model = cp_model.CpModel()
    chosen = _choices(model, problem.parts, [grid.capacity] * (wide * high))
    across = [[[row[x * high + y] for y in range(high)] for x in range(wide)] for row in chosen]
    upward = [[[row[x * high + y] for x in range(wide)] for y in range(high)] for row in chosen]
    centre = int(problem.weight.sum(axis=1).argmax())
    cuts = []
    for name, lines in (("x", across), ("y", upward)):
        count = len(lines[0])
        # the box may be mirrored: the busiest part stays in the first half
        for line in range((count + 1) // 2, count):
            for x in lines[centre][line]:
                model.add(x == 0)
        for line in range(count):
            model.add_bool_or(x for row in lines for x in row[line])
        cuts += _line_cuts(model, problem.weight, profile, name, lines)
    total = sum(cuts)
    model.add(total >= least)
    model.add(total <= below - 1)
    model.minimize(total)
    return _solve(model, chosen, below, limit)


def _line_cuts(
    model: cp_model.CpModel,
    weight: IntArray,
    profile: IntArray,
    name: str,
    lines: list[list[list[cp_model.IntVar]]],
) -> list[cp_model.IntVar]:
    """Traffic through each gap between neighbouring lines, at least the least cut for the parts beyond it."""
    parts, count = len(weight), len(lines[0])
    cuts = []
    for k in range(1, count):
        beyond = [model.new_bool_var(f"{name}{k}p{i}") for i in range(parts)]
        for i in range(parts):
            model.add(sum(x for line in lines[i][k:] for x in line) == beyond[i])
        cut = model.new_int_var(0, int(weight.sum()) // 2, f"{name}{k}cut")
        parted = []
        for i, j in zip(*np.nonzero(np.triu(weight)), strict=True):
            split = model.new_bool_var(f"{name}{k}p{i}p{j}")
            model.add(split >= beyond[i] - beyond[j])
            model.add(split >= beyond[j] - beyond[i])
            parted.append(int(weight[i, j]) * split)
        model.add(cut == sum(parted))
        number = model.new_int_var(0, parts, f"{name}{k}n")
        model.add(number == sum(beyond))
        floor = model.new_int_var(0, int(profile.max()), f"{name}{k}f")
        model.add_element(number, [int(v) for v in profile], floor)
        model.add(cut >= floor)
        cuts.append(cut)
    return cuts


def solve_general(
    problem: Quadratic,
    classes: SiteClasses,
    star: IntArray,
    start: IntArray,
    limit: float,
    least: int = 0,
) -> Proof:
    """Prove or improve a placement of a small problem of any kind.

    Kaufman and Broeckx (1978): the share v_i of each part is at least its cost on its class, or nothing if
    it is elsewhere; the Gilmore-Lawler shares (`bounds.star_matrix`) tighten it.  All costs are doubled.

    Parameters
    ----------
    problem, classes : Quadratic, SiteClasses
        The problem and its classes of equal sites.
    star : IntArray
        (P, S) twice the least share of each part on each site.
    start : IntArray
        (P,) the best placement known.
    limit : float
        Deterministic time.
    least : int
        Known lower bound on the cost without the constant.

    Returns
    -------
    Proof
        Optimal if its bound equals its cost.
    """
    from ortools.sat.python import cp_model

    cost = problem.cost(start)
    below = cost - problem.constant
    model = cp_model.CpModel()
    chosen = _choices(model, problem.parts, classes.size.tolist())
    shares = _shares(model, problem, classes, star, chosen, 2 * below)
    total = sum(shares)
    model.add(total >= 2 * least)
    model.add(total <= 2 * (below - 1))
    model.minimize(total)
    answer = _solve(model, chosen, below, limit, scale=2)
    if answer.classes is None:
        return Proof(start, cost, min(cost, problem.constant + answer.bound), answer.effort)
    best = classes.spread(answer.classes)
    return Proof(best, problem.cost(best), problem.constant + answer.bound, answer.effort)


def _shares(
    model: cp_model.CpModel,
    problem: Quadratic,
    classes: SiteClasses,
    star: IntArray,
    chosen: list[list[cp_model.IntVar]],
    share: int,
) -> list[cp_model.IntVar]:
    """Twice the cost of each part, at most `share`, tied to the chosen classes of it and its partners."""
    hops = problem.distance[np.ix_(classes.first, classes.first)]
    linear = problem.linear[:, classes.first]
    shares = []
    for i in range(problem.parts):
        v = model.new_int_var(0, share, f"v{i}")
        shares.append(v)
        alone = star[i, classes.first]
        model.add(v >= sum(int(w) * x for w, x in zip(alone, chosen[i], strict=True) if w))
        partners = np.flatnonzero(problem.weight[i])
        for c, here in enumerate(chosen[i]):
            if int(alone[c]) > share:
                model.add(here == 0)
                continue
            far = hops[c].max()
            slack = int(problem.weight[i].sum() * far) + 2 * int(linear[i, c])
            terms = [
                int(problem.weight[i, j] * hops[c, e]) * chosen[j][e]
                for j in partners
                for e in range(len(hops))
                if hops[c, e]
            ]
            model.add(v >= sum(terms) + 2 * int(linear[i, c]) - slack * (1 - here))
    return shares
