"""Conversion beside SpikingJelly's: accuracy after T time steps and CPU seconds, the same networks and images.

``python benchmarks/conversion.py --data mnist_test.npz --calib mnist_calib.npz --peer-python PYTHON``

PYTHON is an interpreter that has torch and SpikingJelly (`peers_spikingjelly.py` says which versions and how each
recipe is used); without it only nmc is measured. Every network is converted by a fresh process of one thread, from
the same float ONNX file, with the same calibration images, and classifies the same first test images.

- nmc for T: for each T the number of levels L, the code (signed spikes, plain spikes in windows, binary digits) and the
  schedule whose answers after T steps come nearest to the float network's on calibration images that did not calibrate
  (`nmc.passes.quantize.budget`; no labels are looked at): what a user who may run T steps would take. All codes are of
  single spikes. What was taken is printed below the table.
- nmc exact: the integer network (8-bit weights, L levels of activation) as signed spikes, inputs and biases spread
  over L steps. The answer is read after T steps, settled or not; ``settled`` is the accuracy of the integer network
  itself, which the spiking network reaches and keeps, and ``its s`` the CPU seconds that computing it directly takes.
- nmc graded: the same integer network, each population sending the change of its count as one event with a payload
  (one wave: chips whose spikes carry numbers).
- nmc rate: the rate conversion (``ann-to-snn``), real thresholds and weights, calibrated for rates of L steps. It
  refuses max pooling.
- The others are SpikingJelly's recipes, in float32. ``chosen`` is, for each T, the one whose outputs come nearest to
  the float network's on the last quarter of the calibration images, as nmc chooses its settings: what a user would have
  who does not know the test images. The best of the recipes by test accuracy is a choice that nobody has.

In a step all layers are updated one after another, in ours as in theirs, so that T does not count the latency of
a chip. Columns:

- ``% T``: accuracy after T steps. ``d T``: how many images are then answered otherwise than by the float network,
  rightly or wrongly: a conversion that loses nothing has 0, and accuracies that differ by less are a matter of chance.
- ``s T``: CPU seconds of running all images T steps. ``conv s``: of converting, calibration included (ours with reading
  the file, SpikingJelly's without building its float network).
- ``b:c p`` (second table): images that only the first line answers rightly, and only this one, and the probability
  of a split as uneven as that where both are equally good (McNemar's exact test, two-sided): above 0.05 the order of
  the two accuracies is chance.
- ``steps``: the least T measured from which on the accuracy stays within 0.5 points of the float network's.
- Ratios to the first line, above 1 where the first line is better: ``x steps`` of ``steps``, ``x s`` of the seconds of
  the longest run, ``x there`` of the seconds of a run of ``steps`` steps.

Tables and commands of the last measurement: docs/conversion.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.driver import load, opt
from nmc.ir.diagnostics import NmcError
from nmc.ir.module import Module
from nmc.passes.data import load_samples
from nmc.passes.quantize.budget import choose_in_steps
from nmc.runtime.reference import accuracy, float_logits, spiking_logits

Array = NDArray[Any]
HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "examples" / "models"
NETWORKS = {"mnist_mlp": 2000, "mnist_cnn": 500, "mnist_cnn_max": 500, "mnist_resnet": 500}
"""Networks and how many test images each classifies by default."""
STEPS = (4, 8, 16, 32)
LEVELS = (4, 8, 16)
KINDS = ("exact", "graded", "rate")
NEAR = 0.005
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
QUANTIZE = (
    "@fold, sum-pool, join-adds, max-pool, calibrate{{data={data}, limit={limit}, levels={levels}}},"
    " quantize{{data={data}, limit={limit}, levels={levels}}}"
)
SPIKES = {"exact": "spike-code{code=stbif, schedule=spread}", "graded": "spike-code{code=graded}"}
RATE = "@fold, calibrate{{data={data}, limit={limit}, levels={levels}}}, ann-to-snn"


@dataclass(frozen=True)
class Row:
    """What one conversion of a network does.

    Attributes
    ----------
    name : str
        Conversion.
    accuracy : dict
        Number of time steps -> share of images classified correctly, 0 to 1.
    seconds : dict
        Number of time steps -> CPU seconds of running all images that long.
    conversion_seconds : float
        CPU seconds from the float network to the spiking one.
    settled, settled_seconds : float or None
        Accuracy of the integer network that the spiking one settles at, if there is one, and CPU seconds of it.
    differ : dict
        Number of time steps -> images that are answered otherwise than by the float network.
    chosen : dict
        Number of time steps -> what was chosen for it.
    answers : dict
        Number of time steps -> the answer to each image.
    held : dict
        Number of time steps -> divergence from the float network on calibration images held out.
    """

    name: str
    accuracy: dict[int, float]
    seconds: dict[int, float]
    conversion_seconds: float
    settled: float | None = None
    settled_seconds: float | None = None
    differ: dict[int, int] = field(default_factory=dict)
    chosen: dict[int, str] = field(default_factory=dict)
    answers: dict[int, list[int]] = field(default_factory=dict)
    held: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, figures: dict[str, Any]) -> Row:
        """Make a row of a worker's JSON, whose keys are strings."""
        right, spent, differ, chosen, answers, held = (
            {int(t): v for t, v in figures.get(key, {}).items()}
            for key in ("accuracy", "seconds", "differ", "chosen", "answers", "held")
        )
        settled = figures.get("settled"), figures.get("settled_seconds")
        return cls(name, right, spent, figures["conversion_seconds"], *settled, differ, chosen, answers, held)


