"""Populations of exact integer networks on the FPGA core: the same integers, rounded nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.op import Value
from nmc.ir.ops import exact, snn
from nmc.targets.fpga import bounds, dialect, ops

if TYPE_CHECKING:
    from nmc.targets.fpga.legalize import Legalization

Array = NDArray[Any]


def population(work: Legalization, op: exact.ExactOp) -> None:
    """Legalise a population with all its projections, or say what of it the core cannot do."""
    attrs = _attrs(work, op)
    vias = work.projections(op, op.current)
    if vias is None or attrs is None or [via for via in vias if not _integers(work, via)]:
        return
    theta, offset = _parameters(op)
    if not work.holds(op, _reach(work, op, vias, attrs)):
        return
    current = tuple(_projection(work, via) for via in vias)
    work.emit(dialect.Neuron(
        out=op.out, loc=op.loc, current=current, theta=work.const(f"{op.out}.theta", theta),
        bias=work.const(f"{op.out}.offset", offset), **attrs,
    ))  # fmt: skip


def _reach(
    work: Legalization, op: exact.ExactOp, vias: list[snn.ProjectionOp], attrs: dict[str, Any]
) -> float:
    """How far the membrane may go from 0.

    No more than `limit` spikes are taken away, and no more than had come in before: a neuron fires at its threshold, so
    that what is left is as low as what comes in may fall afterwards.
    """
    theta, offset = _parameters(op)
    sums, falls = np.zeros(1), np.zeros(1)
    for via in vias:
        sides = bounds.row_sums(via, via.weight.array()) * work.bound(via)[1]
        source = work.module.producers[via.spikes.name]
        sums = sums + sides
        falls = falls + sides * (2 if isinstance(source, snn.Input) and source.low < 0 else 1)
    most = theta * max(1, attrs.get("limit", 0), getattr(op, "levels", 0))
    return float(np.max(np.abs(offset) + np.minimum(most + sums, theta + falls)))


def _parameters(op: exact.ExactOp) -> tuple[Array, Array]:
    """Threshold and offset."""
    theta, offset = (_parameter(op, name) for name in ("theta", "offset"))
    return np.ones(1, np.int64) if isinstance(op, exact.AnyOf) else theta, offset


def _attrs(work: Legalization, op: exact.ExactOp) -> dict[str, Any] | None:
    """The law's attributes for a population."""
    if isinstance(op, exact.AnyOf):  # what arrives is never negative, and nothing is kept
        return {"reset": "to-value", "keep": 0}
    if isinstance(op, exact.Readout) and not op.doubling_until:
        return {"close": 0, "once": True, "reset": "none"}
    if isinstance(op, exact.StBif) and not op.spread:
        return _windowed(work, op, op.start, ops.FOREVER, {"signed": True, "limit": op.levels})
    if isinstance(op, exact.Phased):
        opens = op.start + op.open
        return _windowed(work, op, opens, opens + op.levels, {})
    what = "biases that enter in parts" if isinstance(op, exact.StBif) else f"{op.name} (payloads or digits)"
    work.refuse("E0941", f"%{op.out} needs {what}; the FPGA core has none", op,
                "spike-code{code=stbif, schedule=burst} or {code=phased-if}")  # fmt: skip
    return None


def _windowed(
    work: Legalization, op: exact.ExactNeuron, start: int, stop: int, more: dict[str, Any]
) -> dict[str, Any] | None:
    """Attributes of a population that fires from `start` on."""
    if max(start, stop if stop != ops.FOREVER else 0) >= ops.FOREVER or op.levels > 0xFFFF:
        text = f"%{op.out} fires in steps {start:,}..{stop:,}, up to {op.levels:,} times; the core counts to 65,534"
        work.refuse("E0941", text, op)
        return None
    return {"open": start, "close": stop, "once": True, **more}


def _parameter(op: exact.ExactOp, name: str) -> Array:
    """A parameter as int64, 0 where the op has none."""
    const = getattr(op, name, None)
    return np.zeros(1, np.int64) if const is None else np.asarray(const.array().astype(np.int64))


def _integers(work: Legalization, via: snn.ProjectionOp) -> bool:
    """Whether a weight type of the core holds the weights."""
    kind, weight = via.weight.type.kind, via.weight.array()
    if kind[0] not in "iu":
        work.refuse(
            "E0942", f"%{via.out} has weights of type {kind}, not integers", via, "quantize makes them whole"
        )
        return False
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    if low < -128 or high > 127:
        text = f"%{via.out} has weights of {low:,}..{high:,}; the widest of the core are -128..127"
        work.refuse("E0942", text, via, "quantise with fewer bits: quantize{bits=8}")
        return False
    return True


def _projection(work: Legalization, via: snn.ProjectionOp) -> Value:
    return work.projection(via, via.weight.array().astype(np.int8))
