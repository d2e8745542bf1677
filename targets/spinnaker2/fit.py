"""Cut populations into boxes for PEs: the generic partition, until bytes counted with the final cut all fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmc.ir.diagnostics import Diagnostic, DoesNotFit
from nmc.ir.module import Module
from nmc.ir.op import Span
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import Target, resolve
from nmc.passes.base import Pass
from nmc.passes.map.partition import Partition
from nmc.targets.spinnaker2 import layout
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.build import sizes, used_bytes
from nmc.targets.spinnaker2.layout import Box
from nmc.targets.spinnaker2.programs import program, recording

#: Attempts; from the second on every population keeps what it lacked in the one before.
_ROUNDS = 12


@dataclass(frozen=True)
class Fit(Pass, name="spinnaker2-partition", takes="snn", gives="mapped"):
    """Cut populations into boxes, one a PE, under the 128 kB of SRAM and the other limits of a PE.

    The memory of a box depends on how its sources are cut (a table entry for each of their boxes), so the generic
    ``partition`` runs again until the bytes counted with the final boxes fit everywhere. A recording that leaves a
    single neuron no room is refused with its size. No box gets more than `neurons` neurons (0: as many as fit), which
    shortens ticks.

        before: %2 = spinnaker2.stbif(%2.x, ...) : graded<1000>
        after:  %2.p0 = map.neurons(%2) {box=[0:125], core=0, slots=0:125} : pop<125>
    """

    target: str = ""
    neurons: int = 0

    def run(self, module: Module) -> Module:
        """Partition, or refuse with every limit that is exceeded."""
        target = resolve(self.target or module.attr("target", "") or "spinnaker2")
        _check_recordings(module, target)
        boxes: dict[str, Any] | None = None
        slack: dict[str, int] = {}
        for _ in range(_ROUNDS):
            asked = module.with_attrs(
                source_boxes=boxes, slack=slack or None, most_neurons=self.neurons or None
            )
            mapped = Partition(target=self.target or target.name, merge=False).run(asked)
            cut = boxes_of(mapped)
            over = excess(mapped, cut, target.limits["sram_bytes"])
            if not over:
                return mapped.with_attrs(source_boxes=None, slack=None, most_neurons=None)
            boxes = {name: [[[s.start, s.stop] for s in box] for box in found] for name, found in cut.items()}
            slack = {name: slack.get(name, 0) + more for name, more in over.items()}
        name, more = max(over.items(), key=lambda item: item[1])
        text = f"%{name} takes {more:,} bytes of SRAM more than a PE has, however it and its sources are cut"
        raise DoesNotFit(Diagnostic("E0710", text, where=f"%{name}"))


def boxes_of(mapped: Module) -> dict[str, Sequence[Box]]:
    """How populations and inputs are cut, in the order of their parts."""
    found: dict[str, list[Box]] = {}
    for part in mapped.of_type(Neurons):
        found.setdefault(part.of.name, []).append(part.box)
    return dict(found)


def excess(mapped: Module, cut: Mapping[str, Sequence[Box]], limit: int) -> dict[str, int]:
    """Bytes by which the fullest PE of each population exceeds its SRAM; nothing where all fit."""
    found: dict[str, int] = {}
    for part in mapped.of_type(Neurons):
        op = mapped.producers[part.of.name]
        if part.core != HOST and isinstance(op, s2.NeuronOp):
            over = used_bytes(program(mapped, op, part.box, dict(cut))) - limit
            if over > 0:
                found[op.out] = max(found.get(op.out, 0), over)
    return found


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
            hint = f"record fewer ticks: at most {max(room, 0) // 4:,} fit"
            problems.append(Diagnostic("E0903", text, where=str(op.loc or f"%{op.out}"), hint=hint))
    if problems:
        raise DoesNotFit(problems)
