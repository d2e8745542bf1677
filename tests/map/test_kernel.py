"""The compiled kernel and its numpy twin: the same decisions, lawful ones, and costs that add up."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.passes.map import anneal, kernel
from nmc.passes.map.mesh import mesh_of
from nmc.passes.map.sparse import Graph, Sites, cost_of

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@st.composite
def cases(draw: Any) -> tuple[Graph, Sites, Any, Any]:
    """Random traffic on a mesh with holes or on any metric, a start and locked parts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        wide, high, each = (int(n) for n in rng.integers(1, 5, 3))
        tiles = rng.permutation(wide * high)[: max(1, wide * high - 2)]
        at = np.repeat(np.stack(np.divmod(tiles, high), axis=1), each, axis=0)
        mesh = mesh_of(at)
        sites, cells = mesh.sites, mesh.cell
    else:
        half = np.triu(rng.integers(1, 50, (12, 12)), 1)
        sites, cells = Sites.metric(half + half.T), np.arange(12)
    parts = int(rng.integers(1, len(cells) + 1))
    weight = np.triu(rng.integers(0, 2 ** int(rng.integers(1, 30)), (parts, parts)), 1)
    weight *= rng.random((parts, parts)) < 0.4
    graph = Graph.from_dense(np.asarray(weight + weight.T, np.int64))
    return graph, sites, rng.permutation(cells)[:parts], rng.random(parts) < 0.2


@needs_compiler
@given(cases(), st.floats(0, 1e14), st.integers(0, 2**64 - 1))
@settings(max_examples=60)
def test_compiled_and_numpy_runs_are_equal(case: Any, hot: float, seed: int) -> None:
    graph, sites, start, locked = case
    heat, shift = anneal.schedule(hot, stages=25)
    heat = np.concatenate([[-1], heat])
    radius = np.arange(len(heat), 0, -1)
    runs = [
        kernel.run(graph, sites, start, heat, radius, 12, shift, seed, locked=locked, engine=engine)
        for engine in ("c", "numpy")
    ]  # fmt: skip
    assert np.array_equal(runs[0].site, runs[1].site)
    assert (runs[0].change, runs[0].typical) == (runs[1].change, runs[1].typical)
    site = runs[0].site
    assert len(set(site.tolist())) == graph.parts and not sites.closed[site].any()
    assert np.array_equal(site[locked], start[locked])
    assert cost_of(graph, sites, site) - cost_of(graph, sites, start) == runs[0].change <= 0


def test_the_numpy_twin_improves_a_shuffled_chain_alone() -> None:
    graph = Graph.from_pairs(16, np.arange(15), np.arange(1, 16), np.ones(15))
    sites = Sites.grid(np.arange(4), np.arange(4))
    start = np.random.default_rng(0).permutation(16)
    heat, shift = anneal.schedule(2.0, stages=40)
    found = kernel.run(graph, sites, start, heat, np.full(40, 2), 100, shift, 1, engine="numpy")
    assert cost_of(graph, sites, found.site) < cost_of(graph, sites, start) / 2


def test_without_a_compiler_the_twin_takes_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    kernel.library.cache_clear()
    try:
        assert kernel.library() is None
        graph, sites = Graph.from_pairs(2, [0], [1], [5]), Sites.grid(np.arange(6), [0])
        args = (graph, sites, [0, 5], np.zeros(1, np.int64), np.ones(1, np.int64), 200, 20, 0)
        assert kernel.run(*args).change == -20
        with pytest.raises(RuntimeError, match="C compiler"):
            kernel.run(*args, engine="c")
    finally:
        kernel.library.cache_clear()


@needs_compiler
def test_a_damaged_cache_is_compiled_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel.library.cache_clear()
    try:
        assert kernel.library() is not None
        (kept,) = (tmp_path / "nmc").glob("kernel-*.so")
        kept.unlink()
        kept.write_bytes(b"no library")
        kernel.library.cache_clear()
        assert kernel.library() is not None
    finally:
        kernel.library.cache_clear()


def test_schedules_fall_from_hot_to_cold_and_end_at_rest() -> None:
    heat, shift = anneal.schedule(1000.0, cold=0.1, stages=100)
    real = heat / 2.0 ** (shift - 20)
    assert np.isclose(real[0], 1000.0) and (np.diff(real) <= 0).all() and (real[-20:] == 0).all()
    assert np.isclose(real[79], 100.0, rtol=0.05)
    assert heat.max() < 2**38
    assert anneal.schedule(2.0**50)[0].max() < 2**38 and anneal.schedule(0.0)[0].tolist() == [0]
