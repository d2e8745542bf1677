"""Shapes of the FPGA core: what one build of the RTL can hold, and the layout of each of its memories.

A `Shape` is all a bitstream depends on. Its hash stands in the header of every word stream (`nmc.targets.fpga.words`)
and in the RTL, which takes nothing before it has seen its own hash.

Contract for those who write programs (the law of a tick is in `nmc.targets.fpga.ops`):

* A core holds `neurons` in groups of `lanes`: neuron n is lane n % lanes of group n // lanes. All neurons of a group
  have one class (memory ``params``, field ``class``); populations therefore begin at a multiple of `lanes`.
* An event (axon, payload) walks the synapses that ``axons[axon]`` names, one weight row (a group) per clock:
  ``sparse`` = 0: geometry ``geo`` repeats `len` rows nx times along x, and that `ny` times. Row addresses and groups go
  up by 1 inside, by (``dwx``, ``dgx``) from the last row of one x to the first row of the next, by (``dwy``, ``dgy``)
  from the last row of one y to the first of the next, all modulo the width of the field. A dense row is nx = ny = 1;
  a convolution has neurons in channel-last order and shares its weights. ny = 0: no synapses.
  ``sparse`` = 1: `length` rows from `base` on, each onto the group that memory ``groups`` names for it.
* Weight 0 of a row goes to lane 0. Within one walk a group may occur any number of times (the pipeline interlocks).
* ``pointers[neuron]`` (per core) gives `count` entries of ``targets`` from `base` on, {core, axon, delay}: the event
  comes to (core, axon) in tick t + 1 + delay of a spike in tick t. `host` sends the spike to the output stream too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from functools import cached_property
from typing import Any, Literal

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError

#: Part of the hash: raised whenever RTL, law or words change their meaning.
CONTRACT = 2

WeightType = Literal["ternary", "int2", "int4", "int8"]
Leak = Literal["none", "multiply", "shift"]

#: Bits, least and greatest value of each weight type. Ternary weights take two bits and must not be -2.
WEIGHTS: dict[str, tuple[int, int, int]] = {
    "ternary": (2, -1, 1), "int2": (2, -2, 1), "int4": (4, -8, 7), "int8": (8, -128, 127),
}  # fmt: skip

#: Numbers of the memories in ``MEM_ADDR``.
SPACES = {
    "weights": 0, "groups": 1, "axons": 2, "geometry": 3, "classes": 4, "params": 5, "state": 6, "pointers": 7,
    "targets": 8, "queue": 9, "traces": 10,
}  # fmt: skip

#: Largest values the word formats can name.
MAX_CORES, MAX_INDEX = 64, 1 << 14
TICK_BITS = 16


@dataclass(frozen=True)
class Field:
    """Bits of a memory row; `count` of them side by side (one a lane), the first in the lowest bits."""

    name: str
    bits: int
    signed: bool = False
    count: int = 1


@dataclass(frozen=True)
class Memory:
    """One memory: `rows` rows of fields from the lowest bit up, moved as `words` 32-bit words a row, lowest first."""

    name: str
    rows: int
    fields: tuple[Field, ...]
    shared: bool = False

    @property
    def space(self) -> int:
        """Number in ``MEM_ADDR``."""
        return SPACES[self.name]

    @property
    def width(self) -> int:
        """Bits of a row."""
        return sum(item.bits * item.count for item in self.fields)

    @property
    def words(self) -> int:
        """32-bit words of a row."""
        return -(-self.width // 32)


def bits_for(count: int) -> int:
    """Bits that number `count` things, at least 1."""
    return max(1, (count - 1).bit_length())


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One build of the RTL.

    Parameters
    ----------
    cores : int
        1..64.
    lanes : int
        Synapses a clock and core: 1, 2, 4, 8 or 16.
    neurons, axons : int
        Per core, at most 16,384; `neurons` is a multiple of `lanes`.
    weight_rows : int
        Rows of `lanes` weights a core; 0 means enough for dense rows: axons * neurons / lanes.
    weights : {"ternary", "int2", "int4", "int8"}
    vb : int
        Bits of membrane (and current), 8..32: sums are modulo 2**vb.
    counter : int
        Bits of the refractory and spike counter, 1..16.
    classes, geometries : int
        Entries of the tables, powers of two, 2..64.
    bias_bits, theta_bits : int
        Bits of each neuron's own bias (signed) and threshold (unsigned); 0: those of its class.
    payload_bits : int
        Bits of the signed payload of host events, 2..8.
    leak : {"none", "multiply", "shift"}
    sparse, conv, stbif, cuba, late, windows, probes, stdp : bool
        What is built in: group-sparse rows, convolutions, signed spikes, a current that decays, subtraction after the
        leak, ticks from which and until which a class takes part, probes, learning.
    delays : int
        Slots of the time wheel, a power of two up to 64: destinations have delays 0..delays-1.
    queue : int
        Events a slot can hold, a power of two.
    targets : int
        Entries of the destination table.
    fifo : int
        Depth of the input queue of a core, a power of two.

    Raises
    ------
    NmcError
        E1001 for values outside these ranges, all at once.
    """

    cores: int = 1
    lanes: int = 4
    neurons: int = 256
    axons: int = 256
    weight_rows: int = 0
    weights: WeightType = "int8"
    vb: int = 20
    counter: int = 8
    classes: int = 16
    geometries: int = 16
    bias_bits: int = 0
    theta_bits: int = 0
    payload_bits: int = 2
    leak: Leak = "multiply"
    sparse: bool = True
    conv: bool = True
    stbif: bool = True
    cuba: bool = False
    late: bool = True
    windows: bool = True
    probes: bool = True
    stdp: bool = False
    delays: int = 1
    queue: int = 1024
    targets: int = 1024
    fifo: int = 16

    def __post_init__(self) -> None:
        wrong = list(_problems(self))
        if wrong:
            raise NmcError(Diagnostic("E1001", text, where="shape") for text in wrong)
        if not self.weight_rows:
            object.__setattr__(self, "weight_rows", self.axons * self.groups)

    @property
    def groups(self) -> int:
        """Groups of neurons a core."""
        return self.neurons // self.lanes

    @property
    def weight_bits(self) -> int:
        """Bits of a weight."""
        return WEIGHTS[self.weights][0]

    @property
    def weight_range(self) -> tuple[int, int]:
        """Least and greatest weight."""
        return WEIGHTS[self.weights][1:]

    @cached_property
    def hash(self) -> int:
        """32 bits that name the shape: the first four bytes, little-endian, of the SHA-256 of its JSON."""
        text = json.dumps({"contract": CONTRACT, **asdict(self)}, sort_keys=True, separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object, where: str = "shape") -> Shape:
        """Read a shape from a JSON or TOML table; absent fields have their defaults.

        Raises
        ------
        NmcError
            E1001 for unknown fields, wrong types and values out of range.
        """
        if not isinstance(data, dict):
            raise NmcError(Diagnostic("E1001", f"a shape is a table, not {type(data).__name__}", where=where))
        known = {item.name: type(item.default) for item in fields(cls)}
        wrong = [
            f"unknown field {name!r}"
            if name not in known
            else f"{name} = {value!r} is not {known[name].__name__}"
            for name, value in data.items()
            if type(value) is not known.get(name)
        ]
        if wrong:
            raise NmcError(Diagnostic("E1001", text, where=where) for text in wrong)
        return cls(**data)

    @cached_property
    def memories(self) -> dict[str, Memory]:
        """Every memory of this shape by name; those of features that are not built are absent."""
        found = [*_core_memories(self), *_router_memories(self)]
        return {item.name: item for item in found if item.width}

    def parameters(self) -> dict[str, int]:
        """Parameters of the top module ``nmc_chip``."""
        leaks = {"none": 0, "multiply": 1, "shift": 2}
        return {
            "CORES": self.cores, "LANES": self.lanes, "NEURONS": self.neurons, "AXONS": self.axons,
            "WROWS": self.weight_rows, "WB": self.weight_bits, "VB": self.vb, "CB": self.counter,
            "CLASSES": self.classes, "GEOS": self.geometries, "BB": self.bias_bits, "TB": self.theta_bits,
            "PB": self.payload_bits, "LEAK": leaks[self.leak], "SPARSE": int(self.sparse), "CONV": int(self.conv),
            "STBIF": int(self.stbif), "CUBA": int(self.cuba), "LATE": int(self.late),
            "WINDOWS": int(self.windows), "PROBES": int(self.probes), "STDP": int(self.stdp),
            "DELAYS": self.delays, "QUEUE": self.queue, "TARGETS": self.targets, "FIFO": self.fifo, "HASH": self.hash,
        }  # fmt: skip


