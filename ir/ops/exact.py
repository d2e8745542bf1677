"""Level ``snn``: populations of exact integer networks, and the read-out of one.

``snn.graded`` is the law: with its projections at delay 0 one time step computes the whole quantised network,
``c = clip(floor((offset + S) / theta), 0, levels)`` with S the sum of everything that came in. The other populations
reach the same count c by other events: signed spikes (``snn.stbif``), plain spikes in a window (``snn.phased``), binary
digits (``snn.bit_serial``).

Why ``snn.stbif`` does (design 04-conversion, "The exact neuron"; facts/conversion.md 4.2): its membrane is always
v = offset + S - theta c, and it is still only when no spike is possible. Then for 0 < c < levels 0 <= v < theta, so
c = floor((offset + S) / theta); c = levels means v >= 0, so the floor is at least levels; c = 0 means v < theta, so it
is at most 0. That holds for any order and time of arrival; and in a graph without loops every S ends at its own value,
by induction, so that it holds for the whole network. After the last arrival c moves towards its end by one a step.

State is int64; counts are in the smallest type that holds `levels`. Currents are integers by construction; those that
arrive as floating-point numbers are exact and are converted by rint. Before step `start` (``retime``) a population only
collects what arrives.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Span, State, StatefulOp, Value, broadcasts, require
from nmc.ir.ops import kernels
from nmc.ir.types import Type

Ints = tuple[int, ...]

#: Parameters, counts and times beyond these could leave int64 in a run of any length that is feasible.
MAX_PARAMETER = 1 << 61
MAX_LEVELS = (1 << 31) - 1
MAX_STEPS = 1 << 24
MAX_BITS = 31


def as_integers(values: Array) -> Array:
    """Give integers that arrive in any type as int64; floating-point ones are rounded (they are whole already)."""
    whole = values if values.dtype.kind in "iub" else np.rint(values)
    return whole.astype(np.int64, copy=False)


def count_type(levels: int) -> np.dtype[np.signedinteger]:
    """The smallest signed type that holds -levels..levels."""
    return next(np.dtype(kind) for kind in (np.int8, np.int16, np.int32) if levels <= np.iinfo(kind).max)


def _integral(const: Const, least: int, what: str) -> None:
    """Check that a parameter holds integers of at least `least` and of a sensible size."""
    kind = const.type.kind
    require(kind[0] in "iu" or kind == "bool", f"{what} @{const.name} is {kind}, not integers")
    if const.data is not None and const.data.size:
        low, high = int(const.data.min()), int(const.data.max())
        require(least <= low and high <= MAX_PARAMETER, f"{what} @{const.name} has values {low}..{high}")


@dataclass(frozen=True, kw_only=True)
class ExactOp(StatefulOp):
    """A population that adds up integers: what ``snn.readout`` and the neurons share."""

    current: tuple[Value, ...]

    @property
    def shape(self) -> Ints:
        """Shape of the population."""
        require(len(self.current) >= 1, "a population needs a current")
        shapes = {value.shape for value in self.current}
        require(len(shapes) == 1, f"currents differ in shape: {sorted(shapes)}")
        return self.current[0].shape

    def verify(self) -> None:
        """Operands bring currents or events, parameters broadcast."""
        kinds = {value.type.kind for value in self.current}
        wrong = sorted(kinds - {"current"})
        require(not wrong, f"operands must be currents, not {', '.join(wrong)}")
        for const in self.consts:
            fits = broadcasts(const.shape, self.shape)
            require(fits, f"@{const.name} {const.shape} does not broadcast to {self.shape}")

    @property
    def rests(self) -> bool:
        """Once all has arrived it settles."""
        return True

    def part(self, box: tuple[Span, ...]) -> StatefulOp:
        """The same population cut to a box of its neurons."""
        extents, cut = tuple(len(span) for span in box), tuple(span.slice() for span in box)
        current = tuple(Value(value.name, Type(value.type.kind, extents)) for value in self.current)
        names = [name for name in ("theta", "offset") if isinstance(getattr(self, name, None), Const)]
        cropped: dict[str, Any] = {name: _cropped(getattr(self, name), self.shape, cut) for name in names}
        return replace(self, current=current, **cropped)

    def _arrived(self, currents: tuple[Array, ...]) -> Array:
        """The sum of this step's currents, int64."""
        total = as_integers(currents[0])
        for term in currents[1:]:
            total = total + as_integers(term)
        return total

    def _zeros(self, batch: int) -> Array:
        return np.zeros((batch, *self.shape), np.int64)


