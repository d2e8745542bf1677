"""Proven lower bounds on the cost of a placement.

All are exact integer arithmetic but for one eigenvalue, which is used with a safety margin far above the
error of LAPACK, so that every machine rounds it to the same integer.
"""

from __future__ import annotations

import numpy as np

from nmc.passes.map.quadratic import Grid, IntArray, Quadratic, SiteClasses

_SUBSET_PARTS = 20  # all 2^19 bisections are enumerated up to here (a few MB)
_LAP_SITES = 512  # assignment problem of the Gilmore-Lawler bound: at most 512^2 arcs
_FAR = np.int64(2**61)


def hop_bound(problem: Quadratic, classes: SiteClasses) -> int:
    """One shortest hop per unit of traffic that cannot stay within a tile.

    Of each part at most (tile size - 1) heaviest partners are at distance 0.
    """
    near = int(classes.size.max()) - 1
    positive = problem.distance[problem.distance > 0]
    hop = int(positive.min()) if positive.size else 0
    weights = np.sort(problem.weight, axis=1)[:, ::-1]
    pairs = int(weights[:, near:].sum()) * hop
    return problem.constant + int(problem.linear.min(axis=1).sum()) + -(-pairs // 2)


def star_matrix(problem: Quadratic) -> IntArray:
    """Twice the least share of each part on each site (P, S): heaviest partners on the nearest sites.

    Minimal scalar product of Gilmore (1962) and Lawler (1963); every pair is counted from both ends.
    """
    partners = problem.parts - 1
    weights = np.sort(problem.weight, axis=1)[:, ::-1][:, :partners]
    order = np.sort(problem.distance, axis=1)[:, 1 : partners + 1]
    return np.asarray(2 * problem.linear + weights @ order.T, dtype=np.int64)


def star_bound(problem: Quadratic, star: IntArray) -> int:
    """Every part on its own best site with its own best neighbourhood."""
    return problem.constant + -(-int(star.min(axis=1).sum()) // 2)


def gilmore_lawler_bound(problem: Quadratic, star: IntArray) -> int | None:
    """Star shares with all parts on different sites: a linear assignment problem (None if too large)."""
    from ortools.graph.python.linear_sum_assignment import SimpleLinearSumAssignment

    parts, sites = star.shape
    if sites > _LAP_SITES:
        return None
    costs = np.zeros((sites, sites), dtype=np.int64)  # parts beyond P are free of charge
    costs[:parts] = star
    left, right = np.divmod(np.arange(sites * sites, dtype=np.int64), sites)
    solver = SimpleLinearSumAssignment()
    solver.add_arcs_with_cost(left.astype(np.int32), right.astype(np.int32), costs.reshape(-1))
    if solver.solve() != solver.OPTIMAL:
        return None
    return problem.constant + -(-int(solver.optimal_cost()) // 2)


def cut_profile(weight: IntArray) -> IntArray:
    """Lower bound (P + 1,) on the traffic between any k parts and the others by k; exact if P <= 20."""
    if len(weight) <= _SUBSET_PARTS:
        return _enumerated_cuts(weight)
    return np.maximum(_star_cuts(weight), _spectral_cuts(weight))


def _enumerated_cuts(weight: IntArray) -> IntArray:
    """Least cut for each size over all subsets; the last part stays outside, the complement mirrors."""
    parts = len(weight)
    degree = weight.sum(axis=1)
    cut = np.zeros(1, dtype=np.int64)
    size = np.zeros(1, dtype=np.int64)
    for i in range(parts - 1):
        inside = np.zeros(1, dtype=np.int64)
        for j in range(i):
            inside = np.concatenate([inside, inside + weight[i, j]])
        cut = np.concatenate([cut, cut + degree[i] - 2 * inside])
        size = np.concatenate([size, size + 1])
    least = np.full(parts + 1, _FAR)
    np.minimum.at(least, size, cut)
    return np.minimum(least, least[::-1])


def _star_cuts(weight: IntArray) -> IntArray:
    """Each of the k parts keeps at best its k - 1 heaviest partners; the k cheapest parts count."""
    parts = len(weight)
    heavy = np.sort(weight, axis=1)[:, ::-1]
    kept = np.concatenate([np.zeros((parts, 1), dtype=np.int64), heavy.cumsum(axis=1)], axis=1)[:, :parts]
    leaving = np.sort(weight.sum(axis=1)[:, None] - kept, axis=0)  # (part rank, k - 1)
    one_side = np.zeros(parts + 1, dtype=np.int64)
    one_side[1:] = np.diagonal(leaving.cumsum(axis=0))
    return np.maximum(one_side, one_side[::-1])


def _spectral_cuts(weight: IntArray) -> IntArray:
    """Fiedler (1973): a cut of k of P parts weighs at least lambda_2 * k * (P - k) / P."""
    parts = len(weight)
    laplacian = np.diag(weight.sum(axis=1)) - weight
    values = np.linalg.eigvalsh(laplacian.astype(np.float64))
    second = max(0.0, float(values[1]) - 1e-9 * float(values[-1]))
    k = np.arange(parts + 1, dtype=np.int64)
    bound = np.ceil(second * (k * (parts - k)).astype(np.float64) / parts - 1e-6)
    return np.maximum(bound, 0.0).astype(np.int64)


def box_bounds(profile: IntArray, grid: Grid) -> dict[tuple[int, int], int]:
    """Lower bound for placements that use exactly `a` columns and `b` rows of a mesh, by (a, b).

    Hops are the sum of the cuts between neighbouring columns and rows.  Closing an empty column or row
    lengthens no distance, so some best placement fills every column and row of its box; between two of
    them at least the least cut of that size crosses.  The least over all boxes bounds the whole problem.
    """
    parts = len(profile) - 1
    high, wide = min(grid.height, parts), min(grid.width, parts)
    columns = {b: _line_costs(profile, wide, b * grid.capacity) for b in range(1, high + 1)}
    rows = {a: _line_costs(profile, high, a * grid.capacity) for a in range(1, wide + 1)}
    bounds = {}
    for a in range(1, wide + 1):
        for b in range(1, high + 1):
            total = int(columns[b][a]) + int(rows[a][b])
            if total < _FAR and not (b > a and a <= grid.height and b <= grid.width):
                bounds[a, b] = total  # a box and its mirror image on the diagonal are the same
    return bounds


def _line_costs(profile: IntArray, lines: int, capacity: int) -> IntArray:
    """Least sum of cuts (lines + 1,) when 1..`lines` lines hold 1..capacity parts each (dynamic program)."""
    parts = len(profile) - 1
    best = np.full(lines + 1, _FAR)
    reach = np.full(parts + 1, _FAR)
    reach[1 : capacity + 1] = 0
    for line in range(1, lines + 1):
        best[line] = reach[parts]
        paid = np.minimum(reach + profile, _FAR)
        reach = np.full(parts + 1, _FAR)
        for held in range(1, min(capacity, parts) + 1):
            np.minimum(reach[held:], paid[:-held], out=reach[held:])
    return best
