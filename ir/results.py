"""What a run of a network gives, and how it is collected step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.op import Op, State, StatefulOp
from nmc.ir.ops import exact, snn

Array = NDArray[Any]


@dataclass(frozen=True)
class Result:
    """What a run gives.

    Parameters
    ----------
    outputs : dict of str to (B, ...) array
        Decoded outputs by name of the value they decode; (B, F, ...) for streams of F frames.
    probes : dict of str to (B, T, ...) array
        Recorded values by probe name (``population.spikes``, ``population.v``, ...); (B, F, T, ...) for streams.
    spikes : dict of str to (...) int64 array
        Spikes of each neuron of every population, summed over samples and steps; of exact networks also graded
        events other than 0. A sample whose answer is taken early counts up to there.
    traces : dict of str to (B, T, ...) array
        Decoded outputs after each step, as if the run had ended there; (B, F, T, ...) for streams.
    settled : (B,) or (B, F) int64 array or None
        Steps of each sample (of each frame) until it was at rest or its answer was taken, where the run followed that.
    """

    outputs: dict[str, Array]
    probes: dict[str, Array] = field(default_factory=dict)
    spikes: dict[str, Array] = field(default_factory=dict)
    traces: dict[str, Array] = field(default_factory=dict)
    settled: Array | None = None

    @property
    def trace(self) -> Array:
        """The trace of the first output."""
        return next(iter(self.traces.values()))


def join_results(parts: Sequence[Result]) -> Result:
    """Join the results of successive batches; where one ended earlier than others, its last step is held."""
    first = parts[0]
    settled = [part.settled for part in parts if part.settled is not None]
    axis = 2 if settled and settled[0].ndim == 2 else 1
    return Result(
        {name: np.concatenate([part.outputs[name] for part in parts]) for name in first.outputs},
        {name: np.concatenate(_as_long([part.probes[name] for part in parts], name, axis)) for name in first.probes},
        {name: sum((part.spikes[name] for part in parts[1:]), first.spikes[name]) for name in first.spikes},
        {name: np.concatenate(_as_long([part.traces[name] for part in parts], name, axis)) for name in first.traces},
        np.concatenate(settled) if settled else None,
    )  # fmt: skip


def stack_frames(parts: Sequence[Result]) -> Result:
    """Join the results of a stream's frames along a new second axis."""
    first = parts[0]
    settled = [part.settled for part in parts if part.settled is not None]
    return Result(
        {name: np.stack([part.outputs[name] for part in parts], axis=1) for name in first.outputs},
        {name: np.stack(_as_long([part.probes[name] for part in parts], name, 1), axis=1) for name in first.probes},
        {name: sum((part.spikes[name] for part in parts[1:]), first.spikes[name]) for name in first.spikes},
        {name: np.stack(_as_long([part.traces[name] for part in parts], name, 1), axis=1) for name in first.traces},
        np.stack(settled, axis=1) if settled else None,
    )  # fmt: skip


def _as_long(arrays: Sequence[Array], name: str, axis: int) -> list[Array]:
    """Make recordings equally long in time: spikes end, states and outputs stay as they were."""
    longest = max(item.shape[axis] for item in arrays)
    mode: Literal["constant", "edge"] = "constant" if name.endswith(".spikes") else "edge"
    return [
        np.pad(item, [(0, longest - item.shape[n] if n == axis else 0) for n in range(item.ndim)], mode=mode)
        for item in arrays
    ]


class Recorder:
    """Collects outputs, probes and spike counts while a network runs.

    Parameters
    ----------
    module : Module
        The network.
    probes : sequence of str
        What to record, as for `nmc.ir.interp.run_snn`.
    """

    def __init__(self, module: Module, probes: Sequence[str]) -> None:
        self._outputs = module.of_type(snn.Output)
        self._decoded = {op.data.name for op in self._outputs}
        self._probes = [(probe, *probe.rpartition(".")[::2]) for probe in probes]
        self._values: dict[str, list[Array]] = {name: [] for name in self._decoded}
        self._records: dict[str, list[Array]] = {probe: [] for probe in probes}
        self._spikes: dict[str, Array] = {}
        self._open: dict[str, tuple[Array, int]] = {}

    def record(self, op: Op, item: Array, state: State, running: Array | None = None) -> None:
        """Note the output `item` of `op` and its state after a step; only spikes of samples `running` (B,) count."""
        if op.out in self._decoded:
            self._values[op.out].append(item)
        if isinstance(op, StatefulOp) and _sends_spikes(op):
            exactly = op.result.type.kind == "graded" or isinstance(op, exact.ExactOp)
            self._count(op.out, item != 0 if exactly else item, running)
        for probe, name, what in self._probes:
            if name == op.out:
                if what != "spikes" and what not in state:
                    raise fail("E0402", f"{op.name} has no state {what} for probe {probe}")
                self._records[probe].append((item if what == "spikes" else state[what]).copy())

    def _count(self, name: str, events: Array, running: Array | None) -> None:
        """Add up events (B, ...) of a step: in bytes as long as none can overflow, samples together only then."""
        if running is not None or events.dtype != bool:
            self._close(name)
            seen = events if running is None else events[running]
            self._spikes[name] = self._spikes.get(name, 0) + seen.sum(axis=0, dtype=np.int64)
            return
        if name not in self._open:
            self._open[name] = events.view(np.uint8).copy(order="K"), 1
            return
        total, steps = self._open[name]
        np.add(total, events.view(np.uint8), out=total)
        self._open[name] = total, steps + 1
        if steps + 1 == np.iinfo(np.uint8).max:
            self._close(name)

    def _close(self, name: str) -> None:
        """Add up samples."""
        if name in self._open:
            total, _ = self._open.pop(name)
            self._spikes[name] = self._spikes.get(name, 0) + total.sum(axis=0, dtype=np.int64)

    def latest(self) -> dict[str, Array]:
        """The values of the last step that the outputs decode."""
        return {name: items[-1] for name, items in self._values.items()}

    def result(
        self, *, trace: bool = False, taken: Mapping[str, Array] | None = None, settled: Array | None = None
    ) -> Result:
        """Decode the outputs and stack the probes; values `taken` early stand for those of the last step."""
        for name in list(self._open):
            self._close(name)
        outputs = {
            op.data.name: op.decode([taken[op.data.name]] if taken else self._values[op.data.name])
            for op in self._outputs
        }
        probes = {probe: np.stack(items, axis=1) for probe, items in self._records.items()}
        traces = {op.data.name: op.trace(self._values[op.data.name]) for op in self._outputs if trace}
        return Result(outputs, probes, self._spikes, traces, settled)


def _sends_spikes(op: StatefulOp) -> bool:
    """Whether what an op sends counts as spikes: graded events only in exact networks, where readouts send none."""
    if op.result.type.kind == "graded":
        return isinstance(op, exact.ExactNeuron | exact.MaxPool) or (isinstance(op, snn.Input) and op.rests)
    return op.result.type.kind == "spikes"
