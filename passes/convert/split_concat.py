"""Concatenations behind what acts on each channel by itself."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_pointwise import Activation, LeakyRelu
from nmc.passes.base import Pass
from nmc.passes.rewrite import Match, rewrite

#: Operands of one concatenation; concatenations of concatenations that are used twice could grow without end.
MAX_OPERANDS = 256
Channelwise = (
    ann.Relu | ann.Affine | ann.BatchNorm | ann.Clip | LeakyRelu | Activation | ann.AvgPool | ann.SumPool | ann.MaxPool
)  # fmt: skip


@dataclass(frozen=True)
class SplitConcat(Pass, name="split-concat", takes="ann"):
    """Move concatenations of channels behind scales, activations and poolings, each part with its own parameters.

    Every part then has populations of its own, driven by its own layer alone, and normalisations behind a
    concatenation (DenseNet) fold into the layers before it. A concatenation that others use too stays for them.

    Before::

        %c = ann.concat(%a, %b) {axis=0} : f32<3x4>
        %s = ann.affine(%c, @scale, @offset) : f32<3x4>
        %y = ann.relu(%s) : f32<3x4>

    After::

        %s.0 = ann.affine(%a, @scale.0, @offset.0) : f32<1x4>
        %s.1 = ann.affine(%b, @scale.1, @offset.1) : f32<2x4>
        %y.0 = ann.relu(%s.0) : f32<1x4>
        %y.1 = ann.relu(%s.1) : f32<2x4>
        %y = ann.concat(%y.0, %y.1) {axis=0} : f32<3x4>
    """

    tolerance: ClassVar[float] = 1e-5

    def run(self, module: Module) -> Module:
        """Apply both rules everywhere."""
        return rewrite(module, self.name, flatten, split)


def flatten(outer: ann.Concat, match: Match) -> ann.Concat:
    """Put the operands of concatenations that a concatenation joins in their places."""
    parts: list[Value] = []
    for value in outer.data:
        inner = match.producer(value)
        same = isinstance(inner, ann.Concat) and inner.axis == outer.axis
        parts += list(inner.data) if isinstance(inner, ann.Concat) and same else [value]
    match.require(len(parts) > len(outer.data), f"%{outer.out} joins no concatenations")
    match.require(len(parts) <= MAX_OPERANDS, f"the concatenation would have {len(parts)} operands")
    return replace(outer, data=tuple(parts))


def split(op: Channelwise, match: Match) -> tuple[Op, ...]:
    """f(concat(a, b)) = concat(f(a), f(b)), with the parameters of f for the channels of each."""
    concat = match.made_by(op.data, ann.Concat)
    match.require(concat.axis == 0, f"%{concat.out} does not join channels")
    start, made = 0, []
    for number, value in enumerate(concat.data):
        stop = start + value.shape[0]
        own = {entry.name: _part(getattr(op, entry.name), entry.name, op, (start, stop), number) for entry in fields(op)
               if isinstance(getattr(op, entry.name), Const)}  # fmt: skip
        changes: dict[str, Any] = {**own, "out": match.fresh(f"{op.out}.{number}"), "data": value}
        made.append(replace(op, **changes))
        start = stop
    return *made, replace(concat, out=op.out, data=tuple(part.result for part in made), loc=op.loc)


def _part(const: Const, name: str, op: Channelwise, reach: tuple[int, int], number: int) -> Const:
    """A parameter for the channels `reach`; the same where it does not differ between channels."""
    axis = 0 if isinstance(op, ann.BatchNorm) else len(const.shape) - len(op.data.shape)
    if axis < 0 or not const.shape or const.shape[axis] == 1:
        return const
    return Const(f"{const.name}.{number}", np.ascontiguousarray(const.array()[slice(*reach)]))
