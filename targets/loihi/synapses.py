"""Synapse memory: formats, encoder and decoder of the entries in the 64-bit words of a core.

The words from an in-axon's `ptr` on are one little-endian bit stream of entries, packed back to back (NxTF
style, facts 1 and 6): format id 4, number of synapses minus 1 in 6, the first index in `idx_bits` unless the
format is SPARSE; then per synapse: index (SPARSE only), delay, tag, weight. Format id 0, or fewer than 10
bits left in the words of the axon, ends the list. The k-th synapse of a DENSE entry has index first + k. The
compartment is `cx_base + cidx_offset + index * (cidx_mult + 1)`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.targets.loihi.layout import (
    DELAY_BITS,
    DENSE,
    INDEX_BITS,
    MIXED,
    POP16,
    SPARSE,
    TABLES,
    WEIGHT_BITS,
    Ints,
    Words,
    pack,
    unpack,
)
from nmc.targets.loihi.weights import decode_register, encode_register

ENTRY_BITS = 10
MAX_RUN = 64
# Bounds for untrusted images: no mapped network comes near them (4,096 axons x 1,024 compartments = 4 M
# synapses).
MAX_ROWS = 1 << 18
MAX_SYNAPSES = 1 << 23


@dataclass(frozen=True)
class SynFormat:
    """A synapse format in plain numbers (bit counts, not codes).

    Parameters
    ----------
    wgt_bits, idx_bits, dly_bits, tag_bits : int
        Out of `WEIGHT_BITS`, `INDEX_BITS`, `DELAY_BITS` and 0..3.
    wgt_exp : int
        -8..7.
    compression : int
        `SPARSE` or `DENSE`.
    fanout_type : int
        `MIXED`, `EXCITATORY` or `INHIBITORY`.
    cidx_offset, cidx_mult : int
        0..15.
    """

    wgt_bits: int = 8
    idx_bits: int = 10
    dly_bits: int = 0
    tag_bits: int = 0
    wgt_exp: int = 0
    compression: int = SPARSE
    fanout_type: int = MIXED
    cidx_offset: int = 0
    cidx_mult: int = 0

    def word(self) -> int:
        """Give the `syn_fmt` word; raises NmcError E0513 for numbers that no code stands for."""
        legal = (
            ("wgt_bits", self.wgt_bits, WEIGHT_BITS),
            ("idx_bits", self.idx_bits, INDEX_BITS),
            ("dly_bits", self.dly_bits, DELAY_BITS),
            ("compression", self.compression, (SPARSE, DENSE)),
            ("fanout_type", self.fanout_type, (1, 2, 3)),
        )
        bad = [Diagnostic("E0513", f"{name} {v} is not one of {ok}") for name, v, ok in legal if v not in ok]
        if bad:
            raise NmcError(bad)
        values = {f.name: getattr(self, f.name) for f in TABLES["syn_fmt"].fields if hasattr(self, f.name)}
        values |= {"wgt_bits": WEIGHT_BITS.index(self.wgt_bits), "idx_bits": INDEX_BITS.index(self.idx_bits)}
        return int(pack("syn_fmt", values | {"num_synapses": MAX_RUN - 1})[0])

    @property
    def entry_bits(self) -> int:
        """Bits of an entry without its synapses."""
        return ENTRY_BITS + (self.idx_bits if self.compression == DENSE else 0)

    @property
    def synapse_bits(self) -> int:
        """Bits of one synapse."""
        index = self.idx_bits if self.compression == SPARSE else 0
        return index + self.dly_bits + self.tag_bits + self.wgt_bits


def words_needed(entries: ArrayLike, synapses: ArrayLike, fmt: SynFormat) -> Ints:
    """Count the words of lists of one format, exactly: `entries` entries with `synapses` synapses in all."""
    bits = np.asarray(entries, np.int64) * fmt.entry_bits + np.asarray(synapses, np.int64) * fmt.synapse_bits
    return -(-bits // 64)


@dataclass(frozen=True)
class AxonLists:
    """Encoded lists: `words[offsets[i]:offsets[i+1]]` belongs to list i; `entries[i]` counts its entries."""

    words: Words
    offsets: Ints
    entries: Ints


def encode_axon_lists(
    formats: Mapping[int, SynFormat],
    offsets: ArrayLike,
    fmt: ArrayLike,
    idx: ArrayLike,
    delay: ArrayLike,
    mantissa: ArrayLike,
) -> AxonLists:
    """Encode synapse lists into words, every list from a word boundary.

    Synapses stay in the order given. A new entry starts where the format changes, after 64 synapses, and in a
    DENSE format where the index is not the one before plus 1.

    Parameters
    ----------
    formats : mapping of format id (1..15) to SynFormat
    offsets : int array, lists + 1
        List i holds synapses offsets[i] .. offsets[i+1]-1. A list without synapses has no words.
    fmt, idx, delay, mantissa : int arrays (scalars broadcast)
        Format id, index field, delay, representable weight mantissa of each synapse.

    Raises
    ------
    NmcError
        E0513 for an index, delay or format id that does not fit, E0512 for a mantissa that does not.
    """
    bounds = np.asarray(offsets, np.int64)
    total = int(bounds[-1])
    fmt_a, idx_a, dly_a, man_a = (
        np.broadcast_to(np.asarray(a, np.int64), (total,)) for a in (fmt, idx, delay, mantissa)
    )
    table = _format_table(formats)
    value, width = _synapse_tokens(formats, table, fmt_a, idx_a, dly_a, man_a)
    first = _entry_starts(bounds, fmt_a, idx_a, table["dense"][fmt_a])
    sizes = np.diff(first, append=total)
    dense = table["dense"][fmt_a[first]]
    head = fmt_a[first] | (sizes - 1) << 4 | np.where(dense, idx_a[first], 0) << ENTRY_BITS
    head_width = ENTRY_BITS + np.where(dense, table["idx_bits"][fmt_a[first]], 0)
    tokens = np.insert(value, first, head)
    widths = np.insert(width, first, head_width)
    entry_of_list = np.searchsorted(first, bounds)
    words, word_offsets = _pack_bits(tokens, widths, bounds + entry_of_list)
    return AxonLists(words, word_offsets, np.diff(entry_of_list))


def _format_table(formats: Mapping[int, SynFormat]) -> dict[str, Ints]:
    """Lay format numbers out as arrays over the 16 ids."""
    names = ("wgt_bits", "idx_bits", "dly_bits", "tag_bits", "fanout_type")
    table = {name: np.zeros(16, np.int64) for name in (*names, "dense", "known")}
    for key, f in formats.items():
        f.word()
        if not 1 <= key <= 15:
            raise fail("E0513", f"synapse format id {key} is not in 1..15")
        for name in names:
            table[name][key] = getattr(f, name)
        table["dense"][key] = f.compression == DENSE
        table["known"][key] = 1
    return table


def _synapse_tokens(
    formats: Mapping[int, SynFormat],
    table: dict[str, Ints],
    fmt: Ints,
    idx: Ints,
    delay: Ints,
    mantissa: Ints,
) -> tuple[Ints, Ints]:
    """Give value and width of each synapse's bits."""
    in_range = (fmt >= 1) & (fmt <= 15)
    if not in_range.all() or not table["known"][fmt].all():
        raise fail("E0513", "a synapse names a format that is not given")
    idx_bits, dly_bits = table["idx_bits"][fmt], table["dly_bits"][fmt]
    for name, v, bits in (("index", idx, idx_bits), ("delay", delay, dly_bits)):
        bad = (v < 0) | (v >> bits > 0)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise fail("E0513", f"{name} {v[at]} does not fit {bits[at]} bits ({int(bad.sum())} synapses)")
    register = np.zeros(fmt.size, np.int64)
    for key, f in formats.items():
        mine = fmt == key
        register[mine] = encode_register(mantissa[mine], f.wgt_bits, f.fanout_type)
    own_idx = np.where(table["dense"][fmt], 0, idx_bits)
    low = own_idx + dly_bits
    value = np.where(own_idx > 0, idx, 0) | delay << own_idx | register << (low + table["tag_bits"][fmt])
    return value, low + table["tag_bits"][fmt] + table["wgt_bits"][fmt]


