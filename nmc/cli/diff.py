"""``nmc diff``: where the spikes of two networks part. Exit code 0: the same, 1: different, as diff(1) has it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from nmc.cli.tables import table

if TYPE_CHECKING:
    from nmc.ir.module import Module
    from nmc.program import Program
    from nmc.runtime.compare import Comparison, Layer

#: Samples that are compared, and steps of networks that name none, unless the user says how many.
_LIMIT, _STEPS = 16, 32


def diff_verb(args: argparse.Namespace, console: Console) -> int:
    """Run both on the same data, compare, and tell the first difference."""
    if args.html:
        writable(args.html)
    from nmc.runtime.compare import compare, record
    from nmc.runtime.samples import read_samples, samples_of, steps_of

    sides = [_side(args, "a"), _side(args, "b")]
    given = read_samples(readable(args.input), args.raw, args.limit or _LIMIT) if args.input else {}
    data = [
        samples_of(_module(side), given, name) for side, name in zip(sides, (args.a, args.b), strict=True)
    ]
    steps = args.steps or next(
        filter(None, (steps_of(*pair) for pair in zip(sides, data, strict=True))), _STEPS
    )
    a, b = (
        record(name, side, item, steps)
        for name, side, item in zip((args.a, args.b), sides, data, strict=True)
    )
    found = compare(a, b)
    samples = max((len(item) for item in (*data[0].values(), *data[1].values())), default=1)
    facts = _facts(args, found, steps, samples)
    if args.html:
        from nmc.runtime.compare_html import page

        args.html.write_text(page(args.a, args.b, found), encoding="utf-8")
    console.result(_text(facts, found), facts)
    return 0 if found.equal else 1


def _side(args: argparse.Namespace, side: str) -> Module | Program:
    """Open one side; B is compiled first where ``--target`` wants that."""
    path = Path(getattr(args, side))
    if path.suffix == ".nmx":
        return open_program(path)
    params = read_params([*args.param, *getattr(args, f"{side}_param")] if path.suffix == ".snn" else [])
    options = load_options(args, f"{side}_") if path.suffix == ".nir" else None
    if side == "a" or not args.target:
        return open_module(path, params, options)
    from nmc.driver import CompileOptions, compile_model

    check_target(args.target)
    calib = str(readable(args.calib)) if args.calib else ""
    more = {"steps": args.steps} if args.steps else {}
    pairs = tuple(params.items())
    wanted = CompileOptions(target=args.target, calib=calib, raw=args.raw, params=pairs, read=options, **more)
    return compile_model(readable(path), wanted)


def _module(side: Module | Program) -> Module:
    from nmc.ir.module import Module

    return side if isinstance(side, Module) else side.module


def _facts(args: argparse.Namespace, found: Comparison, steps: int, samples: int) -> dict[str, Any]:
    first = found.first
    return {
        "equal": found.equal, "a": args.a, "b": args.b, "samples": samples, "steps": steps,
        "first": None if first is None else {"a": first.a.name, "b": first.b.name, **first.to_json()["first"]},
        "layers": [layer.to_json() for layer in found.layers],
        "only_a": list(found.only_a), "only_b": list(found.only_b),
        "outputs": [{"a": a, "b": b, "max_difference": far} for a, b, far in found.outputs],
        "html": args.html,
    }  # fmt: skip


def _text(facts: Mapping[str, Any], found: Comparison) -> str:
    """A row for each population, then the verdict."""
    head = ("population", "neurons", "B later by", "first difference", "differing", "cos counts", "cos trains",
            "rate A", "rate B", "max |dv|")  # fmt: skip
    lines = [table(head, [_row(layer) for layer in found.layers]), ""]
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            lines.append(f"only in {side}: {', '.join(names)}")
    for a, b, far in found.outputs:
        lines.append(f"output {a}{'' if a == b else f' / {b}'}: largest difference {far:.6g}")
    shifted = [layer for layer in found.layers if layer.shift]
    if shifted:
        lines.append(
            f"{len(shifted)} populations were aligned: their delays from the input differ by known steps"
        )
    lines.append(f"{_verdict(found)} ({facts['samples']:,} samples, {facts['steps']:,} steps)")
    return "\n".join(lines)


def _verdict(found: Comparison) -> str:
    if found.equal:
        return "same"
    first = found.first
    if first is None or first.first is None:
        return "different"
    return f"different: {first.a.name} first, {_place(first)}"


def _place(layer: Layer) -> str:
    if layer.first is None:
        return ""
    step, sample, neuron = layer.first
    return f"step {step}, sample {sample}, neuron [{','.join(map(str, neuron))}]"


def _row(layer: Layer) -> tuple[object, ...]:
    facts = layer.to_json()
    name = layer.a.name if layer.a.name == layer.b.name else f"{layer.a.name} / {layer.b.name}"
    similarity = (
        facts[key] for key in ("cosine_counts", "cosine_trains", "rate_a", "rate_b", "v_max_difference")
    )
    if layer.a.kind != layer.b.kind:
        return (name, facts["neurons"], None, "not of one kind", None, *similarity)
    return (name, facts["neurons"], layer.shift, _place(layer) or "none", layer.differing, *similarity)
