"""From a retimed network of integrate-and-fire populations to Loihi's exact integers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.loc import Loc, fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.passes.base import Pass
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.layout import WEIGHT_BITS
from nmc.targets.loihi.ops import BIAS_LIMIT
from nmc.targets.loihi.quantize import (
    Q_LIMIT,
    V_LIMIT,
    Unit,
    Weights,
    bias_registers,
    choose_unit,
    reach,
    register_weights,
    row_sums,
)

Array = NDArray[Any]
#: Threshold of input populations: 255 << 4, so that a pixel of 8 bits is an exact bias (16 a grey level).
_INPUT_UNIT = Unit(255, 4)


@dataclass(frozen=True)
class Legalize(Pass, name="loihi-legalize", takes="snn"):
    """Round weights, thresholds and biases to Loihi's registers; from here on nobody rounds any more.

    Weights get `bits` bits and one exponent a projection, biases 13 bits and an exponent each, thresholds 8
    significant bits. The unit of each population is the one that rounds its weights least among those for which
    the 21-bit accumulator provably cannot overflow. A population that starts late (``retime``) gets a start value
    that its biases bring to the right potential in time; where they would make it fire before, one injected spike
    opens it (a gate).

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
        work = _Legalization(module, self)
        for op in module.ops:
            work.legalize(op)
        if work.problems:
            raise NmcError(work.problems)
        return module.with_ops(work.order()).with_attrs(target="loihi", weight_error=work.errors)


