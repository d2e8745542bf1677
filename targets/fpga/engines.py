"""Engines behind the runner: the functional model, many samples side by side, and the simulated RTL, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.targets.fpga import ops
from nmc.targets.fpga.image import Image, PopMap
from nmc.targets.fpga.model import Chip, Spikes
from nmc.targets.fpga.packing import unpack
from nmc.targets.fpga.sender import Sender
from nmc.targets.fpga.words import Answer, Error, Op, Register, Words, Writer, answers, word

Array = NDArray[Any]
ENGINES = ("functional", "rtl")


@dataclass(frozen=True)
class Counts:
    """What happened in a run, over all samples: events taken, weight rows walked, spikes, ticks, clocks (RTL only)."""

    samples: int
    ticks: int
    events: int
    walks: int
    spikes: int
    cycles: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Counts of two runs together."""
        return Counts(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True, eq=False)
class Seen:
    """What an engine shows of a batch.

    Parameters
    ----------
    fired : mapping of str to int8 array (size, steps, *shape)
    after : mapping of str to int64 array (size, steps or 1, *shape)
        Membranes before the leak; of the last tick only where nobody asked for all.
    counts : Counts
    """

    fired: Mapping[str, Array]
    after: Mapping[str, Array]
    counts: Counts


@dataclass(frozen=True)
class Ask:
    """Which populations to show: spikes, membranes in every tick, membranes of the last tick."""

    fired: frozenset[str]
    after: frozenset[str]
    last: frozenset[str]


