"""What the exact conversion promises, measured: accuracy, equality in time, early answers, streams.

``python benchmarks/exact.py --data mnist_test.npz --calib mnist_calib.npz [--models FILE.onnx ...]``

Without ``--models`` the four MNIST networks of ``examples/models``. Everything is computed by the reference
interpreter, no chip is involved. Seconds are comparable with ``OMP_NUM_THREADS=1``.

Columns of the first table, one row a network and number of levels:

- ``float``, ``integer``: accuracy on all images in % (the float network is the same in each row); ``s``: CPU seconds
  of the integer network (one step of ``snn.graded`` populations) for all of them.

Columns of the second table, for ``--in-time`` images, at 8 levels, one row a network and schedule of the input
(``snn.stbif`` neurons, all layers without delay):

- ``logits``, ``counts``: how many logits and how many hidden counts differ from the integer network; the promise is 0.
  The run ends when the network is at rest.
- ``rest``: steps until then, mean and most; ``bound``: what was proved before. ``spikes``: events a neuron and image.
- ``exit %`` and ``steps``: accuracy and mean steps when an answer is taken once it is clear, or at rest; the margin is
  found on the calibration images (`readout`). ``end %``: accuracy at rest, of the same images.

Columns of the third table: streams of two frames (`delta-stream`), in the second 5 % of the pixels have another random
value (``any``) or one that differs by up to 20 of 255 (``20``):

- ``logits``: how many of the second frame differ from a fresh run, promised 0. ``first``, ``second``: mean steps to
  rest. ``fewer``: how many times fewer spikes the second frame takes.

Measured 2026-11-22 on one thread of a shared AMD EPYC that others used at the same time, 62 CPU seconds in all. ::

          network  levels  float  integer     s
        mnist_mlp       4  98.05    97.85  0.08
        mnist_mlp       8  98.05    97.98  0.07
        mnist_mlp      16  98.05    98.08  0.07
        mnist_cnn       4  99.45    99.30  1.52
        mnist_cnn       8  99.45    99.43  1.50
        mnist_cnn      16  99.45    99.42  1.48
    mnist_cnn_max       4  99.35    99.06  2.06
    mnist_cnn_max       8  99.35    99.29  2.10
    mnist_cnn_max      16  99.35    99.33  1.80
     mnist_resnet       4  99.62    99.29  2.21
     mnist_resnet       8  99.62    99.52  2.35
     mnist_resnet      16  99.62    99.59  2.41

          network   input  logits  counts   rest  most  bound  spikes  end %  exit %  steps
        mnist_mlp   burst       0       0   7.32     8      8    1.12  98.10   97.90   1.76
        mnist_mlp  spread       0       0   8.00     8     15    1.12  98.10   97.90   1.54
        mnist_cnn   burst       0       0   9.57    11     22    1.08  99.40   99.10   7.57
        mnist_cnn  spread       0       0   9.22    10     29    0.98  99.40   99.10   4.83
    mnist_cnn_max   burst       0       0  10.12    12     22    0.92  99.20   99.20   4.70
    mnist_cnn_max  spread       0       0   9.03    10     29    0.94  99.20   99.20   1.65
     mnist_resnet   burst       0       0  10.55    13     50    1.65  99.50   99.50   5.65
     mnist_resnet  spread       0       0  10.18    12     57    1.51  99.50   99.40   3.83

          network  change  logits  first  second   fewer
        mnist_mlp     any       0   7.26    2.07    4.43
        mnist_mlp      20       0   7.26    1.00   73.71
        mnist_cnn     any       0   9.54    6.69    3.80
        mnist_cnn      20       0   9.54    1.03   99.22
    mnist_cnn_max     any       0  10.12    7.01    3.40
    mnist_cnn_max      20       0  10.12    1.01  105.19
     mnist_resnet     any       0  10.54    6.15    3.08
     mnist_resnet      20       0  10.54    1.80   39.45
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.driver import load, opt
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op, State
from nmc.ir.ops import exact, snn
from nmc.ir.rest import settle_bound
from nmc.passes.data import fit_shape, load_samples
from nmc.runtime.reference import accuracy, float_logits, spiking_logits

Array = NDArray[Any]
MODELS = Path(__file__).resolve().parent.parent / "examples" / "models"
NETWORKS = ("mnist_mlp", "mnist_cnn", "mnist_cnn_max", "mnist_resnet")
LEVELS = (4, 8, 16)
#: Images that run at once.
BATCH = 250
QUANTIZE = (
    "unroll, @fold, max-pool, sum-pool, fold-affine, join-adds, dead-code,"
    " calibrate{{data={data}, limit=500, levels={levels}}}, quantize{{data={data}, limit=500, levels={levels}}}"
)


@dataclass
class Counts:
    """Observer that sums up the events of each population: its counts in the end."""

    found: dict[str, Array]
    events: int = 0

    def __call__(self, t: int, op: Op, item: Array, state: State) -> None:
        """Add what an op sent."""
        if isinstance(op, exact.ExactNeuron):
            before = self.found.get(op.out)
            self.found[op.out] = item.astype(np.int64) if before is None else before + item
            self.events += int(np.count_nonzero(item))


@dataclass(frozen=True)
class Network:
    """An integer network with data."""

    name: str
    module: Module
    calib: Path
    x: Array
    y: Array

    def feed(self, images: Array) -> dict[str, Array]:
        """Images for the network's one input."""
        (entry,) = self.module.of_type(snn.Input)
        return {entry.source: fit_shape(images, entry.shape)}


