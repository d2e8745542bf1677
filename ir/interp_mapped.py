"""The reference interpreter of mapped modules: every part on its own, spikes only along mapped synapses.

A part gets its current from the parts that ``map.synapses`` names, and from no other; what the mapping forgot
is missing here too. That makes equality with the unmapped network a proof that the mapping lost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.interp import Progress, Recorder, Result, encode_input, in_batches
from nmc.ir.module import Module
from nmc.ir.op import Op, State, StatefulOp
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import Neurons, Synapses

Array = NDArray[Any]


@dataclass(frozen=True)
class _Part:
    """A part, the cut op that computes it, and the parts each of its currents comes from."""

    neurons: Neurons
    op: StatefulOp
    sources: Mapping[str, frozenset[str]]


def run_mapped(
    module: Module,
    inputs: Mapping[str, Array],
    steps: int,
    *,
    probes: Sequence[str] = (),
    first_sample: int = 0,
    batch: int = 128,
    progress: Progress | None = None,
) -> Result:
    """Execute a ``mapped`` module; parameters and result as `nmc.ir.interp.run_snn`.

    Raises
    ------
    NmcError
        E0401, E0402 as there; E0405 when parts do not tile their population or a reset has no synapses.
    """
    parts = _parts(module)
    return in_batches(
        lambda data, first: _MappedRun(module, parts, data, first).run(steps, probes),
        inputs,
        first_sample,
        batch,
        progress,
    )


def _parts(module: Module) -> dict[str, list[_Part]]:
    routed: dict[str, dict[str, set[str]]] = {}
    for link in module.of_type(Synapses):
        routed.setdefault(link.target.name, {}).setdefault(link.via.name, set()).add(link.source.name)
    table: dict[str, list[_Part]] = {}
    for neurons in module.of_type(Neurons):
        op = module.producers[neurons.of.name]
        if isinstance(op, StatefulOp) and not isinstance(op, snn.InputOp):
            sources = {via: frozenset(names) for via, names in routed.get(neurons.out, {}).items()}
            if getattr(op, "resets_itself", False) and neurons.out not in sources.get(op.out, ()):
                raise fail("E0405", f"part %{neurons.out} has a soft reset but no synapses for it")
            table.setdefault(op.out, []).append(_Part(neurons, op.part(neurons.box), sources))
    for name, found in table.items():
        covered = np.zeros(module.producers[name].result.shape, np.int64)
        for part in found:
            covered[part.neurons.slices] += 1
        if (covered != 1).any():
            raise fail("E0405", f"the parts of %{name} do not cover each of its neurons exactly once")
    return table


class _MappedRun:
    """One batch of samples on all parts."""

    def __init__(
        self, module: Module, parts: dict[str, list[_Part]], inputs: dict[str, Array], first: int
    ) -> None:
        self._module, self._parts, self._inputs, self._first = module, parts, inputs, first
        self._size = min((len(data) for data in inputs.values()), default=1)
        self._boxes = {neurons.out: neurons for neurons in module.of_type(Neurons)}
        self._states = {
            part.neurons.out: part.op.begin(self._size) for found in parts.values() for part in found
        }
        self._history: dict[str, list[Array]] = {}
        self._sums: dict[tuple[str, frozenset[str]], Array] = {}

    def run(self, steps: int, probes: Sequence[str]) -> Result:
        recorder = Recorder(self._module, probes)
        for t in range(steps):
            self._sums.clear()
            for op in self._module.ops:
                if isinstance(op, snn.InputOp):
                    item = encode_input(op, self._inputs, self._first, t, self._size)
                    self._history.setdefault(op.out, []).append(item)
                    recorder.record(op, item, {})
                elif op.out in self._parts:
                    item, state = self._step(op, t)
                    self._history.setdefault(op.out, []).append(item)
                    recorder.record(op, item, state)
        return recorder.result()

    def _step(self, op: Op, t: int) -> tuple[Array, State]:
        """Step all parts of a population and put them together."""
        whole: Array | None = None
        together: State = {}
        for part in self._parts[op.out]:
            args = [self._arrival(value.name, part, t) for value in op.operands]
            item = part.op.step(self._states[part.neurons.out], t, *args)
            if whole is None:
                whole = np.zeros((self._size, *op.result.shape), item.dtype)
            cut = (slice(None), *part.neurons.slices)
            whole[cut] = item
            for name, values in self._states[part.neurons.out].items():
                if name not in together:
                    together[name] = np.zeros((self._size, *op.result.shape), values.dtype)
                together[name][cut] = values
        assert whole is not None, "a population has at least one part"
        return whole, together

    def _arrival(self, name: str, part: _Part, t: int) -> Array:
        """Current of one operand in a part, from the parts that its synapses name."""
        cut = (slice(None), *part.neurons.slices)
        producer = self._module.producers[name]
        if isinstance(producer, snn.InputOp):
            return self._history[name][t][cut]
        key = (name, part.sources.get(name, frozenset()))
        if key not in self._sums:
            arrived = [tap.run(self._spikes(tap, key[1], t)) for tap in producer.taps]
            self._sums[key] = sum(arrived[1:], arrived[0])
        return self._sums[key][cut]

    def _spikes(self, via: Op, sources: frozenset[str], t: int) -> Array:
        value = via.operands[0]
        then = t - getattr(via, "delay", 0)
        kind = self._history[value.name][then].dtype if then >= 0 else np.uint8
        seen = np.zeros((self._size, *value.shape), kind)
        if then >= 0:
            for name in sorted(sources):
                cut = (slice(None), *self._boxes[name].slices)
                seen[cut] = self._history[value.name][then][cut]
        return seen
