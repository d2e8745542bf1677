"""Shapes: what they take, the cheapest shape that does, and refusals with figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exact_nets import random_data, random_net
from fpga_chain import compile_legal, legalised
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.targets.fpga import backend
from nmc.targets.fpga.bram import block_rams, luts, total_ebr
from nmc.targets.fpga.fit import shape_of
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sizing import multipliers_of, sample_time
from nmc.targets.fpga.synthesize import _counted, synthesize
from nmc.targets.fpga.target import load


def test_every_memory_is_counted_for_every_core() -> None:
    one = Shape(cores=1, neurons=256, axons=256)
    four = Shape(cores=4, neurons=256, axons=256)
    # facts/fpga.md 2.4: 256 x 256 weights of 8 bits in 4 lanes take 32
    assert block_rams(four)["weights"] == 4 * block_rams(one)["weights"] == 128
    assert luts(four) > luts(one) and multipliers_of(four) == 4 * multipliers_of(one) > 0
    assert multipliers_of(Shape(leak="none")) == 0
    assert multipliers_of(Shape(leak="none", payload_bits=8)) == 4  # what Yosys takes for 1 core x 4 lanes
    assert sample_time(one, 10, 1000, 5) > sample_time(four, 10, 1000, 5)
    assert sample_time(one, 0, 0, 0, cycles=90e6) == pytest.approx(1.0)


def chip(folder: Path, text: str) -> str:
    path = folder / "chip.toml"
    path.write_text(f'base = "fpga"\n{text}')
    return str(path)


def test_a_higher_rate_takes_a_larger_shape_and_nothing_else_changes(tmp_path: Path) -> None:
    legal = legalised(random_net(11))
    data = random_data(legal, 11)
    sizes, answers = [], []
    for rate in (1000, 15_000):
        found = compile_legal(legal, chip(tmp_path, f'device = "ecp5-85k"\ntarget_rate = {rate}\n'))
        shape = shape_of(found.mapped)
        sizes.append(luts(shape))
        assert total_ebr(shape) <= 208
        answers.append(next(iter(backend.Runner(found.files).run(data)[0].outputs.values())))
    assert sizes[0] < sizes[1]
    np.testing.assert_array_equal(answers[0], answers[1])


def test_what_no_shape_reaches_is_told_with_figures(tmp_path: Path) -> None:
    with pytest.raises(DoesNotFit, match="samples a second") as caught:
        compile_legal(legalised(random_net(11)), chip(tmp_path, "target_rate = 1e12\n"))
    assert caught.value.diagnostics[0].code == "E0949"


def test_fixed_fields_are_kept_and_too_small_ones_refused(tmp_path: Path) -> None:
    legal = legalised(random_net(11))
    found = compile_legal(legal, chip(tmp_path, "[shape]\nlanes = 8\nvb = 30\nqueue = 2048\n"))
    shape = shape_of(found.mapped)
    assert (shape.lanes, shape.vb, shape.queue) == (8, 30, 2048)
    data = random_data(legal, 11)
    assert found.differences(data, int(legal.attr("steps"))) == []
    with pytest.raises(NmcError) as caught:
        compile_legal(legal, chip(tmp_path, "[shape]\nvb = 8\ntargets = 2\nstbif = false\n"))
    told = {item.code: item.message for item in caught.value.diagnostics}
    assert set(told) == {"E0946"} and len(caught.value.diagnostics) == 3


@pytest.mark.parametrize("text", [
    'device = "nothing"', "target_rate = true", "[shape]\nlanes = 3", "[shape]\nwings = 2", "shape = 3",
    "[limits.compartments]\nvalue = 99999", "[limits.wings]\nvalue = 1",
])  # fmt: skip
def test_tables_that_mean_nothing_are_refused(text: str) -> None:
    import tomllib

    with pytest.raises(NmcError) as caught:
        load(tomllib.loads(text))
    assert {item.code for item in caught.value.diagnostics} <= {"E0722", "E1001"}


def test_synthesis_of_unknown_devices_is_refused_and_cells_are_counted() -> None:
    with pytest.raises(NmcError, match="E0722"):
        synthesize(Shape(), "spartan")
    found = _counted(
        {"LUT4": 100, "CCU2C": 10, "TRELLIS_DPR16X4": 2, "TRELLIS_FF": 7, "DP16KD": 3, "PDPW16KD": 1}
    )
    assert (found.luts, found.flip_flops, found.block_rams, found.multipliers) == (136, 7, 4, 0)
