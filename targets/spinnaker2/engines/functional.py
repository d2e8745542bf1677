"""The fast engine: all samples at once, in numpy, from the same images as the ARM code.

``dense8`` rows become a matrix for each pair of a source and a PE that hears it; all other rows become one table of
synapses by source neuron for the whole chip, of which only the rows of spikes are visited. All sums are exact: matrix
products in single precision below 2^24, in double below 2^53, else in integers; then they wrap to 32 bits as the ring
does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
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
from nmc.targets.spinnaker2.engines.ticks import Ticks
from nmc.targets.spinnaker2.layout import Words
from nmc.targets.spinnaker2.load import LoadedEntry, LoadedPe, words_of

Array = NDArray[Any]

#: Synaptic events that are added up at once: bounds the memory of large batches.
_EVENTS = 1 << 22


class _Weights(dict[Any, Array]):
    """Weights times gain of the rows of an entry, by number type, made when first asked for."""

    def __init__(self, entry: LoadedEntry, row: Array) -> None:
        super().__init__()
        self._entry, self._row = entry, row

    def __missing__(self, kind: Any) -> Array:
        assert self._entry.dense is not None
        self[kind] = (self._entry.dense[self._row].astype(np.int64) * self._entry.gain).astype(kind)
        return self[kind]


@dataclass(frozen=True, eq=False)
class _Dense:
    """Neurons `neurons` of a source (None: all) through `weights` to the ring columns from `column` on.

    `peak` is the largest sum of weights onto a target.
    """

    source: int
    neurons: Array | None
    weights: Mapping[Any, Array]
    peak: float
    field: int
    column: int

    def add(self, slot: Array, sent: Array, size: int) -> None:
        """Add what payloads (B, sources) bring to a slot (B, columns); `size` is the largest payload."""
        picked = sent if self.neurons is None else sent[:, self.neurons]
        peak = self.peak * size
        kind = np.float32 if peak < 2**24 else np.float64 if peak < 2**53 else np.int64
        product = picked.astype(kind) @ self.weights[kind]
        view = slot[:, self.column : self.column + product.shape[1]]
        view += product.astype(np.int32 if kind is np.float32 else np.int64).astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Synapses:
    """Synapses of the whole chip by source neuron: those of neuron i are ``starts[i]`` to ``starts[i + 1]``."""

    starts: NDArray[np.int64]
    field: NDArray[np.int8]
    column: NDArray[np.int32]
    weight: NDArray[np.int32]

    def add(self, ring: Array, t: int, sample: Array, neuron: Array, payload: Array) -> None:
        """Add what spikes bring to the ring (slots, B, columns)."""
        lengths = self.starts[neuron + 1] - self.starts[neuron]
        ends = np.cumsum(lengths)
        first = 0
        while first < neuron.size:
            done = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, done + _EVENTS, "right")), first + 1)
            part = slice(first, last)
            self._some(ring, t, sample[part], self.starts[neuron[part]], lengths[part], payload[part])
            first = last

    def _some(self, ring: Array, t: int, sample: Array, start: Array, lengths: Array, payload: Array) -> None:
        slots, batch, columns = ring.shape
        which = np.repeat(np.arange(lengths.size), lengths)
        synapse = np.arange(which.size) + (start - (np.cumsum(lengths) - lengths))[which]
        slot = (t + self.field[synapse].astype(np.int64)) & (slots - 1)
        at = (slot * batch + sample[which]) * columns + self.column[synapse]
        np.add.at(ring.reshape(-1), at, self.weight[synapse] * payload[which])


class _Pe:
    """State and recordings of one PE for a batch."""

    def __init__(self, pe: LoadedPe, number: int, column: int) -> None:
        self.pe, self.number, self.column = pe, number, column
        self.width = pe.law.types * pe.neurons

    def reset(self, batch: int) -> None:
        """Begin a batch."""
        self.state = {name: np.repeat(values[None], batch, 0) for name, values in self.pe.state.items()}
        self.records: dict[str, list[Array]] = {name: [] for name in self.pe.record}

    def tick(self, t: int, slot: Array) -> Array:
        """Update the neurons with the sums of this tick (B, columns): payloads (B, n)."""
        n, law = self.pe.neurons, self.pe.law
        sums = [slot[:, self.column + k * n : self.column + (k + 1) * n] for k in range(law.types)]
        sent = laws.step(law, self.pe.params, self.state, sums, t)
        if t < self.pe.record_ticks:
            for name, steps in self.records.items():
                steps.append(self.state["v"].copy() if name == "v" else sent)
        return sent

    def words(self, ring: Array, ticks: int, sample: int) -> dict[str, Words]:
        """The regions that ticks change, as the firmware leaves them, of one sample."""
        mine = np.zeros((self.pe.slots, self.width), np.int32)
        for late in range(self.pe.slots):
            columns = slice(self.column, self.column + self.width)
            mine[(ticks + late) & (self.pe.slots - 1)] = ring[
                (ticks + late) & (len(ring) - 1), sample, columns
            ]
        found = {
            "state": np.concatenate([words_of(self.state[name][sample]) for name in self.pe.law.states]),
            "ring": words_of(mine),
        }
        for name, region in (("v", "rec_v"), ("payload", "rec_payload"), ("spikes", "rec_spikes")):
            if name in self.records:
                found[region] = self._recorded(name, region, sample)
        return found

    def _recorded(self, name: str, region: str, sample: int) -> Words:
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


class FunctionalEngine:
    """Runs an image in numpy.

    Parameters
    ----------
    chip : LoadedChip
    """

    name = "functional"

    def __init__(self, chip: LoadedChip) -> None:
        self.chip, self._load = chip, Ticks(chip)
        numbers = {source.place: number for number, source in enumerate(chip.sources)}
        self._pes: dict[Place, _Pe] = {}
        self._columns = 0
        for place, pe in chip.pes.items():
            self._pes[place] = _Pe(pe, numbers[place], self._columns)
            self._columns += pe.law.types * pe.neurons
        self._slots = max((pe.slots for pe in chip.pes.values()), default=1)
        sizes = [source.size for source in chip.sources]
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._dense, self._synapses = self._links()
        self._listed = [
            bool(self._synapses.starts[a] < self._synapses.starts[b])
            for a, b in zip(self._first[:-1], self._first[1:], strict=True)
        ]
        self._ring = np.zeros((self._slots, 0, self._columns), np.int32)
        self._ticks = 0

    def _links(self) -> tuple[list[_Dense], _Synapses]:
        """All synapses of all PEs, by what hears which source."""
        dense: list[_Dense] = []
        lists: list[tuple[Array, ...]] = []
        for number, source in enumerate(self.chip.sources):
            for leg in self.chip.legs[number]:
                neurons = np.arange(source.size) if leg.neurons is None else leg.neurons
                for place in leg.targets:
                    pe = self._pes[place]
                    for row, entry, match in links(pe.pe, source.keys[neurons]):
                        if entry.dense is not None:
                            dense.append(_dense(number, source.size, pe, entry, row, neurons[match]))
                        else:
                            lists.append(_listed(self._first[number] + neurons[match], pe, entry, row))
        return dense, _joined(lists, int(self._first[-1]))

    def run(self, inputs: Mapping[str, Array], steps: int, *, probes: Sequence[str] = ()) -> RunResult:
        """Run samples from their first tick; see `nmc.targets.spinnaker2.engines`."""
        batch = batch_of(self.chip, inputs)
        recorder = Recorder(self.chip, batch, steps, probes)
        for pe in self._pes.values():
            pe.reset(batch)
        self._ring, self._ticks = np.zeros((self._slots, batch, self._columns), np.int32), steps
        self._load.restart()
        sources = self.chip.sources
        totals = {k: (np.zeros(s.size, np.int64), np.zeros(s.size, np.int64)) for k, s in enumerate(sources)}
        entered = [_flat(inputs[s.name], s.index) if s.place[1] < 0 else None for s in sources]
        sent: list[Array | None] = [None] * len(sources)
        loads = self._load.empty(batch)
        for t in range(steps):
            self._receive(t, sent)
            sent = [None if item is None or t >= item.shape[1] else item[:, t] for item in entered]
            slot = self._ring[t & (self._slots - 1)]
            for pe in self._pes.values():
                sent[pe.number] = pe.tick(t, slot)
            slot[:] = 0
            loads = self._count(sent, loads)
            self._note(recorder, t, steps, sent, totals)
        return recorder.result(count_events(self.chip, totals, batch, steps, self._load))

    def _count(self, sent: Sequence[Array | None], loads: Array) -> Array:
        """Note the loads of a tick, and begin those of the next."""
        after = self._load.empty(len(loads))
        for number, item in enumerate(sent):
            if item is not None:
                spikes = (item != 0).astype(np.float64)
                self._load.send(loads, number, spikes)
                self._load.receive(after, number, spikes)
        self._load.add(loads)
        return after

    def _receive(self, t: int, sent: Sequence[Array | None]) -> None:
        """Add what the payloads of the step before bring to the ring."""
        sizes = [0 if item is None else int(np.abs(item).max(initial=0)) for item in sent]
        for link in self._dense:
            item = sent[link.source]
            if item is not None and sizes[link.source]:
                link.add(self._ring[(t + link.field) & (self._slots - 1)], item, sizes[link.source])
        found: list[tuple[Array, Array, Array]] = []
        for number, item in enumerate(sent):
            if item is not None and sizes[number] and self._listed[number]:
                sample, neuron = np.nonzero(item)
                found.append((sample, neuron + self._first[number], item[sample, neuron]))
        if found:
            sample, neuron, payload = (np.concatenate(part) for part in zip(*found, strict=True))
            self._synapses.add(self._ring, t, sample, neuron, payload.astype(np.int32))

    def _note(
        self,
        recorder: Recorder,
        t: int,
        steps: int,
        sent: Sequence[Array | None],
        totals: Mapping[int, tuple[Array, Array]],
    ) -> None:
        for number, source in enumerate(self.chip.sources):
            item = sent[number]
            if item is None:
                continue
            count = np.count_nonzero(item, axis=0)
            for total in totals[number][: 2 if t < steps - 1 else 1]:
                total += count
            if source.place[1] >= 0:
                if recorder.needs_spikes(source.name):
                    recorder.add_spikes(source, t, slice(None), item)
                if recorder.needs_v(source.name, t):
                    recorder.add_v(source, t, slice(None), self._pes[source.place].state["v"])

    def words(self, place: Place, sample: int = -1) -> dict[str, Words]:
        """Regions that ticks change (state, ring, recordings) of a PE after the last run."""
        return self._pes[place].words(self._ring, self._ticks, sample)


def _dense(number: int, size: int, pe: _Pe, entry: LoadedEntry, row: Array, neurons: Array) -> _Dense:
    assert entry.dense is not None
    peak = float(np.abs(entry.dense[row].astype(np.float64)).sum(axis=0).max(initial=0)) * abs(entry.gain)
    late, kind, target = entry.dense_at
    whole = neurons.size == size and bool((neurons == np.arange(size)).all())
    column = pe.column + kind * pe.pe.neurons + target
    return _Dense(number, None if whole else neurons, _Weights(entry, row), peak, late, column)


def _listed(neurons: Array, pe: _Pe, entry: LoadedEntry, row: Array) -> tuple[Array, ...]:
    """Source neuron, delay field, ring column and weight of every synapse of the rows of an entry."""
    lengths = np.diff(entry.starts)[row]
    which = np.repeat(np.arange(row.size), lengths)
    at = np.arange(which.size) + (entry.starts[row] - (np.cumsum(lengths) - lengths))[which]
    column = pe.column + entry.type[at] * pe.pe.neurons + entry.target[at]
    weight = (entry.weight[at] * entry.gain).astype(np.int32)
    return neurons[which], entry.field[at].astype(np.int8), column.astype(np.int32), weight


def _joined(lists: Sequence[tuple[Array, ...]], neurons: int) -> _Synapses:
    if not lists:
        none = np.zeros(0, np.int32)
        return _Synapses(np.zeros(neurons + 1, np.int64), none.astype(np.int8), none, none)
    source, late, column, weight = (np.concatenate(part) for part in zip(*lists, strict=True))
    order = np.argsort(source, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=neurons))]).astype(np.int64)
    return _Synapses(starts, late[order], column[order], weight[order])


def _flat(data: Array, index: Array) -> Array:
    """Payloads (B, T, n) of the neurons of a part, in their order."""
    return np.ascontiguousarray(data.reshape(*data.shape[:2], -1)[:, :, index]).astype(np.int32)
