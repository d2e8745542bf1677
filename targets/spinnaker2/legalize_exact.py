"""Populations of exact integer networks on SpiNNaker2: the same integers, proved to stay inside 32 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.layout import MAX_WEIGHT, Format
from nmc.targets.spinnaker2.scaling import SUM_LIMIT, Stored, list_format, matrix_format

if TYPE_CHECKING:
    from nmc.targets.spinnaker2.legalize import Legalization

Array = NDArray[Any]


def population(work: Legalization, op: exact.ExactOp) -> None:
    """Legalise a population with all its projections, or say what of it SpiNNaker2 cannot do."""
    vias = work.projections(op, op.current)
    if vias is None or [via for via in vias if not _integers(work, via)] or not _bounded(work, op, vias):
        return
    current = tuple(_projection(work, via) for via in vias)
    common: dict[str, Any] = {"out": op.out, "loc": op.loc, "current": current}
    made = _made(work, op, common)
    if made is None:
        work.refuse("E0921", f"{op.name} has no counterpart on SpiNNaker2", op)
    else:
        work.emit(made)


def pool(work: Legalization, op: s2.MaxPool) -> None:
    """Legalise a maximum of counts: its projections carry them as they are."""
    vias = work.projections(op, op.current)
    if vias is not None and not [via for via in vias if not _integers(work, via)]:
        work.emit(replace(op, current=tuple(_projection(work, via) for via in vias)))


def _made(work: Legalization, op: exact.ExactOp, common: dict[str, Any]) -> Op | None:
    """The same population of this target's dialect."""
    if isinstance(op, exact.Readout):
        offset = _int32(work, op, "offset")
        return s2.Readout(**common, offset=offset, doubling_until=op.doubling_until, start=op.start)
    if isinstance(op, exact.AnyOf):  # what arrives is never negative, and nothing is kept
        one = work.const(f"{op.out}.one", np.ones(1, np.int32))
        return s2.If(**common, threshold=one, reset="to-value")
    if not isinstance(op, exact.ExactNeuron):
        return None
    common |= {"theta": _int32(work, op, "theta"), "offset": _int32(work, op, "offset"), "start": op.start}
    if isinstance(op, exact.Graded):
        return s2.Graded(**common, levels=op.levels)
    if isinstance(op, exact.StBif):
        return s2.StBif(**common, levels=op.levels, spread=op.spread)
    if isinstance(op, exact.Phased):
        return s2.Phased(**common, levels=op.levels, open=op.open)
    if isinstance(op, exact.BitSerial):
        return s2.BitSerial(**common, levels=op.levels, open=op.open, bits=op.bits)
    return None


def _int32(work: Legalization, op: exact.ExactOp, name: str) -> Any:
    const = getattr(op, name)
    return work.const(const.name, const.array().astype(np.int32))


def _integers(work: Legalization, via: snn.ProjectionOp) -> bool:
    """Whether a row format holds the weights."""
    kind = via.weight.type.kind
    limit = MAX_WEIGHT["conv" if isinstance(via, snn.Conv) else "sparse32"]
    if kind[0] not in "iu":
        work.refuse(
            "E0921", f"%{via.out} has weights of type {kind}, not integers", via, "quantize makes them whole"
        )
        return False
    largest = int(np.abs(via.weight.array().astype(np.int64)).max(initial=0))
    if largest > limit:
        text = f"%{via.out} has weights up to {largest:,}; its rows hold {limit:,}"
        work.refuse("E0921", text, via, "quantise with fewer bits: quantize{bits=8}")
    return largest <= limit


def row_sums(via: snn.ProjectionOp) -> int:
    """Largest sum of absolute weights onto a neuron."""
    sizes = np.abs(via.weight.array().astype(np.int64))
    if isinstance(via, snn.OneToOne):
        return int(sizes.max(initial=0))
    if isinstance(via, snn.Conv | snn.Dense):
        return int(sizes.reshape(len(sizes), -1).sum(axis=1).max(initial=0))
    target = via.target.array()  # type: ignore[attr-defined]  # the only other projection is a list of synapses
    full = np.broadcast_to(sizes, target.shape)
    return int(np.bincount(target, weights=full).max(initial=0)) if target.size else 0


def _bounded(work: Legalization, op: exact.ExactOp, vias: list[snn.ProjectionOp]) -> bool:
    """Prove that no membrane leaves 32 bits: |offset| + theta + the sum of all that can come."""
    consts = [const for name in ("theta", "offset") if (const := getattr(op, name, None)) is not None]
    parameters = sum(int(np.abs(const.array().astype(np.int64)).max(initial=0)) for const in consts)
    reach = parameters + sum(work.bound(via)[1] * row_sums(via) for via in vias)
    if reach >= SUM_LIMIT:
        text = f"%{op.out}: its membrane may reach {reach:,}; the firmware has 32 bits"
        work.refuse("E0924", text, op, "quantise with fewer bits or levels, or quantize{accumulator=31}")
    return reach < SUM_LIMIT


def _projection(work: Legalization, via: snn.ProjectionOp) -> Value:
    """The same integers in the row format that takes the fewest bytes."""
    weight = via.weight.array().astype(np.int32)
    format: Format
    if isinstance(via, snn.Conv):
        format = "conv"
    elif isinstance(via, snn.Dense):
        format = matrix_format(weight)
    else:
        format = list_format(weight)
    return work.projection(via, Stored(weight, 1, 0.0, 0), format)
