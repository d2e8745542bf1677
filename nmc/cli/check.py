"""``nmc check``: will a network convert, and will it fit? Every stage is tried, every problem is told."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import field, replace
from math import prod
from typing import TYPE_CHECKING, Any

from nmc.cli.compile import compile_options
from nmc.cli.console import Console
from nmc.cli.errors import print_diagnostics
from nmc.cli.files import open_module, readable
from nmc.cli.sizes import Sizes, sizes
from nmc.cli.tables import table
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit, NmcError

if TYPE_CHECKING:
    from nmc.driver import CompileOptions
    from nmc.ir.module import Module
    from nmc.passes.base import Pass

#: Uniform samples that stand for calibration data where none are given; a fixed seed, so that answers last.
_GUESSED, _SEED = 32, 0
#: Elements of all of them together, at most.
_GUESSED_ELEMENTS = 1 << 19
_GUESS_NOTE = (
    "no --calib: thresholds were guessed from uniform random samples; the answer may differ with your data"
)


@dataclass
class _Checked:
    """How far the network got."""

    modules: list[Module] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    convertible: bool = True
    fits: bool | None = None
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def exit_code(self) -> int:
        """0 fits, 1 does not convert, 2 does not fit."""
        return 1 if not self.convertible else 0 if self.fits else 2


def check_verb(args: argparse.Namespace, console: Console) -> int:
    """Import, convert, legalise and partition; say what stands in the way, layer by layer."""
    options = compile_options(args)
    path = readable(args.model)
    guessed = args.calib is None
    found = _try(str(path), guessed, options)
    trained = bool(found.modules) and found.modules[0].level == "ann"
    if found.convertible:
        found.sizes = sizes(found.modules, args.target)
    rows = layer_rows(found.modules, found.problems, "refused" if found.fits is None else "does not fit")
    facts = {
        "convertible": found.convertible,
        "fits": found.fits,
        "target": args.target,
        "calibration": str(args.calib) if args.calib else "guessed" if trained else "none",
        **found.sizes.facts,
        "diagnostics": [item.to_json() for item in found.problems],
        "layers": rows,
    }
    console.result(_text(found, rows, args.target), facts)
    print_diagnostics(found.problems)
    if guessed and trained:
        console.note(f"note: {_GUESS_NOTE}")
    return found.exit_code


def _try(path: str, guessed: bool, options: CompileOptions) -> _Checked:
    """Run the pipeline pass by pass up to the partition; stop at the first that refuses."""
    from nmc.driver import pipeline_for
    from nmc.passes.manager import run_pipeline

    checked = _Checked()
    try:
        checked.modules.append(open_module(path, dict(options.params), options.read))
        for item in pipeline_for(options, checked.modules[0]):
            module = checked.modules[-1]
            if "mapped" in item.takes and "ann" not in item.takes:
                break
            ready = _with_samples(item, module) if guessed and module.level == "ann" else item
            checked.modules.append(run_pipeline(module, [ready]).module)
    except DoesNotFit as error:
        checked.fits = False
        checked.problems += error.diagnostics
    except NmcError as error:
        if error.exit_code != 1:
            raise
        checked.convertible = False
        checked.problems += error.diagnostics
    else:
        checked.fits = True
    return checked


def _with_samples(item: Pass, module: Module) -> Pass:
    """Give a pass that looks at data (calibration) uniform samples in place of none."""
    import numpy as np

    from nmc.ir.ops import ann
    from nmc.passes.convert.lift_maxima import LiftMaxima
    from nmc.passes.quantize.calibrate import Calibrate
    from nmc.passes.quantize.quantize import Quantize

    inputs = module.of_type(ann.Input)
    if not isinstance(item, Calibrate | LiftMaxima | Quantize) or item.data or len(inputs) != 1:
        return item
    if isinstance(item, Quantize):  # what is lost on guessed samples tells nothing
        return replace(item, certify=False, bias_correction=False)
    count = max(1, min(_GUESSED, _GUESSED_ELEMENTS // prod(inputs[0].shape)))
    samples = np.random.default_rng(_SEED).random((count, *inputs[0].shape), np.float32)
    return replace(item, samples=samples)


def layer_rows(
    modules: Sequence[Module], problems: Sequence[Diagnostic], refusal: str = "refused"
) -> list[dict[str, Any]]:
    """Describe each layer: what becomes of it and, where it is refused, why.

    Parameters
    ----------
    modules : sequence of Module
        The network after each stage, the imported one first.
    problems : sequence of Diagnostic
        What stopped it.
    refusal : str
        Status of a layer that a problem is about.

    Returns
    -------
    list of dict
        {layer, op, neurons, status, reason} of each layer of the imported network; where not even the import
        went well, of each problem.
    """
    if not modules:
        return [
            {"layer": item.where, "op": None, "neurons": None, "status": "refused", "reason": item.message}
            for item in problems
        ]
    populations = _populations(modules[-1])
    hidden = ("ann.input", "ann.output", "snn.output")
    return [
        _row(op, populations, problems, refusal) for op in modules[0].ops if op.name not in hidden and op.out
    ]


def _row(
    op: Any, populations: dict[str, tuple[int, int]], problems: Sequence[Diagnostic], refusal: str
) -> dict[str, Any]:
    place = str(op.loc or f"%{op.out}")
    mine = [item for item in problems if place in _places(item) or f"%{op.out}:" in item.message]
    neurons, parts = populations.get(op.out, (None, 0))
    if mine:
        status, reason = refusal, "; ".join(item.message for item in mine)
    elif parts:
        status, reason = "fits", f"{parts} box{'es' if parts > 1 else ''} of neurons"
    else:
        status = "converts" if populations else "not reached"
        reason = "a population" if neurons else "part of the weights" if populations else ""
    layer = op.loc.node if op.loc is not None and op.loc.node else op.out
    return {"layer": layer, "op": op.name, "neurons": neurons, "status": status, "reason": reason}


def _places(item: Diagnostic) -> list[str]:
    """The places that a diagnostic names (a fused location names several)."""
    return [item.where, *item.where.split(", ")]


def _populations(module: Module) -> dict[str, tuple[int, int]]:
    """Neurons and boxes of each population, by name; empty before the conversion."""
    from nmc.ir.op import StatefulOp
    from nmc.ir.ops.mapped import Neurons

    boxes: dict[str, int] = {}
    for part in module.of_type(Neurons):
        boxes[part.of.name] = boxes.get(part.of.name, 0) + 1
    found = {op.out: (op.result.type.size, boxes.get(op.out, 0)) for op in module.of_type(StatefulOp)}
    whole: dict[str, tuple[int, int]] = {}
    for name, (
        neurons,
        parts,
    ) in found.items():  # split-concat numbers the parts of a layer: name.0, name.1, ...
        layer = re.sub(r"(\.\d+)+$", "", name)
        have = whole.get(layer, (0, 0))
        whole[layer] = have[0] + neurons, have[1] + parts
    return {**whole, **found}


def _text(found: _Checked, rows: Sequence[dict[str, Any]], target: str) -> str:
    if not found.convertible:
        verdict = "does not convert to a spiking network"
    else:
        verdict = f"converts and fits {target}" if found.fits else f"converts, but does not fit {target}"
    name = found.modules[0].name if found.modules else "the network"
    told = found.sizes.text
    verdict += f" ({told})" if told else ""
    cells = [tuple(row.values()) for row in rows]
    body = table(("layer", "op", "neurons", "status", "reason"), cells) if cells else ""
    return f"{body}\n\n{name} {verdict}" if body else f"{name} {verdict}"
