"""The proof obligations of the exact mode on trained networks: every figure but the number of images must be 0.

``python benchmarks/proofs.py --data mnist_test.npz --calib mnist_calib.npz [--models FILE.onnx ...]``

Columns, one row a network (8 levels):

- ``onnx off``, ``onnx all``: (a) read-outs of the exported integer ONNX in onnxruntime, graph optimisation off and on,
  that differ from the integer network; all images of ``--data``, of the same bytes.
- ``time``, ``late``, ``lazy``: (b, c) read-outs and hidden counts at rest that differ, of ``--in-time`` images: signed
  spikes without delays; with random delays of 0 to 3 steps on every projection; with these and 40 % of all updates left
  out at random.
- ``bound``: (f) membranes beyond the bound that was proved for their population, in all these runs.
- a column a target: (d) read-outs of the compiled program on its emulator that differ from the integer network which
  that program holds, of ``--on-chip`` images.

Delays and updates are drawn from a fixed seed. `benchmarks/exact.py` has (e), streams.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.driver import CompileOptions, compile_model, integer_network, load, opt
from nmc.export.integer_onnx import integer_onnx
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.npz import read_npz
from nmc.ir.op import Op, State
from nmc.ir.ops import exact, snn
from nmc.passes.data import fit_shape, load_samples
from nmc.passes.quantize.integer import run_integer

Array = NDArray[Any]
TARGETS = ("loihi", "spinnaker2", "fpga")
MODELS = Path(__file__).resolve().parent.parent / "examples" / "models"
NETWORKS = ("mnist_mlp", "mnist_cnn", "mnist_cnn_max", "mnist_resnet")
BATCH = 250
#: More steps than any of these networks takes to rest with delays and missed updates.
MOST = 3000


@dataclass(frozen=True, kw_only=True)
class Lazy(exact.StBif):
    """A population that leaves out a share of its updates at random: what arrives is kept, nothing is sent."""

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Update some neurons only."""
        v = state["v"] + self._arrived(currents)
        awake = np.random.default_rng([7, t]).random(v.shape) >= 0.4
        fired = self._fire(v, state["c"]) * awake
        state["v"], state["c"] = v - fired * self.theta.array().astype(np.int64), state["c"] + fired
        return np.asarray(fired)


def delayed(op: Op, rng: np.random.Generator) -> Op:
    """A projection with a random longer delay; anything else as it is."""
    extra = int(rng.integers(0, 4))
    return replace(op, delay=op.delay + extra) if isinstance(op, snn.ProjectionOp) else op


def lazy(op: Op) -> Op:
    """A population of signed spikes that misses updates; anything else as it is."""
    if not isinstance(op, exact.StBif):
        return op
    names = ("out", "loc", "current", "theta", "offset", "levels", "start", "bound", "spread")
    return Lazy(**{name: getattr(op, name) for name in names})


@dataclass
class Watch:
    """Observer: the sum of each population's events is its count; membranes beyond their bound are counted."""

    counts: dict[str, Array]
    beyond: int = 0

    def __call__(self, t: int, op: Op, item: Array, state: State) -> None:
        """Add what an op sent, and look at its membranes."""
        if isinstance(op, exact.ExactNeuron):
            self.counts[op.out] = self.counts.get(op.out, 0) + item.astype(np.int64)
            self.beyond += int((np.abs(state["v"]) > op.bound).sum()) if "v" in state else 0


def in_time(integer: Module, coded: Module, x: Array) -> tuple[int, int]:
    """Differences at rest from the integer network, and membranes beyond their bound."""
    (entry,) = integer.of_type(snn.Input)
    names = [op.out for op in integer.of_type(exact.Graded)]
    wrong = beyond = 0
    for start in range(0, len(x), BATCH):
        data, watch = {entry.source: x[start : start + BATCH]}, Watch({})
        wanted = run_integer(integer, data, keep=names)
        found = run_snn(coded, data, MOST, recorder=watch, batch=BATCH, until_quiescent=True)
        wrong += sum(int((watch.counts[name] != wanted[name]).sum()) for name in names)
        for op in integer.of_type(snn.Output):
            wrong += int((np.rint(found.outputs[op.data.name] / op.scale) != wanted[op.data.name]).sum())
        beyond += watch.beyond
    return wrong, beyond


def onnx_runs(integer: Module, pixels: Array, expected: Array) -> list[int]:
    """Read-outs of onnxruntime that differ, at two levels of optimisation."""
    import onnxruntime as ort

    model, found = integer_onnx(integer), []
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        parts = [
            session.run(None, {name: pixels[start : start + BATCH]})[0]
            for start in range(0, len(pixels), BATCH)
        ]
        found.append(int((np.concatenate(parts) != expected).sum()))
    return found


def on_chip(model: Path, target: str, calib: Path, x: Array) -> int:
    """Read-outs of a compiled program that differ from its integer network."""
    program = compile_model(model, CompileOptions(target=target, calib=str(calib)))
    integer = program.integer
    assert integer is not None
    (entry,), (out,) = integer.of_type(snn.Input), integer.of_type(snn.Output)
    wanted = run_integer(integer, {entry.source: fit_shape(x, entry.shape)})[out.data.name]
    return int((program.run(x, raw=True).logits != wanted * out.scale).sum())


def row(model: Path, options: argparse.Namespace, pixels: Array, x: Array) -> list[str]:
    """What one network gives."""
    integer = integer_network(load(model), CompileOptions(target="spinnaker2", calib=str(options.calib)))
    (entry,), (out,) = integer.of_type(snn.Input), integer.of_type(snn.Output)
    shaped = fit_shape(x, entry.shape)
    expected = run_integer(integer, {entry.source: shaped})[out.data.name]
    cells: list[int] = onnx_runs(integer, pixels.reshape(len(x), *entry.shape), expected)
    signed, rng = opt(integer, "spike-code{code=stbif}"), np.random.default_rng(11)
    late = signed.map_ops(lambda op: delayed(op, rng))
    beyond = 0
    for coded in (signed, late, late.map_ops(lazy)):
        wrong, more = in_time(integer, coded, shaped[: options.in_time])
        cells, beyond = [*cells, wrong], beyond + more
    cells.append(beyond)
    cells += [on_chip(model, target, options.calib, x[: options.on_chip]) for target in options.targets]
    return [model.stem, *map(str, cells)]


def main() -> None:
    """Measure and print the table."""
    text: Callable[..., Any] = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=text)
    parser.add_argument("--data", type=Path, required=True, help="test images, uint8 (.npz)")
    parser.add_argument("--calib", type=Path, required=True, help="calibration images, uint8 (.npz)")
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[MODELS / f"{name}.onnx" for name in NETWORKS]
    )
    parser.add_argument("--in-time", type=int, default=1000, help="images that are run in time")
    parser.add_argument("--on-chip", type=int, default=100, help="images that emulators run")
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    options = parser.parse_args()
    x, _ = load_samples(str(options.data))
    pixels = read_npz(options.data)["x"]
    heads = ["network", "onnx off", "onnx all", "time", "late", "lazy", "bound", *options.targets]
    print("  ".join(head.rjust(10 if index else 24) for index, head in enumerate(heads)), flush=True)
    for model in options.models:
        cells = row(model, options, pixels, x)
        print("  ".join(cell.rjust(10 if index else 24) for index, cell in enumerate(cells)), flush=True)


if __name__ == "__main__":
    main()
