"""Sparse projections between the same populations that differ only in delay, as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, StatefulOp
from nmc.ir.ops.neurons import Sparse
from nmc.passes.base import Pass

Array = NDArray[Any]


@dataclass(frozen=True)
class JoinDelays(Pass, name="join-delays", takes="snn"):
    """Join the sparse projections from one population onto another into one with a delay a synapse.

    On chips whose synapses hold their own delay, all synapses of a neuron then share an axon. Joined are those of one
    statement of a program, and others where one scale suits both: weights of the same signs whose largest are within a
    factor of two.

        before: %e.d1 = snn.sparse(%e, @a.w, @a.source, @a.target) {shape=[80], delay=1} : current<80>
                %e.d3 = snn.sparse(%e, @b.w, @b.source, @b.target) {shape=[80], delay=3} : current<80>
                %e = snn.neuron(%e.d1, %e.d3, ...) : spikes<80>
        after:  %e.d1 = snn.sparse(%e, @e.d1.w, @e.d1.source, @e.d1.target, @e.d1.late) {shape=[80], delay=1} : ...
                %e = snn.neuron(%e.d1, ...) : spikes<80>
    """

    tolerance = 1e-6  # sums are taken in another order

    def run(self, module: Module) -> Module:
        """Join what can be joined."""
        joined: dict[str, Op] = {}
        gone: set[str] = set()
        for group in _groups(module):
            if len(group) > 1:
                joined[group[0].out] = _join(self.name, group)
                gone |= {op.out for op in group[1:]}
        ops = []
        for op in module.ops:
            if op.out in gone:
                continue
            if op.out in joined:
                ops.append(joined[op.out])
            elif isinstance(op, StatefulOp) and gone & {value.name for value in op.operands}:
                current = tuple(value for value in getattr(op, "current", ()) if value.name not in gone)
                ops.append(replace(op, current=current))  # type: ignore[call-arg]  # populations have currents
            else:
                ops.append(op)
        return module.with_ops(ops)


def _groups(module: Module) -> list[list[Sparse]]:
    """Projections to be joined, in program order."""
    found: dict[tuple[str, str], list[list[Sparse]]] = {}
    for op in module.of_type(Sparse):
        users = module.users.get(op.out, ())
        if len(users) != 1 or not op.source.shape[0]:
            continue
        groups = found.setdefault((op.spikes.name, users[0].out), [])
        mine = next((group for group in groups if _alike(group[0], op)), None)
        if mine is None:
            groups.append([op])
        else:
            mine.append(op)
    return [group for groups in found.values() for group in groups]


def _alike(a: Sparse, b: Sparse) -> bool:
    """Whether one scale suits the weights of both."""
    if a.loc is not None and a.loc == b.loc:
        return True
    sizes = [float(np.abs(op.weight.array()).max(initial=0.0)) for op in (a, b)]
    return _signs(a) == _signs(b) and max(sizes) <= 2 * min(sizes)


def _signs(op: Sparse) -> tuple[bool, bool]:
    weight = op.weight.array()
    return bool((weight > 0).any()), bool((weight < 0).any())


def _join(pass_name: str, group: list[Sparse]) -> Sparse:
    """One projection with all synapses of a group; the shortest delay is its own."""
    first, least = group[0], min(op.delay for op in group)
    weights = [op.weight.array() for op in group]
    same = all(weight.size == 1 and (weight == weights[0]).all() for weight in weights)
    every = [np.broadcast_to(weight, op.source.shape) for weight, op in zip(weights, group, strict=True)]
    late = [_late(op) + (op.delay - least) for op in group]
    width = np.uint8 if max(int(item.max(initial=0)) for item in late) < 256 else np.int32
    lists: dict[str, Array] = {
        "w": weights[0] if same else np.concatenate(every),
        "source": np.concatenate([op.source.array() for op in group]),
        "target": np.concatenate([op.target.array() for op in group]),
        "late": np.concatenate(late).astype(width),
    }
    weight, source, target, delays = (Const(f"{first.out}.{name}", data) for name, data in lists.items())
    return replace(
        first, delay=least, weight=weight, source=source, target=target,
        late=delays if lists["late"].any() else None, loc=fuse(pass_name, [op.loc for op in group]),
    )  # fmt: skip


def _late(op: Sparse) -> Array:
    """Extra delay of each synapse."""
    return np.zeros(op.source.shape, np.int64) if op.late is None else op.late.array().astype(np.int64)
