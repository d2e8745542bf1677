"""Write compound layers with the few that neurons can be: exact, but for the order of floating-point sums."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.op import Array, Op, Value
from nmc.ir.ops import ann
from nmc.ir.ops.ann_layers import ConvTranspose, Rnn
from nmc.ir.ops.ann_pointwise import Activation, LeakyRelu
from nmc.passes.base import Pass
from nmc.passes.graph import fresh_name
from nmc.passes.rewrite import Match, rewrite


@dataclass(frozen=True)
class Unroll(Pass, name="unroll", takes="ann"):
    """Make leaky relus, cuts, transposed convolutions and simple recurrent layers of basic ops.

    A leaky relu becomes two relus, one for each sign. A cut to [low, high] becomes a relu with a limit between two
    shifts. A transposed convolution becomes a convolution of its operand spread with zeros. A recurrent layer becomes
    one layer a step; the steps follow each other in space, so that no step needs to wait for the one before it in time.

    Before::

        %y = ann.leaky_relu(%x, @slope) : f32<4>

    After::

        %y.above = ann.relu(%x) : f32<4>
        %y.turned = ann.affine(%x, @y.minus, @y.zero) : f32<4>
        %y.below = ann.relu(%y.turned) : f32<4>
        %y.scaled = ann.affine(%y.below, @y.slope, @y.zero) : f32<4>
        %y = ann.add(%y.above, %y.scaled) : f32<4>
    """

    tolerance: ClassVar[float] = 1e-5

    def run(self, module: Module) -> Module:
        """Apply all rules everywhere."""
        return rewrite(
            module,
            self.name,
            unroll_leaky_relu,
            unroll_clip,
            unroll_conv_transpose,
            unroll_rnn,
            part_of_concat,
        )


class _Ops:
    """Builds the ops that replace one, with names that begin with its own."""

    def __init__(self, old: Op, match: Match) -> None:
        self.old = old
        self.made: list[Op] = []
        self._match = match
        self._names: set[str] = set()

    def add(self, make: type[Op], name: str = "", **fields: Any) -> Value:
        """Append an op; without a name it carries the old op's result."""
        out = self.old.out
        if name:
            out = fresh_name(self._match.fresh(f"{self.old.out}.{name}"), self._names)
            self._names.add(out)
        op = make(out=out, loc=self.old.loc, **fields)
        self.made.append(op)
        return op.result

    def affine(self, data: Value, scale: Array, offset: Array, name: str = "") -> Value:
        """Append scale * data + offset."""
        label = name or "result"
        factor = Const(f"{self.old.out}.{label}.scale", np.asarray(scale, np.float32))
        addend = Const(f"{self.old.out}.{label}.offset", np.asarray(offset, np.float32))
        return self.add(ann.Affine, name, data=data, scale=factor, offset=addend)

    def ops(self) -> tuple[Op, ...]:
        """All of them, the one with the old name last."""
        return tuple(self.made)


#: Largest bound of a cut that x may be measured from without losing digits.
_FARTHEST = 1e6
#: Steps of a recurrent layer that are written out.
_MOST_STEPS = 4096
_ONE, _ZERO = np.ones((), np.float32), np.zeros((), np.float32)


def unroll_leaky_relu(op: LeakyRelu, match: Match) -> tuple[Op, ...]:
    """relu(x) - slope * relu(-x)."""
    slope, work = match.data(op.slope), _Ops(op, match)
    above = work.add(ann.Relu, "above", data=op.data)
    turned = work.affine(op.data, -_ONE, _ZERO, "turned")
    below = work.add(ann.Relu, "below", data=turned)
    scaled = work.affine(below, -slope, _ZERO, "scaled")
    work.add(ann.Add, data=(above, scaled))
    return work.ops()


def unroll_clip(op: ann.Clip, match: Match) -> tuple[Op, ...]:
    """relu(x - low) with a limit, plus low; or high - relu(high - x), where high is nearer to zero."""
    work = _Ops(op, match)
    match.require(op.low < op.high, f"%{op.out} is constant")
    match.require(op.low != -np.inf or op.high != np.inf, f"%{op.out} cuts nothing")
    limit = float(op.high - op.low)
    if op.low == 0:
        return (ann.Relu(out=op.out, data=op.data, limit=limit, loc=op.loc),)
    # measured from the bound nearer to zero: a large one would swallow x in float32
    sign, bound = (_ONE, op.low) if abs(op.low) <= abs(op.high) else (-_ONE, op.high)
    match.require(abs(bound) <= _FARTHEST, f"%{op.out} cuts to {op.low:g} .. {op.high:g}, too far from zero")
    moved = work.affine(op.data, sign, -sign * bound, "moved")
    rest = work.add(ann.Relu, "rest", data=moved, limit=limit)
    work.affine(rest, sign, np.asarray(bound))
    return work.ops()


