"""From calibrated relus to graded integer populations: the walk over the network that ``quantize`` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from math import prod
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic
from nmc.ir.loc import Loc, fuse
from nmc.ir.op import Array, Op, Value
from nmc.ir.ops import ann, exact, snn
from nmc.ir.ops.neurons import Sparse
from nmc.passes.convert.expr import LINEAR, Expr, concatenated, followed, relu_scale, summed
from nmc.passes.convert.linear import (
    MOVING,
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
from nmc.passes.graph import fresh_name
from nmc.passes.quantize import relay
from nmc.passes.quantize.refit import Fit
from nmc.passes.quantize.scales import Form, Scaled, per_channel, scale_population, scale_readout

Ints = tuple[int, ...]
_CALIBRATE = "run calibrate with sample data first (--calib FILE.npz)"
#: Branches into one population; nested sums of sums could have exponentially many.
MAX_BRANCHES = 256
_REFUSED: dict[type[Op], tuple[str, str]] = {
    ann.Lrn: ("it divides by the energy of other channels", "train with batch normalisation instead"),
    ann.Clip: ("only clipping from 0 up is what a count does", "use ReLU or ReLU6"),
    ann.MaxPool: (
        "it is not taken over one population of counts",
        "give sample data (--calib FILE.npz) to lift-maxima, or put a ReLU before it",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """What the walk found out about one population, for the certificate.

    Parameters
    ----------
    name, source : str
        Population, and the value of the trained network that its counts stand for.
    step : (C, 1, ...) array
        Activation of one count; of a readout, of one unit.
    scaled : Scaled
        Its integers.
    levels, bits : int
        Largest count (0 for a readout) and bits of a weight.
    correction : int
        Largest change of a bias by bias correction, in integer units.
    refit : float
        Squared error of its sums with fitted weights, relative to that with the trained ones; 1 where those were kept.
    """

    name: str
    source: str
    step: Array
    scaled: Scaled
    levels: int
    bits: int
    correction: int
    refit: float


@dataclass(frozen=True)
class Settings:
    """What the walk needs to know: the options of ``quantize``, resolved.

    Parameters
    ----------
    form, readout : callable
        The form of integers of the population, or readout, of a name.
    levels, input_levels : int
        Largest counts of relus without their own and of inputs.
    fan_in : int
        How many neurons a neuron may hear; 0 for any number.
    own_levels : tuple of (str, int)
        Largest counts of single relus, by their results.
    name : str
        Of the pass, for locations.
    """

    form: Callable[[str], Form]
    readout: Callable[[str], Form]
    levels: int
    input_levels: int
    fan_in: int = 0
    own_levels: tuple[tuple[str, int], ...] = ()
    name: str = "quantize"


#: Gives the bias correction of a population, (C,) whole numbers: of its name in the trained network, currents' ops
#: and its integers.
Corrector = Callable[[str, "list[snn.ProjectionOp]", Scaled], Array]
#: Gives the weights of a population: of its name in the trained network, maps, sources and what it gets without them.
Refitter = Callable[[str, "list[LinearMap]", "list[str]", Array], Fit]


@dataclass
class Lowering:
    """The state of one walk."""

    settings: Settings
    taken: set[str]
    corrector: Corrector | None = None
    observe: Callable[[Op], None] | None = None
    collect: Callable[[list[snn.ProjectionOp], int], Array] | None = None
    refitter: Refitter | None = None
    ops: list[Op] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    exprs: dict[str, Expr] = field(default_factory=dict)
    reach: dict[str, tuple[int, int]] = field(default_factory=dict)
    signed: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    means: dict[tuple[Any, ...], tuple[Value, Array]] = field(default_factory=dict)
    relays: dict[str, dict[str, Any]] = field(default_factory=dict)

    def convert(self, op: Op) -> None:
        """Convert one op; ops that depend on a refused one are passed over."""
        if any(value.name not in self.exprs for value in op.operands):
            if isinstance(op, NEVER):
                self._refuse(op)
            return
        if isinstance(op, ann.Input):
            self._input(op)
        elif isinstance(op, ann.Relu):
            self._relu(op)
        elif isinstance(op, ann.MaxPool) and self._bare(op) is not None:
            self._max_pool(op)
        elif isinstance(op, ann.Output):
            self._output(op)
        elif isinstance(op, ann.Add):
            self._keep(op, summed([self.exprs[value.name] for value in op.data], op.loc))
        elif isinstance(op, ann.Concat):
            self._keep(op, concatenated(op, [self.exprs[value.name] for value in op.data]))
        elif isinstance(op, LINEAR):
            self._linear(op)
        else:
            self._refuse(op)

    def _keep(self, op: Op, expr: Expr) -> None:
        if len(expr.terms) > MAX_BRANCHES:
            self._problem(
                "E0602", f"a sum of {len(expr.terms)} branches, at most {MAX_BRANCHES} can be joined", op
            )
            return
        self.exprs[op.out] = expr

    def _refuse(self, op: Op) -> None:
        reason, hint = _REFUSED.get(type(op)) or refusal(op, "it has no exact spiking counterpart")
        self._problem("E0601", f"{op.name} cannot be converted to spikes: {reason}", op, hint)

    def _problem(self, code: str, message: str, op: Op, hint: str = "") -> None:
        where = str(op.loc or f"%{op.out or op.operands[0].name}")
        self.problems.append(Diagnostic(code, message, where=where, hint=hint))

    def _emit(self, op: Op) -> Value:
        self.ops.append(op)
        self.taken.add(op.out)
        self.made.add(op.out)
        if self.observe is not None:
            self.observe(op)
        return op.result

    def _name(self, wanted: str) -> str:
        """A value keeps the name it has in the trained network; everything else gets a fresh one."""
        return wanted if wanted not in self.made else fresh_name(wanted, self.taken)

    def _input(self, op: ann.Input) -> None:
        largest = max(abs(op.low), abs(op.high))
        if not np.isfinite(largest) or largest <= 0:
            self._problem("E0603", "the range of the input is not known", op, _CALIBRATE)
            return
        most = self.settings.input_levels
        gain = most / largest
        low, high = (int(np.rint(bound * gain)) for bound in (min(op.low, 0.0), max(op.high, 0.0)))
        made = snn.Input(
            out=op.out,
            loc=op.loc,
            source=op.out,
            shape=op.shape,
            encoder="burst",
            gain=gain,
            low=low,
            high=high,
        )
        value = self._emit(made)
        self._population(op, value, np.full((1,) * len(op.shape), 1.0 / gain), (low, high))
        if low < 0:
            self.signed.add(value.name)

    def _population(self, op: Op, value: Value, step: Array, reach: tuple[int, int]) -> None:
        """Note that the op's result is counts of a population."""
        self.reach[value.name] = reach
        self.exprs[op.out] = Expr((Term(Source(value, step)),), np.zeros((1, *op.result.shape)))

    def _linear(self, op: Op) -> None:
        expr = self.exprs[op.operands[0].name]
        longer = tuple(followed(term, op) for term in expr.terms)
        if not isinstance(op, MOVING):
            longer = tuple(self._relayed(term, op) for term in longer)
        wrong = (
            []
            if isinstance(op, MOVING)
            else [term for term in longer if not (realisable(term) or listable(term))]
        )
        if self._unrealisable(wrong, op):
            return
        self._keep(op, Expr(longer, op.run(expr.const), (*expr.locs, op.loc)))

    def _relayed(self, term: Term, op: Op) -> Term:
        """A chain that no projection carries, behind a population of the means that it begins with, if it does."""
        source, high = term.source, self.reach[term.source.spikes.name][1]
        direct = realisable(term) and not self._too_wide(term)
        mean = None if direct else relay.mean_of(term.chain, self.settings.form(op.out).w_max)
        rank = len(source.spikes.shape)
        whole = source.scale.shape in ((1,) * rank, (source.spikes.shape[0], *[1] * (rank - 1)))
        if mean is None or not whole or self.reach[source.spikes.name][0] < 0:
            return term
        key = (source.spikes.name, *mean.key)
        if key not in self.means:
            found = self._means(mean, source.spikes, high, op)
            if found is None:
                return term
            self.means[key] = found
        spikes, theta = self.means[key]
        self.reach[spikes.name] = (0, self._most(high))
        return relay.behind(mean, spikes, source.scale, theta, term.chain)

    def _too_wide(self, term: Term) -> bool:
        """Whether a dense layer would hear more neurons than the target lets one neuron hear."""
        most = self.settings.fan_in
        dense = any(isinstance(item, ann.Dense) for item in term.chain)
        return bool(most) and dense and term.source.spikes.type.size > most

    def _most(self, high: int) -> int:
        """Levels of a population of means: those of what it averages, but of an input those of populations."""
        return min(high, self.settings.levels) if high > self.settings.levels else high

    def _means(self, mean: relay.Mean, source: Value, high: int, op: Op) -> tuple[Value, Array] | None:
        """Make a population of means; its thresholds follow the sums on the calibration data."""
        form, name = self.settings.form(op.out), self._name(mean.pool.out)
        wires = relay.wires(
            mean, source, (fresh_name(f"{name}.from.{source.name}", self.taken), f"{name}.border"), op
        )
        for item in wires:
            self._emit(item)
        levels, wide = self._most(high), high * int((mean.weights * prod(mean.pool.kernel)).max())
        sums = self.collect(wires, wide) if self.collect else None
        theta = relay.threshold(mean, sums, levels, form)
        made = relay.proved(relay.population(name, mean, wires, theta, levels, op), mean, high)
        limit = 2 ** (form.accumulator - 1) - 1
        if made.bound > limit:
            held = f"accumulators of {form.accumulator} bits hold {limit:,}"
            message = f"sums of its windows may reach {made.bound:,}, {held}"
            self._problem("E0606", message, op, "use fewer levels or smaller windows")
            return None
        self.relays[made.out] = {
            "of": source.name, "window": mean.pool.kernel, "levels": levels, "whole": mean.whole, "bound": made.bound,
            "theta": (int(theta.min()), int(theta.max())),
        }  # fmt: skip
        return self._emit(made), theta

    def _unrealisable(self, terms: list[Term], op: Op) -> bool:
        for term in terms:
            chain = " -> ".join(item.name for item in term.chain) or "a population"
            hint = "put a ReLU between them"
            self._problem("E0602", f"{chain} is no single projection", op, hint)
        return bool(terms)

    def _bare(self, op: ann.MaxPool) -> Source | None:
        """The population that a max pool looks at; None where it looks at a sum, at negative counts or at nothing."""
        expr = self.exprs[op.data.name]
        (term, *others) = expr.terms
        reach = [d * (k - 1) + 1 for d, k in zip(op.dilation, op.kernel, strict=True)]
        inside = all(pad < size for pad, size in zip(op.pad, reach * 2, strict=True))
        alone = inside and not others and not term.chain and not expr.const.any()
        return term.source if alone and term.source.spikes.name not in self.signed else None

    def _max_pool(self, op: ann.MaxPool) -> None:
        source = self._bare(op)
        assert source is not None
        made = exact.MaxPool(
            out=self._name(op.out), events=source.spikes, kernel=op.kernel, stride=op.stride, pad=op.pad,
            dilation=op.dilation, loc=op.loc,
        )  # fmt: skip
        self._population(op, self._emit(made), source.scale, self.reach[source.spikes.name])

    def _relu(self, op: ann.Relu) -> None:
        expr = self._direct(op)
        try:
            scale = relu_scale(op)
        except ValueError as error:
            self._problem("E0603", str(error), op, _CALIBRATE)
            return
        maps, reach, refit = self._maps(expr, op)
        if not maps:
            return
        levels = op.levels or dict(self.settings.own_levels).get(op.out, self.settings.levels)
        step = np.broadcast_to(scale / levels, (op.result.shape[0], *[1] * (len(op.result.shape) - 1)))
        form, bias = self.settings.form(op.out), np.broadcast_to(expr.const[0], op.result.shape)
        scaled = scale_population(maps, reach, bias, step.reshape(-1), op.result.shape, form)
        currents, loc = self._currents(op.out, op, expr, maps, scaled, form)
        scaled, moved = self._corrected(op.data.name, currents, scaled, form)
        if not self._fits(scaled, form, op):
            return
        shape = op.result.shape
        made = exact.Graded(
            out=self._name(op.out), current=tuple(item.result for item in currents), levels=levels, loc=loc,
            theta=constant(f"{op.out}.theta", per_channel(scaled.theta, shape)),
            offset=constant(f"{op.out}.offset", scaled.bias + per_channel(scaled.theta // 2, shape)),
            bound=int(scaled.bound.max()),
        )  # fmt: skip
        self.layers.append(Layer(made.out, op.out, step, scaled, levels, form.bits, moved, refit))
        self._population(op, self._emit(made), step, (0, levels))

    def _output(self, op: ann.Output) -> None:
        expr = self._direct(op)
        maps, reach, refit = self._maps(expr, op)
        if not maps:
            return
        name, shape = op.data.name, op.data.shape
        form = self.settings.readout(name)
        bias = np.broadcast_to(expr.const[0], shape)
        scaled = scale_readout(maps, reach, bias, shape, form)
        out = self._name(name)
        currents, loc = self._currents(out, op, expr, maps, scaled, form)
        step = per_channel(1.0 / scaled.k, shape)
        scaled, moved = self._corrected(name, currents, scaled, form)
        if not self._fits(scaled, form, op):
            return
        k = float(scaled.k[0])
        made = exact.Readout(
            out=out, current=tuple(item.result for item in currents), loc=loc, bound=int(scaled.bound.max()),
            offset=constant(f"{out}.offset", scaled.bias), reach=float(np.rint(op.reach * k)),
        )  # fmt: skip
        self.layers.append(Layer(out, name, step, scaled, 0, form.bits, moved, refit))
        self.ops.append(snn.Output(data=self._emit(made), scale=1.0 / k, loc=op.loc))

    def _direct(self, op: ann.Relu | ann.Output) -> Expr:
        """What enters a population, with populations of means where chains end in a change of places."""
        expr = self.exprs[op.data.name]
        return replace(expr, terms=tuple(self._relayed(term, op) for term in expr.terms))

    def _maps(
        self, expr: Expr, op: ann.Relu | ann.Output
    ) -> tuple[list[LinearMap], list[tuple[int, int]], float]:
        """The projection of each branch, the largest count of its source, and what fitting weights gained.

        None where something is wrong.
        """
        if self._unrealisable([term for term in expr.terms if not (realisable(term) or listable(term))], op):
            return [], [], 1.0
        maps = [found for found in map(realise, expr.terms) if found is not None]
        if len(maps) < len(expr.terms):
            self._problem(
                "E0602", "its synapses are too many to be listed one by one", op, "put a ReLU between them"
            )
            return [], [], 1.0
        if not all(np.isfinite(found.weight).all() for found in maps) or not np.isfinite(expr.const).all():
            self._problem(
                "E0601", f"{op.name}: its weights or biases are not finite", op, "check the trained network"
            )
            return [], [], 1.0
        heard = [term.source.spikes.name for term in expr.terms]
        reach = [self.reach[name] for name in heard]
        if self.refitter is None:
            return maps, reach, 1.0
        found = self.refitter(op.data.name, maps, heard, np.broadcast_to(expr.const[0], op.data.shape))
        return list(found.maps), reach, found.gain

    def _currents(
        self, name: str, op: Op, expr: Expr, maps: list[LinearMap], scaled: Scaled, form: Form
    ) -> tuple[list[snn.ProjectionOp], Loc | None]:
        loc, made = fuse(self.settings.name, (*expr.locs, op.loc)), []
        for term, found, weight in zip(expr.terms, maps, scaled.weights, strict=True):
            source = term.source.spikes
            out = fresh_name(f"{name}.from.{source.name}", self.taken)
            projection = _projection(out, found, source, weight.astype(_weight_type(form.bits)), loc)
            self._emit(projection)
            made.append(projection)
        return made, loc

    def _corrected(
        self, source: str, currents: list[snn.ProjectionOp], scaled: Scaled, form: Form
    ) -> tuple[Scaled, int]:
        """Move the biases by what the corrector says, where the accumulator has room."""
        if self.corrector is None:
            if self.collect is not None:
                self.collect(currents, int(scaled.bound.max()))
            return scaled, 0
        moved = self.corrector(source, currents, scaled)
        room = scaled.bound + np.abs(moved) <= 2 ** (form.accumulator - 1) - 1
        moved = np.where(room, moved, 0).astype(np.int64)
        shape = currents[0].result.shape
        fixed = Scaled(
            scaled.weights, scaled.theta, scaled.k, scaled.bias + per_channel(moved, shape),
            scaled.bound + np.abs(moved), scaled.clipped,
        )  # fmt: skip
        return fixed, int(np.abs(moved).max(initial=0))

    def _fits(self, scaled: Scaled, form: Form, op: Op) -> bool:
        """The static proof: no membrane leaves its accumulator, whatever the data and the order of arrivals."""
        limit = 2 ** (form.accumulator - 1) - 1
        if (scaled.bound <= limit).all():
            return True
        reached = int(scaled.bound.max())
        message = f"a membrane may reach {reached:,}, accumulators of {form.accumulator} bits hold {limit:,}"
        self._problem("E0606", message, op, "use fewer levels, fewer weight bits or wider accumulators")
        return False


def constant(name: str, values: Array) -> Const:
    """Integers as a constant: one number where all are the same, one a channel where they are the same over space."""
    first = values[(slice(None), *[slice(0, 1)] * (values.ndim - 1))]
    kept = first if (values == first).all() else values
    kept = kept.reshape(-1)[:1].reshape((1,) * kept.ndim) if np.ptp(kept) == 0 else kept
    narrow = np.abs(kept).max(initial=0) < 2**31
    return Const(name, np.ascontiguousarray(kept.astype(np.int32 if narrow else np.int64)))


def _weight_type(bits: int) -> type[np.signedinteger]:
    return np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32


def _projection(
    out: str, found: LinearMap, source: Value, weight: Array, loc: Loc | None
) -> snn.ProjectionOp:
    const = Const(f"{out}.w", weight)
    if isinstance(found, ConvMap):
        return snn.Conv(
            out=out, spikes=source, weight=const, stride=found.stride, pad=found.pad,
            dilation=(1,) * len(found.stride), groups=found.groups, loc=loc,
        )  # fmt: skip
    if isinstance(found, DenseMap):
        shape = found.shape if len(found.shape) > 1 else ()
        return snn.Dense(out=out, spikes=source, weight=const, shape=shape, loc=loc)
    if isinstance(found, SparseMap):
        return Sparse(
            out=out, spikes=source, weight=const, shape=found.shape, loc=loc,
            source=Const(f"{out}.source", found.source), target=Const(f"{out}.target", found.target),
        )  # fmt: skip
    return snn.OneToOne(out=out, spikes=source, weight=const, loc=loc)
