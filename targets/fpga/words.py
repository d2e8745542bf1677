"""The word stream: one file of little-endian 32-bit words configures a core and drives it.

A file is ``magic, hash, count, <count words>, crc``: `MAGIC` (with the version in its low byte), the hash of the shape,
the number of words between header and checksum, and the CRC32 (zlib's) of all bytes before it. `read` refuses a file
of another shape, with a wrong checksum or length, or with words that mean nothing, before any of it is executed. The
RTL takes the first three words too and stays deaf to everything but REG_READ until it has seen its own hash.

Words from the host: opcode in bits 31..28::

    0 NOP
    1 SEL       core                           bits 7..0     core of MEM, PROBE and per-core registers
    2 MEM_ADDR  space 27..24, row 23..0                      space as in shape.SPACES
    3 MEM_DATA  words 23..0                                  that many raw words follow: whole rows, rows count up
    4 MEM_READ  rows 23..0                                   answers DATA
    5 REG       register 27..24, value 23..0                 see `Register`
    6 REG_READ  register 27..24                              answers VALUE
    7 CLR       (bit 0: counters and errors too)             state to its beginning, events in flight away, tick 0
    8 SPIKE     payload 27..20 (signed), core 19..14, axon 13..0    an event of the next tick
    9 TICK      n 23..0                                      n ticks; each answers DONE if register REPORT has bit 0
    A PROBE     first 23..12, last 11..0                     groups of the core whose `after` is sent each tick;
                                                             first > last: none
    B RUN       n 23..0                                      at most n ticks, ends after one with no spike and nothing
                                                             in flight once register QUIET_FROM is reached
    C MAGIC     the header: hash and count follow
    D CRC       the checksum follows (checked by loaders and shells)

Words to the host::

    8 SPIKE     negative 27, core 19..14, neuron 13..0
    9 DONE      tick 23..0 (ticks done since CLR)
    4 DATA      space 27..24, rows 23..0, then the raw words of that many rows
    6 VALUE     register 27..24, then one raw word
    A PROBE     core 27..20, group 19..0, then `lanes` raw words (signed membranes)

SPIKE and PROBE words of a tick come before its DONE, in any order: `canonical` sorts them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.targets.fpga.packing import pack
from nmc.targets.fpga.shape import SPACES, Shape

Array = NDArray[Any]
Words = NDArray[np.uint32]

VERSION = 1
MAGIC = 0xC0F1A500 | VERSION
HEADER_WORDS = 3
#: Files larger than this are refused unread (256 MB of words).
MAX_WORDS = 1 << 26


class Op(IntEnum):
    """Opcodes from the host."""

    NOP, SEL, MEM_ADDR, MEM_DATA, MEM_READ, REG, REG_READ, CLR = range(8)
    SPIKE, TICK, PROBE, RUN, MAGIC, CRC = range(8, 14)


class Answer(IntEnum):
    """Tags of words to the host."""

    DATA, VALUE, SPIKE, DONE, PROBE = 4, 6, 8, 9, 10


class Register(IntEnum):
    """Registers; those from TICKS on are read only. Counters wrap at 32 bits.

    REPORT: bit 0: DONE after each tick (set at power-on). QUIET_FROM: RUN does not end before that many ticks. GROUPS:
    groups of neurons that ticks walk (all at power-on). COST, REACH: learning (`nmc.targets.fpga.learning`). EVENTS:
    events that cores took; WALKS: weight rows they walked (`lanes` synapses each); SPIKES: spikes of neurons; DROPPED:
    events for which the wheel had no room.
    """

    REPORT, QUIET_FROM, GROUPS, COST, REACH, TICKS, HASH, ERRORS, CYCLES, EVENTS, WALKS, SPIKES, DROPPED = (
        range(13)
    )


class Error(IntEnum):
    """Bits of register ERRORS: sticky until CLR with bit 0."""

    OVERFLOW, OPCODE, HEADER, LOCKED, ADDRESS, SATURATED = (1 << bit for bit in range(6))


def word(op: Op, value: int = 0) -> int:
    """One word of the host."""
    return int(op) << 28 | value & 0x0FFFFFFF


class Writer:
    """Collects words.

    Parameters
    ----------
    shape : Shape
        What the program is for.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._parts: list[Words] = []

    def put(self, *values: int) -> None:
        """Append raw words."""
        self._parts.append(np.array(values, np.uint32))

    def extend(self, values: Words) -> None:
        """Append an array of words."""
        self._parts.append(np.ascontiguousarray(values, np.uint32).reshape(-1))

    def memory(self, name: str, values: Mapping[str, Array], *, core: int = 0, row: int = 0) -> None:
        """Write rows of a memory from `row` on; `values` as `packing.pack` takes them.

        Raises
        ------
        NmcError
            E1002 for values or rows that do not fit.
        """
        memory = self.shape.memories[name]
        rows = pack(memory, values)
        if row + len(rows) > memory.rows:
            text = f"{name}: rows {row:,}..{row + len(rows) - 1:,} of {memory.rows:,}"
            raise NmcError(Diagnostic("E1002", text))
        if name == "weights" and self.shape.weights == "ternary" and int(np.min(values["w"], initial=0)) < -1:
            raise NmcError(Diagnostic("E1002", "weights.w has -2, ternary weights are -1, 0 and 1"))
        if len(rows):
            self.put(
                word(Op.SEL, core), word(Op.MEM_ADDR, memory.space << 24 | row), word(Op.MEM_DATA, rows.size)
            )
            self.extend(rows)

    def register(self, index: Register, value: int) -> None:
        """Set a register."""
        self.put(word(Op.REG, int(index) << 24 | value & 0xFFFFFF))

    def spikes(self, cores: Array, axons: Array, payloads: Array) -> None:
        """Events of the next tick: arrays of the same length."""
        fields = (
            (payloads.astype(np.int64) & 0xFF) << 20 | cores.astype(np.int64) << 14 | axons.astype(np.int64)
        )
        self.extend((fields | int(Op.SPIKE) << 28).astype(np.uint32))

    def body(self) -> Words:
        """All words so far, without header and checksum."""
        return np.concatenate([*self._parts, np.zeros(0, np.uint32)])

    def file(self) -> bytes:
        """The stream with header and checksum."""
        return seal(self.shape, self.body())


