"""``nmc run`` and ``nmc eval``: a compiled network on an emulator."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.cli.console import Console
from nmc.cli.files import open_program, readable, writable
from nmc.cli.progress import Progress
from nmc.cli.tables import pairs
from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from nmc.program import Program, Run

#: How many predictions the text shows; all are in the JSON and in the file of ``-o``.
_SHOWN = 20


def run_verb(args: argparse.Namespace, console: Console) -> int:
    """Run samples; write outputs and probes."""
    from nmc.passes.data import load_samples

    program = open_program(args.program)
    if args.o:
        writable(args.o)
    x, y = load_samples(str(readable(args.input)), limit=args.limit or 0, raw=args.raw)
    with Progress("running", quiet=console.quiet) as progress:
        run = program.run(
            x, raw=True, steps=args.steps, probes=args.probe, engine=args.engine, progress=progress
        )
    logits = run.logits.reshape(len(x), -1)
    predictions = logits.argmax(axis=1)
    if args.o:
        _write(args.o, run, predictions)
    facts: dict[str, Any] = {
        "samples": len(x),
        "steps": args.steps or program.steps,
        "predictions": predictions,
        "accuracy": None if y is None else float((predictions == y).mean()),
        "probes": {name: list(data.shape) for name, data in run.result.probes.items()},
        "output": args.o,
        **run.summary,
    }
    if not args.o:
        facts["logits"] = logits
    console.summary(_run_text(facts), facts)
    return 0


def eval_verb(args: argparse.Namespace, console: Console) -> int:
    """Measure accuracy, spikes, synaptic operations and energy."""
    program = open_program(args.program)
    data = labelled(args.data, args.limit or 0, args.raw)
    found = evaluate_with_progress(program, data, args.steps, args.engine, console)
    console.result(_eval_text(found), found)
    return 0


def labelled(path: str | Path, limit: int, raw: bool) -> tuple[Any, Any]:
    """Read samples and labels.

    Raises
    ------
    NmcError
        E0403 when there are no labels, E0002 when there is no file.
    """
    from nmc.passes.data import load_samples

    x, y = load_samples(str(readable(path)), limit=limit, raw=raw)
    if y is None:
        raise fail("E0403", "no labels: evaluation needs an array y in the file", where=str(path))
    return x, y


def evaluate_with_progress(
    program: Program, data: tuple[Any, Any], steps: int | None, engine: str, console: Console
) -> dict[str, Any]:
    """Evaluate and give the result as JSON facts."""
    from nmc.runtime.evaluate import evaluate

    with Progress("evaluating", quiet=console.quiet) as progress:
        found = evaluate(program, *data, steps=steps, raw=True, engine=engine, progress=progress)
    return found.to_json()


def _write(path: Path, run: Run, predictions: Any) -> None:
    """Write logits, prediction, every output by name where there are several, and the probes."""
    from nmc.ir.npz import write_npz

    outputs = run.result.outputs
    more = {f"logits.{name}": data for name, data in outputs.items()} if len(outputs) > 1 else {}
    write_npz(path, {"logits": run.logits, "prediction": predictions, **more, **run.result.probes})


def _run_text(facts: Mapping[str, Any]) -> str:
    predictions = facts["predictions"]
    shown = " ".join(map(str, predictions[:_SHOWN].tolist()))
    more = f" ... ({len(predictions) - _SHOWN:,} more)" if len(predictions) > _SHOWN else ""
    rows: list[tuple[str, object]] = [("prediction", f"{shown}{more}"), *_costs(facts)]
    if facts["accuracy"] is not None:
        rows.insert(1, ("accuracy", f"{100 * facts['accuracy']:.2f} %"))
    rows += [(name, "x".join(map(str, shape))) for name, shape in facts["probes"].items()]
    if facts["output"]:
        rows.append(("written", facts["output"]))
    return f"{facts['samples']:,} samples, {facts['steps']} steps each\n{pairs(rows)}"


def _eval_text(facts: Mapping[str, Any]) -> str:
    head = f"{facts['samples']:,} samples, {facts['steps']} steps each ({facts['latency_steps']} of them latency)"
    rows = [("accuracy", f"{100 * facts['accuracy']:.2f} %"), *_costs(facts)]
    return f"{head}\n{pairs(rows)}"


def _costs(facts: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What a sample costs, as far as the emulator counts it."""
    names = (
        ("spikes_per_sample", "spikes", 1.0, ",.1f", ""),
        ("synaptic_operations_per_sample", "synaptic operations", 1.0, ",.1f", ""),
        ("energy_per_sample_j", "energy", 1e6, ",.3f", " uJ (estimate from published event costs)"),
        ("time_per_sample_s", "time", 1e3, ",.4f", " ms (estimate from published event costs)"),
    )
    known = [item for item in names if facts.get(item[0]) is not None]
    return [
        (f"{label} a sample", f"{facts[key] * scale:{form}}{unit}") for key, label, scale, form, unit in known
    ]
