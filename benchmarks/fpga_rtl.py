"""RTL simulation from Python beside a native program of the same Verilated model, on the same words.

``python benchmarks/fpga_rtl.py [--ticks N] [--repeat N]``

The native side is ``targets/fpga/sim/shim.cpp`` with a ``main`` of its own (``-DMAIN``): it reads a file of words,
drives the model clock by clock, and writes the answers, without Python. Both sides are compiled by the same compiler
with the same options from the same model, run in turn, and give the same answers, which is checked. CPU seconds (user
and system) are those of the kernel: of the child for the native program, less what it takes to start and do nothing,
and of this process around the call. The fewest of all repetitions count. Synaptic operations are those that the core
itself counts. Needs Verilator or Yosys, and a C++ compiler.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fpga import SHAPES, configured, counters, routed, stimulus

from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import Simulator, build, simulators
from nmc.targets.fpga.sim.rtl import RtlChip
from nmc.targets.fpga.words import Op, Register, Words, header, word


@dataclass(frozen=True)
class Speeds:
    """What one shape took: clocks and synaptic operations of a run, CPU seconds of each side."""

    cycles: int
    operations: int
    native: float
    whole: float
    ticks: float


def work(shape: Shape, ticks: int) -> Words:
    """Words of a whole run, header in front: weights, then events and ticks at 5 % activity."""
    writer = configured(shape)
    writer.register(Register.REPORT, 0)
    if shape.cores == 1:
        stimulus(writer, ticks)
    else:
        routed(writer)
        writer.put(word(Op.TICK, ticks))
    body = writer.body()
    return np.concatenate([header(shape, len(body)), body])


def native(program: Path, words: Words) -> tuple[float, bytes]:
    """CPU seconds of the native program, its start included, and its answers."""
    with tempfile.TemporaryDirectory() as name:
        given, taken = Path(name) / "in", Path(name) / "out"
        words.tofile(given)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([program, given, taken], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return spent, taken.read_bytes()


def called(shape: Shape, simulator: Simulator, words: Words) -> tuple[float, RtlChip, bytes]:
    """CPU seconds of this process for one call with all words, the chip, and its answers."""
    chip = RtlChip(shape, simulator)
    begin = time.process_time()
    answers = chip.raw(words)
    return time.process_time() - begin, chip, answers.tobytes()


def by_ticks(shape: Shape, simulator: Simulator, words: Words) -> float:
    """CPU seconds of this process for one call a tick (one core only: its ticks are single words)."""
    ticks = np.flatnonzero(words == word(Op.TICK, 1)) + 1
    chip = RtlChip(shape, simulator)
    begin = time.process_time()
    for part in np.split(words, ticks):
        chip.raw(part)
    return time.process_time() - begin


def measured(shape: Shape, simulator: Simulator, ticks: int, repeat: int) -> Speeds:
    """Run both sides in turn; their answers must be the same."""
    words = work(shape, ticks)
    program = build(shape, simulator, program=True)
    rows, nothing = [], header(shape, 0)
    for _ in range(repeat):
        start, _ = native(program, nothing)
        alone, want = native(program, words)
        whole, chip, have = called(shape, simulator, words)
        assert want == have, "the native program and the library answer differently"
        rows.append(
            (alone - start, whole, by_ticks(shape, simulator, words) if shape.cores == 1 else float("nan"))
        )
    cycles, (_, walks) = chip.cycles, counters(chip)
    return Speeds(cycles, walks * shape.lanes, *(min(column) for column in zip(*rows, strict=True)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="RTL simulation from Python beside a native program.")
    parser.add_argument("--ticks", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--simulator", choices=("verilator", "cxxrtl"), default=simulators()[0])
    args = parser.parse_args()
    for name, shape in SHAPES.items():
        found = measured(shape, args.simulator, args.ticks, args.repeat)
        print(
            f"{name} ({args.simulator}): {found.cycles:,} clocks, {found.operations:,} synaptic operations\n"
            f"  native program      {found.native:6.2f} CPU s, {found.cycles / found.native / 1e3:7,.0f} kclocks/s, "
            f"{found.operations / found.native / 1e6:5.1f} MSOP/s\n"
            f"  Python, one call    {found.whole:6.2f} CPU s, {found.cycles / found.whole / 1e3:7,.0f} kclocks/s, "
            f"{found.operations / found.whole / 1e6:5.1f} MSOP/s: {100 * found.native / found.whole:.0f} % of native"
        )
        if shape.cores == 1:
            print(
                f"  Python, call a tick {found.ticks:6.2f} CPU s: {100 * found.native / found.ticks:.0f} % of native",
                flush=True,
            )


if __name__ == "__main__":
    main()