def chosen_of(rows: Sequence[Row], steps: Sequence[int]) -> Row:
    """For each number of steps what the recipe gives that comes nearest to the float network on images held out."""
    best = {t: min(rows, key=lambda row: row.held[t]) for t in steps}
    return Row(
        "spikingjelly chosen",
        {t: row.accuracy[t] for t, row in best.items()},
        {t: row.seconds[t] for t, row in best.items()},
        sum(row.conversion_seconds for row in rows),
        differ={t: row.differ[t] for t, row in best.items()},
        chosen={t: row.name for t, row in best.items()},
        answers={t: row.answers[t] for t, row in best.items()},
    )


def nmc_accuracy(
    model: Path,
    data: tuple[Array, Array],
    calib: tuple[Path, int],
    steps: Sequence[int],
    levels: int,
    floats: Array,
    *,
    kind: str = "exact",
) -> dict[str, Any]:
    """Convert a network with nmc and read it out after each number of steps.

    Parameters
    ----------
    model : Path
        Float ONNX file.
    data : tuple of ndarray
        Images (n, ...) float32 and labels (n,) int64.
    calib : tuple of Path and int
        Calibration file and how many of its images to use.
    steps : sequence of int
        Where to read out.
    levels : int
        Levels of activation; for the rate conversion, steps that calibration has in view.
    floats : ndarray
        The float network's answers (n,).
    kind : {"exact", "graded", "rate"}
        Which conversion.

    Returns
    -------
    dict
        ``accuracy``, ``seconds``, ``differ`` and ``answers`` by steps, ``conversion_seconds`` and, for the exact one,
        ``settled`` and ``settled_seconds``.
    """
    x, y = data
    begin = time.process_time()
    integers, network = converted(model, calib, levels, kind)
    figures: dict[str, Any] = {"conversion_seconds": time.process_time() - begin}
    if kind != "rate":
        begin = time.process_time()
        figures["settled"] = accuracy(spiking_logits(integers, x, 1), y)
        figures["settled_seconds"] = time.process_time() - begin
    return {**figures, **read_out(network, x, y, steps, floats)}


def budgeted(
    model: Path, data: tuple[Array, Array], calib: tuple[Path, int], steps: Sequence[int], floats: Array
) -> dict[str, Any]:
    """Convert for each number of steps with the levels, code and schedule that then come nearest to the float network.

    Chosen on the calibration images, without labels; the conversion seconds are those of all candidates and of running
    the calibration images, for all numbers of steps together.
    """
    begin = time.process_time()
    images, _ = load_samples(str(calib[0]), limit=calib[1])
    module = load(model)
    made = {count: choose_in_steps(module, images, count) for count in steps}
    figures: dict[str, Any] = {"accuracy": {}, "seconds": {}, "differ": {}, "answers": {}}
    figures["chosen"] = {count: str(budget.setting) for count, budget in made.items()}
    figures["conversion_seconds"] = time.process_time() - begin
    for count, budget in made.items():
        for key, found in read_out(budget.module, *data, [count], floats).items():
            figures[key] |= found
    return figures


def converted(model: Path, calib: tuple[Path, int], levels: int, kind: str) -> tuple[Module, Module]:
    """Return the integer network and its spiking one; the rate conversion has the second only, given twice."""
    text = RATE if kind == "rate" else QUANTIZE
    made = opt(load(model), text.format(data=json.dumps(str(calib[0])), limit=calib[1], levels=levels))
    return made, opt(made, SPIKES[kind]) if kind in SPIKES else made