def _cropped(const: Const, shape: Ints, cut: tuple[slice, ...]) -> Const:
    return Const(const.name, np.broadcast_to(const.array(), shape)[cut])


@dataclass(frozen=True, kw_only=True)
class ExactNeuron(ExactOp):
    """A population with a count in 0..levels: c = clip(floor((offset + S) / theta), 0, levels) in the end.

    `theta` > 0 and `offset` (theta // 2 plus the bias, for rounding to the nearest) broadcast to the population.
    `bound` is a proved bound on the absolute value of the membrane at any time, 0 where nobody proved one.
    """

    theta: Const
    offset: Const
    levels: int
    start: int = 0
    bound: int = 0

    def verify(self) -> None:
        """Thresholds are positive integers, levels and times in range."""
        ExactOp.verify(self)
        _integral(self.theta, 1, "theta")
        _integral(self.offset, -MAX_PARAMETER, "offset")
        require(1 <= self.levels <= MAX_LEVELS, f"levels {self.levels} are not in 1..{MAX_LEVELS}")
        require(0 <= self.start <= MAX_STEPS, f"start {self.start} is not in 0..{MAX_STEPS}")
        require(self.bound >= 0, f"bound {self.bound} is negative")

    @cached_property
    def _theta(self) -> Array:
        return self.theta.array().astype(np.int64)

    @cached_property
    def _offset(self) -> Array:
        return self.offset.array().astype(np.int64)

    def _count(self, total: Array) -> Array:
        """What the law counts for a sum S of all that came in."""
        theta = self._theta
        whole = total + self._offset
        if theta.size == 1 and int(theta.reshape(-1)[0]) == 1:
            quotient = whole
        else:
            quotient = np.floor_divide(whole, theta, out=whole)
        return np.clip(quotient, 0, self.levels, out=quotient).astype(count_type(self.levels))


def _samples(flags: Array) -> Array:
    """Whether anything is true in each sample: (B,) bool."""
    return np.asarray(flags.reshape(len(flags), -1).any(axis=1))


