"""Leaky neurons in sPyNNaker's s16.15 arithmetic: excitation and inhibition apart, sums of 16 bits.

With v' = beta v + gain I' + leak the firmware's w - e (w - v), w = u r + v_rest, has e = beta, r = gain / (1 - beta)
and v_rest = leak / (1 - beta). Positive and negative weights become synapse types of their own, because the ring of a
type saturates between 0 and 65,535 (facts/spinnaker2.md 1.3); their scale is a power of two that no sum can leave.
"""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.op import Value
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Sparse
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.layout import MAX_WEIGHT
from nmc.targets.spinnaker2.scaling import Stored

if TYPE_CHECKING:
    from nmc.targets.spinnaker2.legalize import Legalization
    from nmc.targets.spinnaker2.legalize_lif import Form, Population

Array = NDArray[Any]
ONE = 1 << 15
_LARGEST = 65535
_LIMIT = (1 << 31) - 1


def population(work: Legalization, op: Population, form: Form, vias: list[snn.ProjectionOp]) -> None:
    """Legalise a population, or say why this arithmetic cannot hold it."""
    wrong = _problems(form, vias)
    for what in wrong:
        hint = "spinnaker2-legalize{arithmetic=f32} can"
        work.refuse("E0921", f"%{op.out}: arithmetic s1615 has no {what}", op, hint)
    values = None if wrong else _values(form)
    if values is None:
        return
    large = [name for name, value in values.items() if name not in _RAW and np.abs(value).max() > _LIMIT]
    if large:
        text = f"%{op.out}: {', '.join(large)} leaves the range of s16.15 (-65,536..65,536)"
        work.refuse("E0921", text, op, "scale the network's potentials")
        return
    shift, sides = _stored(work, form, vias)
    values |= {"shift": np.array([shift]), "shift2": np.array([shift])}
    consts = {name: _const(work, op.out, name, value) for name, value in values.items()}
    exc, inh = (tuple(work.projection(*item) for item in side) for side in sides)
    if not exc:
        exc = (_silent(work, op, vias[0]),)
    work.emit(s2.LifFixed(out=op.out, loc=op.loc, current=exc, second=inh, start=form.start, **consts))  # type: ignore[arg-type]


#: Parameters that are no s16.15 numbers.
_RAW = ("decay", "decay2", "refractory", "shift", "shift2")


def _problems(form: Form, vias: list[snn.ProjectionOp]) -> list[str]:
    consts = form.consts
    beta = consts.get("beta", np.ones(1))
    moving = any(np.asarray(consts.get(name, 0)).any() for name in ("bias", "leak"))
    checks = {
        "reset by subtraction": form.reset == "subtract",
        "synapses behind the membrane (membrane-first)": form.order == "membrane-first",
        "neurons without leak": bool((np.asarray(beta) >= 1).any()),
        "bias before a synaptic filter": "alpha" in consts and bool(np.asarray(consts.get("bias", 0)).any()),
        "bias or leak that waits for its input": form.start > 0 and moving,
        "shared kernels": any(isinstance(via, snn.Conv) for via in vias),
        "input gain that differs between neurons": np.unique(consts.get("w_in", np.ones(1))).size > 1,
    }
    return [what for what, wrong in checks.items() if wrong]


def _fixed(value: Array) -> Array:
    return np.rint(np.asarray(value, np.float64) * ONE).astype(np.int64)


def _values(form: Form) -> dict[str, Array]:
    """Parameters in registers (int64 arrays)."""
    c = {name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in form.consts.items()}
    beta, alpha = c.get("beta", np.ones(1)), c.get("alpha", np.zeros(1))
    decay = np.minimum(np.rint(alpha * 2.0**32), 2.0**32 - 1).astype(np.int64)
    return {
        "decay": decay, "decay2": decay, "exp_tc": _fixed(beta),
        "r": _fixed(c.get("gain", np.ones(1)) / (1 - beta)), "v_rest": _fixed(c.get("leak", np.zeros(1)) / (1 - beta)),
        "i_offset": _fixed(c.get("bias", np.zeros(1))), "v_reset": _fixed(c.get("v_reset", np.zeros(1))),
        "threshold": _fixed(c["threshold"]) + (form.compare == "gt"), "v_init": _fixed(c.get("v_init", np.zeros(1))),
        "refractory": c.get("refractory", np.zeros(1)).astype(np.int64),
    }  # fmt: skip


def _const(work: Legalization, name: str, field: str, value: Array) -> Const:
    if (value == value.flat[0]).all():
        value = value.reshape(-1)[:1]
    return work.const(
        f"{name}.{field}",
        value.astype(np.uint32).astype(np.int32) if field in _RAW[:2] else value.astype(np.int32),
    )


def _stored(
    work: Legalization, form: Form, vias: list[snn.ProjectionOp]
) -> tuple[int, tuple[list[Any], list[Any]]]:
    """The shift, and the (projection, stored weights, format) of both signs."""
    w_in = float(np.asarray(form.consts.get("w_in", np.ones(1))).flat[0])
    weights = [via.weight.array().astype(np.float64) * w_in * ONE for via in vias]
    sides = [[np.maximum(sign * weight, 0.0) for weight in weights] for sign in (1, -1)]
    rows = [
        sum(work.bound(via)[0] * _rows(via, part) for via, part in zip(vias, side, strict=True))
        for side in sides
    ]
    widths = [
        part.max(initial=0.0) / _widest(via) for side in sides for via, part in zip(vias, side, strict=True)
    ]
    need = max([row / _LARGEST for row in rows] + widths)
    shift = max(0, ceil(log2(need))) if need > 0 else 0
    found: tuple[list[Any], list[Any]] = ([], [])
    for side, out in zip(sides, found, strict=True):
        for via, part in zip(vias, side, strict=True):
            if part.any():
                out.append(_one(via, part, 2.0**shift))
    return shift, found


def _widest(via: snn.ProjectionOp) -> int:
    return MAX_WEIGHT["dense8" if isinstance(via, snn.Dense) else "sparse32"]


def _rows(via: snn.ProjectionOp, part: Array) -> float:
    if isinstance(via, Sparse):
        full = np.broadcast_to(part, via.target.shape)
        return float(np.bincount(via.target.array(), weights=full).max(initial=0.0)) if full.size else 0.0
    return (
        float(part.reshape(len(part), -1).sum(axis=1).max(initial=0.0))
        if isinstance(via, snn.Dense)
        else float(part.max())
    )


def _one(via: snn.ProjectionOp, part: Array, unit: float) -> tuple[snn.ProjectionOp, Stored, Any]:
    from nmc.targets.spinnaker2.legalize_lif import final_format

    weight = np.rint(part / unit)
    largest = float(part.max())
    error = float(np.abs(weight * unit - part).max()) / largest
    stored = Stored(weight.astype(np.int32), 1, error, int(((weight == 0) & (part != 0)).sum()))
    return via, stored, final_format(via, stored, "sparse32")


def _silent(work: Legalization, op: Population, via: snn.ProjectionOp) -> Value:
    """A projection of zeros: a population without excitation still has a first synapse type."""
    weight = np.zeros(via.weight.shape, np.int32)
    return work.projection(via, Stored(weight, 1, 0.0, 0), "sparse16")
