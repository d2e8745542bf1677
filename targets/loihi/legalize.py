"""From a retimed network of spiking populations to Loihi's exact integers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.loc import Loc, fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn, synapse_lists
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.ops.sources import Poisson
from nmc.ir.rest import last_events, mistimed
from nmc.passes.base import Pass
from nmc.targets.loihi import legalize_exact
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.advice import weight_bits
from nmc.targets.loihi.laws import Law, Refusal, law_of
from nmc.targets.loihi.layout import WEIGHT_BITS
from nmc.targets.loihi.ops import BIAS_LIMIT
from nmc.targets.loihi.quantize import (
    V_LIMIT,
    Unit,
    Weights,
    bias_registers,
    register_weights,
    reset_registers,
)
from nmc.targets.loihi.scaling import Scaling
from nmc.targets.loihi.starts import start_values

Array = NDArray[Any]
Population = snn.If | snn.Integrator | Neuron
#: Threshold of input populations: 255 << 4, so that a pixel of 8 bits is an exact bias (16 a grey level).
_INPUT_UNIT = Unit(255, 4)


@dataclass(frozen=True)
class Legalize(Pass, name="loihi-legalize", takes="snn"):
    """Round weights, thresholds and biases to Loihi's registers; from here on nobody rounds any more.

    Weights get `bits` bits and one exponent a projection, biases 13 bits and an exponent each, thresholds 8
    significant bits. The unit of each population is the one that rounds its weights least among those for which
    the 21-bit accumulator provably cannot overflow. A population that starts late (``retime``) gets a start value
    that its biases bring to the right potential in time; where they would make it fire before, one injected spike
    opens it (a gate). What any other neuron becomes says `nmc.targets.loihi.laws`; ``neuron_error`` of the module tells
    how far decays and resets are from their registers.

        before: %2 = snn.if(%2.x, @2.bias) {v_init=0.5, start=1} : spikes<8x28x28>
        after:  %2 = loihi.lif(_, %2.x, @2.bias, @2.bias_exp, @2.v) {vth=2040, reset=soft, ...} : spikes<8x28x28>
    """

    exact = False

    bits: int = 8

    def run(self, module: Module) -> Module:
        """Legalise, or tell everything that Loihi cannot do."""
        if self.bits not in WEIGHT_BITS[1:]:
            legal = ", ".join(map(str, WEIGHT_BITS[1:]))
            raise fail("E0618", f"Loihi has no weights of {self.bits} bits", hint=f"bits may be {legal}")
        work = Legalization(module, self, weight_bits(module), problems=[*mistimed(module)])
        for op in module.ops:
            work.legalize(op)
        if work.problems:
            raise NmcError(work.problems)
        found = module.with_ops(work.order()).with_attrs(target="loihi", weight_error=work.errors)
        return found.with_attrs(neuron_error=work.notes) if work.notes else found


@dataclass
class Legalization:
    """The state of one run of the pass."""

    module: Module
    options: Legalize
    bits: Mapping[str, int]
    ops: list[Op] = field(default_factory=list)
    gates: dict[int, loihi.Input] = field(default_factory=dict)
    made: dict[str, Value] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    consts: dict[str, Const] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    notes: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    @cached_property
    def ends(self) -> dict[str, int] | None:
        """Last step in which each value may hold an event; None without a bound."""
        return last_events(self.module)

    def legalize(self, op: Op) -> None:
        """Legalise one op; projections and constant inputs are made together with their population."""
        if isinstance(op, snn.If | snn.Integrator | Neuron):
            self._population(op)
        elif isinstance(op, exact.Phased | exact.AnyOf | exact.Readout):
            legalize_exact.population(self, op)
        elif isinstance(op, snn.Input):
            self._spike_input(op)
        elif isinstance(op, Poisson):
            self._poisson(op)
        elif isinstance(op, snn.Output):
            self._output(op)
        elif not isinstance(op, snn.ProjectionOp):
            self.refuse("E0610", f"{op.name} has no counterpart on Loihi", op, getattr(op, "advice", ""))

    def order(self) -> list[Op]:
        """All ops, gates first."""
        return [*self.gates.values(), *self.ops]

    def refuse(self, code: str, message: str, op: Op, hint: str = "") -> None:
        """Note a problem of an op."""
        self.problems.append(Diagnostic(code, message, where=str(op.loc or f"%{op.out}"), hint=hint))

    def emit(self, op: Op) -> Value:
        """Add an op of the chip."""
        self.ops.append(op)
        self.made[op.out] = op.result
        return op.result

    def _loc(self, *ops: Op) -> Loc | None:
        return fuse(self.options.name, [op.loc for op in ops])

    def const(self, name: str, data: Array) -> Const:
        """A constant whose name stands for nothing else: layers that shared weights may round them differently."""
        names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
        const = next(
            item for item in (Const(free, data) for free in names) if self.consts.get(item.name, item) == item
        )
        return self.consts.setdefault(const.name, const)

    def _spike_input(self, op: snn.Input) -> None:
        kind = op.encoder
        if kind == "constant":
            return  # becomes the drive of its population
        if kind not in ("rate", "raster", "count"):
            hint = "spike-code{code=phased-if} sends plain spikes"
            self.refuse("E0610", f"the host cannot inject an input of encoder {kind}", op, hint)
            return
        self.emit(loihi.Input(
            out=op.out, source=op.source, shape=op.shape, kind=kind, gain=op.gain, seed=op.seed,
            at=op.high if kind == "count" else 0, loc=op.loc,
        ))  # fmt: skip

    def _poisson(self, op: Poisson) -> None:
        """The host draws the counts and injects them."""
        made = loihi.Input(out=op.out, shape=op.shape, kind="poisson", gain=op.mean, seed=op.seed, loc=op.loc)
        self.counts[op.out] = made.most
        self.emit(made)

    def _output(self, op: snn.Output) -> None:
        if op.data.name in self.made:
            unit = self.units[op.data.name].size if op.data.type.kind == "graded" else 1
            self.ops.append(replace(op.with_unit(unit), data=self.made[op.data.name]))

    def _population(self, op: Population) -> None:
        sources = [self.module.producers[value.name] for value in op.current]
        sources = [source for source in sources if not (isinstance(source, snn.Input) and source.empty)]
        drives = [source for source in sources if isinstance(source, snn.Input)]
        projections = [source for source in sources if isinstance(source, snn.ProjectionOp)]
        law = self._law(op, sources, drives, projections)
        if law is None:
            return
        scaled = [_scaled(item, law.scale) for item in projections]
        moved = [
            replace(item, delay=item.delay + law.more_delay)
            for item in scaled
            if not isinstance(item, Refusal)
        ]
        unit = self._unit(op, law, drives, moved)
        problems = [
            item for item in [*scaled, unit, *map(self._too_late, moved)] if isinstance(item, Refusal)
        ]
        for item in problems:
            self.refuse(item.code, item.message, op, item.hint)
        if problems or isinstance(unit, Refusal):
            return
        currents = [self._projection(item, unit) for item in moved]
        drive = self._drive(drives[0], op, unit, law) if drives else None
        self._neurons(op, law, unit, currents, drive)

    def _too_late(self, item: snn.ProjectionOp) -> Refusal | None:
        """A projection of membrane-first neurons may have become too slow."""
        host = isinstance(self.module.producers[item.spikes.name], snn.InputOp)
        longest = item.delay + (synapse_lists.longest(item.late) if isinstance(item, Sparse) else 0)
        most = loihi.MAX_DELAY + (not host)
        if longest <= most:
            return None
        return Refusal("E0616", f"%{item.out} needs a delay of {longest} steps, Loihi has up to {most}")

    def _law(
        self, op: Population, sources: Sequence[Op], drives: Sequence[snn.Input],
        projections: Sequence[snn.ProjectionOp],
    ) -> Law | None:  # fmt: skip
        """The common form of a population, unless something is wrong with it or what it takes."""
        before = len(self.problems)
        told = sum(hasattr(source, "advice") for source in sources)  # refused itself
        if len(drives) + len(projections) + told != len(sources) or len(drives) > 1:
            self.refuse("E0610", "a population takes projections and at most one constant current", op)
        law = law_of(op, projections, self.counts, bool(drives))
        for problem in law if isinstance(law, list) else ():
            self.refuse(problem.code, f"%{op.out}: {problem.message}", op, problem.hint)
        for item in projections:
            self._check_projection(item)
        return None if len(self.problems) > before or isinstance(law, list) else law

    def _check_projection(self, item: snn.ProjectionOp) -> None:
        source = self.module.producers[item.spikes.name]
        if item.spikes.name not in self.made and not isinstance(source, snn.If | Neuron):
            return  # its source was refused
        if item.delay < 1 and not isinstance(source, snn.InputOp):
            self.refuse("E0612", f"%{item.out} has no delay; run retime first", item)
        if isinstance(source, snn.Integrator) or (isinstance(source, Neuron) and source.threshold is None):
            self.refuse("E0610", f"%{item.out} carries the potential of a read-out, no spikes", item)
        if isinstance(item, snn.Conv) and len(item.stride) > 2:
            self.refuse("E0610", f"a convolution over {len(item.stride)} axes; Loihi takes 1 or 2", item)
        if len(self.module.users[item.out]) > 1:
            self.refuse(
                "E0610", f"%{item.out} feeds several populations", item, "give each its own projection"
            )

    def _unit(
        self, op: Population, law: Law, drives: Sequence[snn.Input], projections: Sequence[snn.ProjectionOp]
    ) -> Unit | Refusal:
        if drives and not projections:
            return _INPUT_UNIT
        found = Scaling(
            law, projections, self.counts, max(self.module.attr("steps", 32), 1),
            min((self._bits(item) for item in projections), default=self.options.bits),
            own_bits={item.out: self._bits(item) for item in projections},
            moves=op.reach if isinstance(op, snn.Integrator) else 0.0,
            drive=drives[0].gain * float(law.scale.flat[0]) if drives else 0.0,
        ).unit()  # fmt: skip
        if isinstance(found, Refusal):
            return found
        unit, room = found
        notes = {"decay": law.decay_error, "room": room}
        if any(notes.values()):
            self.notes[op.out] = {name: round(value, 6) for name, value in notes.items() if value}
        return unit

    def _projection(self, op: snn.ProjectionOp, unit: Unit) -> Value:
        bits = self._bits(op)
        found = register_weights(op.weight.array(), unit.size, bits)
        assert found is not None, "the unit was chosen so that the exponents suffice"
        self.errors[op.out] = round(found.error, 6)
        return self.registers(op, found, bits)

    def registers(self, op: snn.ProjectionOp, found: Weights, bits: int) -> Value:
        """A projection with weights that are in registers already."""
        weight = self.const(op.weight.name, found.mantissa)
        source = Value(op.spikes.name, op.spikes.type)
        return self.emit(_synapses(op, source, weight, found, bits))

    def _bits(self, op: snn.ProjectionOp) -> int:
        """Weight bits of a projection: those that its statement asks for, or those of all."""
        return self.bits.get(op.out, self.options.bits)

    def _drive(self, source: snn.Input, op: Population, unit: Unit, law: Law) -> Value:
        name = source.out if source.out not in self.made else f"{op.out}.{source.out}"  # one a population
        amount = source.gain * float(law.scale.flat[0])
        largest = max(1.0, amount) * unit.size  # of data up to one
        exponent = next((exp for exp in range(7) if largest / (1 << exp) <= BIAS_LIMIT + 1), 7)
        return self.emit(loihi.Input(
            out=name, source=source.source, shape=source.shape, kind="bias", gain=amount * unit.size / (1 << exponent),
            exponent=exponent, loc=source.loc,
        ))  # fmt: skip

    def _neurons(
        self, op: Population, law: Law, unit: Unit, currents: list[Value], drive: Value | None
    ) -> None:
        registers = None if law.bias is None else bias_registers(law.bias, unit.size)
        added = np.zeros(1, np.int64) if registers is None else registers[0].astype(np.int64) << registers[1]
        start = start_values(law, unit.size, added)
        if start.largest > V_LIMIT:
            text = (
                f"its bias over {op.start} steps of latency, or its start value, leaves the 23-bit membrane"
            )
            self.refuse("E0614", text, op)
            return
        if start.early > 0 and start.gate is None:
            text = f"its bias makes it fire before step {op.start}, and no injected spike can hold it back"
            self.refuse("E0614", text, op, "a shorter way from the input, or a smaller bias")
            return
        if start.gate is not None or not (
            currents or drive
        ):  # one of weight zero where nothing else comes in
            currents = [*currents, self._gate(op, start.gate or (0, 0))]
        consts = {"v_init": ("v", start.v), "u_init": ("u", start.u)}
        given: dict[str, Any] = {key: self.const(f"{op.out}.{end}", data.astype(np.int32))
                 for key, (end, data) in consts.items() if data.any()}  # fmt: skip
        if registers is not None:
            given["bias"] = self.const(f"{op.out}.bias", registers[0])
            given["bias_exp"] = self.const(f"{op.out}.bias_exp", registers[1])
        self.units[op.out] = unit
        self.emit(self._lif(op, law, unit, tuple(currents), drive, given))

    def _lif(
        self, op: Population, law: Law, unit: Unit, currents: tuple[Value, ...], drive: Value | None,
        given: dict[str, Any],
    ) -> loihi.Lif:  # fmt: skip
        """The compartments; what is the same in all neurons is an integer, what is not a constant."""
        plain: dict[str, Any] = {}
        registers: dict[str, Array] = {"du": law.du, "dv": law.dv, "refract": law.refract}
        if law.reset in ("soft", "split"):
            registers["reset_mant"], plain["reset_exp"], error = reset_registers(law.back, unit)
            if error:
                self.notes.setdefault(op.out, {})["reset"] = round(error, 6)
        for name, values in registers.items():
            plain[name] = int(values.flat[0])
            if not (values == values.flat[0]).all():
                field_name = "reset_each" if name == "reset_mant" else f"{name}_each"
                given[field_name] = self.const(f"{op.out}.{name}", values.astype(np.int16))
        vth = 0 if law.reset == "none" else unit.vth - law.at_threshold
        return loihi.Lif(
            out=op.out, drive=drive, current=currents, vth=vth, reset=law.reset, loc=op.loc, **given, **plain
        )

    def gate_at(self, step: int, op: Op) -> Value:
        """The spike that the host injects at a step, for all populations that it opens or closes."""
        pulse = loihi.Input(out=f"gate.{step}", shape=(1,), kind="pulse", at=step, loc=self._loc(op))
        return self.gates.setdefault(step, pulse).result

    def _gate(self, op: Population, amount: tuple[int, int]) -> Value:
        """The current of one injected spike that opens the population at its start."""
        pulse = self.gate_at(op.start, op)
        shape = op.result.shape
        weight = self.const(
            f"{op.out}.gate.w", np.broadcast_to(np.int16(amount[0]), (op.result.type.size, 1))
        )
        loc = self._loc(op)
        return self.emit(loihi.Dense(
            out=f"{op.out}.gate", spikes=pulse, weight=weight, delay=0, exp=amount[1], sign="excitatory",
            shape=shape if len(shape) > 1 else (), loc=loc,
        ))  # fmt: skip


def _scaled(op: snn.ProjectionOp, scale: Array) -> snn.ProjectionOp | Refusal:
    """The projection with its weights in thresholds; `scale` broadcasts to its targets."""
    if (scale == scale.flat[0]).all():
        factor = scale.flat[0]
        return op if factor == 1.0 else replace(op, weight=Const(op.weight.name, op.weight.array() * factor))
    each = np.broadcast_to(scale, op.result.shape)
    if isinstance(op, snn.Conv):
        rows = each.reshape(each.shape[0], -1)
        if not (rows == rows[:, :1]).all():
            text = f"%{op.out} shares its kernel among neurons of different thresholds or gains"
            return Refusal("E0610", text, "one threshold and gain a channel, or a dense projection")
        factor = rows[:, 0].reshape(-1, *[1] * (len(op.weight.shape) - 1))
    elif isinstance(op, snn.Dense):
        factor = each.reshape(-1, 1)
    else:
        factor = each.reshape(-1)[op.target.array()] if isinstance(op, Sparse) else each
    return replace(op, weight=Const(f"{op.out}.w.scaled", op.weight.array() * factor))


def _synapses(
    op: snn.ProjectionOp, source: Value, weight: Const, found: Weights, bits: int
) -> loihi.SynapseOp:
    if isinstance(op, snn.Conv):
        return loihi.Conv(
            out=op.out, loc=op.loc, spikes=source, weight=weight, delay=op.delay, exp=found.exp, bits=bits,
            sign=found.sign, stride=op.stride, pad=op.pad, dilation=op.dilation, groups=op.groups,
        )  # fmt: skip
    if isinstance(op, snn.Dense):
        return loihi.Dense(
            out=op.out, loc=op.loc, spikes=source, weight=weight, delay=op.delay, exp=found.exp, bits=bits,
            sign=found.sign, shape=op.shape,
        )  # fmt: skip
    if isinstance(op, Sparse):
        return loihi.Sparse(
            out=op.out, loc=op.loc, spikes=source, weight=weight, delay=op.delay, exp=found.exp, bits=bits,
            sign=found.sign, source=op.source, target=op.target, late=op.late, shape=op.shape,
        )  # fmt: skip
    return loihi.Diagonal(
        out=op.out,
        loc=op.loc,
        spikes=source,
        weight=weight,
        delay=op.delay,
        exp=found.exp,
        bits=bits,
        sign=found.sign,
    )
