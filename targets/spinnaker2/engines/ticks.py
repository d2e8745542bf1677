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


class Ticks:
    """Adds up what each PE does in each tick of a run.

    Sums are whole numbers in double precision: exact in any order.

    Attributes
    ----------
    fullest : dict of (chip, pe) to int
        Instructions of the fullest tick.
    late : dict of int to int
        By clock (Hz), ticks of PEs that are not done in time.
    """

    def __init__(self, chip: LoadedChip) -> None:
        self._places = list(chip.pes)
        self._column = {place: k for k, place in enumerate(self._places)}
        self._base = np.array([_silent(pe) for pe in chip.pes.values()], np.float64)
        self._costs = [self._cost(chip, number) for number in range(len(chip.sources))]
        self._runs = [_runs(chip, number, self._column) for number in range(len(chip.sources))]
        self._own = [self._column.get(source.place) for source in chip.sources]
        self.fullest: dict[Place, int] = dict.fromkeys(self._places, 0)
        self.late: dict[int, int] = dict.fromkeys(CLOCKS, 0)

    def restart(self) -> None:
        """Forget the run before."""
        self.fullest = dict.fromkeys(self._places, 0)
        self.late = dict.fromkeys(CLOCKS, 0)

    def empty(self, rows: int) -> NDArray[np.float64]:
        """Loads of ticks without spikes: (rows, PEs)."""
        return np.repeat(self._base[None], rows, axis=0)

    def send(self, loads: NDArray[np.float64], source: int, spikes: NDArray[np.float64]) -> None:
        """Add what sending takes: `spikes` (rows, neurons) are 0 or 1."""
        column = self._own[source]
        if column is not None:
            loads[:, column] += SEND * spikes.sum(axis=1)

    def receive(self, loads: NDArray[np.float64], source: int, spikes: NDArray[np.float64]) -> None:
        """Add what receiving takes in the tick after."""
        columns, cost = self._costs[source]
        if columns.size:
            loads[:, columns] += spikes @ cost
        runs = self._runs[source]
        if runs.columns.size:
            together = np.rint(
                run_instructions(runs.entries, runs.targets, (spikes @ runs.heard)[:, runs.which])
            )
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

    def _cost(self, chip: LoadedChip, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """PEs that spikes of a source reach, and instructions there by neuron: (neurons, PEs)."""
        source = chip.sources[number]
        found: dict[Place, Array] = {}
        for leg in chip.legs[number]:
            neurons = np.arange(source.size) if leg.neurons is None else leg.neurons
            for place in leg.targets:
                column = found.setdefault(place, np.zeros(source.size))
                column[neurons] = _received(chip.pes[place], source.keys[neurons])
        columns = np.array([self._column[place] for place in found], np.int64)
        return columns, np.stack(list(found.values()), axis=1) if found else np.zeros((source.size, 0))


@dataclass(frozen=True, eq=False)
class _Runs:
    """Entries of PEs that hear a source.

    For each entry: the PE's column, how many entries its table has, targets of a ``dense8`` row (0: other formats), and
    which column of `heard` (neurons, different ones) its neurons are in. `alone`: no PE has two.
    """

    columns: NDArray[np.int64]
    entries: NDArray[np.int64]
    targets: NDArray[np.int64]
    which: NDArray[np.int64]
    heard: NDArray[np.float64]
    alone: bool


def _runs(chip: LoadedChip, number: int, column: Mapping[Place, int]) -> _Runs:
    source = chip.sources[number]
    masks: dict[bytes, int] = {}
    rows: list[tuple[int, int, int, int]] = []
    for leg in chip.legs[number]:
        neurons = np.arange(source.size) if leg.neurons is None else leg.neurons
        for place in leg.targets:
            pe = chip.pes[place]
            for _, entry, match in links(pe, source.keys[neurons]):
                heard = np.zeros(source.size, bool)
                heard[neurons[match]] = True
                which = masks.setdefault(heard.tobytes(), len(masks))
                targets = 0 if entry.dense is None else entry.dense.shape[1]
                rows.append((column[place], len(pe.entries), targets, which))
    columns, entries, dense, sets = np.array(rows, np.int64).reshape(-1, 4).T
    heard_by = [np.frombuffer(mask, bool) for mask in masks] or [np.zeros(source.size, bool)]
    alone = len({row[0] for row in rows}) == len(rows)
    return _Runs(columns, entries, dense, sets, np.stack(heard_by, axis=1).astype(np.float64), alone)


def _silent(pe: LoadedPe) -> int:
    """Instructions of a tick without spikes."""
    modes = pe.image.regions["params"][1 : 2 * len(pe.params) : 2]
    return tick_instructions(pe.law, pe.neurons, uniform=bool((modes == UNIFORM).all()))


def _received(pe: LoadedPe, keys: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Instructions of a spike with each of some keys."""
    cost = np.zeros(keys.size)
    for row, entry, match in links(pe, keys):
        cost[match] += row_instructions(entry.format, entry.row_lengths(), entry.geometry)[row]
    cost[cost == 0] = MISS
    return cost
