"""Models and example programs on the FPGA core: differences between the ways to run them; every one must be 0.

``python benchmarks/fpga_equal.py [--samples 20] [--data mnist_test.npz --calib mnist_calib.npz] [--only WORD]``

A row is a network. Its columns: entries (spikes and membranes in every step, outputs) that were compared with the
reference interpreter; differences of the partitioned network, of the functional engine and of the simulated RTL; and
read-outs of trained networks that differ from those of their integer network. Without ``--data`` images are random,
and programs always take random spikes. ``tests/fpga/test_equal.py`` makes the same comparison in CI. Needs Verilator or
Yosys, and a C++ compiler.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.driver import CompileOptions, compile_model
from nmc.ir.ops import snn
from nmc.passes.data import fit_shape, load_samples
from nmc.passes.quantize.integer import run_integer
from nmc.program import Program
from nmc.runtime.verify import Stage, legal_part, random_samples, verify_program

Array = NDArray[Any]
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ENGINES = ("functional", "rtl")
MODELS = ("digits_mlp", "digits_cnn", "mnist_mlp", "mnist_cnn", "mnist_cnn_max")
#: Program -> params that keep it small, steps.
PROGRAMS: dict[str, tuple[dict[str, str], int]] = {
    "balanced": ({"N": "150", "rate": "40 kHz"}, 100), "liquid": ({}, 60), "mnist_mlp": ({}, 20),
    "nmnist_scnn": ({}, 4), "synfire": ({}, 60), "winner_take_all": ({}, 60), "xor": ({}, 4),
}  # fmt: skip
#: Programs with neurons that the core does not have (E0941): an adapting threshold, equations.
LAWLESS = ("adaptive_lif", "izhikevich")


@dataclass(frozen=True)
class Case:
    """What one network gave: the stages, and read-outs that differ from the integer network (None: it has none)."""

    stages: tuple[Stage, ...]
    logits: int | None = None

    @property
    def wrong(self) -> list[str]:
        """Stages that differ, and where first."""
        return [f"{item.name}: {item.where}" for item in self.stages if item.differing]


def model_case(name: str, count: int, data: str = "", calib: str = "") -> Case:
    """Run a model of the repository in exact mode."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "random.npz"
        size = 8 if name.startswith("digits") else 28
        rng = np.random.default_rng(1)
        np.savez(made, x=rng.random((64, 1, size, size)).astype(np.float32), y=rng.integers(0, 10, 64))
        real = bool(data) and size == 28
        x = load_samples(data if real else str(made))[0][:count]
        options = CompileOptions(target="fpga", calib=calib if real else str(made))
        program = compile_model(EXAMPLES / "models" / f"{name}.onnx", options)
    integer = program.integer
    assert integer is not None
    (entry,), (out,) = integer.of_type(snn.Input), integer.of_type(snn.Output)
    shaped = {entry.source: fit_shape(x, entry.shape)}
    want = run_integer(integer, shaped)[out.data.name] * out.scale
    logits = sum(int((program.run(x, raw=True, engine=name).logits != want).sum()) for name in ENGINES)
    return Case(tuple(verify_program(program, shaped, _steps(program), ENGINES)), logits)


def program_case(name: str, count: int) -> Case:
    """Run an example program on random spikes."""
    params, steps = PROGRAMS[name]
    options = CompileOptions(
        target="fpga", params=tuple(params.items()), freeze_plasticity=name == "balanced"
    )
    program = compile_model(EXAMPLES / "snn" / f"{name}.snn", options)
    data = random_samples(legal_part(program.module), steps, count)
    return Case(tuple(verify_program(program, data, steps, ENGINES)))


def _steps(program: Program) -> int:
    steps = program.module.attr("steps")
    assert isinstance(steps, int)
    return steps


def show(name: str, case: Case, seconds: float) -> bool:
    """Print a row; gives whether nothing differs."""
    first, *others = case.stages
    cells = [f"{name:24}", f"{first.spikes:12,}", f"{others[0].compared:14,}"]
    cells += [f"{item.differing:10,}" for item in others]
    cells.append(f"{'-' if case.logits is None else case.logits:>10}")
    print("  ".join([*cells, f"{seconds:8.1f}"]), flush=True)
    return not case.wrong and not case.logits


def main(words: Sequence[str] | None = None) -> int:
    """Print the table; 1 where something differs."""
    parser = argparse.ArgumentParser(
        description="Interpreter, functional engine and RTL on the same networks."
    )
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--data", default="", help="MNIST images (.npz); random ones without")
    parser.add_argument("--calib", default="", help="calibration images for --data (.npz)")
    parser.add_argument(
        "--only", default="", metavar="WORD", help="only networks with this word in their name"
    )
    args = parser.parse_args(words)
    heads = ("spikes", 12), ("compared", 14), ("mapped", 10), ("functional", 10), ("rtl", 10), ("logits", 10)
    print("  ".join([f"{'network':24}", *(f"{text:>{width}}" for text, width in heads), "   CPU s"]))
    fine = True
    for name in [item for item in MODELS if args.only in f"{item}.onnx"]:
        begin = time.process_time()
        case = model_case(name, args.samples, args.data, args.calib)
        fine &= show(f"{name}.onnx", case, time.process_time() - begin)
    for name in [item for item in PROGRAMS if args.only in f"{item}.snn"]:
        begin = time.process_time()
        case = program_case(name, args.samples)
        fine &= show(f"{name}.snn", case, time.process_time() - begin)
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
