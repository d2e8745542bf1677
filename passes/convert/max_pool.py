"""Bring maxima to where they are taken over one population of counts."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.convert.fold_affine import per_channel
from nmc.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class MaxPool(Pass, name="max-pool", takes="ann"):
    """Move max pooling behind the relu, before scales, and into concatenations; a maximum does not mind.

    Growing functions commute with the maximum: relu(max(x)) = max(relu(x)), and so do positive scales with an offset.
    Behind a relu the border, which never wins a maximum, may be read as 0, and a border of zeros is as good as none.

    Before::

        %m = ann.maxpool(%x) {kernel=[2], stride=[2], pad=[0, 0], dilation=[1]} : f32<4x3>
        %y = ann.relu(%m) : f32<4x3>

    After::

        %y.relu = ann.relu(%x) : f32<4x6>
        %y = ann.maxpool(%y.relu) {kernel=[2], stride=[2], pad=[0, 0], dilation=[1]} : f32<4x3>
    """

    tolerance: ClassVar[float] = 1e-5  # scales are applied before the maximum instead of after it

    def run(self, module: Module) -> Module:
        """Apply all rules everywhere."""
        return rewrite(
            module, self.name, behind_relu, behind_scaled_relu, before_scale, into_concat, with_border
        )


def behind_relu(relu: ann.Relu, match: Match) -> tuple[Op, ...]:
    """relu(max(x)) = max(relu(x))."""
    pool = match.made_by(relu.data, ann.MaxPool)
    match.single_user(pool)
    _require_inside(pool, match)
    inner = replace(relu, out=match.fresh(f"{relu.out}.relu"), data=pool.data)
    return inner, replace(pool, out=relu.out, data=inner.result)


def behind_scaled_relu(relu: ann.Relu, match: Match) -> tuple[Op, ...]:
    """relu(scale(max(x))) = max(relu(scale(x))) for positive scales."""
    affine = match.made_by(relu.data, ann.Affine)
    pool = match.made_by(affine.data, ann.MaxPool)
    match.single_user(affine)
    match.single_user(pool)
    _require_growing(affine, match)
    _require_inside(pool, match)
    scaled = replace(affine, out=match.fresh(f"{relu.out}.scaled"), data=pool.data)
    inner = replace(relu, out=match.fresh(f"{relu.out}.relu"), data=scaled.result)
    return scaled, inner, replace(pool, out=relu.out, data=inner.result)


def before_scale(pool: ann.MaxPool, match: Match) -> tuple[Op, ...]:
    """max(scale(x)) = scale(max(x)) for positive scales, where x is behind a relu."""
    affine = match.made_by(pool.data, ann.Affine)
    match.made_by(affine.data, ann.Relu, ann.MaxPool)
    match.single_user(affine)
    _require_growing(affine, match)
    inner = replace(pool, out=match.fresh(f"{pool.out}.max"), data=affine.data)
    return inner, replace(affine, out=pool.out, data=inner.result)


def into_concat(pool: ann.MaxPool, match: Match) -> tuple[Op, ...]:
    """max(concat(x, y)) = concat(max(x), max(y)) over channels."""
    concat = match.producer(pool.data)
    match.require(
        isinstance(concat, ann.Concat), f"%{pool.data.name} is made by {concat.name}, not ann.concat"
    )
    assert isinstance(concat, ann.Concat)
    match.require(concat.axis == 0, f"%{concat.out} does not join channels")
    match.single_user(concat)
    parts: list[ann.MaxPool] = []
    for index, value in enumerate(concat.data):
        parts.append(replace(pool, out=match.fresh(f"{pool.out}.{index}"), data=value))
    values: tuple[Value, ...] = tuple(part.result for part in parts)
    return *parts, replace(concat, out=pool.out, data=values)


def with_border(pool: ann.MaxPool, match: Match) -> ann.MaxPool:
    """The maximum of a population with a border of zeros is that of the population, with the border as padding."""
    border = match.made_by(pool.data, ann.Pad)
    match.single_user(border)
    match.made_by(border.data, ann.Relu, ann.MaxPool)
    rank, half = len(border.data.shape), len(pool.kernel)
    match.require(border.value == 0 and min(border.pad) >= 0, f"%{border.out} is no border of zeros")
    outside = [border.pad[at] for at in (*range(rank - half), *range(rank, 2 * rank - half))]
    match.require(not any(outside), f"%{border.out} adds channels")
    more = (*border.pad[rank - half : rank], *border.pad[2 * rank - half :])
    wider = replace(pool, data=border.data, pad=tuple(a + b for a, b in zip(pool.pad, more, strict=True)))
    _require_inside(wider, match)
    return wider


def _require_growing(affine: ann.Affine, match: Match) -> None:
    scale, _ = per_channel(affine, match)
    match.require(bool(np.all(scale > 0)), f"@{affine.scale.name} is not positive everywhere")


def _require_inside(pool: ann.MaxPool, match: Match) -> None:
    """Every window holds an element: one in the border alone would be -inf before a relu and 0 behind it."""
    reach = [d * (k - 1) + 1 for d, k in zip(pool.dilation, pool.kernel, strict=True)]
    inside = all(pad < size for pad, size in zip(pool.pad, reach * 2, strict=True))
    match.require(inside, f"a window of %{pool.out} lies in the border")
