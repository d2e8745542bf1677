"""The annealing of ``kernel.c`` in numpy: the same decisions, for machines without a C compiler."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmc.passes.map.sparse import Graph, IntArray, Sites

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_CHUNK = 1 << 13


def _mixed(z: Any) -> Any:
    """splitmix64 of Steele, Lea and Flood (OOPSLA 2014), vectorised."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draws(seed: int, begin: int, end: int) -> tuple[list[int], list[int]]:
    """Two 64-bit numbers for each of the proposals begin..end-1."""
    first = np.uint64((seed + 2 * begin * _GAMMA) & _MASK)
    count = first + np.arange(2 * (end - begin), dtype=np.uint64) * np.uint64(_GAMMA)
    numbers = _mixed(count)
    return numbers[0::2].tolist(), numbers[1::2].tolist()


class Twin:
    """One annealing run; the arrays and names are those of ``kernel.c``."""

    def __init__(self, graph: Graph, sites: Sites, free: Any, near: Any, state: dict[str, Any]) -> None:
        self.graph, self.sites = graph, sites
        self.free, self.near = free.tolist(), near
        self.site, self.at, self.owner, self.best = (state[n] for n in ("site", "at", "owner", "best"))
        self.told: list[int] = [0] * 5
        self.starts = graph.start.tolist()

    def run(
        self,
        heat: IntArray,
        radius: IntArray,
        surprise: IntArray,
        steps: int,
        shift: int,
        exact: bool,
        seed: int,
    ) -> None:
        """Run all stages of `steps` proposals each."""
        table = surprise.tolist()
        for number, (hot, reach) in enumerate(zip(heat.tolist(), radius.tolist(), strict=True)):
            for begin in range(number * steps, (number + 1) * steps, _CHUNK):
                end = min(begin + _CHUNK, (number + 1) * steps)
                for u, v in zip(*draws(seed, begin, end), strict=True):
                    limit = -1 if hot < 0 else (hot * table[v & 4095]) >> shift
                    self._propose(u, v, reach, limit, hot < 0, exact)
            if self.told[0] < self.told[1]:
                self._keep()

    def _propose(self, u: int, v: int, radius: int, limit: int, probe: bool, exact: bool) -> None:
        i = self.free[((u & 0xFFFFFFFF) * len(self.free)) >> 32]
        a = int(self.site[i])
        b = self._goal(i, u >> 32, v, radius)
        if b < 0 or b == a or self.owner[b] == -2:
            return
        k = int(self.owner[b])
        delta = self._change(i, a, b, k)
        if k >= 0:
            delta += self._change(k, b, a, i)
        self.told[3] += abs(delta)
        self.told[4] += 1
        if probe or delta > limit:
            return
        if exact and delta > 0 and self.told[0] < self.told[1]:
            self._keep()
        self.owner[a] = -1
        self._put(i, b)
        if k >= 0:
            self._put(k, a)
        self.told[0] += delta
        self.told[2] += 1

    def _goal(self, i: int, high: int, v: int, radius: int) -> int:
        first, kind = self.starts[i], high & 3
        degree = self.starts[i + 1] - first
        across, along = (v >> 12) & 0x3FFFFFF, v >> 38
        j, reach = i, radius if kind == 2 else self.sites.near_radius
        if degree > 0 and kind < 2:
            one = first + ((((high >> 2) & 0x7FFF) * degree) >> 15)
            two = first + (((high >> 17) * degree) >> 15)
            j = int(self.graph.partner[two if self.graph.weight[two] > self.graph.weight[one] else one])
        if not self.sites.is_grid:
            if kind == 0:
                return int(self.near[self.site[j], (across * self.near.shape[1]) >> 26])
            return (across * self.sites.count) >> 26
        height = len(self.sites.ys)
        if self.site[j] < 0:
            return -1
        column, row = divmod(int(self.site[j]), height)
        x = column + ((across * (2 * reach + 1)) >> 26) - reach
        y = row + ((along * (2 * reach + 1)) >> 26) - reach
        return x * height + y if 0 <= x < len(self.sites.xs) and 0 <= y < height else -1

    def _change(self, i: int, a: int, b: int, k: int) -> int:
        partner = self.graph.partner[self.starts[i] : self.starts[i + 1]]
        weight = self.graph.weight[self.starts[i] : self.starts[i + 1]]
        if self.sites.is_grid:
            ends = self.sites.where([a, b]).astype(np.int64)
            away = np.abs(ends[:, None] - self.at[partner]).sum(axis=2)
        else:
            away = self.sites.table[[a, b]][:, self.site[partner]].astype(np.int64)
        return int(((weight * (away[1] - away[0]))[partner != k]).sum())

    def _put(self, part: int, site: int) -> None:
        self.site[part], self.owner[site] = site, part
        if self.sites.is_grid:
            self.at[part] = self.sites.where([site])[0]

    def _keep(self) -> None:
        self.best[:] = self.site
        self.told[1] = self.told[0]
