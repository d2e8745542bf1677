"""Placement of large networks: pair parts by heavy traffic, place the pairs, split them, repair.

Pairing is the heavy-edge matching of Karypis and Kumar (1998), done for all parts at once: a pair forms where two
parts are each other's heaviest free partner. Each level halves the parts and the longer side of the grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.passes.map import anneal
from nmc.passes.map.anneal import Task
from nmc.passes.map.sparse import Graph, IntArray, Sites, SmallArray

_COARSEST = 192
_ROUNDS = 8
_HASH = np.uint64(0x9E3779B97F4A7C15)
_SHUFFLE = 20  # bits of the hash that break ties between partners of equal weight


@dataclass(frozen=True)
class Work:
    """Proposals of a part: on the coarsest level (each of its runs), on the levels between, and on the finest."""

    coarsest: int = 4_000
    middle: int = 120
    finest: int = 120


def pairs(graph: Graph) -> IntArray:
    """Group (P,) of each part, two parts a group but for one of an odd number."""
    mate = np.full(graph.parts, -1, np.int64)
    rows, partner, weight = graph.rows, graph.partner.astype(np.int64), graph.weight
    for _ in range(_ROUNDS):
        choice = _heaviest(graph.parts, rows, partner, weight)
        asked = np.flatnonzero(choice >= 0)
        mutual = asked[choice[choice[asked]] == asked]
        mate[mutual] = choice[mutual]
        free = mate < 0
        left = free[rows] & free[partner]
        rows, partner, weight = rows[left], partner[left], weight[left]
        if not len(rows) or not len(mutual):
            break
    _pair_the_rest(mate, _heaviest(graph.parts, graph.rows, graph.partner.astype(np.int64), graph.weight))
    low = np.minimum(np.arange(graph.parts), np.where(mate < 0, np.arange(graph.parts), mate))
    return np.unique(low, return_inverse=True)[1].astype(np.int64)


def _heaviest(parts: int, rows: IntArray, partner: IntArray, weight: IntArray) -> IntArray:
    """Heaviest partner (P,) of each part, ties broken by a hash of the pair; -1 for none. Rows ascend."""
    choice = np.full(parts, -1, np.int64)
    if not len(rows):
        return choice
    low, high = np.minimum(rows, partner).astype(np.uint64), np.maximum(rows, partner).astype(np.uint64)
    mixed = (low * np.uint64(0xBF58476D1CE4E5B9) ^ high) * _HASH
    shift = max(0, int(weight.max()).bit_length() - (62 - _SHUFFLE))
    key = (weight >> shift << _SHUFFLE) | (mixed >> np.uint64(64 - _SHUFFLE)).astype(np.int64)
    first = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
    best = np.repeat(np.maximum.reduceat(key, first), np.diff(np.append(first, len(rows))))
    hits = np.flatnonzero(key == best)[::-1]
    choice[rows[hits]] = partner[hits]  # the first of equals is written last
    return choice


def _pair_the_rest(mate: IntArray, heaviest: IntArray) -> None:
    """Pair free parts that share their heaviest partner, then the others in order."""
    for ordered in (True, False):
        free = np.flatnonzero(mate < 0)
        if ordered:
            free = free[np.argsort(heaviest[free], kind="stable")]
            group = heaviest[free]
            begin = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if len(free) else free
            place = np.arange(len(free)) - np.repeat(begin, np.diff(np.append(begin, len(free))))
            left = np.flatnonzero((place[:-1] % 2 == 0) & (group[:-1] == group[1:])) if len(free) else free
        else:
            left = np.arange(0, len(free) - 1, 2)
        mate[free[left]], mate[free[left + 1]] = free[left + 1], free[left]


def halved(sites: Sites, across: bool) -> Sites:
    """The grid with neighbouring columns (or rows) joined; a cell is closed when all its parts are."""
    closed = sites.closed.reshape(len(sites.xs), len(sites.ys))
    xs, ys = sites.xs, sites.ys
    if across:
        closed = np.pad(closed, ((0, len(xs) % 2), (0, 0)), constant_values=True)
        closed, xs = closed[0::2] & closed[1::2], _middles(xs)
    else:
        closed = np.pad(closed, ((0, 0), (0, len(ys) % 2)), constant_values=True)
        closed, ys = closed[:, 0::2] & closed[:, 1::2], _middles(ys)
    return Sites.grid(xs, ys, closed, sites.near_radius)


def _middles(at: SmallArray) -> SmallArray:
    padded = np.append(at, at[-1]) if len(at) % 2 else at
    return np.asarray((padded[0::2] + padded[1::2]) // 2, np.int32)


def on_mesh(graph: Graph, sites: Sites, seed: int, work: Work) -> IntArray:
    """Place parts on the cells (P,) of a grid of which they take a window in the middle."""
    width, height = len(sites.xs), len(sites.ys)
    is_open = ~sites.closed.reshape(width, height)
    if not is_open.sum() >= graph.parts:
        raise ValueError(f"{graph.parts} parts do not fit on {int(is_open.sum())} cells")
    left, right, low, high = width // 2, width // 2 + 1, height // 2, height // 2 + 1
    while int(is_open[left:right, low:high].sum()) < graph.parts:
        wider = right - left < width and (right - left <= high - low or high - low == height)
        if wider:
            left, right = (
                (left - 1, right) if (width - right <= left and left) or right == width else (left, right + 1)
            )
        else:
            low, high = (
                (low - 1, high) if (height - high <= low and low) or high == height else (low, high + 1)
            )
    window = Sites.grid(
        sites.xs[left:right], sites.ys[low:high], ~is_open[left:right, low:high], sites.near_radius
    )
    column, row = np.divmod(place(graph, window, seed, work), high - low)
    return np.asarray((column + left) * height + row + low, np.int64)


def place(graph: Graph, sites: Sites, seed: int, work: Work) -> IntArray:
    """Place parts on the cells of a grid.

    Parameters
    ----------
    graph : Graph
        Traffic of P parts.
    sites : Sites
        A grid with at least P open cells.
    seed : int
        Seed of the annealing.
    work : Work
        Proposals.

    Returns
    -------
    IntArray
        (P,) different open cells.
    """
    if graph.parts <= _COARSEST:
        return _coarsest(graph, sites, seed, work)
    across = len(sites.xs) >= len(sites.ys)
    group = pairs(graph)
    count = int(group.max()) + 1
    above = place(
        graph.merged(group, count),
        halved(sites, across),
        seed + 1,
        Work(work.coarsest, work.middle, work.middle),
    )
    site = split(graph, sites, group, above, across)
    return _refined(Task(graph, sites, np.zeros(graph.parts, bool)), site, work.finest, seed)


def _coarsest(graph: Graph, sites: Sites, seed: int, work: Work) -> IntArray:
    task = Task(graph, sites, np.zeros(graph.parts, bool))
    begins = anneal.starts(task, np.zeros(graph.parts, np.int64))
    return anneal.search(task, begins, work.coarsest * graph.parts, (0.3, 0.3, 0.3, 0.1), seed, 0)[0]


def split(graph: Graph, sites: Sites, group: IntArray, above: IntArray, across: bool) -> IntArray:
    """Cells (P,) of parts whose groups have cells `above` on the grid halved across (or along)."""
    height = len(sites.ys)
    x, y = np.divmod(above[group], height if across else -(-height // 2))
    towards = _pull(graph, x if across else y, np.stack([x, y]))
    order = np.lexsort((np.arange(graph.parts), towards, group))
    second = np.zeros(graph.parts, np.int64)
    second[order[1:]] = group[order[1:]] == group[order[:-1]]
    x, y = (2 * x + second, y) if across else (x, 2 * y + second)
    return settled(sites, x, y)


def _pull(graph: Graph, along: IntArray, other: IntArray) -> IntArray:
    """Where (P,) the partners of each part are on average along the split axis, in 1/256 cells."""
    share = np.maximum(graph.weight >> max(0, int(graph.weight.max(initial=1)).bit_length() - 24), 1)
    moment = np.concatenate([[0], np.cumsum(share * along[graph.partner])])
    mass = np.concatenate([[0], np.cumsum(share)])
    first, last = graph.start[:-1], graph.start[1:]
    whole = np.maximum(mass[last] - mass[first], 1)
    return np.asarray((moment[last] - moment[first]) * 256 // whole, np.int64)


def settled(sites: Sites, x: IntArray, y: IntArray) -> IntArray:
    """Open cells (P,) for parts that want columns x and rows y: the first to come has it, others go close by."""
    width, height = len(sites.xs), len(sites.ys)
    inside = (x < width) & (y < height)
    want = np.where(inside, x * height + y, -1)
    cells, first = np.unique(want, return_index=True)
    keeps = np.zeros(len(x), bool)
    keeps[first[(cells >= 0) & ~sites.closed[np.maximum(cells, 0)]]] = True
    site = np.where(keeps, want, -1)
    empty = ~sites.closed
    empty[site[keeps]] = False
    for part in np.flatnonzero(~keeps).tolist():
        site[part] = _nearest(
            empty.reshape(width, height), min(int(x[part]), width - 1), min(int(y[part]), height - 1)
        )
        empty[site[part]] = False
    return np.asarray(site, np.int64)


def _nearest(empty: NDArray[np.bool_], x: int, y: int) -> int:
    """The empty cell nearest to column x, row y, looked for in growing squares."""
    width, height = empty.shape
    reach = 2
    while True:
        left, low = max(0, x - reach), max(0, y - reach)
        found = np.argwhere(empty[left : x + reach + 1, low : y + reach + 1])
        if len(found):
            away = np.abs(found[:, 0] + left - x) + np.abs(found[:, 1] + low - y)
            column, row = found[int(away.argmin())]
            return int((column + left) * height + row + low)
        if reach > width + height:
            raise ValueError("there are more parts than open cells")
        reach *= 2


def _refined(task: Task, site: IntArray, each: int, seed: int) -> IntArray:
    """Anneal gently with short moves: what the levels above decided stays."""
    scale = anneal.typical(task, site, 2)
    return anneal.anneal(task, site, each * task.graph.parts, 0.2 * scale, seed, reach=3)[0].astype(np.int64)
