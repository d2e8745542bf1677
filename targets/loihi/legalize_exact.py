"""Populations of exact integer networks on Loihi: plain spikes in windows, no rounding left to do.

A unit of the integer network is 64 on the chip, the smallest step of a synapse (facts 2: mantissa times 2^exp, floored,
times 64). ``snn.phased`` becomes a pair of compartments with soft reset whose membrane starts below any potential that
can make it fire; one injected spike (a gate) lifts it when its window opens, another lowers it when the window closes.
Everything is checked to stay inside the 21 bits of the accumulator and the 23 of the membrane, so that neither wraps
nor saturates: the counts are those of the integer network, and so are the read-outs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, Value
from nmc.ir.ops import exact, snn, synapse_lists
from nmc.ir.ops.neurons import Sparse
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.quantize import Q_LIMIT, V_LIMIT, Sign, Unit, Weights, sign_of

if TYPE_CHECKING:
    from nmc.targets.loihi.legalize import Legalization  # which imports this file

Array = NDArray[Any]

#: A synapse counts in 64s (facts 2), and so does the threshold register.
UNIT = 64
_HINT = "quantise for this chip: quantize{uniform=true, theta_digits=8, accumulator=16, unipolar=true}"


@dataclass(frozen=True)
class _Sums:
    """What can arrive at each neuron of a population, int64 arrays of its shape (or broadcasting to it).

    Attributes
    ----------
    up, down : the largest and the smallest sum over a whole run
    before : the largest sum of all steps before a window opens
    step : the largest absolute sum in one step
    rise : the largest sum in the step in which it opens
    """

    up: Array
    down: Array
    before: Array
    step: int
    rise: int


def population(work: Legalization, op: exact.Phased | exact.AnyOf | exact.Readout) -> None:
    """Legalise a population with all its projections, or say what of it Loihi cannot do."""
    projections = [work.module.producers[value.name] for value in op.current]
    if not _lawful(work, op, projections):
        return
    plain = [item for item in projections if isinstance(item, snn.ProjectionOp)]
    sums = _sums(work, op, plain)
    if isinstance(op, exact.AnyOf):
        made = _any(work, op, sums)
    elif isinstance(op, exact.Readout):
        made = _readout(work, op, _offset(op), sums)
    else:
        made = _phased(work, op, _offset(op), sums)
    if made is None:
        return
    currents = [_projection(work, item) for item in plain]
    fields, gates = made
    work.units[op.out] = Unit(1, 0)  # a read-out counts in 64s
    work.emit(loihi.Lif(out=op.out, loc=op.loc, current=(*currents, *gates), **fields))


def _offset(op: exact.Phased | exact.Readout) -> Array:
    """Offsets in the rank of the population, int64."""
    given = op.offset.array().astype(np.int64)
    return given.reshape((1,) * (len(op.shape) - given.ndim) + given.shape)


def _lawful(work: Legalization, op: exact.ExactOp, projections: Sequence[Op]) -> bool:
    before = len(work.problems)
    if isinstance(op, exact.Readout) and op.doubling_until:
        work.refuse("E0610", "Loihi has no doubling accumulators", op, "use spike-code{code=phased-if}")
    for item in projections:
        if not isinstance(item, snn.ProjectionOp):
            work.refuse("E0610", "an exact population takes projections only", op)
            continue
        kind = item.weight.type.kind
        source = work.module.producers[item.spikes.name]
        if item.spikes.type.kind != "spikes":
            hint = "use spike-code{code=phased-if}; maxima of graded events have no counterpart on Loihi"
            work.refuse("E0610", f"%{item.out} carries graded events, Loihi only plain spikes", item, hint)
        elif item.delay < 1 and not isinstance(source, snn.InputOp):
            work.refuse("E0612", f"%{item.out} has no delay; run retime first", item)
        if kind[0] not in "iu":
            work.refuse("E0610", f"%{item.out} has weights of type {kind}, not integers", item, _HINT)
        elif int(np.abs(item.weight.array().astype(np.int64)).max(initial=0)) > _most(item):
            message = f"%{item.out} has weights beyond 8 bits ({_most(item)})"
            work.refuse("E0613", message, item, _HINT)
        if len(work.module.users[item.out]) > 1:
            work.refuse(
                "E0610", f"%{item.out} feeds several populations", item, "give each its own projection"
            )
    return len(work.problems) == before


def _most(op: snn.ProjectionOp) -> int:
    """The largest weight: mixed signs leave 7 bits and the sign."""
    return 127 if sign_of(op.weight.array()) == "mixed" else 255


def _sums(work: Legalization, op: exact.ExactOp, projections: Sequence[snn.ProjectionOp]) -> _Sums:
    up = down = last = np.zeros((1,) * len(op.shape), np.int64)
    step, ends = 0, work.ends
    opening = op.start + op.open if isinstance(op, exact.Phased) else -1
    for item in projections:
        most = _counts(work.module.producers[item.spikes.name])
        rise, fall = _rows(item, op.shape)
        up, down = up + most * rise, down - most * fall
        step += int(np.maximum(rise, fall).max(initial=0))
        if ends is not None and ends[item.out] == opening:
            last = last + rise  # an element that sends all its spikes has one left for its last step
    return _Sums(up, down, up - last, step, int(last.max(initial=0)) if ends is not None else step)


def _counts(source: Op) -> int:
    """Spikes that one element of a source sends in a run, at most."""
    if isinstance(source, exact.ExactNeuron | exact.AnyOf):
        return source.levels
    return source.high if isinstance(source, snn.Input) and source.encoder == "count" else 1 << 20


def _rows(op: snn.ProjectionOp, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Sums of the positive and of the negative weights onto a neuron, broadcasting to the population."""
    weight = op.weight.array().astype(np.int64)
    if isinstance(op, Sparse):
        sides = synapse_lists.fan_in(op.target.array(), weight, shape)
        return sides[0].astype(np.int64).reshape(shape), sides[1].astype(np.int64).reshape(shape)
    if isinstance(op, snn.OneToOne):
        full = weight.reshape((1,) * (len(shape) - weight.ndim) + weight.shape)
        return np.maximum(full, 0), np.maximum(-full, 0)
    rows = weight.reshape(len(weight), -1)
    sides = np.maximum(rows, 0).sum(axis=1), np.maximum(-rows, 0).sum(axis=1)
    form = shape if isinstance(op, snn.Dense) else (-1, *[1] * (len(shape) - 1))
    return sides[0].reshape(form), sides[1].reshape(form)


