"""The closed form of block RAMs is what Yosys makes of a shape."""

from typing import Any

import pytest

from nmc.targets.fpga.area import luts
from nmc.targets.fpga.bram import EBR, LUTRAM, block_rams, ebr_ice40, in_block, spram, total_ebr, total_lutram
from nmc.targets.fpga.shape import Shape

#: Of shapes with vb = 18: DP16KD and TRELLIS_DPR16X4 of `yosys synth_ecp5 -nowidelut` 0.70, and 1.04 times (LUT4 +
#: 2 CCU2C + 8 DPR16X4), which is TRELLIS_COMB of nextpnr-ecp5 within 1 %.
MEASURED: tuple[tuple[dict[str, Any], int, int, int], ...] = (
    ({}, 45, 74, 4824),
    ({"lanes": 8}, 39, 195, 7736),
    ({"lanes": 2, "cores": 2, "axons": 128}, 55, 138, 5942),
    ({"lanes": 1}, 69, 75, 3531),
)


@pytest.mark.parametrize(("fields", "blocks", "small", "cells"), MEASURED)
def test_memories_are_those_of_yosys(fields: dict[str, Any], blocks: int, small: int, cells: int) -> None:
    shape = Shape(vb=18, **fields)
    assert (total_ebr(shape), total_lutram(shape)) == (blocks, small)
    assert abs(luts(shape) - cells) < 0.1 * cells


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
