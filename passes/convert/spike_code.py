"""From an exact integer network to one of spikes: the same counts, carried by another code."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Any, Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.loc import Loc, fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, StatefulOp, Value
from nmc.ir.ops import exact, snn
from nmc.ir.rest import settle_bound
from nmc.passes.base import Pass
from nmc.passes.convert.signed_inputs import split_inputs
from nmc.passes.graph import fresh_name

Code = Literal["stbif", "phased-if", "graded", "bit-serial"]
Schedule = Literal["burst", "spread", "const", "count", "bits"]
#: What ``schedule`` may be where `bit-serial` neurons send: the input is not a sum of steps.
_OF_DIGITS = ("", "bits", "burst")


@dataclass(frozen=True)
class SpikeCode(Pass, name="spike-code", takes="snn"):
    """Choose the events that carry the counts of an exact integer network; every count and output stays the same.

    ``stbif`` sends signed spikes, ``graded`` changes of the count, ``phased-if`` plain spikes (each population waits
    until its sources have finished; a maximum becomes the union of its spike trains), ``bit-serial`` binary digits,
    the highest first (projections get the delays that bring all lowest digits together). The input enters at once
    (``burst``), evenly over `over` steps with the biases of ``stbif`` (``spread``), wholly in each of `over` steps
    (``const``: thresholds of what it reaches grow as much), as plain spikes (``count``) or, for ``bit-serial`` only, as
    digits (``bits``). Where none is named it is ``burst``, ``bits`` for ``bit-serial``. `over` is by default the
    largest number of levels, for ``count`` the largest input.
    The attribute `steps` becomes the number of steps after which the answer is there, whatever the data.

        before: %2 = snn.graded(%2.x, @theta, @offset) {levels=8} : graded<8x14x14>
        after:  %2 = snn.stbif(%2.x, @theta, @offset) {levels=8} : graded<8x14x14>
    """

    code: Code = "stbif"
    schedule: Literal["", "burst", "spread", "const", "count", "bits"] = ""
    over: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.over <= snn.MAX_OVER:
            raise ValueError(f"option over is {self.over}, not in 0..{snn.MAX_OVER}")

    def run(self, module: Module) -> Module:
        """Rewrite inputs and populations, or refuse with every reason at once."""
        self._refuse(module)
        over = self._over(module)
        if self.input_schedule in ("bits", "count"):
            module = split_inputs(module, self.name)
        work = _Coding(self, over, module)
        for op in module.ops:
            work.convert(op)
        if work.problems:
            raise NmcError(work.problems)
        made = module.with_ops(work.ops)
        chosen = {"code": self.code, "schedule": self.input_schedule, "over": over}
        return made.with_attrs(steps=settle_bound(made), spike_code=chosen)

    @property
    def input_schedule(self) -> Schedule:
        """The encoder of the inputs."""
        return self.schedule or ("bits" if self.code == "bit-serial" else "burst")

    def _over(self, module: Module) -> int:
        """Steps in which the input enters."""
        inputs, neurons = module.of_type(snn.Input), module.of_type(exact.ExactNeuron)
        largest = max([1, *(max(op.high, -op.low) for op in inputs)])
        if self.input_schedule == "bits":
            return largest.bit_length()
        if self.input_schedule == "burst":
            return 1
        return self.over or (
            largest if self.input_schedule == "count" else max([1, *(op.levels for op in neurons)])
        )

    def _refuse(self, module: Module) -> None:
        """Only what ``quantize`` gives is taken, and bit-serial inputs have a schedule of their own."""
        allowed = (exact.Graded, exact.Readout, exact.MaxPool, snn.Input, snn.ProjectionOp, snn.Output)
        wrong = [op for op in module.ops if not isinstance(op, allowed)]
        wrong += [op for op in module.of_type(snn.Input) if op.encoder != "burst" or op.stream]
        problems = [
            Diagnostic("E0651", f"{op.name} is no op of an exact integer network", where=_place(op),
                       hint="quantize first, choose the spike code once, then delta-stream")
            for op in wrong
        ]  # fmt: skip
        if self.code == "bit-serial":
            problems += self._not_as_digits(module)
        elif self.schedule == "bits":
            problems.append(_cannot(self.code, "take the input as binary digits", None))
        if problems:
            raise NmcError(problems)
        if settle_bound(module) is None:
            raise fail("E0651", "the network has a loop", hint="unroll it: exact networks are feed-forward")

    def _not_as_digits(self, module: Module) -> list[Diagnostic]:
        """What digits, sent one after the other, cannot carry."""
        problems = [_cannot("bit-serial", "take the maximum of counts on the way", op)
                    for op in module.of_type(exact.MaxPool)]  # fmt: skip
        problems += [_cannot("bit-serial", "give an early answer", op)
                     for op in module.of_type(snn.Output) if op.margin]  # fmt: skip
        if self.schedule not in _OF_DIGITS or self.over:
            told = "send the input in another schedule than at once or as digits"
            problems.append(_cannot("bit-serial", told, None))
        return problems


def _place(op: Op) -> str:
    return str(op.loc or f"%{op.out or op.operands[0].name}")


def _cannot(code: str, what: str, op: Op | None) -> Diagnostic:
    hint = "use stbif or graded where the target can, or another schedule"
    return Diagnostic("E0652", f"spike code {code} cannot {what}", where=_place(op) if op else "", hint=hint)


@dataclass
class _Coding:
    """The state of one rewrite, in the order of the ops.

    `last` is the last step in which a value (or what a current brings) may hold an event, `factor` by how much the
    numbers of a value exceed its counts (``const`` inputs).
    """

    options: SpikeCode
    over: int
    module: Module
    ops: list[Op] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    factor: dict[str, int] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)

    def convert(self, op: Op) -> None:
        """Rewrite one op."""
        if isinstance(op, snn.Input):
            self._input(op)
        elif isinstance(op, exact.MaxPool) and self.options.code == "phased-if":
            self._maximum(op)
        elif isinstance(op, snn.ProjectionOp | exact.MaxPool):
            self._passing(op)
        elif isinstance(op, exact.Graded | exact.Readout):
            self._population(op)
        elif isinstance(op, snn.Output):
            self.ops.append(op.with_unit(self.factor[op.data.name]))

    def _emit(self, op: Op, last: int, factor: int) -> None:
        self.ops.append(op)
        self.last[op.out], self.factor[op.out], self.values[op.out] = last, factor, op.result

    def _input(self, op: snn.Input) -> None:
        over, schedule = self.over, self.options.input_schedule
        if schedule == "count" and op.high > over:
            self.problems.append(_cannot(
                self.options.code, f"send inputs up to {op.high} as spikes in {over} steps (over={op.high} can)", op
            ))  # fmt: skip
            over = op.high
        made = replace(op, encoder=schedule, over=over, loc=self._loc(op))
        self._emit(made, made.active_until - 1, over if schedule == "const" else 1)

    def _passing(self, op: snn.ProjectionOp | exact.MaxPool) -> None:
        """A projection or pooling: brings events on, with the types that they now have."""
        (value,) = (self.values[value.name] for value in op.operands)
        delay = max(getattr(tap, "delay", 0) for tap in op.taps)
        if isinstance(op, exact.MaxPool):
            made: Op = replace(op, events=value)
        else:
            made = replace(op, spikes=value)
        self._emit(made, self.last[value.name] + delay, self.factor[value.name])

    def _maximum(self, op: exact.MaxPool) -> None:
        """A maximum of counts: of trains without gaps that begin together it is their union, step by step."""
        source = next(item for item in self.ops if item.out == op.events.name)
        if not isinstance(source, exact.Phased | exact.AnyOf):
            if self.options.schedule == "count":
                told = "take the maximum of inputs that are sent as spikes"
                self.problems.append(_cannot(self.options.code, told, op))
            self._passing(op)
            return
        channels = op.events.shape[0]
        weight = Const(f"{op.out}.ones", np.ones((channels, 1, *op.kernel), np.int8))
        window = snn.Conv(
            out=fresh_name(f"{op.out}.window", {*self.module.producers, *self.values}), spikes=source.result,
            weight=weight, stride=op.stride, pad=op.pad, dilation=op.dilation, groups=channels, loc=self._loc(op),
        )  # fmt: skip
        self._emit(window, self.last[source.out], 1)
        union = exact.AnyOf(out=op.out, current=(window.result,), levels=source.levels, loc=self._loc(op))
        self._emit(union, self.last[source.out], 1)

    def _population(self, op: exact.Graded | exact.Readout) -> None:
        current = op.current
        if self.options.code == "bit-serial":
            current = tuple(self._aligned(value, op) for value in current)
        arrival = max(self.last[value.name] for value in current)
        factors = {self.factor[value.name] for value in current}
        if len(factors) > 1:
            told = "join a constant input with other populations in one population"
            self.problems.append(_cannot(self.options.code, told, op))
        factor = max(factors)
        if isinstance(op, exact.Readout):
            doubling = arrival + 1 if self.options.code == "bit-serial" else 0
            made: StatefulOp = replace(
                op, current=current, offset=_times(op.offset, factor), doubling_until=doubling,
                bound=op.bound * factor, reach=op.reach * factor, loc=self._loc(op),
            )  # fmt: skip
            self._emit(made, arrival, factor)
            return
        made, last = self._neuron(replace(op, current=current), arrival, factor)
        self._emit(made, last, 1)

    def _neuron(self, op: exact.Graded, arrival: int, factor: int) -> tuple[StatefulOp, int]:
        """The population in its code, and the last step in which it may send."""
        common: dict[str, Any] = {"out": op.out, "current": op.current, "theta": _times(op.theta, factor),
                  "offset": _times(op.offset, factor), "levels": op.levels, "bound": op.bound * factor,
                  "loc": self._loc(op)}  # fmt: skip
        code, levels = self.options.code, op.levels
        if code == "graded":
            return exact.Graded(**common), arrival
        if code == "phased-if":
            return exact.Phased(**common, open=arrival), arrival + levels - 1
        if code == "bit-serial":
            bits = levels.bit_length()
            return exact.BitSerial(**common, open=arrival + 1, bits=bits), arrival + bits
        spread = self.over if self.options.schedule == "spread" else 0
        return exact.StBif(**common, spread=spread), max(arrival, spread - 1) + levels - 1

    def _aligned(self, value: Value, op: exact.Graded | exact.Readout) -> Value:
        """The current, later by as much as its lowest digits come before the latest of this population."""
        late = max(self.last[other.name] for other in op.current) - self.last[value.name]
        if not late:
            return value
        place = next(number for number, item in enumerate(self.ops) if item.out == value.name)
        found = self.ops[place]
        assert isinstance(found, snn.ProjectionOp), "currents come from projections"
        later = replace(found, delay=found.delay + late, loc=self._loc(found))
        if len(self.module.users[value.name]) == 1:
            self.ops[place] = later
            self.last[value.name] += late
            return value
        name = fresh_name(f"{value.name}.late{late}", {*self.module.producers, *self.values})
        self._emit(replace(later, out=name), self.last[value.name] + late, self.factor[value.name])
        return self.values[name]

    def _loc(self, op: Op) -> Loc | None:
        return fuse(self.options.name, [op.loc])


def _times(const: Const, factor: int) -> Const:
    """Integers, `factor` times as large."""
    if factor == 1:
        return const
    return Const(f"{const.name}.x{factor}", const.array().astype(np.int64) * factor)
