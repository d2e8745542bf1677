"""Packing by search: first fit in several orders, moves, and windows of a few bins that are packed anew exactly."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np

from nmc.passes.map.binpack import Group, IntArray
from nmc.passes.map.binpack_exact import canonical, subsets

#: Items of a window at most, and sweeps of moves without windows.
_WINDOW = 14
_SWEEPS = 20


def search(group: Group, least: int, rounds: int, budget: int, seed: int) -> IntArray:
    """A good packing of a group.

    Parameters
    ----------
    group : Group
        What is packed.
    least : int
        Bins below which nothing is tried.
    rounds : int
        Windows that are packed anew, for every 200 items.
    budget : int
        Steps of a window at most.
    seed : int
        Of the choice of windows.

    Returns
    -------
    IntArray
        (N,) bins 0..k-1, never more than first fit in the order given.
    """
    bins = min(_starts(group), key=lambda found: (int(found.max()), group.cut(found)))
    bins = _moves(group, bins)
    random = Random(seed)
    for number in range(rounds * max(1, group.count // 200)):
        if int(bins.max()) + 1 == least and not group.traffic.any():
            break
        fewer = int(bins.max()) + 1 > least and number % 2 == 0
        bins = _window(group, bins, budget, random, fewer)
    return canonical(bins)


def _starts(group: Group) -> Iterator[IntArray]:
    """First fit, and fit beside the most traffic, in the order given and by decreasing size."""
    share = group.sizes / np.maximum(group.capacity, 1)
    scarce = share.sum(axis=0)
    keys = (np.zeros(group.count), -share.max(axis=1), -share.sum(axis=1), -(share * scarce).sum(axis=1))
    for key in keys:
        order = np.argsort(np.round(key, 9), kind="stable")
        for tied in (False, True):
            yield first_fit(group, order, tied)


def first_fit(group: Group, order: IntArray, tied: bool) -> IntArray:
    """Put items into the first bin that has room, or if `tied` into that with the most traffic among those."""
    bins = np.full(group.count, -1, np.int64)
    load = np.zeros((group.count, len(group.capacity)), np.int64)
    used = 0
    for item in order:
        fits = (load[:used] + group.sizes[item] <= group.capacity).all(axis=1)
        enemies = bins[group.clash[item] & (bins >= 0)]
        fits[enemies] = False
        room = np.flatnonzero(fits)
        if not len(room):
            chosen, used = used, used + 1
        elif tied:
            ties = np.bincount(bins[bins >= 0], group.traffic[item, bins >= 0], used)
            chosen = int(room[ties[room].argmax()])
        else:
            chosen = int(room[0])
        bins[item] = chosen
        load[chosen] += group.sizes[item]
    return bins


def _moves(group: Group, bins: IntArray) -> IntArray:
    """Move single items where that saves traffic, until nothing does or the sweeps are spent."""
    bins, count = bins.copy(), int(bins.max()) + 1
    load = np.zeros((count, len(group.capacity)), np.int64)
    np.add.at(load, bins, group.sizes)
    for _ in range(_SWEEPS):
        moved = False
        for item in range(group.count):
            ties = np.bincount(bins, group.traffic[item], count).astype(np.int64)
            fits = (load + group.sizes[item] <= group.capacity).all(axis=1)
            fits[bins[group.clash[item]]] = False
            gain = np.where(fits, ties - ties[bins[item]], 0)
            best = int(gain.argmax())
            if gain[best] > 0:
                load[bins[item]] -= group.sizes[item]
                load[best] += group.sizes[item]
                bins[item] = best
                moved = True
        if not moved:
            break
    return canonical(bins)


def _window(group: Group, bins: IntArray, budget: int, random: Random, fewer: bool) -> IntArray:
    """Pack a few bins anew: one at random and those with most traffic to it, or for `fewer` any others."""
    count = int(bins.max()) + 1
    first = random.randrange(count)
    ties = np.bincount(bins, group.traffic[bins == first].sum(axis=0), count)
    order = sorted(range(count), key=lambda b: (-float(ties[b]), b))
    if fewer:
        random.shuffle(order)
    room, chosen = _WINDOW, []
    for b in [first, *(b for b in order if b != first)]:
        if (size := int((bins == b).sum())) <= room:
            chosen.append(b)
            room -= size
    items = np.flatnonzero(np.isin(bins, chosen))
    part = group.part(items)
    found = subsets(part, budget) if len(chosen) > 1 else None
    if found is None:
        return bins
    old = canonical(bins[items])
    if (int(found.max()), part.cut(found)) >= (int(old.max()), part.cut(old)):
        return bins
    result = bins.copy()
    result[items] = found + count  # fresh numbers; nothing outside the window has them
    return canonical(result)
