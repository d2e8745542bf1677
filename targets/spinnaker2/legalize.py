"""From a retimed network of spiking populations to SpiNNaker2's integers, row formats and neuron models."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.ir.ops.user import User
from nmc.passes.base import Pass
from nmc.targets.spinnaker2 import legalize_exact, legalize_lif, legalize_user
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.host import adopt, events_bound
from nmc.targets.spinnaker2.layout import MAX_DELAY, Format
from nmc.targets.spinnaker2.scaling import Stored

Array = NDArray[Any]
#: Steps that sums are bounded for where the network does not say how many a run has.
_STEPS = 1 << 12


@dataclass(frozen=True)
class Legalize(Pass, name="spinnaker2-legalize", takes="snn"):
    """Round weights to the integers of row formats, and give every population its model; nobody rounds after this.

    Exact integer networks (``snn.graded`` and its codes) stay as they are, integer for integer. Models of the user's
    (``snn.user``) keep their instructions, in single precision or their own fixed point. All other populations
    become leaky neurons in single precision (`arithmetic` f32) or sPyNNaker's in s16.15 (`arithmetic` s1615); sums of
    their synapses are integers times a scale. A projection gets the row format that takes the fewest bytes among those
    that hold its weights: ``conv`` for shared kernels, ``dense8`` (weights of `bits` bits, at most 8) for matrices,
    ``sparse16`` where all weights are small multiples of one number (or `bits` is 4 or less), ``sparse32`` (16 bits)
    otherwise. The attributes ``rows`` and ``weight_error`` tell format, gain, rounding error and weights lost to zero
    of each projection. Populations named by `record` ("all", or names with blanks) record in SRAM what they send.

        before: %2 = snn.stbif(%2.x, @2.theta, @2.offset) {levels=8, bound=901} : graded<128>
        after:  %2 = spinnaker2.stbif(%2.x, @2.theta, @2.offset) {levels=8} : graded<128>
    """

    exact = False  # real weights become integers

    bits: int = 8
    arithmetic: Literal["f32", "s1615"] = "f32"
    record: str = ""

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise ValueError(f"option bits is {self.bits}, not in 2..16")

    def run(self, module: Module) -> Module:
        """Legalise, or tell everything that SpiNNaker2 cannot do."""
        work = Legalization(module, self)
        for op in module.ops:
            work.legalize(op)
        if work.problems:
            raise NmcError(work.problems)
        made = module.with_ops(work.ops).with_attrs(
            target="spinnaker2", weight_error=work.errors, rows=work.rows
        )
        return made.with_attrs(sram_record=self._recorded(made))

    def _recorded(self, module: Module) -> list[str] | None:
        names = [op.out for op in module.of_type(s2.NeuronOp)]
        wanted = names if self.record == "all" else self.record.split()
        unknown = [name for name in wanted if name not in names]
        if unknown:
            hint = f"populations: {', '.join(names)}"
            raise NmcError(Diagnostic("E0921", f"there is no population {unknown[0]} to record", hint=hint))
        return wanted or None


@dataclass
class Legalization:
    """The state of one run of the pass."""

    module: Module
    options: Legalize
    ops: list[Op] = field(default_factory=list)
    made: dict[str, Value] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    consts: dict[str, Const] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Steps of a run."""
        return int(self.module.attr("steps") or _STEPS)

    def legalize(self, op: Op) -> None:
        """Legalise one op; projections are made together with their population."""
        if isinstance(op, exact.MaxPool):
            self.refuse(
                "E0921", "a pooling of counts has no population", op, "run spinnaker2-pools before retime"
            )
        elif isinstance(op, s2.MaxPool):
            legalize_exact.pool(self, op)
        elif isinstance(op, exact.ExactOp):
            legalize_exact.population(self, op)
        elif isinstance(op, snn.If | snn.Integrator | Neuron):
            legalize_lif.population(self, op)
        elif isinstance(op, User):
            legalize_user.population(self, op)
        elif isinstance(op, snn.InputOp):
            self._input(op)
        elif isinstance(op, snn.Output):
            self._output(op)
        elif not isinstance(op, snn.ProjectionOp):
            self.refuse("E0921", f"{op.name} has no counterpart on SpiNNaker2", op, getattr(op, "advice", ""))

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

    def _input(self, op: snn.InputOp) -> None:
        if isinstance(op, snn.Input) and (op.encoder == "constant" or op.stream):
            what = "streams of frames" if op.stream else "constant currents"
            self.refuse(
                "E0921", f"the host injects packets, no {what}", op, "run spinnaker2-drive before retime"
            )
            return
        self.emit(adopt(op))

    def _output(self, op: snn.Output) -> None:
        source = self.module.producers[op.data.name]
        if op.data.name not in self.made:
            return  # its population was refused
        fires = op.data.type.kind == "spikes" or isinstance(source, exact.ExactNeuron | s2.MaxPool)
        if isinstance(source, snn.InputOp):
            self.refuse("E0923", "the output is an input: nothing of it is on the chip", op)
        elif fires != (op.decoder == "count"):
            hint = "decoder count for populations that fire, last for those that do not"
            self.refuse("E0923", f"decoder {op.decoder} of a population that {'fires' if fires else 'does not fire'}",
                        op, hint)  # fmt: skip
        else:
            unit = self.scales.get(op.data.name, 1.0)
            self.ops.append(replace(op, data=self.made[op.data.name], scale=op.scale * unit))

    def projections(self, op: Op, current: Sequence[Value]) -> list[snn.ProjectionOp] | None:
        """The projections onto a population, one a delay; None where something is wrong with them."""
        before, found = len(self.problems), []
        for value in current:
            via = self.module.producers[value.name]
            if hasattr(via, "advice"):
                return None  # it is refused itself, with advice
            if not isinstance(via, snn.ProjectionOp):
                self.refuse("E0921", f"%{value.name} is a current of {via.name}, no projection", op,
                            "run spinnaker2-drive before retime")  # fmt: skip
                continue
            taps = via.taps if isinstance(via, Sparse) else (via,)
            found += [tap for tap in taps if isinstance(tap, snn.ProjectionOp)]
            for tap in taps:
                self._check(via, getattr(tap, "delay", 0))
        return found if len(self.problems) == before else None

    def _check(self, via: snn.ProjectionOp, delay: int) -> None:
        source = self.module.producers[via.spikes.name]
        graded = via.spikes.type.kind == "graded"
        if delay < 1 or delay > MAX_DELAY:
            text = f"%{via.out} has a delay of {delay} steps, SpiNNaker2 rows 1..{MAX_DELAY}"
            self.refuse("E0922", text, via, "run retime{input_delay=1} and spinnaker2-relays")
        if graded and not isinstance(source, snn.InputOp | exact.ExactNeuron | s2.MaxPool):
            self.refuse(
                "E0921", f"%{via.out} carries potentials or several spikes a step of {source.name}", via
            )
        if isinstance(via, snn.Conv) and len(via.stride) > 2:
            self.refuse("E0921", f"a convolution over {len(via.stride)} axes; rows know 1 and 2", via)

    def bound(self, via: snn.ProjectionOp) -> tuple[int, int]:
        """Largest payload, and largest sum of payloads in a run, of a source of `via`."""
        source = self.module.producers[via.spikes.name]
        if isinstance(source, exact.ExactNeuron | exact.AnyOf):
            return source.levels, source.levels
        if isinstance(source, s2.MaxPool):
            places = (self.module.producers[value.name] for value in source.current)
            bounds = [self.bound(place) for place in places if isinstance(place, snn.ProjectionOp)]
            return max(payload for payload, _ in bounds), max(total for _, total in bounds)
        return events_bound(source, self.steps) if isinstance(source, snn.InputOp) else (1, self.steps)

    def projection(self, via: snn.ProjectionOp, stored: Stored, format: Format) -> Value:
        """A projection with stored weights."""
        name = via.out
        while name in self.made:
            name += "_"
        self.errors[name] = round(stored.error, 9)
        self.rows[name] = {"format": format, "gain": stored.gain, "lost": stored.lost}
        small = np.int8 if format in ("dense8", "conv") else np.int16
        weight = self.const(via.weight.name, stored.weight.astype(small))
        common: dict[str, Any] = {
            "out": name, "loc": via.loc, "spikes": self.made.get(via.spikes.name, via.spikes), "weight": weight,
            "delay": via.delay, "gain": stored.gain, "format": format,
        }  # fmt: skip
        if isinstance(via, snn.Conv):
            return self.emit(s2.Conv(
                **common, stride=via.stride, pad=via.pad, dilation=via.dilation, groups=via.groups
            ))  # fmt: skip
        if isinstance(via, snn.Dense):
            return self.emit(s2.Dense(**common, shape=via.shape))
        if isinstance(via, Sparse):
            ends: dict[str, Any] = {
                name: self.const(getattr(via, name).name, getattr(via, name).array())
                for name in ("source", "target")
            }
            return self.emit(s2.Sparse(**common, **ends, shape=via.shape))
        return self.emit(s2.Diagonal(**common))
