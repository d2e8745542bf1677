"""The bench of the FPGA core: random programs and directed corners, functional engine against simulated RTL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpga_programs import configure, program, read_back
from nmc.ir.diagnostics import NmcError
from nmc.targets.fpga.model import Chip
from nmc.targets.fpga.ops import FOREVER
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.sim.build import RTL
from nmc.targets.fpga.sim.rtl import RtlChip
from nmc.targets.fpga.words import Op, Register, Words, Writer, canonical, header, word

Array = NDArray[Any]

#: Shapes that have between them every feature, the narrow and the wide cases. ``full`` is the one of the mutants.
SHAPES: dict[str, dict[str, Any]] = {
    "full": {"cores": 2, "neurons": 64, "axons": 16, "lanes": 2, "vb": 12, "bias_bits": 9, "delays": 4, "queue": 1024,
             "targets": 64, "counter": 3, "fifo": 4, "payload_bits": 4, "cuba": True},
    "small": {"neurons": 32, "axons": 32, "lanes": 4, "vb": 16, "queue": 1024, "targets": 64},
    "shift": {"cores": 3, "neurons": 16, "axons": 16, "lanes": 2, "vb": 14, "theta_bits": 10, "weights": "int4",
              "leak": "shift", "delays": 2, "queue": 1024, "targets": 64, "counter": 4, "cuba": True},
    "plain": {"neurons": 16, "axons": 16, "lanes": 1, "vb": 18, "weights": "ternary", "leak": "none", "delays": 2,
              "queue": 512, "targets": 32, "sparse": False, "conv": False, "stbif": False, "probes": False,
              "classes": 4},
    "wide": {"cores": 2, "neurons": 64, "axons": 16, "lanes": 16, "vb": 32, "weights": "int2", "delays": 8,
             "queue": 2048, "targets": 64, "payload_bits": 8, "theta_bits": 12, "bias_bits": 12},
    "eight": {"neurons": 64, "axons": 64, "lanes": 8, "vb": 20, "weights": "int4", "queue": 1024, "targets": 128,
              "payload_bits": 3, "theta_bits": 14},
    "stdp": {"neurons": 16, "axons": 16, "lanes": 4, "vb": 16, "stdp": True, "queue": 512, "targets": 32,
             "weight_rows": 128, "delays": 2},
}  # fmt: skip

#: Enough for every program here, so that a damaged core cannot hang the tests.
MAX_CYCLES = 400_000

Program = tuple[str, Words, int]


def differs(shape: Shape, body: Words, chip: RtlChip, shake: int = 0, model: Chip | None = None) -> str:
    """How RTL and law differ on a program; empty when they agree."""
    want = canonical(shape, (model or Chip(shape)).run(body))
    try:
        got = canonical(shape, chip.run(body, shake=shake, max_cycles=MAX_CYCLES))
    except (NmcError, KeyError, ValueError) as error:
        return f"no answer: {error}"
    if want == got:
        return ""
    place = next((at for at, pair in enumerate(zip(want, got, strict=False)) if pair[0] != pair[1]), -1)
    return f"answer {place} of {len(want)}/{len(got)}: {want[place]} is {got[place]}"


def corners(shape: Shape) -> Iterator[Program]:
    """Directed programs: what random ones hardly reach."""
    makers: tuple[Callable[[Shape, Writer], None], ...] = (
        saturation, levels, full_queues, burst, hazards, wrong_words, asked_at_once,
    )  # fmt: skip
    for maker in makers:
        writer = Writer(shape)
        configure(np.random.default_rng(99), shape, writer)
        maker(shape, writer)
        read_back(shape, writer)
        yield maker.__name__, writer.body(), 0
        yield f"{maker.__name__}, interrupted", writer.body(), 12345


def bench(shape: Shape, seeds: int) -> Iterator[Program]:
    """Corners, then random programs, every second one with interrupted handshakes."""
    yield from corners(shape)
    for seed in range(seeds):
        yield f"random {seed}", program(shape, seed, ticks=8), seed * 7919 + 1 if seed % 2 else 0


def failures(shape: Shape, rtl: Path = RTL, *, seeds: int = 6, level: str = "-O1") -> Iterator[str]:
    """All programs of the bench that a core fails."""
    for name, body, shake in bench(shape, seeds):
        found = differs(shape, body, RtlChip(shape, rtl=rtl, level=level), shake)
        if found:
            yield f"{name}: {found}"


def _classes(shape: Shape, writer: Writer, **values: int) -> None:
    """All classes alike, on all cores."""
    names = [item.name for item in shape.memories["classes"].fields]
    given = {"theta": 1, "keep": 4096, "keep_i": 4096, "close": FOREVER, **values}
    columns = {name: np.full(shape.classes, given.get(name, 0)) for name in names}
    for core in range(shape.cores):
        writer.memory("classes", columns, core=core)


def _params(shape: Shape, writer: Writer, bias: int) -> None:
    """The same own bias for all neurons, class 0."""
    columns: dict[str, Array] = {"class": np.zeros(shape.groups, np.int64)}
    for name, value in (("bias", bias), ("theta", 1)):
        if any(item.name == name for item in shape.memories["params"].fields):
            columns[name] = np.full((shape.groups, shape.lanes), value)
    for core in range(shape.cores):
        writer.memory("params", columns, core=core)


def saturation(shape: Shape, writer: Writer) -> None:
    """Membranes are driven into both ends of their range."""
    big = 1 << (shape.vb - 2)
    limit = (1 << (shape.bias_bits - 1)) - 1 if shape.bias_bits else big
    for sign in (1, -1):
        _classes(shape, writer, bias=sign * big, close=0)
        _params(shape, writer, sign * min(big, limit))
        writer.put(word(Op.CLR, 1), word(Op.TICK, 3), word(Op.SEL, 0), word(Op.MEM_ADDR, 6 << 24))
        writer.put(
            word(Op.MEM_READ, shape.groups), word(Op.TICK, 9), word(Op.REG_READ, int(Register.ERRORS) << 24)
        )


def levels(shape: Shape, writer: Writer) -> None:
    """Signed neurons are driven up to their last level and down to none, and each kind of reset is seen."""
    kinds: tuple[dict[str, int], ...] = (
        {"signed": 1, "limit": 2}, {"reset": 1}, {"reset": 2, "v_reset": -3, "limit": 1}, {"reset": 1, "late": 1},
        {"reset": 1, "strict": 1},
    )  # fmt: skip
    for values in kinds:
        # with a step of 1 the threshold 1 is met exactly
        for bias in (1, 5, -5):
            _classes(shape, writer, theta=1, bias=bias, **values)
            _params(shape, writer, bias)
            if bias > 0:
                writer.put(word(Op.CLR, 1))
            for _ in range(6):
                writer.put(
                    word(Op.TICK, 1), word(Op.SEL, 0), word(Op.MEM_ADDR, 6 << 24), word(Op.MEM_READ, 2)
                )


def full_queues(shape: Shape, writer: Writer) -> None:
    """More events for one core than its queue holds, each with a long row; then more spikes than the wheel holds."""
    axons = np.zeros(4 * shape.fifo, np.int64)
    for core in range(shape.cores):
        writer.spikes(np.full(len(axons), core), axons, np.ones(len(axons)))
    writer.put(word(Op.TICK, 1), word(Op.CLR, 1))
    _classes(shape, writer, theta=0, reset=0)
    _params(shape, writer, 0)
    everyone = np.arange(shape.neurons)
    room = 1 << (shape.targets - 1).bit_length()
    count = min(shape.queue // (shape.neurons * shape.cores) + 2, 60, room)
    pointers = {"base": everyone * 0, "count": everyone * 0 + count, "host": everyone % 2}
    # all targets alike: which events are lost does not depend on the order
    names = [item.name for item in shape.memories["targets"].fields]
    for core in range(shape.cores):
        writer.memory("pointers", pointers, core=core)
    writer.memory("targets", {name: np.zeros(shape.targets, np.int64) for name in names})
    writer.put(word(Op.CLR, 1), word(Op.TICK, 2))
    for item in (Register.ERRORS, Register.DROPPED, Register.SPIKES):
        writer.put(word(Op.REG_READ, int(item) << 24))


def burst(shape: Shape, writer: Writer) -> None:
    """All neurons fire at once, all to the host, with all probes: every queue on the way out is full."""
    _classes(shape, writer, theta=0, reset=0)
    _params(shape, writer, 0)
    everyone = np.arange(shape.neurons)
    for core in range(shape.cores):
        writer.memory(
            "pointers", {"base": everyone, "count": everyone * 0, "host": everyone * 0 + 1}, core=core
        )
        writer.put(word(Op.SEL, core), word(Op.PROBE, shape.groups // 2))
        writer.put(word(Op.PROBE, shape.groups - 1))
    writer.put(word(Op.CLR, 1), word(Op.TICK, 2), word(Op.SEL, 0), word(Op.PROBE, 1 << 12), word(Op.RUN, 3))
    # nothing fires any more: RUN ends after one tick, but not before QUIET_FROM
    _classes(shape, writer, close=0)
    writer.put(word(Op.CLR), word(Op.RUN, 50), word(Op.REG_READ, int(Register.TICKS) << 24), word(Op.CLR))
    writer.register(Register.QUIET_FROM, 4)
    writer.put(word(Op.RUN, 50), word(Op.REG_READ, int(Register.TICKS) << 24))
    writer.register(Register.REPORT, 0)
    writer.put(word(Op.TICK, 2))
    writer.register(Register.REPORT, 1)


def hazards(shape: Shape, writer: Writer) -> None:
    """Rows that come to the same group again at once, after one, two and three others."""
    if not shape.sparse:
        return
    period = np.array([0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 0, 0, 1, 1, 2]) % shape.groups
    rows = np.resize(period, shape.weight_rows)
    zero = np.zeros(shape.axons, np.int64)
    names = [item.name for item in shape.memories["axons"].fields]
    axons = dict.fromkeys(names, zero) | {
        "first": zero + min(15, shape.groups - 1),
        "ny": zero + 1,
        "sparse": zero + 1,
    }
    axons["base"] = np.arange(shape.axons) % 5
    for core in range(shape.cores):
        writer.memory("groups", {"group": rows}, core=core)
        writer.memory("axons", axons, core=core)
        some = np.arange(min(8, shape.axons))
        writer.spikes(np.full(len(some), core), some, np.ones(len(some)))
    writer.put(word(Op.TICK, 1))


def wrong_words(shape: Shape, writer: Writer) -> None:
    """Rows beyond the end, half rows: flagged, and nothing else changes."""
    memory = shape.memories["classes"]
    writer.put(word(Op.SEL, 0), word(Op.MEM_ADDR, memory.space << 24 | memory.rows - 1))
    writer.put(word(Op.MEM_DATA, 2 * memory.words), *range(2 * memory.words))
    writer.put(word(Op.REG_READ, int(Register.ERRORS) << 24), word(Op.CLR, 1))
    writer.put(
        word(Op.MEM_ADDR, memory.space << 24), word(Op.MEM_DATA, memory.words - 1), *range(memory.words - 1)
    )
    writer.put(word(Op.REG_READ, int(Register.ERRORS) << 24), word(Op.CLR, 1))


def asked_at_once(shape: Shape, writer: Writer) -> None:
    """What is read, or cleared, in the clock after an event has waited for that event."""
    _classes(shape, writer, close=0)
    writer.put(word(Op.CLR, 1))
    one = np.ones(1, np.int64)
    questions = (
        (word(Op.MEM_READ, shape.groups),),
        (word(Op.REG_READ, int(Register.EVENTS) << 24),),
        (word(Op.CLR),),
    )
    for core in range(shape.cores):
        for axon in range(min(4, shape.axons)):
            for question in questions:
                writer.put(word(Op.SEL, core), word(Op.MEM_ADDR, 6 << 24))
                writer.spikes(one * core, one * axon, one)
                writer.put(*question)


def locked(shape: Shape, chip: RtlChip, body: Words) -> bool:
    """Whether a chip ignores a program whose header names another shape, says so, and then takes the right one."""
    other = header(shape, len(body))
    other[1] ^= 1
    silent = chip.raw(np.concatenate([other, body]), max_cycles=MAX_CYCLES)
    spoken = [item for item in canonical(shape, silent) if item[0] != 6]
    errors = canonical(shape, chip.raw(np.array([word(Op.REG_READ, int(Register.ERRORS) << 24)], np.uint32)))
    return not spoken and errors[0][2][0] & 12 == 12
