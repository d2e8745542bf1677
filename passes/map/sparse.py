"""Traffic between parts as a sparse graph, and the sites they may take: what annealing works on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.ir.dataclass import dataclass

IntArray = NDArray[np.int64]
SmallArray = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Graph:
    """Symmetric traffic between parts in compressed rows.

    Attributes
    ----------
    start : IntArray
        (P + 1,) row i is ``start[i]:start[i + 1]``.
    partner : SmallArray
        (E,) partner of each entry; both directions of a pair are there, no part is its own partner.
    weight : IntArray
        (E,) traffic of the pair, both directions together, positive.
    """

    start: IntArray
    partner: SmallArray
    weight: IntArray

    @property
    def parts(self) -> int:
        """Number of parts P."""
        return len(self.start) - 1

    @property
    def rows(self) -> IntArray:
        """(E,) part to which each entry belongs."""
        return np.repeat(np.arange(self.parts), np.diff(self.start))

    @property
    def total(self) -> int:
        """Traffic of all pairs."""
        return int(self.weight.sum()) // 2

    @classmethod
    def from_pairs(cls, parts: int, source: ArrayLike, goal: ArrayLike, weight: ArrayLike) -> Graph:
        """Add up directed traffic (E,) from `source` to `goal`; that of a part to itself does not count.

        Raises
        ------
        ValueError
            If a part is not in 0..parts-1 or a weight is negative.
        """
        ends = [np.asarray(a, np.int64).reshape(-1) for a in (source, goal)]
        weight = np.asarray(weight, np.int64).reshape(-1)
        if any(e.size and (int(e.min()) < 0 or int(e.max()) >= parts) for e in ends):
            raise ValueError(f"traffic of a part outside 0..{parts - 1}")
        if weight.size and int(weight.min()) < 0:
            raise ValueError("traffic cannot be negative")
        real = (ends[0] != ends[1]) & (weight > 0)
        low, high = np.minimum(*ends)[real], np.maximum(*ends)[real]
        key, weight = _added(low * parts + high, weight[real])
        low, high = np.divmod(key, max(parts, 1))
        rows, partner = np.concatenate([low, high]), np.concatenate([high, low])
        order = np.argsort(rows * parts + partner, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=parts))]).astype(np.int64)
        return cls(start, partner[order].astype(np.int32), np.concatenate([weight, weight])[order])

    @classmethod
    def from_dense(cls, weight: IntArray) -> Graph:
        """Compress a symmetric matrix (P, P) with zero diagonal."""
        rows, partner = np.nonzero(weight)
        start = np.concatenate([[0], np.cumsum((weight != 0).sum(axis=1))]).astype(np.int64)
        return cls(start, partner.astype(np.int32), np.asarray(weight[rows, partner], np.int64))

    def merged(self, group: IntArray, groups: int) -> Graph:
        """The traffic between groups of parts, where `group` (P,) is the group of each part."""
        rows, partner = group[self.rows], group[self.partner]
        upper = rows < partner
        return Graph.from_pairs(groups, rows[upper], partner[upper], self.weight[upper])


def _added(key: IntArray, value: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct keys, ascending, and the sums of their values."""
    if not len(key):
        return key, value
    order = np.argsort(key, kind="stable")
    key, value = key[order], value[order]
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return key[first], np.add.reduceat(value, first)


@dataclass(frozen=True, eq=False)
class Sites:
    """Sites of a grid of cells, or of any metric given by a table.

    Cell (column, row) of a grid is site ``column * height + row`` at coordinates ``(xs[column], ys[row])``; several
    columns or rows may have the same coordinate (cores of a tile).

    Attributes
    ----------
    closed : NDArray[np.bool_]
        (S,) sites that nothing may enter or leave (holes of the mesh).
    xs, ys : SmallArray
        Coordinates of columns and rows; empty for a table.
    table : SmallArray
        (S, S) distances; (0, 0) for a grid.
    near_radius : int
        Cells around a partner that a move looks at.
    """

    closed: NDArray[np.bool_]
    xs: SmallArray
    ys: SmallArray
    table: SmallArray
    near_radius: int = 1

    @property
    def count(self) -> int:
        """Number of sites S, closed ones included."""
        return len(self.closed)

    @property
    def is_grid(self) -> bool:
        """Whether distances are those of a grid."""
        return len(self.xs) > 0

    @classmethod
    def grid(cls, xs: ArrayLike, ys: ArrayLike, closed: ArrayLike | None = None, near: int = 1) -> Sites:
        """A grid with these coordinates of its columns and rows."""
        columns, rows = np.asarray(xs, np.int32), np.asarray(ys, np.int32)
        count = len(columns) * len(rows)
        shut = np.zeros(count, bool) if closed is None else np.asarray(closed, bool).reshape(count)
        return cls(shut, columns, rows, np.zeros((0, 0), np.int32), near)

    @classmethod
    def metric(cls, distance: IntArray) -> Sites:
        """Sites with any symmetric distances (S, S) below 2^30."""
        none = np.zeros(0, np.int32)
        return cls(np.zeros(len(distance), bool), none, none, np.ascontiguousarray(distance, np.int32))

    def close(self, sites: ArrayLike) -> Sites:
        """The same with these sites closed."""
        closed = self.closed.copy()
        closed[np.asarray(sites, np.int64)] = True
        return replace(self, closed=closed)

    def where(self, site: ArrayLike) -> SmallArray:
        """Coordinates (n, 2) of sites (n,) of a grid; zeros for a table."""
        at = np.asarray(site, np.int64)
        if not self.is_grid:
            return np.zeros((len(at), 2), np.int32)
        column, row = np.divmod(at, len(self.ys))
        return np.stack([self.xs[column], self.ys[row]], axis=1).astype(np.int32)


def cost_of(graph: Graph, sites: Sites, site: ArrayLike) -> int:
    """Sum over pairs of traffic times distance of a placement (P,)."""
    at = np.asarray(site, np.int64)
    if sites.is_grid:
        return cost_at(graph, sites.where(at))
    rows, partner = at[graph.rows], at[graph.partner]
    return int((graph.weight * sites.table[rows, partner].astype(np.int64)).sum()) // 2


def cost_at(graph: Graph, at: NDArray[Any]) -> int:
    """Sum over pairs of traffic times Manhattan distance of parts at coordinates (P, 2)."""
    apart = np.abs(np.repeat(at, np.diff(graph.start), axis=0) - at[graph.partner]).sum(
        axis=1, dtype=np.int64
    )
    return int((graph.weight * apart).sum()) // 2
