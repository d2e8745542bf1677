"""Memory allocation: nothing overlaps, bounds hold, full memories are filled, public formats are read."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmc.ir.diagnostics import NmcError
from nmc.passes.map import packing
from nmc.passes.map.canonical import ranks, shaken
from nmc.passes.map.memory import Allocation, Buffer, allocate, conflicts, load
from nmc.passes.map.placement import place
from nmc.passes.map.readers import read_minimalloc, read_qaplib
from nmc.passes.map.sparse import IntArray

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def lawful(buffers: list[Buffer], found: Allocation) -> bool:
    """Checked by plain loops."""
    spans = list(zip(buffers, found.offsets, strict=True))
    apart = all(
        a.end <= b.begin or b.end <= a.begin or o + a.size <= p or p + b.size <= o
        for (a, o), (b, p) in itertools.combinations(spans, 2)
    )
    height = max((o + b.size for b, o in spans), default=0)
    return apart and height == found.height and all(o >= 0 and o % b.align == 0 for b, o in spans)


def _columns(buffers: list[Buffer]) -> tuple[IntArray, ...]:
    names = ("begin", "end", "size", "align")
    return tuple(np.array([getattr(b, name) for b in buffers], np.int64) for name in names)


@st.composite
def buffer_lists(draw: Any, most: int = 30) -> list[Buffer]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, most))
    begin, life = rng.integers(-5, 20, count), rng.integers(1, 12, count)
    size, align = rng.integers(1, 40, count), rng.choice([1, 1, 2, 4, 6], count)
    return [
        Buffer(f"b{k}", int(begin[k]), int(begin[k] + life[k]), int(size[k]), int(align[k]))
        for k in range(count)
    ]


@given(buffer_lists())
@settings(max_examples=60)
def test_random_buffers_never_overlap(buffers: list[Buffer]) -> None:
    found = allocate(buffers, limit=0, nodes=100)
    assert lawful(buffers, found) and conflicts(buffers, found.offsets) == []
    assert load(buffers) <= found.bound <= found.height
    assert (found.status == "optimal") == (found.bound == found.height)


@pytest.mark.slow
def test_ten_thousand_random_memories_never_overlap() -> None:
    rng = np.random.default_rng(11)
    for case in range(10_000):
        count = int(rng.integers(1, 14))
        begin, life = rng.integers(0, 20, count), rng.integers(1, 12, count)
        size, align = rng.integers(1, 40, count), rng.choice([1, 1, 2, 4, 6], count)
        columns = zip(begin.tolist(), (begin + life).tolist(), size.tolist(), align.tolist(), strict=True)
        buffers = [Buffer(f"b{k}", *column) for k, column in enumerate(columns)]
        capacity = load(buffers) + int(rng.integers(0, 20)) if case % 2 else 0
        assert lawful(buffers, allocate(buffers, capacity, limit=0, nodes=400)), buffers


@given(buffer_lists(most=5), st.integers(0, 3))
@settings(max_examples=40)
def test_the_search_says_impossible_just_below_the_least_height(buffers: list[Buffer], order: int) -> None:
    if buffers:
        begin, end, size, align = _columns(buffers)
        best, rank = brute_force(buffers), ranks(begin, end, size)[order]
        for height in (best - 1, best):
            found = packing.pack(begin, end, size, align, rank, height, 100_000, squeeze=order > 1)
            assert found.impossible == (height < best) and (found.offsets is None) == found.impossible


@given(st.integers(1, 400), st.integers(0, 99), st.integers(1, 5))
@settings(max_examples=30)
def test_shaken_orders_are_permutations_near_the_order(count: int, number: int, tenths: int) -> None:
    rank = np.random.default_rng(count).permutation(count)
    found = shaken(rank, number, tenths)
    assert sorted(found.tolist()) == list(range(count))
    assert int(np.abs(found - rank).max()) <= 0.2 * tenths * count + 1


@needs_compiler
@given(buffer_lists(most=9), st.integers(0, 12), st.integers(1, 60))
@settings(max_examples=60)
def test_compiled_and_python_searches_are_equal(buffers: list[Buffer], room: int, budget: int) -> None:
    begin, end, size, align = _columns(buffers)
    for rank in ranks(begin, end, size) if buffers else ():
        fields = begin, end, size, align, rank, load(buffers) + room, budget
        for squeeze in (False, True):
            one, two = (packing.pack(*fields, engine=engine, squeeze=squeeze) for engine in ("c", "numpy"))
            assert (one.nodes, one.impossible) == (two.nodes, two.impossible)
            found = [None if done.offsets is None else done.offsets.tolist() for done in (one, two)]
            assert found[0] == found[1]


def cut(count: int, capacity: int, seed: int) -> list[Buffer]:
    """A rectangle of `capacity` by time cut into pieces: a memory of that size is filled whole."""
    rng = np.random.default_rng(seed)
    pieces = [(0, 8 * count, capacity)]
    while len(pieces) < count:
        pieces.sort(key=lambda piece: (piece[1] - piece[0]) * piece[2])
        a, b, size = pieces.pop()
        at = rng.uniform(0.3, 0.7)
        if rng.random() < 0.5:
            middle = a + round((b - a) * at)
            pieces += [(a, middle, size), (middle, b, size)]
        else:
            pieces += [(a, b, round(size * at)), (a, b, size - round(size * at))]
    return [Buffer(f"b{k}", *pieces[p]) for k, p in enumerate(rng.permutation(count).tolist())]


@pytest.mark.parametrize(("count", "seed"), [(30, 0), (60, 1), (100, 2)])
def test_a_memory_that_is_exactly_large_enough_is_filled(count: int, seed: int) -> None:
    found = allocate(buffers := cut(count, 1 << 14, seed), capacity=1 << 14, limit=0)
    assert found.fits(1 << 14) and found.status == "optimal" and not conflicts(buffers, found.offsets)


def brute_force(buffers: list[Buffer]) -> int:
    """Least height: some order of first fits reaches it."""
    best = 1 << 60
    for order in itertools.permutations(buffers):
        done: list[tuple[Buffer, int]] = []
        for b in order:
            near = sorted((o, a.size) for a, o in done if a.begin < b.end and b.begin < a.end)
            at = 0
            for o, size in near:
                if at + b.size > o:
                    at = max(at, -(-(o + size) // b.align) * b.align)
            done.append((b, at))
        best = min(best, max(o + b.size for b, o in done))
    return best


@given(buffer_lists(most=5))
@settings(max_examples=15)
def test_few_buffers_match_brute_force(buffers: list[Buffer]) -> None:
    found = allocate(buffers)
    if buffers:
        best = brute_force(buffers)
        assert found.bound <= best and found.height == best


def test_a_conflict_is_reported_by_name() -> None:
    buffers = [Buffer("a", 0, 2, 8), Buffer("b", 1, 3, 4, 4), Buffer("c", 2, 4, 8)]
    assert conflicts(buffers, [0, 8, 0]) == []
    assert conflicts(buffers, [0, 4, -8]) == ["c at -8", "b overlaps a"]
    assert conflicts(buffers, [0, 9, 13]) == ["b at 9: not a multiple of 4"]


def test_a_rectangle_cut_to_pieces_is_put_together_again() -> None:
    pieces = [(0, 5, 6), (5, 9, 6), (0, 2, 4), (2, 9, 3), (2, 6, 1), (6, 9, 1)]
    buffers = [Buffer(f"b{k}", *piece) for k, piece in enumerate(pieces)]
    found = allocate(buffers, capacity=10)
    assert (found.height, found.status, found.fragmentation) == (10, "optimal", 0.0)


def test_a_memory_that_is_too_small_is_proved_so() -> None:
    found = allocate([Buffer("a", 0, 2, 8), Buffer("b", 1, 3, 8)], capacity=15)
    assert found.height == found.bound == 16


@pytest.mark.parametrize(
    "wrong", [Buffer("x", 1, 1, 4), Buffer("x", 0, 1, 0), Buffer("x", 0, 1, 4, 0), Buffer("x", 0, 1 << 50, 4)]
)
def test_impossible_buffers_are_refused(wrong: Buffer) -> None:
    with pytest.raises(ValueError, match="buffer x"):
        allocate([wrong])


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "file").write_text(text)
        return tmp_path / "file"

    return write


def test_minimalloc_files_are_read(written: Callable[[str], Path]) -> None:
    found = read_minimalloc(written("id,lower,upper,size,alignment\nx,0,3,4,2\ny,2,5,6,\n"))
    assert found == (Buffer("x", 0, 3, 4, 2), Buffer("y", 2, 5, 6, 1))
    older = read_minimalloc(written("id,start,end,size\nx,0,3,4\n"))
    assert older == (Buffer("x", 0, 4, 4),)


def test_both_kinds_of_ends_are_told_apart(written: Callable[[str], Path]) -> None:
    excluded = "\ufeffbuffer, start ,end,size,offset\r\n a ,0,3,4,0\r\n\r\nb,3,5,6,0\r\n"
    assert [b.end for b in read_minimalloc(written(excluded))] == [3, 5]
    assert [b.end for b in read_minimalloc(written(excluded), end="included")] == [4, 6]
    included = "buffer_id,begin,end,size\na,0,2,4\nb,3,4,6\n"
    assert [b.end for b in read_minimalloc(written(included))] == [3, 5]
    assert [b.end for b in read_minimalloc(written(included), end="excluded")] == [2, 4]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id,id,lower,upper,size\n",
        "id,lower,upper,size\nx,1,2\n",
        "id,lower,upper,size,gaps\nx,1,9,2,3-4\n",
        "id,lower,size\nx,1,2\n",
        "id,lower,upper,size\nx,1,1,2\n",
        "id,lower,upper,size\nx,a,1,2\n",
    ],
)
def test_wrong_minimalloc_files_are_refused(written: Callable[[str], Path], text: str) -> None:
    with pytest.raises(NmcError) as caught:
        read_minimalloc(written(text))
    assert caught.value.diagnostics[0].code == "E0715"


GRID = "0 1 1 2 1 0 2 1 1 2 0 1 2 1 1 0"
FLOW = "0 5 0 1 0 0 3 0 0 0 0 9 2 0 0 0"


@pytest.mark.parametrize("text", [f"4\n{GRID}\n{FLOW}\n", f" 4 {FLOW}\n\n{GRID}"])
def test_qaplib_grids_are_recognised_in_either_matrix(written: Callable[[str], Path], text: str) -> None:
    problem = read_qaplib(written(text))
    assert problem.grid == (2, 2) and problem.flow.sum() == 20
    answer = place(problem.flow, problem.distance)
    assert answer.status == "optimal" and answer.objective == 20


def test_a_general_qaplib_metric_has_no_grid(written: Callable[[str], Path]) -> None:
    problem = read_qaplib(written("2\n0 7\n7 0\n0 1\n2 0\n"))
    assert problem.grid is None and place(problem.flow, problem.distance).objective == 21


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2 0 1 1 0",
        "0",
        "1e9",
        "2.5 1",
        "2 0 1 2 0 0 3 4 0",
        "2 0 1 1 0 0 1 1 nan",
        "2 0 1 1 0 0 -1 1 0",
    ],
)
def test_wrong_qaplib_files_are_refused(written: Callable[[str], Path], text: str) -> None:
    with pytest.raises(NmcError) as caught:
        read_qaplib(written(text))
    assert caught.value.diagnostics[0].code == "E0715"
