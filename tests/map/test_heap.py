"""Annealed orders of buffers: lawful, the same in C and Python, and better where the complete search gives up."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from nmc.passes.map.heap import Heaped, heap
from nmc.passes.map.memory import Buffer, allocate, conflicts
from nmc.passes.map.sparse import IntArray

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def random_columns(count: int, seed: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    rng = np.random.default_rng(seed)
    begin = rng.integers(-5, 20, count)
    size, align = rng.integers(1, 40, count), rng.choice([1, 1, 2, 4, 6], count)
    return begin, begin + rng.integers(1, 12, count), size, align


def buffers_of(columns: tuple[IntArray, ...]) -> list[Buffer]:
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Buffer(f"b{k}", *row) for k, row in enumerate(rows)]


@needs_compiler
@pytest.mark.parametrize(("count", "capacity"), [(1, 5), (7, 60), (33, 200), (90, 420)])
@pytest.mark.parametrize("timed", [False, True])
def test_compiled_and_python_moves_are_the_same(count: int, capacity: int, timed: bool) -> None:
    def shown(found: Heaped) -> tuple[list[int], int, int]:
        return found.offsets.tolist(), found.height, found.moves

    fields = *random_columns(count, count), capacity, 1_000, 3
    assert shown(heap(*fields, "c", timed=timed)) == shown(heap(*fields, "numpy", timed=timed))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_found_is_lawful(seed: int) -> None:
    columns = random_columns(25, seed)
    found = heap(*columns, 10, 200, seed)  # no room for that: the lowest seen
    buffers = buffers_of(columns)
    assert conflicts(buffers, found.offsets.tolist()) == []
    assert found.height == max(o + b.size for b, o in zip(buffers, found.offsets.tolist(), strict=True))


@needs_compiler
def test_a_full_memory_is_found_by_moves_alone() -> None:
    pieces = [(0, 5, 6), (5, 9, 6), (0, 2, 4), (2, 9, 3), (2, 6, 1), (6, 9, 1)]
    begin, end, size = (np.array(column, np.int64) for column in zip(*pieces, strict=True))
    found = heap(begin, end, size, np.ones(6, np.int64), 10, 4_000, 0)
    assert found.height == 10 and found.moves < 4_000


@needs_compiler
def test_moves_go_below_what_first_fit_and_a_short_search_find() -> None:
    buffers = buffers_of(random_columns(60, 5))
    short, longer = (allocate(buffers, limit=0, nodes=nodes) for nodes in (0, 20_000))
    assert longer.height < short.height and conflicts(buffers, longer.offsets) == []
