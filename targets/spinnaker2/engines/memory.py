"""The host loop of the engines that run the firmware: mailboxes in SRAM, one sample after the other.

In each tick every PE gets the packets that others sent in the tick before, as many fillings of its mailbox as it
takes, and is woken; what it sent is read from its other mailbox and taken to where the router file says.
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
    text = kernel().text
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
        self.control = memoryview(self.region("control"))  # faster than an array, word by word
        self._rx = self.region("rx").reshape(-1, 2)
        self._tx = self.region("tx").reshape(-1, 2)
        self.v = self.region("state")[: pe.neurons].view(pe.state["v"].dtype)
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
        self.inbox: list[Array] = []

    def region(self, name: str) -> Words:
        """View of a region."""
        at = self._pointers[name] // 4
        return self.sram[at : at + len(self.pe.image.regions[name])]

    def restart(self) -> None:
        """Everything as after `boot`."""
        self.sram[self._control], self.sram[self._rest] = self._fresh
        self.inbox = []

    def tick(self) -> Array:
        """Receive the inbox and end the tick: packets sent, (n, 2) words {key, payload}, copied."""
        control, size = self.control, len(self._rx)
        packets = self._take_inbox()
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

    def _take_inbox(self) -> Array:
        inbox, self.inbox = self.inbox, []
        if len(inbox) == 1:
            return inbox[0]
        return np.concatenate(inbox) if inbox else _NONE


_NONE = np.zeros((0, 2), np.uint32)


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
            self.pes[place] = Pe(pe, sram, self.core(sram))

    def core(self, sram: Words) -> Core:
        """Make a core for an SRAM."""
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
        self._legs = [_hearers(chip, pes, k) for k in range(len(chip.sources))]
        self._watched = [recorder.needs_spikes(s.name) for s in chip.sources]

    def sample(self, sample: int) -> None:
        """Run one sample; note what each neuron sent, and count it."""
        for pe in self._pes.values():
            pe.restart()
        sent: list[list[Array]] = [
            _injected(source, self._entered[number], sample, self._steps) if number in self._entered else []
            for number, source in enumerate(self._sources)
        ]
        for t in range(self._steps):
            self._tick(t, sample, sent)
        loads = self._ticks.empty(self._steps)
        for number, packets in enumerate(sent):
            self._count(number, sample, packets, loads)
        self._ticks.add(loads)

    def _count(self, number: int, sample: int, sent: Sequence[Array], loads: NDArray[np.float64]) -> None:
        """Count what a source sent in the ticks of a sample, and note it where it is asked for."""
        source = self._sources[number]
        packets = np.concatenate([_NONE, *sent])
        neuron = packets[:, 0] - np.uint32(source.part.key_base)
        tick = np.repeat(np.arange(self._steps), [len(some) for some in sent])
        spikes = np.zeros((self._steps, source.size))
        spikes[tick, neuron] = 1
        for total, part in zip(self.totals[number], (spikes, spikes[:-1]), strict=True):
            total += part.sum(axis=0).astype(np.int64)
        self._ticks.send(loads, number, spikes)
        self._ticks.receive(loads[1:], number, spikes[:-1])
        if self._watched[number]:
            payloads = np.zeros((self._steps, source.size), np.int32)
            payloads[tick, neuron] = packets[:, 1].view(np.int32)
            self.recorder.add_sample(source, sample, payloads)

    def _tick(self, t: int, sample: int, sent: list[list[Array]]) -> None:
        """One tick of all PEs; packets go to the inboxes only when all are done."""
        for number, source in enumerate(self._sources):
            if number in self._entered:
                continue
            pe = self._pes[source.place]
            sent[number].append(pe.tick())
            if self.recorder.needs_v(source.name, t):
                self.recorder.add_v(source, t, sample, pe.v)
        if t == self._steps - 1:
            return
        for number, steps in enumerate(sent):
            packets = steps[t]
            if len(packets):
                self._deliver(number, packets)

    def _deliver(self, number: int, packets: Array) -> None:
        """Take packets where the routers send them."""
        neurons = packets[:, 0] - np.uint32(self._sources[number].part.key_base)
        for pe, heard in self._legs[number]:
            mine = packets if heard is None else packets[heard[neurons]]
            if len(mine):
                pe.inbox.append(mine)


def _hearers(chip: LoadedChip, pes: Mapping[Place, Pe], number: int) -> list[tuple[Pe, Array | None]]:
    """PEs that spikes of a source reach, and of which of its neurons; None for all."""
    size = chip.sources[number].size
    heard: dict[Place, Array] = {}
    for leg in chip.legs[number]:
        for place in leg.targets:
            mask = heard.setdefault(place, np.zeros(size, bool))
            mask[slice(None) if leg.neurons is None else leg.neurons] = True
    return [(pes[place], None if mask.all() else mask) for place, mask in sorted(heard.items())]


def _injected(source: Source, data: Array, sample: int, steps: int) -> list[Array]:
    """Packets of an input in each tick of a sample."""
    values = data[sample, :steps][:, source.index]
    tick, spiking = np.nonzero(values)
    packets = np.empty((spiking.size, 2), np.uint32)
    packets[:, 0] = spiking.astype(np.uint32) + np.uint32(source.part.key_base)
    packets[:, 1] = values[tick, spiking].astype(np.int64).astype(np.uint32)
    return np.split(packets, np.searchsorted(tick, np.arange(1, steps)))
