"""Level ``snn``: populations and structured projections in discrete time.

A projection's `delay` is the number of steps from a spike to its current: the current of step t comes from
the spikes of step t - delay. Delay 0 propagates within the step (what ANN conversion means); every chip needs
at least 1, which ``retime`` provides. State is float64 at this level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
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


#: Encoders of exact networks: whole numbers clip(rint(gain * data), low, high), all of which have entered in the end.
EXACT_ENCODERS = ("burst", "spread", "const", "count", "bits")
#: Encoders that send spikes; the others of `EXACT_ENCODERS` send graded events, ``constant`` currents.
_SPIKING = ("rate", "raster", "count", "bits")
MAX_OVER = 1 << 20
MAX_DELAY = 1 << 40
#: Whole numbers below it, and their sums in any order as long as they stay below, are exact in float32.
_EXACT_FLOAT32 = 1 << 24
MAX_INPUT = 1 << 31


@dataclass(frozen=True, kw_only=True)
class Input(InputOp, name="snn.input"):
    """A network input with its encoder.

    %x = snn.input() {source=x, shape=[1, 28, 28], encoder=constant} : current<1x28x28>

    ``constant`` gives the current ``gain * data`` at every step, cut below at 0; ``rate`` gives
    spikes with that probability a step; ``raster`` takes spikes (B, T, *shape) as they are.

    Exact networks take whole numbers x = clip(rint(gain * data), low, high): ``burst`` sends x in step 0, ``spread``
    by the cumulative floor over `over` steps (floor((t + 1) x / over) - floor(t x / over)), ``const`` x in each of
    them; ``count`` sends x plain spikes, spread in the same way over as many steps, ``bits`` the `over` binary digits
    of x, the highest first. With `stream` the data are frames (B, F, *shape), and what enters is x of a frame minus x
    of the one before.
    """

    source: str
    shape: Ints
    encoder: Literal["constant", "rate", "raster", "burst", "spread", "const", "count", "bits"] = "constant"
    gain: float = 1.0
    seed: int = 0
    low: int = 0
    high: int = 0
    over: int = 1
    stream: bool = False

    @property
    def empty(self) -> bool:
        """Nothing ever comes: it stands for the current of a population that nothing drives."""
        return not self.source and self.encoder in ("constant", "const")

    @property
    def in_time(self) -> bool:
        """The raster encoder takes spikes."""
        return self.encoder == "raster"

    @property
    def rests(self) -> bool:
        """Whole numbers enter in the first `over` steps."""
        return self.encoder in EXACT_ENCODERS

    @property
    def active_until(self) -> int:
        """Steps in which something may enter."""
        return 1 if self.encoder == "burst" else self.over

    def infer(self) -> Type:
        """Current for the constant encoder, whole numbers or spikes for the others."""
        if self.encoder == "constant":
            return Type("current", self.shape)
        return Type("spikes" if self.encoder in _SPIKING else "graded", self.shape)

    def verify(self) -> None:
        """The range of the whole numbers is one, and the encoder can send all of it."""
        require(not self.stream or self.encoder in EXACT_ENCODERS[:3],
                f"encoder {self.encoder} cannot send the differences of a stream")  # fmt: skip
        if self.encoder not in EXACT_ENCODERS:
            return
        require(-MAX_INPUT <= self.low <= self.high <= MAX_INPUT, f"range {self.low}..{self.high} is none")
        require(1 <= self.over <= MAX_OVER, f"over {self.over} is not in 1..{MAX_OVER}")
        if self.encoder in ("count", "bits"):
            most = self.over if self.encoder == "count" else (1 << min(self.over, 32)) - 1
            require(self.low >= 0 and self.high <= most,
                    f"{self.encoder} over {self.over} steps does not hold {self.low}..{self.high}")  # fmt: skip

    def integers(self, data: Array) -> Array:
        """The whole numbers that stand for data of any shape, int64.

        Raises
        ------
        NmcError
            E0403 for NaN or infinity.
        """
        scaled = np.rint(data.astype(np.float64) * self.gain)
        if not np.isfinite(scaled).all():
            raise fail("E0403", f"the data for input {self.source} hold NaN or infinity", hint="remove them")
        return np.asarray(np.clip(scaled, self.low, self.high), np.int64)

    def difference(self, frames: Array, frame: int) -> Array:
        """How the whole numbers of a frame of (B, F, *shape) differ from those of the one before, int64."""
        now = self.integers(frames[:, frame])
        return np.asarray(now - self.integers(frames[:, frame - 1])) if frame else now

    def framed(self, frames: Array, steps: int) -> Array:
        """What enters for frames (B, F, *shape) of `steps` steps each: differences, (B, F * steps, *shape) int64."""
        sent = np.zeros((len(frames), frames.shape[1] * steps, *self.shape), np.int64)
        for frame in range(frames.shape[1]):
            numbers = self.difference(frames, frame)
            for t in range(min(steps, self.active_until)):
                sent[:, frame * steps + t] = self.schedule(numbers, t)
        return sent

    def schedule(self, numbers: Array, t: int) -> Array:
        """What of whole numbers (B, *shape) enters in step `t`: (B, *shape) in their type, uint8 for spikes."""
        kind = np.uint8 if self.encoder in _SPIKING else numbers.dtype
        if not 0 <= t < self.active_until:
            return np.zeros_like(numbers, kind)
        if self.encoder in ("burst", "const"):
            return numbers
        if self.encoder == "bits":
            return np.asarray((numbers >> (self.over - 1 - t)) & 1, kind)
        return np.asarray((t + 1) * numbers // self.over - t * numbers // self.over, kind)

    def encode(self, data: Array, first_sample: int, t: int) -> Array:
        """Apply the encoder."""
        if self.encoder == "raster":
            return data[:, t] if t < data.shape[1] else np.zeros_like(data[:, 0])
        if self.encoder in EXACT_ENCODERS:
            over = t >= self.active_until
            return self.schedule(np.zeros(data.shape, np.int64) if over else self.integers(data), t)
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
        require(self.delay <= MAX_DELAY, f"delay {self.delay} is longer than {MAX_DELAY} steps")

    @cached_property
    def heaviest(self) -> int | None:
        """The largest sum of absolute weights onto one target, None for weights that are not whole numbers."""
        weight = self.weight.array()
        if weight.dtype.kind not in "iu" or not weight.size:
            return None
        sizes = np.abs(weight.astype(np.float64))
        return int(
            sizes.max() if isinstance(self, OneToOne) else sizes.reshape(len(sizes), -1).sum(axis=1).max()
        )

    def sums(self, spikes: Array) -> Array:
        """What `run` gives, in float32 where that holds every partial sum of whole numbers."""
        return self.run(spikes)

    def _through(
        self, spikes: Array, product: Callable[[Array, Any], Array], plain: Callable[[Array], Array]
    ) -> Array:
        """Apply a linear map: `plain` in float64, `product` of whole numbers in a type that holds all sums.

        Of whole numbers, samples without events are left out where they are many: their sums are 0.
        """
        if self.heaviest is None or spikes.dtype.kind not in "iub":
            return plain(spikes.astype(np.float64))
        most = max(int(spikes.max(initial=0)), -int(spikes.min(initial=0)))
        kind = np.float32 if most * self.heaviest < _EXACT_FLOAT32 else np.float64
        if most and 2 * np.count_nonzero(spikes) > len(spikes):
            return product(spikes, kind)
        total = kernels.batch_inner((len(spikes), *self.result.shape), kind)
        total[...] = 0
        active = spikes.reshape(len(spikes), -1).any(axis=1)
        if active.any():
            total[active] = product(spikes[active], kind)
        return total


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
        return self.sums(spikes).astype(np.float64, copy=False)

    def sums(self, spikes: Array) -> Array:
        """Convolve the spikes of one step."""
        weight, how = self.weight.array(), (self.stride, self.pad, self.dilation, self.groups)
        return self._through(
            spikes,
            lambda data, kind: kernels.conv_whole(data, weight, *how, kind),
            lambda data: kernels.conv(data, weight, *how),
        )


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
        return self.sums(spikes).astype(np.float64, copy=False)

    def sums(self, spikes: Array) -> Array:
        """Multiply the spikes of one step."""
        weight, shape = self.weight.array(), self.result.shape

        def plain(data: Array) -> Array:
            return kernels.dense(data, weight).reshape(-1, *shape)

        return self._through(spikes, lambda data, kind: plain(data.astype(kind)), plain)


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
        return self.sums(spikes).astype(np.float64, copy=False)

    def sums(self, spikes: Array) -> Array:
        """Scale the spikes of one step."""
        weight = self.weight.array()
        return self._through(
            spikes,
            lambda data, kind: np.multiply(data, weight.astype(kind), dtype=kind),
            lambda data: data * weight.astype(np.float64),
        )


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
        total = currents[0].astype(np.float64, copy=False)
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

    ``last`` takes the value of the last step, ``count`` sums over all steps. The last two attributes say when a run
    may end before its last step: with a `margin`, for each sample after the first step, from `delay` on, in which the
    largest element exceeds the second largest by at least that much; with `quiescent`, when the network has come to
    rest. `margins` are those of single steps, the first that of step `delay`; `margin` is that of all later ones.
    """

    data: Value
    decoder: Literal["last", "count"] = "last"
    scale: float = 1.0
    margin: int = 0
    delay: int = 0
    quiescent: bool = False
    margins: Ints = ()

    def verify(self) -> None:
        """Only values of the last step can be compared on the way."""
        require(self.margin >= 0 and self.delay >= 0, "margin and delay cannot be negative")
        require(min(self.margins, default=1) > 0, "the margin of a step must be positive")
        require(not self.margins or self.margin > 0, "margins of single steps need one of all later ones")
        early = self.margin > 0 or self.quiescent
        require(not early or self.decoder == "last", "a run ends early only with the decoder last")
        require(not self.margin or self.data.type.size >= 2, "a margin needs two elements to compare")

    def decided(self, value: Array, t: int) -> Array:
        """Samples (B,) bool in which the value of step `t` is clear enough to stop."""
        flat = value.reshape(len(value), -1)
        if not self.margin or t < self.delay:
            return np.zeros(len(flat), bool)
        two = np.partition(flat, -2, axis=1)[:, -2:]
        step = t - self.delay
        return np.asarray(
            two[:, 1] - two[:, 0] >= (self.margins[step] if step < len(self.margins) else self.margin)
        )

    def with_unit(self, factor: int) -> Output:
        """The output of integers that are `factor` times as large."""
        margins = tuple(item * factor for item in self.margins)
        return replace(self, scale=self.scale / factor, margin=self.margin * factor, margins=margins)

    def decode(self, steps: list[Array]) -> Array:
        """Decode the values of all steps, each (B, ...): float64 (B, ...)."""
        total = steps[-1].astype(np.float64)
        if self.decoder == "count":
            for item in steps[:-1]:
                total = total + item
        return total * self.scale

    def trace(self, steps: list[Array]) -> Array:
        """Decode after each step as if it were the last one: float64 (B, T, ...)."""
        values: Array = np.stack(steps, axis=1).astype(np.float64)
        return (np.cumsum(values, axis=1) if self.decoder == "count" else values) * self.scale
