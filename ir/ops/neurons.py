"""Neurons of networks that were trained or written as spiking ones, with their discretisation spelled out.

One op covers IF, LIF, LI and their current-based forms: which arithmetic a step does is said by its attributes, never
guessed. Names and equations follow NIR (Pedersen 2024) and the tools whose order of operations they reproduce.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Op, State, StatefulOp, Value, broadcasts, require
from nmc.ir.ops import synapse_lists
from nmc.ir.ops.snn import ProjectionOp
from nmc.ir.types import Type

Ints = tuple[int, ...]
Reset = Literal["zero", "subtract", "to-value", "subtract-late", "subtract-guarded", "none"]
Precision = Literal["f32", "f64", "fixed12"]

#: Steps of the fixed-point states a unit, as in lava-dl and on Loihi (facts/nir.md 1.5, row Lava-dl).
GRID = 4096.0


@dataclass(frozen=True, kw_only=True)
class Neuron(StatefulOp, name="snn.neuron"):
    """A population of leaky integrators, spiking or not, with or without a synaptic state.

    %h = snn.neuron(%h.i, @alpha, @beta, @gain, @leak, @threshold) {reset=subtract} : spikes<40>

    Step t, with x the sum of the currents (plus the bias, where `bias_site` is current):

        I' = alpha * I + w_in * x                       (I' = x without alpha)
        v' = beta * v + gain * J + feed * x + leak      J = I' (synapse-first) or I (membrane-first)
                                                        (plus the bias, where `bias_site` is membrane)
        spike where v' > threshold (gt) or v' >= threshold (ge); none without a threshold: the output is v'
        then v' = 0 (zero), v_reset (to-value), v' - n * threshold (subtract), n spikes at most `max_spikes`;
        ``subtract-late`` subtracts the threshold of a spike in the next step, after the decay; ``subtract-guarded``
        is snnTorch's: v' -= threshold before the comparison where v was still above it, then
        v' -= (spikes - that) * threshold (snntorch/_neurons/synaptic.py, "avoid double reset").

    Bias and leak act from step `start` on, `late_bias` from the step after it. `decay_last` applies alpha and beta
    after the spike instead of before the input. A neuron that has fired stays at its reset value for `refractory`
    steps. Parameters broadcast to the population; absent ones are 0 (leak, feed), 1 (beta, gain, w_in). All
    arithmetic is in `precision`; ``fixed12`` cuts decayed states and what is added to them to multiples of
    1/4096, towards zero (lava-dl's and Loihi's).
    """

    current: tuple[Value, ...]
    alpha: Const | None = None
    beta: Const | None = None
    gain: Const | None = None
    leak: Const | None = None
    threshold: Const | None = None
    v_reset: Const | None = None
    w_in: Const | None = None
    bias: Const | None = None
    v_init: Const | None = None
    refractory: Const | None = None
    feed: Const | None = None
    late_bias: Const | None = None
    order: Literal["synapse-first", "membrane-first"] = "synapse-first"
    compare: Literal["gt", "ge"] = "gt"
    reset: Reset = "zero"
    bias_site: Literal["current", "membrane"] = "current"
    max_spikes: int = 1
    decay_last: bool = False
    precision: Precision = "f64"
    start: int = 0

    @property
    def shape(self) -> Ints:
        """Shape of the population."""
        require(len(self.current) >= 1, "a population needs a current")
        shapes = {value.shape for value in self.current}
        require(len(shapes) == 1, f"currents differ in shape: {sorted(shapes)}")
        return self.current[0].shape

    def infer(self) -> Type:
        """Spikes (graded ones where several a step are allowed), or potentials without a threshold."""
        if self.threshold is None:
            return Type("graded", self.shape)
        return Type("spikes" if self.max_spikes == 1 else "graded", self.shape)

    def verify(self) -> None:
        """Operands are currents, parameters broadcast, options fit together."""
        require({value.type.kind for value in self.current} <= {"current"}, "operands must be currents")
        require(self.max_spikes >= 1 and self.start >= 0, "max_spikes and start cannot be negative")
        require((self.threshold is None) == (self.reset == "none"), "a threshold and a reset belong together")
        have = self.shape
        for const in self.consts:
            shape = const.shape
            fits = broadcasts(shape, have)
            require(fits, f"@{const.name} {shape} does not broadcast to {have}")

    def _p(self, const: Const | None, absent: float) -> Array:
        dtype = np.float32 if self.precision == "f32" else np.float64
        return np.asarray(absent, dtype) if const is None else const.array().astype(dtype, copy=False)

    def begin(self, batch: int) -> State:
        """Zeros, and `v_init` where given."""
        dtype = np.float32 if self.precision == "f32" else np.float64
        shape = (batch, *self.shape)
        zeros = {name: np.zeros(shape, dtype) for name in ("i", "v", "late")}
        zeros["v"] = zeros["v"] + self._p(self.v_init, 0.0)
        return {**zeros, "refractory": np.zeros(shape, np.int64)}

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """One step of the equations above."""
        v = self._integrate(state, t, currents)
        if self.threshold is None:
            state["v"] = v * self._p(self.beta, 1.0) if self.decay_last else v
            return v
        threshold = self._p(self.threshold, 0.0)
        count = self._count(v, threshold)
        blocked = state["refractory"] > 0
        count = np.where(blocked, 0, count)
        v = np.where(blocked, self._resting(v), v)
        after = self._after(state, v, threshold, count)
        if self.refractory is not None:
            steps = np.broadcast_to(self.refractory.array().astype(np.int64), v.shape)
            state["refractory"] = np.where(count > 0, steps, np.maximum(state["refractory"] - 1, 0))
        state["v"] = after * self._p(self.beta, 1.0) if self.decay_last else after
        return count.astype(np.uint8 if self.max_spikes < 256 else np.int64)

    def _cut(self, state: Array) -> Array:
        """Towards zero to the grid, where the precision is fixed."""
        return np.trunc(state * GRID) / GRID if self.precision == "fixed12" else state

    def _biases(self, t: int) -> Array:
        """What the biases add at step `t`."""
        total = self._p(self.bias if t >= self.start else None, 0.0)
        return total + self._p(self.late_bias, 0.0) if t > self.start and self.late_bias else total

    def _integrate(self, state: State, t: int, currents: tuple[Array, ...]) -> Array:
        dtype = state["v"].dtype
        x = currents[0].astype(dtype)
        for term in currents[1:]:
            x = x + term.astype(dtype)
        biases = self._biases(t)
        if self.bias_site == "current":
            x = x + biases
        old = state["i"]
        state["i"] = self._synapse(old, x)
        drive = state["i"] if self.order == "synapse-first" else old
        v = (
            state["v"]
            if self.decay_last or self.beta is None
            else self._cut(self._p(self.beta, 1.0) * state["v"])
        )
        v = v + self._cut(self._p(self.gain, 1.0) * drive if self.gain is not None else drive)
        if self.feed is not None:
            v = v + self._cut(self._p(self.feed, 0.0) * x)
        if self.leak is not None and t >= self.start:
            v = v + self._p(self.leak, 0.0)
        if self.bias_site == "membrane":
            v = v + biases
        if self.decay_last and self.alpha is not None:
            state["i"] = self._cut(state["i"] * self._p(self.alpha, 1.0))
        return np.asarray(v - self._overdue(state), dtype)

    def _synapse(self, old: Array, x: Array) -> Array:
        """Synaptic state after the input `x`."""
        fresh = self._cut(self._p(self.w_in, 1.0) * x if self.w_in is not None else x)
        if self.alpha is None:
            return fresh
        return fresh + (old if self.decay_last else self._cut(self._p(self.alpha, 1.0) * old))

    def _overdue(self, state: State) -> Array:
        """What an earlier spike subtracts only now."""
        if self.reset == "subtract-guarded":
            threshold = self._p(self.threshold, 0.0)
            state["late"] = np.asarray((state["v"] > threshold) * threshold, state["v"].dtype)
        return state["late"]

    def _count(self, v: Array, threshold: Array) -> Array:
        fired = v > threshold if self.compare == "gt" else v >= threshold
        if self.max_spikes == 1:
            return fired.astype(np.int64)
        safe = np.where(threshold > 0, threshold, 1)
        many = np.floor(v / safe) if self.compare == "ge" else np.ceil(v / safe) - 1
        return np.where(fired, np.clip(many, 1, self.max_spikes), 0).astype(np.int64)

    def _resting(self, v: Array) -> Array:
        return (
            np.broadcast_to(self._p(self.v_reset, 0.0), v.shape)
            if self.reset == "to-value"
            else np.zeros_like(v)
        )

    def _after(self, state: State, v: Array, threshold: Array, count: Array) -> Array:
        if self.reset == "subtract":
            return np.asarray(v - count.astype(v.dtype) * threshold, v.dtype)
        if self.reset == "subtract-guarded":
            return np.asarray(v - (count.astype(v.dtype) * threshold - state["late"]), v.dtype)
        if self.reset == "subtract-late":
            state["late"] = np.asarray(count.astype(v.dtype) * threshold, v.dtype)
            return v
        return np.where(count > 0, self._resting(v), v)


#: Synapses times samples that `Sparse` adds up at once.
_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Sparse(ProjectionOp, name="snn.sparse"):
    """Synapses one by one: from neuron `source[i]` to `target[i]` with `weight[i]`, in `shape`.

    %e.i = snn.sparse(%e, @e.w, @e.src, @e.dst) {shape=[800], delay=5} : current<800>

    Indices are flat (row-major). With `late`, synapse i has a delay of `delay + late[i]` steps.
    """

    source: Const
    target: Const
    late: Const | None = None
    shape: Ints

    def infer(self) -> Type:
        """The given shape."""
        return Type("current", self.shape)

    def verify(self) -> None:
        """One source, target, weight and delay a synapse, sources and targets inside their populations."""
        ProjectionOp.verify(self)
        synapse_lists.verify(
            self.spikes.type.size, prod(self.shape), self.weight, self.source, self.target, self.late
        )

    @cached_property
    def taps(self) -> tuple[Op, ...]:
        """One op for each delay."""
        return synapse_lists.by_delay(self, self.late, ("weight", "source", "target"))

    def run(self, spikes: Array) -> Array:
        """Add the weights of the synapses whose spike arrives, float64."""
        batch, size = spikes.shape[0], prod(self.shape)
        step = max(1, _AT_ONCE // max(self.source.shape[0], 1))
        parts = [self._some(spikes[first : first + step], size) for first in range(0, batch, step)]
        total = np.concatenate(parts) if parts else np.zeros((0, size))
        return total.reshape(batch, *self.shape)

    def _some(self, spikes: Array, size: int) -> Array:
        """A few samples: their synapses are all in memory at once."""
        batch = len(spikes)
        flat = spikes.reshape(batch, -1)[:, self.source.array()] * self.weight.array().astype(np.float64)
        place = np.arange(batch)[:, None] * size + self.target.array()[None, :]
        return np.bincount(place.reshape(-1), weights=flat.reshape(-1), minlength=batch * size).reshape(
            batch, size
        )
