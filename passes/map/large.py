"""Placement of thousands to millions of parts: multilevel, annealing, and bounds that need no matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.passes.map import anneal, multilevel
from nmc.passes.map.anneal import Task
from nmc.passes.map.mesh import mesh_of
from nmc.passes.map.multilevel import Work
from nmc.passes.map.result import Placement, report
from nmc.passes.map.sparse import Graph, IntArray, cost_of

#: Entries of the traffic looked at on one level, and proposals of a part on the coarsest.
_WORK = {"fast": (300_000_000, 1_000), "normal": (320_000_000, 4_000), "best": (12_000_000_000, 10_000)}
_EACH = (40, 1_000)  # least and most proposals of a part on one level
_MAX_COST = 2**50
_GENTLE = 0.05  # first temperature of the last run over the typical change of a short move
#: Starts that cost no more than so many times the best are tried, with 1 / _SHARE of the last run.
_CLOSE = 1.25
_SHARE = 4


def place_large(
    graph: Graph,
    at: ArrayLike,
    *,
    fixed: Mapping[int, int] | None = None,
    seed: int = 0,
    effort: Literal["fast", "normal", "best"] = "normal",
) -> Placement:
    """Place parts on sites of a mesh so that traffic travels as few hops as possible.

    Parameters
    ----------
    graph : Graph
        Traffic of P parts.
    at : array of int
        (S, 2) coordinates of the sites, S >= P; distances are Manhattan.
    fixed : Mapping[int, int], optional
        Sites of pinned parts.
    seed : int
        Seed of the annealing.
    effort : {"fast", "normal", "best"}
        Fixed amount of work.

    Raises
    ------
    ValueError
        If there are more parts than sites, or pins or sizes are unlawful.
    """
    where = np.asarray(at, np.int64).reshape(-1, 2)
    mesh = mesh_of(where)
    _check(graph, where, fixed or {})
    base = np.full(graph.parts, -1, np.int64)
    for part, site in (fixed or {}).items():
        base[part] = mesh.cell[site]
    task = Task(graph, mesh.sites, base >= 0)
    entries, coarsest = _WORK[effort]
    each = max(_EACH[0], min(_EACH[1], entries // max(graph.parts * task.work, 1)))
    found, method = _best(task, base, seed, Work(coarsest, each, each))
    most = int(np.bincount(_tiles(where)).max(initial=1))
    heavy = ranked(graph)
    proved = {"hop": hop_bound(*heavy, most), "star": star_bound(*heavy, most)}
    return report(mesh.number[found], cost_of(graph, mesh.sites, found), proved, method)


def _check(graph: Graph, where: IntArray, fixed: Mapping[int, int]) -> None:
    if graph.parts > len(where):
        raise ValueError(f"{graph.parts} parts do not fit on {len(where)} sites")
    if not all(0 <= part < graph.parts and 0 <= site < len(where) for part, site in fixed.items()):
        raise ValueError(f"pins lie outside {graph.parts} parts x {len(where)} sites")
    if len(set(fixed.values())) != len(fixed):
        raise ValueError("two parts are pinned to the same site")
    span = int((where.max(axis=0) - where.min(axis=0)).sum()) if len(where) else 0
    if float(graph.weight.astype(np.float64).sum()) * max(span, 1) > _MAX_COST:
        raise ValueError("traffic times distance reaches more than 2^50: scale the traffic")


def _tiles(where: IntArray) -> IntArray:
    return np.unique(where, axis=0, return_inverse=True)[1].reshape(-1)


def _best(task: Task, base: IntArray, seed: int, work: Work) -> tuple[IntArray, str]:
    """The best of curves and levels, annealed gently."""
    graph, sites, locked = task.graph, task.sites, task.locked
    begins = {name: site for name, site in anneal.starts(task, base).items() if name != "rings"}
    begins["levels"] = base.copy()
    shut = sites.close(base[locked])
    begins["levels"][~locked] = multilevel.on_mesh(_inner(graph, locked), shut, seed, work)
    costs = {name: cost_of(graph, sites, site) for name, site in begins.items()}
    close = [name for name in costs if costs[name] <= _CLOSE * min(costs.values())]
    if len(close) > 1:  # what is ahead now may be behind in the end
        tried = {name: _gently(task, begins[name], -(-work.finest // _SHARE), seed + 20) for name in close}
        begins = {name: site for name, (site, _) in tried.items()}
        costs = {name: costs[name] + change for name, (_, change) in tried.items()}
    best = min(costs, key=lambda name: costs[name])
    return _gently(task, begins[best], work.finest, seed + 10)[0], f"{best}+anneal"


def _gently(task: Task, site: IntArray, each: int, seed: int) -> tuple[IntArray, int]:
    """Anneal with short moves, `each` proposals of a part: sites (P,), and the change of the cost."""
    scale = anneal.typical(task, site, 2)
    new, change = anneal.anneal(task, site, each * task.graph.parts, _GENTLE * scale, seed, reach=3)
    return new.astype(np.int64), change


def _inner(graph: Graph, locked: NDArray[np.bool_]) -> Graph:
    """The traffic among free parts."""
    if not locked.any():
        return graph
    number = np.cumsum(~locked) - 1
    rows, partner = graph.rows, graph.partner
    both = ~locked[rows] & ~locked[partner] & (rows < partner)
    count = int((~locked).sum())
    return Graph.from_pairs(count, number[rows[both]], number[partner[both]], graph.weight[both])


def ranked(graph: Graph) -> tuple[IntArray, IntArray]:
    """Weights (E,), row by row, heaviest first, and their ranks within the row."""
    order = np.lexsort((-graph.weight, graph.rows))
    rank = np.arange(len(order)) - np.repeat(graph.start[:-1], np.diff(graph.start))
    return graph.weight[order], rank


def hop_bound(weight: IntArray, rank: IntArray, tile: int) -> int:
    """One hop for all traffic but that of each part with its `tile` - 1 heaviest partners; of `ranked` traffic."""
    return -(-int(weight[rank >= tile - 1].sum()) // 2)


def star_bound(weight: IntArray, rank: IntArray, tile: int) -> int:
    """Each part with its heaviest partners on the nearest sites of an endless mesh with `tile` sites a tile.

    At most 4 d tiles have distance d > 0 from any. Of `ranked` traffic.
    """
    most = int(rank.max(initial=-1)) + 1
    rings = int((most / (2 * tile)) ** 0.5) + 2
    room = np.concatenate([[tile - 1], 4 * tile * np.arange(1, rings + 1)])
    hops = np.repeat(np.arange(rings + 1, dtype=np.int64), room)
    return -(-int((weight * hops[rank]).sum()) // 2)
