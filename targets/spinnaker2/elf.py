"""ELF files of PEs: ELF32, little endian, ARM EABI5 hard float; one section and one symbol a region.

Only what these files need is written and read. The reader takes nothing on trust: every offset is checked before
use, the program text must be the packaged one, the data specification must say what the sections say.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2.layout import PeImage

_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_SECTION = struct.Struct("<IIIIIIIIII")
_SEGMENT = struct.Struct("<IIIIIIII")
_SYMBOL = struct.Struct("<IIIBBH")
_NOTE = struct.Struct("<III4sII32s")
_IDENT = b"\x7fELF\x01\x01\x01" + bytes(9)
_EM_ARM, _FLAGS = 40, 0x05000400  # EABI version 5, hard float (ELF for the ARM architecture, 5.2)
_PROGBITS, _SYMTAB, _STRTAB, _NOTE_TYPE, _NOBITS = 1, 2, 3, 7, 8
_WRITE, _ALLOC, _EXEC = 1, 2, 4
_MAX_SECTIONS = 64
_LOCALS = 3  # the empty symbol and two marks


@dataclass(frozen=True)
class Kernel:
    """The packaged program.

    Parameters
    ----------
    text : bytes
        Vectors and code, from address 0, whole words.
    sha256 : bytes
        Of the text.
    """

    text: bytes
    sha256: bytes


@dataclass(frozen=True)
class Section:
    """A section of a file: name, type, flags, address, bytes (empty where there are none in the file), size."""

    name: str
    type: int
    flags: int
    address: int
    data: bytes
    size: int


@cache
def kernel(user: bool = False) -> Kernel:
    """Read a packaged program: ``firmware/nmc_s2.elf``, or ``nmc_s2_user.elf`` for models of the network's user."""
    name = "nmc_s2_user.elf" if user else "nmc_s2.elf"
    return kernel_of(Path(__file__).with_name("firmware").joinpath(name).read_bytes())


def kernel_of(data: bytes) -> Kernel:
    """Take the program out of an ELF as a linker makes it.

    Raises
    ------
    NmcError
        E0911 when it is no ELF or has no text at address 0.
    """
    text = {section.name: section for section in read_sections(data)}.get(".text")
    if text is None or text.address or not 8 <= text.size <= layout.CODE_BYTES or text.size % 4:
        raise fail("E0911", "the program has no text at address 0")
    return Kernel(text.data, hashlib.sha256(text.data).digest())


def write_pe(image: PeImage) -> bytes:
    """Make the ELF of a PE; equal images give equal bytes."""
    program = kernel(image.user)
    spec = image.dspec().tobytes()
    parts = [
        Section(".text", _PROGBITS, _ALLOC | _EXEC, 0, program.text, len(program.text)),
        Section(".dspec", _PROGBITS, _ALLOC, layout.DSPEC_BASE, spec, len(spec)),
    ]
    for name, address in image.pointers().items():
        words = image.regions[name]
        flags = _ALLOC | (0 if name in layout.CONSTANT else _WRITE)
        kept = b"" if name in layout.ZEROED else words.astype("<u4").tobytes()
        kind = _NOBITS if name in layout.ZEROED else _PROGBITS
        parts.append(Section(f".{name}", kind, flags, address, kept, 4 * len(words)))
    stack = layout.SRAM_BYTES - layout.STACK_BYTES
    parts.append(Section(".stack", _NOBITS, _ALLOC | _WRITE, stack, b"", layout.STACK_BYTES))
    note = _NOTE.pack(4, 40, 1, b"nmc\0", image.chip, image.pe, program.sha256)
    parts.append(Section(".note.nmc", _NOTE_TYPE, 0, 0, note, len(note)))
    return _file(parts, int.from_bytes(program.text[4:8], "little"))


def _file(parts: list[Section], entry: int) -> bytes:
    """Lay out header, segments, sections and symbols."""
    loaded = [s for s in parts if s.flags & _ALLOC and s.type == _PROGBITS and s.size]
    symbols, names = _symbols(parts, entry)
    parts = [*parts, Section(".symtab", _SYMTAB, 0, 0, symbols, len(symbols)),
             Section(".strtab", _STRTAB, 0, 0, names, len(names))]  # fmt: skip
    titles = b"\0" + b"".join(s.name.encode() + b"\0" for s in parts) + b".shstrtab\0"
    parts = [*parts, Section(".shstrtab", _STRTAB, 0, 0, titles, len(titles))]
    body, offsets = bytearray(), []
    at = _HEADER.size + _SEGMENT.size * len(loaded)
    for section in parts:
        offsets.append(at + len(body))
        body += section.data + bytes(-len(section.data) % 4)
    header = _HEADER.pack(_IDENT, 2, _EM_ARM, 1, entry, _HEADER.size, at + len(body), _FLAGS, _HEADER.size,
                          _SEGMENT.size, len(loaded), _SECTION.size, len(parts) + 1, len(parts))  # fmt: skip
    segments = b"".join(
        _SEGMENT.pack(
            1, offsets[parts.index(s)], s.address, s.address, s.size, s.size, 5 if s.flags & _EXEC else 6, 4
        )
        for s in loaded
    )
    table = bytearray(_SECTION.size)
    name_at = 1
    for section, offset in zip(parts, offsets, strict=True):
        link, info, size = (len(parts) - 1, _LOCALS, _SYMBOL.size) if section.type == _SYMTAB else (0, 0, 0)
        table += _SECTION.pack(name_at, section.type, section.flags, section.address, offset, section.size, link, info,
                               4, size)  # fmt: skip
        name_at += len(section.name) + 1
    return header + segments + bytes(body) + bytes(table)