def _entry_starts(bounds: Ints, fmt: Ints, idx: Ints, dense: Ints) -> Ints:
    """Give the positions of the synapses that open an entry."""
    if not fmt.size:
        return np.zeros(0, np.int64)
    opens = np.zeros(fmt.size, bool)
    opens[bounds[:-1][np.diff(bounds) > 0]] = True
    opens[1:] |= fmt[1:] != fmt[:-1]
    opens[1:] |= (dense[1:] > 0) & (idx[1:] != idx[:-1] + 1)
    runs = np.flatnonzero(opens)
    inside = np.arange(fmt.size) - np.repeat(runs, np.diff(runs, append=fmt.size))
    return np.flatnonzero(inside % MAX_RUN == 0)


def _pack_bits(value: Ints, width: Ints, bounds: Ints) -> tuple[Words, Ints]:
    """Concatenate tokens of at most 32 bits; the tokens of list i are bounds[i] .. bounds[i+1]-1."""
    ends = np.concatenate([[0], np.cumsum(width)])
    bits = np.diff(ends[bounds])
    offsets = np.concatenate([[0], np.cumsum(-(-bits // 64))])
    skip = offsets[:-1] * 64 - ends[bounds[:-1]]
    position = ends[:-1] + np.repeat(skip, np.diff(bounds))
    words = np.zeros(int(offsets[-1]) + 1, np.uint64)
    if value.size:
        word, shift = position >> 6, (position & 63).astype(np.uint64)
        raw = value.astype(np.uint64)
        opens = np.flatnonzero(np.diff(word, prepend=-1))
        words[word[opens]] = np.bitwise_or.reduceat(raw << shift, opens)
        spills = shift.astype(np.int64) + width > 64
        words[word[spills] + 1] |= raw[spills] >> (np.uint64(64) - shift[spills])
    return words[:-1], offsets


@dataclass(frozen=True)
class InAxons:
    """The in-axons of a core, one row per (in-axon, atom).

    Attributes
    ----------
    axon, atom : int64 arrays over rows, ascending
    kind, rows, first_row : int64 arrays over the 4,096 `syn_map` entries
        Type code (0 empty), number of rows, first row.
    """

    axon: Ints
    atom: Ints
    kind: Ints
    rows: Ints
    first_row: Ints


@dataclass(frozen=True)
class Synapses:
    """The synapses of a core as CSR over the rows of `InAxons`.

    Attributes
    ----------
    indptr : int64 array, rows + 1
    cx, delay, mantissa, exponent, fanout, fmt : int64 arrays over synapses
    dense : bool array over synapses: it sits in a DENSE entry
    """

    indptr: Ints
    cx: Ints
    delay: Ints
    mantissa: Ints
    exponent: Ints
    fanout: Ints
    fmt: Ints
    dense: NDArray[np.bool_]


def decode_axons(tables: Mapping[str, Words], where: str = "") -> tuple[InAxons, Synapses]:
    """Follow all in-axons of a core through its synapse memory.

    Parameters
    ----------
    tables : mapping of section name to words (`CoreImage.tables`)
    where : str
        Named in the diagnostics.

    Raises
    ------
    NmcError
        E0523 formats, E0524 in-axon pointers, E0525 malformed lists, E0531 more synapses than any real core
        holds.
    """
    formats = _decode_formats(tables["syn_fmt"], where)
    axons, start, length, cx_base = _decode_in_axons(tables["syn_map"], where)
    lists, list_of_row = np.unique(np.stack([start, length], axis=1), axis=0, return_inverse=True)
    list_of_row = list_of_row.reshape(-1)
    memory = np.zeros(TABLES["syn_mem"].entries + 2, np.uint64)
    memory[: tables["syn_mem"].size] = tables["syn_mem"]
    entries = _walk_entries(memory, formats, lists[:, 0] * 64, (lists[:, 0] + lists[:, 1]) * 64, where)
    count = np.bincount(entries["list"], weights=entries["n"], minlength=len(lists)).astype(np.int64)
    per_row = count[list_of_row]
    if int(per_row.sum()) > MAX_SYNAPSES:
        raise fail(
            "E0531",
            f"the in-axons hold {int(per_row.sum()):,} synapses, more than {MAX_SYNAPSES:,}",
            where=where,
        )
    flat = _expand_entries(memory, formats, entries)
    list_start = np.cumsum(count) - count
    pick = _ranges(list_start[list_of_row], per_row)
    cx = np.repeat(cx_base, per_row) + flat["offset"][pick]
    indptr = np.concatenate([[0], np.cumsum(per_row)])
    rest = {k: flat[k][pick] for k in ("delay", "mantissa", "exponent", "fanout", "fmt")}
    return axons, Synapses(indptr, cx, dense=flat["dense"][pick].astype(bool), **rest)


def _ranges(start: Ints, count: Ints) -> Ints:
    """Concatenate start[i] .. start[i]+count[i]-1."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if ends.size else 0
    return np.asarray(np.arange(total) + np.repeat(start - (ends - count), count), np.int64)


def _decode_formats(words: Words, where: str) -> dict[str, Ints]:
    """Check the 16 formats and turn codes into bit counts."""
    f = unpack("syn_fmt", words, 16)
    raw = np.zeros(16, np.uint64)
    raw[: words.size] = words
    f["known"] = (raw != 0).astype(np.int64)
    used = f["known"] > 0
    rules = (
        (used & (np.arange(16) == 0), "format 0 ends lists and must be empty"),
        (used & (f["fanout_type"] == 0), "fanout type 0 does not exist"),
        (
            used & ~np.isin(f["compression"], (SPARSE, DENSE)),
            "only compression 0 (sparse) and 3 (dense) are emulated",
        ),
        (used & ~np.isin(f["dly_bits"], DELAY_BITS), f"delay bits must be one of {DELAY_BITS}"),
        (f["skip_bits"] > 0, "skip bits belong to run-length entries, which are not emulated"),
        (f["learning_cfg"] > 0, "learning synapses are not emulated"),
        (f["reuse_syn_data"] > 0, "reuse_syn_data is not emulated"),
    )
    bad = [
        Diagnostic("E0523", f"synapse format {int(np.flatnonzero(mask)[0])}: {text}", where=where)
        for mask, text in rules
        if mask.any()
    ]
    if bad:
        raise NmcError(bad)
    f["wgt_bits"] = np.asarray(WEIGHT_BITS)[f["wgt_bits"]]
    f["idx_bits"] = np.asarray(INDEX_BITS)[f["idx_bits"]]
    f["dense"] = (f["compression"] == DENSE).astype(np.int64)
    f["head"] = np.where(f["dense"] > 0, f["idx_bits"], 0)
    f["syn"] = np.where(f["dense"] > 0, 0, f["idx_bits"]) + f["dly_bits"] + f["tag_bits"] + f["wgt_bits"]
    return f


def _decode_in_axons(words: Words, where: str) -> tuple[InAxons, Ints, Ints, Ints]:
    """Give the rows with the first word, number of words and compartment base of their lists."""
    m = unpack("syn_map", words, TABLES["syn_map"].entries)
    used = m["type"] > 0
    rows = np.where(used, np.where(m["type"] > 1, m["pop_size"], 1), 0)
    last = m["ptr"] + rows * (m["len"] + 1)
    rules = (
        (used & (rows == 0), "a population in-axon needs a pop_size of at least 1"),
        (used & (last > TABLES["syn_mem"].entries), "the lists reach past the synapse memory"),
        (~used & (np.pad(words, (0, used.size - words.size)) != 0), "an empty in-axon must be 0"),
    )
    bad = [
        Diagnostic(
            "E0524", f"in-axon {int(np.flatnonzero(mask)[0])} ({int(mask.sum())} in all): {text}", where=where
        )
        for mask, text in rules
        if mask.any()
    ]
    if int(rows.sum()) > MAX_ROWS:
        bad.append(
            Diagnostic("E0531", f"{int(rows.sum()):,} rows of in-axons, more than {MAX_ROWS:,}", where=where)
        )
    if bad:
        raise NmcError(bad)
    axon = np.repeat(np.arange(rows.size), rows)
    first = np.cumsum(rows) - rows
    atom = np.arange(axon.size) - first[axon]
    base = np.where(m["type"] == POP16, m["cx_base"] * 4, m["cx_base"])[axon]
    length = m["len"][axon] + 1
    return InAxons(axon, atom, m["type"], rows, first), m["ptr"][axon] + atom * length, length, base


def _read_bits(memory: Words, position: Ints, width: ArrayLike) -> Ints:
    """Read up to 32 bits at each bit position."""
    word, shift = position >> 6, (position & 63).astype(np.uint64)
    low = memory[word] >> shift
    high = (memory[word + 1] << np.uint64(1)) << (np.uint64(63) - shift)
    mask = (np.uint64(1) << np.asarray(width, np.uint64)) - np.uint64(1)
    return np.asarray((low | high) & mask, np.int64)


def _walk_entries(
    memory: Words, formats: dict[str, Ints], start: Ints, end: Ints, where: str
) -> dict[str, Ints]:
    """Find the entries of all lists: the k-th entry of every list in pass k."""
    active = np.arange(start.size)
    position = start.copy()
    found: list[tuple[Ints, ...]] = []
    total = 0
    while active.size:
        active = active[position[active] + ENTRY_BITS <= end[active]]
        at = position[active]
        fmt = _read_bits(memory, at, 4)
        active, at, fmt = active[fmt > 0], at[fmt > 0], fmt[fmt > 0]
        n = _read_bits(memory, at + 4, 6) + 1
        prefix = _read_bits(memory, at + ENTRY_BITS, formats["head"][fmt])
        body = at + ENTRY_BITS + formats["head"][fmt]
        position[active] = body + n * formats["syn"][fmt]
        _check_entries(formats["known"][fmt] > 0, position[active] <= end[active], start[active], where)
        total += int(n.sum())
        if total > MAX_SYNAPSES:
            raise fail("E0531", f"the synapse lists hold more than {MAX_SYNAPSES:,} synapses", where=where)
        found.append((active, fmt, n, prefix, body))
    columns = [np.concatenate(c) for c in zip(*found, strict=True)] if found else [np.zeros(0, np.int64)] * 5
    order = np.argsort(columns[0], kind="stable")
    return dict(zip(("list", "fmt", "n", "prefix", "body"), (c[order] for c in columns), strict=True))


def _check_entries(known: NDArray[np.bool_], inside: NDArray[np.bool_], start: Ints, where: str) -> None:
    for ok, text in ((known, "names an undefined synapse format"), (inside, "ends inside an entry")):
        if not ok.all():
            word = int(start[~ok][0]) // 64
            raise fail(
                "E0525", f"the synapse list at word {word} {text} ({int((~ok).sum())} lists)", where=where
            )


def _expand_entries(memory: Words, formats: dict[str, Ints], entries: dict[str, Ints]) -> dict[str, Ints]:
    """Read the synapses of all entries, in list order."""
    n = entries["n"]
    k = _ranges(np.zeros_like(n), n)
    fmt = np.repeat(entries["fmt"], n)
    dense = formats["dense"][fmt]
    position = np.repeat(entries["body"], n) + k * formats["syn"][fmt]
    own = np.where(dense > 0, 0, formats["idx_bits"][fmt])
    index = np.where(dense > 0, np.repeat(entries["prefix"], n) + k, _read_bits(memory, position, own))
    delay = _read_bits(memory, position + own, formats["dly_bits"][fmt])
    at = position + own + formats["dly_bits"][fmt] + formats["tag_bits"][fmt]
    register = _read_bits(memory, at, formats["wgt_bits"][fmt])
    return {
        "offset": formats["cidx_offset"][fmt] + index * (formats["cidx_mult"][fmt] + 1),
        "delay": np.where(formats["ignore_dly"][fmt] > 0, 0, delay),
        "mantissa": decode_register(register, formats["wgt_bits"][fmt], formats["fanout_type"][fmt]),
        "exponent": formats["wgt_exp"][fmt],
        "fanout": formats["fanout_type"][fmt],
        "fmt": fmt,
        "dense": dense,
    }
