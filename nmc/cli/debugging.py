"""The options with which ``compile`` and ``opt`` look inside a pipeline."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nmc.cli.files import readable, writable
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.passes.pipeline import print_pipeline
from nmc.passes.registry import Registry, did_you_mean, standard_registry

if TYPE_CHECKING:
    from nmc.ir.module import Module
    from nmc.passes.base import Pass
    from nmc.passes.manager import ManagerOptions

REPRODUCER = "nmc-crash.nmc"
#: `--check-each` interprets the network before and after every pass: a few samples tell.
CHECK_SAMPLES = 16


def registry_with(files: Sequence[str]) -> Registry:
    """Everything installed, and the passes of some files."""
    from nmc.passes.load_file import load_pass_file

    registry = standard_registry()
    for file in files:
        registry = registry.adding(load_pass_file(readable(file)), file)
    return registry


def manager_options(
    args: argparse.Namespace, module: Callable[[], Module], passes: Sequence[Pass]
) -> ManagerOptions:
    """Turn the command line's words into the manager's options; `module` is read only when they need it.

    Raises
    ------
    NmcError
        E0201 for a pass that the pipeline does not have, E0002 for a folder that is not there, and what
        reading the inputs of ``--check-each`` raises.
    """
    from nmc.passes.manager import ManagerOptions

    names = {item.name for item in passes}
    if args.trace:
        writable(args.trace)
    _known([args.explain] if args.explain not in ("", "all") else [], names, "--explain")
    return ManagerOptions(
        print_after=_print_after(args.print_ir_after, names),
        print_dir=args.print_ir_dir,
        timing=args.timing,
        bisect_limit=args.bisect_limit,
        crash_reproducer=args.crash_dir / REPRODUCER,
        check_each=_check_inputs(args.check_each, module()) if args.check_each else None,
        explain=args.explain,
        sink=_to_stderr,
    )


def show_pipeline(passes: Iterable[Pass]) -> str:
    """Give a pipeline for a person, one pass a line; it can be pasted into ``--passes``."""
    return ",\n".join(print_pipeline([item]) for item in passes)


def write_trace(path: Path, events: Sequence[Mapping[str, Any]]) -> None:
    """Write events in the Chrome trace format, which https://ui.perfetto.dev opens."""
    path.write_text(json.dumps({"traceEvents": list(events), "displayTimeUnit": "ms"}), encoding="utf-8")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def _print_after(text: str, names: Iterable[str]) -> frozenset[str] | Literal["all", "changed"]:
    if text == "all":
        return "all"
    if text == "changed":
        return "changed"
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    _known(wanted, names, "--print-ir-after")
    return frozenset(wanted)


def _known(wanted: Iterable[str], names: Iterable[str], option: str) -> None:
    """Refuse names that the pipeline does not have: a typing error would otherwise print nothing."""
    unknown = [name for name in wanted if name not in set(names)]
    if unknown:
        raise NmcError(
            Diagnostic("E0201", f"{option}: the pipeline has no pass {name}", hint=did_you_mean(name, names))
            for name in unknown
        )


def _check_inputs(path: str, module: Module) -> dict[str, Any]:
    """Read inputs by name; samples called ``x`` stand for the only input of a network."""
    from nmc.ir.npz import read_npz
    from nmc.ir.ops import ann, snn
    from nmc.passes.data import fit_shape, load_samples

    arrays = read_npz(readable(path))
    inputs = {op.out: op.shape for op in module.of_type(ann.Input)}
    inputs |= {op.source: op.shape for op in module.of_type(snn.Input)}
    if len(inputs) == 1 and "x" in arrays and not arrays.keys() & inputs.keys() - {"x"}:
        ((name, shape),) = inputs.items()
        return {name: fit_shape(load_samples(path, limit=CHECK_SAMPLES)[0], shape)}
    return {name: data[:CHECK_SAMPLES] if data.ndim else data for name, data in arrays.items()}
