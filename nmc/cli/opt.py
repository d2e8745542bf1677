"""``nmc opt``: run passes on IR text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nmc.cli.console import Console
from nmc.cli.debugging import manager_options, registry_with, show_pipeline, write_trace
from nmc.cli.files import open_module, writable
from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from nmc.ir.module import Module
    from nmc.passes.manager import PipelineResult


def opt_verb(args: argparse.Namespace, console: Console) -> int:
    """Run the passes of ``--passes`` on a module and print or write what they give."""
    from nmc.passes.manager import run_pipeline
    from nmc.passes.pipeline import parse_pipeline, without

    if args.list:
        from nmc.cli.listing import list_passes

        return list_passes(registry_with(args.load_pass), console)
    passes = without(parse_pipeline(args.passes, registry_with(args.load_pass)), args.without)
    if args.print_pipeline:
        console.result(show_pipeline(passes), {"passes": [str(item) for item in passes]})
        return 0
    module = read_text_or_file(args.file)
    if args.o:
        writable(args.o)
    result = run_pipeline(module, passes, manager_options(args, lambda: module, passes))
    if args.trace:
        write_trace(args.trace, result.trace_events())
    _emit(result, args.o, console)
    return 0


def read_text_or_file(file: str | None) -> Module:
    """Read a module from a file, or from standard input for ``-``."""
    if file is None:
        raise fail("E0004", "name a FILE to work on (.nmc or .onnx, - for standard input)")
    if file != "-":
        return open_module(file)
    from nmc.ir.text.parser import parse
    from nmc.ir.text.sidefile import MAX_TEXT_BYTES

    try:
        text = sys.stdin.read(MAX_TEXT_BYTES + 1)
    except UnicodeDecodeError as error:
        raise fail("E0100", f"not UTF-8 text (byte {error.start})", where="standard input") from None
    if len(text) > MAX_TEXT_BYTES:
        limit = f"more than {MAX_TEXT_BYTES:,} characters of text, which is the limit"
        raise fail("E0100", limit, where="standard input")
    return parse(text, file="<stdin>")


def write_module(module: Module, path: Path | None, console: Console, **facts: object) -> None:
    """Print a module, or write it with its side file."""
    from nmc.ir.text.sidefile import blobs, save

    about = {"level": module.level, "ops": len(module.ops), **facts}
    if path:
        save(module, path)
        files = [str(path), *([str(path.with_suffix(".npz"))] if blobs(module) else [])]
        told = f"{path}: {len(module.ops)} ops of level {module.level}"
        console.summary(told, {"files": files, **about})
        return
    absent = len(blobs(module))
    if absent:
        console.detail(
            f"note: {absent} large constants stand for themselves by digest; -o FILE writes them too"
        )
    console.result(str(module), {"module": str(module), **about})


def _emit(result: PipelineResult, path: Path | None, console: Console) -> None:
    write_module(
        result.module,
        path,
        console,
        passes=[{"name": item.text, "seconds": item.seconds, "stats": item.stats} for item in result.timings],
        explanations=[str(item) for item in result.explanations],
        checks=[
            {"pass": item.pass_name, "output": item.output, "max_abs": item.max_abs, "max_rel": item.max_rel}
            for item in result.checks
        ],
        skipped=list(result.skipped),
        dumps=[str(item) for item in result.dumps],
    )
