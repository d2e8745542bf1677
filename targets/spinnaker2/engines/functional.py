"""The fast engine: all samples at once, in numpy, from the same images as the ARM code.

PEs of one law are a block: their neurons are updated together. What their spikes bring is in `sums`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.targets.spinnaker2 import laws
from nmc.targets.spinnaker2.engines.chip import (
    LoadedChip,
    Place,
    Recorder,
    RunResult,
    batch_of,
    count_events,
    links,
)
from nmc.targets.spinnaker2.engines.sums import (
    DenseLink,
    DenseSum,
    Sent,
    Synapses,
    dense_link,
    joined,
    listed,
    table,
)
from nmc.targets.spinnaker2.engines.ticks import TickLog, Ticks
from nmc.targets.spinnaker2.layout import Words
from nmc.targets.spinnaker2.load import LoadedPe, words_of

Array = NDArray[Any]

#: Neurons that are updated together at most: what is worked on should fit the caches.
_TOGETHER = 1024


class _Pe:
    """One PE of a block: its neurons there, and its recordings."""

    def __init__(self, pe: LoadedPe, first: int) -> None:
        self.pe, self.neurons = pe, slice(first, first + pe.neurons)

    def reset(self) -> None:
        """Begin a batch."""
        self.records: dict[str, list[Array]] = {name: [] for name in self.pe.record}

    def record(self, t: int, v: Array, sent: Array) -> None:
        """Record a tick of the block."""
        if t < self.pe.record_ticks:
            for name, steps in self.records.items():
                steps.append((v if name == "v" else sent)[:, self.neurons].copy())

    def recorded(self, sample: int) -> dict[str, Words]:
        """The recordings of one sample, as the firmware leaves them."""
        regions = (("v", "rec_v"), ("payload", "rec_payload"), ("spikes", "rec_spikes"))
        return {region: self._words(name, region, sample) for name, region in regions if name in self.records}

    def _words(self, name: str, region: str, sample: int) -> Words:
        words = np.zeros(len(self.pe.image.regions[region]), np.uint32)
        for t, step in enumerate(self.records[name]):
            row = step[sample]
            if name == "spikes":
                bits = np.zeros(-(-row.size // 32) * 32, np.uint8)
                bits[: row.size] = row != 0
                part = np.packbits(bits, bitorder="little").view(np.uint32)
            else:
                part = words_of(row)
            words[t * part.size : (t + 1) * part.size] = part
        return words


class _Block:
    """PEs of one law, or a part of an input (then `law` is None), whose `size` neurons are worked on together.

    Columns of the ring are those of all neurons for the first synapse type, from `column` on, then the next type.
    """

    def __init__(self, pes: Sequence[LoadedPe], column: int, size: int = 0) -> None:
        firsts = np.concatenate([[0], np.cumsum([pe.neurons for pe in pes])]).astype(np.int64).tolist()
        self.pes = [_Pe(pe, first) for pe, first in zip(pes, firsts, strict=False)]
        self.law = pes[0].law if pes else None
        self.column, self.size = column, firsts[-1] or size
        self.width = self.law.types * self.size if self.law else 0
        self._params = {name: _together([(pe.params[name], pe.neurons) for pe in pes]) for name in
                        (pes[0].params if pes else ())}  # fmt: skip

    def reset(self, batch: int) -> None:
        """Begin a batch."""
        self.state = {
            name: np.repeat(np.concatenate([item.pe.state[name] for item in self.pes])[None], batch, 0)
            for name in (self.law.states if self.law else ())
        }
        for item in self.pes:
            item.reset()

    def columns(self, neuron: int) -> NDArray[np.int64]:
        """Columns of a neuron by synapse type."""
        assert self.law
        return self.column + neuron + self.size * np.arange(self.law.types)

    def tick(self, t: int, slot: Array) -> Array:
        """Update the neurons with the sums of this tick (B, columns): payloads (B, n)."""
        assert self.law
        sums = [
            slot[:, first : first + self.size]
            for first in range(self.column, self.column + self.width, self.size)
        ]
        sent = laws.step(self.law, self._params, self.state, sums, t)
        for item in self.pes:
            if item.records:
                item.record(t, self.state["v"], sent)
        return sent


class FunctionalEngine:
    """Runs an image in numpy.

    Parameters
    ----------
    chip : LoadedChip
    """

    name = "functional"

    def __init__(self, chip: LoadedChip) -> None:
        self.chip, self._load = chip, Ticks(chip)
        self._blocks, self._at = _blocks(chip)
        self._places = {
            source.place: at
            for source, at in zip(chip.sources, self._at, strict=True)
            if source.place[1] >= 0
        }
        sizes = [block.size for block in self._blocks]
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._slots = max((pe.slots for pe in chip.pes.values()), default=1)
        self._dense, self._synapses = self._links()
        has = self._synapses.starts[self._first]
        self._listed = (has[:-1] < has[1:]).tolist()
        self._columns = sum(block.width for block in self._blocks)
        self._ring = np.zeros((self._slots, 0, self._columns), np.int32)
        self._ticks = 0

    def _links(self) -> tuple[list[DenseSum], Synapses]:
        """All synapses of all PEs, by what hears which block."""
        dense: list[DenseLink] = []
        lists: list[tuple[Array, ...]] = []
        for number, source in enumerate(self.chip.sources):
            block, part = self._at[number]
            for leg in self.chip.legs[number]:
                neurons = np.arange(source.size) if leg.neurons is None else leg.neurons
                for place in leg.targets:
                    target, inside = self._places[place]
                    columns = self._blocks[target].columns(inside.start)
                    for rows, entry, match in links(self.chip.pes[place], source.keys[neurons]):
                        mine = part.start + neurons[match]
                        if entry.dense is not None:
                            dense.append(
                                dense_link(block, mine, entry, rows, int(columns[entry.dense_at[1]]))
                            )
                        else:
                            lists.append(listed(self._first[block] + mine, entry, rows, columns))
        sums = [DenseSum(link, self._blocks[link.block].size) for link in joined(dense)]
        return sums, table(lists, int(self._first[-1]))

    def run(self, inputs: Mapping[str, Array], steps: int, *, probes: Sequence[str] = ()) -> RunResult:
        """Run samples from their first tick; see `nmc.targets.spinnaker2.engines`."""
        batch = batch_of(self.chip, inputs)
        recorder = Recorder(self.chip, batch, steps, probes)
        for block in self._blocks:
            block.reset(batch)
        self._ring, self._ticks = np.zeros((self._slots, batch, self._columns), np.int32), steps
        entered = self._entered(inputs)
        log = TickLog(self._load, batch)
        sent: list[Sent | None] = [None] * len(self._blocks)
        totals = [(np.zeros(block.size), np.zeros(block.size)) for block in self._blocks]
        for t in range(steps):
            self._receive(t, sent)
            slot = self._ring[t & (self._slots - 1)]
            sent = [self._send(k, t, slot, entered) for k in range(len(self._blocks))]
            slot[:] = 0
            self._note(recorder, log, t, sent)
            for total, item in zip(totals, sent, strict=True):
                if item is not None:
                    total[0][:] += item.counts
                    total[1][:] += item.counts if t < steps - 1 else 0
        log.close()
        by_source = {
            number: tuple(total[part].astype(np.int64) for total in totals[block])
            for number, (block, part) in enumerate(self._at)
        }
        return recorder.result(count_events(self.chip, by_source, batch, steps, self._load))

    def _entered(self, inputs: Mapping[str, Array]) -> dict[int, tuple[Array, bool]]:
        """Payloads (B, T, n) of each block that is an input, and whether they are only 0 and 1."""
        found = {}
        for source, (block, _) in zip(self.chip.sources, self._at, strict=True):
            if source.place[1] < 0:
                data = inputs[source.name].reshape(*inputs[source.name].shape[:2], -1)[:, :, source.where]
                found[block] = data, not data.size or bool(data.min() >= 0 and data.max() <= 1)
        return found

    def _send(
        self, number: int, t: int, slot: Array, entered: Mapping[int, tuple[Array, bool]]
    ) -> Sent | None:
        """What a block sends in this tick; None for an input that has ended."""
        block = self._blocks[number]
        if block.law:
            return Sent(block.tick(t, slot), binary=block.law.binary)
        data, binary = entered[number]
        return Sent(data[:, t].astype(np.int32), binary=binary) if t < data.shape[1] else None

    def _receive(self, t: int, sent: Sequence[Sent | None]) -> None:
        """Add what the payloads of the step before bring to the ring."""
        for link in self._dense:
            item = sent[link.block]
            if item is not None and item.largest:
                link.add(self._ring[(t + link.field) & (self._slots - 1)], item)
        found: list[tuple[Array, Array, Array]] = []
        for number, item in enumerate(sent):
            if item is not None and item.largest and self._listed[number]:
                sample, neuron = np.nonzero(item.payloads)
                found.append((sample, neuron + self._first[number], item.payloads[sample, neuron]))
        if found:
            sample, neuron, payload = (np.concatenate(part) for part in zip(*found, strict=True))
            self._synapses.add(self._ring, t, sample, neuron, payload)

    def _note(self, recorder: Recorder, log: TickLog, t: int, sent: Sequence[Sent | None]) -> None:
        """Note what was sent in a tick where it is asked for."""
        log.begin()
        for number, source in enumerate(self.chip.sources):
            block, part = self._at[number]
            item = sent[block]
            if item is None:
                continue
            log.note(number, item.spikes[:, part])
            if source.place[1] >= 0:
                if recorder.needs_spikes(source.name):
                    recorder.add_spikes(source, t, slice(None), item.payloads[:, part])
                states = self._blocks[block].state
                for k in recorder.wanted(source.name, t):
                    recorder.add_state(source, t, slice(None), k, list(states.values())[k][:, part])

    def words(self, place: Place, sample: int = -1) -> dict[str, Words]:
        """Regions that ticks change (state, ring, recordings) of a PE after the last run."""
        number, part = self._places[place]
        block = self._blocks[number]
        pe = next(item for item in block.pes if item.neurons == part)
        slots, late = pe.pe.slots, np.arange(pe.pe.slots) + self._ticks
        columns = (block.columns(part.start)[:, None] + np.arange(pe.pe.neurons)).reshape(-1)
        mine = np.zeros((slots, columns.size), np.int32)
        mine[late & (slots - 1)] = self._ring[:, sample][late & (self._slots - 1)][:, columns]
        state = [words_of(block.state[name][sample, part]) for name in pe.pe.law.states]
        return {"state": np.concatenate(state), "ring": words_of(mine), **pe.recorded(sample)}


def _blocks(chip: LoadedChip) -> tuple[list[_Block], list[tuple[int, slice]]]:
    """The blocks of a chip, and for each source which block it is in, and where."""
    found: list[tuple[laws.Law | None, list[LoadedPe], int]] = []
    at: list[tuple[int, slice]] = []
    open_: dict[laws.Law, int] = {}
    for source in chip.sources:
        if source.place[1] < 0:
            at.append((len(found), slice(0, source.size)))
            found.append((None, [], source.size))
            continue
        pe = chip.pes[source.place]
        number = open_.get(pe.law, -1)
        if number < 0 or found[number][2] + pe.neurons > _TOGETHER:
            number = open_[pe.law] = len(found)
            found.append((pe.law, [], 0))
        law, pes, size = found[number]
        at.append((number, slice(size, size + pe.neurons)))
        found[number] = law, [*pes, pe], size + pe.neurons
    blocks: list[_Block] = []
    column = 0
    for _, pes, size in found:
        blocks.append(_Block(pes, column, size))
        column += blocks[-1].width
    return blocks, at


def _together(parts: Sequence[tuple[Array, int]]) -> Array:
    """A parameter of several PEs, each with its number of neurons: one value where all have the same."""
    first = parts[0][0]
    if all(values.size == 1 and values.tobytes() == first.tobytes() for values, _ in parts):
        return first
    return np.concatenate([np.broadcast_to(values, neurons) for values, neurons in parts])
