"""From a retimed network of spiking populations to the FPGA core's integers and the law of its neurons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.passes.base import Pass
from nmc.targets.fpga import bounds, dialect, legalize_exact, legalize_lif

Array = NDArray[Any]
#: Steps that sums are bounded for where the network does not say how many a run has.
_STEPS = 1 << 12
#: Slots of the widest time wheel.
MAX_DELAY = 64


@dataclass(frozen=True)
class Legalize(Pass, name="fpga-legalize", takes="snn"):
    """Make weights, leaks and thresholds the integers of the core; nobody rounds after this.

    Exact integer networks (codes ``stbif`` and ``phased-if``) stay as they are, integer for integer. All other
    populations are scaled so that their widest weight fills `bits` bits (whole weights stay whole); leaks become
    multiples of 1/4096, thresholds and biases whole numbers. It is proved for every neuron that no sum leaves the
    membrane's bits, and the membranes get as many (`vb`) as the proof asks for; where it depends on the number of
    steps, the attribute ``proved_steps`` says for how many it holds. Spikes of populations named by `record` ("all",
    or names with blanks) go to the host, which counts of outputs do anyway.

        before: %2 = snn.stbif(%2.x, @2.theta, @2.offset) {levels=8, bound=901} : graded<128>
        after:  %2 = fpga.neuron(%2.x, @2.theta, @2.offset) {signed=true, limit=8, once=true, vb=14} : graded<128>
    """

    exact = False  # real weights become integers

    bits: int = 8
    vb: int = 0
    record: str = ""

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"option bits is {self.bits}, not in 2..8")
        if self.vb and not 8 <= self.vb <= bounds.MAX_VB:
            raise ValueError(f"option vb is {self.vb}, not 0 or in 8..{bounds.MAX_VB}")

    @property
    def largest(self) -> int:
        """Largest absolute weight of populations that are rounded."""
        return (1 << (self.bits - 1)) - 1

    def run(self, module: Module) -> Module:
        """Legalise, or tell everything that the core cannot do."""
        work = Legalization(module, self)
        for op in module.ops:
            work.legalize(op)
        if work.problems:
            raise NmcError(work.problems)
        made = module.with_ops(work.finished()).with_attrs(
            target="fpga",
            weight_error=work.errors,
            lost_weights=work.lost,
            proved_steps=min(work.proved, default=None),
        )
        return made.with_attrs(host=self._recorded(made))

    def _recorded(self, module: Module) -> list[str]:
        """Populations whose spikes go to the host."""
        names = [op.out for op in module.of_type(dialect.Neuron) if op.fires]
        wanted = names if self.record == "all" else self.record.split()
        unknown = [name for name in wanted if name not in names]
        if unknown:
            hint = f"populations: {', '.join(names)}"
            raise NmcError(
                Diagnostic("E0941", f"no population {unknown[0]} sends spikes to record", hint=hint)
            )
        counted = {op.data.name for op in module.of_type(snn.Output) if op.decoder == "count"}
        return [name for name in names if name in counted or name in wanted]


@dataclass
class Legalization:
    """The state of one run of the pass."""

    module: Module
    options: Legalize
    ops: list[Op] = field(default_factory=list)
    made: dict[str, Value] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    consts: dict[str, Const] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    proved: list[int] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    reach: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of a run."""
        return int(self.module.attr("steps") or _STEPS)

    def legalize(self, op: Op) -> None:
        """Legalise one op; projections are made together with their population."""
        if isinstance(op, exact.MaxPool):
            self.refuse(
                "E0941", "a maximum of counts has no population", op, "run fpga-pools before spike-code"
            )
        elif isinstance(op, exact.ExactOp):
            legalize_exact.population(self, op)
        elif isinstance(op, snn.If | snn.Integrator | Neuron):
            legalize_lif.population(self, op)
        elif isinstance(op, snn.InputOp):
            self._input(op)
        elif isinstance(op, snn.Output):
            self._output(op)
        elif not isinstance(op, snn.ProjectionOp):
            self.refuse(
                "E0941", f"{op.name} has no counterpart on the FPGA core", op, getattr(op, "advice", "")
            )

    def finished(self) -> list[Op]:
        """All ops, populations with the bits and features that the shape will have."""
        populations = [op for op in self.ops if isinstance(op, dialect.Neuron)]
        cuba = any(op.cuba for op in populations)
        leaks = cuba or any(op.keep != populations[0].keep or op.keep != 4096 for op in populations)
        common: dict[str, Any] = {
            "vb": self.options.vb or bounds.bits(self.reach), "cuba": cuba, "leak": "multiply" if leaks else "none",
        }  # fmt: skip
        return [replace(op, **common) if isinstance(op, dialect.Neuron) else op for op in self.ops]

    def refuse(self, code: str, message: str, op: Op, hint: str = "") -> None:
        """Note a problem."""
        name = op.out or (op.operands[0].name if op.operands else op.name)
        self.problems.append(Diagnostic(code, message, where=str(op.loc or f"%{name}"), hint=hint))

    def emit(self, op: Op) -> Value:
        """Add an op."""
        self.ops.append(op)
        self.made[op.out] = op.result
        return op.result

    def const(self, name: str, data: Array) -> Const:
        """A constant whose name stands for nothing else."""
        names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
        const = next(
            item for item in (Const(free, data) for free in names) if self.consts.get(item.name, item) == item
        )
        return self.consts.setdefault(const.name, const)

    def holds(self, op: Op, reach: float) -> bool:
        """Note how far a membrane may go; False where no core has the bits."""
        need, most = bounds.bits(reach), self.options.vb or bounds.MAX_VB
        self.reach = max(self.reach, reach)
        if need > most:
            text = f"%{op.out}: its membrane may reach {int(reach):,}, which takes {need} bits; the core has {most}"
            hint = (
                "fewer weight bits, levels or steps" if most == bounds.MAX_VB else "leave the option vb away"
            )
            self.refuse("E0943", text, op, hint)
        return need <= most

    def fits(self, op: Op, made: dict[str, Array]) -> bool:
        """Whether thresholds and refractory times fit their fields."""
        refractory = getattr(op, "refractory", None)
        longest = int(refractory.array().max(initial=0)) if refractory is not None else 0
        start = int(getattr(op, "start", 0))
        if longest > 0xFFFF or start >= 0xFFFF:
            self.refuse(
                "E0941", f"%{op.out} waits {max(longest, start):,} steps; the core counts to 65,534", op
            )
        return longest <= 0xFFFF and start < 0xFFFF

    def _input(self, op: snn.InputOp) -> None:
        if isinstance(op, snn.Input) and (op.encoder == "constant" or op.stream):
            what = "streams of frames" if op.stream else "constant currents"
            self.refuse("E0941", f"the host sends events, no {what}", op, "run fpga-drive before retime")
            return
        self.emit(dialect.adopt(op))

    def _output(self, op: snn.Output) -> None:
        source = self.module.producers[op.data.name]
        if op.data.name not in self.made:
            return  # its population was refused
        fires = op.data.type.kind == "spikes" or isinstance(source, exact.ExactNeuron)
        if isinstance(source, snn.InputOp):
            self.refuse("E0944", "the output is an input: nothing of it is on the chip", op)
        elif fires != (op.decoder == "count"):
            what = "fires" if fires else "does not fire"
            hint = "decoder count for populations that fire, last for those that do not"
            self.refuse("E0944", f"decoder {op.decoder} of a population that {what}", op, hint)
        else:
            unit = 1.0 if fires else self.scales.get(op.data.name, 1.0)
            made = self.made[op.data.name]
            self.ops.append(replace(op, data=made, scale=op.scale * unit))

    def projections(self, op: Op, current: Sequence[Value]) -> list[snn.ProjectionOp] | None:
        """The projections onto a population, one a delay; None where something is wrong with them."""
        before, found = len(self.problems), []
        for value in current:
            via = self.module.producers[value.name]
            if hasattr(via, "advice"):
                return None  # it is refused itself, with advice
            if not isinstance(via, snn.ProjectionOp):
                self.refuse("E0941", f"%{value.name} is a current of {via.name}, no projection", op,
                            "run fpga-drive before retime")  # fmt: skip
                continue
            taps = via.taps if isinstance(via, Sparse) else (via,)
            found += [tap for tap in taps if isinstance(tap, snn.ProjectionOp)]
            for tap in taps:
                self._check(via, getattr(tap, "delay", 0))
        return found if len(self.problems) == before else None

    def _check(self, via: snn.ProjectionOp, delay: int) -> None:
        source = self.module.producers[via.spikes.name]
        sent = isinstance(source, snn.InputOp)
        if not sent and not 1 <= delay <= MAX_DELAY:
            text = f"%{via.out} has a delay of {delay} steps, the time wheel 1..{MAX_DELAY}"
            self.refuse("E0945", text, via, f"run retime and relay-delays{{max_delay={MAX_DELAY}}}")
        if via.spikes.type.kind == "graded" and not sent and not isinstance(source, exact.ExactNeuron):
            self.refuse(
                "E0941", f"%{via.out} carries potentials or several spikes a step of {source.name}", via
            )
        if isinstance(source, snn.Input) and (source.encoder == "constant" or source.stream):
            self.refuse("E0941", f"%{via.out} carries currents", via, "run fpga-drive before retime")

    def bound(self, via: snn.ProjectionOp) -> tuple[int, int]:
        """Largest payload in a step, and largest sum of payloads at any time of a run, of a source of `via`."""
        source = self.module.producers[via.spikes.name]
        if isinstance(source, exact.AnyOf | exact.ExactNeuron):
            return 1, source.levels
        return bounds.events(source, self.steps) if isinstance(source, snn.InputOp) else (1, self.steps)

    def projection(self, via: snn.ProjectionOp, weight: Array, *, error: float = 0.0, wait: int = 0) -> Value:
        """A projection with whole weights (int8), `wait` steps later."""
        name = via.out
        while name in self.made:
            name += "_"
        self.errors[name] = round(error, 9)
        lost = int(np.count_nonzero((weight == 0) & (via.weight.array() != 0)))
        if lost:
            self.lost[name] = lost
        common: dict[str, Any] = {
            "out": name, "loc": via.loc, "spikes": self._sent(via), "weight": self.const(via.weight.name, weight),
            "delay": via.delay + wait,
        }  # fmt: skip
        if isinstance(via, snn.Conv):
            return self.emit(dialect.Conv(
                **common, stride=via.stride, pad=via.pad, dilation=via.dilation, groups=via.groups
            ))  # fmt: skip
        if isinstance(via, snn.Dense):
            return self.emit(dialect.Dense(**common, shape=via.shape))
        if isinstance(via, Sparse):
            ends: dict[str, Any] = {
                end: self.const(getattr(via, end).name, getattr(via, end).array())
                for end in ("source", "target")
            }
            return self.emit(dialect.Sparse(**common, **ends, shape=via.shape))
        return self.emit(dialect.Diagonal(**common))

    def _sent(self, via: snn.ProjectionOp) -> Value:
        """The spikes of a source, which in a loop may not be legalised yet."""
        if via.spikes.name in self.made:
            return self.made[via.spikes.name]
        return via.spikes
