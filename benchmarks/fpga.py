"""Area, clock and throughput of the FPGA core beside what others publish.

``python benchmarks/fpga.py`` places and routes two shapes for an ECP5-85k (minutes of CPU; kept in the user's cache),
simulates their RTL at 5 % activity, and prints the table of docs/fpga.md. Nothing was run on a board: a clock is
that of nextpnr after place and route, synaptic operations a clock are counted by the simulated core itself. Needs the
extra ``fpga`` and a C++ compiler. ``--seeds N`` routes with N seeds and takes the median clock.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

import numpy as np

from nmc.targets.fpga.devices import device
from nmc.targets.fpga.ops import Class
from nmc.targets.fpga.shape import Shape, class_fields
from nmc.targets.fpga.sim.rtl import RtlChip
from nmc.targets.fpga.synth import build, flow
from nmc.targets.fpga.words import Op, Register, Words, Writer, word

NEURONS, ACTIVITY, TICKS = 256, 0.05, 400
#: What an integrate-and-fire core needs: no probes, no convolutions, no group-sparse rows, no signed spikes.
_PLAIN = {
    "lanes": 4, "neurons": NEURONS, "axons": NEURONS, "vb": 18, "counter": 1, "classes": 2, "geometries": 2,
    "sparse": False, "conv": False, "stbif": False, "late": False, "windows": False, "probes": False,
}  # fmt: skip
SHAPES = {
    "nmc, 1 core x 4 lanes, 256 x 256 x 8 bits": Shape(**_PLAIN),
    "nmc, 4 cores x 4 lanes, 4 x 256 x 256 x 8 bits, routed spikes": Shape(cores=4, **_PLAIN),
}
#: Design -> LUTs, flip-flops, block RAMs, multipliers, MHz, peak GSOP/s, source.
PUBLISHED = {
    "NeuroCoreX (90 neurons, Artix-7, Vivado)": (
        "6,981", "11,175", "30.5 (36 kbit)", "8", "100", "0.019 at most",
        "ORNL/NeuroCoreX a688f2c, impl_1 reports; rate from its sources: 2 x 96 adds a slot of 1,000 clocks",
    ),
    "tinyODIN (256 neurons, same flow)": (
        "2,981", "1,810", "17", "-", "37.5", "0.019",
        "ChFrenkel/tinyODIN 1865653 with yosys 0.70 and nextpnr-ecp5 0.11: 2 clocks a neuron (its doc)",
    ),
    "ODIN (256 neurons, 28 nm chip; same flow: synthesis only)": (
        "11,150 LUT4 + 681 CCU2C", "4,513", "20", "-", "75 (chip, from memory)", "0.0375",
        "ChFrenkel/ODIN 1781931, doc 2.2.1: 512 clocks for 256 synapses",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Throughput:
    """What the simulated core counts: clocks and synaptic operations, all cores together."""

    cycles: int
    operations: int

    @property
    def each(self) -> float:
        """Synaptic operations a clock."""
        return self.operations / self.cycles


def configured(shape: Shape, seed: int = 0) -> Writer:
    """Dense random weights; neurons that fire every 20 ticks by themselves, each in a phase of its own."""
    rng, writer = np.random.default_rng(seed), Writer(shape)
    period = round(1 / ACTIVITY)
    neuron = Class(theta=period * 1000, bias=1000, keep=4096, reset=1)
    table = {item.name: np.array([getattr(neuron, item.name)]) for item in class_fields(shape)}
    zero, groups = np.zeros(1, np.int64), shape.groups
    for core in range(shape.cores):
        weights = rng.integers(-128, 128, (shape.axons * groups, shape.lanes)) // 16
        writer.memory("weights", {"w": weights}, core=core)
        names = [item.name for item in shape.memories["axons"].fields]
        axons = {name: np.zeros(shape.axons, np.int64) for name in names}
        axons |= {"base": np.arange(shape.axons) * groups, "ny": axons["ny"] + 1}
        writer.memory("axons", axons, core=core)
        entry = {item.name: zero for item in shape.memories["geometry"].fields}
        writer.memory("geometry", {**entry, "len": zero + groups - 1}, core=core)
        writer.memory("classes", table, core=core)
        writer.memory("params", {"class": np.zeros(groups, np.int64)}, core=core)
    return writer


def routed(writer: Writer, seed: int = 0, *, even: bool = False) -> None:
    """Each neuron sends to one axon of the next core, and begins in a phase of its own.

    Phases are drawn at random, so that in each tick some core has more events than the others, which wait for it; or
    (`even`) they are dealt out, and each core has one twentieth of its neurons firing in every tick.
    """
    shape, rng = writer.shape, np.random.default_rng(seed)
    each = np.arange(shape.neurons)
    cores = np.repeat(np.arange(shape.cores), shape.neurons)
    axons = np.concatenate([rng.permutation(shape.neurons) for _ in range(shape.cores)])
    writer.memory("targets", {"axon": axons, "core": (cores + 1) % shape.cores, "delay": 0 * axons})
    for core in range(shape.cores):
        base = core * shape.neurons + each
        writer.memory("pointers", {"base": base, "count": 0 * each + 1, "host": 0 * each}, core=core)
    writer.put(word(Op.CLR, 1))
    for core in range(shape.cores):
        phase = rng.integers(0, round(1 / ACTIVITY), (shape.groups, shape.lanes)) * 1000
        if even:
            phase = rng.permutation(each % round(1 / ACTIVITY)).reshape(phase.shape) * 1000
        writer.memory("state", {"v": phase, "c": 0 * phase}, core=core)


def stimulus(writer: Writer, ticks: int, seed: int = 1) -> None:
    """Events of the host on 5 % of the axons a tick."""
    rng = np.random.default_rng(seed)
    writer.put(word(Op.CLR, 1))
    for _ in range(ticks):
        axons = np.flatnonzero(rng.random(writer.shape.axons) < ACTIVITY)
        writer.spikes(0 * axons, axons, 0 * axons + 1)
        writer.put(word(Op.TICK, 1))


def simulated(shape: Shape, ticks: int = TICKS, *, even: bool = False) -> Throughput:
    """Run a shape at 5 % activity: events from the host for one core, routed spikes for several."""
    writer, chip = configured(shape), RtlChip(shape)
    writer.register(Register.REPORT, 0)
    if shape.cores == 1:
        stimulus(writer, ticks)
    else:
        routed(writer, even=even)
        chip.run(writer.body())
        writer = Writer(shape)  # what loading takes does not count
        writer.put(word(Op.TICK, ticks))
    before = counters(chip) if shape.cores > 1 else (0, 0)
    chip.run(writer.body())
    cycles, walks = (now - then for now, then in zip(counters(chip), before, strict=True))
    return Throughput(cycles, walks * shape.lanes)


def counters(chip: RtlChip) -> tuple[int, int]:
    """Clocks in which the core had work, and rows that were walked."""
    asked = [
        word(Op.REG_READ, int(item) << 24) for item in (Register.CYCLES, Register.WALKS, Register.ERRORS)
    ]
    answers: Words = chip.run(np.array(asked, np.uint32))
    cycles, walks, errors = (int(value) for value in answers[1::2])
    assert errors == 0, f"the core reports errors {errors:#x}"
    return cycles, walks


def rows(seeds: int) -> list[tuple[str, ...]]:
    """Our rows of the table."""
    made = []
    for name, shape in SHAPES.items():
        found = [
            build.routed_shape(flow.Design(shape, device("ecp5-85k"), seed=seed))[0].figures
            for seed in range(1, seeds + 1)
        ]
        clock, first = median(item.megahertz for item in found), found[0]
        peak = shape.cores * shape.lanes * clock / 1000
        flow_of = simulated(shape)
        note = f"{flow_of.each:.2f} SOP/clock at 5 %: {flow_of.each * clock / 1000:.2f} GSOP/s sustained"
        if shape.cores > 1:
            spread = simulated(shape, even=True).each
            note += f"; with phases dealt out evenly {spread:.2f}: {spread * clock / 1000:.2f} GSOP/s"
        made.append((
            name, f"{first.luts:,}", f"{first.flip_flops:,}", str(first.block_rams), str(first.multipliers),
            f"{clock:.1f}", f"{peak:.2f}", note,
        ))  # fmt: skip
    return made


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The FPGA core beside what others publish.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--simulate-only", action="store_true", help="no place and route")
    args = parser.parse_args()
    if args.simulate_only:
        for name, shape in SHAPES.items():
            found = simulated(shape)
            print(f"{name}: {found.operations:,} SOP in {found.cycles:,} clocks, {found.each:.2f} a clock")
            if shape.cores > 1:
                found = simulated(shape, even=True)
                print(f"  phases dealt out evenly: {found.operations:,} SOP, {found.each:.2f} a clock")
        return
    head = ("design", "LUTs", "flip-flops", "block RAMs", "multipliers", "MHz", "peak GSOP/s", "from")
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in [*rows(args.seeds), *((name, *entry) for name, entry in PUBLISHED.items())]:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
