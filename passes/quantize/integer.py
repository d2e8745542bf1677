"""Run an exact integer network as a whole: one wave, no time steps.

Gives what `nmc.ir.interp.run_snn` gives for ``snn.graded`` networks in one step, but computes each layer once and in
float32 where the static bound proves that every partial sum is exact (absolute values below 2**24), else in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import exact, kernels, snn

Array = NDArray[Any]
_BATCH = 256
#: Integers of a smaller absolute value, and their sums in any order, are exact in float32 (24 bits of significand).
_FLOAT32 = 1 << 24
Population = exact.Graded | exact.Readout


def run_integer(
    module: Module, inputs: Mapping[str, Array], *, keep: Iterable[str] = (), batch: int = _BATCH
) -> dict[str, Array]:
    """Compute the final counts and readouts of a network of ``snn.graded`` populations.

    Parameters
    ----------
    module : Module
        Level ``snn``, as ``quantize`` leaves it.
    inputs : mapping of str to (B, *shape) array
        Data by the `source` of each input.
    keep : iterable of str
        Names of populations whose counts to give too.
    batch : int
        Samples computed at once.

    Returns
    -------
    dict of str to (B, *shape) int64 array
        Readouts by the name of the value that each output decodes (integers, not scaled), and the counts of `keep`.
    """
    wanted = {op.data.name for op in module.of_type(snn.Output)} | set(keep)
    total = min(len(data) for data in inputs.values())
    parts = [
        _run_batch(module, {name: data[first : first + batch] for name, data in inputs.items()}, wanted)
        for first in range(0, total, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run_batch(module: Module, inputs: Mapping[str, Array], wanted: set[str]) -> dict[str, Array]:
    env: dict[str, Array] = {}
    found: dict[str, Array] = {}
    types = current_types(module)
    last = {value.name: index for index, op in enumerate(module.ops) for value in op.operands}
    for index, op in enumerate(module.ops):
        if op.out:
            env[op.out] = evaluate(op, env, inputs, types.get(op.out, np.float64))
            if op.out in wanted:
                found[op.out] = np.rint(env[op.out]).astype(np.int64)
        for name in {value.name for value in op.operands} | {op.out}:
            if last.get(name, index) == index:
                env.pop(name, None)
    return found


def current_types(module: Module) -> dict[str, Any]:
    """The floating type in which each current is exact: by the proved bound of the population that it drives."""
    return {
        value.name: current_type(op.bound)
        for op in module.ops
        if isinstance(op, exact.Graded | exact.Readout)
        for value in op.current
    }


def current_type(bound: int) -> Any:
    """The floating type in which sums of an absolute value up to `bound` are exact; 0 is an unknown bound."""
    return np.float32 if 0 < bound < _FLOAT32 else np.float64


def evaluate(op: Op, env: Mapping[str, Array], inputs: Mapping[str, Array], kind: Any) -> Array:
    """What an op gives once all has arrived: whole numbers in a floating type.

    Parameters
    ----------
    op : Op
        An input, projection, ``snn.graded``, ``snn.max_pool`` or ``snn.readout``.
    env : mapping of str to (B, ...) array
        Values of its operands.
    inputs : mapping of str to (B, ...) array
        The data.
    kind : numpy dtype
        Floating type of a current.
    """
    if isinstance(op, snn.Input):
        return op.integers(inputs[op.source]).astype(np.float32)
    args = [env[value.name] for value in op.operands]
    if isinstance(op, snn.ProjectionOp):
        return project(op, args[0].astype(kind, copy=False))
    if isinstance(op, exact.Graded):
        return counts(op, total(args))
    if isinstance(op, exact.MaxPool):
        return op.maxima(args[0])
    if isinstance(op, exact.Readout):
        return np.asarray(total(args) + op.offset.array())
    raise TypeError(f"{op.name} is no op of an exact network of graded populations")


def project(op: snn.ProjectionOp, data: Array) -> Array:
    """A projection in the floating type of `data`."""
    weight = op.weight.array()
    if isinstance(op, snn.Conv):
        return kernels.conv(data, weight, op.stride, op.pad, op.dilation, op.groups)
    if isinstance(op, snn.Dense):
        product = kernels.dense(data, weight)
        return product.reshape(-1, *op.shape) if op.shape else product
    if isinstance(op, snn.OneToOne):
        return np.asarray(data * weight.astype(data.dtype))
    return op.run(data)


def total(currents: list[Array]) -> Array:
    """The sum of all currents of a population."""
    found = currents[0]
    for term in currents[1:]:
        found = found + term
    return found


def counts(op: exact.Graded, sums: Array) -> Array:
    """The law of ``snn.graded`` in floating point, exact for whole numbers: clip(floor((offset + S) / theta)).

    The quotient of two whole numbers below 2**24 (2**53) that is not whole differs from every whole number by more
    than the rounding error of float32 (float64), so that its floor is right.
    """
    theta, offset = (const.array().astype(sums.dtype) for const in (op.theta, op.offset))
    found = sums + offset
    found /= theta
    np.floor(found, out=found)
    return np.asarray(np.clip(found, 0, op.levels, out=found).astype(np.float32, copy=False))
