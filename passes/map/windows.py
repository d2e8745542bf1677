"""Large-neighbourhood search for placement: windows of a few parts solved by CP-SAT, the others fixed."""

from __future__ import annotations

import numpy as np

from nmc.passes.map import bounds, exact
from nmc.passes.map.quadratic import IntArray, Quadratic, site_classes


def improve_windows(
    problem: Quadratic, start: IntArray, rounds: int, size: int, limit: float
) -> tuple[IntArray, int]:
    """Large-neighbourhood search: re-place `size` parts at a time exactly, the others fixed.

    Parameters
    ----------
    problem : Quadratic
        The problem.
    start : IntArray
        (P,) sites to begin with.
    rounds : int
        Windows tried; the search ends early when every part has been the seed of one without success.
    size : int
        Parts of a window; they may exchange sites and use a few empty sites close by.
    limit : float
        Deterministic time of each window.

    Returns
    -------
    tuple[IntArray, int]
        Sites (P,) and their cost, never worse than the start.
    """
    site, cost, idle, turn = start, problem.cost(start), 0, 0
    for _ in range(rounds):
        at = problem.distance[np.ix_(site, site)]
        burden = (problem.weight * at).sum(axis=1)
        seed = int(np.argsort(-burden, kind="stable")[turn % problem.parts])
        window = _window(problem, site, seed, size, spatial=bool(turn % 2))
        places = _places(problem, site, window)
        inner = problem.restrict(window, places, site)
        begin = np.searchsorted(places, site[window])
        proof = exact.solve_general(inner, site_classes(inner), bounds.star_matrix(inner), begin, limit)
        if proof.cost < cost:
            site = site.copy()
            site[window] = places[proof.site]
            cost, idle = proof.cost, 0
        else:
            idle, turn = idle + 1, turn + 1
        if idle >= 2 * problem.parts:
            break
    return site, cost


def _window(problem: Quadratic, site: IntArray, seed: int, size: int, spatial: bool) -> IntArray:
    """The seed and the parts nearest to it on the mesh, or those most tied to the window."""
    if spatial:
        order = np.argsort(problem.distance[site[seed], site], kind="stable")
        order = np.concatenate([[seed], order[order != seed]])
        return np.sort(order[:size])
    inside = [seed]
    while len(inside) < min(size, problem.parts):
        tie = problem.weight[inside].sum(axis=0)
        tie[inside] = -1
        inside.append(int(tie.argmax()))
    return np.sort(np.asarray(inside, dtype=np.int64))


def _places(problem: Quadratic, site: IntArray, window: IntArray) -> IntArray:
    """The sites of the window and up to three empty sites closest to all of them, sorted."""
    empty = np.setdiff1d(np.arange(problem.sites), site)
    near = problem.distance[np.ix_(empty, site[window])].sum(axis=1)
    return np.sort(np.concatenate([site[window], empty[np.argsort(near, kind="stable")[:3]]]))
