"""Bit layout of every Loihi core table, and the image that holds them.

Widths come from section 6 of the Loihi facts (which cites nengo-loihi, NxTF and snntoolbox); what no source
tells is our own definition and marked *(n)* here:

- fields sit in a word from bit 0 upwards in the order of `TABLES`; bits above the last field are zero *(n)*.
- `core_cfg.noise_mant` is 8 bits signed, `num_stdp` 4 bits *(n)*.
- `cx_meta.phaseK` of compartment 4*i+K must be 2 (IDLE) for a compartment that works; a compartment with
  another phase is inactive: it is not updated, and nothing may target it *(n: the chip's other phases are not
  public)*.
- `cx_state.refract` is the refractory counter *(n)*.
- `syn_map.type`: 0 empty, 1 discrete, 2 pop16, 3 pop32 *(n)*; `len` holds words per atom minus 1; the list of
  atom `a` starts at word `ptr + a*(len+1)`; pop16 stores `cx_base / 4`.
- `axon_cfg` is a list of entries of 1 to 3 words: the first word; for `kind` 3 (pop32) an `axon_pop` word;
  with `chip_flag` an `axon_chip` word *(n)*. `kind`: 1 discrete, 2 pop16 (`atom` in the first word), 3 pop32.
- `axon_ptr.count` counts words, not entries *(n)*.
- `syn_fmt.wgt_bits` and `idx_bits` are codes (`WEIGHT_BITS`, `INDEX_BITS`), `dly_bits` and `tag_bits` bit
  counts.
- `cx_profile.stack_out` 1 pushes v; `stack_in` 2 pops from the compartment right before; `join_op` 6 adds the
  popped v to the own v after the decay *(n, after NxTF's two-compartment soft reset)*; `join_op` 5 drops the
  own v of the step before and takes the popped one, as if dv were 4096 *(n: PASS; dm_offset is shared, so a
  core with dv 0 cannot have dv 4096)*. A compartment may pop and push: a chain is worked off in ascending
  compartment order, each member after its own pop and the limits of v *(n)*; only the last may spike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Compat = Literal["nmc", "nengo-loihi", "lava", "brian2loihi"]

COMPATS: tuple[Compat, ...] = ("nmc", "nengo-loihi", "lava", "brian2loihi")
CORES_PER_CHIP = 128
MAX_CHIPS = 16384
MAX_CX = 1024
MAX_SYN_WORDS = 16384
MAX_WORDS_PER_AXON = 256
IDLE = 2
WEIGHT_BITS = (0, 1, 2, 3, 4, 5, 6, 8)
INDEX_BITS = (0, 6, 7, 8, 9, 10, 11, 12)
DELAY_BITS = (0, 3, 4, 5, 6)
SPARSE, RUNLENGTH, DENSE = 0, 1, 3
MIXED, EXCITATORY, INHIBITORY = 1, 2, 3
EMPTY, DISCRETE, POP16, POP32 = 0, 1, 2, 3
# join_op: what a compartment does with the popped v
PASS, ADD = 5, 6


@dataclass(frozen=True)
class Field:
    """One bit field of a word: name, width in bits, two's complement or not."""

    name: str
    bits: int
    signed: bool = False

    @property
    def low(self) -> int:
        """Smallest value the field holds."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value the field holds."""
        return (1 << (self.bits - self.signed)) - 1


@dataclass(frozen=True)
class Table:
    """A core memory: number of entries, bits of a word, fields from bit 0 upwards."""

    name: str
    entries: int
    word_bits: int
    fields: tuple[Field, ...]

    @property
    def used_bits(self) -> int:
        """Bits that fields occupy; the rest of a word must be zero."""
        return sum(f.bits for f in self.fields)


def _table(name: str, entries: int, word_bits: int, spec: str) -> Table:
    parsed = []
    for item in spec.split():
        key, _, width = item.partition(":")
        parsed.append(Field(key, int(width.rstrip("s")), width.endswith("s")))
    return Table(name, entries, word_bits, tuple(parsed))


