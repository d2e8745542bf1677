"""Synapses listed one by one, shared by the ops that hold them: checks, delays, sums of arriving events."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Op, require

Ints = NDArray[np.int64]
#: Events that one call adds at once: bounds the memory of large batches.
_EVENTS = 1 << 22


def verify(
    sources: int, targets: int, weight: Const, source: Const, target: Const, late: Const | None
) -> None:
    """Check the lists of a sparse projection.

    Parameters
    ----------
    sources, targets : int
        Sizes of the two populations.
    weight, source, target, late : Const
        One element a synapse; `weight` may have one for all.

    Raises
    ------
    VerifyError
        For lists of different length, indices outside the populations, negative delays.
    """
    count = source.shape
    require(len(count) == 1, "sources are a vector")
    require(target.shape == count and weight.shape in (count, (1,)), "one source, target and weight each")
    require(late is None or late.shape == count, "one delay a synapse")
    require(
        late is None or late.data is None or int(late.data.min(initial=0)) >= 0, "delays cannot be negative"
    )
    for const, size in ((source, sources), (target, targets)):
        if const.data is not None and const.data.size:
            inside = int(const.data.min()) >= 0 and int(const.data.max()) < size
            require(inside, f"@{const.name} leaves 0..{size - 1}")


def longest(late: Const | None) -> int:
    """The largest extra delay of any synapse."""
    return 0 if late is None else int(late.array().max(initial=0))


def by_delay(op: Any, late: Const | None, lists: tuple[str, ...]) -> tuple[Op, ...]:
    """Split a sparse projection into one for each delay, the shortest first.

    Parameters
    ----------
    op : Op
        Has `delay`, `late` and the constants named by `lists`.
    late : Const or None
        Extra delay of each synapse.
    lists : tuple of str
        Fields with one element a synapse (or one for all).
    """
    if late is None or not late.array().size:
        return (op,)
    steps = late.array().astype(np.int64)
    order = np.argsort(steps, kind="stable")
    levels, first = np.unique(steps[order], return_index=True)
    parts = np.split(order, first[1:])
    made = []
    for level, part in zip(levels.tolist(), parts, strict=True):
        cut = {}
        for name in lists:
            const = getattr(op, name)
            data = const.array()
            cut[name] = const if data.size == 1 and steps.size > 1 else Const(const.name, data[part])
        made.append(replace(op, delay=op.delay + level, late=None, **cut))
    return tuple(made)


@dataclass(frozen=True, eq=False)
class BySource:
    """Synapses sorted by source: those of neuron i are indptr[i]:indptr[i + 1] of `target` and `weight`."""

    indptr: Ints
    target: Ints
    weight: Array

    def add(self, spikes: Array, size: int) -> Array:
        """Sum the weights of the synapses whose event arrives.

        Parameters
        ----------
        spikes : (B, sources) array
            Events of one step, counts allowed.
        size : int
            Number of targets.

        Returns
        -------
        (B, size) float64 array
            Exact for integer weights as long as sums stay below 2^53.
        """
        batch = len(spikes)
        total = np.zeros(batch * size)
        sample, source = np.nonzero(spikes)
        count = np.diff(self.indptr)[source]
        cuts = np.flatnonzero(np.diff(np.cumsum(count) // _EVENTS)) + 1
        for rows in np.split(np.arange(len(source)), cuts):
            reach = count[rows]
            ends = np.cumsum(reach)
            if not ends.size or not ends[-1]:
                continue
            pick = np.arange(int(ends[-1])) + np.repeat(self.indptr[source[rows]] - ends + reach, reach)
            times = np.repeat(spikes[sample[rows], source[rows]].astype(np.float64), reach)
            cell = np.repeat(sample[rows] * size, reach) + self.target[pick]
            total += np.bincount(cell, weights=self.weight[pick] * times, minlength=total.size)
        return total.reshape(batch, size)


def by_source(source: Array, target: Array, weight: Array, sources: int) -> BySource:
    """Sort synapses by their source; `weight` may hold one number for all."""
    order = np.argsort(source, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=sources))])
    every = np.broadcast_to(weight, source.shape)
    return BySource(indptr.astype(np.int64), target[order].astype(np.int64), every[order])


def fan_in(target: Array, weight: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Sums of the positive and of the negative weights onto each target, as positive numbers, flat."""
    every = np.broadcast_to(weight, target.shape).astype(np.float64)
    up = np.bincount(target, weights=np.maximum(every, 0), minlength=prod(shape))
    return up, np.bincount(target, weights=np.maximum(-every, 0), minlength=prod(shape))
