"""Maxima of counts, as populations of their own: every place of the window is a projection."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import exact, snn
from nmc.passes.base import Pass
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.layout import MAX_TYPES


@dataclass(frozen=True)
class Pools(Pass, name="spinnaker2-pools", takes="snn"):
    """Give each pooling of counts a population, which takes a step like any other (before ``retime``).

    before: %p = snn.max_pool(%a) {kernel=[2, 2], stride=[2, 2], ...} : graded<8x7x7>
    after:  %p.0 = snn.conv(%a, @p.one) {stride=[2, 2], pad=[0, 0, -1, -1], groups=8, ...} : current<8x7x7>
            ...
            %p = spinnaker2.max_pool(%p.0, %p.1, %p.2, %p.3) : graded<8x7x7>
    """

    def run(self, module: Module) -> Module:
        """Rewrite all poolings, or tell which windows are too large."""
        ops: list[Op] = []
        problems = []
        for op in module.ops:
            if not isinstance(op, exact.MaxPool):
                ops.append(op)
            elif prod(op.kernel) > MAX_TYPES:
                text = f"%{op.out} takes the maximum of {prod(op.kernel)} places; the firmware of {MAX_TYPES} at most"
                problems.append(
                    Diagnostic("E0921", text, where=str(op.loc or f"%{op.out}"), hint="pool in two steps")
                )
            else:
                ops += self._pool(op)
        if problems:
            raise NmcError(problems)
        return module.with_ops(ops)

    def _pool(self, op: exact.MaxPool) -> list[Op]:
        channels, space = op.events.shape[0], op.events.shape[1:]
        here, ones = fuse(self.name, [op.loc]), (1,) * len(space)
        weight = Const(f"{op.out}.one", np.ones((channels, 1, *ones), np.int8))
        made: list[Op] = []
        for number, tap in enumerate(product(*map(range, op.kernel))):
            before = [pad - at * d for pad, at, d in zip(op.pad, tap, op.dilation, strict=False)]
            reach = [(out - 1) * s + 1 for out, s in zip(op.result.shape[1:], op.stride, strict=True)]
            after = [need - extent - pad for need, extent, pad in zip(reach, space, before, strict=True)]
            made.append(snn.Conv(
                out=f"{op.out}.{number}", loc=here, spikes=op.events, weight=weight, stride=op.stride,
                pad=(*before, *after), dilation=ones, groups=channels,
            ))  # fmt: skip
        return [*made, s2.MaxPool(out=op.out, loc=here, current=tuple(conv.result for conv in made))]
