"""Packets in place of constant currents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.ir.ops.plastic import Plastic
from nmc.passes.base import Pass

#: Parts that one unit of a constant current is sent in, and the largest payload: 255 units.
PARTS = 1 << 16
_LARGEST = 255 * PARTS


@dataclass(frozen=True)
class Drive(Pass, name="spinnaker2-drive", takes="snn"):
    """Send constant currents as packets: the payload is the current in parts of 1/65,536, its synapse weighs as much.

    What no PE can run (learning) is refused here, before anything moves in time.

    before: %x = snn.input() {source=x, shape=[5], encoder=constant} : current<5>
            %h = snn.if(%x) : spikes<5>
    after:  %x = snn.input() {source=x, shape=[5], encoder=const, gain=65536.0, ...} : graded<5>
            %h.x = snn.one_to_one(%x, @h.x.part) : current<5>
            %h = snn.if(%h.x) : spikes<5>
    """

    exact = False  # currents are rounded to 1/65,536

    def run(self, module: Module) -> Module:
        """Rewrite the inputs and who takes them."""
        _check(module)
        inputs = {op.out: op for op in module.of_type(snn.Input) if op.encoder == "constant"}
        if not inputs:
            return module
        sent = {name: self._sent(op) for name, op in inputs.items()}
        taken, ops = set(module.producers), list[Op]()
        for op in module.ops:
            if op.out in sent:
                ops.append(sent[op.out])
                continue
            current = getattr(op, "current", ())
            if not any(value.name in sent for value in current):
                ops.append(op)
                continue
            made: list[Value] = []
            for value in current:
                if value.name in sent:
                    name = _free(f"{op.out}.{value.name}", taken)
                    weight = Const(f"{name}.part", np.array([1.0 / PARTS]).reshape((1,) * len(value.shape)))
                    ops.append(
                        snn.OneToOne(out=name, spikes=sent[value.name].result, weight=weight, loc=op.loc)
                    )
                    value = ops[-1].result
                made.append(value)
            ops.append(replace(op, current=tuple(made)))  # type: ignore[call-arg]  # populations have currents
        return module.with_ops(ops)

    def _sent(self, op: snn.Input) -> snn.Input:
        return replace(
            op, encoder="const", gain=op.gain * PARTS, low=0, high=_LARGEST, over=snn.MAX_OVER,
            loc=fuse(self.name, [op.loc]),
        )  # fmt: skip


def _check(module: Module) -> None:
    """Refuse what has no counterpart, all of it at once."""
    problems = [
        Diagnostic("E0921", f"%{op.out} = {op.name} has no counterpart on SpiNNaker2",
                   where=str(op.loc or f"%{op.out}"), hint=op.advice)
        for op in module.ops if isinstance(op, Plastic)
    ]  # fmt: skip
    if problems:
        raise NmcError(problems)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
