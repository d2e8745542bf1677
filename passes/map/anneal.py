"""Starts and annealing for placement, bit-exact on every machine.

Proposals are judged by ``kernel.c`` (or its numpy twin) in integers; what is decided here, temperatures and budgets,
uses only additions, multiplications and divisions, which IEEE 754 fixes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.passes.map import curves, kernel, spectral
from nmc.passes.map.quadratic import IntArray, Quadratic
from nmc.passes.map.sparse import Graph, Sites, SmallArray, cost_of

_STAGES = 200
_CALM = 20  # stages at temperature 0 in the end
_COLD = 0.1  # last temperature over the first
_PROBES = 2_000


@dataclass(frozen=True, eq=False)
class Task:
    """Parts to be placed on sites, some of them fixed.

    Attributes
    ----------
    graph, sites : Graph, Sites
        Traffic and sites.
    locked : NDArray[np.bool_]
        (P,) parts that stay where every start has them.
    """

    graph: Graph
    sites: Sites
    locked: NDArray[np.bool_]

    @property
    def work(self) -> int:
        """Cost of judging one proposal, about in entries of the graph."""
        return 2 * len(self.graph.partner) // max(self.graph.parts, 1) + 20


def schedule(hot: float, cold: float = _COLD, stages: int = _STAGES) -> tuple[IntArray, int]:
    """Temperatures (stages,) falling geometrically from `hot` to `cold` x `hot`, then 0, and their shift."""
    if hot <= 0:
        return np.zeros(1, np.int64), 20
    falling = max(stages - _CALM, 1)
    shift = max(0, 56 - int(hot).bit_length())  # the first temperature takes 36 bits
    rate = _root(cold, falling)
    heat = hot * np.cumprod(np.full(falling, rate)) / rate
    scaled = np.rint(heat * 2.0 ** (shift - 20)).astype(np.int64)
    return np.concatenate([scaled, np.zeros(stages - falling, np.int64)]), shift


def _root(value: float, degree: int) -> float:
    """The `degree`-th root of a number below 1 by bisection: the same bits everywhere."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        power = 1.0
        for _ in range(degree):
            power *= middle
        low, high = (middle, high) if power < value else (low, middle)
    return low


def reaches(sites: Sites, stages: int, first: int = 0) -> IntArray:
    """How far (stages,) moves go, in cells: the whole grid (or `first`) at first, 1 in the end."""
    most = first or max(len(sites.xs), len(sites.ys), 1)
    return np.maximum(1, most * np.arange(stages, 0, -1, dtype=np.int64) // stages)


def typical(task: Task, site: SmallArray | IntArray, reach: int = 0) -> float:
    """Mean size of the cost change of a move: the scale of the temperatures."""
    radius = np.full(1, reach or max(len(task.sites.xs), len(task.sites.ys), 1), np.int64)
    probe = kernel.run(
        task.graph, task.sites, site, np.full(1, -1, np.int64), radius, _PROBES, 20, 0, locked=task.locked
    )
    return probe.typical


def anneal(
    task: Task,
    site: SmallArray | IntArray,
    steps: int,
    hot: float,
    seed: int,
    *,
    cold: float = _COLD,
    reach: int = 0,
) -> tuple[SmallArray, int]:
    """Simulated annealing by exchanging two parts or moving one to an empty site.

    Parameters
    ----------
    task : Task
        The problem.
    site : array of int
        (P,) sites to begin with.
    steps : int
        Proposals.
    hot : float
        First temperature in units of cost; 0 only descends.
    seed : int
        Seed of the proposals.
    cold : float
        Last temperature over the first.
    reach : int
        Cells that moves go at first; 0 for the whole grid.

    Returns
    -------
    tuple[SmallArray, int]
        The best sites (P,) seen and the change of the cost, 0 or less.
    """
    heat, shift = schedule(hot, cold)
    radius = reaches(task.sites, len(heat), reach)
    each = max(1, steps // len(heat))
    done = kernel.run(task.graph, task.sites, site, heat, radius, each, shift, seed, locked=task.locked)
    return done.site, done.change


def starts(task: Task, base: IntArray, near: bool = True) -> dict[str, IntArray]:
    """Placements (P,) by name to begin with: along curves, and spectral; locked parts stay where `base` has them."""
    shut = task.sites.closed.copy()
    shut[base[task.locked]] = True
    free = np.flatnonzero(~task.locked)
    found = {}
    if task.sites.is_grid:
        size = len(task.sites.xs), len(task.sites.ys)
        for name, curve in curves.CURVES.items():
            order = curve(*size)
            found[name] = _filled(base, free, order[~shut[order]])
        order = curves.rings(*size) if near else curves.rows(*size)
        cells = order[~shut[order]][: len(free)]
        if len(free) == task.graph.parts:
            found["spectral"] = spectral.layout(task.graph, task.sites, cells)
        found["rings"] = _filled(base, free, cells)
    else:
        found["identity"] = _filled(base, free, np.flatnonzero(~shut))
    return found


def _filled(base: IntArray, free: IntArray, order: IntArray) -> IntArray:
    site = base.copy()
    site[free] = order[: len(free)]
    return site


def search(
    task: Task, begins: Mapping[str, IntArray], steps: int, heats: Sequence[float], seed: int, enough: int
) -> tuple[IntArray, int, str]:
    """Descend from every start, then anneal from the best so far at each of the `heats`.

    Parameters
    ----------
    task : Task
        The problem.
    begins : Mapping[str, IntArray]
        Starts (P,) by name.
    steps : int
        Proposals of each run.
    heats : Sequence[float]
        First temperature of each run over the mean change of a move.
    seed : int
        Seed of the proposals.
    enough : int
        A lower bound: the search ends when it is reached.

    Returns
    -------
    tuple[IntArray, int, str]
        Sites (P,), their cost, and the start from which they came.
    """
    ends = []
    for number, (name, begin) in enumerate(begins.items()):
        new, change = anneal(task, begin, steps // 8, 0.0, seed + number)
        ends.append((cost_of(task.graph, task.sites, begin) + change, number, name, new))
    cost, _, origin, site = min(ends, key=lambda end: end[:2])
    scale = typical(task, next(iter(begins.values())))
    for run, heat in enumerate(heats):
        if cost <= enough:
            break
        new, change = anneal(task, site, steps, heat * scale, seed + 1000 + run)
        site, cost = new, cost + change
    return site.astype(np.int64), cost, origin


def greedy(problem: Quadratic) -> IntArray:
    """Heaviest part on the most central site, then the part most tied to those placed, where cheapest."""
    parts, sites = problem.parts, problem.sites
    centre = problem.distance.sum(axis=1)
    cost = problem.linear.copy()
    tie = problem.weight.sum(axis=1)  # only the first choice looks at the whole traffic
    site = np.full(parts, -1, dtype=np.int64)
    taken = np.zeros(sites, dtype=bool)
    for step in range(parts):
        part = int(np.where(site < 0, tie, -1).argmax())
        open_sites = np.flatnonzero(~taken)
        order = np.lexsort((open_sites, centre[open_sites], cost[part, open_sites]))
        at = int(open_sites[order[0]])
        site[part], taken[at] = at, True
        cost += problem.weight[:, part, None] * problem.distance[at]
        tie = problem.weight[part].copy() if step == 0 else tie + problem.weight[part]
    return site
