"""The word stream: what is refused, and that nothing of a refused file is executed."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_programs import program
from nmc.ir.diagnostics import NmcError
from nmc.targets.fpga.model import Chip
from nmc.targets.fpga.packing import pack, span, unpack
from nmc.targets.fpga.shape import Memory, Shape
from nmc.targets.fpga.uart import frame, frames, parse
from nmc.targets.fpga.words import Op, Register, Writer, decode, disassemble, read, seal, word

SHAPE = Shape(neurons=16, axons=16, lanes=4, vb=16, queue=64, targets=32)
BODY = program(SHAPE, 3, ticks=3)
FILE = seal(SHAPE, BODY)


def code(call: object) -> str:
    """The code of the error that a call raises."""
    with pytest.raises(NmcError) as caught:
        assert callable(call)
        call()
    return caught.value.diagnostics[0].code


def test_a_file_gives_its_body_back() -> None:
    assert np.array_equal(read(SHAPE, FILE), BODY)


@pytest.mark.parametrize("cut", [0, 4, 15, 16, len(FILE) - 4, len(FILE) - 1])
def test_a_truncated_file_is_refused(cut: int) -> None:
    assert code(lambda: read(SHAPE, FILE[:cut])) == "E1003"


@given(st.integers(0, len(FILE) * 8 - 1))
def test_every_flipped_bit_is_noticed(bit: int) -> None:
    damaged = bytearray(FILE)
    damaged[bit // 8] ^= 1 << bit % 8
    assert code(lambda: read(SHAPE, bytes(damaged))) == "E1003"


def test_a_file_for_another_shape_is_refused() -> None:
    other = Shape(neurons=16, axons=16, lanes=2, vb=16, queue=64, targets=32)
    assert other.hash != SHAPE.hash
    assert code(lambda: read(other, FILE)) == "E1004"


def test_a_refused_file_leaves_the_chip_untouched() -> None:
    chip, fresh = Chip(SHAPE), Chip(SHAPE)
    for bad in (
        FILE[:-4],
        FILE[:40] + b"\0\0\0\0" + FILE[44:],
        seal(SHAPE, np.array([0xF0000000], np.uint32)),
    ):
        with pytest.raises(NmcError):
            chip.load(bad)
    question = np.concatenate([BODY[:0], program(SHAPE, 4, ticks=1)])
    assert np.array_equal(chip.run(question), fresh.run(question))


@pytest.mark.parametrize(
    "words",
    [
        [word(Op.SEL, 1)], [word(Op.MEM_ADDR, 15 << 24)], [word(Op.MEM_DATA, 5), 1], [word(Op.REG, 15 << 24)],
        [word(Op.SPIKE, 16)], [word(Op.SPIKE, 1 << 14)], [word(Op.SPIKE, 100 << 20)], [word(Op.MAGIC)], [15 << 28],
    ],
)  # fmt: skip
def test_words_without_meaning_are_refused(words: list[int]) -> None:
    assert code(lambda: read(SHAPE, seal(SHAPE, np.array(words, np.uint32)))) == "E1005"


@given(st.lists(st.integers(0, (1 << 32) - 1), max_size=20))
def test_arbitrary_words_are_read_or_refused(words: list[int]) -> None:
    data = seal(SHAPE, np.array(words, np.uint32))
    try:
        body = read(SHAPE, data)
    except NmcError as error:
        assert error.diagnostics[0].code == "E1005"
    else:
        assert disassemble(body).count("\n") + 1 >= len(list(decode(body)))


def test_the_disassembler_names_everything() -> None:
    writer = Writer(SHAPE)
    writer.memory("targets", {"axon": np.array([3]), "core": np.array([0]), "delay": np.array([0])}, row=2)
    writer.register(Register.QUIET_FROM, 7)
    writer.spikes(np.array([0, 0]), np.array([5, 6]), np.array([1, -1]))
    writer.put(word(Op.TICK, 9), word(Op.PROBE, 1 << 12 | 2))
    want = """SEL 0
MEM_ADDR targets row 2
MEM_DATA 00000003
REG QUIET_FROM 7
SPIKE core 0 axon 5 payload 1
SPIKE core 0 axon 6 payload -1
TICK 9
PROBE 1..2"""
    assert disassemble(writer.body()) == want


@pytest.mark.parametrize(
    "memory", list(Shape(cuba=True, bias_bits=9, theta_bits=11).memories.values()), ids=lambda m: m.name
)
def test_rows_keep_their_fields(memory: Memory) -> None:
    rng = np.random.default_rng(1)
    values = {
        item.name: rng.integers(*span(item), size=(7, item.count), endpoint=True) for item in memory.fields
    }
    words = pack(memory, values)
    assert words.shape == (7, memory.words)
    back = unpack(memory, words)
    assert all(np.array_equal(back[name].reshape(7, -1), want) for name, want in values.items())


def test_values_beyond_their_field_are_refused() -> None:
    columns = {"axon": np.array([16]), "core": np.array([0]), "delay": np.array([0])}
    assert code(lambda: Writer(SHAPE).memory("targets", columns)) == "E1002"
    columns["axon"][0] = 1
    assert code(lambda: Writer(SHAPE).memory("targets", columns, row=32)) == "E1002"
    ternary = Shape(weights="ternary")
    assert code(lambda: Writer(ternary).memory("weights", {"w": np.array([[0, 1, -2, 1]])})) == "E1002"


def test_all_problems_of_a_shape_are_told_at_once() -> None:
    with pytest.raises(NmcError) as caught:
        Shape(lanes=3, vb=99, queue=5, neurons=0)
    assert len(caught.value.diagnostics) == 4
    assert code(lambda: Shape.from_json({"lanes": "4", "colour": 1})) == "E1001"
    assert code(lambda: Shape.from_json([1])) == "E1001"
    assert Shape.from_json(SHAPE.to_json()) == SHAPE


def test_frames_carry_the_file_and_its_checksum() -> None:
    sent = b"".join(frames(SHAPE, FILE))
    first = frames(SHAPE, FILE)[0]
    assert first[0] == 0xA5 and zlib.crc32(first[1:-4]).to_bytes(4, "little") == first[-4:]
    assert len(sent) == 4 * (len(BODY) + 3) + 6 * -(-(len(BODY) + 3) // 256)
    answer = parse(frame(BODY[:5], 0x5A) + b"\x06\x15" + frame(BODY[:2], 0x5A)[:-1])
    assert answer.acks == (6, 0x15) and np.array_equal(answer.words, BODY[:5]) and answer.damaged == 1
