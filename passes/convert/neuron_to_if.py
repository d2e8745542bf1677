"""Write integrate-and-fire populations, however they were parametrised, as the plain ones that targets know."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.passes.base import Pass

Array = NDArray[Any]


@dataclass(frozen=True)
class NeuronToIf(Pass, name="neuron-to-if", takes="snn"):
    """Turn each ``snn.neuron`` without leak and synaptic state into an ``snn.if`` with a threshold of one.

    Gains and thresholds, per neuron where they are so, go into the weights of the projections onto it and into its
    bias. Populations that do more than integrate and fire stay as they are; a target says then what it cannot do.

        before: %h = snn.neuron(%h.i, _, _, @gain, _, @theta) {reset=subtract} : spikes<16x17x17>
        after:  %h = snn.if(%h.i) : spikes<16x17x17>
    """

    tolerance = 1e-6

    def run(self, module: Module) -> Module:
        """Rewrite the populations that allow it."""
        changed: dict[str, Op] = {}
        for op in module.of_type(Neuron):
            changed |= _plain(self.name, module, op)
        return module.map_ops(lambda op: changed.get(op.out, op) if op.out else op)


def _plain(pass_name: str, module: Module, op: Neuron) -> dict[str, Op]:
    """The population and its projections, rewritten; nothing where it does more than integrate and fire."""
    absent = (op.alpha, op.beta, op.leak, op.feed, op.late_bias, op.v_init, op.refractory)
    simple = op.compare == "gt" and op.max_spikes == 1 and not op.decay_last
    if any(const is not None for const in absent) or not simple or op.threshold is None:
        return {}
    to_zero = op.reset == "to-value" and (op.v_reset is None or not op.v_reset.array().any())
    if op.reset not in ("zero", "subtract") and not to_zero:
        return {}
    sources = [module.producers[value.name] for value in op.current]
    threshold = op.threshold.array().astype(np.float64)
    scale = _or_one(op.gain) * _or_one(op.w_in) / threshold
    moved: dict[str, Op] = {}
    for source in sources:
        scaled = _scaled(source, scale) if len(module.users[source.out]) == 1 else None
        if scaled is None:
            return {}
        moved[source.out] = replace(scaled, loc=fuse(pass_name, [source.loc]))
    bias = None
    if op.bias is not None:
        per_unit = scale if op.bias_site == "current" else 1 / threshold
        bias = Const(f"{op.out}.bias", op.bias.array().astype(np.float64) * per_unit)
    reset: Any = "subtract" if op.reset == "subtract" else "zero"
    loc = fuse(pass_name, [op.loc])
    plain = snn.If(out=op.out, current=op.current, bias=bias, reset=reset, start=op.start, loc=loc)
    return {**moved, op.out: plain}


def _or_one(const: Const | None) -> Array:
    return np.asarray(1.0) if const is None else const.array().astype(np.float64)


def _scaled(op: Op, scale: Array) -> Op | None:
    """A projection with the weights onto each target neuron multiplied; None where its structure forbids that."""
    if not isinstance(op, snn.Conv | snn.Dense | snn.OneToOne | Sparse):
        return None
    shape = op.result.shape
    weight = op.weight.array().astype(np.float64)
    if isinstance(op, snn.Conv):
        rows = np.broadcast_to(scale, shape).reshape(shape[0], -1)
        if not (rows == rows[:, :1]).all():
            return None
        weight = weight * rows[:, :1].reshape(-1, *[1] * (weight.ndim - 1))
    elif isinstance(op, Sparse):
        each = np.broadcast_to(scale, shape).reshape(-1)
        weight = weight * (each[:1] if (each == each[:1]).all() else each[op.target.array()])
    elif isinstance(op, snn.Dense):
        weight = weight * np.broadcast_to(scale, shape).reshape(prod(shape), 1)
    else:
        weight = weight * scale
    return replace(op, weight=Const(f"{op.out}.w.scaled", weight))
