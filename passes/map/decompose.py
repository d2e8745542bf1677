"""A lower bound for large problems from exact answers to small ones.

Every lawful placement of all parts is one of any few of them, so the least costs of edge-disjoint pieces of
the traffic add up.  Pieces are groups of strongly tied parts; what runs between the groups is bounded as
one more piece.
"""

from __future__ import annotations

import numpy as np

from nmc.passes.map import anneal, bounds, exact
from nmc.passes.map.quadratic import Grid, IntArray, Quadratic, SiteClasses
from nmc.passes.map.sparse import Graph, Sites

_STEPS = 20_000


def tied_groups(weight: IntArray, size: int) -> list[IntArray]:
    """Disjoint groups of at most `size` parts, each grown along the heaviest ties from the heaviest part."""
    left = np.ones(len(weight), dtype=bool)
    groups = []
    while left.any():
        inside = [int(np.where(left, weight[:, left].sum(axis=1), -1).argmax())]
        left[inside] = False
        while len(inside) < size and left.any():
            tie = np.where(left, weight[inside].sum(axis=0), -1)
            part = int(tie.argmax())
            if tie[part] == 0:
                break
            inside.append(part)
            left[part] = False
        groups.append(np.sort(np.asarray(inside, dtype=np.int64)))
    return groups


def pieces_bound(
    problem: Quadratic, classes: SiteClasses, grid: Grid, size: int, limit: float, seed: int
) -> int:
    """Sum of the proven costs of groups of `size` parts and of the traffic between the groups.

    Parameters
    ----------
    problem, classes, grid : Quadratic, SiteClasses, Grid
        The problem without linear terms on its mesh.
    size : int
        Parts of a group at most.
    limit : float
        Deterministic time for each group.
    seed : int
        Seed of the annealing that gives each group its upper bound.

    Returns
    -------
    int
        Lower bound on the cost of every placement.
    """
    rest = problem.weight.copy()
    total = problem.constant
    for group in tied_groups(problem.weight, size):
        rest[np.ix_(group, group)] = 0
        weight = problem.weight[np.ix_(group, group)]
        if weight.any():
            piece = Quadratic(weight, problem.distance, problem.linear[group], 0)
            total += _piece(piece, classes, grid, limit, seed)
    between = Quadratic(rest, problem.distance, problem.linear, 0)
    lawler = bounds.gilmore_lawler_bound(between, bounds.star_matrix(between))
    return total + max(bounds.hop_bound(between, classes), lawler or 0)


def _piece(piece: Quadratic, classes: SiteClasses, grid: Grid, limit: float, seed: int) -> int:
    """Proven cost of one group placed alone on the mesh."""
    profile = bounds.cut_profile(piece.weight)
    boxes = bounds.box_bounds(profile, grid)
    sites = Sites.metric(piece.distance)
    task = anneal.Task(Graph.from_dense(piece.weight), sites, np.zeros(piece.parts, bool))
    begin = anneal.greedy(piece)
    best, change = anneal.anneal(task, begin, _STEPS, anneal.typical(task, begin), seed)
    start, cost = best.astype(np.int64), piece.cost(begin) + change
    least = max(min(boxes.values()), bounds.star_bound(piece, bounds.star_matrix(piece)))
    if least >= cost:
        return cost
    return max(least, exact.solve_boxes(piece, classes, grid, profile, boxes, start, limit).bound)
