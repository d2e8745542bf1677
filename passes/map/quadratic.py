"""The quadratic assignment problem behind placement: parts on sites of a mesh.

Every step of the placement engine (annealing, CP-SAT, bounds) works on one `Quadratic`.  Pinned parts and
the outside of a search window are folded into its linear term, so there is only one kind of problem.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass

IntArray = NDArray[np.int64]


def mesh_distance(width: int, height: int, cores_per_tile: int) -> IntArray:
    """Manhattan hops between the tiles of every pair of cores.

    Parameters
    ----------
    width, height : int
        Tiles of the mesh in x and y (Loihi: 8 and 4, facts/loihi.md "tiles").
    cores_per_tile : int
        Cores behind one router (Loihi: 4); their mutual distance is 0.

    Returns
    -------
    IntArray
        (S, S) hops, S = width * height * cores_per_tile, where core = tile * cores_per_tile + k and
        tile = x * height + y.

    Raises
    ------
    ValueError
        If one of the sizes is smaller than 1.
    """
    if min(width, height, cores_per_tile) < 1:
        raise ValueError(f"a mesh needs positive sizes, not {width} x {height} x {cores_per_tile}")
    tile = np.arange(width * height * cores_per_tile, dtype=np.int64) // cores_per_tile
    x, y = tile // height, tile % height
    return np.asarray(np.abs(x[:, None] - x) + np.abs(y[:, None] - y), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Minimise constant + sum_i linear[i, s_i] + sum_{i<j} weight[i, j] * distance[s_i, s_j].

    Attributes
    ----------
    weight : IntArray
        (P, P) symmetric, zero diagonal: traffic of both directions.
    distance : IntArray
        (S, S) symmetric, zero diagonal.
    linear : IntArray
        (P, S) cost of a part on a site whatever the other parts do.
    constant : int
        Cost no choice can change.
    """

    weight: IntArray
    distance: IntArray
    linear: IntArray
    constant: int

    @property
    def parts(self) -> int:
        """Number of parts P."""
        return int(self.weight.shape[0])

    @property
    def sites(self) -> int:
        """Number of sites S."""
        return int(self.distance.shape[0])

    def cost(self, site: Sequence[int] | IntArray) -> int:
        """Objective of an assignment (P,) of site indices."""
        at = np.asarray(site, dtype=np.int64)
        pairs = int((self.weight * self.distance[np.ix_(at, at)]).sum()) // 2
        return self.constant + int(self.linear[np.arange(self.parts), at].sum()) + pairs

    def restrict(self, free: IntArray, sites: IntArray, site: IntArray) -> Quadratic:
        """The problem of the parts `free` on `sites`, all other parts staying where `site` (P,) has them."""
        rest = np.setdiff1d(np.arange(self.parts), free)
        at = site[rest]
        pull = self.weight[np.ix_(free, rest)] @ self.distance[np.ix_(at, sites)]
        within = int((self.weight[np.ix_(rest, rest)] * self.distance[np.ix_(at, at)]).sum()) // 2
        return Quadratic(
            self.weight[np.ix_(free, free)],
            self.distance[np.ix_(sites, sites)],
            self.linear[np.ix_(free, sites)] + pull,
            self.constant + int(self.linear[rest, at].sum()) + within,
        )


@dataclass(frozen=True, eq=False)
class SiteClasses:
    """Sites that no cost can tell apart (the cores of one tile), in order of first appearance.

    Attributes
    ----------
    of_site : IntArray
        (S,) class of each site.
    first : IntArray
        (C,) lowest site of each class.
    size : IntArray
        (C,) number of sites of each class.
    """

    of_site: IntArray
    first: IntArray
    size: IntArray

    def spread(self, classes: Sequence[int]) -> IntArray:
        """Sites (P,) for parts put into `classes`: the free sites of a class in ascending order."""
        used: dict[int, int] = {}
        members = [np.flatnonzero(self.of_site == c) for c in range(len(self.first))]
        sites = []
        for c in classes:
            sites.append(int(members[c][used.get(c, 0)]))
            used[c] = used.get(c, 0) + 1
        return np.asarray(sites, dtype=np.int64)


def site_classes(problem: Quadratic) -> SiteClasses:
    """Group the sites with equal distance rows and equal linear columns (lossless: they can be exchanged)."""
    rows = np.concatenate([problem.distance, problem.linear.T], axis=1)
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    of_site = rank[inverse.reshape(-1)]
    return SiteClasses(of_site, np.sort(first).astype(np.int64), np.bincount(of_site).astype(np.int64))


@dataclass(frozen=True)
class Grid:
    """A complete mesh of equal tiles: tile class = x * height + y, `capacity` sites each."""

    width: int
    height: int
    capacity: int


def as_grid(problem: Quadratic, classes: SiteClasses) -> Grid | None:
    """Recognise a whole Manhattan mesh without linear terms, whose parts may be shifted and mirrored."""
    if problem.linear.any() or (classes.size != classes.size[0]).any():
        return None
    tiles = len(classes.first)
    between = problem.distance[np.ix_(classes.first, classes.first)]
    for height in range(1, tiles + 1):
        # the first column and row decide at once; the whole comparison only follows for the right height
        if tiles % height or int(between[0, height - 1]) != height - 1:
            continue
        if np.array_equal(between, mesh_distance(tiles // height, height, 1)):
            return Grid(tiles // height, height, int(classes.size[0]))
    return None
