"""Inputs below zero for codes whose events have no sign: one input for each sign."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.ir.const import Const
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn
from nmc.passes.graph import fresh_name


def split_inputs(module: Module, pass_name: str) -> Module:
    """Give each input that goes below zero a second one for its negative part, with projections of opposite weights.

    Raises
    ------
    NmcError
        E0652 where the maximum of such an input is taken.
    """
    signed = {op.out for op in module.of_type(snn.Input) if op.low < 0}
    if not signed:
        return module
    _refuse_pooled(module, signed)
    taken = set(module.producers)
    negative: dict[str, Value] = {}
    ops: list[Op] = []
    for op in module.ops:
        if isinstance(op, snn.Input) and op.out in signed:
            made: list[Op] = _both(op, fresh_name(f"{op.out}.neg", taken), pass_name)
        elif isinstance(op, snn.ProjectionOp) and op.spikes.name in negative:
            mirrored = _mirrored(op, negative[op.spikes.name], fresh_name(f"{op.out}.neg", taken), pass_name)
            made = [op, mirrored]
        elif isinstance(op, exact.ExactOp):
            made = [
                replace(op, current=tuple(part for value in op.current for part in _pair(value, negative)))
            ]
        else:
            made = [op]
        if len(made) == 2:
            taken.add(made[1].out)
            negative[op.out] = made[1].result
        ops += made
    return module.with_ops(ops)


def _pair(value: Value, negative: dict[str, Value]) -> tuple[Value, ...]:
    return (value, negative[value.name]) if value.name in negative else (value,)


def _refuse_pooled(module: Module, signed: set[str]) -> None:
    problems = [
        Diagnostic(
            "E0652",
            "events without a sign cannot carry the maximum of an input that goes below zero",
            where=str(op.loc or f"%{op.out}"),
            hint="use another schedule, or shift the data so that they are not negative",
        )
        for op in module.of_type(exact.MaxPool)
        if op.events.name in signed
    ]
    if problems:
        raise NmcError(problems)


def _both(op: snn.Input, name: str, pass_name: str) -> list[Op]:
    loc = fuse(pass_name, [op.loc])
    above = replace(op, low=0, high=max(op.high, 0), loc=loc)
    return [above, replace(op, out=name, gain=-op.gain, low=0, high=-op.low, loc=loc)]


def _mirrored(op: snn.ProjectionOp, source: Value, name: str, pass_name: str) -> Op:
    weight = op.weight.array()
    wide = (
        np.int64 if weight.dtype.kind == "u" or weight.min(initial=0) == np.iinfo(weight.dtype).min else None
    )
    opposite = Const(f"{op.weight.name}.neg", -(weight.astype(wide) if wide else weight))
    return replace(op, out=name, spikes=source, weight=opposite, loc=fuse(pass_name, [op.loc]))
