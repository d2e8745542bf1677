"""Level ``snn``: populations and structured projections in discrete time.

A projection's `delay` is the number of steps from a spike to its current: the current of step t comes from
the spikes of step t - delay. Delay 0 propagates within the step (what ANN conversion means); every chip needs
at least 1, which ``retime`` provides. State is float64 at this level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.encode import rate_spikes
from nmc.ir.op import Array, Op, State, StatefulOp, Value, broadcasts, require
from nmc.ir.ops import kernels
from nmc.ir.types import Type

Ints = tuple[int, ...]


class InputOp(StatefulOp):
    """An op that brings data into the network; `source` names the data, empty where it needs none."""

    source: str
    shape: Ints

    @property
    def in_time(self) -> bool:
        """Whether the data are spikes (B, T, *shape) rather than samples (B, *shape)."""
        return False

    def encode(self, data: Array, first_sample: int, t: int) -> Array:
        """What enters the network at step `t`, for a batch (B, *shape) of samples."""
        raise TypeError(f"{self.name} brings nothing in")


@dataclass(frozen=True, kw_only=True)
class Input(InputOp, name="snn.input"):
    """A network input with its encoder.

    %x = snn.input() {source=x, shape=[1, 28, 28], encoder=constant} : current<1x28x28>

    ``constant`` gives the current ``gain * data`` at every step, cut below at 0; ``rate`` gives
    spikes with that probability a step; ``raster`` takes spikes (B, T, *shape) as they are.
    """

    source: str
    shape: Ints
    encoder: Literal["constant", "rate", "raster"] = "constant"
    gain: float = 1.0
    seed: int = 0

    @property
    def in_time(self) -> bool:
        """The raster encoder takes spikes."""
        return self.encoder == "raster"

    def infer(self) -> Type:
        """Current for the constant encoder, spikes for the others."""
        return Type("current" if self.encoder == "constant" else "spikes", self.shape)

    def encode(self, data: Array, first_sample: int, t: int) -> Array:
        """Apply the encoder."""
        if self.encoder == "raster":
            return data[:, t] if t < data.shape[1] else np.zeros_like(data[:, 0])
        scaled = np.maximum(data.astype(np.float64) * self.gain, 0.0)
        return scaled if self.encoder == "constant" else rate_spikes(scaled, self.seed, first_sample, t)


@dataclass(frozen=True, kw_only=True)
class ProjectionOp(Op):
    """Spikes to current through weights; `delay` steps later."""

    spikes: Value
    weight: Const
    delay: int = 0

    def verify(self) -> None:
        """Operand carries events, the delay is not negative."""
        kind = self.spikes.type.kind
        require(
            kind in ("spikes", "graded"), f"operand is {kind}, a projection needs spikes or graded events"
        )
        require(self.delay >= 0, f"delay {self.delay} is negative")


@dataclass(frozen=True, kw_only=True)
class Conv(ProjectionOp, name="snn.conv"):
    """Current from spikes through one shared kernel: weights are stored once, not per neuron.

    %3 = snn.conv(%2, @conv2.w) {stride=[1, 1], pad=[1, 1, 1, 1], dilation=[1, 1]} : current<16x13x13>
    """

    stride: Ints
    pad: Ints
    dilation: Ints
    groups: int = 1

    def infer(self) -> Type:
        """Channels of the kernel, extents of the windows."""
        shape = kernels.conv_shape(
            self.spikes.shape, self.weight.shape, self.stride, self.pad, self.dilation, self.groups
        )
        return Type("current", shape)

    def run(self, spikes: Array) -> Array:
        """Convolve the spikes of one step, float64."""
        data, weight = spikes.astype(np.float64), self.weight.array()
        return kernels.conv(data, weight, self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, kw_only=True)
class Dense(ProjectionOp, name="snn.dense"):
    """Current from all spikes through a matrix (outputs, inputs); the operand is taken row-major.

    %5 = snn.dense(%4, @fc.w) : current<10>
    """

    shape: Ints = ()

    def infer(self) -> Type:
        """One element an output, in `shape` where given."""
        require(len(self.weight.shape) == 2, f"weights of rank {len(self.weight.shape)}")
        have, want = self.spikes.type.size, self.weight.shape[1]
        require(have == want, f"weights have {want} inputs, operand has {have}")
        return Type(
            "current", kernels.reshape_target(self.weight.shape[0], self.shape or self.weight.shape[:1])
        )

    def run(self, spikes: Array) -> Array:
        """Multiply the spikes of one step, float64."""
        product = kernels.dense(spikes.astype(np.float64), self.weight.array())
        return product.reshape(-1, *self.shape) if self.shape else product


@dataclass(frozen=True, kw_only=True)
class OneToOne(ProjectionOp, name="snn.one_to_one"):
    """Current of each neuron from the spike of the neuron at the same place, times a weight that broadcasts.

    %5 = snn.one_to_one(%4, @skip.w) : current<16x7x7>
    """

    def infer(self) -> Type:
        """Shape of the operand."""
        shape, have = self.weight.shape, self.spikes.shape
        fits = broadcasts(shape, have)
        require(fits, f"weights {shape} do not broadcast to {have}")
        return Type("current", have)

    def run(self, spikes: Array) -> Array:
        """Scale the spikes of one step, float64."""
        product: Array = spikes.astype(np.float64) * self.weight.array()
        return product


@dataclass(frozen=True, kw_only=True)
class NeuronOp(StatefulOp):
    """A population: currents in, spikes (or a membrane potential) out."""

    current: tuple[Value, ...]
    bias: Const | None = None
    start: int = 0

    def _shape(self) -> Ints:
        require(len(self.current) >= 1, "a population needs a current")
        shapes = {value.shape for value in self.current}
        require(len(shapes) == 1, f"currents differ in shape: {sorted(shapes)}")
        return self.current[0].shape

    def verify(self) -> None:
        """Operands are currents, the bias broadcasts, the start is not negative."""
        kinds = {value.type.kind for value in self.current}
        require(kinds <= {"current"}, f"operands must be currents, not {', '.join(sorted(kinds))}")
        require(self.start >= 0, f"start {self.start} is negative")
        if self.bias is not None:
            shape, have = self.bias.shape, self._shape()
            fits = broadcasts(shape, have)
            require(fits, f"bias {shape} does not broadcast to {have}")

    def _drive(self, t: int, currents: tuple[Array, ...]) -> Array:
        total = currents[0]
        for term in currents[1:]:
            total = total + term
        if self.bias is not None and t >= self.start:
            total = total + self.bias.array().astype(np.float64)
        return total


@dataclass(frozen=True, kw_only=True)
class If(NeuronOp, name="snn.if"):
    """Integrate and fire: v += current + bias; spike where v passes the threshold; then reset.

    %relu1 = snn.if(%conv1, @conv1.b) {v_init=0.5} : spikes<8x14x14>

    The bias acts from step `start` on (``retime`` sets it to the population's latency). `compare` says
    whether reaching the threshold suffices; ``subtract`` keeps what is above it, ``zero`` forgets it.
    """

    threshold: float = 1.0
    v_init: float = 0.0
    reset: Literal["subtract", "zero"] = "subtract"
    compare: Literal["gt", "ge"] = "gt"

    def infer(self) -> Type:
        """Spikes in the shape of the currents."""
        return Type("spikes", self._shape())

    def begin(self, batch: int) -> State:
        """All membranes at `v_init`."""
        return {"v": np.full((batch, *self._shape()), self.v_init, np.float64)}

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Integrate, compare, reset."""
        v = state["v"] + self._drive(t, currents)
        fired = v > self.threshold if self.compare == "gt" else v >= self.threshold
        state["v"] = v - self.threshold * fired if self.reset == "subtract" else np.where(fired, 0.0, v)
        return fired.astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Integrator(NeuronOp, name="snn.integrator"):
    """Read-out that never spikes: v += current + bias; its value is v.

    %logits = snn.integrator(%fc, @fc.b) : graded<10>

    `reach` is how much v is known to move in a step, on average over a run, 0 where that is not known; targets
    use it to choose a scale, the result does not depend on it.
    """

    reach: float = 0.0

    def infer(self) -> Type:
        """Potentials in the shape of the currents."""
        return Type("graded", self._shape())

    def begin(self, batch: int) -> State:
        """All membranes at zero."""
        return {"v": np.zeros((batch, *self._shape()), np.float64)}

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Integrate."""
        state["v"] = state["v"] + self._drive(t, currents)
        return state["v"]


@dataclass(frozen=True, kw_only=True)
class Output(Op, name="snn.output", levels=("snn", "mapped")):
    """A network output with its decoder; `scale` turns the decoded integers or rates into the trained range.

    snn.output(%logits) {decoder=last, scale=12.5}

    ``last`` takes the value of the last step, ``count`` sums over all steps.
    """

    data: Value
    decoder: Literal["last", "count"] = "last"
    scale: float = 1.0

    def decode(self, steps: list[Array]) -> Array:
        """Decode the values of all steps, each (B, ...): float64 (B, ...)."""
        total = steps[-1].astype(np.float64)
        if self.decoder == "count":
            for item in steps[:-1]:
                total = total + item
        return total * self.scale