def _symbols(parts: list[Section], entry: int) -> tuple[bytes, bytes]:
    """Symbols for the program's entry, the stack and each region; and their names.

    The first two are local marks of ARM's ABI: data from 0 on (the vectors), Thumb code from 8 on.
    """
    rows = [("$d", 0, 0, 0, 1), ("$t", 8, 0, 0, 1), ("reset_handler", entry, 0, 0x12, 1)]
    for number, section in enumerate(parts, 1):
        if section.flags & _ALLOC and section.name != ".text":
            rows.append((section.name[1:], section.address, section.size, 0x11, number))
    table, names = bytearray(_SYMBOL.size), bytearray(b"\0")
    for name, value, size, info, number in rows:
        table += _SYMBOL.pack(len(names), value, size, info, 0, number)
        names += name.encode() + b"\0"
    return bytes(table), bytes(names)


def read_sections(data: bytes) -> list[Section]:
    """All sections of an ELF32 file for ARM, in file order.

    Raises
    ------
    NmcError
        E0911 for anything else, or a file that points outside itself.
    """
    if len(data) < _HEADER.size or data[:7] != _IDENT[:7]:
        raise fail("E0911", "not an ELF32 file")
    head = _HEADER.unpack_from(data)
    machine, table, size, count, names = head[2], head[6], head[11], head[12], head[13]
    if machine != _EM_ARM or size != _SECTION.size or not 0 < count <= _MAX_SECTIONS or names >= count:
        raise fail("E0911", f"not an ARM file of at most {_MAX_SECTIONS} sections")
    if table + count * size > len(data):
        raise fail("E0911", "the section table reaches past the end of the file")
    rows = [_SECTION.unpack_from(data, table + k * size) for k in range(count)]
    titles = _content(data, rows[names])
    found = []
    for row in rows:
        end = titles.find(b"\0", row[0])
        if row[0] >= len(titles) or end < 0:
            raise fail("E0911", "a section has no name")
        title = titles[row[0] : end].decode("ascii", "replace")
        found.append(Section(title, row[1], row[2], row[3], _content(data, row), row[5]))
    return found


def _content(data: bytes, row: tuple[int, ...]) -> bytes:
    kind, offset, size = row[1], row[4], row[5]
    if kind in (0, _NOBITS):
        return b""
    if offset + size > len(data):
        raise fail("E0911", "a section reaches past the end of the file")
    return data[offset : offset + size]


def read_pe(data: bytes) -> PeImage:
    """Read the ELF of a PE.

    Raises
    ------
    NmcError
        E0911 for a file that is not one of ours, E0912 for one whose parts contradict each other.
    """
    sections = {section.name: section for section in read_sections(data)}
    wanted = [".text", ".dspec", ".note.nmc", *(f".{name}" for name in layout.REGIONS)]
    missing = [name for name in wanted if name not in sections]
    if missing:
        raise fail("E0911", f"sections are missing: {', '.join(missing)}")
    chip, pe = _place(sections[".note.nmc"].data)
    image = PeImage(chip, pe, {name: _words(sections[f".{name}"], name) for name in layout.REGIONS})
    if sections[".text"].data != kernel(image.user).text:
        hint = "compile the network again with this version"
        raise fail("E0911", "the program text is not the firmware of this nmc", hint=hint)
    if (
        image.used_bytes() > layout.SRAM_BYTES
        or image.dspec().astype("<u4").tobytes() != sections[".dspec"].data
    ):
        raise fail("E0912", "the data specification is not that of the sections", where=f"PE {chip}:{pe}")
    return image


def _place(note: bytes) -> tuple[int, int]:
    if len(note) != _NOTE.size:
        raise fail("E0911", f"a note of {len(note)} bytes")
    chip, pe = _NOTE.unpack(note)[4:6]
    return chip, pe


def _words(section: Section, name: str) -> layout.Words:
    if section.size % 4 or section.size > layout.SRAM_BYTES:
        raise fail("E0912", f"the section {section.name} has {section.size} bytes")
    if (section.type == _NOBITS) != (name in layout.ZEROED):
        raise fail("E0912", f"the section {section.name} has the type {section.type}")
    if section.type == _NOBITS:
        return np.zeros(section.size // 4, np.uint32)
    return np.frombuffer(section.data, "<u4").astype(np.uint32)


def section_sizes(data: bytes) -> Mapping[str, int]:
    """Bytes of each section that takes SRAM."""
    return {s.name: s.size for s in read_sections(data) if s.flags & _ALLOC}