class Functional:
    """The law, for all samples of a batch at once."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._body, self._start = image.body(), image.start()
        self._chip: Chip | None = None

    def run(self, sender: Sender, size: int, steps: int, ask: Ask) -> Seen:
        """Run a batch."""
        chip = self._ready(size)
        before = dict(chip.registers)
        pops = {pop.name: pop for pop in self._image.pops}
        fired = {name: np.zeros((size, steps, len(pops[name].core)), np.int8) for name in ask.fired}
        seen: dict[str, list[Array]] = {name: [] for name in ask.after | ask.last}
        number = _numbers(self._image, ask.fired)
        for t in range(steps):
            chip.inject(sender.split(t))
            spikes, after = chip.step()
            _note(number, spikes, fired, t)
            for name in seen:
                if name in ask.after or t == steps - 1:
                    seen[name].append(_picked(pops[name], after))
        _refuse_errors(chip.registers[Register.ERRORS])
        counts = _counted(before, chip.registers, size, steps)
        return Seen(
            {name: item.reshape(size, steps, *pops[name].shape) for name, item in fired.items()},
            {
                name: np.stack(item, axis=1).reshape(size, -1, *pops[name].shape)
                for name, item in seen.items()
            },
            counts,
        )

    def _ready(self, size: int) -> Chip:
        """A chip for as many samples, at the beginning of them."""
        if self._chip is None or self._chip.samples != size:
            self._chip = Chip(self._image.shape, size)
            self._chip.run(self._body)
            _check_routes(self._chip)
        else:
            self._chip.run(self._start)
        return self._chip


def _rows(chip: Chip, name: str, core: int) -> dict[str, Array]:
    """Fields of a memory, as the host reads them back."""
    memory = chip.shape.memories[name]
    ask = [word(Op.SEL, core), word(Op.MEM_ADDR, memory.space << 24), word(Op.MEM_READ, memory.rows)]
    (raw,) = (item[2] for item in answers(chip.shape, chip.run(np.array(ask, np.uint32))))
    return unpack(memory, raw.reshape(memory.rows, memory.words))


def _check_routes(chip: Chip) -> None:
    """Refuse tables of the router that name what is not there.

    Raises
    ------
    NmcError
        E1005.
    """
    shape, targets = chip.shape, _rows(chip, "targets", 0)
    lawful = (
        (targets["axon"] < shape.axons) & (targets["core"] < shape.cores) & (targets["delay"] < shape.delays)
    )
    wrong = np.concatenate([[0], np.cumsum(~lawful)])
    for core in range(shape.cores):
        pointers = _rows(chip, "pointers", core)
        some = pointers["count"] > 0
        base, stop = pointers["base"][some], (pointers["base"] + pointers["count"])[some]
        if (stop > shape.targets).any() or (wrong[stop] != wrong[base]).any():
            raise fail("E1005", f"pointers of core {core} lead to destinations that are none")


def _numbers(image: Image, names: Iterable[str]) -> tuple[Array, list[str]]:
    """By core and neuron: population (index of the list, -1: not asked for) << 32 | number in the population."""
    wanted = sorted(names)
    table = np.full((image.shape.cores, image.shape.neurons), -1, np.int64)
    for pop in image.pops:
        if pop.name in wanted:
            table[pop.core, pop.slot] = wanted.index(pop.name) << 32 | np.arange(len(pop.core))
    return table, wanted


def _note(number: tuple[Array, list[str]], spikes: Spikes, fired: dict[str, Array], t: int) -> None:
    """Enter the spikes of a tick."""
    table, names = number
    who = table[spikes.core, spikes.index]
    for index, name in enumerate(names):
        mine = who >> 32 == index
        fired[name][spikes.sample[mine], t, who[mine] & 0xFFFFFFFF] = spikes.sign[mine]


def _picked(pop: PopMap, after: list[Array]) -> Array:
    """Membranes of a population, of all samples: (size, neurons)."""
    shown = np.zeros((len(after[0]), len(pop.core)), np.int64)
    for core in np.unique(pop.core):
        mine = pop.core == core
        shown[:, mine] = after[int(core)][:, pop.slot[mine]]
    return shown


def _counted(before: Mapping[Register, int], after: Mapping[Register, int], size: int, steps: int) -> Counts:
    """Counters wrap at 32 bits."""
    events, walks, spikes = (
        after[name] - before[name] & 0xFFFFFFFF for name in (Register.EVENTS, Register.WALKS, Register.SPIKES)
    )
    return Counts(size, steps * size, events, walks, spikes)


def _refuse_errors(flags: int) -> None:
    """Results of a run with errors are none."""
    if flags:
        names = ", ".join(item.name.lower() for item in Error if flags & item)
        hint = (
            "give the shape a longer queue"
            if flags & Error.OVERFLOW
            else "recompile, for as many steps as you run"
        )
        raise fail("E0948", f"the core reports errors: {names}", hint=hint)


class Rtl:
    """The RTL itself, simulated clock by clock, one sample after the other."""

    def __init__(self, image: Image) -> None:
        from nmc.targets.fpga.sim.rtl import RtlChip

        self._image = image
        self._start = image.start()
        self._chip = RtlChip(image.shape)
        self._chip.run(image.body())
        self._told: set[str] = set()

    def run(self, sender: Sender, size: int, steps: int, ask: Ask) -> Seen:
        """Run a batch."""
        pops = {pop.name: pop for pop in self._image.pops}
        self._tell([pops[name] for name in sorted(ask.fired) if not pops[name].host])
        fired = {name: np.zeros((size, steps, *pops[name].shape), np.int8) for name in ask.fired}
        last = {name: np.zeros((size, 1, *pops[name].shape), np.int64) for name in ask.last - ask.after}
        after = last | {name: np.zeros((size, steps, *pops[name].shape), np.int64) for name in ask.after}
        events = [sender.split(t) for t in range(steps)]
        cycles, counts = self._chip.cycles, Counts(0, 0, 0, 0, 0)
        for sample in range(size):
            found = self._chip.run(self._program(events, sample, steps, ask))
            registers = self._decode(found, sample, steps, (fired, after))
            _refuse_errors(registers[Register.ERRORS])
            zero = dict.fromkeys(Register, 0)
            counts += _counted(zero, registers, 1, steps)
        clocks = Counts(0, 0, 0, 0, 0, self._chip.cycles - cycles)
        return Seen(fired, after, counts + clocks)

    def _tell(self, pops: list[PopMap]) -> None:
        """Let the router tell the host of some more populations: read its pointers, and write them back."""
        shape, memory = self._image.shape, self._image.shape.memories["pointers"]
        for core in range(shape.cores):
            slots = [pop.slot[pop.core == core] for pop in pops if pop.name not in self._told]
            if not sum(map(len, slots)):
                continue
            ask = [word(Op.SEL, core), word(Op.MEM_ADDR, memory.space << 24), word(Op.MEM_READ, memory.rows)]
            found = self._chip.run(np.array(ask, np.uint32))
            (raw,) = (item[2] for item in answers(shape, found))
            fields = unpack(memory, raw.reshape(memory.rows, memory.words))
            fields["host"][np.concatenate(slots)] = 1
            writer = Writer(shape)
            writer.memory("pointers", fields, core=core)
            self._chip.run(writer.body())
        self._told |= {pop.name for pop in pops}

    def _program(self, events: list[Spikes], sample: int, steps: int, ask: Ask) -> Words:
        """What one sample takes: start, events and ticks, counters."""
        writer = Writer(self._image.shape)
        writer.extend(np.concatenate([[word(Op.CLR, 1)], self._start[1:]]).astype(np.uint32))
        probes = self._probes(ask.after)
        writer.put(*probes)
        for t, spikes in enumerate(events):
            mine = spikes.sample == sample
            writer.spikes(spikes.core[mine], spikes.index[mine], spikes.sign[mine])
            if t == steps - 1:
                writer.put(*self._probes(ask.after | ask.last))
            writer.put(word(Op.TICK, 1))
        read = (Register.ERRORS, Register.EVENTS, Register.WALKS, Register.SPIKES)
        writer.put(*(word(Op.REG_READ, int(register) << 24) for register in read))
        return writer.body()

    def _probes(self, names: frozenset[str]) -> list[int]:
        """Words that show the groups of some populations on every core, and of nobody else."""
        lanes, found = self._image.shape.lanes, list[int]()
        for core in range(self._image.shape.cores):
            slots = [pop.slot[pop.core == core] for pop in self._image.pops if pop.name in names]
            groups = np.concatenate([*slots, np.zeros(0, np.int64)]) // lanes
            first, last = (int(groups.min()), int(groups.max())) if len(groups) else (1, 0)
            found += [word(Op.SEL, core), word(Op.PROBE, first << 12 | last)]
        return found

    def _decode(
        self, found: Words, sample: int, steps: int, shown: tuple[dict[str, Array], dict[str, Array]]
    ) -> dict[Register, int]:
        """Enter what the chip answered for a sample; gives the registers."""
        fired, after = shown
        shape, t, registers = self._image.shape, 0, dict.fromkeys(Register, 0)
        membranes = np.zeros((shape.cores, shape.neurons), np.int64)
        table, names = _numbers(self._image, fired)
        for tag, value, raw in answers(shape, found):
            if tag == Answer.SPIKE:
                who = int(table[value >> 14 & 63, value & 0x3FFF])
                if who >= 0:
                    flat = fired[names[who >> 32]][sample, t].reshape(-1)
                    flat[who & 0xFFFFFFFF] = -1 if value >> 27 & 1 else 1
            elif tag == Answer.PROBE:
                at = (value & 0xFFFFF) * shape.lanes
                membranes[value >> 20 & 0xFF, at : at + shape.lanes] = ops.wrap(raw.astype(np.int64), 32)
            elif tag == Answer.VALUE:
                registers[Register(value >> 24)] = int(raw[0])
            elif tag == Answer.DONE:
                self._keep(membranes, after, sample, t, steps)
                t += 1
        return registers

    def _keep(self, membranes: Array, after: dict[str, Array], sample: int, t: int, steps: int) -> None:
        """Enter the membranes of a tick."""
        for pop in self._image.pops:
            if pop.name in after:
                kept = after[pop.name]
                if kept.shape[1] == steps or t == steps - 1:
                    place = t if kept.shape[1] == steps else 0
                    kept[sample, place] = membranes[pop.core, pop.slot].reshape(pop.shape)
