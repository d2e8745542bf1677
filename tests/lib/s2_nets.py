"""Random spiking networks in the forms that SpiNNaker2's firmware has, and data for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neuron_nets import random_neurons
from nmc.ir.const import Const
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse

Array = np.ndarray[Any, Any]


def lawful_neurons(seed: int, arithmetic: str = "f32") -> Module:
    """A random network of neurons without what the firmware lacks; delays of 1 to 8, and longer ones."""
    rng = np.random.default_rng(seed + 1)
    return random_neurons(seed).map_ops(lambda op: _late(_tame(op, arithmetic), rng))


def _late(op: Op, rng: np.random.Generator) -> Op:
    """A projection with a delay by lot: one in four is longer than rows can say."""
    if not isinstance(op, snn.Dense | snn.OneToOne | Sparse):
        return op
    return replace(op, delay=int(rng.integers(9, 13) if rng.random() < 0.25 else rng.integers(1, 9)))


def _tame(op: Op, arithmetic: str) -> Op:
    if not isinstance(op, Neuron):
        return op
    changes: dict[str, Any] = {"late_bias": None, "decay_last": False, "v_init": None}
    changes["reset"] = "subtract" if op.reset == "subtract-late" else op.reset
    if arithmetic == "s1615":
        beta = op.beta or Const(f"{op.out}.beta", np.array([0.9]))
        changes |= {"order": "synapse-first", "bias": None, "leak": None, "w_in": None, "beta": beta}
        if op.reset != "none":
            changes["reset"] = "zero" if op.v_reset is None else "to-value"
    return replace(op, **changes)


def random_spikes(module: Module, seed: int, steps: int = 20) -> dict[str, Array]:
    """Spike trains of two samples for all inputs."""
    rng = np.random.default_rng(seed)
    shapes = {op.source: op.shape for op in module.of_type(snn.Input)}
    return {name: (rng.random((2, steps, *shape)) < 0.4).astype(np.uint8) for name, shape in shapes.items()}