def _problems(shape: Shape) -> list[str]:
    """What is out of range."""

    def span(name: str, low: int, high: int) -> str:
        value = getattr(shape, name)
        return "" if low <= value <= high else f"{name} = {value:,} is not in {low:,}..{high:,}"

    def power(name: str, low: int, high: int) -> str:
        value = getattr(shape, name)
        fits = low <= value <= high and value & (value - 1) == 0
        return "" if fits else f"{name} = {value:,} is not a power of two in {low:,}..{high:,}"

    found = [
        span("cores", 1, MAX_CORES), power("lanes", 1, 16), span("neurons", 1, MAX_INDEX), span("axons", 1, MAX_INDEX),
        span("weight_rows", 0, 1 << 24), span("vb", 8, 32), span("counter", 1, 16), power("classes", 2, 64),
        power("geometries", 2, 64), span("bias_bits", 0, shape.vb), span("theta_bits", 0, shape.vb - 1),
        span("payload_bits", 2, 8), power("delays", 1, 64), power("queue", 4, 1 << 16), span("targets", 2, 1 << 18),
        power("fifo", 4, 64),
    ]  # fmt: skip
    if shape.lanes > 0 and shape.neurons % shape.lanes:
        found.append(f"{shape.neurons:,} neurons are not a multiple of {shape.lanes} lanes")
    for name, kinds in (("weights", tuple(WEIGHTS)), ("leak", ("none", "multiply", "shift"))):
        if getattr(shape, name) not in kinds:
            found.append(f"{name} = {getattr(shape, name)!r} is none of {', '.join(kinds)}")
    if shape.stdp and (shape.weights != "int8" or shape.cuba):
        found.append("stdp needs weights int8 and no cuba")
    return [text for text in found if text]


