"""How many spikes come in each tick: counted on sample data, or guessed; and what a PE takes for them.

Budgets are about the fullest tick of a PE, not about averages: a converted network sends most of a layer's spikes
within a few ticks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.interp import run_snn
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.passes.data import fit_input
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.cycles import (
    MISS,
    SEND,
    row_events,
    run_instructions,
    spike_instructions,
    tick_instructions,
)
from nmc.targets.spinnaker2.layout import Box
from nmc.targets.spinnaker2.rows import ConvRows, DenseRows
from nmc.targets.spinnaker2.wiring import Arriving, neurons_of, whole

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Activity:
    """Spikes of every tick.

    Parameters
    ----------
    ticks : int
        Ticks that are told apart: of all samples one after the other.
    samples : int
        Tick k + `samples` follows tick k; 0 where all ticks are alike (guessed).
    spikes : mapping of str to (tick, neuron)
        By population or input, an element a spike; empty where spikes are guessed.
    steps : int
        Where they are guessed: every neuron sends one spike in so many ticks.
    bursts : frozenset of str
        Where they are guessed: inputs that send everything in tick 0.
    """

    ticks: int
    samples: int = 0
    spikes: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)
    steps: int = 1
    bursts: frozenset[str] = frozenset()

    @property
    def measured(self) -> bool:
        """Whether spikes were counted."""
        return self.samples > 0

    def sent(self, name: str, cost: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of the costs (by neuron) of the spikes that are sent in each tick."""
        if not self.measured:
            found = np.full(self.ticks, float(cost.sum()) / self.steps)
            found[0] *= self.steps if name in self.bursts else 1
            return found
        tick, neuron = self.spikes[name]
        return np.bincount(tick, weights=cost[neuron], minlength=self.ticks).astype(np.float64)

    def received(self, name: str, cost: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same in the tick after, in which they arrive."""
        found = self.sent(name, cost)
        if self.measured:
            found = np.concatenate([np.zeros(self.samples), found[: -self.samples]])
        return found

    def counts(self, name: str, labels: NDArray[np.int64], many: int) -> NDArray[np.float64]:
        """Spikes that arrive in each tick from the neurons of each label 0..`many` - 1: (ticks, labels)."""
        if not self.measured:
            each = np.bincount(labels[labels >= 0], minlength=many) / self.steps
            found = np.repeat(each[None], self.ticks, axis=0)
            found[0] *= self.steps if name in self.bursts else 1
            return found
        tick, neuron = self.spikes[name]
        tick, label = tick + self.samples, labels[neuron]  # they arrive in the tick after
        used = (label >= 0) & (tick < self.ticks)
        place = tick[used] * many + label[used]
        return np.bincount(place, minlength=self.ticks * many).reshape(self.ticks, many).astype(np.float64)


def measure(module: Module, samples: Array) -> Activity:
    """Count spikes on sample data."""
    inputs = {
        op.source: fit_input(samples, op.shape, in_time=op.in_time)
        for op in module.of_type(snn.InputOp)
        if op.source
    }
    size = len(samples) if inputs else 1
    found: dict[str, list[tuple[Array, Array]]] = {op.out: [] for op in _senders(module)}

    def look(t: int, op: Op, item: Array, _state: Any) -> None:
        if op.out in found:
            sample, neuron = np.nonzero(item.reshape(len(item), -1))
            found[op.out].append((t * size + sample, neuron))

    steps = int(module.attr("steps") or 32)
    run_snn(module, inputs, steps, recorder=look, batch=max(size, 1))
    spikes = {name: (_joined(parts, 0), _joined(parts, 1)) for name, parts in found.items()}
    return Activity(steps * size, size, spikes)


def guess(module: Module) -> Activity:
    """Every neuron sends one spike a sample: inputs that burst in one tick, all others evenly."""
    bursts = {op.out for op in module.of_type(s2.Input) if op.encoder == "burst"}
    return Activity(2, steps=max(int(module.attr("steps") or 1), 1), bursts=frozenset(bursts))


def shapes_of(module: Module) -> dict[str, tuple[int, ...]]:
    """Shapes of everything that sends."""
    return {op.out: op.result.shape for op in _senders(module)}


def _senders(module: Module) -> list[Op]:
    return [op for op in module.ops if isinstance(op, snn.InputOp | s2.NeuronOp)]


def _joined(parts: Sequence[tuple[Array, Array]], which: int) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *(part[which] for part in parts)]).astype(np.int64)


def tick_loads(
    activity: Activity,
    population: s2.NeuronOp,
    box: Box,
    onto: Sequence[Arriving],
    shapes: Mapping[str, tuple[int, ...]],
    cut: Mapping[str, Sequence[Box]],
) -> NDArray[np.float64]:
    """Instructions of a PE in each tick.

    Parameters
    ----------
    activity : Activity
    population : NeuronOp
    box : tuple of Span
        The neurons of the PE.
    onto : sequence
        All rows of the PE, as `nmc.targets.spinnaker2.wiring.rows_onto` gives them.
    shapes : mapping of str to tuple of int
        Shapes of the sources.
    cut : mapping of str to sequence of boxes
        How sources are cut: all spikes of a box come where any of them does, but for shared kernels
        (`nmc.targets.spinnaker2.ways`). Of a source that is not named only spikes that have synapses count.
    """
    size = int(np.prod([len(span) for span in box]))
    uniform = all(value.size == 1 for value in population.given.values())
    found = np.full(activity.ticks, float(tick_instructions(population.law, size, uniform=uniform)))
    own = np.zeros(population.result.type.size, np.int64)
    own[neurons_of(population.shape, box)] = SEND
    if population.law.fires:
        found += activity.sent(population.out, own)
    for source, cost in _arrivals(onto, shapes, cut).items():
        found += activity.received(source, cost)
    for source, labels, targets in _runs(onto, shapes, cut):
        spikes = activity.counts(source, labels, len(targets))
        found += run_instructions(len(onto), targets, spikes).sum(axis=1)
    return found


def _runs(
    onto: Sequence[Arriving], shapes: Mapping[str, tuple[int, ...]], cut: Mapping[str, Sequence[Box]]
) -> list[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Entries by source: the number of the entry that each neuron is in (-1: none), and dense targets of each.

    A source is there more than once where a neuron is in several entries.
    """
    found: list[tuple[str, NDArray[np.int64], list[int]]] = []
    for source, part, rows, first, _ in onto:
        reached = neurons_of(shapes[source], (cut.get(source) or [whole(shapes[source])])[part])
        reached = reached[first : first + rows.sources]
        free = (item for item in found if item[0] == source and (item[1][reached] < 0).all())
        table = next(free, None)
        if table is None:
            table = (source, np.full(int(np.prod(shapes[source])), -1, np.int64), [])
            found.append(table)
        table[1][reached] = len(table[2])
        table[2].append(rows.weights.shape[1] if isinstance(rows, DenseRows) else 0)
    return [(source, labels, np.array(targets)) for source, labels, targets in found]


def _arrivals(
    onto: Sequence[Arriving], shapes: Mapping[str, tuple[int, ...]], cut: Mapping[str, Sequence[Box]]
) -> dict[str, NDArray[np.int64]]:
    """Instructions of a spike of each neuron of each source: 0 where it does not come, all entries of its key else."""
    takes: dict[str, NDArray[np.int64]] = {}
    comes: dict[str, NDArray[np.bool_]] = {}
    for source, part, rows, first, _ in onto:
        shape = shapes[source]
        neurons = neurons_of(shape, (cut.get(source) or [whole(shape)])[part])
        reached = neurons[first : first + rows.sources]
        size = int(np.prod(shape))
        takes.setdefault(source, np.zeros(size, np.int64))[reached] += spike_instructions(rows)
        some = comes.setdefault(source, np.zeros(size, bool))
        if source in cut and not isinstance(rows, ConvRows):
            some[neurons] = True
        else:
            some[reached[row_events(rows) > 0]] = True
    return {name: np.where(comes[name], np.where(cost > 0, cost, MISS), 0) for name, cost in takes.items()}
