"""Placement: which site of the mesh holds which part, with a proven lower bound on the cost.

Method (design 05-mapping, section 2): several starts, annealing, then CP-SAT as an exact model for small
problems or on windows of large ones.  The same answer on every machine, whatever its load or cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from nmc.passes.map import anneal, bounds, decompose, exact, windows
from nmc.passes.map.quadratic import (
    Grid,
    IntArray,
    Quadratic,
    SiteClasses,
    as_grid,
    mesh_distance,
    site_classes,
)

__all__ = ["Effort", "IntArray", "Placement", "mesh_distance", "place"]

Effort = Literal["fast", "normal", "best"]
_MAX_COST = 2**50  # twice the largest possible cost times the number of sites must fit in 64 bits


@dataclass(frozen=True)
class Placement:
    """A placement and what is proved about it.

    Attributes
    ----------
    site : tuple[int, ...]
        Site of each part, all different.
    objective : int
        Sum over all ordered pairs of parts of traffic[i, j] * distance[site_i, site_j].
    bound : int
        Proven lower bound on the objective of every lawful placement.
    gap : float
        (objective - bound) / objective, 0.0 if the objective is 0.
    status : str
        "optimal" if the bound reaches the objective, else "feasible".
    method : str
        Steps that led to the answer, e.g. "anneal+cp-sat", "anneal+windows".
    bounds : tuple[tuple[str, int], ...]
        Every bound computed, by name.
    """

    site: tuple[int, ...]
    objective: int
    bound: int
    gap: float
    status: str
    method: str
    bounds: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Budget:
    """Fixed amounts of work: annealing runs, the exact model, windows, and pieces of the decomposition."""

    steps_per_part: int
    max_steps: int
    runs: int
    exact_parts: int
    exact_time: float
    windows: int
    window_time: float
    pieces: tuple[int, ...]
    piece_time: float


_BUDGETS: dict[str, _Budget] = {
    "fast": _Budget(1_000, 60_000, 2, 8, 0.5, 0, 0.0, (6,), 0.1),
    "normal": _Budget(5_000, 250_000, 10, 12, 2.0, 20, 0.1, (6, 10), 0.3),
    "best": _Budget(20_000, 2_000_000, 12, 16, 30.0, 100, 0.5, (6, 8, 10, 12), 5.0),
}
# first temperatures of the runs over the typical change: from a melt to a gentle warming of the best so far
_HEATS = (0.3, 0.5, 0.1, 0.5, 0.05)
_WINDOW = 7


def place(
    traffic: ArrayLike,
    distance: ArrayLike,
    *,
    fixed: Mapping[int, int] | None = None,
    starts: Sequence[Sequence[int]] = (),
    seed: int = 0,
    effort: Effort = "normal",
) -> Placement:
    """Place parts on sites so that traffic travels as few hops as possible.

    Parameters
    ----------
    traffic : IntArray
        (P, P) nonnegative directed traffic (e.g. spikes); the diagonal does not matter.
    distance : IntArray
        (S, S) nonnegative symmetric distances with zero diagonal, S >= P (see `mesh_distance`).
    fixed : Mapping[int, int], optional
        Sites of pinned parts.
    starts : Sequence[Sequence[int]]
        Placements (P,) to begin with besides row-major, snake and greedy; they must respect `fixed`.
    seed : int
        Seed of the annealing, nonnegative.
    effort : {"fast", "normal", "best"}
        Fixed amount of work; nothing is limited by the clock.

    Returns
    -------
    Placement
        Never worse than any start, row-major included.

    Raises
    ------
    ValueError
        If shapes, values, pins or starts are unlawful, or there are more parts than sites.
    """
    if effort not in _BUDGETS:
        raise ValueError(f"effort is one of {', '.join(_BUDGETS)}, not {effort!r}")
    whole = _problem(traffic, distance)
    pins = _pins(whole, fixed)
    begins = [_start(whole, pins, start) for start in starts]
    parts, sites = np.arange(whole.parts), np.arange(whole.sites)
    free = np.setdiff1d(parts, np.fromiter(pins, np.int64, len(pins)))
    room = np.setdiff1d(sites, np.fromiter(pins.values(), np.int64, len(pins)))
    site = np.zeros(whole.parts, dtype=np.int64)
    for part, at in pins.items():
        site[part] = at
    problem = whole.restrict(free, room, site)
    inner = [np.searchsorted(room, begin[free]) for begin in begins]
    found, proved, method = _search(problem, inner, seed, _BUDGETS[effort])
    site[free] = room[found]
    return _report(site, whole.cost(site), proved, method)


def _problem(traffic: ArrayLike, distance: ArrayLike) -> Quadratic:
    """The checked, symmetric problem."""
    flow, hops = np.asarray(traffic), np.asarray(distance)
    for name, a in (("traffic", flow), ("distance", hops)):
        if a.ndim != 2 or a.shape[0] != a.shape[1] or a.dtype.kind not in "iu":
            raise ValueError(f"{name} must be a square integer matrix, not {a.dtype} of shape {a.shape}")
        if a.size and (int(a.min()) < 0 or int(a.max()) > _MAX_COST):
            raise ValueError(f"{name} must lie in 0..2^50, not {int(a.min())}..{int(a.max())}")
    if len(flow) > len(hops):
        raise ValueError(f"{len(flow)} parts do not fit on {len(hops)} sites")
    if not np.array_equal(hops, hops.T) or hops.diagonal().any():
        raise ValueError("distance must be symmetric with zero diagonal")
    flow, hops = flow.astype(np.int64), hops.astype(np.int64)
    weight = flow + flow.T
    np.fill_diagonal(weight, 0)
    largest = float(weight.astype(np.float64).sum()) * float(hops.max(initial=0))
    if largest > _MAX_COST:
        raise ValueError(f"traffic times distance reaches {largest:.3g}, more than 2^50: scale the traffic")
    return Quadratic(weight, hops, np.zeros((len(flow), len(hops)), dtype=np.int64), 0)


def _pins(problem: Quadratic, fixed: Mapping[int, int] | None) -> dict[int, int]:
    """The checked pins in order of the parts."""
    pins = {int(part): int(at) for part, at in sorted((fixed or {}).items())}
    wrong = [p for p, s in pins.items() if not (0 <= p < problem.parts and 0 <= s < problem.sites)]
    if wrong:
        raise ValueError(f"pins of parts {wrong} are outside {problem.parts} parts x {problem.sites} sites")
    if len(set(pins.values())) != len(pins):
        raise ValueError("two parts are pinned to the same site")
    return pins


def _start(problem: Quadratic, pins: Mapping[int, int], start: Sequence[int]) -> IntArray:
    """A checked start (P,)."""
    site = np.asarray(start, dtype=np.int64)
    if site.shape != (problem.parts,) or len(np.unique(site)) != problem.parts:
        raise ValueError(f"a start needs {problem.parts} different sites")
    if site.size and (int(site.min()) < 0 or int(site.max()) >= problem.sites):
        raise ValueError(f"a start uses sites outside 0..{problem.sites - 1}")
    moved = [part for part, at in pins.items() if int(site[part]) != at]
    if moved:
        raise ValueError(f"a start moves the pinned parts {moved}")
    return site


def _search(
    problem: Quadratic, starts: list[IntArray], seed: int, budget: _Budget
) -> tuple[IntArray, dict[str, int], str]:
    """Best sites found, every bound proved by name, and the method."""
    if problem.parts == 0 or not (problem.weight.any() or problem.linear.any()):
        return anneal.row_major(problem), {"trivial": problem.constant}, "trivial"
    classes = site_classes(problem)
    grid = as_grid(problem, classes)
    star = bounds.star_matrix(problem)
    proved = {"hop": bounds.hop_bound(problem, classes), "star": bounds.star_bound(problem, star)}
    lawler = bounds.gilmore_lawler_bound(problem, star)
    if lawler is not None:
        proved["gilmore-lawler"] = lawler
    profile = bounds.cut_profile(problem.weight)
    boxes = bounds.box_bounds(profile, grid) if grid else {}
    if grid:
        proved["cut"] = problem.constant + min(boxes.values())
    site, cost = _anneal(problem, classes, grid, starts, seed, budget, max(proved.values()))
    if cost <= max(proved.values()):
        return site, proved, "anneal"
    if problem.parts > budget.exact_parts:
        if grid:
            proved["pieces"] = max(
                decompose.pieces_bound(problem, classes, grid, size, budget.piece_time, seed)
                for size in budget.pieces
            )
        if budget.windows == 0 or cost <= max(proved.values()):
            return site, proved, "anneal"
        site, _ = windows.improve_windows(problem, site, budget.windows, _WINDOW, budget.window_time)
        return site, proved, "anneal+windows"
    if grid:
        boxes = {box: max(value, *proved.values()) for box, value in boxes.items()}
        proof = exact.solve_boxes(problem, classes, grid, profile, boxes, site, budget.exact_time)
    else:
        least = max(proved.values()) - problem.constant
        proof = exact.solve_general(problem, classes, star, site, budget.exact_time, least)
    proved["cp-sat"] = proof.bound
    return proof.site, proved, "anneal+cp-sat"


def _anneal(
    problem: Quadratic,
    classes: SiteClasses,
    grid: Grid | None,
    starts: list[IntArray],
    seed: int,
    budget: _Budget,
    bound: int,
) -> tuple[IntArray, int]:
    """Descend from every start, then anneal from the best of them; stop once the bound is reached."""
    begins = [anneal.row_major(problem), anneal.greedy(problem), *starts]
    if grid:
        begins.append(anneal.snake(problem, classes, grid))
    steps = min(budget.max_steps, budget.steps_per_part * problem.parts)
    ends = [anneal.anneal(problem, classes, s, steps // 8, 0.0, seed + n) for n, s in enumerate(begins)]
    site, cost = min(ends, key=lambda end: end[1])
    scale = anneal.typical_change(problem, begins[0])
    for run in range(budget.runs):
        if cost <= bound:
            break
        hot = scale * _HEATS[run % len(_HEATS)]
        new, least = anneal.anneal(problem, classes, site, steps, hot, seed + 1000 + run)
        if least < cost:
            site, cost = new, least
    return site, cost


def _report(site: IntArray, objective: int, proved: Mapping[str, int], method: str) -> Placement:
    """The answer with the best bound and the gap it leaves."""
    bound = max(proved.values())
    gap = (objective - bound) / objective if objective else 0.0
    status = "optimal" if bound == objective else "feasible"
    chosen = tuple(int(s) for s in site)
    return Placement(chosen, objective, bound, gap, status, method, tuple(proved.items()))
