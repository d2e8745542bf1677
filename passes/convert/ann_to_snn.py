"""From a trained network to integrate-and-fire populations, one for each relu."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import Loc, fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import ann, snn
from nmc.passes.base import Pass
from nmc.passes.convert.linear import (
    ConvMap,
    DenseMap,
    LinearMap,
    Source,
    Term,
    realisable,
    realise,
    without_bias,
)

Array = NDArray[Any]

_LINEAR = (ann.Conv, ann.Dense, ann.BatchNorm, ann.Affine, ann.AvgPool, ann.Reshape, ann.Transpose, ann.Pad)
_REFUSED = {
    ann.MaxPool: (
        "a maximum of spike trains is not a sum of spikes",
        "train with average pooling or strides",
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

    steps: int = 32
    encoder: Literal["constant", "rate"] = "constant"
    reset: Literal["subtract", "zero"] = "subtract"
    seed: int = 0

    def run(self, module: Module) -> Module:
        """Convert, or refuse with every reason at once."""
        work = _Conversion(self)
        for op in module.ops:
            work.convert(op)
        if work.problems:
            raise NmcError(work.problems)
        return module.with_ops(work.ops, level="snn").with_attrs(steps=self.steps)


@dataclass(frozen=True)
class _Expr:
    """A value as a sum of linear terms and a constant (1, *shape), with the locations that made it."""

    terms: tuple[Term, ...]
    const: Array
    locs: tuple[Loc | None, ...]


@dataclass
class _Conversion:
    """The state of one run of the pass."""

    options: AnnToSnn
    ops: list[Op] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    exprs: dict[str, _Expr] = field(default_factory=dict)

    def convert(self, op: Op) -> None:
        """Convert one op; ops that depend on a refused one are passed over."""
        if any(value.name not in self.exprs for value in op.operands):
            return
        if isinstance(op, ann.Input):
            self.exprs[op.out] = self._input(op)
        elif isinstance(op, ann.Relu):
            self._relu(op)
        elif isinstance(op, ann.Output):
            self._output(op)
        elif isinstance(op, ann.Add):
            parts = [self.exprs[value.name] for value in op.data]
            self.exprs[op.out] = _sum(parts, op.loc)
        elif isinstance(op, ann.Concat):
            self.exprs[op.out] = self._concat(op)
        elif isinstance(op, _LINEAR):
            self._linear(op)
        else:
            self._refuse(op)

    def _refuse(self, op: Op) -> None:
        reason, hint = _REFUSED.get(type(op), ("no spiking counterpart is known", ""))  # type: ignore[call-overload]
        message = f"{op.name} cannot be converted to spikes: {reason}"
        self.problems.append(Diagnostic("E0601", message, where=str(op.loc or f"%{op.out}"), hint=hint))

    def _input(self, op: ann.Input) -> _Expr:
        signs = [sign for sign, bound in ((1, op.high), (-1, -op.low)) if bound > 0]
        scale = max(abs(op.low), abs(op.high)) or 1.0
        terms = [self._encoded(op, sign, scale) for sign in signs]
        return _Expr(tuple(terms), np.zeros((1, *op.shape)), (op.loc,))

    def _encoded(self, op: ann.Input, sign: int, scale: float) -> Term:
        """Bring in the positive or the negative part of the data."""
        suffix = "" if sign > 0 else ".neg"
        encoder = self.options.encoder
        source = snn.Input(
            out=op.out + suffix, loc=op.loc, source=op.out, shape=op.shape, encoder=encoder,
            gain=sign / scale, seed=self.options.seed if encoder == "rate" else 0,
        )  # fmt: skip
        self.ops.append(source)
        spikes = source.result
        if encoder == "constant":
            name = f"{op.out}{suffix}.spikes"
            neurons = snn.If(out=name, loc=op.loc, current=(spikes,), v_init=0.5, reset=self.options.reset)
            self.ops.append(neurons)
            spikes = neurons.result
        return Term(Source(spikes, np.full((1,) * len(op.shape), sign * scale)))

    def _linear(self, op: Op) -> None:
        expr = self.exprs[op.operands[0].name]
        terms = []
        for term in expr.terms:
            longer = self._extend(term, op, expr)
            if longer is None:
                return
            terms.append(longer)
        self.exprs[op.out] = _Expr(tuple(terms), op.run(expr.const), (*expr.locs, op.loc))

    def _extend(self, term: Term, op: Op, expr: _Expr) -> Term | None:
        """Put `op` behind a term; where no projection carries that, a population in between makes one possible."""
        longer = _followed(term, op)
        if isinstance(op, ann.Reshape | ann.Transpose | ann.Pad) or realisable(longer):
            return longer
        pooled = bool(term.chain) and isinstance(term.chain[-1], ann.AvgPool)
        if pooled and (term.source.scale > 0).all() and realisable(term):
            relay = self._population(
                f"{term.chain[-1].out}.relay", [term], None, term.source.scale, expr.locs
            )
            return _followed(Term(Source(relay, term.source.scale)), op)
        message = (
            f"{op.name} after {term.chain[-1].name if term.chain else 'a population'} is no single projection"
        )
        hint = "put a ReLU between them, or use non-overlapping average pooling"
        self.problems.append(Diagnostic("E0602", message, where=str(op.loc or f"%{op.out}"), hint=hint))
        return None

    def _concat(self, op: ann.Concat) -> _Expr:
        shape, offset, parts = op.result.shape, 0, []
        for value in op.data:
            extent = value.shape[op.axis]
            border = [0] * (2 * len(shape))
            border[op.axis], border[len(shape) + op.axis] = offset, shape[op.axis] - offset - extent
            pad = ann.Pad(out=f"{op.out}.{offset}", data=value, pad=tuple(border), loc=op.loc)
            expr = self.exprs[value.name]
            terms = tuple(_followed(term, pad) for term in expr.terms)
            parts.append(_Expr(terms, pad.run(expr.const), expr.locs))
            offset += extent
        return _sum(parts, op.loc)

    def _relu(self, op: ann.Relu) -> None:
        expr = self.exprs[op.data.name]
        if op.threshold is None:
            hint = "run calibrate with sample data first (--calib FILE.npz)"
            self.problems.append(Diagnostic("E0603", "a relu has no threshold", where=str(op.loc), hint=hint))
            return
        scale = op.threshold.array().astype(np.float64)
        spikes = self._population(op.out, expr.terms, expr.const, scale, (*expr.locs, op.loc))
        self.exprs[op.out] = _Expr((Term(Source(spikes, scale)),), np.zeros((1, *op.data.shape)), ())

    def _population(
        self, name: str, terms: Any, const: Array | None, scale: Array, locs: tuple[Loc | None, ...]
    ) -> Value:
        loc = fuse(self.options.name, locs)
        currents = tuple(self._projection(name, term, scale, loc) for term in terms)
        bias = _bias(f"{name}.bias", const, scale)
        neurons = snn.If(out=name, current=currents, bias=bias, v_init=0.5, reset=self.options.reset, loc=loc)
        self.ops.append(neurons)
        return neurons.result

    def _projection(self, name: str, term: Term, scale: Array, loc: Loc | None) -> Value:
        found = realise(term)
        assert found is not None, "terms are kept realisable"
        source = term.source.spikes
        out = _fresh(f"{name}.from.{source.name}", self.ops)
        made = _build(out, found, source, scale, loc)
        self.ops.append(made)
        return made.result

    def _output(self, op: ann.Output) -> None:
        expr = self.exprs[op.data.name]
        loc = fuse(self.options.name, (*expr.locs, op.loc))
        one = np.ones((1,) * len(op.data.shape))
        name = _fresh(op.data.name, self.ops)
        name = name if name == op.data.name else _fresh(f"{op.data.name}.readout", self.ops)
        currents = tuple(self._projection(name, term, one, loc) for term in expr.terms)
        bias = _bias(f"{name}.bias", expr.const, one)
        readout = snn.Integrator(out=name, current=currents, bias=bias, loc=loc)
        self.ops += [readout, snn.Output(data=readout.result, scale=1.0 / self.options.steps, loc=op.loc)]


def _followed(term: Term, op: Op) -> Term:
    data = term.chain[-1].result if term.chain else Value(term.source.spikes.name, term.source.spikes.type)
    return Term(term.source, (*term.chain, without_bias(op, data)))


def _sum(parts: list[_Expr], loc: Loc | None) -> _Expr:
    const = parts[0].const
    for part in parts[1:]:
        const = const + part.const
    locs = tuple(found for part in parts for found in part.locs)
    return _Expr(tuple(term for part in parts for term in part.terms), const, (*locs, loc))


def _fresh(name: str, ops: list[Op]) -> str:
    taken = {op.out for op in ops}
    number, free = 1, name
    while free in taken:
        number, free = number + 1, f"{name}.{number}"
    return free


def _bias(name: str, const: Array | None, scale: Array) -> Const | None:
    """Constant part of a population's input as a bias, per channel where it is uniform over space."""
    if const is None or not const.any():
        return None
    full = np.broadcast_to((const / scale)[0], const.shape[1:])
    channel = full.reshape(full.shape[0], -1)
    if (channel == channel[:, :1]).all():
        full = channel[:, :1].reshape(-1, *[1] * (full.ndim - 1))
    return Const(name, np.ascontiguousarray(full))


def _build(out: str, found: LinearMap, source: Value, scale: Array, loc: Loc | None) -> Op:
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
    return snn.OneToOne(out=out, spikes=source, weight=Const(name, found.weight / scale), loc=loc)
