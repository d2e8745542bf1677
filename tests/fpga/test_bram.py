"""The closed form of block RAMs is what Yosys makes of a shape."""

from typing import Any

import pytest

from nmc.targets.fpga.bram import (
    EBR,
    LUTRAM,
    block_rams,
    ebr_ice40,
    in_block,
    multipliers_of,
    spram,
    total_ebr,
    total_lutram,
)
from nmc.targets.fpga.shape import Shape

#: Of a plain shape: DP16KD, TRELLIS_DPR16X4 and MULT18X18D of `yosys synth_ecp5 -nowidelut` 0.70.
PLAIN: dict[str, Any] = {
    "vb": 18, "counter": 1, "classes": 2, "geometries": 2, "sparse": False, "conv": False, "stbif": False,
    "late": False, "windows": False, "probes": False,
}  # fmt: skip
MEASURED: tuple[tuple[dict[str, Any], int, int, int], ...] = (
    ({}, 39, 11, 8),
    ({"lanes": 1}, 37, 22, 2), ({"lanes": 8}, 36, 87, 16), ({"cores": 4, "lanes": 2, "axons": 128}, 80, 60, 16),
    ({"vb": 30, "lanes": 2}, 38, 15, 6), ({"vb": 24, "probes": True}, 39, 35, 12),
    ({"sparse": True, "conv": True, "geometries": 8}, 45, 24, 8),
)  # fmt: skip


@pytest.mark.parametrize(("fields", "blocks", "small", "multipliers"), MEASURED)
def test_memories_and_multipliers_are_those_of_yosys(
    fields: dict[str, Any], blocks: int, small: int, multipliers: int
) -> None:
    shape = Shape(**{**PLAIN, **fields})
    assert (total_ebr(shape), total_lutram(shape), multipliers_of(shape)) == (blocks, small, multipliers)


def test_the_best_form_is_taken() -> None:
    sizes = ((16384, 32), (16384, 6), (64, 104), (1024, 18), (1025, 18), (2048, 10))
    assert [EBR.best(*item)[1] for item in sizes] == [32, 6, 3, 1, 2, 2]
    found = block_rams(Shape(vb=18, cores=2))
    assert found["weights"] == 64 and found["pointers"] == 1 and found["classes"] == 0


def test_an_ice40_has_small_and_large_rams() -> None:
    shapes = ((256, 32), (256, 16), (1024, 4), (300, 8), (4, 11))
    assert [ebr_ice40(*item) for item in shapes] == [2, 1, 1, 1, 0]
    assert [spram(*item) for item in ((16384, 32), (8192, 8), (16385, 16))] == [2, 1, 2]


#: (bits, rows) -> whether yosys 0.70 takes block RAMs, and how many RAMs of 16x4 bits else.
CHOICES = {
    (24, 64): True, (21, 64): True, (20, 64): False, (44, 32): False, (16, 64): False, (8, 256): True,
    (8, 192): True, (8, 128): False, (4, 256): False, (12, 128): True, (16, 128): True, (10, 96): False,
    (39, 76): True, (1, 128): False, (60, 32): False, (40, 16): False,
}  # fmt: skip


def test_small_memories_are_where_yosys_puts_them() -> None:
    assert {key: in_block(key[1], key[0]) for key in CHOICES} == CHOICES
    assert LUTRAM.best(64, 21)[1] == 24