_SECTIONS = (
    _table(
        "core_cfg",
        1,
        64,
        "num_updates:9 delay_bits:3 neg_vm_limit:5 pos_vm_limit:3 ds_offset:1 dm_offset:1 "
        "noise_exp:5 noise_mant:8s noise_target:1 tepoch:6 num_stdp:4",
    ),
    _table(
        "cx_profile",
        32,
        64,
        "decay_u:12 decay_v:12 refract_delay:6 enable_noise:1 threshold_op:2 bap_action:1 "
        "stack_in:2 stack_out:2 join_op:3",
    ),
    _table("vth_profile", 8, 32, "vth:17 use_soma_vth:1"),
    _table("cx_cfg", MAX_CX, 32, "bias:13s bias_exp:3 cx_profile:5 vth_profile:3"),
    _table("cx_state", MAX_CX, 64, "u:24s v:24s refract:6"),
    _table(
        "cx_meta",
        MAX_CX // 4,
        32,
        "phase0:2 phase1:2 phase2:2 phase3:2 soma_op0:2 soma_op1:2 soma_op2:2 soma_op3:2",
    ),
    _table(
        "syn_fmt",
        16,
        64,
        "wgt_exp:4s wgt_bits:3 idx_bits:3 dly_bits:3 tag_bits:2 skip_bits:3 compression:2 fanout_type:2 "
        "num_synapses:6 cidx_offset:4 cidx_mult:4 learning_cfg:1 stdp_profile:4 ignore_dly:1 "
        "reuse_syn_data:1",
    ),
    _table("syn_map", 4096, 64, "type:2 ptr:14 len:8 pop_size:9 cx_base:8 atom_bits:3"),
    _table("syn_mem", MAX_SYN_WORDS, 64, "low:32 high:32"),
    _table("axon_ptr", MAX_CX, 32, "first:12 count:12"),
    _table("axon_cfg", 4096, 32, "dst_core:7 dst_syn_map:12 kind:2 chip_flag:1 atom:9"),
)
SECTIONS: tuple[str, ...] = tuple(t.name for t in _SECTIONS)
TABLES: Mapping[str, Table] = {
    t.name: t
    for t in (
        *_SECTIONS,
        _table("axon_pop", 4096, 32, "pop_id:12 atom:10"),
        _table("axon_chip", 4096, 32, "chip:14"),
    )
}


def pack(table: str, values: Mapping[str, ArrayLike]) -> Words:
    """Put field values into the words of a table.

    Parameters
    ----------
    table : str
        Name in `TABLES`.
    values : mapping of str to integer arrays
        Arrays of one dimension (or scalars) that broadcast together; absent fields are 0.

    Returns
    -------
    ndarray of uint64, one word per entry.

    Raises
    ------
    NmcError
        E0510 for every unknown field and every value outside its field.
    """
    layout = TABLES[table]
    known = {f.name for f in layout.fields}
    problems = [
        Diagnostic("E0510", f"table {table} has no field {name}") for name in values if name not in known
    ]
    shapes = np.broadcast_arrays(*(np.atleast_1d(v) for v in values.values()))
    arrays = dict(zip(values, shapes, strict=True))
    words = np.zeros(shapes[0].size if shapes else 0, np.uint64)
    shift = 0
    for f in layout.fields:
        if f.name in arrays:
            value = arrays[f.name]
            problems += _range_problems(table, f, value)
            bits = value.astype(np.int64) & ((1 << f.bits) - 1)
            words |= bits.astype(np.uint64) << np.uint64(shift)
        shift += f.bits
    if problems:
        raise NmcError(problems)
    return words


def _range_problems(table: str, f: Field, value: NDArray[Any]) -> list[Diagnostic]:
    if value.dtype.kind not in "iub":
        return [Diagnostic("E0510", f"field {table}.{f.name} takes integers, not {value.dtype}")]
    bad = np.flatnonzero((value < f.low) | (value > f.high))
    if not bad.size:
        return []
    at = int(bad[0])
    return [
        Diagnostic(
            "E0510",
            f"field {table}.{f.name} holds {f.low}..{f.high}, but entry {at} is {value[at]} "
            f"({bad.size} entries in all)",
            where=f"{table}[{at}]",
        )
    ]


