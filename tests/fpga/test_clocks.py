"""The clocks that the model of time tells are those that the registers of the simulated RTL count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nmc.targets.fpga.shape import Shape, class_fields
from nmc.targets.fpga.sim.rtl import RtlChip
from nmc.targets.fpga.sizing import sample_clocks
from nmc.targets.fpga.target import chip_data
from nmc.targets.fpga.words import Op, Register, Writer, word

TICKS = 20
SHAPE = Shape(
    lanes=1, neurons=8, axons=16, vb=12, queue=16, targets=16, classes=2, geometries=2, sparse=False, conv=False,
    probes=False, windows=False, late=False, stbif=False,
)  # fmt: skip


def clocks(chip: RtlChip, events: int) -> float:
    """Clocks of a tick with so many events, as the chip's own register counts them."""
    found = []
    for ticks in (TICKS, 2 * TICKS):
        writer = Writer(chip.shape)
        writer.put(word(Op.CLR, 1))
        for _ in range(ticks):
            writer.spikes(np.zeros(events, np.int64), np.arange(events), np.ones(events, np.int64))
            writer.put(word(Op.TICK, 1))
        writer.put(word(Op.REG_READ, int(Register.CYCLES) << 24))
        found.append(int(chip.run(writer.body())[-1]))
    return (found[1] - found[0]) / TICKS


def loaded(rows: Sequence[int]) -> RtlChip:
    """A chip whose axons walk so many rows each."""
    chip, writer = RtlChip(SHAPE, level="-O0"), Writer(SHAPE)
    writer.register(Register.REPORT, 0)
    zero = np.zeros(SHAPE.axons, np.int64)
    names = [item.name for item in SHAPE.memories["axons"].fields]
    geometries = np.arange(SHAPE.geometries)
    axons = dict.fromkeys(names, zero) | {"ny": zero + 1, "geo": np.resize(geometries, SHAPE.axons)}
    writer.memory("axons", axons)
    writer.memory("geometry", {"len": np.array(rows) - 1})
    classes = {item.name: zero[: SHAPE.classes] for item in class_fields(SHAPE)}
    writer.memory("classes", classes | {"theta": classes["theta"] + 1000})
    chip.run(writer.body())
    return chip


@pytest.mark.usefixtures("verilator")
@pytest.mark.parametrize(
    ("rows", "share"), [((8, 8), 0.0), ((5, 7), 0.0), ((4, 4), 0.0), ((2, 2), 0.05), ((2, 8), 0.15)]
)
def test_clocks_of_a_tick_are_those_that_the_chip_counts(rows: tuple[int, int], share: float) -> None:
    """Where some events walk fewer rows than they take clocks, the sum of rows tells a little too few."""
    chip = loaded(rows)
    for events in (2, 4, 10, 16):
        told = sample_clocks(SHAPE, events, events * sum(rows) / 2, 1)
        assert clocks(chip, events) == pytest.approx(told, rel=share), events
    silent = int(chip_data()["timing"]["tick"]["value"])
    assert clocks(chip, 0) == SHAPE.groups + silent
