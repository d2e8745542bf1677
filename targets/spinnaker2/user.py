"""A population with a model of the network's user, interpreted by the firmware."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Span, Value, broadcasts, require
from nmc.ir.ops.expressions import Code
from nmc.ir.ops.user import Strings, check_fixed, check_model, check_rows
from nmc.ir.types import Type
from nmc.targets.spinnaker2.assemble import assemble
from nmc.targets.spinnaker2.laws import Law
from nmc.targets.spinnaker2.machine import MAX_SHIFT, Machine
from nmc.targets.spinnaker2.neuron import Ints, NeuronOp


@dataclass(frozen=True, kw_only=True)
class User(NeuronOp, name="spinnaker2.user", levels=("snn", "mapped")):
    """A model of the user's (``snn.user``) in 32-bit words, on integer sums s.

        I = (s * scale >> shift) + bias       with ``fixed``, in multiples of 2^-part, saturated
        I = s * scale + bias                  in single precision otherwise, every operation rounded once

    `update`, `fire` and `spike` are those of ``snn.user``. Row i of `init` is where state i starts, row i of `values`
    is parameter i: whole multiples of 2^-part, or single-precision numbers. A model that does not `fire` sends nothing;
    its first state is its answer. Before step `start` nothing moves, whatever comes.

        %a = spinnaker2.user(%a.x, @a.init, _, @a.scale) {states=[v], update=[[t.0, mul, 0.9, v],
            [v.next, add, t.0, I]], fire=[[fire, ge, v, 1.0]], spike=[[v.after, sub, v, 1.0]]} : spikes<40>
    """

    init: Const
    values: Const | None = None
    scale: Const | None = None
    bias: Const | None = None
    states: Strings
    params: Strings = ()
    update: Code = ()
    fire: Code = ()
    spike: Code = ()
    fixed: Ints = ()
    shift: int = 0

    @cached_property
    def machine(self) -> Machine:
        """What the firmware interprets."""
        return assemble(self.states, self.params, self.update, self.fire, self.spike, self.fixed, self.shift)

    @cached_property
    def _law(self) -> Law:
        return Law("user", start=self.start, machine=self.machine)

    @property
    def law(self) -> Law:
        """Model ``user``."""
        return self._law

    def verify(self) -> None:
        """As ``snn.user``; constants are words of the arithmetic."""
        kinds = {value.type.kind for value in self.current}
        require(kinds <= {"current"}, f"operands must be currents, not {', '.join(sorted(kinds))}")
        require(not self.second, "this model has one synapse type")
        require(self.start >= 0, f"start {self.start} is negative")
        require(0 <= self.shift <= (MAX_SHIFT if self.fixed else 0), f"a shift by {self.shift} bits")
        check_rows(((self.init, len(self.states)), (self.values, len(self.params))), self.shape)
        require((self.values is not None) == bool(self.params), "params and values belong together")
        for const in (self.scale, self.bias):
            fits = const is None or broadcasts(const.shape, self.shape)
            require(fits, f"@{const.name if const else ''} does not broadcast to {self.shape}")
        check_fixed(self.fixed)
        check_model(self.states, self.params, self.update, self.fire, self.spike)
        kind = np.dtype(self.machine.dtype)
        for const in self.consts:
            fits = const.array().dtype == kind and bool(np.isfinite(const.array()).all())
            require(fits, f"@{const.name} is not of finite {kind.name}")

    @property
    def given(self) -> dict[str, Array]:
        """Each row by its name in the law: `v`, `s1`... and `p0`, `p1`...; scale and bias."""
        names = self.machine.state_names
        found = dict(zip(names, self.init.array(), strict=True))
        if self.values is not None:
            found |= {f"p{k}": row for k, row in enumerate(self.values.array())}
        found["scale"] = np.ones(1, self.machine.dtype) if self.scale is None else self.scale.array()
        if self.bias is not None:
            found["bias"] = self.bias.array()
        return found

    def part(self, box: tuple[Span, ...]) -> User:
        """The same population cut to a box of indices."""
        shape, cut = tuple(len(span) for span in box), tuple(span.slice() for span in box)

        def small(const: Const | None, rows: bool) -> Const | None:
            if const is None:
                return None
            whole = (*const.shape[:1], *self.shape) if rows else self.shape
            data = np.broadcast_to(const.array(), whole)
            return Const(const.name, data[(slice(None), *cut)] if rows else data[cut])

        current = tuple(Value(value.name, Type(value.type.kind, shape)) for value in self.current)
        init = small(self.init, rows=True)
        assert init is not None
        return replace(
            self, current=current, init=init, values=small(self.values, rows=True),
            scale=small(self.scale, rows=False), bias=small(self.bias, rows=False),
        )  # fmt: skip
