"""Proofs that no membrane leaves its bits: sums modulo 2**vb are then the sums themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.op import Op
from nmc.ir.ops import snn, sources
from nmc.ir.ops.neurons import Sparse
from nmc.targets.fpga.ops import ALL

Array = NDArray[Any]
#: Bits of the widest membrane.
MAX_VB = 32


def row_sums(via: Op, weight: Array) -> Array:
    """Sums of absolute weights onto each neuron, in the shape of the target (kernels: as if there was no border)."""
    assert isinstance(via, snn.ProjectionOp)
    shape, sizes = via.result.shape, np.abs(weight.astype(np.float64))
    if isinstance(via, Sparse):
        target = via.target.array()
        full = np.broadcast_to(sizes, target.shape)
        return np.bincount(target, full, int(np.prod(shape))).reshape(shape)
    if isinstance(via, snn.Conv):
        rows = sizes.reshape(len(sizes), -1).sum(axis=1)
        return np.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 1)), shape)
    if isinstance(via, snn.Dense):
        return np.asarray(sizes.sum(axis=1).reshape(shape))
    return np.broadcast_to(sizes, shape)


def events(op: Op, steps: int) -> tuple[int, int]:
    """Of an input: the largest sum of payloads of one element in one step, and in a run."""
    if isinstance(op, sources.Poisson):
        return op.most, op.most * steps
    assert isinstance(op, snn.Input)
    largest = max(abs(op.low), abs(op.high))
    if op.encoder in ("rate", "raster"):
        return 1, steps
    if op.encoder in ("count", "bits"):
        return 1, min(largest, steps)
    return largest, largest * (min(op.over, steps) if op.encoder == "const" else 1)


def lasting(keep: int, steps: int) -> int:
    """Steps whose inputs can add up in a state that keeps `keep` / 4096 a step: a bound of the geometric sum."""
    return steps if keep >= ALL else min(steps, -(-ALL // (ALL - keep)))


def bits(reach: float) -> int:
    """Bits that hold -reach..reach, at least 8."""
    return max(8, int(np.ceil(reach)).bit_length() + 1)
