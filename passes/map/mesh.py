"""The cores of a chip as cells of a grid, one each, so that moves are simple steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nmc.ir.dataclass import dataclass
from nmc.passes.map.sparse import IntArray, Sites

_MAX_CELLS = 1 << 25


@dataclass(frozen=True, eq=False)
class Mesh:
    """Sites at coordinates as cells of a grid.

    A tile of c cores becomes a block of cells that all have its coordinates; cells without a site are closed.

    Attributes
    ----------
    sites : Sites
        The cells.
    cell : IntArray
        (S,) cell of each site.
    """

    sites: Sites
    cell: IntArray

    @property
    def number(self) -> IntArray:
        """(cells,) site of each cell, -1 for none."""
        found = np.full(self.sites.count, -1, np.int64)
        found[self.cell] = np.arange(len(self.cell))
        return found


def mesh_of(at: ArrayLike) -> Mesh:
    """Arrange sites at integer coordinates (S, 2); several may share one.

    Raises
    ------
    ValueError
        If the coordinates are too scattered: more than 2^25 cells.
    """
    where = np.asarray(at, np.int64).reshape(-1, 2)
    columns, x = np.unique(where[:, 0], return_inverse=True)
    rows, y = np.unique(where[:, 1], return_inverse=True)
    tile = x * len(rows) + y
    order = np.argsort(tile, kind="stable")
    first = np.searchsorted(tile[order], np.arange(len(columns) * len(rows)))
    rank = np.empty(len(tile), np.int64)
    rank[order] = np.arange(len(tile)) - first[tile[order]]
    most = int(rank.max(initial=0)) + 1
    across = max(d for d in range(1, int(most**0.5) + 1) if most % d == 0)
    along = most // across
    height, cells = len(rows) * along, len(columns) * len(rows) * most
    if cells > _MAX_CELLS:
        raise ValueError(f"{len(where)} sites spread over {cells} cells")
    cell = (x * across + rank // along) * height + y * along + rank % along
    closed = np.ones(cells, bool)
    closed[cell] = False
    grid = Sites.grid(np.repeat(columns, across), np.repeat(rows, along), closed, near=across)
    return Mesh(grid, cell.astype(np.int64))


def metric_mesh(distance: IntArray) -> Mesh:
    """Sites with any distances (S, S): each is its own cell."""
    return Mesh(Sites.metric(distance), np.arange(len(distance), dtype=np.int64))
