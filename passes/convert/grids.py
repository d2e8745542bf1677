"""Roundings of quantised networks, as neurons can do them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import Take
from nmc.ir.ops.ann_pointwise import Quantize
from nmc.passes.base import Pass
from nmc.passes.graph import replace_uses
from nmc.passes.rewrite import Match, rewrite

#: A rounding around zero to fewer steps was trained and becomes a population; of more it is finer than counts are.
COARSE = 64
#: Ops that make nothing negative of what is not.
_MOVING = (
    ann.AvgPool, ann.SumPool, ann.MaxPool, ann.Reshape, ann.Transpose, ann.Pad, ann.Concat, ann.Add, Take,
)  # fmt: skip


@dataclass(frozen=True)
class Grids(Pass, name="grids", takes="ann"):
    """Bring roundings to integers (QDQ models) to what neurons do, or leave them out where they are finer than counts.

    A rounding behind a relu becomes its levels. One around zero to fewer than 64 steps becomes a relu with levels
    between two shifts, which computes the same. A finer one (8 bits: the input, scores, operands of a sum, means of
    relus) is left out, because the network is rounded anew where it has neurons; the module attribute
    ``approximations`` tells its range and the error, half a step. A relu of more than `most` levels becomes one
    without, and rounds as `quantize` decides.

    Before::

        %r = ann.relu(%x) : f32<4>
        %q = ann.quantize(%r, @scale, @zero) {low=-128, high=127} : f32<4>

    After::

        %q = ann.relu(%x, @q.threshold) {levels=127} : f32<4>
    """

    exact = False  # a rounding that is left out moves numbers by half a step

    most: int = 255

    def __post_init__(self) -> None:
        if not 1 <= self.most < 1 << 24:
            raise ValueError(f"option most is {self.most}, not in 1..16777215")

    def run(self, module: Module) -> Module:
        """Apply to every rounding."""
        module = rewrite(module, self.name, levels_of_relu, coarse)
        left, ops, seen = dict[str, dict[str, Any]](), list[Op](), dict[str, Value]()
        above = _not_negative(module)
        for op in module.ops:
            told = _left_out(op, above)
            if told is None:
                ops.append(self._loosened(op))
            else:
                left[op.out] = told
                seen[op.out] = seen.get(op.operands[0].name, op.operands[0])
        if not left:
            return module.with_ops(ops)
        told = {**module.attr("approximations", {}), **left}
        return module.with_ops(replace_uses(ops, seen)).with_attrs(approximations=told)

    def _loosened(self, op: Op) -> Op:
        if not isinstance(op, ann.Relu) or op.levels <= self.most or op.threshold is None:
            return op
        limit = min(op.limit, float(op.threshold.array().max()))
        loc = fuse(self.name, [op.loc])
        return replace(op, threshold=None, levels=0, limit=limit, loc=loc)


def levels_of_relu(op: Quantize, match: Match) -> ann.Relu:
    """A rounding of what is not negative, that only it reads, is the relu's own levels."""
    relu = match.made_by(op.data, ann.Relu)
    match.single_user(relu)
    match.require(not relu.levels, f"%{relu.out} has levels of its own")
    scale, zero = match.data(op.scale).astype(np.float64), match.data(op.zero_point)
    match.require(zero.min() == zero.max(), "zero points differ")
    levels = op.high - int(zero.min())
    match.require(op.low <= int(zero.min()) and levels > 0, "zero is not on the grid")
    top = scale * levels
    match.require(
        relu.limit >= float(top.max()) - 0.5 * float(scale.min()), f"%{relu.out} is cut below the grid's end"
    )
    threshold = Const(f"{op.out}.threshold", top)
    return replace(relu, out=op.out, threshold=threshold, levels=levels, limit=float("inf"))


def coarse(op: Quantize, match: Match) -> tuple[Op, ...]:
    """A rounding to few steps around zero: a relu with levels, measured from the lowest of them."""
    levels = op.high - op.low
    match.require(levels < COARSE, f"{levels} steps are finer than counts")
    scale, zero = match.data(op.scale).astype(np.float64), match.data(op.zero_point).astype(np.float64)
    lowest = (op.low - zero) * scale
    one, loc = np.ones((), np.float32), op.loc
    names = [match.fresh(f"{op.out}.{part}") for part in ("moved", "levels")]

    def shifted(out: str, data: Value, offset: Any, label: str) -> ann.Affine:
        addend = Const(f"{op.out}.{label}", np.asarray(offset, np.float32))
        return ann.Affine(out=out, data=data, scale=Const(f"{op.out}.one", one), offset=addend, loc=loc)

    moved = shifted(names[0], op.data, -lowest, "up")
    threshold = Const(f"{op.out}.threshold", np.broadcast_to(scale * levels, np.shape(lowest)).copy())
    relu = ann.Relu(out=names[1], data=moved.result, threshold=threshold, levels=levels, loc=loc)
    return moved, relu, shifted(op.out, relu.result, lowest, "down")


def _left_out(op: Op, above: set[str]) -> dict[str, Any] | None:
    """Range and error of a rounding that is left out, as ``approximate`` tells them; None for any other op."""
    if isinstance(op, Quantize):
        scale, zero = (const.array().astype(np.float64) for const in op.consts)
        low, high = ((op.low - zero) * scale).min(), ((op.high - zero) * scale).max()
    elif (
        isinstance(op, ann.Relu)
        and op.levels >= COARSE
        and op.threshold is not None
        and op.data.name in above
    ):
        scale = op.threshold.array().astype(np.float64) / op.levels
        low, high = 0.0, (scale * op.levels).max()
    else:
        return None
    numbers = {"low": low, "high": high, "error": scale.max() / 2}
    return {"fn": "quantize", "lines": 0, **{key: float(f"{number:.6g}") for key, number in numbers.items()}}


def _not_negative(module: Module) -> set[str]:
    """Results that are never below zero, whatever enters: relus, and what averages, adds or moves them."""
    found: set[str] = set()
    for op in module.ops:
        moves = isinstance(op, _MOVING) and all(value.name in found for value in op.operands)
        if isinstance(op, ann.Relu) or (moves and not (isinstance(op, ann.Pad) and op.value < 0)):
            found.add(op.out)
    return found
