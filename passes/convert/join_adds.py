"""Sums of sums as one sum."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.rewrite import Match, rewrite

#: Operands of one sum; sums of sums that are used twice could grow without end.
MAX_OPERANDS = 64


@dataclass(frozen=True)
class JoinAdds(Pass, name="join-adds", takes="ann"):
    """Let each sum add all its parts itself, sums of sums included; sums that others use too are added twice.

    Before a relu, every part becomes one more projection into the same population: the sum is rounded once.

    Before::

        %s = ann.add(%a, %b) : f32<4>
        %t = ann.add(%s, %c) : f32<4>

    After::

        %t = ann.add(%a, %b, %c) : f32<4>
    """

    tolerance: ClassVar[float] = 1e-5

    def run(self, module: Module) -> Module:
        """Apply the rule everywhere."""
        return rewrite(module, self.name, join)


def join(outer: ann.Add, match: Match) -> ann.Add:
    """Put the operands of the sums that a sum adds in their places."""
    parts = []
    for value in outer.data:
        inner = match.producer(value)
        parts += list(inner.data) if isinstance(inner, ann.Add) else [value]
    match.require(len(parts) > len(outer.data), f"%{outer.out} adds no sums")
    match.require(len(parts) <= MAX_OPERANDS, f"the joined sum would have {len(parts)} operands")
    return replace(outer, data=tuple(parts))
