"""``nmc map``: put a network on cores and tell how good that is and what is proved of it."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from nmc.cli.compile import compile_options
from nmc.cli.console import Console
from nmc.cli.files import open_module, readable, writable
from nmc.cli.progress import Progress
from nmc.cli.tables import pairs

if TYPE_CHECKING:
    from nmc.passes.manager import Timing


def map_verb(args: argparse.Namespace, console: Console) -> int:
    """Map, print objective, bound and gap; write the program and the picture where asked to."""
    from nmc.cli.debugging import show_pipeline
    from nmc.driver import compile_traced, pipeline_for
    from nmc.ir.diagnostics import DoesNotFit
    from nmc.passes.map.solver import heard
    from nmc.remedies import with_ways_out

    options = compile_options(args)
    model = readable(args.model)
    module = open_module(model, dict(options.params), options.read)
    if args.print_pipeline:
        passes = pipeline_for(options, module)
        console.result(show_pipeline(passes), {"passes": [str(item) for item in passes]})
        return 0
    lines: list[str] = []
    with Progress("mapping", quiet=console.quiet) as progress:
        try:
            with heard(lines.append) if args.solver_log else nullcontext():
                program, result = compile_traced(model, options, None, progress.stage, module)
        except DoesNotFit as error:
            progress.stage("look for ways out")
            raise with_ways_out(error, module, options) from None
    files = {}
    if args.o:
        path = writable(args.o)
        program.save(path)
        files["output"] = str(path)
    if args.picture:
        from nmc.ir.target import resolve
        from nmc.report.picture import picture

        path = writable(args.picture)
        path.write_text(picture(program.module, resolve(options.target)), encoding="utf-8", newline="\n")
        files["picture"] = str(path)
    report = program.report
    stages = [{"stage": item.text, "seconds": round(item.seconds, 3)} for item in result.timings]
    facts = {**files, **{name: report.get(name) for name in ("target", "cores", "packing", "placement")}}
    text = _text(report, files, result.timings, log=args.solver_log)
    if args.solver_log:
        told = "\n".join(lines) if lines else "CP-SAT did not run: what is told above was proved without it"
        text, facts = f"{text}\n\n{told}", {**facts, "solver_log": lines}
    console.result(text, {**facts, "stages": stages})
    return 0


def _text(report: dict[str, Any], files: dict[str, str], timings: tuple[Timing, ...], *, log: bool) -> str:
    cores, packing, found = report["cores"], report.get("packing") or {}, report.get("placement")
    rows: list[tuple[str, object]] = [("cores", f"{cores['used']:,} of {cores['available']:,}")]
    if packing:
        tilings = f"{packing['bound_tilings']:,} for the tilings tried"
        rows += [
            (
                "cores bound",
                f"{packing['bound']:,} for these boxes, {tilings}, {packing['bound_any']:,} however cut",
            ),
            ("cores status", f"{packing['status']}, limited by {packing['limit'].replace('_', ' ')}"),
        ]
        if packing.get("traffic") is not None:
            told = f"{packing['traffic']:,} spikes, at least {packing['traffic_bound']:,} on so many cores"
            rows.append(("between cores", f"{told}, if every neuron spikes once"))
    rows += _placed(found, log) if found else [("placement", "none: all cores are equally far apart")]
    if packing and log:
        rows += [(f"least cores, {name}", f"{least:,}") for name, least in packing["least"].items()]
    slow = sorted(timings, key=lambda item: -item.seconds)
    shown = timings if log else [item for item in timings if item in slow[:4]]
    rows += [(f"time, {item.text.partition('{')[0]}", f"{item.seconds:.2f} s") for item in shown]
    rows += list(files.items())
    return f"{report['network']} on {report['target']}\n{pairs(rows)}"


def _placed(found: dict[str, Any], log: bool) -> list[tuple[str, object]]:
    """Rows of a placement."""
    unit = "spike hops a sample" + ("" if found["spikes"] == "measured" else ", guessing one spike a neuron")
    rows: list[tuple[str, object]] = [
        ("objective", f"{found['objective']:,.3f} {unit}"),
        ("bound", f"{found['bound']:,.3f} ({found['bound_name']})"),
        ("gap", f"{100 * found['gap']:.2f} %"),
        ("status", found["status"]),
        ("method", found["method"]),
    ]
    if hint := found.get("hint"):
        rows.append(("hint", f"{hint['kept']:,} cores stay, {hint['moved']:,} moved or new"))
    if log:
        rows += [(f"bound, {name}", f"{value:,.3f}") for name, value in found["bounds"].items()]
    return rows
