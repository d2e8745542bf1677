"""``nmc export``: a network in a format of other tools; each format is an option that names the file to write."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nmc.cli.console import Console
from nmc.cli.files import load_options, open_module, read_params, writable
from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from nmc.ir.module import Module

Writer = Callable[["Module", Path, argparse.Namespace], dict[str, object]]


def export_verb(args: argparse.Namespace, console: Console) -> int:
    """Write every format that was asked for."""
    wanted = {name: Path(path) for name in FORMATS if (path := getattr(args, name)) is not None}
    if not wanted:
        options = ", ".join(f"--{name.replace('_', '-')} FILE" for name in FORMATS)
        raise fail("E0004", "no format to write", hint=f"give {options}")
    for path in wanted.values():
        writable(path)
    module = open_module(args.model, read_params(args.param), load_options(args))
    for name, path in wanted.items():
        facts = FORMATS[name](module, path, args)
        told = ", ".join(f"{value} {key}" for key, value in facts.items() if isinstance(value, int))
        console.summary(f"{path}: {told}", {"format": name, "output": str(path), **facts})
    return 0


def _nir(module: Module, path: Path, args: argparse.Namespace) -> dict[str, object]:
    from nmc.frontends.nir.write import nir_tree, write_tree

    tree = nir_tree(module)
    write_tree(tree, path)
    return {"nodes": len(tree.nodes), "edges": len(tree.edges)}


def _integer_onnx(module: Module, path: Path, args: argparse.Namespace) -> dict[str, object]:
    from nmc.export.integer_onnx import save_integer_onnx
    from nmc.passes.quantize.search import quantised

    if module.level == "ann":
        module = quantised(module, args.calib, levels=args.levels, raw=args.raw)
    save_integer_onnx(module, path)
    return {"ops": len(module.ops)}


#: Option (with ``_`` for ``-``) -> what writes the file and gives facts about it.
FORMATS: dict[str, Writer] = {"nir": _nir, "integer_onnx": _integer_onnx}
