"""What early answers cost and save on every target, beside the least that a chip's pipeline allows.

``python benchmarks/early_exit.py --data mnist_test.npz --calib mnist_calib.npz [--models FILE.onnx ...]``

Without ``--models`` the four MNIST networks of ``examples/models``. Each is compiled with ``--early-exit``: margins are
found on ``--calib``, then answers are taken on ``--data``. Accuracy and steps are those of the reference interpreter on
the compiled module, which chips equal bit for bit; on ``--on-chip`` images the target's fast engine is run beside it.

Columns, one row a network and target:

- ``code``: how counts travel. ``T``: steps of a run that is not ended early.
- ``first``: the first step after which the outputs hold anything, which no rule can go below: a step a layer, and with
  ``phased-if`` the windows of all layers but the last. Seen on the chip.
- ``end %``: accuracy at the end (the integer network's). ``exit %``, ``lost``: with early answers, and the difference.
- ``mean T``: steps to the answer, all of the chip's included. ``settle``: of these the steps that the network takes
  (mean T - first + 1). ``L/2``: what is aimed at.
- ``chip``: images of ``--on-chip`` whose answer or step of answer differs between engine and interpreter, promised 0.
- ``s``: CPU seconds of the compilation and of the measurement.

Measured 2026-11-28 at 8 levels (L/2 = 4), MNIST test images: 10,000 for dev_mlp, the first 2,000 for the others. ::

          network      target       code   T  first   end%  exit%  lost  meanT  settle  chip
    dev_mlp_float  spinnaker2     graded   4      4  97.72  97.72  0.00   4.00    1.00     0
    dev_mlp_float        fpga      stbif  24      3  97.72  97.69  0.03   4.04    2.04     0
    dev_mlp_float       loihi  phased-if  32     25  97.67  97.53  0.14  26.23    2.23     0
    dev_cnn_float  spinnaker2     graded   5      5  98.80  98.80  0.00   5.00    1.00     0
    dev_cnn_float        fpga      stbif  32      4  98.80  98.65  0.15   6.77    3.77     0
    dev_cnn_float       loihi  phased-if  40     33  98.85  98.85  0.00  34.37    2.37     0
    mnist_cnn_max  spinnaker2     graded   7      7  99.20  99.20  0.00   7.00    1.00     0
    mnist_cnn_max        fpga      stbif  80     10  99.20  99.15  0.05  11.41    2.41     0
    mnist_cnn_max       loihi  phased-if  42     35  99.20  99.15  0.05  35.76    1.76     0
     mnist_resnet  spinnaker2     graded   9      9  99.40  99.40  0.00   9.00    1.00     0
     mnist_resnet        fpga      stbif  64      8  99.40  99.15  0.25  10.04    3.04     0
     mnist_resnet       loihi  phased-if  72     65  99.35  99.25  0.10  65.05    1.05     0
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.driver import CompileOptions, compile_model
from nmc.ir.interp import run_snn
from nmc.ir.ops import snn
from nmc.passes.data import fit_shape, load_samples
from nmc.passes.quantize.integer import run_integer
from nmc.program import Program
from nmc.runtime.early import rule_of

Array = NDArray[Any]
MODELS = Path(__file__).resolve().parent.parent / "examples" / "models"
NETWORKS = ("mnist_mlp", "mnist_cnn", "mnist_cnn_max", "mnist_resnet")
TARGETS = ("spinnaker2", "fpga", "loihi")
HEADS = (
    "network", "target", "code", "T", "first", "end %", "exit %", "lost", "mean T", "settle", "L/2", "chip", "s", "s",
)  # fmt: skip
#: Images that run at once; a batch ends when all of its images have their answers.
BATCH = 100


def answers(program: Program, x: Array) -> tuple[Array, Array]:
    """Classes and steps of early answers by the reference interpreter."""
    network = program.module.with_ops([op for op in program.module.ops if "snn" in op.belongs], level="snn")
    (entry,) = (op for op in network.of_type(snn.InputOp) if op.source)
    found = run_snn(network, {entry.source: fit_shape(x, entry.shape)}, program.steps, batch=BATCH)
    assert found.settled is not None
    return next(iter(found.outputs.values())).reshape(len(x), -1).argmax(axis=1), found.settled


def at_the_end(program: Program, x: Array) -> Array:
    """Classes by the integer network, which is what all chips give in the end."""
    assert program.integer is not None
    (entry,) = program.integer.of_type(snn.Input)
    parts = [
        next(iter(run_integer(program.integer, {entry.source: fit_shape(part, entry.shape)}).values()))
        for part in np.array_split(x, max(1, len(x) // BATCH))
    ]
    return np.concatenate(parts).reshape(len(x), -1).argmax(axis=1)


def on_chip(program: Program, x: Array, wanted: tuple[Array, Array]) -> tuple[int, int]:
    """Images on which the engine differs, and the first step after which outputs hold anything."""
    traces = program.run(x, raw=True, trace=True).result.traces
    steps, outputs = rule_of(program).take(traces)
    classes = next(iter(outputs.values())).reshape(len(x), -1).argmax(axis=1)
    trace = next(iter(traces.values())).reshape(len(x), program.steps, -1)
    changed = (trace != trace[:1, :1]).any(axis=(0, 2))
    return int(((steps != wanted[1]) | (classes != wanted[0])).sum()), 1 + int(changed.argmax())


def row(model: Path, target: str, data: tuple[Array, Array], options: argparse.Namespace) -> list[Any]:
    """Compile, take answers, compare."""
    x, y = data
    begin = time.process_time()
    given = CompileOptions(target=target, calib=str(options.calib), levels=options.levels, early_exit=True)
    program = compile_model(model, given)
    compiled = time.process_time()
    classes, steps = answers(program, x)
    end, early = (100 * float((found == y).mean()) for found in (at_the_end(program, x), classes))
    few = slice(0, options.on_chip)
    differ, first = on_chip(program, x[few], (classes[few], steps[few]))
    code = program.module.attr("spike_code")["code"]
    mean = float(steps.mean())
    return [
        model.stem, target, code, program.steps, first, end, early, end - early, mean, mean - first + 1,
        options.levels / 2, differ, compiled - begin, time.process_time() - compiled,
    ]  # fmt: skip


def text(item: Any) -> str:
    """A cell."""
    return f"{item:.2f}" if isinstance(item, float) else str(item)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="labelled test images (.npz)")
    parser.add_argument("--calib", type=Path, required=True, help="calibration images (.npz)")
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[MODELS / f"{name}.onnx" for name in NETWORKS]
    )
    parser.add_argument("--targets", nargs="*", choices=TARGETS, default=TARGETS)
    parser.add_argument("--levels", type=int, default=8)
    parser.add_argument("--images", type=int, default=2000, help="images of --data")
    parser.add_argument(
        "--on-chip", type=int, default=100, help="of these run on the target's fast engine too"
    )
    options = parser.parse_args()
    x, y = load_samples(str(options.data), limit=options.images)
    if y is None:
        raise SystemExit(f"{options.data} has no labels y")
    widths = [max(len(head), 6) for head in HEADS]
    widths[:3] = [max(len(model.stem) for model in options.models), 10, 9]
    print("  ".join(head.rjust(width) for head, width in zip(HEADS, widths, strict=True)))
    for model in options.models:
        for target in options.targets:
            cells = map(text, row(model, target, (x, y), options))
            print("  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)), flush=True)


if __name__ == "__main__":
    main()
