"""From an image to what the engine runs: decode every table, check everything, tell all problems at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError
from nmc.targets.loihi.emulator.compartments import Compartments, decode_compartments
from nmc.targets.loihi.emulator.hostmaps import HostMaps, find_cores, find_rows, resolve_host_maps
from nmc.targets.loihi.layout import (
    COMPATS,
    CORES_PER_CHIP,
    DISCRETE,
    EMPTY,
    MAX_CHIPS,
    MAX_CX,
    POP16,
    POP32,
    TABLES,
    Compat,
    CoreImage,
    Ints,
    LoihiImage,
    unpack,
)
from nmc.targets.loihi.synapses import InAxons, Synapses, decode_axons
from nmc.targets.loihi.weights import effective_weight

# Bounds for untrusted images.
MAX_TOTAL_SYNAPSES = 1 << 26
MAX_TOTAL_ROWS = 1 << 22
MAX_CORE_MESSAGES = 1 << 20
MAX_TOTAL_MESSAGES = 1 << 24
Rule = tuple[NDArray[np.bool_], str, str]


@dataclass(frozen=True, eq=False)
class Kernel:
    """The synapses of one core that share a delay and a final shift, as CSR over in-axon rows.

    Attributes
    ----------
    delay : int
    shift : int
        Right shift of the summed values before they count ("lava" with a negative weight exponent), else 0.
    indptr : int64 array, rows + 1
    cols : uint16 array
        Position in `Compartments.cx`.
    values : int16 array
        Effective weight / 64 (-256 << 7 is the least), or the mantissa when `shift` > 0.
    """

    delay: int
    shift: int
    indptr: Ints
    cols: NDArray[np.uint16]
    values: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Messages:
    """What the spikes of one core's compartments send, one entry per out-axon.

    Attributes
    ----------
    source : position of the compartment in `Compartments.cx`
    core, axon, atom : where the message goes (core number over all chips)
    """

    source: Ints
    core: Ints
    axon: Ints
    atom: Ints


@dataclass(frozen=True, eq=False)
class CoreProgram:
    """One core, ready to run.

    Attributes
    ----------
    cx : Compartments
    axons : InAxons
    groups : per final shift and synapse format, the kernels whose sums are shifted together
    synapse_kinds : int64 array (rows, 3): synapses of each row by cost class (dense, sparse, shared)
    bounds : per group, what no sum of a step can exceed (before the shift)
    messages : out-axons
    """

    core: int
    cx: Compartments
    axons: InAxons
    groups: tuple[tuple[Kernel, ...], ...]
    synapse_kinds: Ints
    bounds: tuple[int, ...]
    messages: Messages


@dataclass(frozen=True, eq=False)
class Link:
    """Spikes of compartments `cx` of core `source` that arrive in distinct rows `row` of core `target`."""

    source: int
    target: int
    cx: Ints
    row: Ints


@dataclass(frozen=True, eq=False)
class Program:
    """A checked image: cores, links sorted by target, host maps as core positions and rows."""

    compat: Compat
    cores: tuple[CoreProgram, ...]
    links: tuple[Link, ...]
    host: HostMaps


@dataclass(frozen=True, eq=False)
class _Decoded:
    core: int
    cx: Compartments
    axons: InAxons
    groups: tuple[tuple[Kernel, ...], ...]
    synapse_kinds: Ints
    messages: Messages


def load(image: LoihiImage) -> Program:
    """Decode and check an image.

    Raises
    ------
    NmcError
        All violations: E0520 header and core registers, E0521 profiles, E0522 features that are not emulated,
        E0523..E0525 synapse memory, E0526 compartments, E0527 delays, E0528 out-axons, E0529 stacks,
        E0530 host tables, E0531 sizes.
    """
    problems = _check_header(image)
    decoded: list[_Decoded] = []
    room, rows = MAX_TOTAL_SYNAPSES, MAX_TOTAL_ROWS
    for core in image.cores:
        try:
            one = _decode_core(core, image.header.compat)
        except NmcError as error:
            problems.extend(error.diagnostics)
            continue
        decoded.append(one)
        room -= int(one.synapse_kinds.sum())
        rows -= one.axons.axon.size
        if min(room, rows) < 0:
            text = f"the image holds over {MAX_TOTAL_SYNAPSES:,} synapses or {MAX_TOTAL_ROWS:,} in-axon rows"
            raise NmcError([*problems, Diagnostic("E0531", text)])
    if problems:
        raise NmcError(problems)
    links = _connect(decoded, problems)
    host = resolve_host_maps(
        image, [d.core for d in decoded], [d.cx for d in decoded], [d.axons for d in decoded]
    )
    problems += host.problems
    if problems:
        raise NmcError(problems)
    weight = _row_multiplicity(decoded, links, host)
    cores = tuple(_finish(d, w) for d, w in zip(decoded, weight, strict=True))
    return Program(image.header.compat, cores, links, host)


def _check_header(image: LoihiImage) -> list[Diagnostic]:
    header = image.header
    problems = []
    if header.profile != "loihi1":
        problems.append(Diagnostic("E0520", f"profile {header.profile!r} is not emulated", hint="use loihi1"))
    if header.compat not in COMPATS:
        problems.append(
            Diagnostic("E0520", f"compat mode {header.compat!r} is not one of {', '.join(COMPATS)}")
        )
    if not 1 <= header.n_chips <= MAX_CHIPS:
        problems.append(Diagnostic("E0520", f"{header.n_chips} chips; 1..{MAX_CHIPS} are possible"))
    numbers = [c.core for c in image.cores]
    if any(b <= a for a, b in zip(numbers, numbers[1:], strict=False)):
        problems.append(Diagnostic("E0520", "cores must be in ascending order, each once"))
    outside = [n for n in numbers if not 0 <= n < header.n_chips * CORES_PER_CHIP]
    if outside:
        text = f"core {outside[0]} is not on the {header.n_chips} chips ({len(outside)} cores in all)"
        problems.append(Diagnostic("E0520", text))
    return problems


def _decode_core(image: CoreImage, compat: Compat) -> _Decoded:
    """Decode one core; raises NmcError with every problem that can be seen without the other cores."""
    where = f"core {image.core}"
    problems: list[Diagnostic] = []

    def attempt(step: Callable[[], object]) -> object:
        try:
            return step()
        except NmcError as error:
            problems.extend(error.diagnostics)
            return None

    cx = attempt(lambda: decode_compartments(image, compat))
    pair = attempt(lambda: decode_axons(image.tables, where))
    raw = attempt(lambda: _decode_messages(image, where))
    if not isinstance(cx, Compartments) or not isinstance(pair, tuple) or not isinstance(raw, Messages):
        raise NmcError(problems)
    axons, synapses = pair
    problems += _check_synapses(synapses, cx, where)
    idle = cx.position[raw.source] < 0
    problems += broken([(idle, "E0528", "inactive compartments have out-axons")], where)
    if problems:
        raise NmcError(problems)
    messages = Messages(cx.position[raw.source], raw.core, raw.axon, raw.atom)
    groups, kinds = _kernels(axons, synapses, cx, compat)
    return _Decoded(image.core, cx, axons, groups, kinds, messages)


def broken(rules: list[Rule], where: str, what: str = "entry") -> list[Diagnostic]:
    """Make one diagnostic per violated rule (mask of bad entries, code, text)."""
    return [
        Diagnostic(
            code, f"{text} ({what} {int(np.flatnonzero(mask)[0])}, {int(mask.sum())} in all)", where=where
        )
        for mask, code, text in rules
        if mask.any()
    ]


def _check_synapses(s: Synapses, cx: Compartments, where: str) -> list[Diagnostic]:
    outside = s.cx >= cx.capacity
    idle = ~outside & (cx.position[np.minimum(s.cx, MAX_CX - 1)] < 0)
    rules: list[Rule] = [
        (outside, "E0526", f"synapses reach compartments beyond the {cx.capacity} of this core"),
        (idle, "E0526", "synapses reach inactive compartments"),
        (
            s.delay > cx.max_delay,
            "E0527",
            f"synaptic delays exceed the {cx.max_delay} that delay_bits allows",
        ),
    ]
    return broken(rules, where, "synapse")


def _decode_messages(image: CoreImage, where: str) -> Messages:
    """Follow the out-axon lists of all compartments: the k-th entry of every list in pass k."""
    ptr = image.fields("axon_ptr")
    size = TABLES["axon_cfg"].entries
    end = ptr["first"] + ptr["count"]
    past = broken([(end > size, "E0528", "out-axon lists reach past the table")], where, "compartment")
    if past:
        raise NmcError(past)
    words = np.zeros(size + 2, np.uint64)
    words[: image.tables["axon_cfg"].size] = image.tables["axon_cfg"]
    active, position, total = np.flatnonzero(ptr["count"]), ptr["first"].copy(), 0
    found: list[tuple[Ints, ...]] = []
    while active.size:
        at = position[active]
        first = unpack("axon_cfg", words[at])
        wide = (first["kind"] == POP32).astype(np.int64)
        position[active] = at + 1 + wide + first["chip_flag"]
        bad: list[Rule] = [
            (first["kind"] == EMPTY, "E0528", "out-axon entry without a kind"),
            (position[active] > end[active], "E0528", "out-axon list ends inside an entry"),
        ]
        problems = broken(bad, where, "list")
        total += active.size
        if total > MAX_CORE_MESSAGES:
            problems.append(Diagnostic("E0531", f"more than {MAX_CORE_MESSAGES:,} out-axons", where=where))
        if problems:
            raise NmcError(problems)
        pop = unpack("axon_pop", words[at + 1] * wide.astype(np.uint64))
        chip_word = words[at + 1 + wide] * first["chip_flag"].astype(np.uint64)
        own = image.core // CORES_PER_CHIP
        chip = np.where(first["chip_flag"] > 0, unpack("axon_chip", chip_word)["chip"], own)
        atom = np.where(first["kind"] == POP16, first["atom"], pop["atom"])
        core = chip * CORES_PER_CHIP + first["dst_core"]
        found.append((active, core, first["dst_syn_map"], atom, first["kind"]))
        active = active[position[active] < end[active]]
    columns = [np.concatenate(c) for c in zip(*found, strict=True)] if found else [np.zeros(0, np.int64)] * 5
    mixed = (columns[4] == DISCRETE) & (columns[3] != 0)
    problems = broken([(mixed, "E0528", "discrete out-axon with an atom")], where)
    if problems:
        raise NmcError(problems)
    return Messages(*columns[:4])


def _connect(cores: list[_Decoded], problems: list[Diagnostic]) -> tuple[Link, ...]:
    """Join out-axons with the in-axon rows they name."""
    if sum(d.messages.core.size for d in cores) > MAX_TOTAL_MESSAGES:
        raise NmcError(
            [*problems, Diagnostic("E0531", f"more than {MAX_TOTAL_MESSAGES:,} out-axons in the image")]
        )
    numbers = np.array([d.core for d in cores], np.int64)
    parts: list[tuple[Ints, Ints, Ints, Ints]] = []
    for source, d in enumerate(cores):
        m = d.messages
        target = find_cores(numbers, m.core)
        row = find_rows([c.axons for c in cores], target, m.axon, m.atom)
        rules: list[Rule] = [
            (target < 0, "E0528", "out-axons go to cores that are not in the image"),
            ((target >= 0) & (row < 0), "E0528", "out-axons go to in-axons (or atoms) that do not exist"),
        ]
        problems += broken(rules, f"core {d.core}", "out-axon")
        parts.append((np.full(row.size, source), target, m.source, row))
    if problems or not any(part[0].size for part in parts):
        return ()
    source_a, target_a, cx_a, row_a = (np.concatenate(c) for c in zip(*parts, strict=True))
    return _split_links(source_a, target_a, cx_a, row_a)


def _split_links(source: Ints, target: Ints, cx: Ints, row: Ints) -> tuple[Link, ...]:
    """Group messages by target and source; the k-th message to one row goes to the k-th link of its pair."""
    order = np.lexsort((cx, row, source, target))
    source, target, cx, row = source[order], target[order], cx[order], row[order]
    keys = np.stack([target, source, row])
    fresh = np.ones(row.size, bool)
    fresh[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    starts = np.flatnonzero(fresh)
    rank = np.arange(row.size) - np.repeat(starts, np.diff(starts, append=row.size))
    order = np.lexsort((row, rank, source, target))
    source, target, cx, row, rank = source[order], target[order], cx[order], row[order], rank[order]
    cuts = np.ones(row.size, bool)
    cuts[1:] = (np.diff(source) != 0) | (np.diff(target) != 0) | (np.diff(rank) != 0)
    starts = np.flatnonzero(cuts)
    ends = np.append(starts[1:], row.size)
    return tuple(
        Link(int(source[a]), int(target[a]), cx[a:b], row[a:b]) for a, b in zip(starts, ends, strict=True)
    )


def _row_multiplicity(cores: list[_Decoded], links: tuple[Link, ...], host: HostMaps) -> list[Ints]:
    """Count how many spikes can reach each row in one step, for the exactness bound of the engine."""
    counts = [np.zeros(d.axons.axon.size, np.int64) for d in cores]
    for link in links:
        counts[link.target][link.row] += 1
    for spikes in host.spikes:
        for core in np.unique(spikes.core):
            np.add.at(counts[core], spikes.row[spikes.core == core], spikes.most)
    return counts


def _kernels(
    axons: InAxons, s: Synapses, cx: Compartments, compat: Compat
) -> tuple[tuple[tuple[Kernel, ...], ...], Ints]:
    """Sort the synapses of a core into kernels, and count them by row and cost class."""
    rows = axons.axon.size
    row = np.repeat(np.arange(rows), np.diff(s.indptr))
    summed = (s.exponent < 0) if compat == "lava" else np.zeros(s.cx.size, bool)
    values = np.where(summed, s.mantissa, effective_weight(s.mantissa, s.exponent, compat) >> 6).astype(
        np.int16
    )
    cols = cx.position[s.cx].astype(np.uint16)
    group_key = np.where(summed, s.fmt, 0)
    groups = []
    for key in np.unique(group_key):
        mine = group_key == key
        shift = int(-s.exponent[mine][0]) if key else 0
        parts = []
        for delay in np.unique(s.delay[mine]):
            pick = mine & (s.delay == delay)
            indptr = np.concatenate([[0], np.cumsum(np.bincount(row[pick], minlength=rows))])
            parts.append(Kernel(int(delay), shift, indptr, cols[pick], values[pick]))
        groups.append(tuple(parts))
    shared = axons.kind[axons.axon] >= POP16
    kind = np.where(shared[row], 2, np.where(s.dense, 0, 1))
    return tuple(groups), np.bincount(row * 3 + kind, minlength=3 * rows).reshape(-1, 3)


def _finish(d: _Decoded, multiplicity: Ints) -> CoreProgram:
    """Bound the sums of each group."""
    bounds = []
    for group in d.groups:
        total = np.zeros(d.cx.cx.size)
        for k in group:
            spikes = np.repeat(multiplicity, np.diff(k.indptr))
            total += np.bincount(
                k.cols, weights=np.abs(k.values.astype(np.int64)) * spikes, minlength=total.size
            )
        bounds.append(int(total.max()))
    return CoreProgram(d.core, d.cx, d.axons, d.groups, d.synapse_kinds, tuple(bounds), d.messages)
