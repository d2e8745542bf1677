"""Whether PEs keep up in a run: instructions of every tick by the counted costs, on every engine the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.targets.spinnaker2.cycles import (
    CLOCKS,
    CPI,
    MISS,
    SEND,
    row_instructions,
    run_instructions,
    tick_instructions,
)
from nmc.targets.spinnaker2.engines.chip import LoadedChip, Place, links
from nmc.targets.spinnaker2.layout import UNIFORM
from nmc.targets.spinnaker2.load import LoadedPe

Array = NDArray[Any]
#: Seconds of a tick.
_TICK = 1e-3
#: Numbers that are worked on at once.
_NUMBERS = 1 << 18


class Ticks:
    """Adds up what each PE does in each tick of a run.

    Sums are whole numbers in double precision: exact in any order.

    Attributes
    ----------
    features : list of (neurons, F) arrays
        For each source, columns that spikes (rows, neurons) are multiplied with, all that loads depend on: ones first,
        then which neurons an entry hears, and what the spikes of each cost. In single precision where that is exact.
    fullest : dict of (chip, pe) to int
        Instructions of the fullest tick.
    late : dict of int to int
        By clock (Hz), ticks of PEs that are not done in time.
    """

    def __init__(self, chip: LoadedChip) -> None:
        self._places = list(chip.pes)
        self._column = {place: k for k, place in enumerate(self._places)}
        self._base = np.array([_silent(pe) for pe in chip.pes.values()], np.float64)
        self._own = [self._column.get(source.place) for source in chip.sources]
        self.features: list[NDArray[Any]] = []
        self._costs: list[_Costs] = []
        self._runs: list[_Runs] = []
        for number, source in enumerate(chip.sources):
            features = _Features(source.size)
            self._costs.append(_costs(chip, number, self._column, features))
            self._runs.append(_runs(chip, number, self._column, features))
            self.features.append(features.matrix())
        self.fullest: dict[Place, int] = dict.fromkeys(self._places, 0)
        self.late: dict[int, int] = dict.fromkeys(CLOCKS, 0)

    def restart(self) -> None:
        """Forget the run before."""
        self.fullest = dict.fromkeys(self._places, 0)
        self.late = dict.fromkeys(CLOCKS, 0)

    def empty(self, rows: int) -> NDArray[np.float64]:
        """Loads of ticks without spikes: (rows, PEs)."""
        return np.repeat(self._base[None], rows, axis=0)

    def send(self, loads: NDArray[np.float64], source: int, seen: NDArray[np.float64]) -> None:
        """Add what sending takes; `seen` are spikes (rows, neurons) of 0 or 1 times `features` of the source."""
        column = self._own[source]
        if column is not None:
            loads[:, column] += SEND * seen[:, 0]

    def receive(self, loads: NDArray[np.float64], source: int, seen: NDArray[np.float64]) -> None:
        """Add what receiving takes in the tick after."""
        costs, runs = self._costs[source], self._runs[source]
        if costs.columns.size:
            loads[:, costs.columns] += seen[:, costs.which]
        if runs.columns.size:
            together = np.rint(run_instructions(runs.entries, runs.targets, seen[:, runs.which]))[
                :, runs.kind
            ]
            if runs.alone:
                loads[:, runs.columns] += together
            else:
                np.add.at(loads.T, runs.columns, together.T)

    def add(self, loads: NDArray[np.float64]) -> None:
        """Note ticks that are complete."""
        for place, most in zip(self._places, loads.max(axis=0, initial=0).tolist(), strict=True):
            self.fullest[place] = max(self.fullest[place], int(most))
        for clock in self.late:
            self.late[clock] += int((loads * CPI > clock * _TICK).sum())


class _Features:
    """Different columns of numbers by neuron; the first is ones."""

    def __init__(self, neurons: int) -> None:
        self._found: dict[bytes, int] = {}
        self._neurons = neurons
        self.add(np.ones(neurons))

    def add(self, column: NDArray[np.float64]) -> int:
        """The number of a column."""
        return self._found.setdefault(column.tobytes(), len(self._found))

    def matrix(self) -> NDArray[Any]:
        """All columns, in single precision where sums of them are exact."""
        found = np.stack([np.frombuffer(column) for column in self._found], axis=1)
        return found.astype(np.float32) if np.abs(found).sum(axis=0).max() < 1 << 24 else found


@dataclass(frozen=True, eq=False)
class _Costs:
    """PEs (`columns`) that spikes of a source reach, and the feature (`which`) that tells the instructions there."""

    columns: NDArray[np.int64]
    which: NDArray[np.int64]


def _costs(chip: LoadedChip, number: int, column: Mapping[Place, int], features: _Features) -> _Costs:
    source = chip.sources[number]
    found: dict[Place, Array] = {}
    for leg in chip.legs[number]:
        neurons = np.arange(source.size) if leg.neurons is None else leg.neurons
        for place in leg.targets:
            cost = found.setdefault(place, np.zeros(source.size))
            cost[neurons] = _received(chip.pes[place], source.keys[neurons])
    columns = np.array([column[place] for place in found], np.int64)
    return _Costs(columns, np.array([features.add(cost) for cost in found.values()], np.int64))


@dataclass(frozen=True, eq=False)
class _Runs:
    """Entries of PEs that hear a source.

    For each entry: the PE's column and its `kind`. For each kind: how many entries the PE's table has, targets of a
    ``dense8`` row (0: other formats), and which feature (different ones) counts the spikes that it hears. `alone`: no
    PE has two.
    """

    columns: NDArray[np.int64]
    kind: NDArray[np.int64]
    entries: NDArray[np.int64]
    targets: NDArray[np.int64]
    which: NDArray[np.int64]
    alone: bool


def _runs(chip: LoadedChip, number: int, column: Mapping[Place, int], features: _Features) -> _Runs:
    source = chip.sources[number]
    kinds: dict[tuple[int, int, int], int] = {}
    rows: list[tuple[int, int]] = []
    for leg in chip.legs[number]:
        neurons = np.arange(source.size) if leg.neurons is None else leg.neurons
        for place in leg.targets:
            pe = chip.pes[place]
            for _, entry, match in links(pe, source.keys[neurons]):
                heard = np.zeros(source.size)
                heard[neurons[match]] = 1
                targets = 0 if entry.dense is None else entry.dense.shape[1]
                kind = (len(pe.entries), targets, features.add(heard))
                rows.append((column[place], kinds.setdefault(kind, len(kinds))))
    columns, kind_of = np.array(rows, np.int64).reshape(-1, 2).T
    entries, dense, which = np.array(list(kinds), np.int64).reshape(-1, 3).T
    return _Runs(columns, kind_of, entries, dense, which, len({row[0] for row in rows}) == len(rows))


class TickLog:
    """Gives `Ticks` what all samples of a batch send, tick by tick; it is added up for many ticks at once.

    Parameters
    ----------
    ticks : Ticks
    batch : int
    """

    def __init__(self, ticks: Ticks, batch: int) -> None:
        self._ticks, self._batch = ticks, batch
        ticks.restart()
        widest = max((matrix.shape[1] for matrix in ticks.features), default=1)
        self._most = max(1, _NUMBERS // max(1, batch * max(widest, ticks.empty(1).size)))
        self._kept: list[list[Array]] = []
        self._before: list[Array] = self._nothing()

    def _nothing(self) -> list[Array]:
        return [np.zeros((self._batch, matrix.shape[1])) for matrix in self._ticks.features]

    def begin(self) -> None:
        """A tick in which nothing was sent yet."""
        if len(self._kept) == self._most:
            self._add()
        self._kept.append(self._nothing())

    def note(self, source: int, spikes: Array) -> None:
        """What a source sends in this tick: (B, neurons), 0 or 1."""
        matrix = self._ticks.features[source]
        self._kept[-1][source] = spikes.astype(matrix.dtype, copy=False) @ matrix

    def close(self) -> None:
        """No more ticks."""
        if self._kept:
            self._add()

    def _add(self) -> None:
        loads = self._ticks.empty(self._batch * len(self._kept))
        for source in range(len(self._before)):
            sent = [step[source] for step in self._kept]
            self._ticks.send(loads, source, np.concatenate(sent))
            self._ticks.receive(loads, source, np.concatenate([self._before[source], *sent[:-1]]))
        self._ticks.add(loads)
        self._before, self._kept = self._kept[-1], []


def _silent(pe: LoadedPe) -> int:
    """Instructions of a tick without spikes."""
    if pe.law.machine:
        return tick_instructions(pe.law, pe.neurons, uniform=True)
    modes = pe.image.regions["params"][1 : 2 * len(pe.params) : 2]
    return tick_instructions(pe.law, pe.neurons, uniform=bool((modes == UNIFORM).all()))


def _received(pe: LoadedPe, keys: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Instructions of a spike with each of some keys."""
    cost = np.zeros(keys.size)
    for row, entry, match in links(pe, keys):
        cost[match] += row_instructions(entry.format, entry.row_lengths(), entry.geometry)[row]
    cost[cost == 0] = MISS
    return cost
