"""What the memories of a core mean: synapses of each axon, targets of each neuron."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.targets.fpga.shape import Shape, bits_for

Array = NDArray[Any]
Fields = dict[str, Array]

#: Cores with at most that many possible synapses are kept as matrices.
DENSE_LIMIT = 1 << 24


def ranges(starts: Array, counts: Array) -> tuple[Array, Array]:
    """Concatenate start, start + 1, ... for each pair; also which pair each element is of."""
    owner = np.repeat(np.arange(len(counts)), counts)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return starts[owner] + offset, owner


@dataclass(frozen=True, eq=False)
class Walks:
    """Rows and groups that the events of each axon walk: axon a those from `start[a]` on, `count[a]` of them."""

    start: Array
    count: Array
    row: Array
    group: Array


def walks(shape: Shape, axons: Fields, geometry: Fields, groups: Array | None, where: str = "") -> Walks:
    """Walk every axon.

    Raises
    ------
    NmcError
        E1005 for axons that leave the memories.
    """
    sparse = (axons["sparse"] == 1) & shape.sparse
    geo = dict.fromkeys(("nx", "dgx", "dgy", "dwx", "dwy"), np.zeros(len(axons["geo"]), np.int64))
    geo |= {name: column[axons["geo"]] for name, column in geometry.items()}
    one = sparse | (not shape.conv)
    inner = np.where(sparse, axons["first"], geo["len"]) + 1
    nx = np.where(one, 1, geo["nx"] + 1)
    ny = np.where(one, np.minimum(axons["ny"], 1), axons["ny"])
    step, owner = ranges(np.zeros(len(inner), np.int64), inner * nx * ny)
    y, x = step // (inner * nx)[owner], step // inner[owner] % nx[owner]
    k = step - (y * nx[owner] + x) * inner[owner]

    def place(begin: Array, dx: Array, dy: Array, bits: int) -> Array:
        along = (inner - 1 + dx)[owner] * x
        down = ((inner - 1) * nx + dx * (nx - 1) + dy)[owner] * y
        return np.asarray((begin[owner] + k + along + down) & ((1 << bits) - 1))

    row = place(axons["base"], geo["dwx"], geo["dwy"], bits_for(shape.weight_rows))
    group = place(axons["first"], geo["dgx"], geo["dgy"], bits_for(shape.groups))
    _inside(row, owner, shape.weight_rows, "weight row", where)
    if groups is not None:
        group = np.where(sparse[owner], groups[row], group)
    _inside(group, owner, shape.groups, "group", where)
    count = inner * nx * ny
    return Walks(np.cumsum(count) - count, count, row, group)


def _inside(index: Array, owner: Array, limit: int, what: str, where: str) -> None:
    wrong = np.flatnonzero(index >= limit)
    if len(wrong):
        axon = int(owner[wrong[0]])
        text = f"axon {axon} comes to {what} {int(index[wrong[0]]):,} of {limit:,}"
        raise NmcError(Diagnostic("E1005", text, where=where))


@dataclass(frozen=True, eq=False)
class Synapses:
    """Walks and weights of one core: sums of what a batch of events brings."""

    shape: Shape
    walks: Walks
    weights: Array

    @cached_property
    def _matrix(self) -> Array | None:
        """(axons, neurons) float64, if that is small enough; exact: sums stay below 2**53."""
        shape = self.shape
        if shape.axons * shape.neurons > DENSE_LIMIT:
            return None
        owner = np.repeat(np.arange(shape.axons), self.walks.count)
        place = (owner * shape.groups + self.walks.group)[:, None] * shape.lanes + np.arange(shape.lanes)
        values = self.weights[self.walks.row].reshape(-1)
        size = shape.axons * shape.neurons
        return np.bincount(place.reshape(-1), values, size).reshape(shape.axons, shape.neurons)

    def sums(self, samples: int, sample: Array, axon: Array, payload: Array) -> Array:
        """What events add: (samples, neurons) int64."""
        shape = self.shape
        if self._matrix is not None:
            some, place = np.unique(axon, return_inverse=True)
            size = samples * len(some)
            events = np.bincount(sample * len(some) + place, payload, size).reshape(samples, len(some))
            return np.asarray(np.rint(events @ self._matrix[some]).astype(np.int64))
        at, owner = ranges(self.walks.start[axon], self.walks.count[axon])
        values = self.weights[self.walks.row[at]] * payload[owner, None]
        place = (sample[owner] * shape.groups + self.walks.group[at])[:, None] * shape.lanes + np.arange(
            shape.lanes
        )
        total = np.bincount(place.reshape(-1), values.reshape(-1), samples * shape.neurons)
        return total.reshape(samples, shape.neurons).astype(np.int64)
