"""Cut populations into boxes for PEs: the generic partition, until bytes counted with the final cut all fit.

Then again, with a budget of cycles: where PEs are late in their fullest tick and others are free, boxes get smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit, NmcError
from nmc.ir.module import Module
from nmc.ir.op import Span
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import Target, resolve
from nmc.passes.base import Pass
from nmc.passes.data import load_samples
from nmc.passes.map.partition import partition
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.activity import Activity, guess, measure, shapes_of, tick_loads
from nmc.targets.spinnaker2.build import sizes, used_bytes
from nmc.targets.spinnaker2.cycles import CPI
from nmc.targets.spinnaker2.demands import Budget, SpinnakerDemands
from nmc.targets.spinnaker2.layout import Box
from nmc.targets.spinnaker2.programs import program, recording
from nmc.targets.spinnaker2.wiring import rows_onto

Array = NDArray[Any]

#: Attempts; from the second on every population keeps what it lacked in the one before.
_ROUNDS = 12
#: Attempts of those for cycles: how sources are cut changes what comes, and that settles soon or not at all.
_BUDGET_ROUNDS = 4
#: Share of a tick that boxes are cut for: other data have fuller ticks than the samples.
_ROOM = 0.8
#: Budgets tried where PEs do not suffice, as multiples of that share.
_BUDGETS = (1.0, 1.25, 1.6, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Fit(Pass, name="spinnaker2-partition", takes="snn", gives="mapped"):
    """Cut populations into boxes, one a PE, under the 128 kB of SRAM and the other limits of a PE.

    The memory of a box depends on how its sources are cut (a table entry for each of their boxes), so the generic
    ``partition`` runs again until the bytes counted with the final boxes fit everywhere. A recording that leaves a
    single neuron no room is refused with its size. No box gets more than `neurons` neurons (0: as many as fit), which
    shortens ticks.

    With `realtime`, boxes are cut smaller where PEs need more than a tick of 1 ms for their fullest tick (neuron
    updates, spikes received and sent, synaptic events) at the clock of the target, as long as PEs are free. Spikes
    are counted on `limit` samples of `data`, or guessed where there is none: one a neuron and sample. The loads are
    noted in the module.

        before: %2 = spinnaker2.stbif(%2.x, ...) : graded<1000>
        after:  %2.p0 = map.neurons(%2) {box=[0:125], core=0, slots=0:125} : pop<125>
    """

    target: str = ""
    neurons: int = 0
    realtime: bool = True
    data: str = ""
    limit: int = 16
    raw: bool = False
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})

    def run(self, module: Module) -> Module:
        """Partition, or refuse with every limit that is exceeded."""
        name = self.target or module.attr("target", "") or "spinnaker2"
        target = resolve(name)
        _check_recordings(module, target)
        work = _Work(module, target, name, self.neurons, self._activity(module))
        found = work.fitted()
        if self.realtime and found.late(target) and found.cores < target.cores:
            found = work.shortened(found)
        loads = {part: [round(mean), round(peak)] for part, (mean, peak) in found.loads.items()}
        counted = "measured" if work.activity.measured else "guessed"
        return found.mapped.with_attrs(
            source_boxes=None, slack=None, most_neurons=None, ticks={"spikes": counted, "loads": loads}
        )

    def _activity(self, module: Module) -> Activity:
        samples = self.samples
        if samples is None and self.data:
            samples, _ = load_samples(self.data, limit=self.limit, raw=self.raw)
        return guess(module) if samples is None else measure(module, samples[: self.limit])


@dataclass(frozen=True, eq=False)
class _Found:
    """A partition with instructions of the mean and of the fullest tick of each part, and bytes that are too many."""

    mapped: Module
    loads: Mapping[str, tuple[float, float]]
    over: Mapping[str, int]

    @property
    def cores(self) -> int:
        """PEs in use."""
        return len(self.loads)

    @property
    def worst(self) -> float:
        """Cycles of the fullest tick of all."""
        return CPI * max((peak for _, peak in self.loads.values()), default=0.0)

    def late(self, target: Target) -> bool:
        """Whether a PE misses a tick."""
        return self.worst > target.limits["update_cycles"]


@dataclass(frozen=True, eq=False)
class _Work:
    """What all attempts share."""

    module: Module
    target: Target
    name: str
    neurons: int
    activity: Activity

    def shortened(self, first: _Found) -> _Found:
        """The partition with the shortest budget for which there are PEs; `first` where that helps nothing."""
        tick = self.target.limits["update_cycles"]
        for share in _BUDGETS:
            try:
                found = self.fitted(Budget(self.activity, round(_ROOM * share * tick)))
            except NmcError:
                continue
            return found if found.worst < first.worst else first
        return first

    def fitted(self, budget: Budget | None = None) -> _Found:
        """Partition until the bytes fit everywhere, and the cycles as far as that comes about."""
        boxes: dict[str, Any] | None = None
        slack: dict[str, int] = {}
        for number in range(_ROUNDS):
            demands = SpinnakerDemands(budget)
            limits = {**self.target.limits, **({"tick_cycles": budget.cycles} if budget else {})}
            asked = self.module.with_attrs(
                source_boxes=boxes, slack=slack or None, most_neurons=self.neurons or None
            )
            target = replace(self.target, demands=demands, limits=limits)
            found = self._examined(partition(asked, target, self.name, merge=False))
            again = budget is not None and number < _BUDGET_ROUNDS and found.late(self.target)
            if not found.over and not again:
                return found
            cut = boxes_of(found.mapped)
            boxes = {name: [[[s.start, s.stop] for s in box] for box in parts] for name, parts in cut.items()}
            slack = {name: slack.get(name, 0) + more for name, more in found.over.items()} or slack
        name, more = max(found.over.items(), key=lambda item: item[1])
        text = f"%{name} takes {more:,} bytes of SRAM more than a PE has, however it and its sources are cut"
        raise DoesNotFit(Diagnostic("E0710", text, where=f"%{name}"))

    def _examined(self, mapped: Module) -> _Found:
        """Count bytes and instructions of all parts with the cut as it is now."""
        cut, shapes, limit = boxes_of(mapped), shapes_of(mapped), self.target.limits["sram_bytes"]
        loads: dict[str, tuple[float, float]] = {}
        over: dict[str, int] = {}
        for part in mapped.of_type(Neurons):
            op = mapped.producers[part.of.name]
            if part.core == HOST or not isinstance(op, s2.NeuronOp):
                continue
            onto = list(rows_onto(mapped, op, part.box, cut))
            more = used_bytes(program(mapped, op, part.box, cut, onto=onto)) - limit
            if more > 0:
                over[op.out] = max(over.get(op.out, 0), more)
            ticks = tick_loads(self.activity, op, part.box, onto, shapes, cut)
            mean = ticks.mean() if self.activity.measured else ticks[-1]
            loads[part.out] = float(mean), float(ticks.max())
        return _Found(mapped, loads, over)


def boxes_of(mapped: Module) -> dict[str, Sequence[Box]]:
    """How populations and inputs are cut, in the order of their parts."""
    found: dict[str, list[Box]] = {}
    for part in mapped.of_type(Neurons):
        found.setdefault(part.of.name, []).append(part.box)
    return dict(found)


def _check_recordings(module: Module, target: Target) -> None:
    """Refuse recordings that leave no room for one neuron."""
    problems = []
    for op in module.of_type(s2.NeuronOp):
        kinds, ticks = recording(module, op)
        if not kinds:
            continue
        box = tuple(Span(extent // 2, extent // 2 + 1) for extent in op.shape)
        words = sizes(program(module, op, box, {}))
        size = 4 * sum(words[f"rec_{kind}"] for kind in kinds)
        rest = used_bytes(program(module, op, box, {})) - size
        room = target.limits["sram_bytes"] - rest
        if size > room:
            text = f"recording {kinds[0]} of one neuron of %{op.out} over {ticks:,} ticks takes {size:,} bytes; " \
                f"{max(room, 0):,} of {layout.SRAM_BYTES:,} are left"  # fmt: skip
            hint = f"{max(room, 0) // 4:,} steps fit: run fewer, or leave the population out of `record`"
            problems.append(Diagnostic("E0903", text, where=str(op.loc or f"%{op.out}"), hint=hint))
    if problems:
        raise DoesNotFit(problems)
