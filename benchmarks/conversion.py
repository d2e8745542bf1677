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
- The others are SpikingJelly's recipes, in float32.

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

Measured 2026-11-28 on a shared machine of two cores that a dozen others used at the same time (seconds are CPU seconds
and differ by up to 2.2 times between runs, accuracies do not), with ``--peer-python`` a Python 3.11 that has torch and
SpikingJelly 2.0.0; ``--levels 8 --kinds exact``. Accuracies after T steps, and answers that differ from the float
network's. On the convolutional networks ahead of every recipe at every T but for two ties (mnist_cnn_max at T = 16 and
32). On the dense ones a recipe may have up to 9 more right ones of 10,000; no such lead is more than chance (p 0.12
and above), while nmc leads beyond chance over 2 or 3 recipes at T = 4 and 1 or 2 at T = 8. On 20,000 training images
that calibrated nothing nmc has 99.98 % of mnist_mlp at T = 4 (the best recipe 99.89, p = 0.0003; float all) and none
wrong from T = 8 on; of dev_mlp (float 98.58) 98.39, 98.54, 98.61, 98.59 against 98.46, 98.52, 98.62, 98.65.
mnist_resnet (1000, float 99.60): 99.30, 99.50, 99.60, 99.60 against 72.80, 97.50, 99.40, 99.50. Seconds, to the fastest
recipe: ahead on dense networks but for T = 4 of mnist_mlp (0.32 against 0.29); behind on dev_cnn at T = 4 and 8 (3.7,
7.0, 4.7, 7.1 against 1.6, 3.2, 6.5, 12.8), and at every T on mnist_resnet (1.4, 2.5, 5.5, 10.5 against 0.9, 1.8, 3.6,
7.2) and mnist_cnn_max (1.3, 2.7, 5.0, 9.2 against 0.5, 1.1, 2.2, 4.5). ::

    mnist_mlp: 10000 images, float 98.05%, 2000 calibration images
                              % 4    % 8   % 16   % 32    d 4    d 8   d 16   d 32
    nmc for T               98.05  98.04  98.02  98.02     34      5      6      6
    nmc exact L=8           97.80  97.95  97.95  97.95     92     48     48     48
    spikingjelly max        84.30  97.39  98.02  98.11   1535    172     66     24
    spikingjelly 99.9%      96.39  98.00  98.08  98.09    300     85     32     18
    spikingjelly channel    97.85  98.00  98.05  98.05     81     44     21     16
    spikingjelly balanced   97.90  98.06  98.08  98.03     80     44     26      8
    nmc for T = 4: bit-serial, 7 levels, burst
    nmc for T = 8: bit-serial, 127 levels, burst
    nmc for T = 16: bit-serial, 255 levels, burst
    nmc for T = 32: bit-serial, 255 levels, burst

    dev_mlp_float.onnx: 10000 images, float 97.76%, 2000 calibration images
                              % 4    % 8   % 16   % 32    d 4    d 8   d 16   d 32
    nmc for T               97.42  97.69  97.74  97.75     82     51     10      9
    nmc exact L=8           97.54  97.67  97.66  97.66    105     47     46     46
    spikingjelly max        55.41  96.65  97.76  97.80   4446    243     88     45
    spikingjelly 99.9%      88.52  97.45  97.72  97.75   1114    133     65     28
    spikingjelly channel    97.40  97.62  97.71  97.71    110     51     27     11
    spikingjelly balanced   97.47  97.69  97.75  97.80    104     42     36     18
    nmc for T = 4: stbif, 4 levels, burst
    nmc for T = 8: bit-serial, 7 levels, 15 in the second layer, burst
    nmc for T = 16: bit-serial, 127 levels, 255 in the second layer, burst
    nmc for T = 32: bit-serial, 255 levels, burst

    mnist_cnn_max: 1000 images, float 99.20%, 1000 calibration images
                              % 4    % 8   % 16   % 32    d 4    d 8   d 16   d 32
    nmc for T               99.10  99.20  99.30  99.30      5      0      1      1
    spikingjelly max        80.20  98.70  99.10  99.30    197      7      3      3
    spikingjelly 99.9%      94.60  98.90  99.30  99.10     52      5      1      3
    spikingjelly channel    98.20  98.40  99.00  98.80     15     12      4      6
    spikingjelly balanced   98.20  98.50  98.80  99.10     13     11      6      3
    nmc for T: stbif of T levels, spread

    mnist_cnn: 2000 images, float 99.45%, 1000 calibration images
                              % 4    % 8   % 16   % 32    d 4    d 8   d 16   d 32
    nmc for T               99.15  99.45  99.40  99.45      8      2      1      0
    nmc exact L=8           99.25  99.30  99.30  99.30     10      3      3      3
    spikingjelly max        10.50  10.45  32.90  94.15   1788   1789   1339    111
    spikingjelly 99.9%      10.45  10.45  48.00  90.60   1789   1789   1037    182
    spikingjelly channel    96.50  99.00  99.25  99.30     68     14      7      5
    spikingjelly balanced   98.85  99.20  99.30  99.35     14      7      3      2
    nmc for T: stbif of 4 and 8 levels, bit-serial of 31 and 255

    dev_cnn_float.onnx: 2000 images, float 98.70%, 1000 calibration images
                              % 4    % 8   % 16   % 32    d 4    d 8   d 16   d 32
    nmc for T               98.55  98.80  98.85  98.75     14      5      3      1
    nmc exact L=8           88.75  98.85  98.90  98.90    227      3      5      5
    spikingjelly max        12.20  10.90  65.20  91.85   1754   1780    689    152
    spikingjelly 99.9%      10.45  17.45  75.10  97.00   1789   1649    489     48
    spikingjelly channel    79.55  96.50  98.30  98.70    411     67     28     12
    spikingjelly balanced   92.85  98.25  98.35  98.60    141     23     20     10
    nmc for T: stbif of 4 and 8 levels, bit-serial of 31 and 255
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

    @classmethod
    def of(cls, name: str, figures: dict[str, Any]) -> Row:
        """Make a row of a worker's JSON, whose keys are strings."""
        right, spent, differ, chosen, answers = (
            {int(t): v for t, v in figures.get(key, {}).items()}
            for key in ("accuracy", "seconds", "differ", "chosen", "answers")
        )
        settled = figures.get("settled"), figures.get("settled_seconds")
        return cls(name, right, spent, figures["conversion_seconds"], *settled, differ, chosen, answers)


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
        rows += [Row.of(f"spikingjelly {method}", figures) for method, figures in peer["methods"].items()]
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
        for count, chosen in rows[0].chosen.items():
            print(f"nmc for T = {count}: {chosen}", flush=True)
        for method, reason in refused.items():
            print(f"{method} refused: {reason}", flush=True)


if __name__ == "__main__":
    main()
