"""Level ``snn``: populations whose equations the user wrote."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import ClassVar

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, State, StatefulOp, Value, broadcasts, require
from nmc.ir.ops import expressions
from nmc.ir.ops.expressions import Arithmetic, Code, Fixed, Float64
from nmc.ir.types import Type

Ints = tuple[int, ...]
Strings = tuple[str, ...]

#: States, or parameters that are constants, of one population, at most.
MAX_NAMES = 64
#: What instructions call the sum of the currents, whether the neuron fires, and a state after this step.
CURRENT, FIRE, NEXT, AFTER = "I", "fire", ".next", ".after"


def check_rows(rows: Iterable[tuple[Const | None, int]], shape: Ints) -> None:
    """Constants have as many rows as said, each of which broadcasts to a population."""
    for const, count in rows:
        if const is not None:
            fits = const.shape[:1] == (count,) and len(const.shape) == len(shape) + 1
            fits = fits and broadcasts(const.shape[1:], shape)
            require(fits, f"@{const.name} {const.shape} has not {count} rows that broadcast to {shape}")


def check_fixed(fixed: Ints) -> None:
    """Bits before and behind the point, or none."""
    fits = not fixed or (len(fixed) == 2 and min(fixed) >= 0 and sum(fixed) <= 31)
    require(fits, f"fixed={list(fixed)}: bits before and behind the point, 31 together at most")


def check_model(states: Strings, params: Strings, update: Code, fire: Code, spike: Code) -> None:
    """Names and instructions of a model fit together."""
    names = (*states, *params)
    require(len(states) >= 1 and len(names) <= MAX_NAMES, f"1 to {MAX_NAMES} states and parameters")
    require(len({*names, CURRENT}) == len(names) + 1, f"names differ from each other and from {CURRENT}")
    known = {**dict.fromkeys(names, "n"), CURRENT: "n"}
    updated, fired, after = (expressions.check(code, known) for code in (update, fire, spike))
    require(not fire or fired.get(FIRE) == "b", f"fire gives no truth value named {FIRE}")
    require(not spike or bool(fire), "spike needs fire")
    for found, end in ((updated, NEXT), (after, AFTER)):
        ends = [name for name in found if name.endswith(end)]
        wrong = [name for name in ends if name.removesuffix(end) not in states or found[name] != "n"]
        require(not wrong, f"{', '.join(wrong)}: no state of that name, or no number")


@dataclass(frozen=True, kw_only=True)
class User(StatefulOp, name="snn.user"):
    """A population with a model of its user's: instructions that every neuron runs in every step.

    %a = snn.user(%a.i, @a.init) {states=[v], update=[[t.0, mul, 0.9, v], [v.next, add, t.0, I]],
        fire=[[fire, ge, v, 1.0]], spike=[[v.after, sub, v, 1.0]]} : spikes<40>

    Step t: ``I`` is the sum of the currents plus `bias`. `update` is run on the old states and gives ``X.next`` for the
    states X that change; then all change at once. `fire` is run on the new states and gives the truth value ``fire``;
    where it holds the neuron sends a spike, and `spike`, run on the new states too, gives ``X.after`` for the states
    that a spike changes. Row i of `init` is where state i starts, row i of `values` is parameter i of `params`; rows
    broadcast to the population. Without `fire` the population sends the state `shows` (graded).

    Before step `start` nothing moves, whatever comes. Numbers are float64, or with ``fixed=[whole, part]`` fixed-point
    ones (`nmc.ir.ops.expressions.Fixed` says how they are rounded); states are kept and recorded as the float64 numbers
    that they are.
    """

    #: What to tell who wants this on a chip.
    advice: ClassVar[str] = (
        "use one of the built-in models (lif, iaf, cuba_lif); the interpreter and SpiNNaker2 run this one"
    )

    current: tuple[Value, ...]
    init: Const
    values: Const | None = None
    bias: Const | None = None
    states: Strings
    params: Strings = ()
    update: Code = ()
    fire: Code = ()
    spike: Code = ()
    shows: str = ""
    fixed: Ints = ()
    start: int = 0

    @property
    def shape(self) -> Ints:
        """Shape of the population."""
        require(len(self.current) >= 1, "a population needs a current")
        shapes = {value.shape for value in self.current}
        require(len(shapes) == 1, f"currents differ in shape: {sorted(shapes)}")
        return self.current[0].shape

    def infer(self) -> Type:
        """Spikes, or the state that is shown."""
        return Type("graded" if self.shows else "spikes", self.shape)

    def verify(self) -> None:
        """Names, constants and instructions fit together."""
        kinds = {value.type.kind for value in self.current}
        require(kinds <= {"current"}, f"operands must be currents, not {', '.join(sorted(kinds))}")
        require(bool(self.fire) != bool(self.shows), "a population either fires or shows a state")
        require(not self.shows or self.shows in self.states, f"there is no state {self.shows} to show")
        require(self.start >= 0, f"start {self.start} is negative")
        check_rows(((self.init, len(self.states)), (self.values, len(self.params))), self.shape)
        require((self.values is not None) == bool(self.params), "params and values belong together")
        if self.bias is not None:
            fits = broadcasts(self.bias.shape, self.shape)
            require(fits, f"@{self.bias.name} {self.bias.shape} does not broadcast to {self.shape}")
        check_model(self.states, self.params, self.update, self.fire, self.spike)
        check_fixed(self.fixed)

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """Of the instructions."""
        return Fixed(*self.fixed) if self.fixed else Float64()

    def begin(self, batch: int) -> State:
        """The initial states, as the arithmetic holds them."""
        rows = self.arithmetic.show(self.arithmetic.hold(self.init.array()))
        shape = (batch, *self.shape)
        return {name: np.broadcast_to(row, shape).copy() for name, row in zip(self.states, rows, strict=True)}

    @cached_property
    def _values(self) -> dict[str, Array]:
        """Parameters as the arithmetic holds them, by name."""
        if self.values is None:
            return {}
        return dict(zip(self.params, self.arithmetic.hold(self.values.array()), strict=True))

    def step(self, state: State, t: int, *currents: Array) -> Array:
        """Update, fire, change what a spike changes."""
        if t < self.start:
            shape = state[self.states[0]].shape
            return state[self.shows].copy() if self.shows else np.zeros(shape, np.uint8)
        total: Array = np.add.reduce([item.astype(np.float64) for item in currents])
        if self.bias is not None:
            total = total + self.bias.array().astype(np.float64)
        known = {**self._values, CURRENT: self.arithmetic.receive(total)}
        held = {name: self.arithmetic.hold(state[name]) for name in self.states}
        held |= self._changed(self.update, NEXT, {**known, **held})
        fired = np.zeros(total.shape, bool)
        if self.fire:
            found = {**known, **held}
            expressions.run(self.fire, found, self.arithmetic)
            fired = np.broadcast_to(found[FIRE], total.shape)
            after = self._changed(self.spike, AFTER, {**known, **held})
            held |= {name: np.where(fired, item, held[name]) for name, item in after.items()}
        for name in self.states:
            shown = self.arithmetic.show(np.asarray(held[name]))
            state[name] = np.broadcast_to(shown, total.shape).astype(np.float64)
        return state[self.shows].copy() if self.shows else fired.astype(np.uint8)

    def _changed(self, code: Code, end: str, values: dict[str, Array]) -> dict[str, Array]:
        """New values of the states that instructions change."""
        expressions.run(code, values, self.arithmetic)
        return {name: values[name + end] for name in self.states if name + end in values}
