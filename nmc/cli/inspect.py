"""``nmc inspect``, ``nmc objdump`` and ``nmc where``: what is in a module, an image, a place on the chip."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.cli.compile import summary
from nmc.cli.console import Console
from nmc.cli.files import open_module, open_program, readable, writable
from nmc.cli.opt import write_module
from nmc.cli.tables import pairs, table
from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from nmc.ir.module import Module
    from nmc.program import Program

#: Attributes of a module that are longer are left to ``--ir``.
_LONG = 80


def inspect_verb(args: argparse.Namespace, console: Console) -> int:
    """Summarise a network, or a compiled one with its memories, layers and files."""
    path = readable(args.file)
    if args.ir:
        write_module(open_module(path), None, console)
    elif path.suffix == ".nmx":
        program = open_program(path)
        facts = {"manifest": program.manifest, "report": program.report}
        console.result(_program_text(program, path), facts)
    else:
        module = open_module(path)
        console.result(_module_text(module), _module_facts(module))
    return 0


def objdump_verb(args: argparse.Namespace, console: Console) -> int:
    """Print the chip image as a module of level ``image``."""
    if args.o:
        writable(args.o)
    module = open_program(args.program).image_module()
    if args.core:
        module = _only_cores(module, args.core)
    write_module(module, args.o, console)
    return 0


def where_verb(args: argparse.Namespace, console: Console) -> int:
    """Answer for each place."""
    program = open_program(args.program)
    places = [{"place": place, "found": program.where(place)} for place in args.place]
    console.result("\n".join(line for item in places for line in item["found"]), {"places": places})
    return 0


def _only_cores(module: Module, cores: list[int]) -> Module:
    """Leave out the ops of other cores (the header and the host's tables stay)."""
    there = {op.core for op in module.ops if isinstance(getattr(op, "core", None), int)}
    absent = [number for number in cores if number not in there]
    if absent:
        shown = ", ".join(map(str, sorted(there)))
        raise fail("E0807", f"the image does not use core {absent[0]}", hint=f"it uses {shown}")
    return module.with_ops([op for op in module.ops if getattr(op, "core", None) in cores])


def _module_facts(module: Module) -> dict[str, Any]:
    return {
        "name": module.name,
        "level": module.level,
        "attributes": dict(module.attrs),
        "ops": dict(Counter(op.name for op in module.ops)),
        "constants": {"number": len(module.consts), "elements": sum(const.type.size for const in module.consts)},
        "values": [
            {"name": op.out, "op": op.name, "type": str(op.result.type), "location": str(op.loc or "")}
            for op in module.ops
            if op.out
        ],
    }


def _module_text(module: Module) -> str:
    facts = _module_facts(module)
    counts, constants = facts["ops"], facts["constants"]
    shown = [(key, item) for key, item in facts["attributes"].items() if len(str(item)) <= _LONG]
    head = pairs(
        [
            ("ops", f"{len(module.ops):,}: " + ", ".join(f"{count} {name}" for name, count in counts.items())),
            ("constants", f"{constants['number']:,} with {constants['elements']:,} elements"),
            *shown,
        ]
    )
    rows = [(f"%{item['name']}", item["op"], item["type"], item["location"]) for item in facts["values"]]
    return f"{module.name}, level {module.level}\n{head}\n\n{table(('value', 'op', 'type', 'from'), rows)}"


def _program_text(program: Program, path: Path) -> str:
    report, manifest = program.report, program.manifest
    parts = [summary(program, path).rpartition("\n")[0]]  # without the line that points here
    memory = report.get("memory") or []
    if memory:
        rows = [
            (row["resource"], row["used"], row["limit"], float(row["percent"]), row["core"]) for row in memory
        ]
        parts.append(table(("memory", "used", "limit", "%", "core"), rows))
    layers = report.get("layers") or []
    if layers:
        rows = [
            (row["name"], row.get("neurons"), _length(row.get("cores")), row.get("weight_error"))
            for row in layers
        ]
        parts.append(table(("layer", "neurons", "cores", "weight error"), rows))
    files = [(name, len(data)) for name, data in program.files.items()]
    parts.append(table(("image file", "bytes"), files))
    source = manifest.get("source") or {}
    made: list[tuple[str, object]] = [
        ("source", f"{source.get('name')} (sha256 {str(source.get('sha256'))[:16]}...)"),
        ("nmc", manifest.get("nmc")),
        ("pipeline", manifest.get("pipeline")),
    ]
    return "\n\n".join([*parts, pairs(made, indent=0)])


def _length(cores: object) -> int | None:
    return len(cores) if isinstance(cores, list | tuple) else cores if isinstance(cores, int) else None
