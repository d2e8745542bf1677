"""The binary contract of a PE: SRAM map, data specification, regions, records; and the image of a whole chip.

SRAM (128 kB, code and data; datasheet v0.03 feature 1a, facts/spinnaker2.md 1.1), all words 32 bits little endian::

    0x00000  vectors {stack top, reset handler | 1}, text          the prebuilt program: one for the built-in models,
                                                                   another for those of the network's user
    0x02000  data specification: magic, version, then {pointer, checksum, n_words} for each of `REGIONS`
             the regions, back to back in that order
    0x1FD80  stack, 640 bytes

``firmware/layout.h`` holds the same numbers. The magic is py-spinnaker2's, the triples are SpiNNaker1's current form
(facts 1.2); a checksum is the sum of the words modulo 2^32 as loaded. What no public source tells is our own
definition: the records below, and that one *wake* of the program is what the chip would do between two sleeps.

Regions:

control
    {status, go, tick, rx_count, tx_count, unknown_keys}. The host writes packets to ``rx``, their number to
    `rx_count`, ``GO_RECEIVE`` or ``GO_TICK`` (or both: receive, then end the tick) to `go`, and wakes the PE. A
    tick may take several receptions, so that a mailbox of any length does.
global
    {model, flags, neurons, stride, types, slot_mask, entries, period, start, levels, open, extra, record,
    record_ticks}; see `nmc.targets.spinnaker2.laws.Law`.
routing
    {key_base}: neuron i sends the key `key_base` + i; then {qpe_x, qpe_y, pe mask} of the packets that one spike
    takes on the network on chip (facts 1.1, NoC spike packet; the router file says the same for the whole chip).
params
    `MAX_FIELDS` pairs {pointer, mode} in the order of ``laws.PARAMS``, then the values: one word where the mode is
    `UNIFORM`, `period` words (class = neuron modulo period, so channels where they run fastest) for `CLASS`, a
    word a neuron for `NEURON`. The model ``user`` has a header, its instructions and constants (``machine.encode``),
    then a pair for each parameter, for the scale and for the bias of its current, then the values; never `CLASS`.
table
    Entries of `ENTRY_WORDS` words sorted by key: {key, mask, first, count, rows, stride, info, gain, target,
    targets}. A packet matches where key & mask is the entry's key; its source is (key & ~mask) - first, and it is
    dropped where that is not below count. Entries with the same key and mask all act; others must not overlap.
    `gain` times the payload multiplies the weights. info = format | delay << 8 | type << 16.
index
    Halfwords: number of the element with which the row of each source starts in a sparse entry; one more for the end.
rows
    ``dense8``: int8 a target, `stride` bytes a source. ``sparse16``: halfwords weight 4 | delay 3 | type 1 |
    target 8 (facts 1.2), the weight unsigned, the type bit its sign where there is one synapse type. ``sparse32``:
    words weight 16 (signed) | delay 3 | type 1 | target 12.
    ``conv``: int8 kernel [channel of the source box][ky][kx][target channel of the group, padded].
    The delay field d means: the sum is used in the tick in which the packet is received, plus d. A packet is
    received in the tick after it was sent, hence delays of 1..8 ticks (facts 1.2: actual delay is delay + 1).
geometry
    One record (`GEOMETRY` words) a conv entry.
state
    An array of `neurons` words for each of ``laws.STATES``, v first.
ring
    int32 [slot][type][stride], slot = tick & slot_mask.
rx, tx
    Mailboxes of {key, payload}; behind what is sent, the model ``user`` has its table of rows and its registers.
rec_spikes, rec_v, rec_payload
    For each recorded tick: a bitmap of the spikes, v after the tick, the payloads sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.op import Span

Words = NDArray[np.uint32]
Box = tuple[Span, ...]

SRAM_BYTES: Final = 0x20000
CODE_BYTES: Final = 0x2000
DSPEC_BASE: Final = 0x2000
STACK_BYTES: Final = 640
MAGIC: Final = 0xAD130AD6
VERSION: Final = 0x00020000

REGIONS: Final = (
    "control", "global", "routing", "params", "table", "index", "rows", "geometry",
    "state", "ring", "rx", "tx", "rec_spikes", "rec_v", "rec_payload",
)  # fmt: skip
#: Regions that the program never writes: their checksums are tested when it starts.
CONSTANT: Final = ("global", "routing", "params", "table", "index", "rows", "geometry")
#: Regions that are zero when the program is loaded; no bytes in the ELF.
ZEROED: Final = ("control", "ring", "rx", "tx", "rec_spikes", "rec_v", "rec_payload")
DSPEC_BYTES: Final = 8 + 12 * len(REGIONS)
REGIONS_BASE: Final = DSPEC_BASE + DSPEC_BYTES

CONTROL: Final = ("status", "go", "tick", "rx_count", "tx_count", "unknown_keys")
GLOBAL: Final = (
    "model", "flags", "neurons", "stride", "types", "slot_mask", "entries", "period",
    "start", "levels", "open", "extra", "record", "record_ticks",
)  # fmt: skip
GEOMETRY: Final = (
    "channels", "width", "c0", "y0", "x0", "kernel_y", "kernel_x", "stride_y", "stride_x", "pad_y", "pad_x",
    "dilation_y", "dilation_x", "ty0", "ty1", "tx0", "tx1", "tc0", "tc1", "group_in", "group_out", "kernel_stride",
)  # fmt: skip
ENTRY: Final = ("key", "mask", "first", "count", "rows", "stride", "info", "gain", "target", "targets")
ENTRY_WORDS: Final = len(ENTRY)
MAX_FIELDS: Final = 11

READY: Final = 1
GO_RECEIVE: Final = 1
GO_TICK: Final = 2
#: A model's code is its place here plus 1.
MODELS: Final = (
    "if", "stbif", "graded", "phased", "bit_serial", "readout", "lif", "lif_fixed", "max_pool", "user",
)  # fmt: skip
FLAGS: Final = {"ge": 1, "subtract": 2, "to-value": 4, "membrane-first": 8, "shape-last": 16}
FORMATS: Final = ("dense8", "sparse16", "sparse32", "conv")
RECORDS: Final = {"spikes": 1, "v": 2, "payload": 4}
UNIFORM, CLASS, NEURON = 0, 1, 2

Format = Literal["dense8", "sparse16", "sparse32", "conv"]

#: Most synapse types: two for neurons with two filters, one for each place of a pooling window.
MAX_TYPES: Final = 64
#: Longest delay in ticks: a 3-bit field plus one (facts 1.2).
MAX_DELAY: Final = 8
MAX_TARGETS: Final = {"dense8": 4096, "sparse16": 256, "sparse32": 4096, "conv": 4096}
#: Largest weight of a row format (both signs).
MAX_WEIGHT: Final = {"dense8": 127, "sparse16": 15, "sparse32": 32767, "conv": 127}
MAX_NEURONS: Final = 4096
PES_PER_CHIP: Final = 152
ROUTER_ENTRIES: Final = 16384
LINKS: Final = 6
#: Where a link leads to on the grid of chips, as on SpiNNaker: E, NE, N, W, SW, S (x, y).
LINK_STEPS: Final = ((1, 0), (1, 1), (0, 1), (-1, 0), (-1, -1), (0, -1))


@dataclass(frozen=True, eq=False)
class PeImage:
    """What is loaded onto one PE.

    Parameters
    ----------
    chip, pe : int
        Which; PEs count from 0 to 151 on a chip.
    regions : mapping of str to uint32 array
        The words of every region, one entry for each of `REGIONS` (`ZEROED` ones are zero).
    """

    chip: int
    pe: int
    regions: Mapping[str, Words]

    def pointers(self) -> dict[str, int]:
        """SRAM address of each region."""
        at, found = REGIONS_BASE, {}
        for name in REGIONS:
            found[name] = at
            at += 4 * len(self.regions[name])
        return found

    def used_bytes(self) -> int:
        """SRAM in use: program, data specification, regions, stack. Program and stack count whole."""
        return REGIONS_BASE + sum(4 * len(words) for words in self.regions.values()) + STACK_BYTES

    @property
    def user(self) -> bool:
        """Whether it runs a model of the network's user, and so the program for these."""
        words = self.regions["global"]
        return bool(len(words) and words[0] == MODELS.index("user") + 1)

    def dspec(self) -> Words:
        """The data specification."""
        words = [MAGIC, VERSION]
        for name, pointer in self.pointers().items():
            words += [pointer, checksum(self.regions[name]), len(self.regions[name])]
        return np.array(words, np.uint32)

    def global_words(self) -> dict[str, int]:
        """The record of the region ``global``."""
        return {
            name: int(word)
            for name, word in zip(GLOBAL, self.regions["global"].astype(np.int32), strict=True)
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PeImage):
            return NotImplemented
        same = (self.chip, self.pe) == (other.chip, other.pe)
        return same and all(np.array_equal(self.regions[name], other.regions[name]) for name in REGIONS)


