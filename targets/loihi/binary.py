"""The `.nmcl` container: a Loihi image as bytes, little endian, one byte string per image.

Layout: magic ``NMCL``, version, number of sections, CRC32 of the section table; the section table (kind,
zero, core, offset, length, CRC32 of the payload); the payloads back to back in table order. Sections are the
header, then for each core in ascending order its non-empty memories in the order of `layout.SECTIONS`
(`core_cfg` always), then inputs, outputs and populations. Words of 32-bit memories take 4 bytes, others 8.
The format is ours: Intel published none. Files are not trusted: every size is checked against the bytes that
are there before anything is allocated, and bytes that `to_bytes` would not have written are refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from math import isfinite, prod
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from nmc.ir.diagnostics import NmcError, fail
from nmc.targets.loihi.layout import (
    COMPATS,
    CORES_PER_CHIP,
    MAX_CHIPS,
    SECTIONS,
    TABLES,
    CoreImage,
    Header,
    InputMap,
    Ints,
    LoihiImage,
    OutputMap,
    PopMap,
    Words,
)

MAGIC: Final = b"NMCL"
VERSION: Final = 1
_PRELUDE = struct.Struct("<4sIII")
_ENTRY = struct.Struct("<HHIQQI")
_HEADER = struct.Struct("<BIIQ32s")
_INPUT = struct.Struct("<BdBBQI")
_OUTPUT = struct.Struct("<BId")
_U32 = 1 << 32
T = TypeVar("T")
_MAX_NAME = 1 << 10
_MAX_DIMS = 8
_MAX_ELEMENTS = 1 << 30
_KIND_HEADER, _KIND_CORE, _KIND_INPUTS, _KIND_OUTPUTS, _KIND_POPS = 0, 1, 100, 101, 102
_INPUT_KINDS: tuple[Literal["bias", "spikes"], ...] = ("bias", "spikes")
_ENCODERS = ("bias", "raster", "rate", "pulse", "poisson", "count")
_OUTPUT_KINDS: tuple[Literal["v", "count", "spikes"], ...] = ("v", "count", "spikes")


def to_bytes(image: LoihiImage) -> bytes:
    """Write an image; equal images give equal bytes.

    Raises
    ------
    NmcError
        E0504 for a header, E0505 for cores, E0506 for a host table that the format cannot hold.
    """
    sections = [(_KIND_HEADER, 0, _write_header(image.header))]
    last = -1
    for core in image.cores:
        if not last < core.core < image.header.n_chips * CORES_PER_CHIP:
            raise fail(
                "E0505", f"core {core.core} is out of order or not on the {image.header.n_chips} chips"
            )
        last = core.core
        for number, name in enumerate(SECTIONS):
            words = core.tables[name]
            if words.size or name == "core_cfg":
                sections.append((_KIND_CORE + number, core.core, words.astype(_word_type(name)).tobytes()))
    sections.append((_KIND_INPUTS, 0, _write_all([_write_input(m) for m in image.inputs])))
    sections.append((_KIND_OUTPUTS, 0, _write_all([_write_output(m) for m in image.outputs])))
    sections.append((_KIND_POPS, 0, _write_all([_write_pop(m) for m in image.pops])))
    table, offset = bytearray(), _PRELUDE.size + _ENTRY.size * len(sections)
    for kind, core_number, payload in sections:
        table += _ENTRY.pack(kind, 0, core_number, offset, len(payload), zlib.crc32(payload))
        offset += len(payload)
    prelude = _PRELUDE.pack(MAGIC, VERSION, len(sections), zlib.crc32(table))
    return b"".join([prelude, bytes(table), *(payload for _, _, payload in sections)])


def from_bytes(data: bytes) -> LoihiImage:
    """Read an image.

    Raises
    ------
    NmcError
        E0501 not a .nmcl file of this version, E0502 cut short or too long, E0503 checksum, E0504 header,
        E0505 section table, E0506 host tables, E0511 table contents. Nothing else, whatever the bytes.
    """
    sections = _read_sections(memoryview(data))
    if not sections or sections[0][:2] != (_KIND_HEADER, 0):
        raise fail("E0505", "the first section is not the header")
    header = _read_header(sections[0][2])
    if [s[:2] for s in sections[-3:]] != [(_KIND_INPUTS, 0), (_KIND_OUTPUTS, 0), (_KIND_POPS, 0)]:
        raise fail("E0505", "the last three sections are not inputs, outputs and populations")
    cores = _read_cores(sections[1:-3], header.n_chips)
    inputs = _read_all(sections[-3][2], _read_input)
    outputs = _read_all(sections[-2][2], _read_output)
    pops = _read_all(sections[-1][2], _read_pop)
    return LoihiImage(header, cores, inputs, outputs, pops)


def _word_type(section: str) -> str:
    return "<u4" if TABLES[section].word_bits == 32 else "<u8"


def _read_sections(data: memoryview) -> list[tuple[int, int, memoryview]]:
    """Split the file into (kind, core, payload); sections follow each other without gaps."""
    if len(data) < _PRELUDE.size:
        raise fail("E0502", f"{len(data)} bytes are too few for a .nmcl file")
    magic, version, count, crc = _PRELUDE.unpack_from(data)
    if magic != MAGIC:
        raise fail("E0501", "this is not a .nmcl file (wrong magic)")
    if version != VERSION:
        raise fail("E0501", f".nmcl version {version} is not {VERSION}", hint="compile the program again")
    offset = _PRELUDE.size + count * _ENTRY.size
    if offset > len(data):
        raise fail("E0502", f"{count} sections do not fit a file of {len(data)} bytes")
    table = data[_PRELUDE.size : offset]
    if zlib.crc32(table) != crc:
        raise fail("E0503", "the checksum of the section table is wrong")
    sections: list[tuple[int, int, memoryview]] = []
    for kind, zero, core, start, length, payload_crc in _ENTRY.iter_unpack(table):
        where = f"section {len(sections)}"
        if zero or start != offset:
            raise fail("E0505", f"{where} does not start where the one before ends")
        if length > len(data) - offset:
            raise fail("E0502", f"{where} of {length} bytes reaches past the end of the file")
        payload = data[offset : offset + length]
        if zlib.crc32(payload) != payload_crc:
            raise fail("E0503", f"the checksum of {where} is wrong")
        sections.append((kind, core, payload))
        offset += length
    if offset != len(data):
        raise fail("E0502", f"{len(data) - offset} bytes follow the last section")
    return sections


def _read_cores(sections: list[tuple[int, int, memoryview]], n_chips: int) -> tuple[CoreImage, ...]:
    """Collect the memories of each core; order and presence are as `to_bytes` writes them."""
    cores: list[CoreImage] = []
    tables: dict[str, Words] = {}
    previous = (-1, -1)
    for kind, core, payload in sections:
        number = kind - _KIND_CORE
        fresh = core != previous[0]
        if not 0 <= number < len(SECTIONS) or (core, number) <= previous or (fresh and number != 0):
            raise fail("E0505", f"section kind {kind} of core {core} is unknown or out of order")
        if core >= n_chips * CORES_PER_CHIP:
            raise fail("E0505", f"core {core} is not on the {n_chips} chips")
        if fresh and previous[0] >= 0:
            cores.append(CoreImage(previous[0], tables))
        if fresh:
            tables = {}
        tables[SECTIONS[number]] = _read_words(SECTIONS[number], payload)
        previous = (core, number)
    if previous[0] >= 0:
        cores.append(CoreImage(previous[0], tables))
    return tuple(cores)


def _read_words(section: str, payload: memoryview) -> Words:
    size = TABLES[section].word_bits // 8
    count = len(payload) // size
    if len(payload) % size or count > TABLES[section].entries:
        raise fail(
            "E0511", f"{len(payload)} bytes are no {section} of at most {TABLES[section].entries} words"
        )
    words = np.frombuffer(payload, _word_type(section)).astype(np.uint64)
    if (count and not words[-1]) or (not count and section != "core_cfg"):
        raise fail("E0511", f"section {section} is stored with trailing zero words")
    return words


def _write_header(h: Header) -> bytes:
    """Write the header; its version is that of the container."""
    try:
        digest = bytes.fromhex(h.source_sha256)
    except ValueError:
        digest = b""
    good = (
        len(digest) == 32
        and h.source_sha256 == digest.hex()
        and h.version == VERSION
        and h.compat in COMPATS
        and 1 <= h.n_chips <= MAX_CHIPS
        and 0 <= h.steps < _U32
        and 0 <= h.seed < 1 << 64
    )
    if not good:
        raise fail("E0504", f"the header cannot be written: {h}")
    fixed = _HEADER.pack(COMPATS.index(h.compat), h.n_chips, h.steps, h.seed, digest)
    return fixed + _write_text(h.profile)


def _read_header(payload: memoryview) -> Header:
    reader = _Reader(payload, "E0504", "header")
    compat, n_chips, steps, seed, digest = reader.unpack(_HEADER)
    profile = reader.text()
    reader.end()
    if compat >= len(COMPATS) or not 1 <= n_chips <= MAX_CHIPS:
        raise fail("E0504", f"header with compat code {compat} and {n_chips} chips")
    return Header(n_chips, COMPATS[compat], steps, digest.hex(), seed, profile, VERSION)


class _Reader:
    """Takes values off a payload; running out is an error with the given code."""

    def __init__(self, data: memoryview, code: str, what: str) -> None:
        self._data = data
        self._at = 0
        self.code = code
        self.what = what

    def take(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            raise self.error("ends early")
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def number(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def text(self) -> str:
        size = int.from_bytes(self.take(2), "little")
        try:
            return bytes(self.take(size)).decode()
        except UnicodeDecodeError:
            raise self.error("holds a name that is not UTF-8") from None

    def shape(self) -> tuple[int, ...]:
        dims = int.from_bytes(self.take(1), "little")
        shape = tuple(self.number() for _ in range(dims)) if dims <= _MAX_DIMS else ()
        if dims > _MAX_DIMS or prod(shape) > _MAX_ELEMENTS:
            raise self.error(f"holds a shape of {dims} dimensions and {prod(shape)} elements")
        return shape

    def arrays(self, count: int) -> list[Ints]:
        size = self.number()
        return [np.frombuffer(self.take(4 * size), "<u4").astype(np.int64) for _ in range(count)]

    def end(self) -> None:
        if self._at != len(self._data):
            raise self.error(f"has {len(self._data) - self._at} bytes too many")

    def error(self, text: str) -> NmcError:
        return fail(self.code, f"the {self.what} {text}")


def _write_all(records: list[bytes]) -> bytes:
    return struct.pack("<I", len(records)) + b"".join(records)


def _read_all(payload: memoryview, read: Callable[[_Reader], T]) -> tuple[T, ...]:
    reader = _Reader(payload, "E0506", "host table section")
    count = reader.number()
    if count > len(payload):
        raise reader.error(f"claims {count} tables in {len(payload)} bytes")
    result = tuple(read(reader) for _ in range(count))
    reader.end()
    return result


def _write_text(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if len(raw) > _MAX_NAME or raw.decode() != text:
        raise fail("E0506", f"the name {text[:40]!r} is longer than {_MAX_NAME} bytes or not Unicode text")
    return struct.pack("<H", len(raw)) + raw


def _write_shape(shape: tuple[int, ...]) -> bytes:
    if len(shape) > _MAX_DIMS or any(not 0 <= n < _U32 for n in shape) or prod(shape) > _MAX_ELEMENTS:
        raise fail("E0506", f"shape {shape} is too large to store")
    return struct.pack(f"<B{len(shape)}I", len(shape), *shape)


def _write_arrays(*arrays: ArrayLike) -> bytes:
    values = [np.asarray(a) for a in arrays]
    if any(v.size and (int(v.min()) < 0 or int(v.max()) >= _U32) for v in values):
        raise fail("E0506", "a host table holds numbers outside 0..2^32-1")
    return struct.pack("<I", values[0].size) + b"".join(v.astype("<u4").tobytes() for v in values)


def _write_input(m: InputMap) -> bytes:
    if m.kind not in _INPUT_KINDS or not 0 <= m.bias_exp <= 7 or not isfinite(m.gain):
        raise fail("E0506", f"input {m.name}: kind {m.kind!r}, bias exponent {m.bias_exp}, gain {m.gain}")
    if m.encoder not in _ENCODERS or not 0 <= m.at < _U32:
        raise fail("E0506", f"input {m.name}: encoder {m.encoder!r}, step {m.at}")
    kind, encoder = _INPUT_KINDS.index(m.kind), _ENCODERS.index(m.encoder)
    fixed = _INPUT.pack(kind, m.gain, m.bias_exp, encoder, m.seed & 0xFFFFFFFFFFFFFFFF, m.at)
    arrays = _write_arrays(m.index, m.core, m.target, m.atom)
    return _write_text(m.name) + _write_text(m.source) + _write_shape(m.shape) + fixed + arrays


def _read_input(r: _Reader) -> InputMap:
    name, source, shape = r.text(), r.text(), r.shape()
    kind, gain, exponent, encoder, seed, at = r.unpack(_INPUT)
    if kind >= len(_INPUT_KINDS) or encoder >= len(_ENCODERS) or not isfinite(gain) or exponent > 7:
        raise r.error(f"has input {name!r} of kind {kind} with gain {gain} and bias exponent {exponent}")
    index, core, target, atom = r.arrays(4)
    if index.size and int(index.max()) >= prod(shape):
        raise r.error(f"has input {name!r} with index {int(index.max())} outside shape {shape}")
    return InputMap(
        name,
        _INPUT_KINDS[kind],
        shape,
        index,
        core,
        target,
        atom,
        gain,
        exponent,
        source,
        _ENCODERS[encoder],
        seed,
        at,
    )


def _write_output(m: OutputMap) -> bytes:
    if m.kind not in _OUTPUT_KINDS or not 0 <= m.first_step < _U32 or not isfinite(m.scale):
        raise fail("E0506", f"output {m.name}: kind {m.kind!r}, first step {m.first_step}, scale {m.scale}")
    fixed = _OUTPUT.pack(_OUTPUT_KINDS.index(m.kind), m.first_step, m.scale)
    return _write_text(m.name) + _write_shape(m.shape) + fixed + _write_arrays(m.core, m.cx)


def _read_output(r: _Reader) -> OutputMap:
    name, shape = r.text(), r.shape()
    kind, first, scale = r.unpack(_OUTPUT)
    if kind >= len(_OUTPUT_KINDS) or not isfinite(scale):
        raise r.error(f"has output {name!r} of kind {kind}")
    core, cx = r.arrays(2)
    return OutputMap(name, _OUTPUT_KINDS[kind], shape, core, cx, first, scale)


def _write_pop(m: PopMap) -> bytes:
    return _write_text(m.name) + _write_shape(m.shape) + _write_arrays(m.core, m.cx, m.vcx)


def _read_pop(r: _Reader) -> PopMap:
    return PopMap(r.text(), r.shape(), *r.arrays(3))
