"""``nmc export``: a network in a format of other tools; each format is an option that names the file to write."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nmc.cli.console import Console
from nmc.cli.files import (
    check_target,
    load_options,
    open_module,
    open_program,
    read_params,
    readable,
    writable,
)
from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from nmc.ir.module import Module

#: A chip whose accumulators are wide: its integers are those of any other such chip.
_WIDE = "spinnaker2"
Writer = Callable[["Module", Path, argparse.Namespace], dict[str, object]]


def export_verb(args: argparse.Namespace, console: Console) -> int:
    """Write every format that was asked for."""
    _sort_words(args)
    wanted = {name: Path(path) for name in FORMATS if (path := getattr(args, name)) is not None}
    if not wanted:
        options = ", ".join(f"--{name.replace('_', '-')} FILE" for name in FORMATS)
        raise fail("E0004", "no format to write", hint=f"give {options}")
    for path in wanted.values():
        writable(path)
    module = _module(args)
    for name, path in wanted.items():
        facts = FORMATS[name](module, path, args)
        told = ", ".join(f"{value} {key}" for key, value in facts.items() if isinstance(value, int))
        console.summary(f"{path}: {told}", {"format": name, "output": str(path), **facts})
    return 0


def _sort_words(args: argparse.Namespace) -> None:
    """Tell apart the words of ``--integer-onnx MODEL -o FILE`` and ``MODEL --integer-onnx FILE``.

    Raises
    ------
    NmcError
        E0004 where a model or a file to write is missing, or is there twice.
    """
    if args.model is None and args.integer_onnx and args.o:
        args.model, args.integer_onnx = args.integer_onnx, ""
    if args.model is None:
        raise fail("E0004", "no network to export", hint="nmc export MODEL --integer-onnx FILE")
    if args.o and args.integer_onnx != "":
        raise fail("E0004", "-o names the file of --integer-onnx, which names one itself or is not there")
    if args.integer_onnx == "":
        args.integer_onnx = args.o or Path(f"{Path(args.model).stem}.integer.onnx")


def _module(args: argparse.Namespace) -> Module:
    """The network; of a compiled one the integers that its chip computes."""
    if Path(args.model).suffix == ".nmx" and args.integer_onnx is not None:
        found = open_program(args.model).integer
        if found is None:
            hint = "compile it in the exact mode (the default)"
            raise fail("E0609", "this program computes no integer network", where=str(args.model), hint=hint)
        return found
    return open_module(args.model, read_params(args.param), load_options(args))


def _nir(module: Module, path: Path, args: argparse.Namespace) -> dict[str, object]:
    from nmc.frontends.nir.write import nir_tree, write_tree

    tree = nir_tree(module)
    write_tree(tree, path)
    return {"nodes": len(tree.nodes), "edges": len(tree.edges)}


def _integer_onnx(module: Module, path: Path, args: argparse.Namespace) -> dict[str, object]:
    from nmc.driver import CompileOptions, integer_network
    from nmc.export.integer_onnx import save_integer_onnx

    if module.level == "ann":
        target = args.target or _WIDE
        check_target(target)
        chosen = CompileOptions(
            target=target, calib=str(readable(args.calib)) if args.calib else "", levels=args.levels, raw=args.raw,
            accuracy_drop=args.accuracy_drop,
        )  # fmt: skip
        module = integer_network(module, chosen)
    save_integer_onnx(module, path)
    return {"ops": len(module.ops)}


#: Option (with ``_`` for ``-``) -> what writes the file and gives facts about it.
FORMATS: dict[str, Writer] = {"nir": _nir, "integer_onnx": _integer_onnx}
