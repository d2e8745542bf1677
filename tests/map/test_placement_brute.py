"""Placements of up to eight parts against every lawful placement there is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmc.passes.map.placement import Effort, IntArray, mesh_distance, place

#: Columns, rows and cores of a tile, so small that all placements of eight parts are at most 400,000.
MESHES = [
    (1, 1, 8), (2, 1, 4), (2, 1, 6), (3, 1, 3), (2, 2, 2), (2, 2, 3), (4, 1, 2), (5, 1, 2), (8, 1, 1),
    (4, 2, 1), (3, 3, 1),
]  # fmt: skip


@lru_cache(maxsize=16)
def lawful(tiles: int, room: int, parts: int) -> IntArray:
    """Every way to put parts on tiles with so much room, (N, parts): cores of a tile are as good as each other."""
    rows = np.zeros((1, 0), np.int8)
    for _ in range(parts):
        rows = np.concatenate(
            [np.repeat(rows, tiles, axis=0), np.tile(np.arange(tiles, dtype=np.int8), len(rows))[:, None]],
            axis=1,
        )
        rows = rows[(rows == rows[:, -1:]).sum(axis=1) <= room]
    return np.ascontiguousarray(rows.T)


def least(traffic: IntArray, mesh: tuple[int, int, int], pins: dict[int, int]) -> int:
    """The cost of the best of all placements; written from the definition alone."""
    wide, high, room = mesh
    every = lawful(wide * high, room, len(traffic))
    for part, site in pins.items():
        every = every[:, every[part] == site // room]
    x, y = np.divmod(every, high)
    cost = np.zeros(every.shape[1], np.int64)
    for i, j in zip(*np.nonzero(traffic), strict=True):
        if i != j:
            hops = np.abs(x[i] - x[j]) + np.abs(y[i] - y[j])
            cost += hops.astype(np.int64) * traffic[i, j]
    return int(cost.min())


@st.composite
def cases(draw: Any) -> tuple[IntArray, tuple[int, int, int], dict[int, int]]:
    """Traffic of any density between up to eight parts, some of them pinned, on any of the meshes."""
    mesh = draw(st.sampled_from(MESHES))
    sites = mesh[0] * mesh[1] * mesh[2]
    parts = draw(st.integers(2, min(8, sites)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    most, density = draw(st.sampled_from([1, 9, 1000, 1 << 20])), draw(st.sampled_from([0.15, 0.3, 0.6, 1.0]))
    traffic = rng.integers(1, most + 1, (parts, parts)) * (rng.random((parts, parts)) < density)
    pinned = draw(st.lists(st.integers(0, parts - 1), unique=True, max_size=2))
    return traffic, mesh, dict(zip(pinned, draw(st.permutations(range(sites))), strict=False))


def assert_as_good_as_any(
    case: tuple[IntArray, tuple[int, int, int], dict[int, int]], effort: Effort
) -> None:
    """The best of all placements is found, no bound is above it, and it is called optimal only when it is proved."""
    traffic, mesh, pins = case
    answer, best = place(traffic, mesh_distance(*mesh), fixed=pins, effort=effort), least(traffic, mesh, pins)
    assert answer.objective == best
    assert all(answer.site[part] == site for part, site in pins.items())
    assert all(bound <= best for _, bound in answer.bounds)
    assert answer.status == ("optimal" if max(bound for _, bound in answer.bounds) == best else "feasible")


LIMITED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(cases())
@settings(LIMITED, max_examples=25)
def test_up_to_eight_parts_no_placement_is_better(case: Any) -> None:
    assert_as_good_as_any(case, "fast")


@pytest.mark.slow
@pytest.mark.parametrize(("effort", "examples"), [("fast", 300), ("normal", 60)])
def test_many_more_traffics_of_up_to_eight_parts(effort: Effort, examples: int) -> None:
    @given(cases())
    @settings(LIMITED, max_examples=examples)
    def agree(case: Any) -> None:
        assert_as_good_as_any(case, effort)

    agree()


def test_the_placements_of_brute_force_are_all_there_are() -> None:
    assert lawful(9, 1, 8).shape == (8, 362_880)
    assert lawful(2, 4, 8).shape == (8, 70)
    assert lawful(4, 2, 8).shape == (8, 2520)
    cross = np.array([[0, 3, 0], [0, 0, 2], [0, 0, 0]])
    assert least(cross, (3, 1, 1), {}) == 5 and least(cross, (3, 1, 1), {0: 1}) == 3 + 4
