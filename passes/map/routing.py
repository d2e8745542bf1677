"""Where spikes travel: ways over the mesh, multicast trees, loads of links, and relief of the busiest one.

A spike goes along the row of its tile to the column of its goal, then along that column (dimension order, which cannot
deadlock). With cast ``core`` it is sent once for each goal core, with ``tile`` once for each goal tile, and with
``tree`` copies part only where their ways do: a link of the tree carries the most that any goal behind it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass

IntArray = NDArray[np.int64]
Cast = Literal["core", "tile", "tree"]
Tile = tuple[int, int]
#: From a tile to a neighbour.
Link = tuple[Tile, Tile]
_MOST_TRIES = 4_000  # exchanges that relief looks at
_NEAR = 12  # sites around a part that relief tries


@dataclass(frozen=True)
class Flow:
    """Spikes that one part sends.

    Attributes
    ----------
    source : int
        Its core.
    goals : mapping of int to int
        Spikes a sample by goal core.
    """

    source: int
    goals: Mapping[int, int]


def way(start: Tile, goal: Tile) -> list[Link]:
    """Links from one tile to another: along the row first, then along the column."""
    (x, y), found = start, []
    while (x, y) != goal:
        along = x != goal[0]
        step = 1 if (goal[0] > x if along else goal[1] > y) else -1
        after = (x + step, y) if along else (x, y + step)
        found.append(((x, y), after))
        x, y = after
    return found


def tree(start: Tile, goals: Sequence[Tile]) -> list[Link]:
    """Links of the multicast tree to all goals, each once, in the order in which they are reached."""
    return list(dict.fromkeys(link for goal in goals for link in way(start, goal)))


def burden(flow: Flow, tiles: Sequence[Tile], cast: Cast) -> dict[Link, int]:
    """Spikes that a flow puts on each link; `tiles` are those of the cores."""
    found: dict[Link, int] = {}
    each: dict[Tile, int] = {}
    for core, spikes in flow.goals.items():
        goal = tiles[core]
        each[goal] = each.get(goal, 0) + spikes if cast == "core" else max(each.get(goal, 0), spikes)
    for goal, spikes in each.items():
        for link in way(tiles[flow.source], goal):
            found[link] = max(found.get(link, 0), spikes) if cast == "tree" else found.get(link, 0) + spikes
    return found


def loads(flows: Sequence[Flow], tiles: Sequence[Tile], cast: Cast) -> dict[Link, int]:
    """Spikes a sample on every link that is used.

    Parameters
    ----------
    flows : sequence of Flow
        What is sent.
    tiles : sequence of (int, int)
        Tile of each core.
    cast : {"core", "tile", "tree"}
        How often a spike is sent.
    """
    total: dict[Link, int] = {}
    for flow in flows:
        for link, spikes in burden(flow, tiles, cast).items():
            total[link] = total.get(link, 0) + spikes
    return {link: spikes for link, spikes in sorted(total.items()) if spikes}


def summary(found: Mapping[Link, int], width: int) -> dict[str, object]:
    """What a report says about links: the busiest, their mean, and what crosses between chips `width` tiles wide."""
    if not found:
        return {"used": 0, "busiest": "", "load": 0, "mean": 0.0, "crossing": 0}
    busiest = max(found, key=lambda link: (found[link], [-n for end in link for n in end]))
    crossing = sum(spikes for (a, b), spikes in found.items() if a[0] // width != b[0] // width)
    (ax, ay), (bx, by) = busiest
    return {
        "used": len(found), "busiest": f"({ax}, {ay}) -> ({bx}, {by})", "load": found[busiest],
        "mean": round(sum(found.values()) / len(found), 1), "crossing": crossing,
    }  # fmt: skip


def relieved(
    site: IntArray,
    flows: Sequence[Flow],
    at: Sequence[Tile],
    cast: Cast,
    change: Callable[[IntArray, IntArray], float],
    locked: NDArray[np.bool_],
    weight: float = 0.0,
) -> IntArray:
    """Exchange parts around the busiest link while that makes it less busy.

    Parameters
    ----------
    site : IntArray
        (P,) site of each logical core.
    flows : sequence of Flow
        What logical cores send to one another.
    at : sequence of (int, int)
        Tile of each site.
    cast : {"core", "tile", "tree"}
        How often a spike is sent.
    change : callable
        Change of the objective from sites to others.
    locked : array of bool
        (P,) cores that stay.
    weight : float
        Objective that one spike less on the busiest link is worth; 0: the objective must not grow.

    Returns
    -------
    IntArray
        (P,) sites; the same array if nothing helps.
    """
    work = _Relief(site, flows, at, cast)
    tries = _MOST_TRIES
    while tries > 0:
        for core, goal in work.moves(locked):
            if tries <= 0:
                break
            tries -= 1
            other = work.exchanged(core, goal, locked)
            if other is None:
                continue
            worse = change(work.site, other)
            if (
                worse > weight * work.worst[0]
            ):  # whatever the links gain; this is told quicker than what they do
                continue
            busiest = work.peak(other)
            gain = work.worst[0] - busiest[0]
            if busiest < work.worst and worse <= weight * max(gain, 0):
                work.take(other)
                break
        else:
            return work.site
    return work.site


class _Relief:
    """Sites, and what each flow puts on the links."""

    def __init__(self, site: IntArray, flows: Sequence[Flow], at: Sequence[Tile], cast: Cast) -> None:
        self.site, self._flows, self._at, self._cast = site, flows, at, cast
        self._touching: dict[int, list[int]] = {}
        for number, flow in enumerate(flows):
            for core in {flow.source, *flow.goals}:
                self._touching.setdefault(core, []).append(number)
        self._where = np.array(at, np.int64).reshape(-1, 2)
        self.take(site)

    def take(self, site: IntArray) -> None:
        """Make these the sites."""
        self.site = site
        tiles = self._tiles(site)
        self._parts = [burden(flow, tiles, self._cast) for flow in self._flows]
        self._total: dict[Link, int] = {}
        for part in self._parts:
            for link, spikes in part.items():
                self._total[link] = self._total.get(link, 0) + spikes
        self._most = max(self._total, key=lambda link: (self._total[link], link), default=None)
        self.worst = self._rated(self._total)

    def _tiles(self, site: IntArray) -> list[Tile]:
        return [self._at[s] for s in site.tolist()]

    @staticmethod
    def _rated(total: Mapping[Link, int]) -> tuple[int, int]:
        """The busiest load and the sum of squares, which tells where several are equally busy."""
        values = total.values()
        return max(values, default=0), sum(value * value for value in values)

    def peak(self, site: IntArray) -> tuple[int, int]:
        """The same after the cores that differ have moved."""
        tiles, total = self._tiles(site), dict(self._total)
        moved = np.flatnonzero(site != self.site).tolist()
        for number in sorted({n for core in moved for n in self._touching.get(core, ())}):
            for link, spikes in self._parts[number].items():
                total[link] -= spikes
            for link, spikes in burden(self._flows[number], tiles, self._cast).items():
                total[link] = total.get(link, 0) + spikes
        return self._rated(total)

    def moves(self, locked: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Cores with spikes on the busiest link, and sites near them."""
        users = [n for n, part in enumerate(self._parts) if self._most in part]
        cores = dict.fromkeys(c for n in users for c in (self._flows[n].source, *self._flows[n].goals))
        found = []
        for core in cores:
            if locked[core]:
                continue
            away = np.abs(self._where - self._where[self.site[core]]).sum(axis=1)
            near = np.argsort(away, kind="stable")
            found += [(core, int(s)) for s in near[away[near] > 0][:_NEAR]]
        return found

    def exchanged(self, core: int, goal: int, locked: NDArray[np.bool_]) -> IntArray | None:
        """Sites with a core at `goal`, and whoever was there in its place; None if that one may not move."""
        new = self.site.copy()
        held = np.flatnonzero(new == goal)
        if held.size and locked[held[0]]:
            return None
        new[held], new[core] = new[core], goal
        return new
