"""Populations with a model of the user's: the same instructions, in 32-bit words on integer sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Value, VerifyError
from nmc.ir.ops import snn
from nmc.ir.ops.expressions import Fixed
from nmc.ir.ops.user import User
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.layout import MAX_WEIGHT
from nmc.targets.spinnaker2.legalize_lif import currents, projected, wish
from nmc.targets.spinnaker2.machine import MAX_SHIFT
from nmc.targets.spinnaker2.scaling import SUM_LIMIT, Stored, Wish

if TYPE_CHECKING:
    from nmc.targets.spinnaker2.legalize import Legalization

Array = NDArray[Any]
#: Bits behind those of the model's numbers that weights may need and still be stored exactly.
_FINER = 31
#: Scales of a fixed-point current are below 2^31.
_FACTOR_BITS = 31


@dataclass(frozen=True)
class Drive:
    """How sums become currents: factor (one, or one a neuron), shift, and the projections."""

    scale: Array
    shift: int
    current: tuple[Value, ...]


def population(work: Legalization, op: User) -> None:
    """Legalise a population with its projections."""
    vias = work.projections(op, op.current)
    if vias is None:
        return
    order = sorted(range(len(op.states)), key=lambda k: op.states[k] != op.shows)  # what is shown comes first
    try:
        rows = {
            "init": _held(op, op.init.array()[order]),
            "values": None if op.values is None else _held(op, op.values.array()),
            "bias": None if op.bias is None else _bias(op, op.bias.array()),
        }
        drive = _fixed(work, op, vias) if op.fixed else _single(work, op, vias)
        consts: dict[str, Any] = {
            name: _const(work, op, name, data) for name, data in rows.items() if data is not None
        }
        made = s2.User(
            out=op.out, loc=op.loc, current=drive.current, **consts, scale=_const(work, op, "scale", drive.scale),
            states=tuple(op.states[k] for k in order), params=op.params, update=op.update, fire=op.fire,
            spike=op.spike, fixed=op.fixed, shift=drive.shift, start=op.start,
        )  # fmt: skip
        made.verify()
    except VerifyError as error:
        work.refuse("E0921", f"%{op.out}: {error}", op, "use fixed point, or a smaller model")
        return
    work.emit(made)
    if op.fixed and op.shows:
        work.scales[op.out] = 2.0 ** -op.fixed[1]


def _const(work: Legalization, op: User, name: str, data: Array) -> Const:
    return work.const(f"{op.out}.{name}", np.atleast_1d(data))


def _held(op: User, numbers: Array) -> Array:
    """Numbers in the words of the arithmetic."""
    if op.fixed:
        return Fixed(*op.fixed).hold(numbers).astype(np.int32)
    with np.errstate(over="ignore"):
        return np.asarray(numbers, np.float32)


def _bias(op: User, numbers: Array) -> Array:
    """Not saturated: a sum and the bias saturate together."""
    if not op.fixed:
        return _held(op, numbers)
    word = np.iinfo(np.int32)
    return np.clip(np.floor(np.ldexp(numbers, op.fixed[1])), word.min, word.max).astype(np.int32)


def _single(work: Legalization, op: User, vias: Sequence[snn.ProjectionOp]) -> Drive:
    """As leaky neurons: one scale, or one a neuron."""
    scale, each, current = currents(work, op, vias)
    return Drive(_held(op, scale * (np.ones(1) if each is None else each)), 0, current)


def _fixed(work: Legalization, op: User, vias: Sequence[snn.ProjectionOp]) -> Drive:
    """Exactly where weights are multiples of a power of two and fit; with rounded weights otherwise."""
    wishes = [wish(work, via) for via in vias]
    for finer in range(_FINER + 1):
        raw = [np.ldexp(item.weight, op.fixed[1] + finer) for item in wishes]
        if all(_whole(item) for item in raw):
            found = _exact(wishes, raw, finer)
            if found is None:
                break
            unit, stored = found
            return Drive(np.array([unit], np.int32), finer, projected(work, vias, stored, wishes))
    scale, each, current = currents(work, op, vias)
    factor = np.ldexp(scale * (np.ones(1) if each is None else each), op.fixed[1])
    shift = int(np.clip(_FACTOR_BITS - np.frexp(np.abs(factor).max())[1], 0, MAX_SHIFT))
    whole = np.rint(np.ldexp(factor, shift))
    return Drive(np.minimum(whole, (1 << _FACTOR_BITS) - 1).astype(np.int32), shift, current)


def _whole(raw: Array) -> bool:
    return bool(((raw == np.rint(raw)) & (np.abs(raw) < 1 << 53)).all())


def _exact(wishes: Sequence[Wish], raw: Sequence[Array], finer: int) -> tuple[int, list[Stored]] | None:
    """Weights as whole multiples of one unit (in parts of a number of the model), and each projection's gain."""
    steps = [int(np.gcd.reduce(np.abs(item).astype(np.int64), axis=None)) for item in raw]
    unit = int(np.gcd.reduce(steps)) or 1
    stored = []
    total = 0.0
    for item, numbers, step in zip(wishes, raw, steps, strict=True):
        weight = numbers / max(step, 1)
        most = MAX_WEIGHT["conv" if item.format == "conv" else "sparse32"]
        gain = max(step // unit, 1)
        if np.abs(weight).max(initial=0) > most or gain >= 1 << 31:
            return None
        largest = float(np.abs(item.weight).max(initial=0.0))
        if largest:
            total += item.row / largest * float(np.abs(weight).max()) * gain
        stored.append(Stored(weight.astype(np.int32), gain, 0.0, 0))
    return (unit, stored) if total < SUM_LIMIT and unit < 1 << _FACTOR_BITS else None
