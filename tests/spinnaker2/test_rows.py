"""Row formats hold the synapses that the ops mean, and refuse what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.op import Span
from nmc.ir.ops import kernels
from nmc.ir.ops.mapped import slot_order
from nmc.targets.spinnaker2.build import PeProgram, build, slots_of, used_bytes
from nmc.targets.spinnaker2.elf import section_sizes, write_pe
from nmc.targets.spinnaker2.laws import Law
from nmc.targets.spinnaker2.layout import REGIONS_BASE, SRAM_BYTES, STACK_BYTES
from nmc.targets.spinnaker2.load import LoadedEntry, load
from nmc.targets.spinnaker2.rows import ConvRows, DenseRows, Entry, Rows, SparseRows

Array = NDArray[Any]


def program(rows: Rows, n: int, types: int = 1, **more: Any) -> PeProgram:
    law = Law("lif", types=types)
    return PeProgram(0, 0, 1 << 20, law, n, {}, np.zeros(1), (Entry(0, 0xFFF00000, rows),), **more)


def matrix(entry: LoadedEntry, n: int) -> dict[tuple[int, int], Array]:
    """Sum of the weights by (delay field, type): (sources, targets)."""
    found: dict[tuple[int, int], Array] = {}
    if entry.dense is not None:
        late, kind, target = entry.dense_at
        found[late, kind] = np.zeros((entry.count, n), np.int64)
        found[late, kind][:, target : target + entry.dense.shape[1]] = entry.dense
        return found
    source = np.repeat(np.arange(entry.count), np.diff(entry.starts))
    for late, kind in set(zip(entry.field.tolist(), entry.type.tolist(), strict=True)):
        here = (entry.field == late) & (entry.type == kind)
        table = found[late, kind] = np.zeros((entry.count, n), np.int64)
        np.add.at(table, (source[here], entry.target[here]), entry.weight[here])
    return found


def loaded(rows: Rows, n: int, types: int = 1) -> dict[tuple[int, int], Array]:
    (entry,) = load(build(program(rows, n, types))).entries
    return matrix(entry, n)


def test_dense_rows() -> None:
    weights = np.random.default_rng(0).integers(-128, 128, (9, 7))
    found = loaded(DenseRows(weights, 3, 1, 2), 11, 2)
    assert list(found) == [(2, 1)] and np.array_equal(found[2, 1][:, 2:9], weights)


@given(st.integers(0, 1 << 20), st.sampled_from(["sparse16", "sparse32"]), st.integers(1, 2))
def test_sparse_rows(seed: int, form: Any, types: int) -> None:
    rng = np.random.default_rng(seed)
    sources, n, count = int(rng.integers(1, 20)), int(rng.integers(1, 30)), int(rng.integers(0, 60))
    source, target = rng.integers(0, sources, count), rng.integers(0, n, count)
    limit = 15 if form == "sparse16" else 32767
    weight = rng.integers(0 if form == "sparse16" and types == 2 else -limit, limit + 1, count)
    delay, kind = rng.integers(1, 9, count), rng.integers(0, types, count)
    found = loaded(SparseRows(form, sources, source, target, weight, delay, kind, types), n, types)
    for late in range(8):
        for k in range(types):
            want = np.zeros((sources, n), np.int64)
            here = (delay == late + 1) & (kind == k)
            np.add.at(want, (source[here], target[here]), weight[here])
            assert np.array_equal(found.get((late, k), np.zeros_like(want)), want)


@given(st.integers(0, 1 << 20), st.integers(1, 2))
def test_conv_rows_unfold_to_the_convolution(seed: int, axes: int) -> None:
    rng = np.random.default_rng(seed)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.integers(low, high, axes))

    groups = int(rng.integers(1, 4))
    inner, outer = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    space, kernel, stride, dilation = some(4, 8), some(1, 4), some(1, 3), some(1, 3)
    pad = (*some(0, 3), *some(0, 3))
    weight = rng.integers(-128, 128, (groups * outer, inner, *kernel))
    shape = (groups * inner, *space)
    if any(
        d * (k - 1) + 1 > n + pad[i] + pad[axes + i]
        for i, (d, k, n) in enumerate(zip(dilation, kernel, space, strict=True))
    ):
        return
    eye = np.eye(int(np.prod(shape)), dtype=np.int64).reshape(-1, *shape)
    whole = kernels.conv(eye, weight, stride, pad, dilation, groups)
    boxes = []
    for full in (shape, whole.shape[1:]):
        starts = [int(rng.integers(0, n)) for n in full]
        boxes.append(
            tuple(Span(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(starts, full, strict=True))
        )
    source, target = boxes
    rows = ConvRows(weight, stride, pad, dilation, groups, source, target, 2)
    grid = np.arange(eye.shape[0]).reshape(shape)[tuple(s.slice() for s in source)]
    cut = whole[(slice(None), *(s.slice() for s in target))][slot_order(grid)]
    want = np.stack([slot_order(item) for item in cut])
    found = loaded(rows, want.shape[1])
    assert np.array_equal(found.get((1, 0), np.zeros_like(want)), want)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DenseRows(np.array([[128]])),
        lambda: DenseRows(np.array([[1]]), delay=9),
        lambda: DenseRows(np.array([[1]]), delay=0),
        lambda: SparseRows("sparse16", 1, np.array([0]), np.array([0]), np.array([16])),
        lambda: SparseRows("sparse16", 1, np.array([0]), np.array([256]), np.array([1])),
        lambda: SparseRows("sparse16", 1, np.array([0]), np.array([0]), np.array([-1]), types=2),
        lambda: SparseRows("sparse32", 1, np.array([0]), np.array([0]), np.array([40000])),
        lambda: SparseRows("sparse32", 1, np.array([1]), np.array([0]), np.array([1])),
    ],
)
def test_what_a_format_cannot_hold_is_an_error(make: Any) -> None:
    with pytest.raises(NmcError, match="E0901"):
        make()


def test_too_many_words_for_an_index_are_an_error() -> None:
    count = 70_000
    rows = SparseRows("sparse32", 1, np.zeros(count, int), np.zeros(count, int), np.ones(count, int))
    with pytest.raises(NmcError, match="E0902"):
        rows.index()


def test_ring_has_no_more_slots_than_delays_need() -> None:
    for delay, slots in ((1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (8, 8)):
        assert slots_of(program(DenseRows(np.ones((1, 1), int), delay), 1)) == slots


def test_bytes_are_those_of_the_sections() -> None:
    rows = SparseRows("sparse16", 5, np.arange(5), np.arange(5), np.ones(5, int))
    item = program(rows, 9, record=("spikes", "v", "payload"), record_ticks=7)
    image = build(item)
    sizes = section_sizes(write_pe(image))
    kept = sum(size for name, size in sizes.items() if name not in (".text", ".dspec", ".stack"))
    assert used_bytes(item) == image.used_bytes() == REGIONS_BASE + kept + STACK_BYTES


def test_largest_dense_layer_fits_and_one_more_neuron_does_not() -> None:
    def layer(n: int) -> PeProgram:
        return program(DenseRows(np.zeros((784, n), np.int8)), n)

    most = max(n for n in range(100, 200) if used_bytes(layer(n)) <= SRAM_BYTES)
    assert most >= 140
    assert build(layer(most)).used_bytes() <= SRAM_BYTES
    with pytest.raises(DoesNotFit, match=r"E0903.*of 131,072 bytes of SRAM; largest regions: rows 1"):
        build(layer(most + 1))


def test_recording_that_does_not_fit_is_told_with_numbers() -> None:
    item = program(DenseRows(np.ones((1, 250), int)), 250, record=("v",), record_ticks=130)
    with pytest.raises(DoesNotFit, match=r"E0903.*rec_v 130,000"):
        build(item)
