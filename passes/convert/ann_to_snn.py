"""From a trained network to integrate-and-fire populations, one for each relu."""

from __future__ import annotations

from dataclasses import field
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import Loc, fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, StatefulOp, Value
from nmc.ir.ops import ann, snn
from nmc.ir.ops.neurons import Sparse
from nmc.ir.record import Record
from nmc.passes.base import Pass
from nmc.passes.convert.expr import LINEAR, Expr, concatenated, followed, relu_scale, summed
from nmc.passes.convert.linear import (
    ConvMap,
    DenseMap,
    LinearMap,
    Source,
    SparseMap,
    Term,
    listable,
    realisable,
    realise,
)
from nmc.passes.convert.refusals import NEVER, refusal

Array = NDArray[Any]

_AVERAGING = (ann.AvgPool, ann.Reshape, ann.Transpose, ann.Pad)
_CALIBRATE = "run calibrate with sample data first (--calib FILE.npz)"
#: Largest pooling window that is folded into the weights behind it.
_WIDEST = 9
#: Biases of a channel that differ by this share are the same, but for the order of floating-point sums.
_SAME = 1e-12
_REFUSED = {
    ann.MaxPool: (
        "a maximum of spike trains is not a sum of spikes",
        "take --mode exact, which has maxima of counts, or train with average pooling or strides",
    ),
    ann.Lrn: ("it divides by the energy of other channels", "train with batch normalisation instead"),
    ann.Clip: ("only clipping from 0 up is what a firing rate does", "use ReLU or ReLU6"),
}


@dataclass(frozen=True)
class AnnToSnn(Pass, name="ann-to-snn", takes="ann", gives="snn"):
    """Replace each relu by a population of integrate-and-fire neurons whose rate is the activation.

    A rate of one stands for the relu's threshold (``calibrate``), per channel; weights and biases are divided by it
    (threshold balancing: Diehl 2015, Rueckauer 2017; start at half the threshold: Bu 2022). Whatever lies between
    two relus becomes one projection. `encoder` brings the data in: ``constant`` drives a population with the data
    as current, ``rate`` sends Bernoulli spikes. `steps` is the number of time steps of a run, all latencies
    included.

        before: %1 = ann.conv(%x, @w, @b) {...} : f32<8x28x28>
                %2 = ann.relu(%1, @2.threshold) : f32<8x28x28>
        after:  %2.x = snn.conv(%x.spikes, @2.w) {...} : current<8x28x28>
                %2 = snn.if(%2.x, @2.bias) {v_init=0.5} : spikes<8x28x28>
    """

    exact = False  # rates of a few steps stand for real numbers

    steps: int = 32
    encoder: Literal["constant", "rate"] = "constant"
    reset: Literal["subtract", "zero"] = "subtract"
    seed: int = 0

    def run(self, module: Module) -> Module:
        """Convert, or refuse with every reason at once."""
        work = _Conversion(self, {op.out for op in module.ops})
        for op in module.ops:
            work.convert(op)
        if work.problems:
            raise NmcError(work.problems)
        record = Record(1.0, drive="delta", reset=self.reset).of(work.ops)
        return module.with_ops(work.ops, level="snn").with_attrs(steps=self.steps, record=record)


