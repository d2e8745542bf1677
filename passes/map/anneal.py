"""Starts and simulated annealing for placement, bit-exact on every machine.

The cost of every part on every site is kept in one (P, S) table: judging a move takes a few look-ups and
an accepted move one rank-1 update.  No transcendental function is evaluated in the loop and the random
numbers are the raw bits of PCG64, so that numpy's version and the processor change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nmc.passes.map.quadratic import Grid, IntArray, Quadratic, SiteClasses

_CHUNK = 1 << 14
_COOLING = 4.5  # the last temperature is exp(-4.5) = 1 % of the first
_NEAR = 8  # tiles' worth of candidate sites around a partner
_SLOTS = 64  # entries of a part's list of partners, shared out by traffic
# -ln(u) of 4096 midpoints in 2^-20 steps: rounded so coarsely that every libm gives the same integers
_SURPRISE = np.rint(-np.log((np.arange(4096) + 0.5) / 4096) * 2.0**20) / 2.0**20
_UPDATE_BUDGET = 2 * 10**10  # table entries rewritten per run at most (large problems stop earlier)


def row_major(problem: Quadratic) -> IntArray:
    """Part k on the k-th site."""
    return np.arange(problem.parts, dtype=np.int64)


def snake(problem: Quadratic, classes: SiteClasses, grid: Grid) -> IntArray:
    """Parts in order along the tiles, every other column backwards."""
    tiles = np.arange(grid.width * grid.height, dtype=np.int64).reshape(grid.width, grid.height)
    tiles[1::2] = tiles[1::2, ::-1]
    return classes.spread([int(t) for t in np.repeat(tiles.reshape(-1), grid.capacity)[: problem.parts]])


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


def cost_table(problem: Quadratic, site: IntArray) -> IntArray:
    """Cost (P, S) of each part on each site, the other parts staying on `site`."""
    return np.ascontiguousarray(problem.linear + problem.weight @ problem.distance[site])


def typical_change(problem: Quadratic, site: IntArray) -> float:
    """Mean size of the cost change when a part moves by itself: the scale of the temperatures."""
    table = cost_table(problem, site)
    change = np.abs(table - table[np.arange(problem.parts), site][:, None])
    return float(int(change.sum()) / change.size)


def _proposals(
    parts: int, sites: int, near: int, steps: int, hot: float, seed: int
) -> Iterator[tuple[list[int], list[int], list[int], list[int], list[float]]]:
    """Chunks of moves: part, site (or -1), slot of its partner, rank near that, and worst change accepted."""
    bits = np.random.PCG64(seed)
    for begin in range(0, steps, _CHUNK):
        count = min(_CHUNK, steps - begin)
        raw = bits.random_raw(count)
        more = bits.random_raw(count)
        low, high = raw & np.uint64(0xFFFFFFFF), raw >> np.uint64(32)
        part = (low * np.uint64(parts)) >> np.uint64(32)
        slot = high >> np.uint64(26)
        place = (((more >> np.uint64(32)) * np.uint64(sites)) >> np.uint64(32)).astype(np.int64)
        place[(more >> np.uint64(15)) & np.uint64(3) != 0] = -1
        rank = ((high & np.uint64(0x3FFFFFF)) * np.uint64(near)) >> np.uint64(26)
        heat = hot * np.cumprod(np.full(count, 1.0 - _COOLING / steps))
        hot = float(heat[-1])
        limit = heat * _SURPRISE[(more & np.uint64(4095)).astype(np.int64)]
        yield part.tolist(), place.tolist(), slot.tolist(), rank.tolist(), limit.tolist()


def _partners(weight: IntArray) -> IntArray:
    """Partners (P, 64) of each part, each in a number of slots proportional to their traffic."""
    sums = weight.cumsum(axis=1)
    marks = (2 * np.arange(_SLOTS) + 1) * sums[:, -1:]
    slots = [np.searchsorted(2 * _SLOTS * s, m, side="right") for s, m in zip(sums, marks, strict=True)]
    return np.minimum(np.array(slots, dtype=np.int64), len(weight) - 1)  # parts without traffic: anybody


def anneal(
    problem: Quadratic, classes: SiteClasses, start: IntArray, steps: int, hot: float, seed: int
) -> tuple[IntArray, int]:
    """Simulated annealing by exchanging two parts or moving one to an empty site.

    Parameters
    ----------
    problem : Quadratic
        Parts and sites.
    classes : SiteClasses
        Sites that are equal; moves within a class are skipped.
    start : IntArray
        (P,) sites to begin with.
    steps : int
        Proposals.
    hot : float
        First temperature in units of cost, falling geometrically to 1 % of it; 0 only descends.
    seed : int
        Seed of the proposals.

    Returns
    -------
    tuple[IntArray, int]
        The best sites (P,) seen and their cost, never worse than the start.
    """
    walk = _Walk(problem, start)
    near = np.argsort(problem.distance, axis=1, kind="stable")[:, : _NEAR * int(classes.size.max())]
    around, kind, partners = near.tolist(), classes.of_site.tolist(), _partners(problem.weight).tolist()
    site, owner, seen = walk.site, walk.owner, walk.seen
    weight, distance = problem.weight.tolist(), problem.distance.tolist()
    updates = _UPDATE_BUDGET // (problem.parts * problem.sites)
    for chunk in _proposals(problem.parts, problem.sites, near.shape[1], steps, hot, seed):
        for i, b, slot, rank, limit in zip(*chunk, strict=True):
            a = site[i]
            if b < 0:
                b = around[site[partners[i][slot]]][rank]
            if kind[a] == kind[b]:
                continue
            k = owner[b]
            change = seen[i, b] - seen[i, a]
            if k >= 0:
                change += seen[k, a] - seen[k, b] + 2 * weight[i][k] * distance[a][b]
            if change <= limit:
                walk.move(i, b, k, change)
        if walk.moves > updates:
            break
    return np.asarray(walk.best, dtype=np.int64), walk.best_cost


class _Walk:
    """The state of one annealing run: sites, owners, and the cost table they imply."""

    def __init__(self, problem: Quadratic, start: IntArray) -> None:
        self.site: list[int] = start.tolist()
        self.owner = [-1] * problem.sites
        for part, at in enumerate(self.site):
            self.owner[at] = part
        self.table = cost_table(problem, start)
        self.seen = self.table.data  # scalar reads are several times faster than through numpy
        self.cost = self.best_cost = problem.cost(start)
        self.best = list(self.site)
        self.moves = 0
        self._pull = problem.weight[:, :, None]
        self._distance = problem.distance

    def move(self, part: int, to: int, other: int, change: int) -> None:
        """Put `part` on `to`; `other` (-1 for none), which is there, takes its place."""
        at = self.site[part]
        shift = self._distance[to] - self._distance[at]
        if other >= 0:
            self.table += (self._pull[part] - self._pull[other]) * shift
            self.site[other] = at
        else:
            self.table += self._pull[part] * shift
        self.site[part], self.owner[at], self.owner[to] = to, other, part
        self.moves += 1
        self.cost += change
        if self.cost < self.best_cost:
            self.best_cost, self.best = self.cost, list(self.site)
