"""An image as files, as bytes, and as a module of level ``image``: both ways without loss.

Files: ``chip.json`` (chips, steps, inputs, populations, outputs), ``router_C.bin`` for each chip, ``pe_C_P.elf`` for
each PE. A router file is its entries one after the other: key and mask (4 bytes each), route (158 bits in 20 bytes),
all little endian. Files are not trusted.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.op import Op, Span
from nmc.ir.ops.image import Header, Reg, Region
from nmc.targets.spinnaker2 import layout, machine
from nmc.targets.spinnaker2.elf import read_pe, write_pe
from nmc.targets.spinnaker2.layout import ChipImage, InputMap, OutputMap, Part, PeImage, PopMap, Route

CHIP = "chip.json"
_ROUTE = struct.Struct("<II20s")
_PE_NAME = re.compile(r"pe_(\d{1,6})_(\d{1,3})\.elf")
_ROUTER_NAME = re.compile(r"router_(\d{1,6})\.bin")
#: Regions shown field by field.
_RECORDS = {"global": layout.GLOBAL, "table": layout.ENTRY, "geometry": layout.GEOMETRY}
_MAX_GRID = 256
_MAX_STEPS = 1 << 31


def to_files(image: ChipImage) -> dict[str, bytes]:
    """Write an image; equal images give equal bytes."""
    files = {CHIP: (json.dumps(_meta(image), indent=1, sort_keys=True) + "\n").encode()}
    for chip, table in sorted(image.routers.items()):
        rows = (_ROUTE.pack(r.key, r.mask, r.route.to_bytes(20, "little")) for r in table)
        files[f"router_{chip}.bin"] = b"".join(rows)
    for pe in image.pes:
        files[f"pe_{pe.chip}_{pe.pe}.elf"] = write_pe(pe)
    return files


def from_files(files: Mapping[str, bytes]) -> ChipImage:
    """Read an image.

    Raises
    ------
    NmcError
        E0911 and E0912 for ELF files, E0913 for the others; nothing else, whatever the bytes.
    """
    if CHIP not in files:
        raise fail("E0913", f"the program holds no {CHIP}; it is not for SpiNNaker2")
    try:
        meta = json.loads(files[CHIP])
    except (ValueError, RecursionError):
        raise fail("E0913", f"{CHIP} is damaged") from None
    pes = {}
    routers = {}
    for name, data in files.items():
        if found := _PE_NAME.fullmatch(name):
            pes[int(found[1]), int(found[2])] = read_pe(data)
        elif found := _ROUTER_NAME.fullmatch(name):
            routers[int(found[1])] = _read_router(name, data)
    wrong = [place for place, pe in pes.items() if place != (pe.chip, pe.pe)]
    if wrong:
        raise fail("E0913", f"pe_{wrong[0][0]}_{wrong[0][1]}.elf is the image of another PE")
    ordered = tuple(pes[place] for place in sorted(pes))
    return _from_meta(meta, ordered, dict(sorted(routers.items())))


def _read_router(name: str, data: bytes) -> tuple[Route, ...]:
    if len(data) % _ROUTE.size or len(data) // _ROUTE.size > layout.ROUTER_ENTRIES:
        raise fail("E0913", f"{len(data)} bytes are no router file", where=name)
    rows = _ROUTE.iter_unpack(data)
    return tuple(Route(key, mask, int.from_bytes(route, "little")) for key, mask, route in rows)


def _part(part: Part) -> list[Any]:
    return [part.chip, part.pe, part.key_base, [[span.start, span.stop] for span in part.box]]


def _meta(image: ChipImage) -> dict[str, Any]:
    """Everything but PEs and routers, as JSON."""
    return {
        "grid": list(image.grid),
        "steps": image.steps,
        "attrs": dict(image.attrs),
        "inputs": [
            {"name": m.name, "shape": list(m.shape), "parts": [_part(p) for p in m.parts], "encoder": dict(m.encoder)}
            for m in image.inputs
        ],
        "pops": [
            {"name": m.name, "shape": list(m.shape), "parts": [_part(p) for p in m.parts],
             **({"states": list(m.states)} if m.states else {})}
            for m in image.pops
        ],
        "outputs": [
            {"name": m.name, "population": m.population, "kind": m.kind, "scale": m.scale, "first_step": m.first_step}
            for m in image.outputs
        ],
    }  # fmt: skip


class _Reader:
    """Takes typed values out of what JSON gave."""

    def items(self, value: Any, what: str) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise self.wrong(what)
        return list(value)

    def number(self, value: Any, low: int, high: int, what: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value < high:
            raise self.wrong(what)
        return value

    def text(self, value: Any, what: str) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= 1024:
            raise self.wrong(what)
        return value

    def names(self, value: Any) -> tuple[str, ...]:
        found = tuple(self.items(value, "names of states"))
        if not all(isinstance(name, str) and len(name) <= 1024 for name in found):
            raise self.wrong("names of states")
        return found

    def table(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(what)
        return value

    def shape(self, value: Any) -> tuple[int, ...]:
        return tuple(self.number(n, 1, 1 << 24, "a shape") for n in self.items(value, "a shape"))

    def part(self, value: Any) -> Part:
        row = self.items(value, "a part")
        if len(row) != 4:
            raise self.wrong("a part")
        spans = [self.items(span, "a box") for span in self.items(row[3], "a box")]
        if any(len(span) != 2 for span in spans) or any(self.number(a, 0, 1 << 24, "a box") >= self.number(
                b, 0, (1 << 24) + 1, "a box") for a, b in spans):  # fmt: skip
            raise self.wrong("a box")
        return Part(
            self.number(row[0], 0, _MAX_GRID**2, "a chip"), self.number(row[1], -1, layout.PES_PER_CHIP, "a PE"),
            self.number(row[2], 0, 1 << 32, "a key"), tuple(Span(a, b) for a, b in spans),
        )  # fmt: skip

    def parts(self, value: Any) -> tuple[Part, ...]:
        found = tuple(self.part(part) for part in self.items(value, "parts"))
        if not found:
            raise self.wrong("parts")
        return found

    def wrong(self, what: str) -> Exception:
        return fail("E0913", f"{CHIP}: {what} is missing or not what it should be")


def _from_meta(meta: Any, pes: tuple[PeImage, ...], routers: Mapping[int, tuple[Route, ...]]) -> ChipImage:
    r = _Reader()
    top = r.table(meta, "the table")
    grid = [r.number(n, 1, _MAX_GRID, "the grid") for n in r.items(top.get("grid"), "the grid")]
    if len(grid) != 2:
        raise r.wrong("the grid")
    inputs = []
    for item in (r.table(entry, "an input") for entry in r.items(top.get("inputs"), "inputs")):
        encoder = r.table(item.get("encoder"), "an encoder")
        inputs.append(InputMap(r.text(item.get("name"), "a name"), r.shape(item.get("shape")),
                               r.parts(item.get("parts")), encoder))  # fmt: skip
    pops = [
        PopMap(
            r.text(item.get("name"), "a name"),
            r.shape(item.get("shape")),
            r.parts(item.get("parts")),
            r.names(item.get("states", [])),
        )
        for item in (r.table(entry, "a population") for entry in r.items(top.get("pops"), "populations"))
    ]
    outputs = [_output(r, r.table(entry, "an output")) for entry in r.items(top.get("outputs"), "outputs")]
    steps = r.number(top.get("steps"), 0, _MAX_STEPS, "the number of steps")
    attrs = r.table(top.get("attrs"), "attrs")
    return ChipImage(
        pes, routers, tuple(inputs), tuple(pops), tuple(outputs), (grid[0], grid[1]), steps, attrs
    )


def _output(r: _Reader, item: dict[str, Any]) -> OutputMap:
    kind, scale = item.get("kind"), item.get("scale")
    if kind not in ("v", "count", "spikes") or not isinstance(scale, (int, float)) or not np.isfinite(scale):
        raise r.wrong("an output")
    return OutputMap(r.text(item.get("name"), "a name"), r.text(item.get("population"), "a population"), kind,
                     float(scale), r.number(item.get("first_step"), 0, _MAX_STEPS, "a step"))  # fmt: skip


def _core(pe: PeImage) -> int:
    return pe.chip * layout.PES_PER_CHIP + pe.pe


def to_module(image: ChipImage) -> Module:
    """Write an image as a module of level ``image``; `to_image` gives it back.

    Cores count PEs over all chips; routers are tables ``router`` of core `chip`. The table ``sizes`` holds the words
    of regions that are zero.
    """
    ops: list[Op] = [Header(fields=_meta(image))]
    for chip, table in image.routers.items():
        ops += [
            Reg(core=chip, table="router", index=k, fields={"key": r.key, "mask": r.mask, "route": r.route})
            for k, r in enumerate(table)
        ]
    for pe in image.pes:
        ops += _pe_ops(pe)
    return Module("spinnaker2", "image", tuple(ops))


def _pe_ops(pe: PeImage) -> list[Op]:
    core = _core(pe)
    sizes = {name: len(pe.regions[name]) for name in layout.ZEROED}
    ops: list[Op] = [Reg(core=core, table="sizes", fields=sizes)]
    for name in layout.REGIONS:
        words = pe.regions[name]
        if name in _RECORDS:
            width = len(_RECORDS[name])
            for k, row in enumerate(words.reshape(-1, width).tolist()):
                ops.append(
                    Reg(core=core, table=name, index=k, fields=dict(zip(_RECORDS[name], row, strict=True)))
                )
        elif name not in layout.ZEROED and len(words):
            if name == "params" and pe.user:
                shown, words = _code_ops(core, words)
                ops += shown
            ops.append(Region(core=core, table=name, words=Const(f"pe{core}.{name}", words)))
    return ops


def _code_ops(core: int, words: layout.Words) -> tuple[list[Op], layout.Words]:
    """A model of the user's, instruction by instruction, and the words behind it; only words where it is none."""
    try:
        model = machine.decode(words)
    except ValueError:
        return [], words
    first = len(machine.HEADER)
    head = dict(zip(machine.HEADER, words[:first].tolist(), strict=True))
    ops: list[Op] = [Reg(core=core, table="user", fields=head)]
    for k, (name, to, *operands) in enumerate(model.code):
        fields = {"to": to, **dict(zip("abc", operands, strict=False))}
        ops.append(Reg(core=core, table=f"code.{name}", index=k, fields=fields))
    return ops, words[first + 2 * len(model.code) :]


