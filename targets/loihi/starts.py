"""Start values: what membrane and filter must hold before step 0 to be right when a population starts.

Bias registers act from step 0 on, a population's constants from its `start` (``retime`` makes it wait for its
inputs). Decays are undone step by step backwards, exactly, because each integer is the decay of another one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.targets.loihi.laws import Law
from nmc.targets.loihi.lif import before_decay, decay

Array = NDArray[Any]
#: More than any register holds; keeps the way back from overflowing.
_FAR = np.int64(1 << 40)


@dataclass(frozen=True)
class Start:
    """State before step 0, int64, and the gate that opens the population.

    Parameters
    ----------
    v, u : int64 arrays
        Broadcast to the population.
    early : int
        By how much the membrane would pass the threshold before its time.
    gate : (mantissa, exponent) or None
        Weight of the spike that opens the population; v is lower by as much just before.
    """

    v: Array
    u: Array
    early: int = 0
    gate: tuple[int, int] | None = None

    @property
    def largest(self) -> int:
        """Largest state, in size."""
        return max(int(np.abs(self.v).max(initial=0)), int(np.abs(self.u).max(initial=0)))


def start_values(law: Law, size: int, bias: Array) -> Start:
    """Find the states before step 0.

    Parameters
    ----------
    law : Law
    size : int
        Integers a threshold.
    bias : int64 array
        What the bias registers add in a step.
    """
    rank = max(bias.ndim, law.v_start.ndim, law.transient.ndim, law.du.ndim, law.dv.ndim)
    wanted = _rounded(law.v_start * size, rank)
    filtered = -_rounded(law.transient * size, rank)
    found, early = _back(law, wanted, filtered, bias, size)
    if early <= 0 or law.reset == "none":
        return found
    exp = next((e for e in range(8) if -(-early // (64 << e)) <= 255), 7)
    mant = -(-early // (64 << exp))
    if law.filtered or mant > 255 or bool((law.dv == 4096).any()):
        return Start(found.v, found.u, early)
    held, _ = _back(law, wanted - ((mant << exp) << 6), filtered, bias, size)
    return Start(held.v, held.u, gate=(mant, exp))


def _rounded(values: Array, rank: int) -> Array:
    whole = np.rint(values).astype(np.int64)
    return whole.reshape((1,) * (rank - whole.ndim) + whole.shape)


def _back(law: Law, v: Array, u: Array, bias: Array, size: int) -> tuple[Start, int]:
    """Undo `start` steps; gives how far above the threshold the membrane was in any of them."""
    early = 0
    if law.start == 0:
        return Start(v, u), early
    for _ in range(law.start):
        forward = v if (law.dv < 4096).all() else np.where(law.dv == 4096, bias + u, v)
        early = max(early, int(forward.max(initial=0)) - size)
        v = _undone(v - bias - u, law.dv)
        u = _undone(u, law.du)
    return Start(v, u), early


def _undone(value: Array, amount: Array) -> Array:
    """The value that decays to `value`; zero where everything does."""
    some = np.minimum(amount, 4095)
    found = np.where(amount == 4096, 0, before_decay(np.clip(value, -_FAR, _FAR), some))
    assert found.size == 0 or bool((decay(found, some) == np.clip(value, -_FAR, _FAR))[
        np.broadcast_to(amount < 4096, found.shape)].all()), "a decay is undone exactly"  # fmt: skip
    return found