@dataclass
class _Conversion:
    """The state of one run of the pass."""

    options: AnnToSnn
    taken: set[str]
    made: set[str] = field(default_factory=set)
    relays: dict[tuple[str, ...], Value] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    exprs: dict[str, Expr] = field(default_factory=dict)

    def convert(self, op: Op) -> None:
        """Convert one op; ops that depend on a refused one are passed over."""
        if any(value.name not in self.exprs for value in op.operands):
            if isinstance(op, NEVER):
                self._refuse(op)
            return
        if isinstance(op, ann.Input):
            self.exprs[op.out] = self._input(op)
        elif isinstance(op, ann.Relu):
            self._relu(op)
        elif isinstance(op, ann.Output):
            self._output(op)
        elif isinstance(op, ann.Add):
            parts = [self.exprs[value.name] for value in op.data]
            self.exprs[op.out] = summed(parts, op.loc)
        elif isinstance(op, ann.Concat):
            self.exprs[op.out] = concatenated(op, [self.exprs[value.name] for value in op.data])
        elif isinstance(op, LINEAR):
            self._linear(op)
        else:
            self._refuse(op)

    def _refuse(self, op: Op) -> None:
        reason, hint = _REFUSED.get(type(op)) or refusal(op, "no spiking counterpart is known")
        self._problem("E0601", f"{op.name} cannot be converted to spikes: {reason}", op, hint)

    def _problem(self, code: str, message: str, op: Op, hint: str) -> None:
        where = str(op.loc or f"%{op.out or op.operands[0].name}")
        self.problems.append(Diagnostic(code, message, where=where, hint=hint))

    def _emit(self, op: StatefulOp | snn.ProjectionOp) -> Value:
        self.ops.append(op)
        self.made.add(op.out)
        return op.result

    def _fresh(self, name: str) -> str:
        """A name that neither the network nor an op made so far has."""
        number, free = 1, name
        while free in self.taken or free in self.made:
            number, free = number + 1, f"{name}.{number}"
        return free

    def _input(self, op: ann.Input) -> Expr:
        signs = [sign for sign, bound in ((1, op.high), (-1, -op.low)) if bound > 0]
        if not signs or not np.isfinite([op.low, op.high]).all():
            self._problem("E0603", "the range of the input is not known", op, _CALIBRATE)
        scale = max(abs(op.low), abs(op.high)) or 1.0
        terms = [self._encoded(op, sign, scale) for sign in signs or [1]]
        return Expr(tuple(terms), np.zeros((1, *op.shape)), ())

    def _encoded(self, op: ann.Input, sign: int, scale: float) -> Term:
        """Bring in the positive or the negative part of the data."""
        name = op.out if op.out not in self.made else self._fresh(f"{op.out}.neg")
        encoder = self.options.encoder
        source = snn.Input(
            out=name, loc=op.loc, source=op.out, shape=op.shape, encoder=encoder,
            gain=sign / scale, seed=self.options.seed if encoder == "rate" else 0,
        )  # fmt: skip
        spikes = self._emit(source)
        if encoder == "constant":
            name = self._fresh(f"{name}.spikes")
            neurons = snn.If(out=name, loc=op.loc, current=(spikes,), v_init=0.5, reset=self.options.reset)
            spikes = self._emit(neurons)
        return Term(Source(spikes, np.full((1,) * len(op.shape), sign * scale)))

    def _linear(self, op: Op) -> None:
        expr = self.exprs[op.operands[0].name]
        terms = [self._extend(term, op, expr) for term in expr.terms]
        if all(terms):
            kept = tuple(term for term in terms if term is not None)
            self.exprs[op.out] = Expr(kept, op.run(expr.const), (*expr.locs, op.loc))

    def _extend(self, term: Term, op: Op, expr: Expr) -> Term | None:
        """Put `op` behind a term; where no projection carries that, a population in between makes one possible."""
        longer = followed(term, op)
        carried = realisable(longer)
        if isinstance(op, ann.Reshape | ann.Transpose | ann.Pad) or (carried and not _wide(term, op)):
            return longer
        relayed = self._relayed(term, expr)
        if relayed is not None and realisable(followed(relayed, op)):
            return followed(relayed, op)
        if carried or listable(longer):
            return longer
        self._unrealisable(term, op)
        return None

    def _relayed(self, term: Term, expr: Expr) -> Term | None:
        """A population that passes the rates on behind the last pooling; None where they may leave [0, 1]."""
        pools = [index for index, op in enumerate(term.chain) if isinstance(op, ann.AvgPool)]
        if not pools or not all(isinstance(op, _AVERAGING) for op in term.chain[: pools[-1] + 1]):
            return None
        head, tail = Term(term.source, term.chain[: pools[-1] + 1]), term.chain[pools[-1] + 1 :]
        if not realisable(head):
            return None
        scale = _relay_scale(head, expr)
        key = (term.source.spikes.name, *(op.out for op in head.chain))
        if key not in self.relays:
            name = self._fresh(f"{head.chain[-1].out}.relay")
            self.relays[key] = self._population(name, (head,), None, scale, expr.locs)
        relayed = Term(Source(self.relays[key], scale))
        for op in tail:
            relayed = followed(relayed, op)
        return relayed

    def _unrealisable(self, term: Term, op: Op) -> None:
        before = term.chain[-1].name if term.chain else "a population"
        hint = "put a ReLU between them, or use non-overlapping average pooling"
        self._problem("E0602", f"{op.name} after {before} is no single projection", op, hint)

    def _carried(self, expr: Expr, op: Op) -> bool:
        """Whether every term of a sum can be a projection; index maps are looked at only here."""
        wrong = [term for term in expr.terms if not (realisable(term) or listable(term))]
        for term in wrong:
            self._unrealisable(term, op)
        return not wrong

    def _relu(self, op: ann.Relu) -> None:
        expr, scale = self.exprs[op.data.name], self._threshold(op)
        if not self._carried(expr, op) or scale is None:
            return
        spikes = self._population(op.out, expr.terms, expr.const, scale, (*expr.locs, op.loc))
        self.exprs[op.out] = Expr((Term(Source(spikes, scale)),), np.zeros((1, *op.data.shape)), ())

    def _threshold(self, op: ann.Relu) -> Array | None:
        """The threshold of each channel, (C, 1, ...) or one for all, float64."""
        try:
            return relu_scale(op)
        except ValueError as error:
            self._problem("E0603", str(error), op, _CALIBRATE)
            return None

    def _population(
        self,
        name: str,
        terms: tuple[Term, ...],
        const: Array | None,
        scale: Array,
        locs: tuple[Loc | None, ...],
    ) -> Value:
        loc = fuse(self.options.name, locs)
        currents = tuple(self._projection(name, term, scale, loc) for term in terms)
        bias = _bias(f"{name}.bias", const, scale)
        neurons = snn.If(out=name, current=currents, bias=bias, v_init=0.5, reset=self.options.reset, loc=loc)
        return self._emit(neurons)

    def _projection(self, name: str, term: Term, scale: Array, loc: Loc | None) -> Value:
        found = realise(term)
        assert found is not None, "terms are kept realisable"
        source = term.source.spikes
        return self._emit(_build(self._fresh(f"{name}.from.{source.name}"), found, source, scale, loc))

    def _output(self, op: ann.Output) -> None:
        expr = self.exprs[op.data.name]
        if not self._carried(expr, op):
            return
        loc = fuse(self.options.name, (*expr.locs, op.loc))
        one = np.ones((1,) * len(op.data.shape))
        name = op.data.name if op.data.name not in self.made else self._fresh(f"{op.data.name}.readout")
        currents = tuple(self._projection(name, term, one, loc) for term in expr.terms)
        bias = _bias(f"{name}.bias", expr.const, one)
        readout = self._emit(snn.Integrator(reach=op.reach, out=name, current=currents, bias=bias, loc=loc))
        self.ops.append(snn.Output(data=readout, scale=1.0 / self.options.steps, loc=op.loc))


