"""Delays beyond what a chip's synapses can hold, through populations that only pass spikes on."""

from __future__ import annotations

from dataclasses import field, replace

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import Loc, fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.passes.base import Pass

#: Weight of a relay's synapses: over its threshold of one, far from any rounding.
_SURE = 1.5


@dataclass(frozen=True)
class RelayDelays(Pass, name="relay-delays", takes="snn"):
    """Split delays of more than `max_delay` steps: the spikes wait in relays, `max_delay` steps in each.

    A relay is a copy of the source population that fires in the step in which a spike of its neuron arrives. All
    projections of a population share its relays.

        before: %b.x = snn.dense(%a, @w) {delay=100} : current<5>
        after:  %a.late1.x = snn.one_to_one(%a, @a.late1.w) {delay=62} : current<8>
                %a.late1 = snn.if(%a.late1.x) {reset=zero} : spikes<8>
                %b.x = snn.dense(%a.late1, @w) {delay=38} : current<5>
    """

    max_delay: int = 62

    def run(self, module: Module) -> Module:
        """Add the relays, or tell which delays no relay can hold."""
        work = _Relays(module, max(1, self.max_delay), self.name)
        ops: list[Op] = []
        for op in module.ops:
            made, op = work.shortened(op)
            ops += [*made, op]
        if work.problems:
            raise NmcError(work.problems)
        return module.with_ops(ops)


@dataclass
class _Relays:
    """The relays made so far, by source population."""

    module: Module
    most: int
    name: str
    known: dict[str, list[Value]] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    def shortened(self, op: Op) -> tuple[list[Op], Op]:
        """Give the relays that a projection needs and are not there yet, and the projection from the last of them."""
        if not isinstance(op, snn.ProjectionOp) or op.delay <= self.most:
            return [], op
        if op.spikes.type.kind != "spikes":
            message = f"%{op.out} has a delay of {op.delay} steps, the target {self.most}"
            hint = "a relay passes one spike a step, this source sends counts: use a shorter delay"
            self.problems.append(Diagnostic("E0211", message, where=str(op.loc or f"%{op.out}"), hint=hint))
            return [], op
        count = -(-op.delay // self.most) - 1
        made = self._relays(op.spikes, count, op.loc)
        return made, replace(
            op, spikes=self.known[op.spikes.name][count - 1], delay=op.delay - count * self.most
        )

    def _relays(self, source: Value, count: int, loc: Loc | None) -> list[Op]:
        chain = self.known.setdefault(source.name, [])
        made: list[Op] = []
        while len(chain) < count:
            name = f"{source.name}.late{len(chain) + 1}"
            while name in self.module.producers or f"{name}.x" in self.module.producers:
                name += "_"
            here = fuse(self.name, [loc])
            copy = snn.OneToOne(
                out=f"{name}.x", loc=here, spikes=chain[-1] if chain else source, delay=self.most,
                weight=Const(f"{name}.w", np.full((1,) * len(source.shape), _SURE)),
            )  # fmt: skip
            relay = snn.If(out=name, loc=here, current=(copy.result,), reset="zero")
            chain.append(relay.result)
            made += [copy, relay]
        return made
