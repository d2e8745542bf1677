"""What all populations of the firmware's models have in common."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Span, State, StatefulOp, Value, broadcasts, op_fields, require
from nmc.ir.types import Type
from nmc.targets.spinnaker2 import laws
from nmc.targets.spinnaker2.laws import Law

Ints = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class NeuronOp(StatefulOp):
    """A population of one of the firmware's models.

    `current` are sums of synapse type 0, `second` those of type 1 (``lif`` and ``lif_fixed`` filter them apart).
    Constants broadcast to the population. Bias, leak and windows count from step `start`. Models that never fire give
    their potential.
    """

    current: tuple[Value, ...]
    second: tuple[Value, ...] = ()
    start: int = 0

    @property
    def law(self) -> Law:
        """The model with its options."""
        raise TypeError

    @property
    def shape(self) -> Ints:
        """Shape of the population."""
        values = (*self.current, *self.second)
        require(len(values) >= 1, "a population needs a current")
        shapes = {value.shape for value in values}
        require(len(shapes) == 1, f"currents differ in shape: {sorted(shapes)}")
        return values[0].shape

    def infer(self) -> Type:
        """Spikes, or graded values: signed events, potentials."""
        return Type("spikes" if self.law.fires and self.law.binary else "graded", self.shape)

    def verify(self) -> None:
        """Operands are currents, constants broadcast, only leaky neurons have a second synapse type."""
        kinds = {value.type.kind for value in (*self.current, *self.second)}
        require(kinds <= {"current"}, f"operands must be currents, not {', '.join(sorted(kinds))}")
        require(self.start >= 0, f"start {self.start} is negative")
        require(not self.second or self.law.model in ("lif", "lif_fixed"), "this model has one synapse type")
        have = self.shape
        for const in self.consts:
            require(
                broadcasts(const.shape, have), f"@{const.name} {const.shape} does not broadcast to {have}"
            )

    @property
    def given(self) -> dict[str, Array]:
        """The constants by the names of `laws.params_of`, and `v_init`."""
        names = (spec.name for spec in op_fields(type(self)) if spec.role == "const")
        return {name: const.array() for name in names if (const := getattr(self, name)) is not None}

    @cached_property
    def _params(self) -> dict[str, Array]:
        return laws.as_params(self.law, self.given)

    def part(self, box: tuple[Span, ...]) -> NeuronOp:
        """The same population cut to a box of indices."""
        shape, cut = tuple(len(span) for span in box), tuple(span.slice() for span in box)

        def small(value: Value) -> Value:
            return Value(value.name, Type(value.type.kind, shape))

        consts: dict[str, Any] = {
            name: Const(name, np.broadcast_to(array, self.shape)[cut]) for name, array in self.given.items()
        }
        return replace(
            self, current=tuple(map(small, self.current)), second=tuple(map(small, self.second)), **consts
        )

    def begin(self, batch: int) -> State:
        """Zeros, and the initial potential."""
        return laws.begin(self.law, laws.initial_v(self.law, self.given), (batch, *self.shape))

    def step(self, state: State, t: int, *inputs: Array) -> Array:
        """One tick of the law: payloads (uint8 for spikes, int32 otherwise), or v of models that never fire."""
        sent = laws.step(self.law, self._params, state, self._sums(inputs, state["v"].shape), t)
        if not self.law.fires:
            return state["v"]
        return sent.astype(np.uint8) if self.law.binary else sent

    def _sums(self, inputs: tuple[Array, ...], shape: Ints) -> list[Array]:
        """What has come, by synapse type."""
        sums = [total_of(inputs[: len(self.current)], shape)]
        return [*sums, total_of(inputs[len(self.current) :], shape)] if self.law.types == 2 else sums


def total_of(inputs: tuple[Array, ...], shape: Ints) -> Array:
    """Sum of integers that wrap at 32 bits."""
    total = np.zeros(shape, np.int32)
    for item in inputs:
        total = total + item.astype(np.int32)
    return total
