"""Accuracy of the stages of a compilation, by the reference interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.interp import Progress, run_ann, run_snn
from nmc.ir.module import Module
from nmc.ir.ops import ann, snn
from nmc.passes.data import fit_shape

Array = NDArray[Any]
_BATCH = 256


def float_logits(module: Module, x: Array) -> Array:
    """Outputs of an ``ann`` module with one input and one output, (N, classes) float32."""
    (entry,) = module.of_type(ann.Input)
    data = fit_shape(x, entry.shape)
    parts = [
        next(iter(run_ann(module, {entry.out: data[start : start + _BATCH]}).values()))
        for start in range(0, len(data), _BATCH)
    ]
    return np.concatenate(parts).reshape(len(x), -1)


def spiking_logits(module: Module, x: Array, steps: int, progress: Progress | None = None) -> Array:
    """Outputs of an ``snn`` module, or of the network in a ``mapped`` one, (N, classes) float64."""
    network = module.with_ops([op for op in module.ops if "snn" in op.belongs], level="snn")
    inputs = {
        op.source: fit_shape(x, op.shape) for op in network.ops if isinstance(op, snn.InputOp) and op.source
    }
    result = run_snn(network, inputs, steps, progress=progress)
    return next(iter(result.outputs.values())).reshape(len(x), -1)


def accuracy(logits: Array, labels: Array) -> float:
    """Share of samples whose largest output is that of the label."""
    return float((logits.argmax(axis=1) == labels).mean())
