"""The simulated RTL does what the law says: random programs, corners, shells, files that must be refused."""

import numpy as np
import pytest

from fpga_bench import MAX_CYCLES, SHAPES, differs, failures, locked
from fpga_programs import program
from nmc.ir.diagnostics import NmcError
from nmc.targets.fpga import uart
from nmc.targets.fpga.model import Chip
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim import build
from nmc.targets.fpga.sim.build import RTL, SOURCES, simulators
from nmc.targets.fpga.sim.rtl import RtlChip, RtlSerial
from nmc.targets.fpga.words import Op, canonical, seal, word

SMALL = Shape(neurons=16, axons=16, lanes=2, vb=12, queue=256, targets=32)
BODY = program(SMALL, 3, ticks=4)


def test_every_source_is_listed() -> None:
    assert {path.name for path in RTL.glob("*.sv")} == set(SOURCES)


def test_a_missing_tool_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "simulators", lambda: [])
    with pytest.raises(NmcError, match="E1010"):
        RtlChip(SMALL)


@pytest.mark.usefixtures("verilator")
def test_rtl_and_law_agree_on_a_small_shape() -> None:
    chip = RtlChip(SMALL, level="-O0")
    assert list(failures(SMALL, seeds=4, level="-O0")) == []
    assert locked(SMALL, chip, BODY)
    # one file for both engines; a second program goes on where the first one ended
    model = Chip(SMALL)
    assert differs(SMALL, program(SMALL, 5, ticks=3), chip, model=model) == ""
    assert canonical(SMALL, chip.load(seal(SMALL, BODY))) == canonical(SMALL, model.load(seal(SMALL, BODY)))


@pytest.mark.slow
@pytest.mark.usefixtures("verilator")
@pytest.mark.parametrize("name", SHAPES)
def test_rtl_and_law_agree(name: str) -> None:
    assert list(failures(Shape(**SHAPES[name]), seeds=30)) == []


@pytest.mark.slow
@pytest.mark.usefixtures("verilator")
def test_a_core_that_never_rests_is_an_error_and_no_hang() -> None:
    with pytest.raises(NmcError, match="E1011"):
        RtlChip(SMALL, level="-O0").run(np.array([word(Op.TICK, 10_000)], np.uint32), max_cycles=500)


@pytest.mark.slow
@pytest.mark.skipif("cxxrtl" not in simulators(), reason="needs Yosys")
@pytest.mark.parametrize("name", ["full", "stdp"])
def test_cxxrtl_simulates_the_same(name: str) -> None:
    shape = Shape(**SHAPES[name])
    for seed in range(4):
        chip = RtlChip(shape, "cxxrtl")
        assert differs(shape, program(shape, seed, ticks=5), chip, shake=seed) == ""


@pytest.mark.slow
@pytest.mark.usefixtures("verilator")
def test_the_stream_shell_passes_all_words() -> None:
    want = canonical(SMALL, Chip(SMALL).run(BODY))
    for shake in (0, 3, 77):
        chip = RtlChip(SMALL, shell="axis", level="-O0")
        assert canonical(SMALL, chip.run(BODY, shake=shake, max_cycles=MAX_CYCLES)) == want


@pytest.mark.slow
@pytest.mark.usefixtures("verilator")
def test_the_serial_shell_executes_whole_frames_only() -> None:
    chip = RtlSerial(SMALL, level="-O0")
    frames = uart.frames(SMALL, seal(SMALL, BODY))
    damaged = bytearray(frames[0])
    damaged[30] ^= 16
    for data, gap in ((bytes(damaged), 0), (frames[0][:77], 0), (frames[0], 100)):
        answer = uart.parse(chip.send(data, gap_at=20, gap=gap))
        assert set(answer.acks) == {uart.NAK} and not len(answer.words)
    answers = b"".join(chip.send(item) for item in frames)
    got = uart.parse(answers)
    assert got.acks == (uart.ACK,) * len(frames) and got.damaged == 0
    assert canonical(SMALL, got.words) == canonical(SMALL, Chip(SMALL).run(BODY))
