"""Exact populations in the smallest number types that hold them: what `step()` gives, bit for bit, and much sooner.

The laws of `nmc.ir.ops.exact` are in int64. Where the weights, levels and inputs of a network bound what a population
can reach below 2**24, every number in it is whole and exact in float32; counts fit into one or two bytes. The
interpreter runs these twins where nobody looks at the states; tests/ir/test_small.py holds them to the laws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.module import Module
from nmc.ir.op import Op, State, StatefulOp
from nmc.ir.ops import exact, kernels, snn

Array = NDArray[Any]
#: Whole numbers below it are exact in float32, and so is the floor of a quotient of two whose sum is below it.
_EXACT = 1 << 24


def small_populations(module: Module, batch: int) -> dict[str, Small]:
    """The populations of a network that can be run in small types, by name, at rest before the first step."""
    reach = reaches(module)
    found: dict[str, Small] = {}
    for op in module.of_type(StatefulOp):
        twin = next((twin for kind, twin in _TWINS if type(op) is kind), None)
        if twin is not None and op.out in reach:
            found[op.out] = twin(op, batch, reach[op.out])
    return found


def reaches(module: Module) -> dict[str, int]:
    """Bounds below 2**24 on what populations add up, by name; populations without such a bound are left out.

    Of an input, and of a population with counts, what it has sent in all up to any step lies in a range that is known;
    a projection multiplies that by the largest sum of weights onto a target.
    """
    sent: dict[str, int] = {}
    found: dict[str, int] = {}
    for op in module.ops:
        reach = _reach(op, sent)
        if reach is not None:
            sent[op.out] = reach
            own = reach if isinstance(op, exact.MaxPool) else _inside(op, sent)
            if own is not None and own < _EXACT:
                found[op.out] = own
    return found


def _reach(op: Op, sent: dict[str, int]) -> int | None:
    """The largest absolute value of the sum of all that an op has sent up to any step, None where that is not known."""
    if isinstance(op, snn.Input):
        if op.stream:
            return None  # a frame of few steps may not have entered in full when the next one begins
        most = max(op.high, -op.low, 0) * (op.over if op.encoder == "const" else 1)
        return most if op.rests and op.encoder != "bits" else None
    if isinstance(op, snn.ProjectionOp):
        heaviest = op.heaviest if len(op.taps) == 1 else None
        source = sent.get(op.spikes.name)
        return None if heaviest is None or source is None else heaviest * source
    if isinstance(op, exact.MaxPool):
        return sent.get(op.events.name)
    return op.levels if isinstance(op, exact.ExactNeuron) else None


def _inside(op: Op, sent: dict[str, int]) -> int | None:
    """The largest absolute value inside a population."""
    if not isinstance(op, exact.StBif | exact.Graded | exact.Phased):
        return None
    currents = [sent.get(value.name) for value in op.current]
    theta, offset = (
        np.abs(const.array().astype(np.float64)).max(initial=0) for const in (op.theta, op.offset)
    )
    own = int(theta) * (op.levels + 2) + int(offset)
    return own + sum(item for item in currents if item is not None) if None not in currents else None


class Small:
    """A population that is run in small types.

    Parameters
    ----------
    op : StatefulOp
        The population.
    batch : int
        Samples.
    reach : int
        Bound on its numbers.
    """

    def __init__(self, op: Any, batch: int, reach: int) -> None:
        self.op: Any = op
        self.shape = (batch, *op.result.shape)

    @property
    def state(self) -> State:
        """What the op's own state is, in some type."""
        raise TypeError(f"{self.op.name} has no small types")

    def step(self, t: int, *inputs: Array) -> Array:
        """What the op's own `step` gives."""
        raise TypeError(f"{self.op.name} has no small types")

    def _filled(self, values: Any, kind: Any) -> Array:
        found = kernels.batch_inner(self.shape, kind)
        found[...] = values
        return found