def header(shape: Shape, count: int) -> Words:
    """The three words a core wants to see first."""
    return np.array([MAGIC, shape.hash, count], np.uint32)


def seal(shape: Shape, body: Words) -> bytes:
    """Put header and checksum around words."""
    data = np.concatenate([header(shape, len(body)), body]).astype("<u4").tobytes()
    return data + zlib.crc32(data).to_bytes(4, "little")


def read(shape: Shape, data: bytes, where: str = "") -> Words:
    """Check a file and give its body.

    Raises
    ------
    NmcError
        E1003 for what is no word stream (magic, version, length, checksum), E1004 for one of another shape, E1005 for
        words that mean nothing.
    """

    def refuse(code: str, text: str, hint: str = "") -> NmcError:
        return NmcError(Diagnostic(code, text, where=where, hint=hint))

    if len(data) % 4 or not 4 * (HEADER_WORDS + 1) <= len(data) <= 4 * MAX_WORDS:
        raise refuse("E1003", f"{len(data):,} bytes are no word stream")
    words = np.frombuffer(data, "<u4").astype(np.uint32)
    if int(words[0]) != MAGIC:
        kind = "version" if int(words[0]) >> 8 == MAGIC >> 8 else "magic"
        raise refuse("E1003", f"wrong {kind}: 0x{int(words[0]):08x}, not 0x{MAGIC:08x}")
    if int(words[2]) != len(words) - HEADER_WORDS - 1:
        raise refuse(
            "E1003", f"header promises {int(words[2]):,} words, there are {len(words) - HEADER_WORDS - 1:,}"
        )
    if zlib.crc32(data[:-4]) != int(words[-1]):
        raise refuse("E1003", f"wrong checksum: 0x{int(words[-1]):08x}, not 0x{zlib.crc32(data[:-4]):08x}")
    if int(words[1]) != shape.hash:
        hint = "compile for the shape of this core, or load its bitstream"
        raise refuse("E1004", f"made for shape 0x{int(words[1]):08x}, this is 0x{shape.hash:08x}", hint)
    body = words[HEADER_WORDS:-1]
    problem = next((text for text in (item.problem(shape) for item in decode(body)) if text), "")
    if problem:
        raise refuse("E1005", problem)
    return body


