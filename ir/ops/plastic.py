"""Level ``snn``: synapses that learn from the times of spikes."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import ClassVar, Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, State, StatefulOp, Value, require
from nmc.ir.ops import synapse_lists
from nmc.ir.ops.snn import MAX_DELAY
from nmc.ir.types import Type

Ints = tuple[int, ...]

#: Numbers that the traces of one sample may hold: sources times different extra delays.
MAX_TRACES = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Plastic(StatefulOp, name="snn.plastic"):
    """Synapses with pair-based additive spike-timing-dependent plasticity; each sample has its own weights.

    %e.e = snn.plastic(%e, %e, @w, @src, @dst) {shape=[80], decay_plus=0.995, decay_minus=0.995, a_plus=0.003,
        a_minus=0.0036, w_max=0.3, delay=5} : current<80>

    Synapse i goes from neuron `source[i]` of `spikes` to `target[i]` of the current; its delay is ``delay + late[i]``.
    `post` are the spikes of the target population, which reach the synapse one step after they were fired (the current
    of this step may have caused them). In step t, with p spikes arriving at a synapse and q postsynaptic ones:

        x *= decay_plus,  y *= decay_minus                   the traces decay
        w = min(w + a_plus * x * q, w_max)                   a postsynaptic spike reads the presynaptic trace
        w = max(w - a_minus * y * p, w_min)                  a presynaptic spike reads the postsynaptic trace
        x = x + p,  y = y + q                                (`nearest`: 1 where there was a spike)
        current[target] += w * p                             with the new weight

    so two spikes that meet at the synapse in one step do not make a pair. With `pairing` all every spike pairs with
    all earlier ones of the other side, with nearest only with the last. The rule is that of Song, Miller and Abbott
    (Nature Neuroscience 3:919, 2000), its form with traces and both ways of pairing those of Morrison, Diesmann and
    Gerstner (Biological Cybernetics 98:459, 2008). The whole delay lies before the synapse (axonal). float64.
    """

    #: What to tell who wants this on a chip.
    advice: ClassVar[str] = (
        "--freeze-plasticity (pass freeze-plasticity) fixes the weights at their initial values"
    )

    spikes: Value
    post: Value
    weight: Const
    source: Const
    target: Const
    late: Const | None = None
    shape: Ints
    decay_plus: float
    decay_minus: float
    a_plus: float
    a_minus: float
    w_min: float = 0.0
    w_max: float
    delay: int = 0
    pairing: Literal["all", "nearest"] = "all"

    @property
    def lags(self) -> tuple[int, ...]:
        """Spikes arrive after the delay, postsynaptic ones after a step."""
        return self.delay, 1

    def infer(self) -> Type:
        """The given shape."""
        return Type("current", self.shape)

    def verify(self) -> None:
        """Lists fit together, `post` is the target population, weights start inside their bounds."""
        for value in (self.spikes, self.post):
            require(
                value.type.kind in ("spikes", "graded"), f"%{value.name} is {value.type.kind}, not events"
            )
        size = prod(self.shape)
        require(self.post.type.size == size, f"{self.post.type.size} postsynaptic neurons for {size} targets")
        require(0 <= self.delay <= MAX_DELAY, f"delay {self.delay} is not in 0..{MAX_DELAY}")
        traces = self.spikes.type.size * self._depth if _has_data(self.late) else 0
        require(traces <= MAX_TRACES, f"{traces:,} traces of at most {MAX_TRACES:,}: use shorter delays")
        for name in ("decay_plus", "decay_minus"):
            require(0.0 <= getattr(self, name) < 1.0, f"{name} is {getattr(self, name)}, not in [0, 1)")
        numbers = (self.a_plus, self.a_minus, self.w_min, self.w_max)
        require(bool(np.isfinite(numbers).all()) and self.w_min <= self.w_max, "w_min is above w_max")
        require(min(self.a_plus, self.a_minus) >= 0.0, "amplitudes cannot be negative")
        synapse_lists.verify(
            self.spikes.type.size, size, self.weight, self.source, self.target, self.late
        )  # fmt: skip
        if _has_data(self.weight) and self.weight.array().size:
            low, high = float(self.weight.array().min()), float(self.weight.array().max())
            inside = self.w_min <= low and high <= self.w_max
            require(inside, f"weights of {low:g} to {high:g} leave {self.w_min:g} to {self.w_max:g}")

    def begin(self, batch: int) -> State:
        """Initial weights, no traces; `pre` and `seen` keep as many steps as the longest extra delay needs."""
        weight = self.weight.array().astype(np.float64)
        pre = np.zeros((batch, self._depth, self.spikes.type.size))
        return {
            "w": np.broadcast_to(weight, (batch, *self.source.shape)).copy(),
            "pre": pre,
            "seen": pre.copy(),
            "post": np.zeros((batch, prod(self.shape))),
        }

    def step(self, state: State, t: int, *args: Array) -> Array:
        """Decay, learn, add the weights of the spikes that arrive."""
        spikes, fired = (item.reshape(len(item), -1).astype(np.float64) for item in args)
        batch, size = len(spikes), prod(self.shape)
        slot, last = t % self._depth, (t - 1) % self._depth
        state["pre"][:, slot] = self.decay_plus * self._added(state["pre"][:, last], state["seen"][:, last])
        state["seen"][:, slot] = spikes
        y = self.decay_minus * state["post"]
        source, target, late = self._lists
        cell = (t - late) % self._depth * spikes.shape[1] + source
        self._potentiate(state, cell, fired)
        arriving = state["seen"].reshape(batch, -1)[:, cell]
        sample, synapse = np.nonzero(arriving)
        count, goal = arriving[sample, synapse], target[synapse]
        weight = state["w"][sample, synapse] - self.a_minus * y[sample, goal] * count
        weight = np.maximum(weight, self.w_min)
        state["w"][sample, synapse] = weight
        state["post"] = self._added(y, fired)
        total = np.bincount(sample * size + goal, weights=weight * count, minlength=batch * size)
        return total.reshape(batch, *self.shape)

    def _potentiate(self, state: State, cell: Array, fired: Array) -> None:
        """Postsynaptic spikes read the traces of what has arrived at their synapses."""
        sample, synapse = np.nonzero(fired[:, self._lists[1]])
        trace = state["pre"].reshape(len(fired), -1)[sample, cell[synapse]]
        more = self.a_plus * trace * fired[sample, self._lists[1][synapse]]
        state["w"][sample, synapse] = np.minimum(state["w"][sample, synapse] + more, self.w_max)

    def _added(self, trace: Array, spikes: Array) -> Array:
        """A trace after the spikes of its step."""
        return trace + spikes if self.pairing == "all" else np.where(spikes > 0, 1.0, trace)

    @cached_property
    def _depth(self) -> int:
        return synapse_lists.longest(self.late) + 1

    @cached_property
    def _lists(self) -> tuple[Array, Array, Array]:
        """Sources, targets and extra delays, one each a synapse."""
        late = np.zeros(self.source.shape) if self.late is None else self.late.array()
        source, target, steps = (
            item.astype(np.int64) for item in (self.source.array(), self.target.array(), late)
        )
        return source, target, steps


def _has_data(const: Const | None) -> bool:
    return const is None or const.data is not None
