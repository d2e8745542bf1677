"""From the mapped level to registers and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.passes.base import Pass
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.allocate import Group, groups
from nmc.targets.loihi.demands import delay_bits, offsets
from nmc.targets.loihi.image import to_module
from nmc.targets.loihi.layout import (
    ADD,
    CORES_PER_CHIP,
    DISCRETE,
    PASS,
    SECTIONS,
    TABLES,
    Compat,
    CoreImage,
    Header,
    InputMap,
    LoihiImage,
    OutputMap,
    PopMap,
    cx_meta_words,
    pack,
)
from nmc.targets.loihi.synapses import SynFormat, encode_axon_lists

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Emit(Pass, name="loihi-emit", takes="mapped", gives="image"):
    """Write the registers and memories of every core, and the tables of the host.

    before: map.synapses(%x.p0, %2.p0, %2.x) {axons=0:420, mem=0:1530, formats=[1]}
    after:  image.region(@core17.syn_mem) {core=17, table=syn_mem}
    """

    def run(self, module: Module) -> Module:
        """Build the image and give it as a module."""
        return to_module(build_image(module))


def build_image(module: Module) -> LoihiImage:
    """Build the image of an allocated module.

    Raises
    ------
    NmcError
        E0703 when the module is not allocated.
    """
    found = list(groups(module))
    if any(link.formats == () for group in found for link in group.links):
        raise fail("E0703", "the module is not allocated; run loihi-allocate first")
    parts = [part for part in module.of_type(Neurons) if part.core != HOST]
    cores = {number: _CoreWriter(number) for number in sorted({part.core for part in parts})}
    for part in sorted(parts, key=lambda part: (part.core, part.slots.start)):
        cores[part.core].add_part(module, part)
    for group in found:
        cores[group.target.core].add_synapses(group)
    _connect(module, found, cores)
    chips = 1 + max(cores, default=0) // CORES_PER_CHIP
    header = Header(
        n_chips=chips, compat=_compat(module), steps=module.attr("steps", 0),
        source_sha256=module.attr("source_sha256", "0" * 64), seed=module.attr("seed", 0),
    )  # fmt: skip
    images = tuple(core.image() for core in cores.values())
    return LoihiImage(header, images, _inputs(module, found), _outputs(module), _populations(module))


def _compat(module: Module) -> Compat:
    """The rule set of all ops; an image has one."""
    compats = sorted({op.compat for op in module.ops if isinstance(op, loihi.Lif | loihi.SynapseOp)})
    if len(compats) > 1:
        raise fail(
            "E0617", f"ops with different compat rules ({', '.join(compats)}); an image has one rule set"
        )
    return compats[0] if compats else "nmc"


@dataclass
class _CoreWriter:
    """Collects the tables of one core."""

    core: int
    profiles: list[dict[str, int]] = field(default_factory=list)
    thresholds: list[int] = field(default_factory=list)
    formats: dict[int, SynFormat] = field(default_factory=dict)
    registers: dict[str, int] = field(default_factory=dict)
    tables: dict[str, Words] = field(default_factory=dict)
    active: int = 0

    def __post_init__(self) -> None:
        self.tables = {name: np.zeros(TABLES[name].entries, np.uint64) for name in SECTIONS}

    def add_part(self, module: Module, part: Neurons) -> None:
        """Write profiles, configuration and start state of a part's compartments."""
        population = module.producers[part.of.name]
        assert isinstance(population, loihi.Lif)
        op = population.part(part.box)
        self.registers = _shared_registers(module, population)
        self.active = max(self.active, part.slots.stop)
        first = _receiving(part, population)
        rows, kind = op.classes
        kind = _slot_order(kind)
        biases = {"bias": _in_slots(op.bias, op.shape), "bias_exp": _in_slots(op.bias_exp, op.shape)}
        profiles = [
            [self._profile(fields) for fields in _profiles(op, row, self.registers)] for row in rows.tolist()
        ]
        for place, ids in enumerate(np.array(profiles).T):
            config: dict[str, ArrayLike] = {"cx_profile": ids[kind], "vth_profile": self._threshold(op.vth)}
            config |= biases if place == op.membrane else {}
            self.tables["cx_cfg"][first + place] = pack("cx_cfg", config)
        for place in {0, op.membrane}:
            state = {"u": _in_slots(op.u_init, op.shape)} if place == 0 else {}
            state |= {"v": _in_slots(op.v_init, op.shape)} if place == op.membrane else {}
            self.tables["cx_state"][first + place] = pack("cx_state", state)

    def _profile(self, fields: dict[str, int]) -> int:
        return _index(self.profiles, fields)

    def _threshold(self, vth: int) -> int:
        return _index(self.thresholds, vth)

    def add_synapses(self, group: Group) -> None:
        """Write the in-axons and the synapse words of a group."""
        lists, number = group.lists, group.links[0].formats[0]
        self.formats[number] = lists.fmt
        memory = group.links[0].mem
        encoded = encode_axon_lists(
            {number: lists.fmt}, lists.offsets, number, lists.idx, lists.delay, lists.mantissa
        )
        self.tables["syn_mem"][memory.slice()] = encoded.words
        start = memory.start + encoded.offsets[lists.list_of]
        length = np.diff(encoded.offsets)[lists.list_of]
        for link in group.links:
            mine = group.positions[link.source.name]
            entry: dict[str, ArrayLike] = {
                "type": DISCRETE,
                "ptr": start[mine],
                "len": length[mine] - 1,
                "cx_base": lists.base[mine],
            }
            self.tables["syn_map"][link.axons.slice()] = pack("syn_map", entry)

    def add_out_axons(self, cx: Ints, core: Ints, axon: Ints) -> None:
        """Write the out-axon lists, sorted by compartment and then by destination."""
        order = np.lexsort((axon, core, cx))
        cx, core, axon = cx[order], core[order], axon[order]
        away = core // CORES_PER_CHIP != self.core // CORES_PER_CHIP
        position = np.cumsum(1 + away) - (1 + away)
        entry = {"dst_core": core % CORES_PER_CHIP, "dst_syn_map": axon, "kind": DISCRETE, "chip_flag": away}
        words = self.tables["axon_cfg"]
        words[position] = pack("axon_cfg", {name: np.asarray(item, np.int64) for name, item in entry.items()})
        words[position[away] + 1] = pack("axon_chip", {"chip": core[away] // CORES_PER_CHIP})
        ends = position + 1 + away
        unique, first = np.unique(cx, return_index=True)
        last = np.append(first[1:], len(cx)) - 1
        counts = ends[last] - position[first]
        self.tables["axon_ptr"][unique] = pack("axon_ptr", {"first": position[first], "count": counts})

    def image(self) -> CoreImage:
        """Finish the small tables."""
        config = {**self.registers, "num_updates": -(-self.active // 4)}
        self.tables["core_cfg"] = pack("core_cfg", config)
        for index, fields in enumerate(self.profiles):
            self.tables["cx_profile"][index] = pack("cx_profile", fields)[0]
        self.tables["vth_profile"][: len(self.thresholds)] = pack("vth_profile", {"vth": self.thresholds})
        for number, fmt in self.formats.items():
            self.tables["syn_fmt"][number] = fmt.word()
        self.tables["cx_meta"] = cx_meta_words(np.ones(self.active, bool))
        return CoreImage(self.core, self.tables)


def _index(table: list[Any], item: Any) -> int:
    if item not in table:
        table.append(item)
    return table.index(item)


def _shared_registers(module: Module, population: loihi.Lif) -> dict[str, int]:
    return {
        "neg_vm_limit": population.neg_limit,
        "pos_vm_limit": population.pos_limit,
        **offsets(population),
        "delay_bits": delay_bits(module, population),
    }


def _profiles(op: loihi.Lif, row: Sequence[int], registers: Mapping[str, int]) -> list[dict[str, int]]:
    """Profiles of the compartments of a neuron with (du, dv, refract) `row`, in their order."""
    du, dv, refract = row
    split = op.reset == "split"
    membrane = {
        "decay_u": (4096 if split else du) - registers["ds_offset"],
        "decay_v": dv - registers["dm_offset"],
        "refract_delay": refract,
        "threshold_op": 0 if op.reset == "hard" else 2,
        "stack_out": int(op.resets_itself),
    }
    if not op.resets_itself:
        return [membrane]
    # The last one takes over the membrane's v and compares; that of a split neuron adds what the filter pushes.
    soma = membrane | {"threshold_op": 0, "refract_delay": 1, "stack_out": 0, "stack_in": 2, "join_op": PASS}
    if not split:
        return [membrane, soma]
    front = membrane | {"decay_u": du - registers["ds_offset"], "decay_v": 4096 - registers["dm_offset"]}
    return [front, membrane | {"stack_in": 2, "join_op": ADD}, soma]


def _slot_order(values: Ints) -> Ints:
    """Values of a box in the order of its slots."""
    return np.moveaxis(values, 0, -1).reshape(-1)


def _in_slots(const: Any, shape: tuple[int, ...]) -> Ints:
    """A per-neuron constant in slot order, zeros where there is none."""
    if const is None:
        return np.zeros(int(np.prod(shape)), np.int64)
    return _slot_order(np.broadcast_to(const.array(), shape)).astype(np.int64)


def _receiving(part: Neurons, population: loihi.Lif) -> Ints:
    """Compartment that takes the currents, for each neuron of a part in slot order."""
    return np.arange(part.slots.start, part.slots.stop, population.compartments)


def _membrane(part: Neurons, population: loihi.Lif) -> Ints:
    """Compartment that holds v and the bias, for each neuron of a part in slot order."""
    return _receiving(part, population) + population.membrane


def _spiking(part: Neurons, population: loihi.Lif) -> Ints:
    """Compartment that spikes, for each neuron of a part in slot order."""
    return _receiving(part, population) + population.compartments - 1


def _connect(module: Module, found: Sequence[Group], cores: Mapping[int, _CoreWriter]) -> None:
    """Collect the out-axons of every core and write them."""
    pieces: dict[int, list[tuple[Ints, Ints, Ints]]] = {}
    for group in found:
        for link in group.links:
            part = module.producers[link.source.name]
            assert isinstance(part, Neurons)
            population = module.producers[part.of.name]
            if part.core == HOST or not isinstance(population, loihi.Lif):
                continue
            axons = np.arange(link.axons.start, link.axons.stop)
            cx = _places(part, _spiking(part, population), group.lists.source[group.positions[part.out]])
            pieces.setdefault(part.core, []).append((cx, np.full(len(cx), group.target.core), axons))
    for number, rows in pieces.items():
        cx, core, axon = (np.concatenate([row[column] for row in rows]) for column in range(3))
        cores[number].add_out_axons(cx, core, axon)


def _places(part: Neurons, compartments: Ints, neurons: Ints) -> Ints:
    """Compartments of population neurons (flat indices) that live in a part."""
    indices = part.global_indices()
    order = np.argsort(indices)
    return compartments[order[np.searchsorted(indices[order], neurons)]]


def _inputs(module: Module, found: Sequence[Group]) -> tuple[InputMap, ...]:
    return tuple(_input(module, op, found) for op in module.of_type(loihi.Input))


def _input(module: Module, op: loihi.Input, found: Sequence[Group]) -> InputMap:
    rows: list[tuple[Ints, Ints, Ints]] = []
    if op.kind == "bias":
        for user in module.users[op.out]:
            assert isinstance(user, loihi.Lif)
            rows += [
                (part.global_indices(), np.full(part.result.type.size, part.core), _membrane(part, user))
                for part in module.of_type(Neurons)
                if part.of.name == user.out
            ]
    for group in found if op.kind != "bias" else ():
        for link in group.links:
            part = module.producers[link.source.name]
            assert isinstance(part, Neurons)
            if part.of.name == op.out:
                axons = np.arange(link.axons.start, link.axons.stop)
                source = group.lists.source[group.positions[part.out]]
                rows.append((source, np.full(len(axons), group.target.core), axons))
    nothing = np.zeros(0, np.int64)  # an input may have no synapse at all (weights of zero)
    index, core, target = (np.concatenate([nothing, *(row[column] for row in rows)]) for column in range(3))
    return InputMap(
        op.out, "bias" if op.kind == "bias" else "spikes", op.shape, index, core, target, gain=op.gain,
        bias_exp=op.exponent, source=op.source, encoder=op.kind, seed=op.seed, at=op.at,
    )  # fmt: skip


def _places_of(module: Module, population: loihi.Lif) -> tuple[Ints, Ints, Ints]:
    """Core, spiking compartment and that of the membrane of each neuron, in row-major order."""
    size = population.result.type.size
    core, cx, vcx = (np.zeros(size, np.int64) for _ in range(3))
    for part in module.of_type(Neurons):
        if part.of.name == population.out:
            indices = part.global_indices()
            core[indices] = part.core
            cx[indices], vcx[indices] = _spiking(part, population), _membrane(part, population)
    return core, cx, vcx


def _outputs(module: Module) -> tuple[OutputMap, ...]:
    maps = []
    for op in module.of_type(snn.Output):
        population = _population(module, op)
        core, cx, vcx = _places_of(module, population)
        kind: Any = "v" if population.reset == "none" else "count"
        if (kind == "v") != (op.decoder == "last"):
            raise fail(
                "E0615",
                f"decoder {op.decoder} of %{population.out}: Loihi reads out potentials or counts spikes",
            )
        place = vcx if kind == "v" else cx
        maps.append(OutputMap(population.out, kind, population.shape, core, place, scale=op.scale))
    return tuple(maps)


def _population(module: Module, op: Op) -> loihi.Lif:
    found = module.producers[op.operands[0].name]
    if not isinstance(found, loihi.Lif):
        raise fail("E0615", f"the output reads %{found.out}; Loihi reads out populations")
    return found


def _populations(module: Module) -> tuple[PopMap, ...]:
    return tuple(
        PopMap(population.out, population.shape, *_places_of(module, population))
        for population in module.of_type(loihi.Lif)
    )


def neuron_places(module: Module) -> Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]:
    """Core, spiking and receiving compartment of every neuron, by population (for ``map.json``)."""
    places = {}
    for population in module.of_type(loihi.Lif):
        core, cx, membrane = _places_of(module, population)
        places[population.out] = core, cx, membrane - population.membrane
    return places