@dataclass(frozen=True, eq=False)
class Item:
    """One instruction: opcode, its 28-bit value, position in the body, raw words that follow it.

    SPIKE words that follow one another are one item; `data` are all of them.
    """

    op: int
    value: int
    at: int
    data: Words

    @property
    def high(self) -> int:
        """Bits 27..24: space or register."""
        return self.value >> 24

    @property
    def low(self) -> int:
        """Bits 23..0."""
        return self.value & 0xFFFFFF

    def problem(self, shape: Shape) -> str:
        """Why the instruction means nothing for a shape; empty if it is fine."""
        at = f"word {self.at:,}"
        if self.op >= len(Op) or self.op in (Op.MAGIC, Op.CRC):
            return f"{at}: no instruction has opcode {self.op}"
        if self.op == Op.MEM_DATA and len(self.data) != self.low:
            return f"{at}: {self.low:,} words announced, {len(self.data):,} follow"
        if self.op == Op.MEM_ADDR and not any(item.space == self.high for item in shape.memories.values()):
            return f"{at}: this shape has no memory {self.high}"
        if self.op == Op.SPIKE:
            core, axon = int((self.data >> 14 & 63).max()), int((self.data & 0x3FFF).max())
            if core >= shape.cores or axon >= shape.axons:
                return f"{at}: events up to core {core}, axon {axon} of {shape.cores} x {shape.axons}"
            loads, half = (self.data >> 20 & 255 ^ 128).astype(np.int64) - 128, 1 << (shape.payload_bits - 1)
            if loads.min() < -half or loads.max() >= half:
                return f"{at}: payloads {loads.min()}..{loads.max()}, this shape takes {-half}..{half - 1}"
        if self.op == Op.SEL and self.value >= shape.cores:
            return f"{at}: core {self.value} of {shape.cores}"
        if self.op in (Op.REG, Op.REG_READ) and self.high >= len(Register):
            return f"{at}: no register {self.high}"
        return ""

    def __str__(self) -> str:
        name = Op(self.op).name if self.op < len(Op) else f"?{self.op}"
        match self.op:
            case Op.MEM_ADDR:
                space = next((key for key, number in SPACES.items() if number == self.high), str(self.high))
                return f"{name} {space} row {self.low}"
            case Op.MEM_DATA:
                return f"{name} {' '.join(f'{int(item):08x}' for item in self.data)}"
            case Op.REG | Op.REG_READ:
                known = Register(self.high).name if self.high < len(Register) else str(self.high)
                return f"{name} {known}" + (f" {self.low}" if self.op == Op.REG else "")
            case Op.SPIKE:
                return "\n".join(
                    f"{name} core {one >> 14 & 63} axon {one & 0x3FFF} payload {((one >> 20 & 255) ^ 128) - 128}"
                    for one in map(int, self.data)
                )
            case Op.PROBE:
                return f"{name} {self.value >> 12 & 0xFFF}..{self.value & 0xFFF}"
            case _:
                return f"{name} {self.value}"


def decode(body: Words) -> Iterator[Item]:
    """The instructions of a body, one after the other."""
    at, end = 0, len(body)
    others = np.flatnonzero(body >> 28 != Op.SPIKE)
    while at < end:
        first = int(body[at])
        op, value = first >> 28, first & 0x0FFFFFFF
        if op == Op.SPIKE:
            place = int(np.searchsorted(others, at))
            stop = int(others[place]) if place < len(others) else end
            yield Item(op, value, at, body[at:stop])
        else:
            stop = at + 1 + (value & 0xFFFFFF if op == Op.MEM_DATA else 0)
            yield Item(op, value, at, body[at + 1 : stop])
        at = min(stop, end)


def disassemble(body: Words) -> str:
    """Text of a body, one instruction a line."""
    return "\n".join(str(item) for item in decode(body))


def answers(shape: Shape, words: Words) -> Iterator[tuple[int, int, Words]]:
    """Split words to the host into (tag, value, raw words)."""
    at, row_words = 0, {item.space: item.words for item in shape.memories.values()}
    while at < len(words):
        first = int(words[at])
        tag, value = first >> 28, first & 0x0FFFFFFF
        raw = {Answer.VALUE: 1, Answer.PROBE: shape.lanes}.get(Answer(tag), 0)
        if tag == Answer.DATA:
            raw = (value & 0xFFFFFF) * row_words[value >> 24]
        yield tag, value, words[at + 1 : at + 1 + raw]
        at += 1 + raw


def canonical(shape: Shape, words: Words) -> list[tuple[int, int, tuple[int, ...]]]:
    """Answers with what happens within one tick sorted, so that streams can be compared."""
    found: list[tuple[int, int, tuple[int, ...]]] = []
    tick: list[tuple[int, int, tuple[int, ...]]] = []
    for tag, value, raw in answers(shape, words):
        item = (tag, value, tuple(int(value) for value in raw))
        if tag in (Answer.SPIKE, Answer.PROBE):
            tick.append(item)
        else:
            found += [*sorted(tick), item]
            tick = []
    return found + sorted(tick)