#: Attributes of a population, and the currents of its gates.
_Made = tuple[dict[str, Any], tuple[Value, ...]]


def _readout(work: Legalization, op: exact.Readout, offset: Array, sums: _Sums) -> _Made | None:
    largest = int(max(np.abs(offset + sums.up).max(), np.abs(offset + sums.down).max()))
    if not _fits(work, op, largest, sums.step):
        return None
    start = work.const(f"{op.out}.v", (offset * UNIT).astype(np.int32)) if offset.any() else None
    return {"v_init": start, "reset": "none"}, ()


def _any(work: Legalization, op: exact.AnyOf, sums: _Sums) -> _Made | None:
    """It fires above zero and forgets: a reset to zero leaves nothing, and without input there is nothing."""
    if int(sums.down.min(initial=0)) < 0:
        work.refuse("E0613", "it takes negative weights, with which a union of spikes is none", op)
        return None
    return ({"vth": 0, "reset": "hard"}, ()) if _fits(work, op, sums.step, sums.step) else None


def _phased(work: Legalization, op: exact.Phased, offset: Array, sums: _Sums) -> _Made | None:
    theta = op.theta.array().astype(np.int64)
    if theta.size > 1 and theta.min() != theta.max():
        work.refuse("E0613", "its neurons differ in threshold; a population has one on Loihi", op, _HINT)
        return None
    value = int(theta.reshape(-1)[0])
    register = next(((value >> exp, exp) for exp in range(8) if value >> exp <= 255), None)
    if register is None or register[0] << register[1] != value:
        message = (
            f"its threshold {value:,} has more than 8 significant bits, the synapse of a soft reset no more"
        )
        work.refuse("E0613", message, op, _HINT)
        return None
    before = int((offset + sums.before).max()) - (value - 1)
    after = int((offset + sums.up).max()) - (value - 1) - op.levels * value
    shut, close = _weight(max(before, 0)), _weight(max(after, 0))
    if shut is None or close is None:
        message = (
            f"closing it takes {max(before, after):,} of the {Q_LIMIT // UNIT:,} units of an accumulator"
        )
        work.refuse("E0613", message, op, _HINT.replace("16", "15"))
        return None
    lowered = offset - shut.size
    largest = int(max(np.abs(lowered + sums.down).max(), np.abs(offset + sums.up).max()))
    # the last spikes come in the step that opens it, the last soft reset in the step that closes it
    if not _fits(work, op, largest + close.size, max(sums.step, sums.rise + shut.size, close.size + value)):
        return None
    first = op.start + op.open
    gates = [(first, shut, "open"), (first + op.levels, replace(close, sign=-1), "close")]
    pulses = tuple(_gate(work, op, *gate) for gate in gates if gate[1].size)
    start = work.const(f"{op.out}.v", (lowered * UNIT).astype(np.int32)) if lowered.any() else None
    resets = {"reset": "soft", "reset_mant": register[0], "reset_exp": register[1]}
    return {"v_init": start, "vth": value - 1, **resets}, pulses


