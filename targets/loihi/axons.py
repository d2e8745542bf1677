"""Which synapse list each source neuron needs in a core, and which neurons can share one.

A list is shared when it is the same but for a shift: the in-axon entry holds a base (8 bits) that is added to every
index, so a kernel is stored once for all positions that see it whole, once more for each way the box cuts it, and
once for each 256 compartments that the base cannot reach.
"""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, Span, VerifyError
from nmc.ir.ops.mapped import slot_order
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.layout import DELAY_BITS, DENSE, INDEX_BITS, SPARSE
from nmc.targets.loihi.synapses import MAX_RUN, SynFormat, words_needed

Array = NDArray[Any]
Ints = NDArray[np.int64]
Box = tuple[Span, ...]
#: Bases are 8 bits wide (target.toml, limits.cx_base).
BASE = 256


@dataclass(frozen=True)
class AxonLists:
    """The in-axons that one projection needs onto one box.

    Parameters
    ----------
    source : (axons,) int64 array
        Flat index of the source neuron, ascending; neurons without synapses here are left out.
    base : (axons,) int64 array
        Base compartment, 0..255.
    list_of : (axons,) int64 array
        Which list the axon points to.
    offsets : (lists + 1,) int64 array
        Synapses of list i are offsets[i]:offsets[i + 1] of `idx` and `mantissa`.
    idx, mantissa : (synapses,) int64 arrays
        Index field and weight mantissa.
    fmt : SynFormat
        The format chosen for all of them.
    delay : (synapses,) int64 array
        Delay field of each synapse.
    words : (lists,) int64 array
        64-bit words of each list.
    """

    source: Ints
    base: Ints
    list_of: Ints
    offsets: Ints
    idx: Ints
    mantissa: Ints
    fmt: SynFormat
    delay: Ints
    words: Ints


@dataclass(frozen=True)
class _Raw:
    """Lists before a format is chosen; `first` is the position of an axon's first synapse.

    `late` is what a synapse's delay has over that of its projection, for all synapses or for each.
    """

    source: Ints
    first: Ints
    key: Ints
    offsets: Ints
    relative: Ints
    mantissa: Ints
    late: Ints = field(default_factory=lambda: np.zeros(1, np.int64))