@dataclass(frozen=True, kw_only=True)
class Graded(ExactNeuron, name="snn.graded"):
    """The exact neuron with payloads: it sends by how much its count changed.

    %relu1 = snn.graded(%conv1, @theta, @offset) {levels=8} : graded<8x14x14>

    Step t: S += currents; c' = clip(floor((offset + S) / theta), 0, levels); the output is c' - c.
    """

    def infer(self) -> Type:
        """Changes of the counts."""
        return Type("graded", self.shape)

    def begin(self, batch: int) -> State:
        """Sums ``s`` and counts ``c`` at zero."""
        return {"s": self._zeros(batch), "c": np.zeros((batch, *self.shape), count_type(self.levels))}

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Add, divide, send the difference."""
        state["s"] = state["s"] + self._arrived(currents)
        before = state["c"]
        if t < self.start:
            return np.zeros_like(before)
        state["c"] = self._count(state["s"])
        return np.asarray(state["c"] - before)

    def eligible(self, state: State, t: int) -> Array:
        """Only before `start`: later a count is never behind its sum."""
        return _samples(self._count(state["s"]) != state["c"])


@dataclass(frozen=True, kw_only=True)
class StBif(ExactNeuron, name="snn.stbif"):
    """The exact neuron with signed spikes and a spike counter (ST-BIF; facts/conversion.md 1.8 and 4.2).

    %relu1 = snn.stbif(%conv1, @theta, @offset) {levels=8} : graded<8x14x14>

    The membrane starts at `offset`. Step t: v += currents; +1 where v >= theta and c < levels (v -= theta, c += 1), -1
    where v < 0 and c > 0 (v += theta, c -= 1). With `spread` the bias (offset - theta // 2) enters evenly over that
    many steps, by its cumulative floor, instead of at once.
    """

    spread: int = 0

    def infer(self) -> Type:
        """Signed spikes: -1, 0, 1."""
        return Type("graded", self.shape)

    def verify(self) -> None:
        """The spread is no negative number of steps."""
        ExactNeuron.verify(self)
        require(0 <= self.spread <= MAX_STEPS, f"spread {self.spread} is not in 0..{MAX_STEPS}")

    @property
    def active_until(self) -> int:
        """While the bias enters, the membrane moves by itself."""
        return self.start + self.spread

    def begin(self, batch: int) -> State:
        """Membranes ``v`` at their offset (at half the threshold with a spread bias), counts ``c`` at zero."""
        v = self._zeros(batch) + (self._theta // 2 if self.spread else self._offset)
        return {"v": v, "c": np.zeros(v.shape, count_type(self.levels))}

    def drip(self, t: int) -> Array | None:
        """What of the bias enters in step `t`."""
        now = t - self.start
        if not 0 <= now < self.spread:
            return None
        whole, rest = np.divmod(self._offset - self._theta // 2, self.spread)
        return np.asarray(whole + (now + 1) * rest // self.spread - now * rest // self.spread)

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Integrate; one spike up or down."""
        v = state["v"] + self._arrived(currents)
        drip = self.drip(t)
        if drip is not None:
            v += drip
        state["v"] = v
        if t < self.start:
            return np.zeros(v.shape, np.int8)
        fired = self._fire(v, state["c"])
        v -= self._theta * fired
        state["c"] = state["c"] + fired
        return fired

    def _fire(self, v: Array, c: Array) -> Array:
        up, down = v >= self._theta, v < 0
        up &= c < self.levels
        down &= c > 0
        return np.subtract(up, down, dtype=np.int8)

    def eligible(self, state: State, t: int) -> Array:
        """Samples with a neuron that would fire with nothing coming in."""
        return _samples(self._fire(state["v"], state["c"]) != 0)


@dataclass(frozen=True, kw_only=True)
class Phased(ExactNeuron, name="snn.phased"):
    """The exact neuron with plain spikes: it waits until all has arrived, then fires at most once a step.

    %relu1 = snn.phased(%conv1, @theta, @offset) {levels=8, open=16} : spikes<8x14x14>

    The membrane starts at `offset`. Step t: v += currents; a spike where v >= theta (v -= theta), but only in steps
    start + open <= t < start + open + levels (facts/conversion.md 3.5).
    """

    open: int

    def infer(self) -> Type:
        """Spikes."""
        return Type("spikes", self.shape)

    def verify(self) -> None:
        """The window does not begin before the run."""
        ExactNeuron.verify(self)
        require(0 <= self.open <= MAX_STEPS, f"open {self.open} is not in 0..{MAX_STEPS}")

    def begin(self, batch: int) -> State:
        """Membranes ``v`` at their offset."""
        return {"v": self._zeros(batch) + self._offset}

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Integrate; fire in the window."""
        v = state["v"] + self._arrived(currents)
        state["v"] = v
        if not 0 <= t - self.start - self.open < self.levels:
            return np.zeros(v.shape, np.uint8)
        fired = v >= self._theta
        v -= self._theta * fired
        return fired.view(np.uint8)

    def eligible(self, state: State, t: int) -> Array:
        """Samples with a neuron above its threshold whose window is open or still to come."""
        over = t + 1 - self.start - self.open >= self.levels
        return np.zeros(len(state["v"]), bool) if over else _samples(state["v"] >= self._theta)


@dataclass(frozen=True, kw_only=True)
class BitSerial(ExactNeuron, name="snn.bit_serial"):
    """The exact neuron with binary digits: a doubling accumulator takes and sends counts, highest digit first.

    %relu1 = snn.bit_serial(%conv1, @theta, @offset) {levels=15, open=8, bits=4} : spikes<8x14x14>

    With t' = t - start: acc = 2 acc + currents while t' < open; at t' = open the count is
    clip(floor((offset + acc) / theta), 0, levels), and its digits leave in steps open..open + bits - 1. Currents of
    step `open` and later are not taken.
    """

    open: int
    bits: int

    def infer(self) -> Type:
        """Digits."""
        return Type("spikes", self.shape)

    def verify(self) -> None:
        """All counts have that many digits."""
        ExactNeuron.verify(self)
        require(0 <= self.open <= MAX_STEPS, f"open {self.open} is not in 0..{MAX_STEPS}")
        require(1 <= self.bits <= MAX_BITS, f"{self.bits} digits are not in 1..{MAX_BITS}")
        require(self.levels >> self.bits == 0, f"{self.bits} digits do not hold counts up to {self.levels}")

    @property
    def active_until(self) -> int:
        """The accumulator doubles until it is read."""
        return self.start + self.open

    def begin(self, batch: int) -> State:
        """Accumulators ``acc`` and counts ``c`` at zero."""
        return {"acc": self._zeros(batch), "c": np.zeros((batch, *self.shape), count_type(self.levels))}

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Double and add, or send a digit."""
        now = t - self.start - self.open
        if now < 0:
            state["acc"] = 2 * state["acc"] + self._arrived(currents)
        if now == 0:
            state["c"] = self._count(state["acc"])
        if not 0 <= now < self.bits:
            return np.zeros(state["c"].shape, np.uint8)
        return ((state["c"] >> (self.bits - 1 - now)) & 1).astype(np.uint8)

    def eligible(self, state: State, t: int) -> Array:
        """Samples with digits other than 0 still to send."""
        left = self.start + self.open + self.bits - 1 - t
        if left <= 0:
            return np.zeros(len(state["c"]), bool)
        if left < self.bits:
            return _samples(state["c"].astype(np.int64) & ((1 << left) - 1))
        doublings = min(max(left - self.bits, 0), 62)
        return _samples(self._count(state["acc"] << doublings))


@dataclass(frozen=True, kw_only=True)
class MaxPool(StatefulOp, name="snn.max_pool"):
    """Maximum of counts over windows, in events: how much it changed. Acts within the step; no weights.

    %pool1 = snn.max_pool(%relu1) {kernel=[2, 2], stride=[2, 2], pad=[0, 0, 0, 0], dilation=[1, 1]} : graded<8x7x7>

    Step t: counts += events; the output is the new maximum of each window minus the old one. Counts are never negative,
    so that the border counts as 0 (facts/conversion.md 1.7: exact for counts).
    """

    events: Value
    kernel: Ints
    stride: Ints
    pad: Ints
    dilation: Ints

    @property
    def rests(self) -> bool:
        """It answers within the step."""
        return True

    def infer(self) -> Type:
        """Channels of the operand, extents of the windows."""
        channels, *space = self.events.shape or (0,)
        require(len(space) >= 1, f"pooling needs channels and space, not a value of rank {len(space)}")
        lengths = {len(self.kernel), len(self.stride), len(self.dilation), len(self.pad) // 2}
        fits = lengths == {len(space)} and len(self.pad) == 2 * len(space)
        require(fits, f"kernel, stride, dilation need {len(space)} entries, pad twice as many")
        positive = min(*self.kernel, *self.stride, *self.dilation, 1) > 0
        require(positive, "kernel, stride and dilation must be positive")
        windows = kernels.window_shape(tuple(space), self.kernel, self.stride, self.pad, self.dilation)
        return Type("graded", (channels, *windows))

    def verify(self) -> None:
        """Operand carries events."""
        kind = self.events.type.kind
        require(kind in ("spikes", "graded"), f"operand is {kind}, pooling of counts needs events")

    def begin(self, batch: int) -> State:
        """Counts ``count`` of what came in and their maxima ``c`` at zero."""
        zeros = np.zeros((batch, *self.events.shape), np.int64)
        return {"count": zeros, "c": np.zeros((batch, *self.result.shape), np.int64)}

    def step(self, state: State, t: int, *events: Array) -> Array:
        """Count, take the maxima, send the difference."""
        if not events[0].any():
            return np.zeros(state["c"].shape, events[0].dtype if events[0].dtype.kind == "i" else np.int8)
        state["count"] = state["count"] + as_integers(events[0])
        before, state["c"] = state["c"], self.maxima(state["count"])
        return np.asarray(state["c"] - before)

    def maxima(self, counts: Array) -> Array:
        """Maximum of each window of counts (B, C, *space)."""
        padded = kernels.pad_array(counts, self.pad)
        space = self.result.shape[1:]
        found: Array | None = None
        for tap in product(*map(range, self.kernel)):
            cut = tuple(
                slice(at * d, at * d + s * (n - 1) + 1, s)
                for at, d, s, n in zip(tap, self.dilation, self.stride, space, strict=True)
            )
            seen = padded[(slice(None), slice(None), *cut)]
            found = seen.copy() if found is None else np.maximum(found, seen, out=found)
        assert found is not None, "a window has at least one element"
        return found

    def eligible(self, state: State, t: int) -> Array:
        """Never: it answers within the step."""
        return np.zeros(len(state["c"]), bool)


@dataclass(frozen=True, kw_only=True)
class AnyOf(ExactOp, name="snn.any"):
    """A population without memory: a spike in each step in which anything arrives; weights are positive.

    %pool1 = snn.any(%pool1.window) {levels=8} : spikes<8x14x14>

    A train of ``snn.phased`` has no gap from the opening of its window on: of several with one window the union is as
    long as the longest, which makes it the maximum of their counts. `levels` is the largest.
    """

    levels: int

    def infer(self) -> Type:
        """Spikes."""
        return Type("spikes", self.shape)

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Fire where something arrives."""
        return (self._arrived(currents) > 0).view(np.uint8)

    def eligible(self, state: State, t: int) -> Array:
        """Never: it has no memory."""
        return np.zeros(1, bool)


@dataclass(frozen=True, kw_only=True)
class Readout(ExactOp, name="snn.readout"):
    """Read-out of an exact network: v = offset + the sum of all that came in; never fires, the bias enters once.

    %logits = snn.readout(%fc, @offset) : graded<10>

    With `doubling_until` n it takes binary digits: acc = 2 acc + currents in steps t < start + n and nothing later;
    v = offset + acc. `reach` is how far v is known to go, `bound` what is proved, 0 where that is not known.
    """

    offset: Const
    doubling_until: int = 0
    reach: float = 0.0
    start: int = 0
    bound: int = 0

    def infer(self) -> Type:
        """Sums."""
        return Type("graded", self.shape)

    def verify(self) -> None:
        """Offsets are integers, times in range."""
        ExactOp.verify(self)
        _integral(self.offset, -MAX_PARAMETER, "offset")
        for what, steps in (("start", self.start), ("doubling_until", self.doubling_until)):
            require(0 <= steps <= MAX_STEPS, f"{what} {steps} is not in 0..{MAX_STEPS}")
        require(self.bound >= 0, f"bound {self.bound} is negative")

    @property
    def active_until(self) -> int:
        """A doubling accumulator moves until it stops."""
        return self.start + self.doubling_until if self.doubling_until else 0

    def begin(self, batch: int) -> State:
        """Sums ``v`` at the offset."""
        v = self._zeros(batch) + self.offset.array().astype(np.int64)
        return {"v": v, "acc": np.zeros_like(v)} if self.doubling_until else {"v": v}

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Add."""
        if not self.doubling_until:
            state["v"] = state["v"] + self._arrived(currents)
        elif t < self.start + self.doubling_until:
            state["acc"] = 2 * state["acc"] + self._arrived(currents)
            state["v"] = state["acc"] + self.offset.array().astype(np.int64)
        return state["v"]

    def eligible(self, state: State, t: int) -> Array:
        """Never: it does not fire."""
        return np.zeros(len(state["v"]), bool)
