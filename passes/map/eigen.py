"""Projected eigenvalue bound on the cost of a placement.

Hadley, Rendl and Wolkowicz, "A new lower bound via projection for the quadratic assignment problem", Mathematics of
Operations Research 17 (1992). Eigenvalues are well conditioned, so a small margin makes their rounding safe; their
vectors, which are not, are never used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmc.passes.map.quadratic import IntArray, Quadratic

Matrix = NDArray[np.float64]
_SITES = 512
_SHIFTS = (0.0, 0.125, 0.25, 0.375, 0.5)  # of the diagonal of the traffic, over the row sums
_SCALE_BITS = 40
_MARGIN = 1e-9


def _projected(a: Matrix) -> Matrix:
    """V' a V for the orthonormal V (n, n - 1) whose columns add up to 0."""
    n = len(a)
    x, y = -1.0 / (n + n**0.5), -1.0 / n**0.5
    below = np.eye(n - 1) + x
    v = np.concatenate([np.full((1, n - 1), y), below])
    return np.asarray(v.T @ a @ v)


def projected_bound(problem: Quadratic) -> int | None:
    """Lower bound from eigenvalues of traffic and distance orthogonal to the constant (None if too large).

    Distances have a zero diagonal, so any diagonal may be added to the traffic; a few multiples of the row sums are
    tried and the best counts.
    """
    sites = problem.sites
    if sites > _SITES or sites < 3:
        return None
    flow = np.zeros((sites, sites))
    flow[: problem.parts, : problem.parts] = problem.weight / 2.0
    hops = problem.distance.astype(np.float64)
    linear = np.zeros((sites, sites))
    linear[: problem.parts] = problem.linear
    right: Matrix = np.asarray(np.linalg.eigvalsh(_projected(hops))[::-1], np.float64)
    return problem.constant + max(_shifted(flow, hops, linear, right, alpha) for alpha in _SHIFTS)


def _shifted(flow: Matrix, hops: Matrix, linear: Matrix, right: Matrix, alpha: float) -> int:
    """The bound for a diagonal of -alpha times the row sums, above their mean."""
    n = len(flow)
    rows, columns = flow.sum(axis=1), hops.sum(axis=1)
    extra = alpha * (rows.mean() - rows)
    left = np.linalg.eigvalsh(_projected(flow + np.diag(extra)))
    rows = rows + extra
    cost = linear + 2.0 / n * np.outer(rows, columns)
    loose = _MARGIN * n * float(np.abs(left).max() * np.abs(right).max() + np.abs(cost).max())
    value = float(left @ right) + assignment(cost) - float(rows.sum() * columns.sum()) / n**2
    return max(0, int(np.ceil(value - loose - 1e-6)))


def assignment(cost: Matrix) -> float:
    """Least sum of one entry from each row and column, rounded down to 2^-40 of the largest entry."""
    from ortools.graph.python.linear_sum_assignment import SimpleLinearSumAssignment

    n = len(cost)
    low = float(cost.min())
    step = max(float(cost.max()) - low, 1e-300) / 2.0**_SCALE_BITS
    scaled: IntArray = np.floor((cost - low) / step).astype(np.int64)
    left, right = np.divmod(np.arange(n * n, dtype=np.int64), n)
    solver = SimpleLinearSumAssignment()
    solver.add_arcs_with_cost(left.astype(np.int32), right.astype(np.int32), scaled.reshape(-1))
    if solver.solve() != solver.OPTIMAL:
        return n * low
    return n * low + int(solver.optimal_cost()) * step
