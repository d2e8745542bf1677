"""What the host sends in place of constant currents: events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.passes.base import Pass
from nmc.passes.graph import fresh_name

#: Parts of one unit of a constant current where nothing else reaches the population; units that are sent at most.
PARTS = 255.0
_LARGEST = 16.0


@dataclass(frozen=True)
class Drive(Pass, name="fpga-drive", takes="snn"):
    """Send constant currents as events: the payload is the current in parts, its synapse weighs as much as a part.

    A part is 1/255, or the widest other weight of the population over the largest whole weight of `bits` bits, so that
    currents are as fine as weights and none of them is lost.

        before: %x = snn.input() {source=x, shape=[5], encoder=constant} : current<5>
                %h = snn.if(%x) : spikes<5>
        after:  %x = snn.input() {source=x, shape=[5], encoder=const, gain=255.0, ...} : graded<5>
                %h.x = snn.one_to_one(%x, @h.x.part) : current<5>
                %h = snn.if(%h.x) : spikes<5>
    """

    exact = False  # currents are rounded to whole parts

    bits: int = 8

    def run(self, module: Module) -> Module:
        """Rewrite the inputs and who takes them."""
        given = {op.out: op for op in module.of_type(snn.Input) if op.encoder == "constant"}
        if not given:
            return module
        taken, sent, ops = set(module.producers), dict[tuple[str, float], snn.Input](), list[Op]()
        for op in module.ops:
            current = tuple(getattr(op, "current", ()))
            if any(value.name in given for value in current):
                parts = self._parts(module, current)
                for value in current:
                    key = (value.name, parts)
                    if value.name in given and key not in sent:
                        ops.append(
                            self._sent(given[value.name], parts, taken if _known(sent, value.name) else set())
                        )
                        sent[key] = ops[-1]  # type: ignore[assignment]  # the input just made
                made = [
                    self._projection(op, sent[v.name, parts], parts, taken)
                    for v in current
                    if v.name in given
                ]
                ops += made
                new = {via.spikes.name: via.result for via in made}
                by = {
                    name: new[entry.out]
                    for (name, each), entry in sent.items()
                    if each == parts and entry.out in new
                }
                op = replace(op, current=tuple(by.get(v.name, v) for v in current))  # type: ignore[call-arg]
            if op.out not in given:
                ops.append(op)
        return module.with_ops(ops)

    def _parts(self, module: Module, current: tuple[Value, ...]) -> float:
        """Parts of a unit for a population."""
        vias = (module.producers[value.name] for value in current)
        weights = [via.weight.array() for via in vias if isinstance(via, snn.ProjectionOp)]
        widest = max((float(np.abs(item).max(initial=0.0)) for item in weights), default=0.0)
        return ((1 << (self.bits - 1)) - 1) / widest if widest else PARTS

    def _projection(self, op: Op, source: snn.Input, parts: float, taken: set[str]) -> snn.OneToOne:
        name = fresh_name(f"{op.out}.{source.out}", taken)
        taken.add(name)
        weight = Const(f"{name}.part", np.array([1.0 / parts]).reshape((1,) * len(source.shape)))
        return snn.OneToOne(out=name, spikes=source.result, weight=weight, loc=op.loc)

    def _sent(self, op: snn.Input, parts: float, taken: set[str]) -> snn.Input:
        """The input in parts; a further one of the same data gets a name of its own."""
        name = fresh_name(op.out, taken)
        taken.add(name)
        return replace(
            op, out=name, encoder="const", gain=op.gain * parts, low=0, high=max(1, int(_LARGEST * parts)),
            over=snn.MAX_OVER, loc=fuse(self.name, [op.loc]),
        )  # fmt: skip


def _known(sent: dict[tuple[str, float], snn.Input], name: str) -> bool:
    """Whether an input has been sent already, in other parts."""
    return any(known == name for known, _ in sent)