def checksum(words: Words) -> int:
    """Sum of the words modulo 2^32."""
    return int(words.sum(dtype=np.uint64)) & 0xFFFFFFFF


@dataclass(frozen=True, order=True)
class Route:
    """An entry of a router: packets with key & mask == key go to all set bits of `route`.

    `route` has 158 bits: 0..5 are the links to other chips, 6 + p is PE p (facts 1.1, route word). The first entry
    that matches counts; a packet that none matches is dropped.
    """

    key: int
    mask: int
    route: int


@dataclass(frozen=True)
class NocTarget:
    """One packet on the network on chip: up to four PEs of a QPE (facts 1.1: 4-bit mask, its top bit is PE 0)."""

    qpe_x: int
    qpe_y: int
    pes: int


@dataclass(frozen=True)
class Part:
    """A box of a population (or of an input) with the keys of its neurons.

    Parameters
    ----------
    chip, pe : int
        Where it runs; for an input, the chip at which the host injects, and -1.
    key_base : int
        Neuron i sends `key_base` + i.
    box : tuple of Span
        Its neurons; inside a box they are numbered with the first axis fastest (``mapped.slot_order``).
    """

    chip: int
    pe: int
    key_base: int
    box: Box


@dataclass(frozen=True)
class InputMap:
    """An input of the network: packets that the host sends at each step for what is not 0.

    Parameters
    ----------
    name : str
        The op's name.
    shape : tuple of int
    parts : tuple of Part
        Boxes that cover the input; those without a neuron that anything listens to may be missing.
    encoder : mapping of str to (str, int or float)
        Attributes of the ``snn.input`` that encodes samples (source, encoder, gain, seed, ...); the engines take
        what is already encoded.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    encoder: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PopMap:
    """A population: where its neurons are, for outputs, probes and names; what its user calls its states."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    states: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutputMap:
    """An output of the network.

    Parameters
    ----------
    name : str
    population : str
        Name of a `PopMap`.
    kind : {"v", "count", "spikes"}
        v after the last step; the payloads of all steps from `first_step` on added up; or the payloads of every
        step.
    scale : float
        What the host multiplies by to get the network's own range.
    first_step : int
    """

    name: str
    population: str
    kind: Literal["v", "count", "spikes"]
    scale: float = 1.0
    first_step: int = 0


@dataclass(frozen=True)
class ChipImage:
    """A program: what emit makes, files hold and engines run.

    Parameters
    ----------
    pes : tuple of PeImage
        In ascending order of (chip, pe).
    routers : mapping of int to tuple of Route
        Router table of each chip.
    inputs, pops, outputs : tuples of maps
    grid : (int, int)
        Chips in x and y; chip number = y * grid[0] + x.
    steps : int
        Steps a sample, by default.
    attrs : mapping
        Whatever else the compiler wants to keep (JSON).
    """

    pes: tuple[PeImage, ...]
    routers: Mapping[int, tuple[Route, ...]]
    inputs: tuple[InputMap, ...] = ()
    pops: tuple[PopMap, ...] = ()
    outputs: tuple[OutputMap, ...] = ()
    grid: tuple[int, int] = (1, 1)
    steps: int = 1
    attrs: Mapping[str, Any] = field(default_factory=dict)