@dataclass
class _Legalization:
    """The state of one run of the pass."""

    module: Module
    options: Legalize
    ops: list[Op] = field(default_factory=list)
    gates: dict[int, loihi.Input] = field(default_factory=dict)
    made: dict[str, Value] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    consts: dict[str, Const] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    def legalize(self, op: Op) -> None:
        """Legalise one op; projections and constant inputs are made together with their population."""
        if isinstance(op, snn.If | snn.Integrator):
            self._population(op)
        elif isinstance(op, snn.Input):
            self._spike_input(op)
        elif isinstance(op, snn.Output):
            self._output(op)
        elif not isinstance(op, snn.ProjectionOp):
            hint = "what is mapped so far: integrate-and-fire without leak or synaptic filter, and read-outs"
            self._refuse("E0610", f"{op.name} has no counterpart on Loihi", op, hint)

    def order(self) -> list[Op]:
        """All ops, gates first."""
        return [*self.gates.values(), *self.ops]

    def _refuse(self, code: str, message: str, op: Op, hint: str = "") -> None:
        self.problems.append(Diagnostic(code, message, where=str(op.loc or f"%{op.out}"), hint=hint))

    def _emit(self, op: Op) -> Value:
        self.ops.append(op)
        self.made[op.out] = op.result
        return op.result

    def _loc(self, *ops: Op) -> Loc | None:
        return fuse(self.options.name, [op.loc for op in ops])

    def _const(self, name: str, data: Array) -> Const:
        """A constant whose name stands for nothing else: layers that shared weights may round them differently."""
        names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
        const = next(
            item for item in (Const(free, data) for free in names) if self.consts.get(item.name, item) == item
        )
        return self.consts.setdefault(const.name, const)

    def _spike_input(self, op: snn.Input) -> None:
        if op.encoder == "constant":
            return  # becomes the drive of its population
        kind = op.encoder
        self._emit(loihi.Input(
            out=op.out, source=op.source, shape=op.shape, kind=kind, gain=op.gain, seed=op.seed, loc=op.loc
        ))  # fmt: skip

    def _output(self, op: snn.Output) -> None:
        if op.data.name in self.made:
            unit = self.units[op.data.name].size if op.data.type.kind == "graded" else 1
            value = self.made[op.data.name]
            self.ops.append(snn.Output(data=value, decoder=op.decoder, scale=op.scale / unit, loc=op.loc))

    def _population(self, op: snn.If | snn.Integrator) -> None:
        sources = [self.module.producers[value.name] for value in op.current]
        drives = [source for source in sources if isinstance(source, snn.Input)]
        projections = [source for source in sources if isinstance(source, snn.ProjectionOp)]
        if not self._lawful(op, drives, projections):
            return
        threshold = op.threshold if isinstance(op, snn.If) else 1.0
        projections = [_scaled(item, threshold) for item in projections]
        bias = None if op.bias is None else op.bias.array().astype(np.float64) / threshold
        unit = self._unit(op, drives, projections, bias)
        if unit is None:
            return
        currents = [self._projection(item, unit) for item in projections]
        drive = self._drive(drives[0], op, unit, threshold) if drives else None
        self._neurons(op, unit, bias, currents, drive)

    def _lawful(
        self, op: snn.NeuronOp, drives: Sequence[Op], projections: Sequence[snn.ProjectionOp]
    ) -> bool:
        before = len(self.problems)
        if len(drives) + len(projections) != len(op.current) or len(drives) > 1:
            self._refuse("E0610", "a population takes projections and at most one constant current", op)
        if drives and op.bias is not None:
            self._refuse(
                "E0610", "the host writes the bias registers of this population; it cannot have a bias", op
            )
        if isinstance(op, snn.If) and op.compare != "gt":
            hint = "Loihi fires above the threshold, not at it (compare=gt)"
            self._refuse("E0611", "a threshold that fires when it is just reached", op, hint)
        for item in projections:
            source = self.module.producers[item.spikes.name]
            if item.spikes.name not in self.made and not isinstance(source, snn.If):
                continue  # its source was refused
            if item.delay < 1 and not isinstance(source, snn.InputOp):
                self._refuse("E0612", f"%{item.out} has no delay; run retime first", item)
            if isinstance(item, snn.Conv) and len(item.stride) > 2:
                self._refuse("E0610", f"a convolution over {len(item.stride)} axes; Loihi takes 1 or 2", item)
            if len(self.module.users[item.out]) > 1:
                self._refuse(
                    "E0610", f"%{item.out} feeds several populations", item, "give each its own projection"
                )
        return len(self.problems) == before

    def _unit(
        self,
        op: snn.If | snn.Integrator,
        drives: Sequence[Op],
        projections: Sequence[snn.ProjectionOp],
        bias: Array | None,
    ) -> Unit | None:
        if not projections:
            return _INPUT_UNIT
        extra, limit = 1.0 + _gate_bound(op, bias), float(Q_LIMIT)  # a soft reset and a gate
        if isinstance(op, snn.Integrator):
            extra = 0.0 if bias is None else float(np.abs(bias).max())
            limit = (
                V_LIMIT / max(self.module.attr("steps", 32), 1) * _headroom(op, reach(projections) + extra)
            )
        ceiling = limit
        for _ in range(20):
            unit = choose_unit(projections, bias, extra, ceiling, self.options.bits)
            if unit is None or self._fits(projections, unit, extra, limit):
                break
            ceiling *= 0.95
        if unit is None:
            amount = reach(projections)
            message = f"one step can bring {amount:,.0f} thresholds, over the 21-bit accumulator at any scale"
            self._refuse(
                "E0613", message, op, "fewer or smaller weights a neuron: prune, pool, or regularise"
            )
        elif _vanish(projections, unit, self.options.bits):
            message = (
                f"at {unit.size:,} a threshold, the most that cannot overflow, all its weights round to zero"
            )
            self._refuse(
                "E0613", message, op, "fewer weights a neuron: prune, pool, or calibrate with sample data"
            )
            return None
        return unit

    def _fits(self, projections: Sequence[snn.ProjectionOp], unit: Unit, extra: float, limit: float) -> bool:
        """Check the bound on the rounded weights themselves."""
        total = np.zeros(2)
        for item in projections:
            found = register_weights(item.weight.array(), unit.size, self.options.bits)
            if found is None:
                return False
            up, down = row_sums(item, found.mantissa.astype(np.int64) << (found.exp + 6))
            total += [up.max(initial=0), down.max(initial=0)]
        return bool(total.max() + extra * unit.size <= min(limit, Q_LIMIT))

    def _projection(self, op: snn.ProjectionOp, unit: Unit) -> Value:
        found = register_weights(op.weight.array(), unit.size, self.options.bits)
        assert found is not None, "the unit was chosen so that the exponents suffice"
        self.errors[op.out] = round(found.error, 6)
        weight = self._const(op.weight.name, found.mantissa)
        source = Value(op.spikes.name, op.spikes.type)
        return self._emit(_synapses(op, source, weight, found, self.options.bits))

    def _drive(self, source: Op, op: snn.NeuronOp, unit: Unit, threshold: float) -> Value:
        assert isinstance(source, snn.Input)
        name = source.out if source.out not in self.made else f"{op.out}.{source.out}"  # one a population
        exponent = next(exp for exp in range(8) if unit.size >> exp <= BIAS_LIMIT + 1)
        gain = source.gain / threshold * unit.size / (1 << exponent)
        return self._emit(loihi.Input(
            out=name, source=source.source, shape=source.shape, kind="bias", gain=gain, exponent=exponent,
            loc=source.loc,
        ))  # fmt: skip

    def _neurons(
        self,
        op: snn.If | snn.Integrator,
        unit: Unit,
        bias: Array | None,
        currents: list[Value],
        drive: Value | None,
    ) -> None:
        registers = None if bias is None else bias_registers(bias, unit.size)
        bias_const = exp_const = v_const = None
        if registers is not None:
            bias_const = self._const(f"{op.out}.bias", registers[0])
            exp_const = self._const(f"{op.out}.bias_exp", registers[1])
        start, opened = _start_values(op, unit, registers)
        if int(np.abs(start).max(initial=0)) > V_LIMIT:
            self._refuse("E0614", f"its bias over {op.start} steps of latency leaves the 23-bit membrane", op)
            return
        if opened is not None:
            currents = [*currents, self._gate(op, opened)]
        if start.any():
            v_const = self._const(f"{op.out}.v", start.astype(np.int32))
        spiking = isinstance(op, snn.If)
        soft = isinstance(op, snn.If) and op.reset == "subtract"
        self.units[op.out] = unit
        self._emit(loihi.Lif(
            out=op.out, drive=drive, current=tuple(currents), bias=bias_const, bias_exp=exp_const,
            v_init=v_const, vth=unit.vth if spiking else 0,
            reset=("soft" if soft else "hard") if spiking else "none", reset_mant=unit.mant if soft else 0,
            reset_exp=unit.exp if soft else 0, loc=op.loc,
        ))  # fmt: skip

    def _gate(self, op: snn.NeuronOp, amount: tuple[int, int]) -> Value:
        """The current of one injected spike that opens the population at its start."""
        pulse = self.gates.setdefault(
            op.start,
            loihi.Input(out=f"gate.{op.start}", shape=(1,), kind="pulse", at=op.start, loc=self._loc(op)),
        )
        shape = op.result.shape
        weight = self._const(
            f"{op.out}.gate.w", np.broadcast_to(np.int16(amount[0]), (op.result.type.size, 1))
        )
        loc = self._loc(op)
        return self._emit(loihi.Dense(
            out=f"{op.out}.gate", spikes=pulse.result, weight=weight, delay=0, exp=amount[1], sign="excitatory",
            shape=shape if len(shape) > 1 else (), loc=loc,
        ))  # fmt: skip