def _fits(work: Legalization, op: exact.ExactOp, membrane: int, step: int) -> bool:
    """Prove that neither accumulator nor membrane leaves its register."""
    rows = (("accumulator of 21 bits", step, Q_LIMIT), ("membrane of 23 bits", membrane, V_LIMIT))
    over = [(name, amount, limit // UNIT) for name, amount, limit in rows if amount * UNIT > limit]
    for name, amount, limit in over:
        message = f"it may reach {amount:,} of the {limit:,} units of the {name}"
        work.refuse("E0613", message, op, _HINT.replace("16", "15"))
    return not over


@dataclass(frozen=True)
class _Pulse:
    """Weight of a gate: `mant` << `exp`, in units."""

    mant: int
    exp: int
    sign: int = 1

    @property
    def size(self) -> int:
        """Units that it moves the membrane by."""
        return self.mant << self.exp


def _weight(amount: int) -> _Pulse | None:
    """The smallest synapse of at least `amount` units; None where the accumulator does not hold it."""
    exp = next((e for e in range(8) if -(-amount >> e) <= 255), None)
    if exp is None:
        return None
    pulse = _Pulse(-(-amount >> exp), exp)
    return pulse if pulse.size * UNIT <= Q_LIMIT else None


def _gate(work: Legalization, op: exact.Phased, at: int, pulse: _Pulse, name: str) -> Value:
    """The current of one spike that the host injects at step `at` into all neurons of a population."""
    source = work.gate_at(at, op)
    rows = np.full((op.result.type.size, 1), pulse.sign * pulse.mant, np.int16)
    sign: Sign = "excitatory" if pulse.sign > 0 else "inhibitory"
    return work.emit(loihi.Dense(
        out=f"{op.out}.{name}", spikes=source, weight=work.const(f"{op.out}.{name}.w", rows), delay=0,
        exp=pulse.exp, sign=sign, shape=op.shape if len(op.shape) > 1 else (), loc=op.loc,
    ))  # fmt: skip


def _projection(work: Legalization, op: snn.ProjectionOp) -> Value:
    """The same integers in registers: mixed signs keep the high 7 bits of a mantissa, so they are doubled."""
    weight = op.weight.array().astype(np.int16)
    sign = sign_of(weight)
    found = Weights(weight * 2, -1, sign, 0.0) if sign == "mixed" else Weights(weight, 0, sign, 0.0)
    return work.registers(op, found, 8)
