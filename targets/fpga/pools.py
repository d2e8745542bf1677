"""Maxima of counts as populations of exact neurons: max(a, b) = a + relu(b - a)."""

from __future__ import annotations

from dataclasses import field
from itertools import product

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn
from nmc.passes.base import Pass
from nmc.passes.graph import fresh_name

#: A sum of counts: places of the window and populations, with their signs.
Sum = tuple[tuple["int | str", int], ...]


@dataclass(frozen=True)
class Pools(Pass, name="fpga-pools", takes="snn"):
    """Rewrite each pooling of counts with exact neurons (before the spike code is chosen).

    Pairs of places meet in a tree: r = relu(b - a) is a population with threshold 1, and a + r is a sum that needs
    none, up to the last, which gives the counts of the maximum. A window of four places takes four populations.

        before: %p = snn.max_pool(%a) {kernel=[2, 2], stride=[2, 2], ...} : graded<8x7x7>
        after:  %p.r0.0 = snn.conv(%a, @p.plus) {stride=[2, 2], pad=[0, -1, -1, 0], groups=8, ...} : current<8x7x7>
                ...
                %p.r0 = snn.graded(%p.r0.0, %p.r0.1, @p.one, @p.zero) {levels=8} : graded<8x7x7>
                ...
                %p = snn.graded(%p.0, %p.1, %p.2, @p.one, @p.zero) {levels=8} : graded<8x7x7>
    """

    def run(self, module: Module) -> Module:
        """Rewrite all poolings, or tell which come too late."""
        pools = module.of_type(exact.MaxPool)
        if not pools:
            return module
        if module.attr("spike_code") is not None:
            hint = "run fpga-pools before spike-code, or take spike-code{code=phased-if}"
            raise NmcError(
                Diagnostic("E0941", f"%{op.out}: a maximum of counts cannot be rewritten once a spike code is chosen",
                           where=str(op.loc or f"%{op.out}"), hint=hint)
                for op in pools
            )  # fmt: skip
        levels, ops = dict[str, int](), list[Op]()
        for op in module.ops:
            if isinstance(op, exact.MaxPool):
                levels[op.out] = levels.get(op.events.name, 0)
                ops += _Tree(op, levels[op.out], {*module.producers}).made()
            else:
                if isinstance(op, exact.ExactNeuron):
                    levels[op.out] = op.levels
                elif isinstance(op, snn.Input):
                    levels[op.out] = max(op.high, 1)
                ops.append(op)
        return module.with_ops(ops)


@dataclass
class _Tree:
    """The populations that make one maximum."""

    op: exact.MaxPool
    levels: int
    taken: set[str]
    ops: list[Op] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)

    def made(self) -> list[Op]:
        """All ops, the maximum last."""
        taps = list(product(*map(range, self.op.kernel)))
        sums: list[Sum] = [((number, 1),) for number in range(len(taps))]
        while len(sums) > 1:
            pairs = [self._larger(a, b, taps) for a, b in zip(sums[::2], sums[1::2], strict=False)]
            sums = pairs + sums[len(pairs) * 2 :]
        self._population(self.op.out, sums[0], taps)
        return self.ops

    def _larger(self, a: Sum, b: Sum, taps: list[tuple[int, ...]]) -> Sum:
        """The larger of two sums, as a sum: a + relu(b - a)."""
        name = fresh_name(f"{self.op.out}.r", self.taken)
        self.taken.add(name)
        self._population(name, (*b, *((item, -sign) for item, sign in a)), taps)
        return (*a, (name, 1))

    def _population(self, name: str, total: Sum, taps: list[tuple[int, ...]]) -> None:
        here = fuse("fpga-pools", [self.op.loc])
        current = []
        for number, (item, sign) in enumerate(total):
            out = fresh_name(f"{name}.{number}", self.taken)
            self.taken.add(out)
            via = self._tap(out, taps[item], sign) if isinstance(item, int) else snn.OneToOne(
                out=out, loc=here, spikes=self.values[item], weight=self._weight(sign, len(self.op.result.shape)),
            )  # fmt: skip
            self.ops.append(via)
            current.append(via.result)
        one, zero = (
            Const(f"{self.op.out}.{text}", np.full(1, value, np.int64))
            for text, value in (("one", 1), ("zero", 0))
        )
        self.ops.append(exact.Graded(
            out=name, loc=here, current=tuple(current), theta=one, offset=zero, levels=self.levels
        ))  # fmt: skip
        self.values[name] = self.ops[-1].result

    def _weight(self, sign: int, rank: int) -> Const:
        name = "plus" if sign > 0 else "minus"
        return Const(f"{self.op.out}.{name}", np.full((1,) * rank, sign, np.int8))

    def _tap(self, out: str, tap: tuple[int, ...], sign: int) -> snn.Conv:
        """The counts at one place of every window."""
        op = self.op
        channels, space = op.events.shape[0], op.events.shape[1:]
        before = [pad - at * d for pad, at, d in zip(op.pad, tap, op.dilation, strict=False)]
        reach = [(length - 1) * s + 1 for length, s in zip(op.result.shape[1:], op.stride, strict=True)]
        after = [need - extent - pad for need, extent, pad in zip(reach, space, before, strict=True)]
        ones = (1,) * len(space)
        name = f"{op.out}.{'plus' if sign > 0 else 'minus'}.channels"
        return snn.Conv(
            out=out, loc=fuse("fpga-pools", [op.loc]), spikes=op.events, stride=op.stride, pad=(*before, *after),
            weight=Const(name, np.full((channels, 1, *ones), sign, np.int8)), dilation=ones, groups=channels,
        )  # fmt: skip
