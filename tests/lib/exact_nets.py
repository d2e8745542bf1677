"""Random exact integer networks, data for them, and what must be equal between two runs of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from nmc.ir.const import Const
from nmc.ir.interp import Result, run_snn
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, State, Value
from nmc.ir.ops import exact, snn

Ints = tuple[int, ...]
HIGH = 15


class Builder:
    """Draws one network of ``snn.graded`` populations; every choice comes from `rng`.

    Dense, convolutional and one-to-one projections, skips, sums of several branches, pools of counts, thresholds and
    offsets a neuron, a channel or a population, and one or two inputs, one of which may be signed.
    """

    def __init__(self, rng: Generator, *, pools: bool = True, signed: bool = True, layers: int = 4) -> None:
        self.rng, self.pools, self.signed, self.layers = rng, pools, signed, layers
        self.ops: list[Op] = []
        self.events: list[Value] = []
        self.reach: dict[str, int] = {}

    def build(self) -> Module:
        """One network; it reads out its last populations."""
        self._input("x", self.signed and self.rng.random() < 0.4)
        if self.rng.random() < 0.25:
            self._input("y", False)
        for number in range(int(self.rng.integers(1, self.layers + 1))):
            self._population(f"p{number}")
            if self.pools and self.rng.random() < 0.4:
                self._pool(f"q{number}")
        self._readout()
        return Module("random", "snn", tuple(self.ops), (("steps", 1),))

    def _pick(self, *items: Any) -> Any:
        return items[int(self.rng.integers(0, len(items)))]

    def _add(self, op: Op) -> Value:
        self.ops.append(op)
        return op.result

    def _const(self, name: str, low: int, high: int, shape: Ints, dtype: Any = np.int32) -> Const:
        return Const(name, self.rng.integers(low, high + 1, shape).astype(dtype))

    def _input(self, name: str, signed: bool) -> None:
        shape = self._pick((6,), (2, 5), (2, 5, 4), (1, 6, 6))
        low = -int(self.rng.integers(1, HIGH + 1)) if signed else 0
        source = snn.Input(
            out=name, source=name, shape=shape, encoder="burst", gain=float(HIGH), low=low, high=HIGH
        )
        self.events.append(self._add(source))
        self.reach[name] = HIGH

    def _geometry(self, space: Ints) -> tuple[Ints, dict[str, Any]]:
        kernel = tuple(int(self.rng.integers(1, min(extent, 2) + 1)) for extent in space)
        stride = tuple(int(self.rng.integers(1, 3)) for _ in space)
        pad = tuple(int(self.rng.integers(0, 2)) for _ in (*space, *space))
        return kernel, {"stride": stride, "pad": pad, "dilation": (1,) * len(space)}

    def _projection(self, name: str, source: Value, shape: Ints | None) -> Value:
        """A projection from a population; onto `shape`, where that is given."""
        kind = self._pick("conv", "dense", "dense", "one")
        if kind == "one" and shape in (None, source.shape):
            weight = self._const(f"{name}.w", -9, 9, self._pick(source.shape, (1,)), np.int8)
            return self._add(snn.OneToOne(out=name, spikes=source, weight=weight))
        if kind == "conv" and shape is None and len(source.shape) > 1:
            kernel, fields = self._geometry(source.shape[1:])
            weight = self._const(f"{name}.w", -9, 9, (3, source.shape[0], *kernel), np.int8)
            return self._add(snn.Conv(out=name, spikes=source, weight=weight, **fields))
        target = shape or self._pick((5,), (3, 4), (2, 4, 4))
        size = (int(np.prod(target)), source.type.size)
        return self._add(
            snn.Dense(
                out=name, spikes=source, weight=self._const(f"{name}.w", -9, 9, size, np.int8), shape=target
            )
        )

    def _currents(self, name: str) -> tuple[Value, ...]:
        first = self._projection(f"{name}.0", self.events[-1], None)
        more = int(self.rng.integers(0, 3)) if self.rng.random() < 0.6 else 0
        others = [self._pick(*self.events) for _ in range(more)]
        return (
            first,
            *(self._projection(f"{name}.{n + 1}", value, first.shape) for n, value in enumerate(others)),
        )

    def _bound(self, currents: tuple[Value, ...], offset: Array, theta: Array | int) -> int:
        """A static bound on the absolute membrane, as ``quantize`` proves it."""
        total = int(np.abs(offset).max()) + int(np.max(theta))
        for value in currents:
            op = next(item for item in self.ops if item.out == value.name)
            assert isinstance(op, snn.ProjectionOp)
            weight = np.abs(op.weight.array().astype(np.int64))
            row = int(
                weight.max()
                if isinstance(op, snn.OneToOne)
                else weight.reshape(len(weight), -1).sum(axis=1).max()
            )
            total += row * self.reach[op.spikes.name]
        return total

    def _population(self, name: str) -> None:
        currents = self._currents(name)
        shape = currents[0].shape
        channel = (shape[0], *[1] * (len(shape) - 1))
        theta = self._const(f"{name}.theta", 1, self._pick(8, 40, 200), self._pick((1,), channel, shape))
        bias = self.rng.integers(-60, 61, self._pick((1,), channel, shape))
        offset = Const(f"{name}.offset", (theta.array().astype(np.int64) // 2 + bias).astype(np.int32))
        levels = self._pick(1, 2, 3, 4, 7, 8, 15)
        bound = self._bound(currents, offset.array(), theta.array())
        neurons = exact.Graded(
            out=name, current=currents, theta=theta, offset=offset, levels=levels, bound=bound
        )
        self.events.append(self._add(neurons))
        self.reach[name] = levels

    def _pool(self, name: str) -> None:
        source = self.events[-1]
        if len(source.shape) < 2:
            return
        kernel, fields = self._geometry(source.shape[1:])
        self.events.append(self._add(exact.MaxPool(out=name, events=source, kernel=kernel, **fields)))
        self.reach[name] = self.reach[source.name]

    def _readout(self) -> None:
        currents = [self._projection("r.0", self.events[-1], (4,))]
        if self.rng.random() < 0.4:
            currents.append(self._projection("r.1", self._pick(*self.events), (4,)))
        offset = self._const("r.offset", -50, 50, (4,))
        bound = self._bound(tuple(currents), offset.array(), 0)
        readout = exact.Readout(out="r", current=tuple(currents), offset=offset, bound=bound)
        self.ops.append(snn.Output(data=self._add(readout), scale=0.5))


class ByHand:
    """Puts a small network together: every weight is 3, every theta 5, every offset 2."""

    def __init__(self, size: int = 2, low: int = 0, high: int = 15) -> None:
        source = snn.Input(
            out="x", source="x", shape=(size,), encoder="burst", gain=float(high), low=low, high=high
        )
        self.ops: list[Op] = [source]
        self.x = source.result

    def _wires(self, name: str, sources: tuple[Value, ...], delay: int) -> tuple[Value, ...]:
        weight = Const("w", np.array([3], np.int8))
        made = [
            snn.OneToOne(out=f"{name}.{value.name}", spikes=value, weight=weight, delay=delay)
            for value in sources
        ]
        self.ops += made
        return tuple(op.result for op in made)

    def population(self, name: str, levels: int, *sources: Value, delay: int = 0) -> Value:
        """A population that takes its sources one to one."""
        theta, offset = Const("theta", np.array([5])), Const("offset", np.array([2]))
        current = self._wires(name, sources, delay)
        op = exact.Graded(out=name, current=current, theta=theta, offset=offset, levels=levels)
        self.ops.append(op)
        return op.result

    def finished(self, *sources: Value, delay: int = 0, decoder: Any = "last") -> Module:
        """The module, with a read-out of `sources`."""
        current = self._wires("r", sources, delay)
        readout = exact.Readout(out="r", current=current, offset=Const("offset", np.array([2])))
        ops = (*self.ops, readout, snn.Output(data=readout.result, decoder=decoder))
        return Module("m", "snn", ops, (("steps", 1),))


def chain(*levels: int, delay: int = 0) -> Module:
    """Populations in a row."""
    net = ByHand()
    here = net.x
    for number, count in enumerate(levels):
        here = net.population(f"p{number}", count, here, delay=delay)
    return net.finished(here, delay=delay)


def random_net(seed: int, **options: Any) -> Module:
    """The network of a seed."""
    return Builder(np.random.default_rng(seed), **options).build()


def random_data(module: Module, seed: int, samples: int = 4, frames: int = 0) -> dict[str, Array]:
    """Data for the inputs of a network, a little beyond their ranges; frames differ in few elements."""
    rng = np.random.default_rng([seed, 77])
    data = {}
    for op in module.of_type(snn.Input):
        first = rng.uniform(op.low / HIGH - 0.1, 1.1, (samples, *op.shape))
        if frames:
            steps = [first]
            for _ in range(frames - 1):
                fresh = rng.uniform(op.low / HIGH, 1.0, first.shape)
                steps.append(np.where(rng.random(first.shape) < 0.2, fresh, steps[-1]))
            first = np.stack(steps, axis=1)
        data[op.source] = first
    return data


class Counts:
    """A recorder of the final count of each population, from the events it sends."""

    def __init__(self) -> None:
        self.counts: dict[str, Array] = {}
        self._parts: dict[str, Array] = {}

    def __call__(self, t: int, op: Op, item: Array, state: State) -> None:
        if isinstance(op, exact.BitSerial):
            weight = 1 << max(op.bits - 1 - (t - op.start - op.open), 0)
        elif isinstance(op, exact.ExactNeuron | exact.MaxPool | exact.AnyOf):
            weight = 1
        else:
            return
        sent = item.astype(np.int64) * weight
        self.counts[op.out] = self.counts[op.out] + sent if op.out in self.counts else sent


@dataclass(frozen=True)
class Finding:
    """What two runs of equal networks must share: read-outs and the count of every neuron."""

    outputs: dict[str, Array]
    counts: dict[str, Array]
    result: Result


def find(module: Module, data: dict[str, Array], **options: Any) -> Finding:
    """Run a network, all samples in one batch, and count."""
    counts = Counts()
    result = run_snn(module, data, recorder=counts, batch=1 << 20, **options)
    return Finding(result.outputs, counts.counts, result)


def assert_same(found: Finding, wanted: Finding) -> None:
    """All outputs and all counts are equal."""
    for name, values in wanted.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], values)
    assert set(found.counts) == set(wanted.counts)
    for name, counts in wanted.counts.items():
        np.testing.assert_array_equal(found.counts[name], counts, err_msg=name)


def delayed(module: Module, seed: int, most: int = 3) -> Module:
    """The network with a random longer delay on every projection."""
    rng = np.random.default_rng([seed, 5])

    def later(op: Op) -> Op:
        extra = int(rng.integers(0, most + 1))
        return replace(op, delay=op.delay + extra) if isinstance(op, snn.ProjectionOp) else op

    return module.map_ops(later)


@dataclass(frozen=True, kw_only=True)
class Skipping(exact.StBif):
    """A population that leaves out a share of its updates at random: what arrives is kept, nothing is sent."""

    share: float = 0.4
    seed: int = 0

    def step(self, state: State, t: int, *currents: Array) -> Array:
        rng = np.random.default_rng([self.seed, t])
        v = state["v"] + self._arrived(currents)
        awake = rng.random(v.shape) >= self.share
        fired = self._fire(v, state["c"]) * awake
        state["v"] = v - self._theta * fired
        state["c"] = state["c"] + fired
        return fired.astype(np.int8)


def skipping(module: Module, seed: int) -> Module:
    """The network of ``snn.stbif`` populations with skipped updates (their biases must not be spread)."""

    def lazy(op: Op) -> Op:
        if not isinstance(op, exact.StBif):
            return op
        names = ("out", "loc", "current", "theta", "offset", "levels", "start", "bound", "spread")
        return Skipping(**{name: getattr(op, name) for name in names}, seed=seed)

    return module.map_ops(lazy)