def axon_lists(op: Op, box: Box, per_neuron: int, slot_base: int, injected: bool) -> AxonLists:
    """Make the lists of a projection (or of a population's own reset) onto a box.

    Parameters
    ----------
    op : SynapseOp or Lif
        A population stands for the synapses of its soft reset.
    box : tuple of Span
        Part of the target population.
    per_neuron : int
        Compartments of a target neuron; the first of them receives.
    slot_base : int
        Compartment of the box's first neuron.
    injected : bool
        Whether the host sends these spikes (they then arrive one step earlier).
    """
    raw = _raw_lists(op, box)
    start = slot_base + per_neuron * raw.first + (op.membrane if isinstance(op, loihi.Lif) else 0)
    reach = based(per_neuron)
    base, block = start % reach, start // reach
    pairs = raw.key * (1 + block.max(initial=0)) + block
    unique, position, list_of = np.unique(pairs, return_index=True, return_inverse=True)
    shift = block[position] * (reach // per_neuron)
    offsets, idx, mantissa, late = _take(raw, raw.key[position], shift)
    delay = late + delay_field(op, injected)
    fmt, kept = _choose_format(op, idx, mantissa, offsets, per_neuron, int(delay.max(initial=0)))
    if kept is not None:
        offsets, idx, mantissa = _filtered(offsets, idx, mantissa, kept)
        delay = delay[kept]
    words = words_needed(_entries(offsets, idx, fmt), np.diff(offsets), fmt)
    alive = np.diff(offsets)[list_of] > 0
    return AxonLists(
        raw.source[alive], base[alive], list_of.reshape(-1)[alive], offsets, idx, mantissa, fmt, delay, words
    )


def least_words(op: Op, box: Box, per_neuron: int, injected: bool) -> int:
    """Words that the lists of a projection onto a box take at least, wherever in a core the box lies.

    A shared list is written at least once, and indices are shortest from slot 0 on; the same parameters.
    """
    raw = _raw_lists(op, box)
    if not len(raw.source):
        return 0
    start = per_neuron * raw.first + (op.membrane if isinstance(op, loihi.Lif) else 0)
    reach = based(per_neuron)
    sizes = np.diff(raw.offsets)
    tips = np.zeros(len(sizes), np.int64)
    filled = sizes > 0
    tips[filled] = np.maximum.reduceat(raw.relative, raw.offsets[:-1][filled])
    highest = int((tips[raw.key] + start // reach * (reach // per_neuron)).max())
    delay = int(raw.late.max(initial=0)) + delay_field(op, injected)
    fmt, kept = _choose_format(op, raw.relative, raw.mantissa, raw.offsets, per_neuron, delay, highest)
    offsets, idx, _ = (
        (raw.offsets, raw.relative, raw.mantissa)
        if kept is None
        else _filtered(raw.offsets, raw.relative, raw.mantissa, kept)
    )
    return int(words_needed(_entries(offsets, idx, fmt), np.diff(offsets), fmt).sum())


def based(per_neuron: int) -> int:
    """Compartments that bases tell apart: the largest number of whole neurons within `BASE`."""
    return BASE // per_neuron * per_neuron


def source_mask(op: Op, box: Box, size: int) -> NDArray[np.bool_]:
    """Tell which source neurons have a synapse onto the box: (size,) bool."""
    mask = np.zeros(size, bool)
    if isinstance(op, loihi.Sparse):
        mask[op.source.array()[_listed(op, box)[1]]] = True
        return mask
    mask[axon_lists(op, box, 1, 0, injected=False).source] = True
    return mask


def delay_field(op: Op, injected: bool) -> int:
    """Least delay field of a projection: a spike that a core sends is a step late anyway."""
    return op.delay - (0 if injected else 1) if isinstance(op, loihi.SynapseOp) else 0


def _raw_lists(op: Op, box: Box) -> _Raw:
    if isinstance(op, loihi.Conv):
        return _conv_lists(op, box)
    if isinstance(op, loihi.Dense):
        return _dense_lists(op, box)
    if isinstance(op, loihi.Sparse):
        return _sparse_lists(op, box)
    if isinstance(op, loihi.Diagonal):
        return _diagonal_lists(op.mantissas, op.result.shape, box)
    if isinstance(op, loihi.Lif):
        return _diagonal_lists(-op.each("reset_mant"), op.shape, box)
    raise VerifyError(f"{op.name} has no synapses")


def _dense_lists(op: loihi.Dense, box: Box) -> _Raw:
    shape = op.result.shape
    rows = slot_order(np.arange(prod(shape)).reshape(shape)[tuple(span.slice() for span in box)])
    count, sources = len(rows), op.weight.shape[1]
    if op.weight.uniform:
        mantissa = np.full(count, int(op.mantissas.flat[0]))
        lists, key = 1, np.zeros(sources, np.int64)
    else:
        mantissa = np.ascontiguousarray(op.mantissas[rows].T).reshape(-1)
        lists, key = sources, np.arange(sources)
    relative = np.tile(np.arange(count), lists)
    return _Raw(
        np.arange(sources), np.zeros(sources, np.int64), key, np.arange(lists + 1) * count, relative, mantissa
    )


def _listed(op: loihi.Sparse, box: Box) -> tuple[Ints, Ints]:
    """Synapses onto a box that are not zero, by target: position of the target in slot order, and index in the op."""
    grid = np.arange(prod(op.shape)).reshape(op.shape)[tuple(span.slice() for span in box)]
    rows = slot_order(grid)
    order, begin = op.by_target
    count = (begin[1:] - begin[:-1])[rows]
    slot = np.repeat(np.arange(len(rows)), count)
    pick = order[np.arange(len(slot)) + np.repeat(begin[rows] - np.cumsum(count) + count, count)]
    mantissa = op.mantissas if op.mantissas.size == 1 else op.mantissas[pick]
    alive = np.broadcast_to(mantissa != 0, pick.shape)  # a weight of zero is no synapse
    return slot[alive], pick[alive]


def _sparse_lists(op: loihi.Sparse, box: Box) -> _Raw:
    """One list a source neuron that reaches the box, its synapses in the order of their targets."""
    slot, pick = _listed(op, box)
    source = op.source.array()[pick].astype(np.int64)
    by_source = np.argsort(source, kind="stable")
    source, slot, pick = source[by_source], slot[by_source], pick[by_source]
    sources, first, size = np.unique(source, return_index=True, return_counts=True)
    offsets = np.append(first, len(source))
    values = (
        np.full(len(pick), op.mantissas[0]) if op.mantissas.size == 1 and len(pick) else op.mantissas[pick]
    )
    late = np.zeros(len(pick), np.int64) if op.late is None else op.late.array()[pick].astype(np.int64)
    base = slot[first]
    return _Raw(sources, base, np.arange(len(sources)), offsets, slot - np.repeat(base, size), values, late)


def _diagonal_lists(weight: Array, shape: tuple[int, ...], box: Box) -> _Raw:
    cut = tuple(span.slice() for span in box)
    source = slot_order(np.arange(prod(shape)).reshape(shape)[cut])
    values = slot_order(np.broadcast_to(weight, shape)[cut])
    distinct, key = np.unique(values, return_inverse=True)
    order = np.argsort(source, kind="stable")
    return _Raw(
        source[order], order.astype(np.int64), key.reshape(-1)[order], np.arange(len(distinct) + 1),
        np.zeros(len(distinct), np.int64), distinct.astype(np.int64),
    )  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """How the coordinates of one source axis see the box: pattern and first target of each, -1 for none."""

    pattern: Ints
    first: Ints
    patterns: tuple[tuple[tuple[int, int], ...], ...]


@lru_cache(maxsize=4096)
def _axis(extent: int, span: Span, stride: int, pad: int, kernel: int, dilation: int) -> Axis:
    """List, for each source coordinate, the pairs (target - first target, kernel position)."""
    target, position = np.meshgrid(np.arange(span.start, span.stop), np.arange(kernel), indexing="ij")
    source = target * stride - pad + position * dilation
    pattern, first = np.full(extent, -1), np.zeros(extent, np.int64)
    known: dict[tuple[tuple[int, int], ...], int] = {}
    for coordinate in range(extent):
        seen = source == coordinate
        if seen.any():
            hits, where = target[seen], position[seen]
            first[coordinate] = hits[0] - span.start
            pairs = tuple(zip((hits - hits[0]).tolist(), where.tolist(), strict=True))
            pattern[coordinate] = known.setdefault(pairs, len(known))
    return Axis(pattern, first, tuple(known))


def conv_axes(op: loihi.Conv, box: Box) -> list[Axis]:
    """How rows and columns of the source see the box; a line is an image of one row."""
    shape = op.spikes.shape
    axes = [
        _axis(shape[1 + a], box[1 + a], op.stride[a], op.pad[a], op.weight.shape[2 + a], op.dilation[a])
        for a in range(len(op.stride))
    ]
    flat = Axis(np.zeros(1, np.int64), np.zeros(1, np.int64), (((0, 0),),))
    return axes if len(axes) == 2 else [flat, *axes]


def _conv_lists(op: loihi.Conv, box: Box) -> _Raw:
    shape, axes = op.spikes.shape, conv_axes(op, box)
    low, high = channel_ranges(op, box[0])
    width, channels = len(box[-1]), len(box[0])
    grid = np.meshgrid(np.arange(shape[0]), axes[0].pattern, axes[1].pattern, indexing="ij")
    firsts = np.meshgrid(low - box[0].start, axes[0].first, axes[1].first, indexing="ij")
    alive = ((grid[1] >= 0) & (grid[2] >= 0) & (high > low)[:, None, None]).reshape(-1)
    channel, row, column = (item.reshape(-1)[alive] for item in grid)
    first = ((firsts[1] * width + firsts[2]) * channels + firsts[0]).reshape(-1)[alive]
    code = (channel * len(axes[0].patterns) + row) * len(axes[1].patterns) + column
    unique, position, key = np.unique(code, return_index=True, return_inverse=True)
    lists = _expand(op, box, axes, channel[position], row[position], column[position], (low, high))
    return _Raw(np.flatnonzero(alive), first, key.reshape(-1), *lists)


def channel_ranges(op: loihi.Conv, span: Span) -> tuple[Ints, Ints]:
    """Output channels of the box that each input channel reaches: [low, high)."""
    inputs = op.weight.shape[1]
    outputs = op.weight.shape[0] // op.groups
    group = np.arange(op.spikes.shape[0]) // inputs
    return np.maximum(group * outputs, span.start), np.minimum((group + 1) * outputs, span.stop)


def _expand(
    op: loihi.Conv,
    box: Box,
    axes: list[Axis],
    channel: Ints,
    row: Ints,
    column: Ints,
    reach: tuple[Ints, Ints],
) -> tuple[Ints, Ints, Ints]:
    """Write the distinct lists out, all channels of one cut of the kernel at a time."""
    width, channels = len(box[-1]), len(box[0])
    weight = op.mantissas.reshape(
        *op.weight.shape[:2], *([1] if len(op.stride) == 1 else []), *op.weight.shape[2:]
    )
    low, high = reach[0][channel], reach[1][channel]
    cut = np.stack([row, column, low, high], axis=1)
    kinds, kind_of = np.unique(cut, axis=0, return_inverse=True)
    sizes = np.zeros(len(channel), np.int64)
    pieces: list[tuple[Ints, Ints, Ints]] = []
    for number, (r, c, lowest, highest) in enumerate(kinds.tolist()):
        mine = np.flatnonzero(kind_of.reshape(-1) == number)
        dy, ky = np.array(axes[0].patterns[r]).T
        dx, kx = np.array(axes[1].patterns[c]).T
        place = (dy[:, None] * width + dx[None, :])[:, :, None] * channels + np.arange(highest - lowest)
        local = channel[mine] % weight.shape[1]
        values = weight[lowest:highest][:, local][:, :, ky][:, :, :, kx]
        sizes[mine] = place.size
        pieces.append((mine, place.reshape(-1), values.transpose(1, 2, 3, 0).reshape(len(mine), -1)))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    relative = np.zeros(int(offsets[-1]), np.int64)
    mantissa = np.zeros(int(offsets[-1]), np.int64)
    for mine, place, values in pieces:
        slots = offsets[mine][:, None] + np.arange(len(place))
        relative[slots], mantissa[slots] = place, values
    return offsets, relative, mantissa


def _take(raw: _Raw, key: Ints, shift: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Copy the lists `key`, moved by `shift`, one after another."""
    sizes = np.diff(raw.offsets)[key]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    pick = np.arange(int(offsets[-1])) + np.repeat(raw.offsets[key] - offsets[:-1], sizes)
    late = raw.late[pick] if raw.late.size == raw.relative.size else np.broadcast_to(raw.late, pick.shape)
    return offsets, raw.relative[pick] + np.repeat(shift, sizes), raw.mantissa[pick], late


def _filtered(offsets: Ints, idx: Ints, mantissa: Ints, kept: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    counts = np.concatenate([[0], np.cumsum(kept)])
    return counts[offsets], idx[kept], mantissa[kept]


def _entries(offsets: Ints, idx: Ints, fmt: SynFormat) -> Ints:
    """Entries of each list: runs of consecutive indices (DENSE) of at most 64 synapses."""
    sizes = np.diff(offsets)
    if fmt.compression == SPARSE:
        return -(-sizes // MAX_RUN)
    opens = np.ones(len(idx), bool)
    opens[1:] = idx[1:] != idx[:-1] + 1
    opens[offsets[:-1][sizes > 0]] = True
    runs = np.flatnonzero(opens)
    pieces = -(-np.diff(runs, append=len(idx)) // MAX_RUN)
    totals = np.concatenate([[0], np.cumsum(pieces)])
    entries: Ints = np.diff(totals[np.searchsorted(runs, offsets)])
    return entries


def format_of(op: Op, highest: int, per_neuron: int, delay: int, compression: int) -> SynFormat:
    """The format of a projection's synapses with indices up to `highest`, in one of the two codings."""
    bits, exp, fanout = 8, 0, 3
    if isinstance(op, loihi.SynapseOp):
        bits, exp, fanout = op.bits, op.exp, loihi.FANOUT[op.sign]
    elif isinstance(op, loihi.Lif):
        exp = op.reset_exp
    return SynFormat(
        wgt_bits=bits,
        idx_bits=next(width for width in INDEX_BITS[1:] if highest < 1 << width or width == INDEX_BITS[-1]),
        dly_bits=next(width for width in DELAY_BITS if delay < 1 << width),
        wgt_exp=exp,
        compression=compression,
        fanout_type=fanout,
        cidx_mult=per_neuron - 1,
    )


def _choose_format(
    op: Op, idx: Ints, mantissa: Ints, offsets: Ints, per_neuron: int, delay: int, highest: int = 0
) -> tuple[SynFormat, NDArray[np.bool_] | None]:
    """Take the smaller of the two codings, for indices up to `highest` at least; the sparse one leaves out zeros."""
    highest = max(highest, int(idx.max(initial=0)))
    dense = format_of(op, highest, per_neuron, delay, DENSE)
    sparse = format_of(op, highest, per_neuron, delay, SPARSE)
    kept = mantissa != 0
    thin = _filtered(offsets, idx, mantissa, kept)
    dense_words = words_needed(_entries(offsets, idx, dense), np.diff(offsets), dense).sum()
    sparse_words = words_needed(_entries(thin[0], thin[1], sparse), np.diff(thin[0]), sparse).sum()
    if sparse_words < dense_words:
        return sparse, kept
    # A list without any weight needs no axon even where its neighbours are written out densely.
    some = (
        np.add.reduceat(np.append(kept, False), offsets[:-1]) > 0 if len(offsets) > 1 else np.zeros(0, bool)
    )
    some &= np.diff(offsets) > 0
    return dense, np.repeat(some, np.diff(offsets))
