"""Placement: which site of the mesh holds which part, with a proven lower bound on the cost.

Method (design 05-mapping, section 2): several starts, annealing, then CP-SAT as an exact model for small
problems or on windows of large ones.  The same answer on every machine, whatever its load or cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from nmc.ir.dataclass import dataclass
from nmc.passes.map import anneal, bounds, decompose, eigen, exact, multilevel, windows
from nmc.passes.map.mesh import Mesh, mesh_of, metric_mesh
from nmc.passes.map.quadratic import (
    Grid,
    IntArray,
    Quadratic,
    SiteClasses,
    as_grid,
    mesh_distance,
    site_classes,
)
from nmc.passes.map.result import Placement, report
from nmc.passes.map.sparse import Graph

__all__ = ["Effort", "IntArray", "Placement", "mesh_distance", "place"]

Effort = Literal["fast", "normal", "best"]
_MAX_COST = 2**50  # twice the largest possible cost times the number of sites must fit in 64 bits


@dataclass(frozen=True)
class _Budget:
    """Fixed amounts of work: annealing runs, the exact model, windows, and pieces of the decomposition."""

    steps_per_part: int
    max_work: int  # entries of the traffic looked at in all runs together
    heats: tuple[float, ...]  # first temperature of each run over the typical change of a move
    again: int  # further runs from a melt where a run finds the best placement now and then
    exact_parts: int
    exact_time: float
    windows: int
    window_time: float
    pieces: tuple[int, ...]
    piece_time: float


_BUDGETS: dict[str, _Budget] = {
    "fast": _Budget(2_000, 60_000_000, (0.3, 0.1), 0, 8, 0.5, 0, 0.0, (6,), 0.1),
    "normal": _Budget(
        40_000,
        2_500_000_000,
        (0.3, 0.1, 0.3, 0.03, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3),
        20,
        12,
        2.0,
        20,
        0.1,
        (6, 10),
        0.3,
    ),
    "best": _Budget(
        100_000, 40_000_000_000, (0.3, 0.1, 0.3, 0.03) * 6, 26, 16, 30.0, 100, 0.5, (6, 8, 10, 12), 5.0
    ),
}
_LEAST_STEPS = 100  # of each part and run, whatever the budget
_AGAIN = (16, 32)  # parts of problems in which a run from a melt finds the best placement one time in five
_MELT = 0.3
_WINDOW = 7
_WINDOW_PARTS = 400  # windows need dense matrices and are lost in larger problems
_PIECES_PARTS = 130
_CUT_PARTS = 600
_LEVELS_PARTS = 200  # from here on the multilevel placement is one of the starts


def place(
    traffic: ArrayLike,
    distance: ArrayLike,
    *,
    at: ArrayLike | None = None,
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
    at : array of int, optional
        (S, 2) coordinates of which `distance` holds the Manhattan distances; a whole mesh is recognised without.
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
    free = np.setdiff1d(np.arange(whole.parts), np.fromiter(pins, np.int64, len(pins)))
    room = np.setdiff1d(np.arange(whole.sites), np.fromiter(pins.values(), np.int64, len(pins)))
    site = np.zeros(whole.parts, dtype=np.int64)
    for part, spot in pins.items():
        site[part] = spot
    problem = _Problem(whole, whole.restrict(free, room, site), free, room, site, _mesh(whole, at))
    found, proved, method = _search(problem, begins, seed, _BUDGETS[effort])
    return report(found, whole.cost(found), proved, method)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The whole problem for annealing, and `inner`, in which pinned parts are folded away, for everything else."""

    whole: Quadratic
    inner: Quadratic
    free: IntArray
    room: IntArray
    pinned: IntArray
    mesh: Mesh

    def full(self, inner: IntArray) -> IntArray:
        """Sites of all parts from those of the free ones in the inner problem."""
        site = self.pinned.copy()
        site[self.free] = self.room[inner]
        return site

    def part(self, site: IntArray) -> IntArray:
        """Sites of the free parts in the inner problem."""
        return np.searchsorted(self.room, site[self.free]).astype(np.int64)


