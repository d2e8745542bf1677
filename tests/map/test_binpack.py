"""Packing into bins: equal to brute force, bounded, lawful, reproducible."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.passes.map.binpack import Items, Packing, pack


def partitions(count: int) -> Iterator[tuple[int, ...]]:
    """All set partitions as restricted growth strings."""

    def extend(head: tuple[int, ...], used: int) -> Iterator[tuple[int, ...]]:
        if len(head) == count:
            yield head
            return
        for number in range(used + 1):
            yield from extend((*head, number), max(used, number + 1))

    yield from extend((), 0)


def worth(items: Items, bins: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(bins, traffic, fill) of an assignment, None if it breaks a rule; written from the definition alone."""
    load: dict[int, list[int]] = {}
    for item, number in enumerate(bins):
        row = load.setdefault(number, [0] * len(items.capacity))
        for resource, size in enumerate(items.sizes[item]):
            row[resource] += size
    fill = max(
        -(-1000 * use // room) for row in load.values() for use, room in zip(row, items.capacity, strict=True)
    )
    apart = any(
        bins[a] == bins[b] and items.shared[a] != items.shared[b] for a in range(len(bins)) for b in range(a)
    )
    fixed = [(bins[a] == bins[b]) != (x == y) for a, x in items.fixed.items() for b, y in items.fixed.items()]
    if fill > 1000 or apart or any(fixed):
        return None
    return len(load), sum(w for (a, b), w in items.traffic.items() if bins[a] != bins[b]), fill


@st.composite
def problems(draw: st.DrawFn) -> Items:
    count = draw(st.integers(1, 7))
    rooms = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    sizes = [[draw(st.integers(0, room)) for room in rooms] for _ in range(count)]
    shared = [draw(st.integers(0, 1)) for _ in range(count)]
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda p: p[0] != p[1])
    traffic = draw(st.dictionaries(pairs, st.integers(0, 9), max_size=12)) if count > 1 else {}
    fixed = draw(st.dictionaries(st.integers(0, count - 1), st.integers(0, 2), max_size=3))
    return Items(sizes, rooms, shared, traffic, fixed)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_brute_force_over_all_partitions_agrees(items: Items) -> None:
    lawful = [found for bins in partitions(len(items.sizes)) if (found := worth(items, bins))]
    if not lawful:
        with pytest.raises(ValueError, match="bin"):
            pack(items)
        return
    answer = pack(items)
    assert answer.status == "optimal"
    assert (answer.bins, answer.traffic, answer.fill) == min(lawful) == worth(items, answer.assignment)
    assert all(answer.assignment[item] == number for item, number in items.fixed.items())
    assert all(value <= answer.bins for _, value in answer.bounds)


@settings(max_examples=15, deadline=None)
@given(problems())
def test_cp_sat_and_bounds_agree_with_brute_force(items: Items) -> None:
    from nmc.passes.map import binpack_exact, binpack_search
    from nmc.passes.map.binpack import _group
    from nmc.passes.map.binpack_bounds import bin_bounds, traffic_bound

    plain = Items(items.sizes, items.capacity, [0] * len(items.sizes), items.traffic)
    best = min(found for bins in partitions(len(items.sizes)) if (found := worth(plain, bins)))
    group, _ = _group(plain, range(len(items.sizes)))
    least = max(bin_bounds(group).values())
    start = binpack_search.search(group, least, 4, 100, 0)
    proof = binpack_exact.cp_sat(group, start, least, 5.0)
    assert least <= best[0] and traffic_bound(group, best[0]) <= best[1]
    assert (
        (int(proof.bins.max()) + 1, group.cut(proof.bins))
        == best[:2]
        == (proof.bins_bound, proof.traffic_bound)
    )


def made_up(count: int, seed: int) -> Items:
    """Items of four resources, a bin for about four of them, three partners each."""
    random = Random(seed)
    sizes = [[random.randint(5, 45) for _ in range(4)] for _ in range(count)]
    pairs = {(i, random.randrange(i)): random.randint(1, 20) for i in range(1, count) for _ in range(3)}
    return Items(sizes, [100] * 4, traffic=pairs)


def test_sixteen_items_of_four_resources_are_proved() -> None:
    assert pack(made_up(16, 1)).status == "optimal"


def test_larger_packings_are_lawful_bounded_and_the_same_again() -> None:
    items = made_up(60, 2)
    answer: Packing = pack(items, "fast")
    plain = Items(items.sizes, items.capacity, [0] * 60, items.traffic)
    assert worth(plain, answer.assignment) == (answer.bins, answer.traffic, answer.fill)
    assert answer.bins_bound <= answer.bins and answer.traffic_bound <= answer.traffic
    assert pack(items, "fast") == answer


def test_what_no_bin_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="more than a bin"):
        pack(Items([[3], [3]], [5], fixed={0: 0, 1: 0}))
    with pytest.raises(ValueError, match="bin 4"):
        pack(Items([[1], [1]], [5], ["a", "b"], fixed={0: 4, 1: 4}))