def _core_memories(shape: Shape) -> list[Memory]:
    """Memories that each core has."""
    lanes, gb, wb = shape.lanes, bits_for(shape.groups), bits_for(shape.weight_rows)
    state = [Field("v", shape.vb, True, lanes), Field("c", shape.counter, False, lanes)]
    if shape.cuba:
        state.append(Field("i", shape.vb, True, lanes))
    if shape.stdp:
        state.append(Field("seen", TICK_BITS, False, lanes))
    params = [Field("class", bits_for(shape.classes))]
    if shape.bias_bits:
        params.append(Field("bias", shape.bias_bits, True, lanes))
    if shape.theta_bits:
        params.append(Field("theta", shape.theta_bits, False, lanes))
    weights: tuple[Field, ...] = (Field("w", shape.weight_bits, True, lanes),)
    if shape.stdp:
        weights += (Field("learn", 1, False, lanes),)
    axons = (Field("base", wb), Field("first", gb), Field("geo", bits_for(shape.geometries)), Field("ny", 6))
    flags = (Field("sparse", 1), Field("learn", 1)) if shape.stdp else (Field("sparse", 1),)
    steps = (("nx", 6), ("dgx", gb), ("dgy", gb), ("dwx", wb), ("dwy", wb)) if shape.conv else ()
    geometry = tuple(Field(name, width) for name, width in (("len", gb), *steps))
    return [
        Memory("weights", shape.weight_rows, weights),
        Memory("groups", shape.weight_rows, (Field("group", gb),) if shape.sparse else ()),
        Memory("axons", shape.axons, (*axons, *flags)),
        Memory("geometry", shape.geometries, geometry),
        Memory("classes", shape.classes, class_fields(shape)),
        Memory("params", shape.groups, tuple(params)),
        Memory("state", shape.groups, tuple(state)),
        Memory("traces", shape.axons, (Field("time", TICK_BITS),) if shape.stdp else ()),
    ]


def class_fields(shape: Shape) -> tuple[Field, ...]:
    """Fields of a class that are built, as `nmc.targets.fpga.ops.Class` tells; the others have its defaults."""
    leaks = shape.leak != "none"
    built = (
        (not shape.theta_bits, Field("theta", shape.vb - 1)), (not shape.bias_bits, Field("bias", shape.vb, True)),
        (True, Field("v_reset", shape.vb, True)), (leaks, Field("keep", 13)),
        (leaks and shape.cuba, Field("keep_i", 13)), (True, Field("limit", shape.counter)),
        (True, Field("reset", 2)), (True, Field("strict", 1)),
        (shape.late, Field("late", 1)), (shape.stbif, Field("signed", 1)), (True, Field("once", 1)),
        (shape.windows, Field("open", TICK_BITS)), (shape.windows, Field("close", TICK_BITS)),
    )  # fmt: skip
    return tuple(item for there, item in built if there)


def _router_memories(shape: Shape) -> list[Memory]:
    """Tables of the router (pointers: one part a core) and the events in flight."""
    core, axon, delay = bits_for(shape.cores), bits_for(shape.axons), bits_for(shape.delays)
    pointers = (Field("base", bits_for(shape.targets)), Field("count", 12), Field("host", 1))
    targets = (Field("axon", axon), Field("core", core), Field("delay", delay))
    queue = (Field("axon", axon), Field("core", core), Field("negative", 1))
    return [
        Memory("pointers", shape.neurons, pointers),
        Memory("targets", shape.targets, targets, shared=True),
        Memory("queue", shape.delays * shape.queue, queue, shared=True),
    ]
