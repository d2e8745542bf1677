"""Tilings and packing chosen together: equal to brute force over both, refuted only what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmc.passes.map.joint import Choice, Tiling, fewer, resource_bound, solve

Networks = tuple[list[list[Tiling]], np.ndarray]


def least(populations: Sequence[Sequence[Tiling]], capacity: np.ndarray) -> int:
    """Cores of the best of all tilings and all ways to put their boxes together."""
    best = 10**9
    for tilings in product(*populations):
        sizes = np.concatenate([t.sizes for t in tilings])
        fits = np.zeros(1 << len(sizes), bool)
        for group in range(1 << len(sizes)):
            fits[group] = (
                sizes[[k for k in range(len(sizes)) if group >> k & 1]].sum(axis=0) <= capacity
            ).all()
        few = [0] * (1 << len(sizes))
        for group in range(1, 1 << len(sizes)):
            few[group], part = 10**9, group
            while part:
                if fits[part]:
                    few[group] = min(few[group], few[group ^ part] + 1)
                part = part - 1 & group
        best = min(best, few[-1])
    return best


@st.composite
def networks(draw: st.DrawFn) -> Networks:
    """Up to three populations with up to three tilings of up to three boxes, each of which fits a core."""
    capacity = np.array(draw(st.lists(st.integers(3, 20), min_size=1, max_size=3)), np.int64)
    box = st.tuples(*(st.integers(0, int(room)) for room in capacity))
    tiling = st.lists(box, min_size=1, max_size=3).map(
        lambda rows: Tiling(np.array(rows, np.int64), len(rows))
    )
    return draw(st.lists(st.lists(tiling, min_size=1, max_size=3), min_size=1, max_size=3)), capacity


def apart(populations: Sequence[Sequence[Tiling]]) -> Choice:
    """The first tilings, every box on a core of its own."""
    cores, at = [], 0
    for tilings in populations:
        cores.append(tuple(range(at, at + len(tilings[0].sizes))))
        at += len(tilings[0].sizes)
    return Choice((0,) * len(populations), tuple(cores))


def assert_lawful(choice: Choice, populations: Sequence[Sequence[Tiling]], capacity: np.ndarray) -> None:
    held = np.zeros((choice.used, len(capacity)), np.int64)
    for tilings, number, cores in zip(populations, choice.tilings, choice.cores, strict=True):
        assert len(cores) == len(tilings[number].sizes)
        np.add.at(held, list(cores), tilings[number].sizes)
    assert (held <= capacity).all()


@given(networks())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_brute_force_over_tilings_and_packings_agrees(network: Networks) -> None:
    populations, capacity = network
    found, bound = fewer(populations, capacity, apart(populations))
    assert_lawful(found, populations, capacity)
    best = least(populations, capacity)
    assert resource_bound(populations, capacity) <= best
    assert found.used == best == bound


def test_an_uneven_cut_saves_a_core_that_no_even_one_can() -> None:
    even, uneven = Tiling(np.array([[75], [75]])), Tiling(np.array([[100], [50]]))
    small = [Tiling(np.array([[50]]))]
    populations = [[even, uneven], small]
    start = Choice((0, 0), ((0, 1), (2,)))
    found, bound = fewer(populations, np.array([100]), start)
    assert (found.tilings, found.used, bound) == ((1, 0), 2, 2)
    assert fewer([[even], small], np.array([100]), start) == (start, 3)


def test_of_equal_cores_the_tiling_with_fewer_axons_is_taken() -> None:
    costly, cheap = Tiling(np.array([[5], [5]]), 9), Tiling(np.array([[6], [4]]), 7)
    found, refuted = solve([[costly, cheap]], np.array([[6], [6]]), 2, 1.0)
    assert found is not None and found.tilings == (1,) and not refuted
    assert solve([[costly, cheap]], np.array([[6]]), 1, 1.0) == (None, True)


@pytest.mark.parametrize("seed", [0, 1])
def test_many_populations_are_filled_anew_window_by_window(seed: int) -> None:
    rng = np.random.default_rng(seed)
    populations = []
    for total in rng.integers(60, 140, 60).tolist():
        cuts = [[total]] if total <= 100 else []
        cuts += [[total - part, part] for part in (total // 2, total // 3, total // 4) if total - part <= 100]
        populations.append([Tiling(np.array(cut, np.int64)[:, None], len(cut)) for cut in cuts])
    capacity, start = np.array([100]), apart(populations)
    found, bound = fewer(populations, capacity, start, "fast", seed)
    assert_lawful(found, populations, capacity)
    assert bound <= found.used < start.used
    assert fewer(populations, capacity, start, "fast", seed) == (found, bound)