class _StBif(Small):
    """The membrane without what of the bias has entered: thresholds move instead."""

    def __init__(self, op: exact.StBif, batch: int, reach: int) -> None:
        super().__init__(op, batch, reach)
        theta, offset = op.theta.array().astype(np.int64), op.offset.array().astype(np.int64)
        self._theta = theta.astype(np.float32)
        self._entered = (theta // 2 if op.spread else offset) + np.zeros_like(theta)
        self._sum, self._count = self._filled(0, np.float32), self._filled(0, exact.count_type(op.levels))
        self._drop = kernels.batch_inner(self.shape, np.float32)
        self._up, self._down, self._may = (kernels.batch_inner(self.shape, bool) for _ in range(3))

    @property
    def state(self) -> State:
        return {"v": self._sum + self._entered.astype(np.float32), "c": self._count}

    def step(self, t: int, *inputs: Array) -> Array:
        v, c, up, down, may = self._sum, self._count, self._up, self._down, self._may
        _take(v, inputs)
        drip = self.op.drip(t)
        if drip is not None:
            self._entered = self._entered + drip
        if t < self.op.start:
            return self._filled(0, np.int8)
        np.greater_equal(v, (self._theta - self._entered).astype(np.float32), out=up)
        np.less(v, (-self._entered).astype(np.float32), out=down)
        up &= np.less(c, self.op.levels, out=may)
        down &= np.greater(c, 0, out=may)
        fired: Array = np.subtract(up.view(np.int8), down.view(np.int8))
        np.copyto(self._drop, fired)
        v -= np.multiply(self._drop, self._theta, out=self._drop)
        np.add(c, fired, out=c)
        return fired


class _Graded(Small):
    def __init__(self, op: exact.Graded, batch: int, reach: int) -> None:
        super().__init__(op, batch, reach)
        self._theta, self._offset = (item.array().astype(np.float32) for item in (op.theta, op.offset))
        self._counts = exact.count_type(op.levels)
        self._sum, self._count = self._filled(0, np.float32), self._filled(0, self._counts)

    @property
    def state(self) -> State:
        return {"s": self._sum, "c": self._count}

    def step(self, t: int, *inputs: Array) -> Array:
        _take(self._sum, inputs)
        if t < self.op.start:
            return self._filled(0, self._counts)
        before, now = self._count, floor_counts(self._sum, self._theta, self._offset, self.op.levels)
        self._count = now.astype(self._counts)
        return np.asarray(self._count - before)


class _Phased(Small):
    def __init__(self, op: exact.Phased, batch: int, reach: int) -> None:
        super().__init__(op, batch, reach)
        self._theta = op.theta.array().astype(np.float32)
        self._v = self._filled(op.offset.array().astype(np.float32), np.float32)

    @property
    def state(self) -> State:
        return {"v": self._v}

    def step(self, t: int, *inputs: Array) -> Array:
        v = self._v
        _take(v, inputs)
        if not 0 <= t - self.op.start - self.op.open < self.op.levels:
            return self._filled(0, np.uint8)
        fired = np.greater_equal(v, self._theta).view(np.uint8)
        v -= np.multiply(self._theta, fired, dtype=np.float32)
        return fired


class _MaxPool(Small):
    def __init__(self, op: exact.MaxPool, batch: int, reach: int) -> None:
        super().__init__(op, batch, reach)
        self._counts = exact.count_type(reach)
        self._sum = kernels.batch_inner((batch, *op.events.shape), self._counts)
        self._sum[...] = 0
        self._count = self._filled(0, self._counts)

    @property
    def state(self) -> State:
        return {"count": self._sum, "c": self._count}

    def step(self, t: int, *inputs: Array) -> Array:
        events = inputs[0]
        if not events.any():
            return self._filled(0, events.dtype if events.dtype.kind == "i" else np.int8)
        np.add(self._sum, events, out=self._sum, casting="unsafe")
        before, self._count = self._count, self.op.maxima(self._sum)
        return np.asarray(self._count - before)


_TWINS: tuple[tuple[type[StatefulOp], type[Small]], ...] = (
    (exact.StBif, _StBif), (exact.Graded, _Graded), (exact.Phased, _Phased), (exact.MaxPool, _MaxPool),
)  # fmt: skip


def floor_counts(sums: Array, theta: Array, offset: Array, levels: int) -> Array:
    """The count of sums, clip(floor((offset + S) / theta), 0, levels), in float32 throughout.

    A quotient of whole numbers that is not whole lies at least 1 / theta below the next whole number q: more than the
    rounding of a float32 near q as long as theta * q, which the sum of both exceeds, is below 2**24.
    """
    found = np.add(sums, offset)
    found /= theta
    np.floor(found, out=found)
    return np.asarray(np.clip(found, 0, levels, out=found))


def _take(total: Array, currents: tuple[Array, ...]) -> None:
    """Add whole numbers in any type."""
    for item in currents:
        np.add(total, item, out=total, casting="unsafe")
