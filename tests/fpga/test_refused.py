"""Files that are not for a core leave no trace in it: functional engine, simulated RTL, serial shell.

Shapes that are too large for a device or a rate are told with figures, and what is promised is kept.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exact_nets import random_net
from fpga_chain import compile_legal, legalised
from fpga_programs import program, read_back
from nmc.ir.diagnostics import DoesNotFit, NmcError
from nmc.targets.fpga import uart
from nmc.targets.fpga.devices import device, names, needs
from nmc.targets.fpga.fit import Fit, shape_of
from nmc.targets.fpga.image import HOST, PROGRAM, from_files
from nmc.targets.fpga.model import Chip
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.rtl import RtlChip, RtlSerial
from nmc.targets.fpga.sizing import sample_cycles
from nmc.targets.fpga.words import Error, Op, Register, Words, Writer, canonical, header, seal, word

SHAPE = Shape(neurons=16, axons=16, lanes=2, vb=12, queue=256, targets=32)
OTHER = replace(SHAPE, vb=13)
GOOD = seal(SHAPE, program(SHAPE, 3, ticks=4))
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "E1003"),
    "half a header": (GOOD[:9], "E1003"),
    "truncated": (GOOD[:-8], "E1003"),
    "one byte short": (GOOD[:-1], "E1003"),
    "one byte more": (GOOD + b"\0", "E1003"),
    "wrong checksum": (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "E1003"),
    "a flipped bit of a weight": (GOOD[:60] + bytes([GOOD[60] ^ 4]) + GOOD[61:], "E1003"),
    "another shape": (seal(OTHER, program(OTHER, 5, ticks=4)), "E1004"),
    "no such instruction": (seal(SHAPE, np.array([word(Op.TICK, 1), 0xF0000000], np.uint32)), "E1005"),
    "an axon beyond the last": (seal(SHAPE, np.array([word(Op.TICK, 1), word(Op.SPIKE, 16)], np.uint32)), "E1005"),
}  # fmt: skip


def question() -> Words:
    """Read all memories and registers (clocks aside)."""
    writer = Writer(SHAPE)
    read_back(SHAPE, writer)
    return writer.body()


@pytest.mark.parametrize("engine", ["functional", pytest.param("rtl", marks=pytest.mark.slow)])
def test_a_refused_file_leaves_no_trace_in_a_chip(engine: str, request: pytest.FixtureRequest) -> None:
    if engine == "rtl":
        request.getfixturevalue("verilator")
    chip: Any = Chip(SHAPE) if engine == "functional" else RtlChip(SHAPE, level="-O0")
    chip.load(GOOD)
    before = canonical(SHAPE, chip.run(question()))
    assert any(any(raw) for _, _, raw in before)
    for name, (data, code) in BAD.items():
        with pytest.raises(NmcError) as caught:
            chip.load(data, name)
        assert {item.code for item in caught.value.diagnostics} == {code}, name
        assert canonical(SHAPE, chip.run(question())) == before, name


@pytest.mark.slow
@pytest.mark.usefixtures("verilator")
def test_a_refused_frame_or_file_leaves_no_trace_behind_the_serial_line() -> None:
    chip = RtlSerial(SHAPE, level="-O0")
    ask = b"".join(uart.frames(SHAPE, seal(SHAPE, question())))

    def shown() -> list[tuple[int, int, tuple[int, ...]]]:
        return canonical(SHAPE, uart.parse(chip.send(ask)).words)

    for item in uart.frames(SHAPE, GOOD):
        chip.send(item)
    before = shown()
    for name, (data, code) in BAD.items():  # the host sends nothing of such a file
        with pytest.raises(NmcError) as caught:
            uart.frames(SHAPE, data)
        assert {item.code for item in caught.value.diagnostics} == {code}, name
    frame = uart.frames(SHAPE, GOOD)[0]
    damaged = bytearray(frame)
    damaged[70] ^= 1
    for sent in (bytes(damaged), frame[:-9], frame[:5]):  # on the way
        assert uart.parse(chip.send(sent)).acks[0] == uart.NAK
        assert shown() == before
    # a whole program for another shape, sent all the same: frames are right, the core takes none of their words
    for item in uart.frames(OTHER, BAD["another shape"][0]):
        chip.send(item)
    after = shown()
    told = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert len(told) == 1, "the register of errors, and nothing else"
    (_, value, raw) = told[0][1]
    assert Register(value >> 24) == Register.ERRORS and raw[0] & Error.HEADER and raw[0] & Error.LOCKED


def test_frames_of_a_length_that_was_cut_in_flight_are_not_executed_by_the_model() -> None:
    body = program(SHAPE, 3, ticks=4)
    long = np.concatenate([header(SHAPE, len(body) + 1), body])
    with pytest.raises(NmcError):
        Chip(SHAPE).load(long.astype("<u4").tobytes())


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("rate", [100.0, 5_000.0, 50_000.0, 1e7])
def test_a_rate_is_reached_on_a_device_or_it_is_told_what_lacks(name: str, rate: float) -> None:
    legal = legalised(random_net(11))
    chip = device(name)
    try:
        mapped = Fit(device=name, target_rate=rate).run(legal)
    except DoesNotFit as error:
        (told,) = error.diagnostics
        assert told.code == "E0949" and told.hint and name in told.message
        assert f"of {rate:,.0f} samples a second" in told.message or " of " in told.message
        assert rate > 100 or chip.family == "ice40", "what is slow fits"
        return
    assert rate < 1e7
    assert needs(shape_of(mapped), chip.family).beyond(chip) == []
    assert chip.hertz / sample_cycles(mapped) >= rate


def test_a_shape_beyond_the_engines_is_refused_by_the_compiler_and_by_the_loader() -> None:
    found = compile_legal(legalised(random_net(2)))
    shape = Shape(cores=64, neurons=4096, axons=4096)
    host = {**json.loads(found.files[HOST]), "shape": shape.to_json()}
    files = {**found.files, HOST: json.dumps(host).encode(), PROGRAM: seal(shape, np.zeros(0, np.uint32))}
    with pytest.raises(NmcError) as caught:
        from_files(files)
    assert {item.code for item in caught.value.diagnostics} == {"E0947"}
