"""How many axons and words a projection takes at most, from its structure alone.

`nmc.targets.loihi.axons` makes the lists themselves; here their number and length are counted without looking at a
weight, which is what cutting a population into boxes needs thousands of times. The count is exact but for weights
that are zero, which it counts as synapses.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, Span
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.axons import (
    axon_lists,
    based,
    channel_ranges,
    conv_axes,
    delay_field,
    format_of,
    least_words,
)
from nmc.targets.loihi.layout import DENSE, SPARSE
from nmc.targets.loihi.synapses import MAX_RUN, words_needed

Ints = NDArray[np.int64]
Box = tuple[Span, ...]


@dataclass(frozen=True)
class Counts:
    """In-axons, synapse words and the words of the longest list."""

    axons: int
    words: int
    longest: int


@dataclass(frozen=True)
class _Kinds:
    """Lists of one length and shape: how many, synapses of each, runs of consecutive indices of at most 64."""

    lists: Ints
    synapses: Ints
    runs: Ints
    highest: int
    axons: int


def axon_counts(
    op: Op, box: Box, per_neuron: int, slot_base: int, injected: bool, anywhere: bool = False
) -> Counts:
    """Count what `nmc.targets.loihi.axons.axon_lists` would make, at most; the same parameters.

    Synapses that are listed one by one have no structure to count: their lists are made. With `anywhere`, a list that
    is shared counts as often as it must be written at least, whatever the first slot is: indices are shortest from
    slot 0 on, but there the blocks that a base reaches may cut the box more often than elsewhere.
    """
    if isinstance(op, loihi.Sparse):
        return list_counts(op, box, per_neuron, slot_base, injected)
    if isinstance(op, loihi.Conv):
        kinds = _conv_kinds(op, box, per_neuron, slot_base, anywhere)
    elif isinstance(op, loihi.Dense):
        kinds = _dense_kinds(op, box, per_neuron, slot_base)
    else:
        weight = (
            op.reset_each
            if isinstance(op, loihi.Lif)
            else op.weight
            if isinstance(op, loihi.Diagonal)
            else None
        )
        shared = weight is None or weight.uniform
        first = slot_base + (op.membrane if isinstance(op, loihi.Lif) else 0)
        kinds = _diagonal_kinds(box, per_neuron, first, shared, anywhere)
    best: Counts | None = None
    for compression in (DENSE, SPARSE):
        fmt = format_of(op, kinds.highest, per_neuron, delay_field(op, injected), compression)
        entries = kinds.runs if compression == DENSE else -(-kinds.synapses // MAX_RUN)
        words = words_needed(entries, kinds.synapses, fmt)
        found = Counts(kinds.axons, int((words * kinds.lists).sum()), int(words.max(initial=0)))
        best = found if best is None or found.words < best.words else best
    assert best is not None, "two codings were tried"
    return best


def list_counts(
    op: Op, box: Box, per_neuron: int, slot_base: int, injected: bool, anywhere: bool = False
) -> Counts:
    """Count the lists themselves, exactly; with `anywhere` the words that they take at least from any slot on."""
    lists = axon_lists(op, box, per_neuron, slot_base, injected)
    words = least_words(op, box, per_neuron, injected) if anywhere else int(lists.words.sum())
    return Counts(len(lists.source), words, int(lists.words.max(initial=0)))


def _one(lists: int, synapses: int, runs: int, highest: int, axons: int) -> _Kinds:
    return _Kinds(np.array([lists]), np.array([synapses]), np.array([runs]), highest, axons)


def _dense_kinds(op: loihi.Dense, box: Box, per_neuron: int, slot_base: int) -> _Kinds:
    count, sources = prod(len(span) for span in box), op.weight.shape[1]
    reach = based(per_neuron)
    highest = slot_base // reach * (reach // per_neuron) + count - 1
    lists = 1 if op.weight.uniform else sources
    return _one(lists, count, -(-count // MAX_RUN), highest, sources)


def _diagonal_kinds(box: Box, per_neuron: int, slot_base: int, shared: bool, anywhere: bool) -> _Kinds:
    """One list a block where all weights are the same, at most one a neuron where they are not."""
    count = prod(len(span) for span in box)
    last = slot_base + per_neuron * (count - 1)
    reach = based(per_neuron)
    blocks = (last - slot_base if anywhere else last) // reach - (0 if anywhere else slot_base // reach) + 1
    lists = blocks if shared else 1 if anywhere else count  # equal weights of different neurons share a list
    return _one(lists, 1, 1, last // reach * (reach // per_neuron), count)


def _conv_kinds(op: loihi.Conv, box: Box, per_neuron: int, slot_base: int, anywhere: bool) -> _Kinds:
    rows, columns = conv_axes(op, box)
    low, high = channel_ranges(op, box[0])
    width, channels, base = len(box[-1]), len(box[0]), based(per_neuron)
    reach, members = np.unique(np.stack([low, high], axis=1), axis=0, return_counts=True)
    table: list[tuple[int, int, int]] = []
    highest = axons = 0
    for y, dy in enumerate(rows.patterns):
        first_y = rows.first[rows.pattern == y]
        for x, dx in enumerate(columns.patterns):
            first_x = columns.first[columns.pattern == x]
            corner = (first_y[:, None] * width + first_x[None, :]).reshape(-1) * channels
            steps = np.array([a * width + b for a, _ in dy for b, _ in dx]) * channels
            for (lowest, top), count in zip(reach.tolist(), members.tolist(), strict=True):
                if top <= lowest:
                    continue
                blocks = np.unique((slot_base + per_neuron * (corner + lowest - box[0].start)) // base)
                written = _fewest_blocks(per_neuron * corner, base) if anywhere else len(blocks)
                table.append((count * written, len(steps) * (top - lowest), _runs(steps, top - lowest)))
                axons += count * len(corner)
                tip = int(blocks[-1]) * (base // per_neuron) + int(steps[-1]) + top - lowest - 1
                highest = max(highest, tip)
    columns_of = np.array(table, np.int64).reshape(-1, 3)
    return _Kinds(columns_of[:, 0], columns_of[:, 1], columns_of[:, 2], highest, axons)


def _fewest_blocks(places: Ints, reach: int) -> int:
    """How many ranges of `reach` compartments hold all places, wherever they begin."""
    left, found = np.sort(places), 0
    while len(left):
        left, found = left[np.searchsorted(left, left[0] + reach) :], found + 1
    return found


def _runs(steps: Ints, channels: int) -> int:
    """Entries of a dense list: `channels` consecutive indices from each step on, joined where they touch."""
    breaks = np.flatnonzero(np.diff(steps) != channels)
    lengths = np.diff(np.concatenate([[-1], breaks, [len(steps) - 1]])) * channels
    return int((-(-lengths // MAX_RUN)).sum())
