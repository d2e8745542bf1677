"""``nmc compile``: from a trained network to an artefact with the images of a chip."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.cli.console import Console
from nmc.cli.debugging import manager_options, show_pipeline, write_trace
from nmc.cli.files import check_target, load_options, open_module, read_params, readable, writable
from nmc.cli.progress import Progress
from nmc.cli.tables import pairs
from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from nmc.driver import CompileOptions
    from nmc.program import Program

#: How many of the fullest memories the summary names.
_MEMORIES = 3


def compile_verb(args: argparse.Namespace, console: Console) -> int:
    """Compile, write the artefact and print a summary of ten lines."""
    from nmc.driver import compile_traced, pipeline_for
    from nmc.ir.diagnostics import DoesNotFit
    from nmc.remedies import with_ways_out

    options = compile_options(args)
    passes = pipeline_for(options)  # a mistake in the pipeline text is told before the model is read
    if args.print_pipeline and not Path(args.model).exists():
        console.result(show_pipeline(passes), {"passes": [str(item) for item in passes]})
        return 0
    model = readable(args.model)
    module = open_module(model, dict(options.params), options.read)
    passes = pipeline_for(options, module)
    if args.print_pipeline:
        console.result(show_pipeline(passes), {"passes": [str(item) for item in passes]})
        return 0
    path = writable(args.o or Path(f"{model.stem}.nmx"))
    data = _test_data(args)
    manager = manager_options(args, lambda: module, passes)
    with Progress("compiling", quiet=console.quiet) as progress:
        try:
            program, result = compile_traced(model, options, manager, progress.stage, module)
        except DoesNotFit as error:
            progress.stage("look for ways out")
            raise with_ways_out(error, module, options) from None
    program.save(path)
    made = _beside(path, program.synthesis)
    if args.trace:
        write_trace(args.trace, result.trace_events())
    found = None
    if data is not None:
        from nmc.cli.run import evaluate_with_progress

        found = evaluate_with_progress(program, data, None, "functional", console)
    facts = {"output": str(path), **program.report, "evaluation": found}
    if made:
        facts["files"] = made
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
    files = [
        args.calib,
        getattr(args, "pins", None),
        getattr(args, "hint", None),
        *getattr(args, "load_pass", []),
    ]
    for file in filter(None, files):
        readable(file)
    given: dict[str, Any] = {}
    for entry in fields(CompileOptions):
        item = getattr(args, entry.name, None)
        if item is not None:
            given[entry.name] = tuple(item) if isinstance(item, list) else item
    for name in ("calib", "pins", "hint"):
        given[name] = str(getattr(args, name, None) or "")
    read = load_options(args)
    if Path(args.model).suffix == ".nir":
        given.pop("reset", None)  # it is that of the file's neurons; nothing is converted
    elif args.reset == "to-value":
        raise fail(
            "E0004", "--reset to-value belongs to .nir files", hint="converted networks: subtract or zero"
        )
    else:
        read = replace(read, reset=None)
    params = tuple(read_params(args.param).items())
    return CompileOptions(**given, params=params, read=read)


def summary(program: Program, path: Path, found: dict[str, Any] | None = None) -> str:
    """Give what a person wants to know about a compiled network, in about ten lines."""
    report = program.report
    layers, cores = report.get("layers") or [], report.get("cores") or {}
    size = f"{len(layers)}, {report.get('neurons') or 0:,} neurons, {report.get('synapses') or 0:,} synapses"
    rows: list[tuple[str, object]] = [
        ("layers", size),
        (
            "cores",
            f"{cores.get('used', 0):,} of {cores.get('available', 0):,}{_packing(report.get('packing'))}",
        ),
        ("memory", _memory(report.get("memory") or [])),
        ("fragmentation", _fragmentation(report.get("memory") or [])),
        ("time", f"{report.get('steps')} steps, of which {report.get('latency_steps')} are latency"),
        ("placement", _placement(report.get("placement"))),
        ("weights", _weights(layers)),
        ("energy", _energy(found or report.get("energy"))),
    ]
    rows += _approximations(report.get("approximations") or {})
    if found:
        rows.append(("accuracy", f"{100 * found['accuracy']:.2f} % of {found['samples']:,} samples"))
    if deadline := report.get("deadline"):
        rows.append(("deadline", _deadline(deadline)))
    if sizing := report.get("sizing"):
        rows.append(("fpga", _sizing(sizing)))
    if synthesis := report.get("synthesis"):
        rows += _synthesis(synthesis)
    rows += [("warning", line) for line in report.get("warnings", ())]
    rows.append(("more", f"nmc inspect {path}"))
    return f"{path}: {report.get('network')} for {report.get('target')}\n{pairs(rows)}"


def _approximations(found: dict[str, Any]) -> list[tuple[str, object]]:
    """What stands for smooth activations, and roundings that were left out."""
    rows: list[tuple[str, object]] = []
    rounded = {name: item for name, item in found.items() if item["fn"] == "quantize"}
    lines = {name: item for name, item in found.items() if name not in rounded}
    for label, text, items in (
        ("lines", "for {} smooth activations", lines),
        ("roundings", "{} of the file left out", rounded),
    ):
        if items:
            name, worst = max(items.items(), key=lambda item: float(item[1]["error"]))
            rows.append((label, f"{text.format(len(items))}, off by at most {worst['error']:.2g} ({name})"))
    return rows


def _packing(found: dict[str, Any] | None) -> str:
    """What is proved of the number of cores."""
    if not found:
        return ""
    least = f"bound {found['bound']:,}, however cut {found['bound_any']:,}"
    return f" ({least}; {found['status']}; limited by {found['limit'].replace('_', ' ')})"


def _fragmentation(rows: list[dict[str, Any]]) -> str:
    """What lies idle on the cores in use, of the resources that are used most."""
    return "; ".join(
        f"{row['resource'].replace('_', ' ')} {row['fragmentation']:.0f} % idle" for row in rows[:_MEMORIES]
    )


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


def _deadline(found: dict[str, Any]) -> str:
    """How much of a tick the fullest core leaves in its fullest one."""
    margins = ", ".join(
        f"{100 * left:.0f} % of a tick left at {clock}" for clock, left in found["margins"].items()
    )
    counted = "" if found.get("measured") else ", if every neuron spiked once"
    return f"{margins} ({found['population']}, core {found['core']}, {found['instructions']:,} instructions{counted})"


def _weights(layers: list[dict[str, Any]]) -> str:
    known = [layer for layer in layers if layer.get("weight_error") is not None]
    if not known:
        return "none rounded"
    worst = max(known, key=lambda layer: float(layer["weight_error"]))
    return f"rounded by at most {100 * worst['weight_error']:.2g} % ({worst['name']})"


def _energy(found: dict[str, Any] | None) -> str:
    if not found:
        return "not known without data (--calib or --data FILE)"
    seconds = found["time_per_sample_s"]
    if found.get("energy_per_sample_j") is None:
        return f"{1e3 * seconds:,.3f} ms a sample; nothing is known of the energy"
    joules = found["energy_per_sample_j"]
    return (
        f"{1e6 * joules:,.2f} uJ and {1e3 * seconds:,.3f} ms a sample (estimate from published event costs)"
    )


def _beside(path: Path, files: dict[str, bytes]) -> list[str]:
    """Write what was synthesised beside the program, under its name."""
    made = []
    for name, data in files.items():
        target = writable(path.with_suffix(Path(name).suffix))
        target.write_bytes(data)
        made.append(str(target))
    return made


def _sizing(found: dict[str, Any]) -> str:
    """The shape and what the model says of it."""
    shape, model, have = found["shape"], found["model"], found["available"]
    amounts = ", ".join(
        f"{count:,}{f' of {have[name]:,}' if have else ''} {name.replace('_', ' ')}"
        for name, count in model.items()
        if count
    )
    size = f"cores x lanes {shape['cores']} x {shape['lanes']}, {shape['weights']} weights, {shape['vb']}-bit membranes"
    asked = f" of {found['target_rate']:,.0f} asked for" if found["target_rate"] else ""
    rate = f"{found['samples_per_second']:,.0f} samples/s{asked} at {found['hertz'] / 1e6:.0f} MHz"
    return f"{size}; {found['device'] or 'no device named'}, by the model: {amounts}; {rate}"


def _synthesis(found: dict[str, Any]) -> list[tuple[str, object]]:
    """What the tools said."""
    amounts = ", ".join(
        f"{found[name]:,} {name.replace('_', ' ')}"
        for name in ("luts", "flip_flops", "block_rams", "large_rams", "multipliers")
        if found[name]
    )
    speed = (
        f"{found['megahertz']:.1f} MHz, {found['peak_synaptic_operations_per_second'] / 1e9:.3f} GSOP/s peak"
    )
    weights = (
        "weights in the bitstream" if found["weights"] == "bitstream" else "weights come by the word stream"
    )
    return [
        ("routed", f"{found['device']}, shell {found['shell']}: {amounts}"),
        ("clock", f"{speed}, {found['samples_per_second']:,.0f} samples/s (post-route)"),
        (
            "bitstream",
            f"{found['bitstream_bytes']:,} bytes, {weights}; {found['stream_bytes']:,} bytes to load",
        ),
    ]


def _test_data(args: argparse.Namespace) -> tuple[Any, Any] | None:
    """Labelled samples of ``--data``, read before the compilation so that a mistake shows at once."""
    if args.data is None:
        return None
    from nmc.cli.run import labelled

    return labelled(args.data, args.limit or 0, args.raw)