def _code_words(op: Reg) -> list[int]:
    """The words of a header or an instruction."""
    name = op.table.removeprefix("code.")
    if op.table == "user":
        return [op.fields.get(item, 0) & 0xFFFFFFFF for item in machine.HEADER]
    if name not in machine.OPERATIONS:
        raise fail("E0913", f"there is no instruction {name}")
    to, a, b, c = (op.fields.get(item, 0) for item in ("to", "a", "b", "c"))
    return machine.words_of((name, to, a, b, c))


def to_image(module: Module) -> ChipImage:
    """Read a module of level ``image`` back.

    Raises
    ------
    NmcError
        E0913 for a module that no image gives.
    """
    header = next(iter(module.of_type(Header)), None)
    if header is None:
        raise fail("E0913", "the module has no header")
    routers: dict[int, list[Route]] = {}
    records: dict[int, dict[str, list[int]]] = {}
    models: dict[int, list[int]] = {}
    regions: dict[int, dict[str, Any]] = {}
    for op in module.ops:
        if isinstance(op, Reg) and op.table == "router":
            routers.setdefault(op.core, []).append(Route(**op.fields))
        elif isinstance(op, Reg) and op.table == "sizes":
            zero = {name: np.zeros(size, np.uint32) for name, size in op.fields.items()}
            regions[op.core] = {**{name: np.zeros(0, np.uint32) for name in layout.REGIONS}, **zero}
        elif isinstance(op, Reg) and (op.table == "user" or op.table.startswith("code.")):
            models.setdefault(op.core, []).extend(_code_words(op))
        elif isinstance(op, Reg):
            records.setdefault(op.core, {}).setdefault(op.table, []).extend(op.fields.values())
        elif isinstance(op, Region):
            regions[op.core][op.table] = op.words.array()
    for core, words in models.items():
        regions[core]["params"] = np.concatenate([np.array(words, np.uint32), regions[core]["params"]])
    for core, tables in records.items():
        regions[core] |= {name: np.array(words, np.uint32) for name, words in tables.items()}
    pes = tuple(PeImage(*divmod(core, layout.PES_PER_CHIP), found) for core, found in regions.items())
    return _from_meta(header.fields, pes, {chip: tuple(table) for chip, table in routers.items()})
