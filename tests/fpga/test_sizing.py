"""Shapes: what they take, the cheapest shape that does, and refusals with figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exact_nets import random_data, random_net
from fpga_chain import compile_legal, legalised
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.ir.module import Module
from nmc.targets.fpga import backend
from nmc.targets.fpga import sizing as sizing_module
from nmc.targets.fpga.area import luts
from nmc.targets.fpga.bram import block_rams, multipliers_of, total_ebr
from nmc.targets.fpga.devices import device, names, needs
from nmc.targets.fpga.fit import Fit, shape_of
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sizing import Candidate, sample_time, sizing
from nmc.targets.fpga.target import load


def test_every_memory_is_counted_for_every_core() -> None:
    one = Shape(cores=1, neurons=256, axons=256)
    four = Shape(cores=4, neurons=256, axons=256)
    # facts/fpga.md 2.4: 256 x 256 weights of 8 bits in 4 lanes take 32
    assert block_rams(four)["weights"] == 4 * block_rams(one)["weights"] == 128
    assert luts(four) > luts(one) and multipliers_of(four) == 4 * multipliers_of(one) > 0
    assert multipliers_of(Shape(leak="none", weights="int4")) == 0  # products of 6 bits are LUTs
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


def test_devices_have_what_the_model_counts_and_unknown_ones_are_refused() -> None:
    for name in names():
        chip = device(name)
        assert min(chip.luts, chip.block_rams, chip.multipliers) > 0 and chip.hertz > 1e6
    with pytest.raises(NmcError, match="E0722"):
        device("spartan")
    small = Shape(
        lanes=2, neurons=64, axons=64, classes=2, geometries=2, queue=256, targets=256, probes=False
    )
    assert needs(small, "ecp5").beyond(device("ecp5-85k")) == []
    # the weights of 256 x 256 neurons are beyond 30 block RAMs of 4 kbit: they go to two of the large RAMs
    assert needs(Shape(), "ice40").large_rams == 2 and needs(small, "ice40").large_rams == 0
    assert any("block rams" in text for text in needs(Shape(cores=8)).beyond(device("ecp5-85k")))


def test_options_of_the_pass_are_those_of_the_file(tmp_path: Path) -> None:
    legal = legalised(random_net(11))
    text = chip(tmp_path, 'device = "ecp5-25k"\ntarget_rate = 9000\n')
    by_file, by_option = Fit(target=text).run(legal), Fit(device="ecp5-25k", target_rate=9000.0).run(legal)
    assert by_file.ops == by_option.ops and by_file.attr("shape") == by_option.attr("shape")
    assert by_file.attr("device") == by_option.attr("device") == "ecp5-25k"
    found = sizing(by_file)
    assert found["samples_per_second"] >= 9000 and found["model"]["luts"] <= found["available"]["luts"]


def test_no_cheaper_shape_was_left_out(tmp_path: Path) -> None:
    """The search stops early; trying everything finds the same shape."""
    legal = legalised(random_net(11))
    for rate in (100.0, 15_000.0):
        best = shape_of(Fit(device="ecp5-85k", target_rate=rate).run(legal))
        for lanes in (1, 2, 4, 8, 16):
            for cores in (1, 2, 4):
                text = chip(tmp_path, f"target_rate = {rate}\n[shape]\nlanes = {lanes}\ncores = {cores}\n")
                try:
                    other = shape_of(Fit(target=text, device="ecp5-85k").run(legal))
                except DoesNotFit:
                    continue
                assert luts(best) <= luts(other)


def test_fewer_bits_are_priced_where_memory_lacks() -> None:
    shape = Shape(neurons=512, axons=1024)
    found = [Candidate(Module("none", "mapped", ()), shape, needs(shape), 500.0)]
    (told,) = sizing_module._refusal(found, device("ecp5-85k"), 1000.0, []).diagnostics
    less = needs(replace(shape, weights="int4")).block_rams
    assert told.code == "E0949" and f"--bits 4 takes {less} of 208 block rams" in (told.hint or "")
    for text in ("1 core x 4 lanes", "of 208 block rams", "500 of 1,000 samples a second", "ecp5-85k"):
        assert text in told.message
