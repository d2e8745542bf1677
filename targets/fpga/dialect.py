"""The FPGA core's arithmetic as ops: integer synapses, and neurons under the law of `nmc.targets.fpga.ops`.

A legalised module holds these at level ``snn``, a mapped one at level ``mapped``. A projection's `delay` counts steps
from spike to current: 1 and up between populations (the time wheel adds `delay` - 1), 0 and up from the host.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Span, State, StatefulOp, Value, broadcasts, require
from nmc.ir.ops import neurons, snn, sources
from nmc.ir.types import Type
from nmc.targets.fpga import ops
from nmc.targets.fpga.shape import Shape

Ints = tuple[int, ...]
_LEVELS = ("snn", "mapped")


@dataclass(frozen=True, kw_only=True)
class Conv(snn.Conv, name="fpga.conv", levels=_LEVELS):
    """Whole weights of a kernel that all places share.

    %3 = fpga.conv(%2, @conv2.w) {stride=[1, 1], pad=[1, 1, 1, 1], dilation=[1, 1], delay=1} : current<16x13x13>
    """


@dataclass(frozen=True, kw_only=True)
class Dense(snn.Dense, name="fpga.dense", levels=_LEVELS):
    """Whole weights of a matrix (outputs, inputs).

    %5 = fpga.dense(%4, @fc.w) {delay=1} : current<10>
    """


@dataclass(frozen=True, kw_only=True)
class Diagonal(snn.OneToOne, name="fpga.diagonal", levels=_LEVELS):
    """Whole weights from each neuron to the one at its place.

    %5 = fpga.diagonal(%4, @skip.w) {delay=1} : current<16x7x7>
    """


@dataclass(frozen=True, kw_only=True)
class Sparse(neurons.Sparse, name="fpga.sparse", levels=_LEVELS):
    """Whole weights of synapses listed one by one.

    %e.i = fpga.sparse(%e, @e.w, @e.src, @e.dst) {shape=[800], delay=5} : current<800>
    """


@dataclass(frozen=True, kw_only=True)
class Input(snn.Input, name="fpga.input", levels=_LEVELS):
    """An input whose events the host sends: those of ``snn.input``, but no currents and no streams.

    %x = fpga.input() {source=x, shape=[1, 28, 28], encoder=burst, gain=255.0, high=255} : graded<1x28x28>
    """

    def verify(self) -> None:
        """Events only: what enters is spikes or whole numbers."""
        snn.Input.verify(self)
        require(self.encoder != "constant", "the host sends events; a constant current is none")
        require(not self.stream, "the host starts each sample anew; there are no streams")


@dataclass(frozen=True, kw_only=True)
class Poisson(sources.Poisson, name="fpga.poisson", levels=_LEVELS):
    """Counts of Poisson processes that the host draws, as ``snn.poisson`` does; a count is the payload of an event.

    %drive = fpga.poisson() {shape=[1000], mean=0.8, seed=42} : graded<1000>
    """


def adopt(op: snn.InputOp) -> Input | Poisson:
    """The same input as an op of this target."""
    given: dict[str, Any] = {spec.name: getattr(op, spec.name) for spec in fields(op)}
    return Poisson(**given) if isinstance(op, sources.Poisson) else Input(**given)


@dataclass(frozen=True, kw_only=True)
class Neuron(StatefulOp, name="fpga.neuron", levels=_LEVELS):
    """A population under the law of `nmc.targets.fpga.ops`, every attribute a field of its class or of the shape.

    %h = fpga.neuron(%h.x, @h.theta, @h.bias) {reset=subtract, keep=4096, limit=8, signed=true, once=true} : graded<9>

    `theta` and `bias` are whole numbers and broadcast to the population, as `v_init` does, which the host writes after
    CLR. The value of a population with `close` 0, which never fires, is the membrane before the leak. `vb` and `cuba`
    are those of the shape, `leak` is one of its options.
    """

    current: tuple[Value, ...]
    theta: Const
    bias: Const
    v_init: Const | None = None
    v_reset: int = 0
    keep: int = ops.ALL
    keep_i: int = 0
    limit: int = 0
    reset: Literal["none", "subtract", "to-value"] = "subtract"
    strict: bool = False
    late: bool = False
    signed: bool = False
    once: bool = False
    open: int = 0
    close: int = ops.FOREVER
    vb: int = 20
    cuba: bool = False
    leak: Literal["none", "multiply"] = "multiply"

    @property
    def fires(self) -> bool:
        """Whether its window ever opens."""
        return self.close > 0

    @property
    def shape(self) -> Ints:
        """Shape of the population."""
        require(len(self.current) >= 1, "a population needs a current")
        shapes = {value.shape for value in self.current}
        require(len(shapes) == 1, f"currents differ in shape: {sorted(shapes)}")
        return self.current[0].shape

    def infer(self) -> Type:
        """Spikes; signed events and potentials are graded."""
        return Type("spikes" if self.fires and not self.signed else "graded", self.shape)

    def verify(self) -> None:
        """Operands are currents, constants broadcast, attributes fit the fields of a class."""
        kinds = {value.type.kind for value in self.current}
        require(kinds <= {"current"}, f"operands must be currents, not {', '.join(sorted(kinds))}")
        for const in self.consts:
            fits = broadcasts(const.shape, self.shape)
            require(fits, f"@{const.name} {const.shape} does not broadcast to {self.shape}")
        require(8 <= self.vb <= 32, f"vb {self.vb} is not in 8..32")
        for name, most in (("keep", ops.ALL), ("keep_i", ops.ALL), ("limit", 0xFFFF), ("open", ops.FOREVER),
                           ("close", ops.FOREVER)):  # fmt: skip
            require(0 <= getattr(self, name) <= most, f"{name} {getattr(self, name)} is not in 0..{most}")
        require(not self.late or self.reset == "subtract", "late needs reset subtract")

    def part(self, box: tuple[Span, ...]) -> Neuron:
        """The same population cut to a box of indices."""
        shape, cut = tuple(len(span) for span in box), tuple(span.slice() for span in box)
        current = tuple(Value(value.name, Type(value.type.kind, shape)) for value in self.current)
        given = {"theta": self.theta, "bias": self.bias, "v_init": self.v_init}
        consts: dict[str, Any] = {
            name: Const(const.name, np.broadcast_to(const.array(), self.shape)[cut])
            for name, const in given.items() if const is not None
        }  # fmt: skip
        return replace(self, current=current, **consts)

    @cached_property
    def _shape(self) -> Shape:
        """A shape with this arithmetic; of its size the law of a tick takes no notice."""
        return Shape(neurons=1, axons=1, lanes=1, vb=self.vb, cuba=self.cuba, leak=self.leak)

    @cached_property
    def _params(self) -> ops.Neurons:
        names = ("v_reset", "keep", "keep_i", "limit", "strict", "late", "signed", "once", "open", "close")
        values = {name: np.array(int(getattr(self, name)), np.int64) for name in names}
        values["reset"] = np.array(ops.RESETS[self.reset], np.int64)
        values |= {name: getattr(self, name).array().astype(np.int64) for name in ("theta", "bias")}
        return ops.Neurons(values)

    @property
    def rests(self) -> bool:
        """Exact populations settle once all has arrived: their bias enters once, nothing leaks."""
        return self.once and self.keep == ops.ALL and not self.cuba

    @property
    def active_until(self) -> int:
        """Before its window opens a population waits."""
        return self.open if self.fires else 0

    def eligible(self, state: State, t: int) -> Array:
        """Samples with a neuron that would fire with nothing coming in."""
        m, c = state["m"], state["c"]
        up, down = m >= self._params["theta"], np.zeros(m.shape, bool)
        if self.signed:
            up, down = up & (c < self.limit), (m < 0) & (c > 0)
        over = not self.fires or (self.close != ops.FOREVER and t + 1 >= self.close)
        return np.asarray((up | down).reshape(len(m), -1).any(axis=1) & (not over))

    def begin(self, batch: int) -> State:
        """Membrane ``m``, counter ``c``, current ``u`` of the law after CLR and the host's writes; ``v`` is seen."""
        m = np.zeros((batch, *self.shape), np.int64)
        if self.once:
            m = ops.wrap(m + self._params["bias"], self.vb)
        if self.v_init is not None:
            m = m * 0 + self.v_init.array().astype(np.int64)
        return {"m": m, "c": np.zeros_like(m), "u": np.zeros_like(m), "v": m.copy()}

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """One tick: int8 events (uint8 spikes), or the membranes of a population that never fires."""
        sums = np.zeros(state["m"].shape, np.int64)
        for item in currents:
            sums = sums + np.rint(item).astype(np.int64)
        law = {"v": state["m"], "c": state["c"], "i": state["u"]}
        ops.accumulate(self._shape, law, sums)
        fired, after, _ = ops.tick(self._shape, self._params, law, t)
        state.update({"m": law["v"], "c": law["c"], "u": law["i"], "v": after})
        if not self.fires:
            return after
        return fired if self.signed else fired.view(np.uint8)
