"""Maxima of what is no population: a population in front of them, measured from the lowest value."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.interp import run_ann
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Array, Op
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.data import fit_shape, load_samples
from nmc.passes.graph import fresh_name
from nmc.passes.quantize.ranges import round_bits

_BATCH = 64


@dataclass(frozen=True)
class LiftMaxima(Pass, name="lift-maxima", takes="ann"):
    """Put a relu in front of a max pooling of anything but counts: leaky relus, sums, scores, numbers below zero.

    A maximum is taken over the counts of one population. What is pooled here (a leaky relu, a residual sum, a
    normalisation that falls) gets one: x - low, with low the least value of each channel on the sample `data`, does
    not change the maximum but by low, which is added again behind it. What lies lower on other data counts as low;
    it hardly ever is the largest of a window. Without data nothing changes, and ``quantize`` says what it refuses.

    Before::

        %y = ann.maxpool(%x) {kernel=[2], stride=[2], pad=[0, 0], dilation=[1]} : f32<4x3>

    After::

        %y.moved = ann.affine(%x, @y.one, @y.up) : f32<4x6>
        %y.relu = ann.relu(%y.moved) : f32<4x6>
        %y.max = ann.maxpool(%y.relu) {kernel=[2], stride=[2], pad=[0, 0], dilation=[1]} : f32<4x3>
        %y = ann.affine(%y.max, @y.one, @y.down) : f32<4x3>
    """

    exact = False  # what is lower than on the sample data is cut

    data: str = ""
    limit: int = 256
    raw: bool = False
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})

    def run(self, module: Module) -> Module:
        """Lift what has to be."""
        pools = [op for op in module.of_type(ann.MaxPool) if not _counted(module, op)]
        lowest = self._lowest(module, pools)
        if not lowest:
            return module
        taken, ops = {op.out for op in module.ops}, list[Op]()
        for op in module.ops:
            low = lowest.get(op.out)
            if isinstance(op, ann.MaxPool) and low is not None:
                ops += _lifted(op, low, taken, self.name)
            else:
                ops.append(op)
        return module.with_ops(ops)

    def _lowest(self, module: Module, pools: list[ann.MaxPool]) -> dict[str, Array]:
        """Least operand of each pooling by channel; poolings of inputs that are never negative are left out."""
        inputs = module.of_type(ann.Input)
        given = self.samples
        if not pools or len(inputs) != 1 or (given is None and not self.data):
            return {}
        if given is None:
            given, _ = load_samples(self.data, limit=self.limit, raw=self.raw)
        samples, names = (
            fit_shape(np.asarray(given)[: self.limit], inputs[0].shape),
            [op.data.name for op in pools],
        )
        found: dict[str, Array] = {}
        for start in range(0, len(samples), _BATCH):
            part = {inputs[0].out: samples[start : start + _BATCH]}
            with np.errstate(all="ignore"):
                values = run_ann(module, part, keep=names, dtype=np.float64)
            for name in names:
                low = values[name].min(axis=(0, *range(2, values[name].ndim)))
                found[name] = np.minimum(found.get(name, low), low)
        entry = inputs[0].out
        return {
            op.out: found[op.data.name]
            for op in pools
            if np.isfinite(found[op.data.name]).all()
            and not (op.data.name == entry and found[entry].min() >= 0)
        }


def _counted(module: Module, pool: ann.MaxPool) -> bool:
    """Whether a pooling looks at counts of one population: behind a relu or another pooling."""
    found = module.producers[pool.data.name]
    while isinstance(found, ann.MaxPool):
        found = module.producers[found.data.name]
    return isinstance(found, ann.Relu)


def _lifted(op: ann.MaxPool, low: Array, taken: set[str], name: str) -> list[Op]:
    loc, shape = fuse(name, [op.loc]), (-1, *[1] * (len(op.data.shape) - 1))
    floor = round_bits(np.abs(low), 12) * np.sign(low)
    one = Const(f"{op.out}.one", np.ones((1,) * len(op.data.shape), np.float32))
    names = {}
    for part in ("moved", "relu", "max"):
        names[part] = fresh_name(f"{op.out}.{part}", taken)
        taken.add(names[part])

    def affine(out: str, data: Any, label: str, offset: Array) -> ann.Affine:
        addend = Const(f"{op.out}.{label}", offset.reshape(shape).astype(np.float32))
        return ann.Affine(out=out, data=data, scale=one, offset=addend, loc=loc)

    moved = affine(names["moved"], op.data, "up", -floor)
    relu = ann.Relu(out=names["relu"], data=moved.result, loc=loc)
    pool = ann.MaxPool(
        out=names["max"],
        data=relu.result,
        kernel=op.kernel,
        stride=op.stride,
        pad=op.pad,
        dilation=op.dilation,
        loc=loc,
    )
    return [moved, relu, pool, affine(op.out, pool.result, "down", floor)]