def unpack(table: str, words: ArrayLike, entries: int | None = None) -> dict[str, Ints]:
    """Take the words of a table apart.

    Parameters
    ----------
    table : str
        Name in `TABLES`.
    words : array of uint64
    entries : int, optional
        Length of the result: missing words count as zero.

    Returns
    -------
    dict of str to int64 arrays, one per field.

    Raises
    ------
    NmcError
        E0511 when a bit above the last field is set.
    """
    layout = TABLES[table]
    word = np.asarray(words, np.uint64)
    if entries is not None and entries > word.size:
        word = np.concatenate([word, np.zeros(entries - word.size, np.uint64)])
    if layout.used_bits < 64 and bool((word >> np.uint64(layout.used_bits)).any()):
        raise fail("E0511", f"table {table}: bits above {layout.used_bits - 1} are set", where=table)
    result: dict[str, Ints] = {}
    shift = 0
    for f in layout.fields:
        value = ((word >> np.uint64(shift)) & np.uint64((1 << f.bits) - 1)).astype(np.int64)
        result[f.name] = value - ((value > f.high) * (1 << f.bits)) if f.signed else value
        shift += f.bits
    return result


def cx_meta_words(active: ArrayLike) -> Words:
    """Give the `cx_meta` words that make the compartments marked in `active` (bool, up to 1,024) work."""
    mask = np.asarray(active, bool)
    padded = np.zeros(-(-mask.size // 4) * 4, np.int64)
    padded[: mask.size] = mask * IDLE
    quads = padded.reshape(-1, 4)
    values = {f"{name}{k}": quads[:, k] for name in ("phase", "soma_op") for k in range(4)}
    return pack("cx_meta", values)


def active_compartments(words: ArrayLike) -> NDArray[np.bool_]:
    """Tell which of the 1,024 compartments work (phase IDLE), from the `cx_meta` words."""
    meta = unpack("cx_meta", words, MAX_CX // 4)
    phases = np.stack([meta[f"phase{k}"] for k in range(4)], axis=1)
    return np.asarray(phases.reshape(-1) == IDLE)


class _ArrayEq:
    """Equality for dataclasses that hold arrays."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True))

    __hash__ = None  # type: ignore[assignment]


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    return bool(a == b)


def _frozen(values: ArrayLike, dtype: type[np.generic] = np.int64) -> NDArray[np.generic]:
    array = np.array(values, dtype=dtype).reshape(-1)
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class Header:
    """What the image says about itself.

    Parameters
    ----------
    n_chips : int
        1..16384; core numbers run over all chips, chip = core // 128.
    compat : str
        Rule set for the points where public tools disagree (facts 2.3); "nmc" is ours.
    steps : int
        Number of steps of one sample unless the caller asks for another.
    source_sha256 : str
        64 hex digits, hash of the source program.
    seed : int
        0..2^64-1.
    """

    n_chips: int = 1
    compat: Compat = "nmc"
    steps: int = 0
    source_sha256: str = "0" * 64
    seed: int = 0
    profile: str = "loihi1"
    version: int = 1


@dataclass(frozen=True, eq=False)
class CoreImage(_ArrayEq):
    """The memories of one core.

    Parameters
    ----------
    core : int
        Number over all chips.
    tables : mapping of section name to words
        Raw words, given as a prefix of the memory; trailing zero words are cut, so equal memories compare
        equal.

    Raises
    ------
    NmcError
        E0511 for an unknown section, too many words or a word wider than the memory.
    """

    core: int
    tables: Mapping[str, Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems: list[Diagnostic] = []
        clean: dict[str, Words] = {}
        for name in self.tables:
            if name not in SECTIONS:
                problems.append(
                    Diagnostic("E0511", f"a core has no section {name}", where=f"core {self.core}")
                )
        for name in SECTIONS:
            words = np.asarray(self.tables.get(name, ()), np.uint64).reshape(-1)
            used = np.flatnonzero(words)
            words = words[: int(used[-1]) + 1 if used.size else 0]
            layout = TABLES[name]
            if words.size > layout.entries or (
                layout.word_bits < 64 and bool((words >> np.uint64(layout.word_bits)).any())
            ):
                problems.append(
                    Diagnostic(
                        "E0511",
                        f"section {name} has {words.size} words, more or wider than "
                        f"{layout.entries} x {layout.word_bits} bits",
                        where=f"core {self.core}",
                    )
                )
            clean[name] = _frozen(words, np.uint64)  # type: ignore[assignment]
        if problems:
            raise NmcError(problems)
        object.__setattr__(self, "tables", clean)

    def fields(self, table: str, entries: int | None = None) -> dict[str, Ints]:
        """Unpack a section; `entries` pads it with zero words (default: the whole memory)."""
        return unpack(table, self.tables[table], TABLES[table].entries if entries is None else entries)


@dataclass(frozen=True, eq=False)
class _HostMap(_ArrayEq):
    """Base of the host tables: turns array members into read-only int64 arrays of equal length."""

    name: str

    def _clean(self, arrays: tuple[str, ...]) -> None:
        for key in arrays:
            object.__setattr__(self, key, _frozen(getattr(self, key)))
        sizes = {key: getattr(self, key).size for key in arrays}
        if len(set(sizes.values())) > 1:
            raise fail(
                "E0506", f"arrays of host table {self.name} differ in length: {sizes}", where=self.name
            )


@dataclass(frozen=True, eq=False)
class InputMap(_HostMap):
    """How the host brings one input of the network to the cores.

    Parameters
    ----------
    name : str
    kind : {"bias", "spikes"}
        ``bias``: before a sample the host writes mantissa ``clip(rint(gain * x), 0, 4095)`` with exponent
        `bias_exp` into the `cx_cfg` word of compartment `target`, for each entry. ``spikes``: at each step,
        for each spiking input the host sends a spike to in-axon `target` (atom `atom`) of `core`.
    shape : tuple of int
        Of one sample (and step).
    index, core, target, atom : int arrays of equal length
        Flat input index, core, compartment or in-axon, atom (an empty `atom` means all 0).
    gain : float
    bias_exp : int
        0..7.
    source : str
        Name of the data that the host encodes for this input; empty where it needs none.
    encoder : {"bias", "raster", "rate", "pulse", "poisson", "count"}
        How: bias mantissas; spikes as given; Bernoulli spikes of probability ``gain * x`` from `seed`
        (`nmc.ir.encode.rate_spikes`); one spike at step `at`; counts of mean `gain` a step from `seed`
        (`nmc.ir.ops.sources.Poisson`); ``clip(rint(gain * x), 0, at)`` spikes spread over `at` steps.
    seed, at : int
    """

    kind: Literal["bias", "spikes"]
    shape: tuple[int, ...]
    index: Ints
    core: Ints
    target: Ints
    atom: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    gain: float = 1.0
    bias_exp: int = 0
    source: str = ""
    encoder: str = ""
    seed: int = 0
    at: int = 0

    def __post_init__(self) -> None:
        if not self.encoder:
            object.__setattr__(self, "encoder", "bias" if self.kind == "bias" else "raster")
        if np.asarray(self.atom).size == 0:
            object.__setattr__(self, "atom", np.zeros(np.asarray(self.index).size, np.int64))
        self._clean(("index", "core", "target", "atom"))


@dataclass(frozen=True, eq=False)
class OutputMap(_HostMap):
    """What the host reads for one output of the network.

    Parameters
    ----------
    name : str
    kind : {"v", "count", "spikes"}
        v after the last step (int64, samples x shape), number of spikes from `first_step` on (int64), or the
        spikes of every step (uint8, samples x steps x shape; steps before `first_step` read 0).
    shape : tuple of int
    core, cx : int arrays, one entry per element of `shape` in C order
    first_step : int
    scale : float
        What the host multiplies the integers by to get the network's own output.
    """

    kind: Literal["v", "count", "spikes"]
    shape: tuple[int, ...]
    core: Ints
    cx: Ints
    first_step: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        self._clean(("core", "cx"))
        _check_size(self.name, self.shape, self.core)


@dataclass(frozen=True, eq=False)
class PopMap(_HostMap):
    """Where the neurons of a population live: for probes and names.

    Parameters
    ----------
    name : str
    shape : tuple of int
    core, cx, vcx : int arrays, one entry per neuron in C order
        Core, spiking compartment, and the compartment whose u and v are probed (the dendrite of a
        two-compartment neuron).
    """

    shape: tuple[int, ...]
    core: Ints
    cx: Ints
    vcx: Ints

    def __post_init__(self) -> None:
        self._clean(("core", "cx", "vcx"))
        _check_size(self.name, self.shape, self.core)


def _check_size(name: str, shape: tuple[int, ...], core: Ints) -> None:
    if prod(shape) != core.size:
        raise fail("E0506", f"host table {name}: {core.size} entries for shape {shape}", where=name)


@dataclass(frozen=True)
class LoihiImage:
    """A whole program: cores in ascending order and the host's tables."""

    header: Header
    cores: tuple[CoreImage, ...]
    inputs: tuple[InputMap, ...] = ()
    outputs: tuple[OutputMap, ...] = ()
    pops: tuple[PopMap, ...] = ()
