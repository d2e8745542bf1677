"""Random programs for the FPGA core: every memory, every field, every instruction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.targets.fpga.packing import span
from nmc.targets.fpga.shape import Memory, Shape
from nmc.targets.fpga.words import Op, Register, Words, Writer, word

Array = NDArray[Any]
Rng = np.random.Generator


def fields(rng: Rng, memory: Memory, rows: int | None = None) -> dict[str, Array]:
    """Random values in all bits of a memory."""
    count = memory.rows if rows is None else rows
    return {
        item.name: rng.integers(*span(item), size=(count, item.count), endpoint=True)
        for item in memory.fields
    }


def class_fields(rng: Rng, shape: Shape) -> dict[str, Array]:
    """Classes of all kinds that fire often."""
    memory = shape.memories["classes"]
    found = fields(rng, memory)
    rows, top = shape.classes, 1 << (shape.vb - 1)
    found["theta"] = rng.integers(0, min(top, 400), (rows, 1))
    found["bias"] = np.where(rng.random((rows, 1)) < 0.5, 0, rng.integers(-60, 60, (rows, 1))).clip(
        -top, top - 1
    )
    found["v_reset"] = rng.integers(-40, 40, (rows, 1))
    for name in ("keep", "keep_i"):
        spread = np.where(rng.random((rows, 1)) < 0.4, 4096, rng.integers(0, 4097, (rows, 1)))
        found[name] = spread if shape.leak != "shift" else rng.integers(0, 8, (rows, 1))
    found["limit"] = rng.integers(0, min(6, 1 << shape.counter), (rows, 1))
    found["open"] = np.where(rng.random((rows, 1)) < 0.7, 0, rng.integers(0, 6, (rows, 1)))
    found["close"] = np.where(rng.random((rows, 1)) < 0.7, 0xFFFF, rng.integers(0, 12, (rows, 1)))
    return {item.name: found[item.name] for item in memory.fields}


def configure(rng: Rng, shape: Shape, writer: Writer) -> None:
    """Fill all memories of all cores."""
    for core in range(shape.cores):
        for name in ("weights", "groups", "axons", "geometry", "params", "pointers", "state", "traces"):
            if name not in shape.memories:
                continue
            values = fields(rng, shape.memories[name])
            if name == "weights" and shape.weights == "ternary":
                values["w"] = values["w"].clip(-1)
            if name == "axons":
                values["ny"] = rng.integers(0, 4, values["ny"].shape)
                if shape.stdp:
                    values.update(_own_rows(shape, values))
            if name == "geometry" and shape.conv:
                values["nx"] = rng.integers(0, 3, values["nx"].shape)
            if name == "pointers":
                values["count"] = rng.integers(0, 4, values["count"].shape)
            if name == "traces":
                values["time"][:] = 0
            if name == "state" and shape.stdp:
                values["seen"][:] = 0
            if name == "params":
                _scale(values)
            writer.memory(name, values, core=core)
        writer.memory("classes", class_fields(rng, shape), core=core)
    targets = fields(rng, shape.memories["targets"])
    for name, limit in (("core", shape.cores), ("axon", shape.axons), ("delay", shape.delays)):
        targets[name] %= limit
    writer.memory("targets", targets)


def _scale(values: dict[str, Array]) -> None:
    """Own biases and thresholds that let neurons fire."""
    if "bias" in values:
        values["bias"] = values["bias"] % 97 - 48
    if "theta" in values:
        values["theta"] %= 300


def _own_rows(shape: Shape, axons: dict[str, Array]) -> dict[str, Array]:
    """Rows of learning axons are theirs alone: even axons learn, all have rows of their own."""
    number = np.arange(shape.axons)[:, None]
    one = np.ones_like(number)
    learn = 1 - number % 2
    return {
        "learn": learn, "base": number * shape.groups, "first": axons["first"], "sparse": one, "ny": one,
    }  # fmt: skip


def stimulus(rng: Rng, shape: Shape, writer: Writer, ticks: int, rate: float) -> None:
    """Random events, ticks and read-back."""
    half = 1 << (shape.payload_bits - 1)
    for _ in range(ticks):
        for core in range(shape.cores):
            axons = np.flatnonzero(rng.random(shape.axons) < rate)
            loads = rng.integers(-half, half, len(axons))
            writer.spikes(np.full(len(axons), core), axons, loads)
        writer.put(word(Op.TICK, int(rng.integers(1, 3))))
        if rng.random() < 0.2:
            first, last = rng.integers(0, shape.groups, 2)
            writer.put(
                word(Op.SEL, int(rng.integers(shape.cores))), word(Op.PROBE, int(first) << 12 | int(last))
            )
        if rng.random() < 0.1:
            writer.register(Register.GROUPS, int(rng.integers(1, shape.groups + 1)))
        if rng.random() < 0.1:
            writer.put(word(Op.RUN, 3))
    read_back(shape, writer)


def read_back(shape: Shape, writer: Writer) -> None:
    """Read all memories and registers."""
    for core in range(shape.cores):
        for name, memory in shape.memories.items():
            if name != "queue" and not (memory.shared and core):
                words = (
                    word(Op.SEL, core),
                    word(Op.MEM_ADDR, memory.space << 24),
                    word(Op.MEM_READ, memory.rows),
                )
                writer.put(*words)
    for item in Register:
        if item != Register.CYCLES:
            writer.put(word(Op.REG_READ, int(item) << 24))


def program(shape: Shape, seed: int, ticks: int = 12, rate: float = 0.1) -> Words:
    """A whole random program: configuration, CLR or not, stimulus, read-back."""
    rng = np.random.default_rng(seed)
    writer = Writer(shape)
    configure(rng, shape, writer)
    if shape.stdp:
        writer.register(Register.COST, int(rng.integers(1 << 16)))
        writer.register(Register.REACH, 5 << 12 | 4)
    if seed % 3:
        writer.put(word(Op.CLR, seed & 1))
    stimulus(rng, shape, writer, ticks, rate)
    if seed % 2:
        writer.put(word(Op.CLR, 0))
        stimulus(rng, shape, writer, 3, rate)
    return writer.body()