def _scaled(op: snn.ProjectionOp, threshold: float) -> snn.ProjectionOp:
    """The projection with its weights in thresholds."""
    if threshold == 1.0:
        return op
    return replace(op, weight=Const(op.weight.name, op.weight.array() / threshold))


def _vanish(projections: Sequence[snn.ProjectionOp], unit: Unit, bits: int) -> bool:
    """Whether a unit leaves nothing of any projection."""
    some = [item.weight.array() for item in projections if item.weight.array().any()]
    found = [register_weights(weight, unit.size, bits) for weight in some]
    return bool(some) and not any(item is None or item.mantissa.any() for item in found)


def _headroom(op: snn.Integrator, most: float) -> float:
    """How much more than the static bound allows a read-out may be scaled up, because sample data reach less.

    Four times what the samples gave still fits the membrane, which saturates beyond.
    """
    return most / min(most, 4 * op.reach) if op.reach > 0 else 1.0


def _gate_bound(op: snn.NeuronOp, bias: Array | None) -> float:
    """Weight of the gate, in thresholds, at most (its mantissa has 8 bits, rounded up)."""
    if bias is None or op.start == 0 or not isinstance(op, snn.If):
        return 0.0
    return (
        max(0.0, float((op.v_init / op.threshold - (op.start - 1) * bias).max()) - 1.0) * (1 + 1 / 127) + 0.02
    )


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


def _start_values(
    op: snn.If | snn.Integrator, unit: Unit, registers: tuple[Array, Array] | None
) -> tuple[Array, tuple[int, int] | None]:
    """Potentials before step 0 that biases bring to `v_init` at the start, and the gate they need.

    Returns
    -------
    start : int64 array
        Broadcasts to the population.
    gate : (mantissa, exponent) or None
        Weight of the spike that opens the population; `start` is lower by as much.
    """
    wanted = round(op.v_init / op.threshold * unit.size) if isinstance(op, snn.If) else 0
    value = np.zeros((1,) * len(op.result.shape), np.int64)
    if registers is not None:
        value = registers[0].astype(np.int64) << registers[1].astype(np.int64)
    start = wanted - op.start * value
    early = int((start + value).max(initial=0)) - unit.size
    if op.start == 0 or not isinstance(op, snn.If) or early <= 0:
        return start, None
    exp = next((e for e in range(8) if -(-early // (64 << e)) <= 255), 7)
    mant = -(-early // (64 << exp))
    return start - ((mant << exp) << 6), (mant, exp)
