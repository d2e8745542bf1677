"""The host loop of the engines that run the firmware: mailboxes in SRAM, one sample after the other.

In each tick every PE gets the packets that others sent in the tick before, as many fillings of its mailbox as it
takes, and is woken; what it sent is read from its other mailbox and taken to where the router file says.

PEs that do not hear each other need not take turns: each runs all ticks of a sample in a row, after those that feed it,
so that caches keep what it works on. Only PEs that hear each other in a circle go tick by tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2.elf import kernel
from nmc.targets.spinnaker2.engines.chip import (
    LoadedChip,
    Place,
    Recorder,
    RunResult,
    Source,
    batch_of,
    count_events,
)
from nmc.targets.spinnaker2.engines.ticks import Ticks
from nmc.targets.spinnaker2.layout import Words
from nmc.targets.spinnaker2.load import LoadedPe

Array = NDArray[Any]
_PAGE = 4096


class Core(Protocol):
    """Something that runs the firmware on an SRAM."""

    def boot(self) -> None:
        """Reset; the firmware checks its data and sleeps."""
        ...

    def wake(self) -> None:
        """Let the firmware do what ``go`` says, until it sleeps again."""
        ...


def new_sram(pe: LoadedPe) -> Words:
    """SRAM of a PE as loaded: program, data specification, regions; page-aligned."""
    raw = np.zeros(layout.SRAM_BYTES + _PAGE, np.uint8)
    first = -raw.ctypes.data % _PAGE
    sram: Words = raw[first : first + layout.SRAM_BYTES].view(np.uint32)
    text = kernel(pe.image.user).text
    sram[: len(text) // 4] = np.frombuffer(text, np.uint32)
    spec = pe.image.dspec()
    sram[layout.DSPEC_BASE // 4 : layout.DSPEC_BASE // 4 + len(spec)] = spec
    for name, pointer in pe.image.pointers().items():
        words = pe.image.regions[name]
        sram[pointer // 4 : pointer // 4 + len(words)] = words
    return sram


class Pe:
    """SRAM, core and mailboxes of one PE."""

    def __init__(self, pe: LoadedPe, sram: Words, core: Core) -> None:
        self.pe, self.sram, self._core = pe, sram, core
        self._pointers = pe.image.pointers()
        self.control = self.region("control").data  # faster than an array, word by word
        self._rx = self.region("rx").reshape(-1, 2)
        self._tx = self.region("tx")[: 2 * pe.neurons].reshape(-1, 2)
        words = self.region("state").reshape(-1, pe.neurons)
        self.states = [row.view(state.dtype) for row, state in zip(words, pe.state.values(), strict=True)]
        self._key_base = np.uint32(pe.key_base)
        core.boot()
        if self.control[0] != layout.READY:
            raise fail(
                "E0912",
                f"the firmware refuses its data (status {self.control[0]})",
                where=f"PE {pe.image.pe}",
            )
        low = self._pointers["control"] // 4
        self._control = slice(low, low + len(layout.CONTROL))
        self._rest = slice(self._pointers["state"] // 4, layout.SRAM_BYTES // 4)
        self._fresh = (sram[self._control].copy(), sram[self._rest].copy())
        self._arrived: list[tuple[Array, Array]] = []
        self._packets, self._bounds = _NONE, [0]
        self.inbox: list[Array] = []

    def region(self, name: str) -> Words:
        """View of a region."""
        at = self._pointers[name] // 4
        return self.sram[at : at + len(self.pe.image.regions[name])]

    def restart(self) -> None:
        """Everything as after `boot`."""
        self.sram[self._control], self.sram[self._rest] = self._fresh
        self.inbox, self._arrived = [], []

    def arrive(self, tick: Array, packets: Array) -> None:
        """Note packets with the ticks (ascending) in which they are received."""
        self._arrived.append((tick, packets))

    def open(self, steps: int) -> None:
        """Sort what arrives by ticks, before the first of them."""
        tick, packets = (np.concatenate(parts) for parts in zip(_NO_ARRIVAL, *self._arrived, strict=True))
        order = np.argsort(tick, kind="stable")
        self._packets = packets[order]
        self._bounds = np.searchsorted(tick[order], np.arange(steps + 1)).tolist()

    def tick(self, t: int) -> Array:
        """Receive what arrives in tick `t` and end it: packets sent, (n, 2) words {key, payload}, copied."""
        control, size = self.control, len(self._rx)
        packets = self._packets[self._bounds[t] : self._bounds[t + 1]]
        if self.inbox:
            packets = np.concatenate([packets, *self.inbox])
            self.inbox = []
        count = len(packets)
        first = 0
        while count - first > size:
            self._rx[:] = packets[first : first + size]
            control[3], control[1] = size, layout.GO_RECEIVE
            self._core.wake()
            first += size
        if count > first:
            self._rx[: count - first] = packets[first:]
            control[3], control[1] = count - first, layout.GO_RECEIVE | layout.GO_TICK
        else:
            control[1] = layout.GO_TICK
        self._core.wake()
        return self._tx[: control[4]].copy()


_NONE = np.zeros((0, 2), np.uint32)
_NO_ARRIVAL = (np.zeros(0, np.int64), _NONE)


class MemoryEngine:
    """Runs an image on cores that have its SRAM.

    Parameters
    ----------
    chip : LoadedChip
    """

    name = ""

    def __init__(self, chip: LoadedChip) -> None:
        self.chip, self._ticks = chip, Ticks(chip)
        self.pes: dict[Place, Pe] = {}
        for place, pe in chip.pes.items():
            sram = new_sram(pe)
            self.pes[place] = Pe(pe, sram, self.core(sram, pe.image.user))

    def core(self, sram: Words, user: bool) -> Core:
        """Make a core for an SRAM; `user` as `nmc.targets.spinnaker2.elf.kernel`."""
        raise TypeError

    def run(self, inputs: Mapping[str, Array], steps: int, *, probes: Sequence[str] = ()) -> RunResult:
        """Run samples from their first tick; see `nmc.targets.spinnaker2.engines`."""
        batch = batch_of(self.chip, inputs)
        self._ticks.restart()
        run = _Run(self.chip, self.pes, inputs, steps, Recorder(self.chip, batch, steps, probes), self._ticks)
        for sample in range(batch):
            run.sample(sample)
        return run.recorder.result(count_events(self.chip, run.totals, batch, steps, self._ticks))

    def words(self, place: Place, sample: int = -1) -> dict[str, Words]:
        """All regions of a PE after the last sample of the last run (other samples are not kept)."""
        return {name: self.pes[place].region(name).copy() for name in layout.REGIONS}


class _Run:
    """One call of `MemoryEngine.run`."""

    def __init__(
        self,
        chip: LoadedChip,
        pes: Mapping[Place, Pe],
        inputs: Mapping[str, Array],
        steps: int,
        recorder: Recorder,
        ticks: Ticks,
    ) -> None:
        self._ticks = ticks
        self._sources, self._pes, self._steps, self.recorder = chip.sources, pes, steps, recorder
        self.totals = {
            k: (np.zeros(s.size, np.int64), np.zeros(s.size, np.int64)) for k, s in enumerate(chip.sources)
        }
        self._entered = {
            k: inputs[s.name].reshape(*inputs[s.name].shape[:2], -1)
            for k, s in enumerate(chip.sources)
            if s.place[1] < 0
        }
        self._legs = [_hearers(chip, k) for k in range(len(chip.sources))]
        self._groups = _groups(chip, self._legs)
        self._watched = [recorder.needs_spikes(s.name) for s in chip.sources]

    def sample(self, sample: int) -> None:
        """Run one sample; note what each neuron sent, and count it."""
        for pe in self._pes.values():
            pe.restart()
        loads = self._ticks.empty(self._steps)
        for number, data in self._entered.items():
            self._pass_on(number, sample, _injected(self._sources[number], data, sample, self._steps), loads)
        for group in self._groups:
            sent: dict[int, list[Array]] = {number: [] for number in group}
            places = frozenset(self._sources[number].place for number in group)
            for number in group:
                self._pe(number).open(self._steps)
            for t in range(self._steps):
                self._tick(t, sample, sent, places)
            for number in group:
                self._pass_on(number, sample, sent[number], loads, places)
        self._ticks.add(loads)

    def _pe(self, number: int) -> Pe:
        return self._pes[self._sources[number].place]

    def _pass_on(
        self,
        number: int,
        sample: int,
        sent: Sequence[Array],
        loads: NDArray[np.float64],
        done: frozenset[Place] = frozenset(),
    ) -> None:
        """Take all that a source sent in a sample to PEs that have not run yet, and count it."""
        packets = np.concatenate([_NONE, *sent])
        tick = np.repeat(np.arange(self._steps), [len(some) for some in sent])
        neuron = packets[:, 0] - np.uint32(self._sources[number].part.key_base)
        for place, heard in self._legs[number]:
            if place not in done:
                mine = slice(None) if heard is None else heard[neuron]
                self._pes[place].arrive(tick[mine] + 1, packets[mine])
        self._count(number, sample, tick, neuron, packets[:, 1].view(np.int32), loads)

    def _count(
        self, number: int, sample: int, tick: Array, neuron: Array, payload: Array, loads: NDArray[np.float64]
    ) -> None:
        """Count what a source sent in the ticks of a sample, and note it where it is asked for."""
        source = self._sources[number]
        spikes = np.zeros((self._steps, source.size))
        spikes[tick, neuron] = 1
        for total, part in zip(self.totals[number], (spikes, spikes[:-1]), strict=True):
            total += part.sum(axis=0).astype(np.int64)
        seen = spikes @ self._ticks.features[number]
        self._ticks.send(loads, number, seen)
        self._ticks.receive(loads[1:], number, seen[:-1])
        if self._watched[number]:
            payloads = np.zeros((self._steps, source.size), np.int32)
            payloads[tick, neuron] = payload
            self.recorder.add_sample(source, sample, payloads)

    def _tick(self, t: int, sample: int, sent: Mapping[int, list[Array]], places: frozenset[Place]) -> None:
        """One tick of PEs that hear each other; packets go to the inboxes only when all are done."""
        for number, steps in sent.items():
            source, pe = self._sources[number], self._pe(number)
            steps.append(pe.tick(t))
            for k in self.recorder.wanted(source.name, t):
                self.recorder.add_state(source, t, sample, k, pe.states[k])
        if t == self._steps - 1:
            return
        for number, steps in sent.items():
            if len(steps[t]):
                self._deliver(number, steps[t], places)

    def _deliver(self, number: int, packets: Array, inside: frozenset[Place]) -> None:
        """Take packets of a tick to PEs that go tick by tick with their source."""
        neurons = packets[:, 0] - np.uint32(self._sources[number].part.key_base)
        for place, heard in self._legs[number]:
            if place in inside:
                mine = packets if heard is None else packets[heard[neurons]]
                if len(mine):
                    self._pes[place].inbox.append(mine)


def _groups(chip: LoadedChip, legs: Sequence[Sequence[tuple[Place, Any]]]) -> list[list[int]]:
    """Sources on PEs, those that hear each other in a circle together, each group after all that feed it."""
    import networkx as nx

    number = {source.place: k for k, source in enumerate(chip.sources) if source.place[1] >= 0}
    graph: Any = nx.DiGraph()
    graph.add_nodes_from(number.values())
    for k in number.values():
        graph.add_edges_from((k, number[place]) for place, _ in legs[k])
    circles = nx.condensation(graph)
    return [sorted(circles.nodes[node]["members"]) for node in nx.lexicographical_topological_sort(circles)]


def _hearers(chip: LoadedChip, number: int) -> list[tuple[Place, Array | None]]:
    """PEs that spikes of a source reach, and of which of its neurons; None for all."""
    size = chip.sources[number].size
    heard: dict[Place, Array] = {}
    for leg in chip.legs[number]:
        for place in leg.targets:
            mask = heard.setdefault(place, np.zeros(size, bool))
            mask[slice(None) if leg.neurons is None else leg.neurons] = True
    return [(place, None if mask.all() else mask) for place, mask in sorted(heard.items())]


def _injected(source: Source, data: Array, sample: int, steps: int) -> list[Array]:
    """Packets of an input in each tick of a sample."""
    values = data[sample, :steps][:, source.index]
    tick, spiking = np.nonzero(values)
    packets = np.empty((spiking.size, 2), np.uint32)
    packets[:, 0] = spiking.astype(np.uint32) + np.uint32(source.part.key_base)
    packets[:, 1] = values[tick, spiking].astype(np.int64).astype(np.uint32)
    return np.split(packets, np.searchsorted(tick, np.arange(1, steps)))