def read_out(
    network: Module, x: Array, y: Array, steps: Sequence[int], floats: Array
) -> dict[str, dict[int, Any]]:
    """Run a spiking network for each number of steps; give answers, accuracy, seconds, what differs from `floats`."""
    figures: dict[str, dict[int, Any]] = {"accuracy": {}, "seconds": {}, "differ": {}, "answers": {}}
    spiking_logits(network, x[:1], 1)  # imports what is imported late
    for count in steps:
        begin = time.process_time()
        logits = spiking_logits(network, x, count)
        figures["seconds"][count] = time.process_time() - begin
        figures["accuracy"][count] = accuracy(logits, y)
        answers = logits.argmax(axis=1)
        figures["differ"][count] = int((answers != floats).sum())
        figures["answers"][count] = answers.tolist()
    return figures


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """Be the worker that measures nmc on one network."""
    x, y = load_samples(str(options.data), limit=options.limit)
    if y is None:
        raise SystemExit(f"{options.data} has no labels y")
    model = path_of(options.networks[0])
    logits = float_logits(load(model), x)
    floats = logits.argmax(axis=1)
    report: dict[str, Any] = {"float": accuracy(logits, y), "methods": {}, "refused": {}}
    calib = (options.calib, options.calib_count)
    converted(model, calib, 4, "exact")  # imports what is imported late
    report["methods"]["nmc for T"] = budgeted(model, (x, y), calib, options.steps, floats)
    for kind, levels in itertools.product(options.kinds, options.levels):
        name = f"nmc {kind} L={levels}"
        try:
            figures = nmc_accuracy(model, (x, y), calib, options.steps, levels, floats, kind=kind)
            report["methods"][name] = figures
        except NmcError as error:
            report["refused"][name] = "; ".join(f"{d.code} {d.message}" for d in error.diagnostics)
    return report


def path_of(network: str) -> Path:
    """The file of a network that is named, or given as a file."""
    return Path(network) if network.endswith(".onnx") else MODELS / f"{network}.onnx"