def converted(model: Path, calib: Path, levels: int) -> Module:
    """The integer network of a model."""
    return opt(load(model), QUANTIZE.format(data=json.dumps(str(calib)), levels=levels))


def in_time(network: Network, schedule: str) -> list[Any]:
    """One row of the second table."""
    coded = opt(network.module, f"spike-code{{code=stbif, schedule={schedule}}}")
    rest: list[Any] = []
    wrong = counts = events = right = 0
    for start in range(0, len(network.x), BATCH):
        data = network.feed(network.x[start : start + BATCH])
        wanted, seen = Counts({}), Counts({})
        whole = run_snn(network.module, data, recorder=wanted, batch=BATCH)
        spiking = run_snn(coded, data, recorder=seen, batch=BATCH, until_quiescent=True)
        (name,) = whole.outputs
        wrong += int((whole.outputs[name] != spiking.outputs[name]).sum())
        counts += sum(int((wanted.found[key] != seen.found[key]).sum()) for key in wanted.found)
        right += int((spiking.outputs[name].argmax(axis=1) == network.y[start : start + BATCH]).sum())
        events, rest = events + seen.events, [*rest, spiking.settled]
    settled, neurons = (
        np.concatenate(rest),
        sum(op.result.type.size for op in coded.of_type(exact.ExactNeuron)),
    )
    early = early_exit(network, coded)
    each = events / neurons / len(network.x)
    return [
        network.name, schedule, wrong, counts, settled.mean(), int(settled.max()), settle_bound(coded), each,
        100 * right / len(network.x), *early,
    ]  # fmt: skip


def early_exit(network: Network, coded: Module) -> tuple[float, float]:
    """Accuracy in % and mean steps of early answers."""
    calib = json.dumps(str(network.calib))
    eager = opt(coded, f"readout{{early_exit=true, until_quiescent=true, data={calib}}}")
    found = run_snn(eager, network.feed(network.x))
    assert found.settled is not None
    logits = next(iter(found.outputs.values())).reshape(len(network.x), -1)
    return 100 * accuracy(logits, network.y), float(found.settled.mean())


def stream(network: Network, small: bool) -> list[Any]:
    """One row of the third table."""
    coded = opt(network.module, "spike-code{code=stbif, schedule=burst}, delta-stream")
    random = np.random.default_rng(0)
    (source, first), *_ = network.feed(network.x[:BATCH]).items()
    drawn = random.random(first.shape, np.float32)
    moved = np.clip(first + (2 * drawn - 1) * np.float32(20 / 255), 0, 1) if small else drawn
    second = np.where(random.random(first.shape) < 0.05, moved, first)
    both, one = Counts({}), Counts({})
    pair = run_snn(
        coded, {source: np.stack([first, second], axis=1)}, recorder=both, batch=BATCH, until_quiescent=True
    )
    run_snn(coded, {source: first[:, None]}, recorder=one, batch=BATCH, until_quiescent=True)
    fresh = run_snn(network.module, {source: second}, batch=BATCH)
    (name,) = fresh.outputs
    wrong = int((pair.outputs[name][:, 1] != fresh.outputs[name]).sum())
    assert pair.settled is not None
    steps = pair.settled.mean(axis=0)
    return [
        network.name,
        "20" if small else "any",
        wrong,
        steps[0],
        steps[1],
        one.events / max(both.events - one.events, 1),
    ]


def show(heads: tuple[str, ...], rows: list[list[Any]]) -> None:
    """Print a table."""
    cells = [
        list(heads),
        *([f"{item:.2f}" if isinstance(item, float) else str(item) for item in row] for row in rows),
    ]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads))]
    for row in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print(flush=True)


def main() -> None:
    """Measure and print the three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="labelled test images (.npz)")
    parser.add_argument("--calib", type=Path, required=True, help="calibration images (.npz)")
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[MODELS / f"{name}.onnx" for name in NETWORKS]
    )
    parser.add_argument("--in-time", type=int, default=1000, help="images that are run in time")
    options = parser.parse_args()
    x, y = load_samples(str(options.data))
    if y is None:
        raise SystemExit(f"{options.data} has no labels y")
    table: list[list[Any]] = []
    networks = []
    for model in options.models:
        floats = 100 * accuracy(float_logits(load(model), x), y)
        for levels in LEVELS:
            module = converted(model, options.calib, levels)
            begin = time.process_time()
            right = 100 * accuracy(spiking_logits(module, x, 1), y)
            table.append([model.stem, levels, floats, right, time.process_time() - begin])
            if levels == 8:
                few = x[: options.in_time], y[: options.in_time]
                networks.append(Network(model.stem, module, options.calib, *few))
    show(("network", "levels", "float", "integer", "s"), table)
    rows = [in_time(network, schedule) for network in networks for schedule in ("burst", "spread")]
    heads = (
        "network",
        "input",
        "logits",
        "counts",
        "rest",
        "most",
        "bound",
        "spikes",
        "end %",
        "exit %",
        "steps",
    )
    show(heads, rows)
    streams = [stream(network, small) for network in networks for small in (False, True)]
    show(("network", "change", "logits", "first", "second", "fewer"), streams)


if __name__ == "__main__":
    main()
