"""Lower bounds for packing: on the number of bins, and on the traffic between them."""

from __future__ import annotations

import numpy as np

from nmc.passes.map.binpack import Group, IntArray


def bin_bounds(group: Group) -> dict[str, int]:
    """Lower bounds on the bins of a group by name: volume, Martello and Toth's L2, items that clash pairwise."""
    return {
        "volume": max([1, *map(int, volumes(group))]),
        "L2": max(_l2(group.sizes[:, r], int(room)) for r, room in enumerate(group.capacity)),
        "clash": _clique(group),
    }


def volumes(group: Group) -> IntArray:
    """Bins that each resource alone asks for, (R,)."""
    total = group.sizes.sum(axis=0)
    return np.asarray(-(-total // np.maximum(group.capacity, 1)), np.int64)


def _l2(sizes: IntArray, room: int) -> int:
    """Bins for one resource (Martello and Toth 1990): large items are alone, small ones fill up."""
    best = 1
    large = sizes[2 * sizes > room]
    middle = sizes[2 * sizes <= room]
    for least in np.unique(np.append(middle, 0)):
        alone = large[large > room - least]
        halves = large[large <= room - least]
        left = int(middle[middle >= least].sum()) - (len(halves) * room - int(halves.sum()))
        best = max(best, len(alone) + len(halves) + (-(-left // room) if left > 0 else 0))
    return best


def _clique(group: Group) -> int:
    """Items no two of which share a bin, found greedily from each item in turn by how many it clashes with."""
    degree = group.clash.sum(axis=1)
    order = np.argsort(-degree, kind="stable")
    best = 1
    for start in order[:50]:
        free = group.clash[start].copy()
        size = 1
        while free.any():
            pick = int(np.where(free, (group.clash & free).sum(axis=1), -1).argmax())
            free &= group.clash[pick]
            size += 1
        best = max(best, size)
    return best


def traffic_bound(group: Group, count: int) -> int:
    """Traffic that crosses between bins in every assignment to at most `count` bins: the best of two bounds."""
    return max(_star_bound(group), _spectral_bound(group, count))


def _star_bound(group: Group) -> int:
    """Each item keeps at most what a knapsack of its partners beside it holds, filled fractionally."""
    kept = 0
    for item in range(group.count):
        partners = np.flatnonzero((group.traffic[item] > 0) & ~group.clash[item])
        weight = group.traffic[item, partners]
        best = int(weight.sum())
        for resource, room in enumerate(group.capacity - group.sizes[item]):
            best = min(best, _knapsack(weight, group.sizes[partners, resource], int(room)))
        kept += best
    total = int(group.traffic.sum())
    return -(-(total - kept) // 2)


def _knapsack(weight: IntArray, size: IntArray, room: int) -> int:
    """Most weight of a fractional knapsack (Dantzig 1957), rounded down."""
    order = np.argsort(-(weight / np.maximum(size, 1e-9)), kind="stable")
    full = np.cumsum(size[order])
    whole = int(np.searchsorted(full, room, side="right"))
    best = int(weight[order[:whole]].sum())
    if whole < len(order):
        left = room - (int(full[whole - 1]) if whole else 0)
        best += int(weight[order[whole]]) * left // int(size[order[whole]])
    return best


def _spectral_bound(group: Group, count: int) -> int:
    """Half the sum of bin size times eigenvalue of the Laplacian (Donath and Hoffman 1973)."""
    traffic = group.traffic.astype(np.float64)
    values = np.linalg.eigvalsh(np.diag(traffic.sum(axis=1)) - traffic)
    most = min(
        int(np.searchsorted(np.cumsum(np.sort(group.sizes[:, r])), room, side="right"))
        for r, room in enumerate(group.capacity)
    )
    total, left = 0.0, group.count
    for value in values[:count]:
        total += min(most, left) * max(float(value), 0.0) / 2
        left -= min(most, left)
    return int(total * (1 - 1e-9) - 1e-6) if total > 1e-6 else 0
