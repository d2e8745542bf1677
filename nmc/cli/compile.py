"""``nmc compile``: from a trained network to an artefact with the images of a chip."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.cli.console import Console
from nmc.cli.debugging import manager_options, show_pipeline, write_trace
from nmc.cli.files import check_target, open_module, readable, writable
from nmc.cli.progress import Progress
from nmc.cli.tables import pairs

if TYPE_CHECKING:
    from nmc.driver import CompileOptions
    from nmc.program import Program

#: How many of the fullest memories the summary names.
_MEMORIES = 3


def compile_verb(args: argparse.Namespace, console: Console) -> int:
    """Compile, write the artefact and print a summary of ten lines."""
    from nmc.driver import compile_traced, pipeline_for

    options = compile_options(args)
    passes = pipeline_for(options)
    if args.print_pipeline:
        console.result(show_pipeline(passes), {"passes": [str(item) for item in passes]})
        return 0
    model = readable(args.model)
    path = writable(args.o or Path(f"{model.stem}.nmx"))
    data = _test_data(args)
    manager = manager_options(args, lambda: open_module(model), passes)
    with Progress("compiling", quiet=console.quiet) as progress:
        program, result = compile_traced(model, options, manager, progress.stage)
    program.save(path)
    if args.trace:
        write_trace(args.trace, result.trace_events())
    found = None
    if data is not None:
        from nmc.cli.run import evaluate_with_progress

        found = evaluate_with_progress(program, data, None, "functional", console)
    facts = {"output": str(path), **program.report, "evaluation": found}
    if found:
        facts["energy"] = {key: item for key, item in found.items() if "_per_sample" in key}
    console.summary(summary(program, path, found), facts)
    return 0


def compile_options(args: argparse.Namespace) -> CompileOptions:
    """Turn the command line's words into options; those not given keep their defaults.

    Raises
    ------
    NmcError
        E0721, E0722 for a target that is not there, E0002 for a file that is not.
    """
    from nmc.driver import CompileOptions

    check_target(args.target)
    for file in [*([args.calib] if args.calib else []), *getattr(args, "load_pass", [])]:
        readable(file)
    given: dict[str, Any] = {}
    for entry in fields(CompileOptions):
        item = getattr(args, entry.name, None)
        if item is not None:
            given[entry.name] = tuple(item) if isinstance(item, list) else item
    given["calib"] = str(args.calib or "")
    return CompileOptions(**given)


def summary(program: Program, path: Path, found: dict[str, Any] | None = None) -> str:
    """Give what a person wants to know about a compiled network, in about ten lines."""
    report = program.report
    layers, cores = report.get("layers") or [], report.get("cores") or {}
    size = f"{len(layers)}, {report.get('neurons') or 0:,} neurons, {report.get('synapses') or 0:,} synapses"
    rows: list[tuple[str, object]] = [
        ("layers", size),
        ("cores", f"{cores.get('used', 0):,} of {cores.get('available', 0):,}"),
        ("memory", _memory(report.get("memory") or [])),
        ("time", f"{report.get('steps')} steps, of which {report.get('latency_steps')} are latency"),
        ("placement", _placement(report.get("placement"))),
        ("weights", _weights(layers)),
        ("energy", _energy(found or report.get("energy"))),
    ]
    if found:
        rows.append(("accuracy", f"{100 * found['accuracy']:.2f} % of {found['samples']:,} samples"))
    rows.append(("more", f"nmc inspect {path}"))
    return f"{path}: {report.get('network')} for {report.get('target')}\n{pairs(rows)}"


def _memory(rows: list[dict[str, Any]]) -> str:
    """The fullest resources; the first is the one that limits."""
    if not rows:
        return "none"
    shown = [f"{row['resource'].replace('_', ' ')} {row['percent']:.0f} %" for row in rows[:_MEMORIES]]
    first = rows[0]
    limit = f"{first['used']:,} of {first['limit']:,} in core {first['core']}"
    return f"{shown[0]} ({limit}) limits" + "".join(f", {item}" for item in shown[1:])


def _placement(found: dict[str, Any] | None) -> str:
    if not found:
        return "none"
    counted = "on sample data" if found.get("spikes") == "measured" else "guessing one spike a neuron"
    gap = f"bound {found['bound']:,.0f}, gap {100 * found['gap']:.1f} %, {found.get('status', '')}"
    return f"{found['objective']:,.0f} spike hops a sample, {counted} ({gap})"


def _weights(layers: list[dict[str, Any]]) -> str:
    known = [layer for layer in layers if layer.get("weight_error") is not None]
    if not known:
        return "none rounded"
    worst = max(known, key=lambda layer: float(layer["weight_error"]))
    return f"rounded by at most {100 * worst['weight_error']:.2g} % ({worst['name']})"


def _energy(found: dict[str, Any] | None) -> str:
    if not found:
        return "not known without data (--calib or --data FILE)"
    joules, seconds = found["energy_per_sample_j"], found["time_per_sample_s"]
    return (
        f"{1e6 * joules:,.2f} uJ and {1e3 * seconds:,.3f} ms a sample (estimate from published event costs)"
    )


def _test_data(args: argparse.Namespace) -> tuple[Any, Any] | None:
    """Labelled samples of ``--data``, read before the compilation so that a mistake shows at once."""
    if args.data is None:
        return None
    from nmc.cli.run import labelled

    return labelled(args.data, args.limit or 0, args.raw)