def _wide(term: Term, op: Op) -> bool:
    """Whether folding a pooling into the weights of `op` would make them too small for a few bits.

    Weights divided by the window's size need as many more bits of the accumulator; a window of at most 9 is worth it.
    """
    pools = [item for item in term.chain if isinstance(item, ann.AvgPool)]
    return isinstance(op, ann.Conv | ann.Dense) and any(prod(item.kernel) > _WIDEST for item in pools)


def _relay_scale(head: Term, expr: Expr) -> Array:
    """What a rate of one of a pooled population stands for: per channel while the channels are the source's.

    The threshold of the pooling bounds a part of the pooled sum only where no other part is negative.
    """
    scale, rank = head.source.scale, len(head.shape)
    pool = head.chain[-1]
    positive = all(_is_average(term) for term in expr.terms) and (expr.const >= 0).all()
    if isinstance(pool, ann.AvgPool) and pool.threshold is not None and positive:
        return np.asarray(pool.threshold.array(), np.float64)
    moved = any(not isinstance(op, ann.AvgPool) for op in head.chain)
    if not moved or scale.size == 1:
        return scale.reshape((1,) * rank) if scale.size == 1 else scale
    sign = np.sign(scale.reshape(-1)[0])
    return np.full((1,) * rank, sign * np.abs(scale).max())


def _is_average(term: Term) -> bool:
    return all(isinstance(op, _AVERAGING) for op in term.chain) and bool((term.source.scale > 0).all())


def _bias(name: str, const: Array | None, scale: Array) -> Const | None:
    """Constant part of a population's input as a bias, per channel where it is uniform over space."""
    if const is None or not const.any():
        return None
    full = np.broadcast_to((const / scale)[0], const.shape[1:])
    channel = full.reshape(full.shape[0], -1)
    if np.ptp(channel, axis=1).max() <= _SAME * np.abs(channel).max():
        full = channel[:, :1].reshape(-1, *[1] * (full.ndim - 1))
    return Const(name, np.ascontiguousarray(full))


def _build(out: str, found: LinearMap, source: Value, scale: Array, loc: Loc | None) -> snn.ProjectionOp:
    """Make the projection op, its weights divided by the thresholds of the target."""
    name = f"{out}.w"
    if isinstance(found, ConvMap):
        weight = found.weight / scale.reshape(-1, *[1] * (found.weight.ndim - 1))
        ones = (1,) * len(found.stride)
        return snn.Conv(
            out=out, spikes=source, weight=Const(name, weight), stride=found.stride, pad=found.pad,
            dilation=ones, groups=found.groups, loc=loc,
        )  # fmt: skip
    if isinstance(found, DenseMap):
        rows = np.broadcast_to(scale, found.shape).reshape(-1, 1)
        shape = found.shape if len(found.shape) > 1 else ()
        return snn.Dense(
            out=out, spikes=source, weight=Const(name, found.weight / rows), shape=shape, loc=loc
        )
    if isinstance(found, SparseMap):
        each = np.broadcast_to(scale, found.shape).reshape(-1)[found.target]
        return Sparse(
            out=out, spikes=source, weight=Const(name, found.weight / each), shape=found.shape, loc=loc,
            source=Const(f"{out}.source", found.source), target=Const(f"{out}.target", found.target),
        )  # fmt: skip
    return snn.OneToOne(out=out, spikes=source, weight=Const(name, found.weight / scale), loc=loc)
