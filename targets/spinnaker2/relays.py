"""Delays of more than 8 steps, through populations that only pass on what comes."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn
from nmc.ir.ops.neurons import Sparse
from nmc.passes.base import Pass
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.host import events_bound
from nmc.targets.spinnaker2.layout import MAX_DELAY

#: Weight of a relay of spikes: over its threshold of one, far from any rounding.
_SURE = 1.5
_STEPS = 1 << 12


@dataclass(frozen=True)
class Relays(Pass, name="spinnaker2-relays", takes="snn"):
    """Split delays of more than `max_delay` steps: events wait in relays, `max_delay` steps in each.

    Spikes pass a population that fires in the step in which one arrives; counts (signed spikes, payloads) one that
    counts in steps of one, so that it sends what it gets. Either acts in the step itself: delays stay what they were.

        before: %b.x = snn.dense(%a, @w) {delay=13} : current<5>
        after:  %a.late1.x = snn.one_to_one(%a, @a.late1.w) {delay=8} : current<8>
                %a.late1 = snn.if(%a.late1.x) {reset=zero} : spikes<8>
                %b.x = snn.dense(%a.late1, @w) {delay=5} : current<5>
    """

    max_delay: int = MAX_DELAY

    def run(self, module: Module) -> Module:
        """Add the relays, or tell which delays no relay can hold."""
        module = _split_lists(module, max(1, self.max_delay))
        work = _Relays(module, max(1, self.max_delay), self.name)
        for op in module.ops:
            work.convert(op)
        if work.problems:
            raise NmcError(work.problems)
        return module.with_ops(work.ops)


def _longest(op: snn.ProjectionOp) -> int:
    late = int(op.late.array().max(initial=0)) if isinstance(op, Sparse) and op.late is not None else 0
    return op.delay + late


def _split_lists(module: Module, most: int) -> Module:
    """Make one projection a delay of lists in which synapses have delays of their own, some beyond `most`."""
    pieces: dict[str, list[Sparse]] = {}
    for via in module.of_type(Sparse):
        if via.late is not None and _longest(via) > most:
            pieces[via.out] = [_piece(via, tap) for tap in via.taps if isinstance(tap, Sparse)]
    if not pieces:
        return module
    ops: list[Op] = []
    for op in module.ops:
        current = getattr(op, "current", ())
        if op.out in pieces:
            ops += pieces[op.out]
        elif any(value.name in pieces for value in current):
            split = [[piece.result for piece in pieces.get(value.name, ())] or [value] for value in current]
            ops.append(replace(op, current=tuple(value for part in split for value in part)))  # type: ignore[call-arg]
        else:
            ops.append(op)
    return module.with_ops(ops)


def _piece(op: Sparse, tap: Sparse) -> Sparse:
    name = f"{op.out}.after{tap.delay}"
    lists: dict[str, Any] = {
        each: Const(f"{name}.{each}", getattr(tap, each).array()) for each in ("weight", "source", "target")
    }
    return replace(tap, out=name, **lists)


@dataclass
class _Relays:
    """The relays made so far, by source population."""

    module: Module
    most: int
    name: str
    ops: list[Op] = field(default_factory=list)
    known: dict[str, list[Value]] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    def convert(self, op: Op) -> None:
        """Add an op, after the relays that it needs."""
        if not isinstance(op, snn.ProjectionOp) or _longest(op) <= self.most:
            self.ops.append(op)
            return
        count = -(-op.delay // self.most) - 1
        if op.spikes.type.kind != "spikes" and self._levels(op.spikes) is None:
            text = f"%{op.out} has a delay of {op.delay} steps, the target {self.most}"
            self._refuse(
                text,
                "a relay passes spikes and counts, no signed or endless numbers: use a shorter delay",
                op,
            )
        else:
            self._chain(op.spikes, count, op)
            self.ops.append(
                replace(op, spikes=self.known[op.spikes.name][count - 1], delay=op.delay - count * self.most)
            )

    def _refuse(self, text: str, hint: str, op: Op) -> None:
        self.problems.append(Diagnostic("E0211", text, where=str(op.loc or f"%{op.out}"), hint=hint))

    def _levels(self, source: Value) -> int | None:
        """Largest count that events of a source add up to; None where they may go below 0."""
        op = self.module.producers[source.name]
        if isinstance(op, exact.ExactNeuron):
            return op.levels
        if isinstance(op, s2.MaxPool):
            places = (self.module.producers[value.name] for value in op.current)
            levels = [self._levels(place.spikes) for place in places if isinstance(place, snn.ProjectionOp)]
            return None if None in levels else max(level or 1 for level in levels)
        if isinstance(op, snn.Input) and (op.rests and op.low >= 0):
            return max(1, events_bound(op, int(self.module.attr("steps") or _STEPS))[1])
        return None

    def _chain(self, source: Value, count: int, via: Op) -> None:
        chain = self.known.setdefault(source.name, [])
        while len(chain) < count:
            name = f"{source.name}.late{len(chain) + 1}"
            while name in self.module.producers or f"{name}.x" in self.module.producers:
                name += "_"
            chain.append(self._relay(name, chain[-1] if chain else source, source, via))

    def _relay(self, name: str, before: Value, source: Value, via: Op) -> Value:
        here, ones = fuse(self.name, [via.loc]), (1,) * len(source.shape)
        graded = source.type.kind != "spikes"
        weight = Const(f"{name}.w", np.ones(ones, np.int8) if graded else np.full(ones, _SURE))
        copy = snn.OneToOne(out=f"{name}.x", loc=here, spikes=before, delay=self.most, weight=weight)
        relay: Op
        if graded:
            theta, offset = (
                Const(f"{name}.theta", np.ones(1, np.int32)),
                Const(f"{name}.offset", np.zeros(1, np.int32)),
            )
            relay = exact.Graded(
                out=name,
                loc=here,
                current=(copy.result,),
                theta=theta,
                offset=offset,
                levels=self._levels(source) or 1,
            )
        else:
            relay = snn.If(out=name, loc=here, current=(copy.result,), reset="zero")
        self.ops += [copy, relay]
        return relay.result