def work(command: Sequence[str | Path | int]) -> dict[str, Any]:
    """Run a worker in a fresh process of one thread; give its JSON.

    Raises
    ------
    SystemExit
        If it fails, with the end of what it said.
    """
    line = [str(part) for part in command]
    done = subprocess.run(line, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def measure(name: str, options: argparse.Namespace) -> tuple[float, list[Row], dict[str, str]]:
    """Measure one network; give its float accuracy, the rows and why nmc refused what it refused.

    Raises
    ------
    SystemExit
        If the peer's float network has another accuracy than ours.
    """
    limit = limit_of(name, options)
    same: list[str | Path | int] = [
        "--data",
        options.data,
        "--calib",
        options.calib,
        "--calib-count",
        options.calib_count,
    ]
    same += ["--limit", limit, "--steps", *options.steps]
    me: list[str | Path | int] = [
        sys.executable,
        Path(__file__).resolve(),
        "--worker",
        "--networks",
        name,
    ]
    mine = work([*me, "--kinds", *options.kinds, "--levels", *options.levels, *same])
    rows = [Row.of(method, figures) for method, figures in mine["methods"].items()]
    if options.peer_python:
        script = HERE / "peers_spikingjelly.py"
        command = [options.peer_python, script, "--model", path_of(name), *same]
        peer = kept(options.peer_results, name, lambda: work(command))
        if peer["float"]["onnxruntime"] != mine["float"]:
            raise SystemExit(f"{name}: float accuracy {peer['float']} there, {mine['float']} here")
        recipes = [Row.of(f"spikingjelly {method}", figures) for method, figures in peer["methods"].items()]
        rows += [*recipes, chosen_of(recipes, options.steps)]
    return mine["float"], rows, mine["refused"]


def kept(folder: Path | None, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier run of a peer gave; without it, run and write it where a folder is given."""
    if folder is None:
        return run()
    file = folder / f"{Path(name).stem}.json"
    if not file.exists():
        file.write_text(json.dumps(run()))
    report: dict[str, Any] = json.loads(file.read_text())
    return report


def limit_of(name: str, options: argparse.Namespace) -> int:
    """How many test images a network classifies."""
    return int(options.limit or NETWORKS.get(name, 500))


def steps_to_float(row: Row, floats: float) -> int | None:
    """Return from which of the measured T on the accuracy stays within `NEAR` of the float network's."""
    least = None
    for steps in sorted(row.accuracy, reverse=True):
        if row.accuracy[steps] < floats - NEAR - 1e-9:
            break
        least = steps
    return least


def table(floats: float, rows: Sequence[Row], steps: Sequence[int]) -> str:
    """Return the table of one network; the ratios are to the first row."""
    times, longest = sorted(steps), max(steps)
    heads = [f"{'':<22}", *(f"{f'% {t}':>6}" for t in times), *(f"{f'd {t}':>6}" for t in times)]
    heads.append(f"{'settled':>8}{'its s':>6}")
    heads += [
        *(f"{f's {t}':>5}" for t in times),
        f"{'conv s':>7}{'steps':>6}{'x steps':>8}{'x s':>6}{'x there':>8}",
    ]
    base = rows[0]
    first = steps_to_float(base, floats)
    lines = ["".join(heads)]
    for row in rows:
        need = steps_to_float(row, floats)
        cells = [f"{row.name:<22}", *(f"{100 * row.accuracy[t]:>6.2f}" for t in times)]
        cells += [f"{row.differ[t]:>6}" for t in times]
        if row.settled is None:
            cells.append(f"{'-':>8}{'-':>6}")
        else:
            cells.append(f"{100 * row.settled:>8.2f}{row.settled_seconds:>6.2f}")
        cells += [
            *(f"{row.seconds[t]:>5.2f}" for t in times),
            f"{row.conversion_seconds:>7.2f}{need or '-':>6}",
        ]
        there = ("-", "-")
        if need and first:
            there = (f"{need / first:.2f}", f"{row.seconds[need] / base.seconds[first]:.2f}")
        longer = row.seconds[longest] / base.seconds[longest]
        lines.append("".join([*cells, f"{there[0]:>8}{longer:>6.2f}{there[1]:>8}"]))
    return "\n".join(lines)


def mcnemar(first: Array, other: Array) -> tuple[int, int, float]:
    """Images that only the one answers rightly, only the other, and the two-sided exact probability of the split."""
    only, others = int((first & ~other).sum()), int((other & ~first).sum())
    total, ways, tail = only + others, 1, 0
    for count in range(min(only, others) + 1):
        tail += ways
        ways = ways * (total - count) // (count + 1)
    return only, others, min(1.0, 2 * tail / 2**total) if total else 1.0


def pairs(rows: Sequence[Row], labels: Array, steps: Sequence[int]) -> str:
    """Return the paired comparison of each row with the first one."""
    heads = [f"{'':<22}", *(f"{f'b:c p {t}':>18}" for t in sorted(steps))]
    lines = ["".join(heads)]
    right = [{t: np.array(row.answers[t]) == labels for t in steps} for row in rows]
    for row, mine in zip(rows[1:], right[1:], strict=True):
        cells = [f"{row.name:<22}"]
        for t in sorted(steps):
            only, others, chance = mcnemar(right[0][t], mine[t])
            cells.append(f"{f'{only}:{others} {chance:.2g}':>18}")
        lines.append("".join(cells))
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(
        description="Accuracy and CPU time of converted networks, nmc and SpikingJelly"
    )
    parser.add_argument("--data", type=Path, required=True, help=".npz with x and y: test images")
    parser.add_argument("--calib", type=Path, required=True, help=".npz with x: calibration images")
    text = f"ONNX files, or names of those in examples/models (default: {', '.join(NETWORKS)})"
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), help=text)
    parser.add_argument(
        "--limit", type=int, default=0, help="test images; default 2,000 for mnist_mlp, else 500"
    )
    parser.add_argument("--calib-count", type=int, default=500, help="calibration images (default 500)")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument(
        "--levels", type=int, nargs="+", default=list(LEVELS), help="of activation, one conversion each"
    )
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="with fixed levels")
    parser.add_argument("--peer-python", default="", help="interpreter that has torch and SpikingJelly")
    text = "folder with NETWORK.json of earlier runs of SpikingJelly (same images and steps); missing ones are written"
    parser.add_argument("--peer-results", type=Path, help=text)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer_python and not shutil.which(options.peer_python):
        parser.error(f"no such interpreter: {options.peer_python}")
    if min(*options.steps, *options.levels, options.calib_count) < 1 or options.limit < 0:
        parser.error("steps, levels and images must be at least 1")
    return options


def main() -> None:
    """Print a table a network; with ``--worker``, be our own worker."""
    options = arguments()
    if options.worker:
        json.dump(ours(options), sys.stdout)
        return
    for name in options.networks:
        floats, rows, refused = measure(name, options)
        limit = limit_of(name, options)
        spread = (floats * (1 - floats) / limit) ** 0.5
        told = f"float {floats:.2%} (standard error {spread:.2%})"
        print(f"\n{name}: {limit} images, {told}, {options.calib_count} calibration images")
        if rows:
            print(table(floats, rows, options.steps), flush=True)
            _, labels = load_samples(str(options.data), limit=limit)
            assert labels is not None, "the workers have read them"
            print(pairs(rows, labels, options.steps), flush=True)
        for row in rows:
            for count, chosen in row.chosen.items():
                print(f"{row.name.removesuffix(' for T')}, T = {count}: {chosen}", flush=True)
        for method, reason in refused.items():
            print(f"{method} refused: {reason}", flush=True)


if __name__ == "__main__":
    main()
