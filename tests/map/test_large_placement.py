"""Placement of large networks: lawful, bounded, better than simple orders, the same bytes everywhere."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmc.passes.map import anneal, curves, eigen, large, multilevel, spectral
from nmc.passes.map.mesh import mesh_of
from nmc.passes.map.quadratic import IntArray, Quadratic, mesh_distance
from nmc.passes.map.sparse import Graph, Sites, cost_of

ROOT = Path(__file__).parents[2]


def sheet(side: int, seed: int = 1) -> Graph:
    """A torus-free sheet of neighbours whose parts are numbered at random."""
    number = np.random.default_rng(seed).permutation(side * side).reshape(side, side)
    source = np.concatenate([number[:-1].reshape(-1), number[:, :-1].reshape(-1)])
    goal = np.concatenate([number[1:].reshape(-1), number[:, 1:].reshape(-1)])
    return Graph.from_pairs(side * side, source, goal, np.ones(len(goal)))


def tiles(wide: int, high: int, each: int = 1) -> IntArray:
    return np.repeat(np.stack(np.divmod(np.arange(wide * high), high), axis=1), each, axis=0)


@pytest.mark.parametrize(("wide", "high", "each"), [(48, 48, 1), (50, 47, 1), (20, 33, 4)])
def test_a_shuffled_sheet_is_laid_out_again(wide: int, high: int, each: int) -> None:
    graph, at = sheet(48), tiles(wide, high, each)
    answer = large.place_large(graph, at, effort="fast")
    assert len(set(answer.site)) == graph.parts and min(answer.site) >= 0 and max(answer.site) < len(at)
    where = at[list(answer.site)]
    apart = np.abs(where[graph.rows] - where[graph.partner]).sum(axis=1)
    assert int((graph.weight * apart).sum()) // 2 == answer.objective
    assert answer.bound <= answer.objective < 4 * graph.total
    assert answer.bound_name in dict(answer.bounds)


def test_pins_hold_in_large_placements() -> None:
    pins = {5: 0, 77: 1100, 900: 1599}
    answer = large.place_large(sheet(32), tiles(40, 40), fixed=pins, effort="fast")
    assert {part: answer.site[part] for part in pins} == pins and len(set(answer.site)) == 1024


def test_a_small_network_on_a_huge_mesh_stays_together() -> None:
    answer = large.place_large(sheet(6), tiles(120, 90), effort="fast")
    assert answer.objective < 2 * sheet(6).total


@pytest.mark.parametrize(
    ("graph", "at", "fixed", "words"),
    [
        (sheet(3), tiles(2, 2), {}, "9 parts do not fit on 4 sites"),
        (sheet(2), tiles(2, 2), {0: 9}, "outside"),
        (sheet(2), tiles(2, 2), {0: 1, 1: 1}, "same site"),
        (Graph.from_pairs(2, [0], [1], [2**49]), tiles(2, 2), {}, "scale the traffic"),
        (sheet(2), tiles(1, 1).repeat(4, 0) * 0 + [[0, 0], [9**9, 1], [2, 9**8], [5, 5]], {}, None),
    ],
)
def test_unlawful_large_input_is_refused(graph: Graph, at: Any, fixed: Any, words: str | None) -> None:
    if words is None:
        assert len(large.place_large(graph, at, fixed=fixed, effort="fast").site) == 4
        return
    with pytest.raises(ValueError, match=words):
        large.place_large(graph, at, fixed=fixed, effort="fast")


def least(weight: IntArray, distance: IntArray, linear: IntArray) -> int:
    every = np.array(list(itertools.permutations(range(len(distance)), len(weight))), np.int64)
    cost = linear[np.arange(len(weight)), every].sum(axis=1)
    for i, j in itertools.combinations(range(len(weight)), 2):
        cost += weight[i, j] * distance[every[:, i], every[:, j]]
    return int(cost.min())


@given(st.integers(0, 2**32), st.sampled_from([(2, 3, 1), (3, 1, 2), (2, 2, 2), (1, 6, 1)]), st.booleans())
def test_no_eigenvalue_or_sparse_bound_exceeds_the_optimum(
    seed: int, mesh: tuple[int, int, int], pinned: bool
) -> None:
    rng, distance = np.random.default_rng(seed), mesh_distance(*mesh)
    parts = int(rng.integers(1, min(6, len(distance)) + 1))
    half = np.triu(rng.integers(0, 20, (parts, parts)) * (rng.random((parts, parts)) < 0.7), 1)
    weight = np.asarray(half + half.T, np.int64)
    linear = rng.integers(0, 50, (parts, len(distance))) * int(pinned)
    best = least(weight, distance, linear)
    bound = eigen.projected_bound(Quadratic(weight, distance, linear, 7))
    assert bound is not None and bound <= best + 7
    if not pinned:
        graph = Graph.from_dense(weight)
        heavy = large.ranked(graph)
        assert large.hop_bound(*heavy, mesh[2]) <= large.star_bound(*heavy, mesh[2]) <= best


def test_a_start_that_is_close_behind_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense layers one after another: the levels are ahead of Hilbert's curve, and behind it when both are annealed."""
    layers, width = 64, 16
    from_, to = np.divmod(np.arange(width * width), width)
    layer = width * np.arange(layers - 1)[:, None]
    ends = (layer + from_).reshape(-1), (layer + width + to).reshape(-1)
    graph = Graph.from_pairs(layers * width, *ends, np.ones(ends[0].size, np.int64))
    both = large.place_large(graph, tiles(32, 32), effort="fast")
    monkeypatch.setattr(large, "_CLOSE", 1.0)
    one = large.place_large(graph, tiles(32, 32), effort="fast")
    assert (both.method, one.method) == ("hilbert+anneal", "levels+anneal")
    assert both.objective < one.objective


