"""Real weights to the integers of row formats: one scale a target, one whole factor (gain) a projection.

All projections onto a population add into one ring, so they share the scale s that turns its sums into currents; their
ranges may differ, so each entry of the population table has a gain g (a whole number that the firmware multiplies in).
A weight w is stored as rint(w / (s g)); |stored| is within the format. The scale is a whole fraction of what
the finest projection needs, so small that gains are exact to many digits, as long as no sum can leave 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.targets.spinnaker2.layout import MAX_WEIGHT, Format

#: How much finer the common scale is than the finest projection needs: gains are exact to one part in so many.
_FINER = 1 << 16
#: Sums of a step stay below this, a little under 2^31.
SUM_LIMIT = (1 << 31) - (1 << 24)
_SHARP = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Wish:
    """What a projection brings: real weights and how they may be stored.

    Parameters
    ----------
    weight : float64 array
    format : str
        Row format.
    largest : int
        Largest stored weight.
    row : float
        Largest sum of absolute weights (times the largest payload) onto a target.
    fan : float
        Largest number of synapses onto a target (times the largest payload): each may be rounded up by half a step.
    """

    weight: Floats
    format: Format
    largest: int
    row: float
    fan: float = 0.0


@dataclass(frozen=True)
class Stored:
    """Stored weights of a projection.

    Parameters
    ----------
    weight : int32 array
    gain : int
    error : float
        Largest rounding error, relative to the largest weight.
    lost : int
        Weights that are not zero and are stored as zero.
    """

    weight: NDArray[np.int32]
    gain: int
    error: float
    lost: int


def whole(weight: Floats, largest: int) -> bool:
    """Whether weights are integers that can be stored as they are."""
    return bool(weight.size == 0 or ((weight == np.rint(weight)).all() and np.abs(weight).max() <= largest))


def small_steps(weight: Floats) -> int:
    """The least k <= 15 so that all weights are whole multiples of the largest one over k; 0 where there is none."""
    sizes = np.unique(np.abs(weight))
    sizes = sizes[sizes > 0]
    if sizes.size == 0:
        return 1
    if sizes.size > MAX_WEIGHT["sparse16"]:
        return 0
    for k in range(1, MAX_WEIGHT["sparse16"] + 1):
        multiple = sizes * (k / sizes[-1])
        if (np.abs(multiple - np.rint(multiple)) < _SHARP * multiple).all():
            return k
    return 0


def store(wishes: Sequence[Wish]) -> tuple[float, list[Stored]]:
    """Choose the scale and store all projections of a population.

    Returns
    -------
    scale : float
        Current of a sum of one.
    stored : list of Stored
        One a projection.
    """
    if all(whole(wish.weight, wish.largest) for wish in wishes) and sum(w.row for w in wishes) < SUM_LIMIT:
        return 1.0, [Stored(wish.weight.astype(np.int32), 1, 0.0, 0) for wish in wishes]
    steps = [float(np.abs(wish.weight).max(initial=0.0)) / wish.largest for wish in wishes]
    coarsest = max(steps)
    if coarsest == 0.0:
        return 1.0, [Stored(wish.weight.astype(np.int32), 1, 0.0, 0) for wish in wishes]
    rows = sum(wish.row for wish in wishes) / SUM_LIMIT
    finest = min(step for step in steps if step > 0.0)
    alike = all(step in (0.0, coarsest) for step in steps)
    finer = 1 if alike else int(min(_FINER, finest / rows)) if rows else _FINER
    scale = finest / finer if finer else rows
    scale = max(scale, rows)
    while not _safe(wishes, steps, scale):
        scale *= 1.25
    return scale, [_stored(wish, step, scale) for wish, step in zip(wishes, steps, strict=True)]


def _gain(step: float, scale: float) -> int:
    return max(1, int(np.ceil(step / scale * (1 - 1e-9))))


def _safe(wishes: Sequence[Wish], steps: Sequence[float], scale: float) -> bool:
    """Whether no sum can leave 32 bits, with every weight rounded up by half a step."""
    sums = (w.row / scale + 0.5 * _gain(step, scale) * w.fan for w, step in zip(wishes, steps, strict=True))
    return sum(sums) < (1 << 31) - 1


def _stored(wish: Wish, step: float, scale: float) -> Stored:
    gain = _gain(step, scale)
    weight = np.rint(wish.weight / (scale * gain))
    weight = np.clip(weight, -wish.largest, wish.largest)
    largest = float(np.abs(wish.weight).max(initial=0.0))
    error = (
        float(np.abs(weight * (scale * gain) - wish.weight).max(initial=0.0)) / largest if largest else 0.0
    )
    lost = int(((weight == 0) & (wish.weight != 0)).sum())
    return Stored(weight.astype(np.int32), gain, error, lost)


def list_format(weight: NDArray[np.int32]) -> Format:
    """Row format of synapses one by one: the shortest that holds the stored weights."""
    return "sparse16" if np.abs(weight).max(initial=0) <= MAX_WEIGHT["sparse16"] else "sparse32"


def matrix_format(weight: NDArray[np.int32]) -> Format:
    """Row format of a matrix (targets, sources): the one with the fewest bytes that holds the stored weights."""
    largest, used = int(np.abs(weight).max(initial=0)), int(np.count_nonzero(weight))
    per_synapse = 2 if largest <= MAX_WEIGHT["sparse16"] else 4
    if largest <= MAX_WEIGHT["dense8"] and weight.size <= per_synapse * used + 2 * weight.shape[1]:
        return "dense8"
    return "sparse16" if per_synapse == 2 else "sparse32"
