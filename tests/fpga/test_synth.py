"""Bitstreams: weights in them are exchanged without place and route, and equal those of a full build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpga_fake_tools
from exact_nets import random_net
from fpga_chain import compile_legal, legalised
from fpga_weights import SMALL, program
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.targets.fpga import words
from nmc.targets.fpga.devices import device
from nmc.targets.fpga.image import Image, from_files
from nmc.targets.fpga.model import Chip
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.synth import build, contents, flow, tools
from nmc.targets.fpga.synth.swap import CannotSwapError, exchange


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in fpga_fake_tools.install(tmp_path / "fakes").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "fakes"


# ---------------------------------------------------------------------------------------------------- contents
def test_contents_are_those_that_the_program_writes() -> None:
    shape = Shape(cores=2, lanes=4, neurons=64, axons=20, weights="int4", probes=False)
    rng, writer = np.random.default_rng(2), words.Writer(shape)
    given = rng.integers(-8, 8, (shape.weight_rows, 4))
    writer.memory("weights", {"w": given}, core=1)
    image = Image(shape, writer.file(), (), (), (), 1, 0)
    none, found = contents.of_program(image)
    assert not none.any() and len(found) % contents.STEP == 0
    nibbles = found[: shape.weight_rows].reshape(-1, 4, 4) @ np.array([1, 2, 4, -8])
    np.testing.assert_array_equal(nibbles, given)


def test_files_for_readmemh_have_the_lowest_bit_last() -> None:
    bits = np.array([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 1]], np.uint8)
    assert contents.hex_text(bits) == "01\n32\n"


def test_a_stream_without_weights_does_all_the_rest() -> None:
    image = from_files(compile_legal(legalised(random_net(11))).files)
    rest = contents.without_weights(image)
    assert len(rest) < len(image.program)
    whole, part = Chip(image.shape), Chip(image.shape)
    for core, bits in enumerate(contents.of_program(image)):  # what the bitstream holds
        memory = image.shape.memories["weights"]
        padded = np.pad(bits, ((0, 0), (0, 32 * memory.words - memory.width)))[: memory.rows]
        rows = np.packbits(padded, axis=1, bitorder="little").view("<u4")
        head = [words.word(words.Op.SEL, core), words.word(words.Op.MEM_ADDR, memory.space << 24)]
        head.append(words.word(words.Op.MEM_DATA, rows.size))
        part.run(np.concatenate([np.array(head, np.uint32), rows.reshape(-1).astype(np.uint32)]))
    whole.load(image.program)
    part.load(rest)
    for name, memory in image.shape.memories.items():
        for core in range(1 if memory.shared else image.shape.cores):
            ask = [words.word(words.Op.SEL, core), words.word(words.Op.MEM_ADDR, memory.space << 24)]
            ask.append(words.word(words.Op.MEM_READ, memory.rows))
            np.testing.assert_array_equal(
                whole.run(np.array(ask, np.uint32)), part.run(np.array(ask, np.uint32)), name
            )


# ---------------------------------------------------------------------------------------------------- exchange
@pytest.mark.parametrize(("width", "used"), [(1, 8), (2, 8), (4, 8), (9, 9), (18, 9), (36, 9)])
def test_contents_are_exchanged_in_every_form_of_a_block_ram(width: int, used: int) -> None:
    depth = 2048 * used // width
    rng = np.random.default_rng(width)
    old, new = (rng.integers(0, 2, (depth, width), np.uint8) for _ in range(2))

    def config(bits: Any) -> bytes:
        words9 = np.pad(bits.reshape(-1, used), ((0, 0), (0, 9 - used)))
        return fpga_fake_tools._block(7, words9.reshape(512, 36)).encode()

    assert exchange("ecp5", config(old), [old], [new]) == config(new) != config(old)
    assert exchange("ecp5", config(new), [new], [old]) == config(old)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_contents_are_exchanged_in_the_block_rams_of_an_ice40(stride: int) -> None:
    """The low bits of an address choose within a word: row r of 16 / stride bits is in word r // stride."""
    rng = np.random.default_rng(1)
    old, new = (rng.integers(0, 2, (320 * stride, 16 // stride), np.uint8) for _ in range(2))

    def config(bits: Any) -> bytes:
        text, full = ".device 5k\n", np.pad(bits, ((0, 192 * stride), (0, 0)))
        for part in (full[: 256 * stride], full[256 * stride :]):
            wide = part.reshape(256, stride, 16 // stride).transpose(0, 2, 1)
            rows = np.packbits(wide.reshape(16, 256), axis=1, bitorder="little")[:, ::-1]
            text += ".ram_data 6 1\n" + "".join(row.tobytes().hex() + "\n" for row in rows) + "\n"
        return text.encode()

    assert exchange("ice40", config(old), [old], [new]) == config(new)


def test_what_is_not_found_exactly_once_is_refused() -> None:
    rng = np.random.default_rng(3)
    old, new = (rng.integers(0, 2, (512, 36), np.uint8) for _ in range(2))
    text = fpga_fake_tools._block(1, old).encode()
    with pytest.raises(CannotSwapError, match="0 of 36"):
        exchange("ecp5", text, [new], [old])
    with pytest.raises(CannotSwapError, match="the same"):
        exchange("ecp5", text, [old, old], [new, new])


# ---------------------------------------------------------------------------------------------------- around the tools
def test_a_shape_is_routed_once_and_swapped_bitstreams_are_full_builds(fakes: Path) -> None:
    design = flow.Design(SMALL, device("ecp5-85k"))
    first = build.synthesize(program(SMALL, 1), design)
    assert not first.cached and first.design.inside
    assert fpga_fake_tools.calls(fakes) == list(fpga_fake_tools.TOOLS)
    stages = list[str]()
    second = build.synthesize(program(SMALL, 2), design, stages.append)
    assert second.cached and stages == ["exchange weights", "pack"]
    assert fpga_fake_tools.calls(fakes)[3:] == ["yowasp-ecppack"]
    for seed, found in ((1, first), (2, second)):
        full = flow.route(found.design, contents.of_program(program(SMALL, seed)))
        assert flow.pack(found.design, full.config) == found.bitstream
    assert first.bitstream != second.bitstream and first.to_json() == second.to_json()
    assert first.to_json()["peak_synaptic_operations_per_second"] == 2 * 100e6
    assert len(words.read(SMALL, second.stream)) == 3  # the core, the register, the core


def test_a_damaged_entry_of_the_cache_is_made_again(fakes: Path) -> None:
    design = flow.Design(SMALL, device("ecp5-85k"))
    first = build.synthesize(program(SMALL, 1), design)
    (entry,) = (fakes / "cache/fpga/routed").glob("*.z")
    entry.write_bytes(entry.read_bytes()[:-9])
    again = build.synthesize(program(SMALL, 1), design)
    assert not again.cached and again.bitstream == first.bitstream


def test_another_seed_tool_or_pin_is_another_entry(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = device("ecp5-85k")
    designs = [
        flow.Design(SMALL, chip), flow.Design(SMALL, chip, seed=2), flow.Design(SMALL, chip, "uart"),
        flow.Design(SMALL, chip, pins="LOCATE COMP clk SITE P3;"), flow.Design(SMALL, device("ecp5-45k")),
        flow.Design(SMALL, chip, inside=True),
    ]  # fmt: skip
    keys = {item.key() for item in designs}
    monkeypatch.setattr(tools, "version_of", lambda path: "another version")
    assert len(keys | {designs[0].key()}) == len(designs) + 1


def test_small_weights_and_large_rams_are_loaded_by_words() -> None:
    assert flow.holds_weights(SMALL, device("ecp5-85k"))
    assert not flow.holds_weights(Shape(neurons=8, axons=8), device("ecp5-85k"))
    assert flow.holds_weights(SMALL, device("up5k")) and not flow.holds_weights(Shape(), device("up5k"))


def test_missing_tools_are_named_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find", lambda name: None)
    with pytest.raises(NmcError, match="yosys, nextpnr-ice40, icepack") as caught:
        tools.locate("ice40")
    assert caught.value.diagnostics[0].code == "E1021" and "pip install" in (
        caught.value.diagnostics[0].hint or ""
    )


def test_a_tool_that_fails_says_why_and_too_large_a_design_does_not_fit(tmp_path: Path, fakes: Path) -> None:
    with pytest.raises(NmcError, match="E1022.*no such command"):
        tools.run(["/bin/sh", "-c", "echo no such command >&2; exit 3"], tmp_path)
    fpga_fake_tools.install(fakes, luts=90_000)
    with pytest.raises(DoesNotFit, match=r"90,000 of 83,640 luts"):
        flow.route(flow.Design(SMALL, device("ecp5-85k")))


def test_a_circuit_that_is_not_that_of_the_rtl_is_an_error_though_the_tool_goes_on(tmp_path: Path) -> None:
    warning = (
        "Warning: Driver-driver conflict for x between cell y and constant 1'x: Resolved using constant."
    )
    with pytest.raises(NmcError, match="E1022.*replaced what drives"):
        tools.run(["/bin/sh", "-c", f'echo "{warning}" >&2'], tmp_path)
