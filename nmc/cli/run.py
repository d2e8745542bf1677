"""``nmc run`` and ``nmc eval``: a compiled network on an emulator."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmc.cli.console import Console
from nmc.cli.files import open_program, readable, writable
from nmc.cli.progress import Progress
from nmc.cli.tables import pairs
from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from nmc.program import Program, Run
    from nmc.runtime.early import Rule

#: How many predictions the text shows; all are in the JSON and in the file of ``-o``.
_SHOWN = 20
#: Runs of no more steps than these show the accuracy after each; longer ones after 1, 2, 4, ... steps.
_ALL_STEPS = 40
_COLUMNS = 10


def run_verb(args: argparse.Namespace, console: Console) -> int:
    """Run samples; write outputs and probes."""
    import numpy as np

    from nmc.passes.data import load_samples
    from nmc.program import thinned

    program = open_program(args.program)
    if args.o:
        writable(args.o)
    if args.frames:
        return _run_frames(program, args, console)
    x, y = None, None
    if args.input:
        raw = args.raw or program.takes_spikes()
        x, y = load_samples(str(readable(args.input)), limit=args.limit or 0, raw=raw)
    count, own = 1 if x is None else len(x), program.probes if args.o and not args.probe else {}
    rule = early_rule(program, args)
    with Progress("running", quiet=console.quiet) as progress:
        run = program.run(
            x,
            raw=True,
            steps=args.steps,
            probes=args.probe or list(own),
            engine=args.engine,
            progress=progress,
            trace=rule is not None,
            until_quiescent=args.until_quiescent,
        )
    run = thinned(run, own)
    steps = run.result.settled
    if rule is not None:
        steps, outputs = rule.take(run.result.traces)
        run = replace(run, result=replace(run.result, outputs=outputs))
    logits = run.logits.reshape(count, -1) if run.result.outputs else np.zeros((count, 0))
    predictions = logits.argmax(axis=1) if run.result.outputs else None
    if args.o:
        _write(args.o, run, predictions, steps)
    facts: dict[str, Any] = {
        "samples": count,
        "steps": args.steps or program.steps,
        "predictions": predictions,
        "accuracy": None if y is None or predictions is None else float((predictions == y).mean()),
        "probes": {name: list(data.shape) for name, data in run.result.probes.items()},
        "output": args.o,
        **run.summary,
    }
    if steps is not None:
        facts |= {"steps_by_sample": steps, "mean_steps": float(steps.mean())}
    if not args.o:
        facts["logits"] = logits
    console.summary(_run_text(facts), facts)
    return 0


def _run_frames(program: Program, args: argparse.Namespace, console: Console) -> int:
    """Run streams of frames, of which only the differences enter.

    Raises
    ------
    NmcError
        E0004 for options that contradict it, and as `nmc.program.Program.run_frames`.
    """
    from nmc.ir.npz import write_npz
    from nmc.passes.data import load_samples

    if args.early_exit is not None or args.until_quiescent or args.probe or not args.input:
        hint = "leave --early-exit, --until-quiescent and --probe away, and give --input"
        raise fail("E0004", "--frames runs each frame of the data to its end", hint=hint)
    x, y = load_samples(str(readable(args.input)), limit=args.limit or 0, raw=args.raw)
    with Progress("running", quiet=console.quiet) as progress:
        run = program.run_frames(x, raw=True, steps=args.steps, engine=args.engine, progress=progress)
    predictions = run.logits.reshape(*x.shape[:2], -1).argmax(axis=2)
    if args.o:
        write_npz(args.o, {"logits": run.logits, "prediction": predictions})
    facts: dict[str, Any] = {
        "samples": len(x), "frames": x.shape[1], "steps": args.steps or program.steps, "predictions": predictions,
        "accuracy": None if y is None else float((predictions == y[:, None]).mean()), "output": args.o, **run.summary,
    }  # fmt: skip
    if not args.o:
        facts["logits"] = run.logits
    head = f"{len(x):,} streams of {x.shape[1]:,} frames, {facts['steps']} steps each"
    rows = [("written", args.o)] if args.o else []
    console.summary(f"{head}\n{pairs([*_costs(facts), *rows])}", facts)
    return 0


def early_rule(program: Program, args: argparse.Namespace) -> Rule | None:
    """The rule of ``--early-exit``; None without it.

    Raises
    ------
    NmcError
        As `nmc.runtime.early.rule_of`; E0004 where two options contradict each other.
    """
    if args.early_exit is None:
        if args.calib:
            raise fail("E0004", "--calib goes with --early-exit", hint="add --early-exit, or leave it away")
        return None
    from nmc.passes.data import load_samples
    from nmc.runtime.early import rule_of

    if args.until_quiescent:
        raise fail("E0004", "a run ends early or when it is at rest, not both", hint="leave one option away")
    asked = None if args.early_exit == "auto" else args.early_exit
    calib = load_samples(str(readable(args.calib)), raw=args.raw) if args.calib else None
    return rule_of(program, asked, calib, steps=args.steps, engine=args.engine)


def eval_verb(args: argparse.Namespace, console: Console) -> int:
    """Measure accuracy (also after each step), spikes, synaptic operations and energy."""
    program = open_program(args.program)
    data = labelled(args.data, args.limit or 0, args.raw)
    more = {"by_step": True, "rule": early_rule(program, args), "until_quiescent": args.until_quiescent}
    found = evaluate_with_progress(program, data, args.steps, args.engine, console, **more)
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
    program: Program, data: tuple[Any, Any], steps: int | None, engine: str, console: Console, **more: Any
) -> dict[str, Any]:
    """Evaluate and give the result as JSON facts; `more` as `nmc.runtime.evaluate.evaluate` takes it."""
    from nmc.runtime.evaluate import evaluate

    with Progress("evaluating", quiet=console.quiet) as progress:
        found = evaluate(program, *data, steps=steps, raw=True, engine=engine, progress=progress, **more)
    return found.to_json()


def _write(path: Path, run: Run, predictions: Any, steps: Any) -> None:
    """Write logits, prediction, steps where they differ, every output by name where there are several, and probes."""
    from nmc.ir.npz import write_npz

    if not run.result.outputs:
        write_npz(path, run.result.probes)
        return
    outputs = run.result.outputs
    more = {f"logits.{name}": data for name, data in outputs.items()} if len(outputs) > 1 else {}
    if steps is not None:
        more["steps"] = steps
    write_npz(path, {"logits": run.logits, "prediction": predictions, **more, **run.result.probes})


def _run_text(facts: Mapping[str, Any]) -> str:
    predictions = [] if facts["predictions"] is None else facts["predictions"].tolist()
    shown = " ".join(map(str, predictions[:_SHOWN]))
    more = f" ... ({len(predictions) - _SHOWN:,} more)" if len(predictions) > _SHOWN else ""
    rows: list[tuple[str, object]] = [("prediction", f"{shown}{more}")] if predictions else []
    rows += _costs(facts)
    if facts["accuracy"] is not None:
        rows.insert(1, ("accuracy", f"{100 * facts['accuracy']:.2f} %"))
    if "mean_steps" in facts:
        rows.insert(1, ("steps to the answer", f"{facts['mean_steps']:,.2f} (mean)"))
    rows += [(name, "x".join(map(str, shape))) for name, shape in facts["probes"].items()]
    if facts["output"]:
        rows.append(("written", facts["output"]))
    return f"{facts['samples']:,} samples, {facts['steps']} steps each\n{pairs(rows)}"


def _eval_text(facts: Mapping[str, Any]) -> str:
    head = f"{facts['samples']:,} samples, {facts['steps']} steps each ({facts['latency_steps']} of them latency)"
    rows = [("accuracy", f"{100 * facts['accuracy']:.2f} %"), *_costs(facts)]
    if "settled_steps" in facts:
        found = facts["settled_steps"]
        rows.append(("at rest", f"after {found['mean']:,.2f} steps (mean), {found['max']:,} (most)"))
    parts = [head, pairs(rows)]
    if "early_exit" in facts:
        parts += ["", _early_text(facts["early_exit"])]
    if "accuracy_by_step" in facts:
        parts += ["", _steps_text(facts["accuracy_by_step"])]
    return "\n".join(parts)


def _early_text(found: Mapping[str, Any]) -> str:
    """What early answers give and save."""
    rows: list[tuple[str, object]] = [
        ("accuracy", f"{100 * found['accuracy']:.2f} %"),
        ("steps to the answer", f"{found['mean_steps']:,.2f} (mean), {found['max_steps']:,} (most)"),
        ("first possible answer", f"after {found['first_step']:,} steps"),
        *_costs(found),
    ]
    return f"with early answers, at a margin of {found['margin']:.4g}\n{pairs(rows)}"


def _steps_text(values: Sequence[float]) -> str:
    """Accuracy after each step, or after 1, 2, 4, ... of many, in columns."""
    few = len(values) <= _ALL_STEPS
    shown = list(range(len(values))) if few else [(1 << n) - 1 for n in range(len(values).bit_length())]
    shown = list(dict.fromkeys([*(at for at in shown if at < len(values)), len(values) - 1]))
    lines = ["accuracy in % if it ended after so many steps"]
    for start in range(0, len(shown), _COLUMNS):
        row = shown[start : start + _COLUMNS]
        lines.append("  steps  " + " ".join(f"{at + 1:>7,}" for at in row))
        lines.append("      %  " + " ".join(f"{100 * values[at]:>7.2f}" for at in row))
    return "\n".join(lines)


def _costs(facts: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What a sample costs, as far as the emulator counts it."""
    names = (
        ("spikes_per_sample", "spikes", 1.0, ",.1f", ""),
        ("synaptic_operations_per_sample", "synaptic operations", 1.0, ",.1f", ""),
        ("energy_per_sample_j", "energy", 1e6, ",.3f", " uJ (estimate from published event costs)"),
        ("time_per_sample_s", "time", 1e3, ",.4f", " ms (estimate from published event costs)"),
        (
            "late_ticks_150_mhz_per_sample",
            "missed deadlines",
            1.0,
            ",.1f",
            " ticks of PEs over 1 ms at 150 MHz",
        ),
        (
            "late_ticks_300_mhz_per_sample",
            "missed deadlines",
            1.0,
            ",.1f",
            " ticks of PEs over 1 ms at 300 MHz",
        ),
    )
    known = [item for item in names if facts.get(item[0]) is not None]
    return [
        (f"{label} a sample", f"{facts[key] * scale:{form}}{unit}") for key, label, scale, form, unit in known
    ]