def _mesh(whole: Quadratic, at: ArrayLike | None) -> Mesh:
    """The sites as a grid if they are one: given by coordinates, or recognised by their distances."""
    if at is not None:
        where = np.asarray(at, np.int64)
        apart = np.abs(where[:, None] - where[None]).sum(axis=2)
        if not np.array_equal(apart, whole.distance):
            raise ValueError("distance is not that of the coordinates")
        return mesh_of(where)
    classes = site_classes(whole)
    grid = as_grid(whole, classes)
    if grid is None or not whole.sites:
        return metric_mesh(whole.distance)
    return mesh_of(np.stack(np.divmod(classes.of_site, grid.height), axis=1))


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
    task: _Problem, starts: list[IntArray], seed: int, budget: _Budget
) -> tuple[IntArray, dict[str, int], str]:
    """Best sites found, every bound proved by name, and the method."""
    problem = task.inner
    if problem.parts == 0 or not (problem.weight.any() or problem.linear.any()):
        return task.full(np.arange(problem.parts, dtype=np.int64)), {"trivial": problem.constant}, "trivial"
    classes = site_classes(problem)
    grid = as_grid(problem, classes)
    star = bounds.star_matrix(problem)
    proved = _simple_bounds(problem, classes, star)
    small = problem.parts <= _CUT_PARTS
    profile = bounds.cut_profile(problem.weight) if grid and small else np.zeros(1, np.int64)
    boxes = bounds.box_bounds(profile, grid) if grid and small else {}
    if boxes:
        proved["cut"] = problem.constant + min(boxes.values())
    site, cost, method = _anneal(task, starts, seed, budget, max(proved.values()))
    if cost <= max(proved.values()):
        return site, proved, method
    if problem.parts > budget.exact_parts:
        return _improved(task, site, cost, method, proved, classes, grid, seed, budget)
    begin = task.part(site)
    if grid:
        boxes = {box: max(value, *proved.values()) for box, value in boxes.items()}
        proof = exact.solve_boxes(problem, classes, grid, profile, boxes, begin, budget.exact_time)
    else:
        least = max(proved.values()) - problem.constant
        proof = exact.solve_general(problem, classes, star, begin, budget.exact_time, least)
    proved["cp-sat"] = proof.bound
    return task.full(proof.site), proved, f"{method}+cp-sat"


def _simple_bounds(problem: Quadratic, classes: SiteClasses, star: IntArray) -> dict[str, int]:
    """The bounds that need no search."""
    proved = {"hop": bounds.hop_bound(problem, classes), "star": bounds.star_bound(problem, star)}
    lawler = bounds.gilmore_lawler_bound(problem, star)
    if lawler is not None:
        proved["gilmore-lawler"] = lawler
    projected = eigen.projected_bound(problem)
    if projected is not None:
        proved["projected-eigenvalue"] = projected
    return proved


def _improved(
    task: _Problem,
    site: IntArray,
    cost: int,
    method: str,
    proved: dict[str, int],
    classes: SiteClasses,
    grid: Grid | None,
    seed: int,
    budget: _Budget,
) -> tuple[IntArray, dict[str, int], str]:
    """Windows for the placement and pieces for the bound of a problem too large for the exact model."""
    problem = task.inner
    best = max(proved, key=lambda name: proved[name])
    if grid and problem.parts <= _PIECES_PARTS and best != "projected-eigenvalue":
        proved["pieces"] = max(
            decompose.pieces_bound(problem, classes, grid, size, budget.piece_time, seed)
            for size in budget.pieces
        )
    if budget.windows == 0 or cost <= max(proved.values()) or problem.parts > _WINDOW_PARTS:
        return site, proved, method
    inner, _ = windows.improve_windows(problem, task.part(site), budget.windows, _WINDOW, budget.window_time)
    return task.full(inner), proved, f"{method}+windows"


def _anneal(
    task: _Problem, starts: list[IntArray], seed: int, budget: _Budget, bound: int
) -> tuple[IntArray, int, str]:
    """Descend from every start, then anneal from the best of them; stop once the bound is reached."""
    cell, number = task.mesh.cell, task.mesh.number
    locked = np.ones(task.whole.parts, bool)
    locked[task.free] = False
    graph = Graph.from_dense(task.whole.weight)
    job = anneal.Task(graph, task.mesh.sites, locked)
    begins = {"row-major": cell[task.full(np.arange(len(task.free), dtype=np.int64))]}
    begins |= anneal.starts(job, cell[task.pinned])
    if len(task.free) <= _LEVELS_PARTS:
        begins["greedy"] = cell[task.full(anneal.greedy(task.inner))]
    elif task.mesh.sites.is_grid and not locked.any():
        begins["levels"] = multilevel.on_mesh(graph, task.mesh.sites, seed, multilevel.Work())
    begins |= {f"given {k}": cell[start] for k, start in enumerate(starts)}
    parts, heats = len(task.free), budget.heats
    if _AGAIN[0] <= parts <= _AGAIN[1]:
        heats += (_MELT,) * budget.again
    runs = len(heats)
    steps = min(budget.steps_per_part * parts, budget.max_work // (runs * job.work))
    steps = max(steps, _LEAST_STEPS * parts)
    found, cost, origin = anneal.search(job, begins, steps, heats, seed, bound)
    return number[found], cost, f"{origin}+anneal"