@given(st.integers(1, 40), st.integers(0, 200), st.integers(0, 2**32))
def test_pairs_pair_everybody(parts: int, links: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, goal = rng.integers(0, parts, (2, links))
    graph = Graph.from_pairs(parts, source, goal, rng.integers(0, 9, links))
    group = multilevel.pairs(graph)
    counts = np.bincount(group)
    assert len(counts) == (parts + 1) // 2 and sorted(counts)[-1] <= 2
    assert graph.merged(group, len(counts)).total <= graph.total


@given(st.integers(1, 20), st.integers(1, 20))
def test_curves_visit_every_cell_once(width: int, height: int) -> None:
    for curve in (*curves.CURVES.values(), curves.rings):
        assert sorted(curve(width, height).tolist()) == list(range(width * height))


def test_hilbert_steps_are_single_hops_on_a_square() -> None:
    x, y = np.divmod(curves.hilbert(16, 16), 16)
    assert (np.abs(np.diff(x)) + np.abs(np.diff(y)) == 1).all()


def test_the_spectral_layout_unrolls_a_shuffled_sheet() -> None:
    graph, sites = sheet(20), Sites.grid(np.arange(20), np.arange(20))
    site = spectral.layout(graph, sites, np.arange(400))
    assert sorted(site.tolist()) == list(range(400))
    assert cost_of(graph, sites, site) < 0.6 * cost_of(graph, sites, np.arange(400))


def test_meshes_with_holes_and_tiles_give_each_site_a_cell() -> None:
    at = np.array([(0, 0), (0, 0), (0, 0), (3, 1), (3, 2), (7, 0), (7, 0)])
    mesh = mesh_of(at)
    assert np.array_equal(mesh.sites.where(mesh.cell), at)
    assert np.array_equal(mesh.number[mesh.cell], np.arange(7)) and (~mesh.sites.closed).sum() == 7


def test_starts_respect_locked_parts_and_closed_cells() -> None:
    sites = Sites.grid(np.arange(4), np.arange(4)).close([0, 5])
    locked = np.array([True, False, False, False])
    task = anneal.Task(Graph.from_pairs(4, [0, 1], [2, 3], [1, 1]), sites, locked)
    for site in anneal.starts(task, np.array([9, 0, 0, 0])).values():
        assert site[0] == 9 and len(set(site.tolist())) == 4 and not sites.closed[site].any()


_AGAIN = """
import hashlib, numpy as np
from nmc.passes.map.large import place_large
from nmc.passes.map.sparse import Graph
rng = np.random.default_rng(3)
graph = Graph.from_pairs(900, *rng.integers(0, 900, (2, 4000)), rng.integers(1, 99, 4000))
found = place_large(graph, np.stack(np.divmod(np.arange(1024), 32), axis=1), effort="fast")
print(hashlib.sha256(repr(found).encode()).hexdigest())
"""


def test_large_placements_are_the_same_with_another_hash_seed_and_one_core() -> None:
    outputs = set()
    for hash_seed, prefix in (("1", []), ("77", ["taskset", "-c", "0"])):
        command = [*(prefix if shutil.which("taskset") else []), sys.executable, "-c", _AGAIN]
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        outputs.add(subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True).stdout)
    assert len(outputs) == 1 and len(outputs.pop().strip()) == len(hashlib.sha256().hexdigest())
