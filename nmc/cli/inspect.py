"""``nmc inspect``, ``nmc objdump`` and ``nmc where``: what is in a module, an image, a place on the chip."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.cli.compile import summary
from nmc.cli.console import Console
from nmc.cli.files import distrusting, open_module, open_program, readable, writable
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
        with distrusting(path):
            text = _program_text(program, path)
        console.result(text, {"manifest": program.manifest, "report": program.report})
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
    with distrusting(args.program):
        places = [{"place": place, "found": program.where(place)} for place in args.place]
    console.result("\n".join(line for item in places for line in item["found"]), {"places": places})
    return 0


def _only_cores(module: Module, cores: list[int]) -> Module:
    """Leave out what belongs to other cores, and what belongs to none."""
    homes = [getattr(op, "core", None) for op in module.ops]
    there = sorted({home for home in homes if isinstance(home, int)})
    absent = [number for number in cores if number not in there]
    if absent:
        hint = f"it uses {', '.join(map(str, there))}"
        raise fail("E0807", f"the image does not use core {absent[0]}", hint=hint)
    kept = [op for op, home in zip(module.ops, homes, strict=True) if isinstance(home, int) and home in cores]
    return module.with_ops(kept)


def _module_facts(module: Module) -> dict[str, Any]:
    return {
        "name": module.name,
        "level": module.level,
        "attributes": dict(module.attrs),
        "ops": dict(Counter(op.name for op in module.ops)),
        "constants": {
            "number": len(module.consts),
            "elements": sum(const.type.size for const in module.consts),
        },
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
            (
                "ops",
                f"{len(module.ops):,}: " + ", ".join(f"{count} {name}" for name, count in counts.items()),
            ),
            ("constants", f"{constants['number']:,} with {constants['elements']:,} elements"),
            *shown,
        ]
    )
    rows = [(f"%{item['name']}", item["op"], item["type"], item["location"]) for item in facts["values"]]
    return f"{module.name}, level {module.level}\n{head}\n\n{table(('value', 'op', 'type', 'from'), rows)}"


def _program_text(program: Program, path: Path) -> str:
    parts = [summary(program, path).rpartition("\n")[0]]  # without the line that points here
    parts += _report_tables(program.report)
    files = [(name, len(data)) for name, data in program.files.items()]
    parts.append(table(("image file", "bytes"), files))
    manifest = program.manifest
    source = manifest.get("source") or {}
    made: list[tuple[str, object]] = [
        ("source", f"{source.get('name')} (sha256 {str(source.get('sha256'))[:16]}...)"),
        ("nmc", manifest.get("nmc")),
        ("pipeline", manifest.get("pipeline")),
    ]
    return "\n\n".join([*parts, pairs(made, indent=0)])


def _report_tables(report: Mapping[str, Any]) -> Iterator[str]:
    """Give the memories and the layers as tables."""
    names = ("resource", "used", "limit", "percent", "core")
    if memory := report.get("memory"):
        yield table(
            ("memory", "used", "limit", "%", "core"), [[row[name] for name in names] for row in memory]
        )
    if layers := report.get("layers"):
        rows = [
            [layer["name"], layer.get("neurons"), _length(layer.get("cores")), layer.get("weight_error")]
            for layer in layers
        ]
        yield table(("layer", "neurons", "cores", "weight error"), rows)


def _length(cores: object) -> int | None:
    return len(cores) if isinstance(cores, list | tuple) else cores if isinstance(cores, int) else None
