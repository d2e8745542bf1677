"""Integers for one population: threshold, weight mantissas and exponents, biases, start values.

Everything is derived from the number of integer steps (`unit`) that stand for a threshold of one. It is a multiple of
64 (the threshold register counts in 64s) whose mantissa has 8 bits, so that the synapse of a soft reset can subtract
exactly one threshold. Of all units that provably cannot overflow the 21-bit synaptic accumulator, the one that rounds
the weights least is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.ops import snn, synapse_lists
from nmc.ir.ops.neurons import Sparse
from nmc.targets.loihi.ops import BIAS_LIMIT

Array = NDArray[Any]
Sign = Literal["mixed", "excitatory", "inhibitory"]

#: The accumulator holds 21 bits plus sign, the membrane 23 (facts 2).
Q_LIMIT = (1 << 21) - 1
V_LIMIT = (1 << 23) - 1
_VTH_LIMIT = (1 << 17) - 1
_MAX_EXP = 7
#: With more different weights than that no register step divides all.
_EXACT_VALUES = 256


@dataclass(frozen=True)
class Weights:
    """Registers of one projection: mantissas, exponent, sign mode, and the error they make.

    Parameters
    ----------
    mantissa : int16 array
        In the range of the sign mode; even where signs are mixed.
    exp : int
        0..7.
    sign : str
        Sign mode.
    error : float
        Root mean square rounding error over the root mean square weight.
    """

    mantissa: Array
    exp: int
    sign: Sign
    error: float


@dataclass(frozen=True)
class Unit:
    """A threshold: `mant` << `exp` in units of 64."""

    mant: int
    exp: int

    @property
    def vth(self) -> int:
        """Threshold register."""
        return self.mant << self.exp

    @property
    def size(self) -> int:
        """Integer that stands for one."""
        return self.vth << 6


def sign_of(weight: Array) -> Sign:
    """Sign mode that keeps most bits."""
    if (weight >= 0).all():
        return "excitatory"
    return "inhibitory" if (weight <= 0).all() else "mixed"


def register_weights(weight: Array, unit: int, bits: int = 8) -> Weights | None:
    """Round weights to registers of `bits` bits at a given unit; None when they exceed the largest exponent.

    Parameters
    ----------
    weight : float array
        Weights in thresholds.
    unit : int
        Integers per threshold; a weight register stands for mantissa << exp << 6.
    bits : int
        1..8; with mixed signs one of them is the sign.
    """
    sign = sign_of(weight)
    step = (2 if sign == "mixed" else 1) << (8 - bits)
    most = 256 - step  # in mantissa units; -256 exists with mixed signs but is not used, to stay symmetric
    largest = float(np.abs(weight).max(initial=0.0)) * unit / 64
    for exp in range(_MAX_EXP + 1):
        if round(largest / (step << exp)) * step <= most:
            mantissa = np.rint(weight * (unit / 64 / (step << exp))).astype(np.int64) * step
            lost = mantissa * float((1 << exp) * 64) / unit - weight
            size = float(np.sqrt((weight**2).mean())) if weight.size else 0.0
            error = float(np.sqrt((lost**2).mean())) / size if size else 0.0
            return Weights(mantissa.astype(np.int16), exp, sign, error)
    return None


def row_sums(
    op: snn.ProjectionOp, weight: Array, counts: Mapping[str, int] = MappingProxyType({})
) -> tuple[Array, Array]:
    """Sums of the positive and of the negative weights that one target neuron can receive in a step, largest first.

    Parameters
    ----------
    op : ProjectionOp
        Gives the structure.
    weight : array
        In the shape of the projection's own weights.
    counts : mapping of str to int
        Spikes that an element of a source sends in a step at most, where that is more than one.

    Returns
    -------
    positive, negative : (rows,) arrays
        Per output channel, output or neuron; a border makes them smaller, never larger.
    """
    weight = weight * counts.get(op.spikes.name, 1)
    if isinstance(op, Sparse):
        return synapse_lists.fan_in(op.target.array(), weight, op.shape)
    rows = weight.reshape(weight.shape[0], -1) if not isinstance(op, snn.OneToOne) else weight.reshape(-1, 1)
    return np.maximum(rows, 0).sum(axis=1), np.maximum(-rows, 0).sum(axis=1)


def reach(projections: Sequence[snn.ProjectionOp], counts: Mapping[str, int] = MappingProxyType({})) -> float:
    """Largest current, in thresholds, that any neuron of a population can get in one step, in either direction.

    `counts` are as those of `row_sums`.
    """
    positive = negative = 0.0
    for op in projections:
        up, down = row_sums(op, op.weight.array().astype(np.float64), counts)
        positive, negative = positive + float(up.max(initial=0)), negative + float(down.max(initial=0))
    return max(positive, negative)


def units(limit: float) -> Iterable[Unit]:
    """All thresholds of 8 significant bits up to `limit` integers, largest first."""
    for exp in range(_MAX_EXP, -1, -1):
        for mant in range(255, 127 if exp else 0, -1):
            unit = Unit(mant, exp)
            if unit.size <= limit and unit.vth <= _VTH_LIMIT:
                yield unit


def choose_unit(
    projections: Sequence[snn.ProjectionOp],
    bias: Array | None,
    extra: float,
    limit: float,
    bits: int,
    counts: Mapping[str, int] = MappingProxyType({}),
    large: bool = False,
) -> Unit | None:
    """Find the threshold that rounds the weights least and cannot overflow.

    Parameters
    ----------
    projections : sequence of ProjectionOp
        What comes in, weights in thresholds.
    bias : float array or None
        Biases in thresholds.
    extra : float
        Current besides the projections that a step may bring (reset, gate), in thresholds.
    limit : float
        Largest integer that a sum may reach.
    bits : int
        Weight bits.
    counts : mapping of str to int
        As those of `row_sums`.
    large : bool
        Take the largest of equally good ones, not the smallest: what decays loses less to rounding.

    Returns
    -------
    Unit or None
        None when even the smallest threshold could overflow.
    """
    most = reach(projections, counts) + extra
    ceiling = min(Q_LIMIT / 1.02, limit / 1.02) / max(most, 1e-9)  # 2 % for the rounding of the weights
    if bias is not None and bias.size:
        ceiling = min(ceiling, (BIAS_LIMIT << _MAX_EXP) / max(float(np.abs(bias).max()), 1e-9))
    best, least = None, np.inf
    ranges = [_range_of(op) for op in projections]
    for unit in units(ceiling):
        worst = max((_step_over(size, mixed, unit.size, bits) for size, mixed in ranges), default=0.0)
        if worst < least * (1 - 1e-6) or (
            worst <= least * (1 + 1e-6) and best is not None and unit.size < best.size and not large
        ):
            best, least = unit, min(worst, least)
    return best


def exact_unit(
    projections: Sequence[snn.ProjectionOp], others: Sequence[Array], limit: float, bits: int
) -> Unit | None:
    """Find the largest threshold at which nothing is rounded; None where there is none.

    Parameters
    ----------
    projections : sequence of ProjectionOp
        What comes in, weights in thresholds.
    others : sequence of float arrays
        Biases and start values in thresholds, which must be multiples of the 64 that a weight is at least.
    limit : float
        Largest integer that a threshold may be.
    bits : int
        Weight bits.
    """
    weights = [np.unique(op.weight.array().astype(np.float64)) for op in projections]
    if any(weight.size > _EXACT_VALUES for weight in weights):
        return None
    for unit in units(limit):
        found = [register_weights(weight, unit.size, bits) for weight in weights]
        whole = all(_whole(np.asarray(other) * (unit.size / 64)) for other in others)
        if whole and all(item is not None and item.error <= 1e-6 for item in found):
            return unit
    return None


def _whole(values: Array) -> bool:
    return bool((np.abs(values - np.rint(values)) <= 1e-6 * np.maximum(np.abs(values), 1)).all())


def coarseness(projections: Sequence[snn.ProjectionOp], unit: int, bits: int) -> float:
    """Largest size of a register step over the largest weight of any projection."""
    return max(
        (_step_over(size, mixed, unit, bits) for size, mixed in map(_range_of, projections)), default=0.0
    )


def _range_of(op: snn.ProjectionOp) -> tuple[float, bool]:
    """Largest weight in size, and whether signs are mixed."""
    weight = op.weight.array()
    return float(np.abs(weight).max(initial=0.0)), sign_of(weight) == "mixed"


def _step_over(largest: float, mixed: bool, unit: int, bits: int) -> float:
    """Size of a register step over the largest weight; infinite where the exponent does not suffice."""
    if largest == 0:
        return 0.0
    step = (2 if mixed else 1) << (8 - bits)
    most = 256 - step
    for exp in range(_MAX_EXP + 1):
        if round(largest * unit / 64 / (step << exp)) * step <= most:
            return (step << exp) * 64 / unit / largest
    return float("inf")


def bias_registers(bias: Array, unit: int) -> tuple[Array, Array]:
    """Split biases (in thresholds) into mantissa (13 bits signed, int16) and exponent (0..7, uint8)."""
    value = np.rint(bias * unit)
    exponent = np.zeros(value.shape, np.uint8)
    for exp in range(_MAX_EXP):
        exponent = np.where(np.abs(np.rint(value / 2.0**exp)) > BIAS_LIMIT, exp + 1, exponent).astype(
            np.uint8
        )
    mantissa = np.clip(np.rint(value / 2.0**exponent), -BIAS_LIMIT, BIAS_LIMIT)
    return mantissa.astype(np.int16), exponent


def reset_registers(back: Array, unit: Unit) -> tuple[Array, int, float]:
    """Synapse that takes `back` thresholds from a membrane.

    Returns
    -------
    mantissa, exponent, error : int64 array, int, float
        0..255 and 0..7; the largest relative error, 0 for whole thresholds.
    """
    wanted = back * unit.vth
    if (back == 1).all():
        return np.full(back.shape, unit.mant, np.int64), unit.exp, 0.0
    exp = next((e for e in range(_MAX_EXP) if np.rint(wanted.max() / (1 << e)) <= 255), _MAX_EXP)
    mantissa = np.minimum(np.rint(wanted / (1 << exp)), 255).astype(np.int64)
    error = np.abs(mantissa * float(1 << exp) - wanted) / np.where(wanted > 0, wanted, 1)
    return mantissa, exp, float(error.max())
