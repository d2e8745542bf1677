"""The engine ``functional``: executes word streams by the law, for many samples at once.

Configuration is the same for all samples. With one sample `Chip.run` takes any program and answers as the RTL does;
with more, `inject` and `step` drive the samples side by side. What the RTL leaves to arbitration has an order here:
spikes of a tick by core and neuron. The clock is not modelled: register CYCLES reads 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.targets.fpga import learning, ops
from nmc.targets.fpga.packing import pack, unpack
from nmc.targets.fpga.shape import Shape
from nmc.targets.fpga.tables import Synapses, Walks, ranges, walks
from nmc.targets.fpga.words import Answer, Error, Item, Op, Register, Words, decode, read

Array = NDArray[Any]

_TABLES = {"axons", "geometry", "groups"}


@dataclass(frozen=True, eq=False)
class Spikes:
    """Spikes or events of one tick, arrays of one length: sample, core, index (neuron or axon), sign (payload)."""

    sample: Array
    core: Array
    index: Array
    sign: Array


class _Core:
    """Memories and state of one core."""

    def __init__(self, shape: Shape, samples: int) -> None:
        self.shape, self.samples = shape, samples
        self.memory = {
            name: np.zeros((item.rows, item.words), np.uint32)
            for name, item in shape.memories.items()
            if not item.shared
        }
        self.probe = (1, 0)
        self._forget("axons", "params", "weights")
        zero = np.zeros((samples, shape.neurons), np.int64)
        self.state = {
            "v": zero,
            "c": zero,
            **({"i": zero} if shape.cuba else {}),
            **({"seen": zero} if shape.stdp else {}),
        }

    def _forget(self, *names: str) -> None:
        """Decode anew what was written."""
        if set(names) & (_TABLES | {"weights"}):
            self._synapses: Synapses | None = None
        if set(names) & _TABLES:
            self._walks: Walks | None = None
            self._learns: Array | None = None
        if set(names) & {"params", "classes"}:
            self._neurons: ops.Neurons | None = None

    def fields(self, name: str) -> dict[str, Array]:
        return unpack(self.shape.memories[name], self.memory[name])

    def write(self, name: str, row: int, rows: Words) -> None:
        self.memory[name][row : row + len(rows)] = rows
        self._forget(name)
        if name == "state":
            groups = slice(row * self.shape.lanes, (row + len(rows)) * self.shape.lanes)
            for key, values in unpack(self.shape.memories[name], rows).items():
                self.state[key] = self.state[key].copy()
                self.state[key][:, groups] = values.reshape(-1)

    def read(self, name: str, row: int, count: int) -> Words:
        if name == "state":
            shape = (self.shape.groups, self.shape.lanes)
            values = {key: item[0].reshape(shape)[row : row + count] for key, item in self.state.items()}
            return pack(self.shape.memories[name], values)
        return self.memory[name][row : row + count]

    @property
    def neurons(self) -> ops.Neurons:
        if self._neurons is None:
            self._neurons = ops.neurons(self.shape, self.fields("classes"), self.fields("params"))
        return self._neurons

    @property
    def walks(self) -> Walks:
        if self._walks is None:
            groups = self.fields("groups")["group"] if self.shape.sparse else None
            self._walks = walks(self.shape, self.fields("axons"), self.fields("geometry"), groups)
        return self._walks

    @property
    def learns(self) -> Array:
        if self._learns is None:
            none = np.zeros(self.shape.axons, np.int64)
            self._learns = self.fields("axons")["learn"] if self.shape.stdp else none
        return self._learns

    @property
    def synapses(self) -> Synapses:
        if self._synapses is None:
            rows = self.fields("weights")["w"].reshape(-1, self.shape.lanes)
            self._synapses = Synapses(self.shape, self.walks, rows)
        return self._synapses

    def clear(self) -> None:
        self.state = ops.clear(self.shape, self.neurons, (self.samples,))
        if self.shape.stdp:
            self.state["seen"] = np.zeros((self.samples, self.shape.neurons), np.int64)
            self.memory["traces"][:] = 0

    def learn(self, axon: int, payload: int, t: int, cost: int, reach: int) -> None:
        """One event of a learning axon (one sample only)."""
        shape, at = (
            self.shape,
            slice(int(self.walks.start[axon]), int(self.walks.start[axon] + self.walks.count[axon])),
        )
        rows, groups = self.walks.row[at], self.walks.group[at]
        memory = shape.memories["weights"]
        held = unpack(memory, self.memory["weights"][rows])
        weights, enabled = (held[name].reshape(-1, shape.lanes) for name in ("w", "learn"))
        sums = np.zeros((shape.groups, shape.lanes), np.int64)
        np.add.at(sums, groups, weights * payload)
        ops.accumulate(shape, self.state, sums.reshape(1, -1))
        seen = self.state["seen"].reshape(shape.groups, shape.lanes)[groups]
        trace = int(self.memory["traces"][axon, 0])
        fresh = learning.change(weights, enabled, seen, trace, t, cost, reach)
        self.memory["weights"][rows] = pack(memory, {"w": fresh, "learn": enabled})
        self.memory["traces"][axon] = t + 1
        self._forget("weights")


class Chip:
    """A chip of some shape, by the law.

    Parameters
    ----------
    shape : Shape
    samples : int
        Copies of the state that run side by side; `run` answers for one sample only.

    Raises
    ------
    NmcError
        E1012 for several samples of a shape that learns.
    """

    def __init__(self, shape: Shape, samples: int = 1) -> None:
        if shape.stdp and samples > 1:
            raise fail("E1012", f"a core that learns runs one sample at a time, not {samples}")
        self.shape, self.samples = shape, samples
        self.cores = [_Core(shape, samples) for _ in range(shape.cores)]
        self._shared = {
            name: np.zeros((item.rows, item.words), np.uint32)
            for name, item in shape.memories.items()
            if item.shared
        }
        self._names = {item.space: name for name, item in shape.memories.items()}
        self.registers = dict.fromkeys(Register, 0)
        self.registers.update({Register.REPORT: 1, Register.GROUPS: shape.groups, Register.HASH: shape.hash})
        self._select, self._space, self._row = 0, 0, 0
        self._routes: dict[int, tuple[dict[str, Array], dict[str, Array]]] = {}
        self._forget()

    @property
    def ticks(self) -> int:
        """Ticks since CLR."""
        return self.registers[Register.TICKS]

    def _forget(self) -> None:
        """Nothing is in flight."""
        none = np.zeros(0, np.int64)
        self._wheel = [Spikes(none, none, none, none) for _ in range(self.shape.delays)]

    def _count(self, register: Register, more: int) -> None:
        self.registers[register] = (self.registers[register] + more) & 0xFFFFFFFF

    # ---------------------------------------------------------------- words
    def load(self, data: bytes, where: str = "") -> Words:
        """Check a file and run it; see `words.read` for what is refused, with the chip untouched."""
        return self.run(read(self.shape, data, where))

    def run(self, body: Words) -> Words:
        """Run a body of words; all answers (those of the first sample)."""
        found: list[Words] = []
        for item in decode(body):
            found += self._execute(item)
        return np.concatenate([*found, np.zeros(0, np.uint32)])

    def _execute(self, item: Item) -> Iterator[Words] | list[Words]:
        match item.op:
            case Op.SEL:
                self._select = item.value
            case Op.MEM_ADDR:
                self._space, self._row = item.high, item.low
            case Op.MEM_DATA:
                self._write(item.data)
            case Op.MEM_READ:
                return self._answer_rows(item.low)
            case Op.REG:
                if item.high <= Register.REACH:
                    self.registers[Register(item.high)] = item.low & 1 if item.high == 0 else item.low
            case Op.REG_READ:
                return [_words(Answer.VALUE, item.high << 24, self.registers[Register(item.high)])]
            case Op.CLR:
                self.clear(wipe=bool(item.value & 1))
            case Op.SPIKE:
                self._spikes(item.data)
            case Op.TICK | Op.RUN:
                return self._ticks(item.low, until_quiet=item.op == Op.RUN)
            case Op.PROBE:
                self.cores[self._select].probe = (item.value >> 12 & 0xFFF, item.value & 0xFFF)
        return []

    def _error(self, error: Error) -> None:
        self.registers[Register.ERRORS] |= error

    def _write(self, data: Words) -> None:
        memory = self.shape.memories[self._names[self._space]]
        rows = data[: len(data) // memory.words * memory.words].reshape(-1, memory.words)
        if len(data) % memory.words or self._row + len(rows) > memory.rows:
            self._error(Error.ADDRESS)
        held = rows[: max(0, memory.rows - self._row)].copy()
        spare = memory.words * 32 - memory.width
        if spare:
            held[:, -1] &= np.uint32((1 << (32 - spare)) - 1)
        if memory.shared:
            self._shared[memory.name][self._row : self._row + len(held)] = held
        else:
            self.cores[self._select].write(memory.name, self._row, held)
        self._routes.clear()
        self._row += len(rows)

    def _answer_rows(self, count: int) -> Iterator[Words]:
        memory = self.shape.memories[self._names[self._space]]
        if self._row + count > memory.rows:
            self._error(Error.ADDRESS)
        if memory.name == "queue":
            rows = self._queue()[self._row : self._row + count]
        elif memory.shared:
            rows = self._shared[memory.name][self._row : self._row + count]
        else:
            rows = self.cores[self._select].read(memory.name, self._row, count)
        lost = np.zeros((count - len(rows), memory.words), np.uint32)
        self._row += count
        yield _words(Answer.DATA, memory.space << 24 | count, *np.concatenate([rows, lost]).reshape(-1))

    def _queue(self) -> Words:
        """Memory ``queue``: events in flight, each slot from its beginning."""
        rows = np.zeros_like(self._shared["queue"])
        for slot, held in enumerate(self._wheel):
            mine = held.sample == 0
            values = {"axon": held.index[mine], "core": held.core[mine], "negative": held.sign[mine] < 0}
            rows[slot * self.shape.queue :][: int(mine.sum())] = pack(self.shape.memories["queue"], values)
        return rows

    def _spikes(self, data: Words) -> None:
        wide = data.astype(np.int64)
        core, axon, payload = wide >> 14 & 63, wide & 0x3FFF, (wide >> 20 & 255 ^ 128) - 128
        sample = np.arange(self.samples).repeat(len(wide))
        self.inject(Spikes(sample, *(np.tile(part, self.samples) for part in (core, axon, payload))))

    def _ticks(self, count: int, *, until_quiet: bool) -> Iterator[Words]:
        for _ in range(count):
            fired, after = self.step()
            yield from self._answer_tick(fired, after)
            still = not len(fired.sample) and not any(len(held.sample) for held in self._wheel)
            if until_quiet and still and self.ticks >= self.registers[Register.QUIET_FROM]:
                return

    def _answer_tick(self, fired: Spikes, after: list[Array]) -> Iterator[Words]:
        for number, core in enumerate(self.cores):
            mine = (fired.core == number) & (fired.sample == 0)
            told = fired.index[mine][self._pointers(number)["host"][fired.index[mine]] == 1]
            negative = fired.sign[mine][self._pointers(number)["host"][fired.index[mine]] == 1] < 0
            spikes = int(Answer.SPIKE) << 28 | negative.astype(np.int64) << 27 | number << 14 | told
            yield spikes.astype(np.uint32)
            if self.shape.probes and core.probe[0] <= core.probe[1]:
                last = min(core.probe[1], self.registers[Register.GROUPS] - 1)
                for group in range(core.probe[0], last + 1):
                    shown = after[number][0].reshape(self.shape.groups, self.shape.lanes)[group]
                    yield _words(Answer.PROBE, number << 20 | group, *(shown & 0xFFFFFFFF))
        if self.registers[Register.REPORT]:
            yield _words(Answer.DONE, self.ticks & 0xFFFFFF)

    # ---------------------------------------------------------------- samples side by side
    def clear(self, *, wipe: bool = False) -> None:
        """What CLR does; with `wipe` counters and errors too."""
        for core in self.cores:
            core.clear()
        self._forget()
        self.registers[Register.TICKS] = 0
        if wipe:
            for item in list(Register)[Register.ERRORS :]:
                self.registers[item] = 0

    def inject(self, events: Spikes) -> None:
        """Events of the next tick: `index` are axons, `sign` payloads."""
        t = min(self.ticks, ops.FOREVER)
        for number, core in enumerate(self.cores):
            mine = np.flatnonzero(events.core == number)
            if not len(mine):
                continue
            sample, axon, payload = (part[mine] for part in (events.sample, events.index, events.sign))
            self._count(Register.EVENTS, len(mine))
            self._count(Register.WALKS, int(core.walks.count[axon].sum()))
            taught = core.learns[axon] == 1
            for at in np.flatnonzero(taught):
                costs = self.registers[Register.COST], self.registers[Register.REACH]
                core.learn(int(axon[at]), int(payload[at]), t, *costs)
            if not taught.all():
                rest = ~taught
                sums = core.synapses.sums(self.samples, sample[rest], axon[rest], payload[rest])
                ops.accumulate(self.shape, core.state, sums)

    def step(self) -> tuple[Spikes, list[Array]]:
        """One tick of all samples.

        Returns
        -------
        fired : Spikes
            Of all neurons, by sample, core and neuron.
        after : list of int64 arrays (samples, neurons)
            Membranes of each core after the reset, before the leak.
        """
        slot = self.ticks % self.shape.delays
        events, none = self._wheel[slot], np.zeros(0, np.int64)
        self._wheel[slot] = Spikes(none, none, none, none)
        self.inject(events)
        shown, parts = [], []
        for number, core in enumerate(self.cores):
            after, fired = self._fire(core)
            shown.append(after)
            sample, neuron = np.nonzero(fired)
            parts.append(
                (sample, np.full(len(sample), number), neuron, fired[sample, neuron].astype(np.int64))
            )
        spikes = Spikes(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        self._count(Register.SPIKES, len(spikes.sample))
        self._route(spikes, slot)
        self.registers[Register.TICKS] += 1
        return spikes, shown

    def _fire(self, core: _Core) -> tuple[Array, Array]:
        """Phase B of the groups that are walked."""
        walked = np.arange(self.shape.neurons) < self.registers[Register.GROUPS] * self.shape.lanes
        old = dict(core.state)
        fired, after, saturated = ops.tick(self.shape, core.neurons, core.state, self.ticks)
        if self.shape.stdp:
            core.state["seen"] = np.where(fired > 0, min(self.ticks, ops.FOREVER) + 1 & 0xFFFF, old["seen"])
        if not walked.all():
            core.state.update({key: np.where(walked, core.state[key], old[key]) for key in old})
            fired = np.where(walked, fired, 0)
        if (saturated & walked).any():
            self._error(Error.SATURATED)
        return after, fired

    def _pointers(self, core: int) -> dict[str, Array]:
        """Decoded memory ``pointers`` of a core."""
        if core not in self._routes:
            targets = unpack(self.shape.memories["targets"], self._shared["targets"])
            self._routes[core] = self.cores[core].fields("pointers"), targets
        return self._routes[core][0]

    def _route(self, spikes: Spikes, slot: int) -> None:
        """Put the events of spikes into the wheel."""
        shape = self.shape
        for number in range(shape.cores):
            mine = np.flatnonzero(spikes.core == number)
            pointers = self._pointers(number)
            index = spikes.index[mine]
            at, owner = ranges(pointers["base"][index], pointers["count"][index])
            targets = self._routes[number][1]
            at &= (1 << (shape.targets - 1).bit_length()) - 1
            into = (slot + 1 + targets["delay"][at]) % shape.delays
            for one in np.unique(into):
                here = into == one
                source = mine[owner[here]]
                self._push(
                    int(one),
                    Spikes(
                        spikes.sample[source],
                        targets["core"][at[here]],
                        targets["axon"][at[here]],
                        spikes.sign[source],
                    ),
                )

    def _push(self, slot: int, events: Spikes) -> None:
        held = self._wheel[slot]
        pairs = zip(vars(held).values(), vars(events).values(), strict=True)
        merged = Spikes(*(np.concatenate(pair) for pair in pairs))
        counts = np.bincount(merged.sample, minlength=self.samples)
        if counts.max() > self.shape.queue:
            order = np.argsort(merged.sample, kind="stable")
            rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
            kept = np.sort(order[rank < self.shape.queue])
            self._count(Register.DROPPED, len(order) - len(kept))
            self._error(Error.OVERFLOW)
            merged = Spikes(*(part[kept] for part in vars(merged).values()))
        self._wheel[slot] = merged


def _words(tag: Answer, value: int, *raw: int) -> Words:
    return np.array([int(tag) << 28 | value, *(int(item) & 0xFFFFFFFF for item in raw)], np.uint32)