def unroll_conv_transpose(op: ConvTranspose, match: Match) -> tuple[Op, ...]:
    """Spread the operand with zeros (reshape, pad, reshape), then convolve with the flipped kernel."""
    match.data(op.weight)
    work, data = _Ops(op, match), op.data
    channels, space = data.shape[0], data.shape[1:]
    if any(step > 1 for step in op.stride):
        apart = tuple(extent for size in space for extent in (size, 1))
        data = work.add(ann.Reshape, "apart", data=data, shape=(channels, *apart))
        zeros = tuple(extra for step in op.stride for extra in (0, step - 1))
        data = work.add(ann.Pad, "zeros", data=data, pad=(0,) * (1 + len(zeros)) + (0, *zeros))
        wide = tuple(size * step for size, step in zip(space, op.stride, strict=True))
        data = work.add(ann.Reshape, "wide", data=data, shape=(channels, *wide))
    reach = [d * (k - 1) for d, k in zip(op.dilation, op.weight.shape[2:], strict=True)]
    before = [size - pad for size, pad in zip(reach, op.pad, strict=False)]
    ends = zip(reach, op.pad[len(space) :], op.stride, strict=True)
    after = [size - pad - (step - 1) for size, pad, step in ends]
    work.add(
        ann.Conv, data=data, weight=Const(f"{op.weight.name}.flipped", op.kernel()), bias=op.bias,
        stride=(1,) * len(space), pad=(*before, *after), dilation=op.dilation, groups=op.groups,
    )  # fmt: skip
    return work.ops()


def unroll_rnn(op: Rnn, match: Match) -> tuple[Op, ...]:
    """One dense layer for the input of each step, one for what the step before has left."""
    work, steps, inputs = _Ops(op, match), *op.data.shape
    match.require(steps <= _MOST_STEPS, f"%{op.out} has {steps:,} steps, over {_MOST_STEPS:,}")
    hidden, rows = op.weight.shape[0], dict[int, Value]()
    state: Value | None = None
    for t in reversed(range(steps)) if op.reverse else range(steps):
        row = work.add(ann.Pad, f"x{t}.row", data=op.data, pad=(-t, 0, t + 1 - steps, 0))
        row = work.add(ann.Reshape, f"x{t}", data=row, shape=(inputs,))
        drive = work.add(ann.Dense, f"in{t}", data=row, weight=op.weight, bias=op.bias)
        if state is not None:
            past = work.add(ann.Dense, f"past{t}", data=state, weight=op.recurrent)
            drive = work.add(ann.Add, f"sum{t}", data=(drive, past))
        if op.fn == "relu":
            state = work.add(ann.Relu, f"h{t}", data=drive)
        else:
            state = work.add(Activation, f"h{t}", data=drive, fn="tanh")
        rows[t] = work.add(ann.Reshape, f"h{t}.row", data=state, shape=(1, hidden))
    work.add(ann.Concat, data=tuple(rows[t] for t in range(steps)), axis=0)
    return work.ops()


def part_of_concat(op: ann.Pad, match: Match) -> ann.Pad | Value:
    """Cropping a concatenation to what lies within one of its parts needs that part alone."""
    joined = match.made_by(op.data, ann.Concat)
    rank, axis = len(op.data.shape), joined.axis
    match.require(max(op.pad) <= 0, f"%{op.out} adds a border")
    start, stop = -op.pad[axis], op.data.shape[axis] + op.pad[rank + axis]
    place = 0
    for part in joined.data:
        extent = part.shape[axis]
        if place <= start and stop <= place + extent:
            pad = list(op.pad)
            pad[axis], pad[rank + axis] = place - start, stop - place - extent
            return replace(op, data=part, pad=tuple(pad)) if any(pad) else part
        place += extent
    match.require(False, f"%{op.out} takes several parts of %{joined.out}")
    return op
