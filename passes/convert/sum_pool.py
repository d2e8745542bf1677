"""Average pooling as a sum of whole numbers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class SumPool(Pass, name="sum-pool", takes="ann"):
    """Make a sum of each average pooling; the factor becomes ann.affine, which ``fold-affine`` folds further on.

    A sum of counts is a count again, an average is not; where the windows at the border count fewer elements, the
    factors differ from place to place.

    Before::

        %y = ann.avgpool(%x) {kernel=[2], stride=[2], pad=[0, 0], dilation=[1]} : f32<4x3>

    After::

        %y.sum = ann.sum_pool(%x) {kernel=[2], stride=[2], pad=[0, 0], dilation=[1]} : f32<4x3>
        %y = ann.affine(%y.sum, @y.scale, @y.zero) : f32<4x3>
    """

    tolerance: ClassVar[float] = 1e-5

    def run(self, module: Module) -> Module:
        """Apply the rule everywhere."""
        return rewrite(module, self.name, sum_and_scale)


def sum_and_scale(pool: ann.AvgPool, match: Match) -> tuple[Op, ...]:
    """Split an average into a sum and a factor."""
    total = ann.SumPool(
        out=match.fresh(f"{pool.out}.sum"), data=pool.data, kernel=pool.kernel, stride=pool.stride, pad=pool.pad,
        dilation=pool.dilation, loc=pool.loc,
    )  # fmt: skip
    factor = 1.0 / np.maximum(pool.divisors(), 1)
    if (factor == factor.flat[0]).all():
        factor = factor.reshape(-1)[:1].reshape((1,) * factor.ndim)
    scale = Const(f"{pool.out}.scale", factor[None].astype(np.float32))
    zero = Const(f"{pool.out}.zero", np.zeros((1,) * len(pool.data.shape), np.float32))
    return total, ann.Affine(out=pool.out, data=total.result, scale=scale, offset=zero, loc=pool.loc)
