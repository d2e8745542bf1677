"""What spikes bring to the ring in the fast engine: products with matrices, and lists of synapses.

``dense8`` rows are matrices; those that the same neurons feed, and those that feed the same sums, are joined, so that
a layer is one product however many PEs share it. All other rows become one table of synapses by source neuron for the
whole chip, of which only the rows of spikes are visited. All sums are exact: products in single precision below 2^24,
in double below 2^53, else in integers; then they wrap to 32 bits as the ring does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.targets.spinnaker2.load import LoadedEntry

Array = NDArray[Any]

#: Synaptic events that are added up at once: they should fit the caches.
_EVENTS = 1 << 18


class Sent:
    """What the neurons of a block send in a tick.

    Parameters
    ----------
    payloads : (B, n) array of integers
    binary : bool
        Whether they are known to be 0 and 1 only.

    Attributes
    ----------
    spikes : (B, n) float32 array
        1 where something is sent.
    counts : (n,) float64 array
        Samples in which each neuron sends.
    largest : int
        The largest payload, signs aside.
    """

    def __init__(self, payloads: Array, *, binary: bool) -> None:
        self.payloads, self._binary = payloads, binary
        self.spikes = (payloads if binary else payloads != 0).astype(np.float32)
        batch = len(payloads)
        ones: Array = np.ones(batch, np.float32 if batch < 1 << 24 else np.float64)
        self.counts: NDArray[np.float64] = (ones @ self.spikes).astype(np.float64)
        self.largest = int(self.counts.any())
        if self.largest and not binary:
            self.largest = max(int(payloads.max()), -int(payloads.min()))

    def reals(self, kind: Any) -> Array:
        """The payloads as numbers of a type."""
        return (self.spikes if self._binary else self.payloads).astype(kind, copy=False)


@dataclass(frozen=True, eq=False)
class _Piece:
    """Rows `rows` of an entry, at (top, left) of a matrix."""

    top: int
    left: int
    entry: LoadedEntry
    rows: Array

    def moved(self, down: int, right: int) -> _Piece:
        """The same elsewhere."""
        return _Piece(self.top + down, self.left + right, self.entry, self.rows)


@dataclass(frozen=True, eq=False)
class DenseLink:
    """Neurons `neurons` of a block through a matrix to the columns of the ring from `column` on, `field` slots on.

    `peaks` are the largest sums of weights onto each column.
    """

    block: int
    neurons: NDArray[np.int64]
    field: int
    column: int
    peaks: NDArray[np.float64]
    pieces: tuple[_Piece, ...]

    def matrix(self, kind: Any) -> Array:
        """Weights times gains as numbers of a type."""
        found = np.zeros((self.neurons.size, self.peaks.size), kind)
        for piece in self.pieces:
            assert piece.entry.dense is not None
            part = piece.entry.dense[piece.rows].astype(np.int64) * piece.entry.gain
            found[piece.top : piece.top + len(part), piece.left : piece.left + part.shape[1]] = part
        return found


def dense_link(
    block: int, neurons: NDArray[np.int64], entry: LoadedEntry, rows: Array, column: int
) -> DenseLink:
    """What neurons of a block bring through rows of a ``dense8`` entry to a PE whose sums begin at `column`."""
    assert entry.dense is not None
    peaks = np.abs(entry.dense[rows].astype(np.float64)).sum(axis=0) * abs(entry.gain)
    late, _, target = entry.dense_at
    return DenseLink(block, neurons, late, column + target, peaks, (_Piece(0, 0, entry, rows),))


def joined(links: Iterable[DenseLink]) -> list[DenseLink]:
    """The same with fewer, larger matrices."""
    wide = _merge(
        links,
        lambda link: (link.block, link.field, link.neurons.tobytes()),
        lambda link: link.column,
        _beside,
    )
    return _merge(
        wide,
        lambda link: (link.block, link.field, link.column, link.peaks.size),
        lambda link: int(link.neurons[0]),
        _below,
    )


def _merge(
    links: Iterable[DenseLink],
    alike: Callable[[DenseLink], Any],
    order: Callable[[DenseLink], int],
    join: Callable[[DenseLink, DenseLink], DenseLink | None],
) -> list[DenseLink]:
    """Join neighbours among links that are alike, where `join` can."""
    groups: dict[Any, list[DenseLink]] = {}
    for link in links:
        groups.setdefault(alike(link), []).append(link)
    found: list[DenseLink] = []
    for group in groups.values():
        first, *others = sorted(group, key=order)
        for link in others:
            both = join(first, link)
            if both is None:
                found.append(first)
            first = link if both is None else both
        found.append(first)
    return found


def _beside(a: DenseLink, b: DenseLink) -> DenseLink | None:
    """Two matrices of the same neurons, where the columns of `b` follow those of `a`."""
    if a.column + a.peaks.size != b.column:
        return None
    moved = tuple(piece.moved(0, a.peaks.size) for piece in b.pieces)
    peaks = np.concatenate([a.peaks, b.peaks])
    return DenseLink(a.block, a.neurons, a.field, a.column, peaks, (*a.pieces, *moved))


def _below(a: DenseLink, b: DenseLink) -> DenseLink:
    """Two matrices onto the same columns."""
    moved = tuple(piece.moved(a.neurons.size, 0) for piece in b.pieces)
    neurons = np.concatenate([a.neurons, b.neurons])
    return DenseLink(a.block, neurons, a.field, a.column, a.peaks + b.peaks, (*a.pieces, *moved))


class DenseSum:
    """Adds what a `DenseLink` brings."""

    def __init__(self, link: DenseLink, size: int) -> None:
        self.block, self.field = link.block, link.field
        self._link, self._peak = link, float(link.peaks.max(initial=0))
        self._neurons = None if np.array_equal(link.neurons, np.arange(size)) else link.neurons
        self._columns = slice(link.column, link.column + link.peaks.size)
        self._weights: dict[Any, Array] = {}

    def add(self, slot: Array, sent: Sent) -> None:
        """Add what a block sends to a slot of the ring (B, columns)."""
        peak = self._peak * sent.largest
        kind: Any = np.float32 if peak < 2**24 else np.float64 if peak < 2**53 else np.int64
        if kind not in self._weights:
            self._weights[kind] = self._link.matrix(kind)
        weights, reals, counts = self._weights[kind], sent.reals(kind), sent.counts
        if self._neurons is not None:
            reals, counts = reals[:, self._neurons], counts[self._neurons]
        active = np.flatnonzero(counts)
        if 4 * active.size < counts.size:
            reals, weights = reals[:, active], weights[active]
        wrapping = np.int32 if kind is np.float32 else np.int64
        product = (reals @ weights).astype(wrapping)
        slot[:, self._columns] += product.astype(np.int32, copy=False)


@dataclass(frozen=True, eq=False)
class Synapses:
    """Synapses of the whole chip by source neuron: those of neuron i are ``starts[i]`` to ``starts[i + 1]``."""

    starts: NDArray[np.int64]
    field: NDArray[np.int8]
    column: NDArray[np.int32]
    weight: NDArray[np.int32]

    def add(self, ring: Array, t: int, sample: Array, neuron: Array, payload: Array) -> None:
        """Add what spikes bring to the ring (slots, B, columns)."""
        lengths = self.starts[neuron + 1] - self.starts[neuron]
        ends = np.cumsum(lengths)
        first = 0
        while first < neuron.size:
            done = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, done + _EVENTS, "right")), first + 1)
            part = slice(first, last)
            self._some(ring, t, sample[part], self.starts[neuron[part]], lengths[part], payload[part])
            first = last

    def _some(self, ring: Array, t: int, sample: Array, start: Array, lengths: Array, payload: Array) -> None:
        slots, batch, columns = ring.shape
        ends = np.cumsum(lengths)
        synapse = np.repeat(start - (ends - lengths), lengths)
        synapse += np.arange(synapse.size)
        slot = (t + self.field[synapse].astype(np.int64)) & (slots - 1) if slots > 1 else 0
        at = np.repeat(sample * columns, lengths)
        at += self.column[synapse]
        at += slot * (batch * columns)
        np.add.at(ring.reshape(-1), at, self.weight[synapse] * np.repeat(payload, lengths))


def listed(neurons: Array, entry: LoadedEntry, rows: Array, columns: Array) -> tuple[Array, ...]:
    """Source neuron, delay field, ring column and weight of every synapse of rows of an entry.

    `columns` are those where the sums of each synapse type begin on the PE.
    """
    lengths = np.diff(entry.starts)[rows]
    which = np.repeat(np.arange(rows.size), lengths)
    at = np.arange(which.size) + (entry.starts[rows] - (np.cumsum(lengths) - lengths))[which]
    column = columns[entry.type[at]] + entry.target[at]
    weight = (entry.weight[at] * entry.gain).astype(np.int32)
    return neurons[which], entry.field[at].astype(np.int8), column.astype(np.int32), weight


def table(lists: Sequence[tuple[Array, ...]], neurons: int) -> Synapses:
    """All lists as one table."""
    if not lists:
        none = np.zeros(0, np.int32)
        return Synapses(np.zeros(neurons + 1, np.int64), none.astype(np.int8), none, none)
    source, late, column, weight = (np.concatenate(part) for part in zip(*lists, strict=True))
    order = np.argsort(source, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=neurons))]).astype(np.int64)
    return Synapses(starts, late[order], column[order], weight[order])
