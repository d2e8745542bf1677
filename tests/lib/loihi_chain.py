"""The whole way from a legalised module to the emulator, and a checker that recounts a core from its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nmc.ir.interp import Result, run_snn
from nmc.ir.interp_mapped import run_mapped
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops.mapped import HOST, Neurons, Route
from nmc.ir.target import resolve
from nmc.ir.text.parser import parse
from nmc.ir.verify import verify_or_raise
from nmc.passes.map.partition import Partition
from nmc.passes.map.place import Place
from nmc.targets.loihi import backend
from nmc.targets.loihi import ops as loihi
from nmc.targets.loihi.allocate import Allocate
from nmc.targets.loihi.layout import LoihiImage, unpack
from nmc.targets.loihi.synapses import InAxons, Synapses, decode_axons

Array = np.ndarray[Any, Any]

#: Limits of the chip, written down once more (facts 1), not read from the target.
CORE_LIMITS = {
    "compartments": 1024, "in_axons": 4096, "out_axon_words": 4096, "synapse_words": 16384, "words_per_axon": 256,
    "synapse_formats": 15, "cx_profiles": 32, "vth_profiles": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """All stages of one network."""

    legal: Module
    partitioned: Module
    mapped: Module
    files: dict[str, bytes]

    @property
    def image(self) -> LoihiImage:
        return backend._image(self.files)

    def run(self, data: Mapping[str, Array], steps: int, probes: Sequence[str], **how: Any) -> Result:
        return backend.Runner(self.files).run(data, steps, probes=probes, **how)[0]

    def assert_equal_everywhere(self, data: Mapping[str, Array], steps: int) -> Result:
        """Spikes, u and v of every population in every step, and outputs, on all three."""
        probes = probes_of(self.legal)
        results = {
            "legal": run_snn(self.legal, data, steps, probes=probes),
            "mapped": run_mapped(self.mapped, data, steps, probes=probes),
            "emulator": self.run(data, steps, probes),
        }
        first = results["legal"]
        for name, other in results.items():
            assert other.outputs.keys() == first.outputs.keys()
            for probe in probes:
                np.testing.assert_array_equal(other.probes[probe], first.probes[probe], f"{name} {probe}")
            for out in first.outputs:
                np.testing.assert_array_equal(other.outputs[out], first.outputs[out], f"{name} {out}")
        return first


def probes_of(module: Module) -> list[str]:
    """Every probe that all stages know."""
    found = []
    for op in module.of_type(loihi.Lif):
        found += [f"{op.out}.u", f"{op.out}.v"] + ([f"{op.out}.spikes"] if op.reset != "none" else [])
    return found


def scattered(module: Module, seed: int) -> Module:
    """A placement by lot, over all chips."""
    site = np.random.default_rng(seed).permutation(resolve(module.attr("target")).cores).tolist()

    def moved(op: Op) -> Op:
        if isinstance(op, Neurons):
            return op if op.core == HOST else replace(op, core=site[op.core])
        return replace(op, to=tuple(sorted(site[core] for core in op.to))) if isinstance(op, Route) else op

    return module.map_ops(moved).with_attrs(placement={"method": "lot"})


def compile_legal(module: Module, target: str = "", merge: bool = True, lot: int = -1) -> Chain:
    """Partition, place (by lot, where one is given), allocate and emit."""
    verify_or_raise(module)
    partitioned = Partition(target=target or "loihi", merge=merge).run(module)
    verify_or_raise(partitioned)
    placed = Place(effort="fast").run(partitioned) if lot < 0 else scattered(partitioned, lot)
    mapped = Allocate().run(placed)
    verify_or_raise(mapped)
    return Chain(module, partitioned, mapped, backend.emit(mapped))


def reparse(module: Module) -> Module:
    """Print and read a module with its constants."""
    from nmc.ir.text.sidefile import blobs

    return parse(str(module), blobs(module))


def legal_module(ops: Sequence[Op], steps: int = 20) -> Module:
    return Module("net", "snn", tuple(ops), (("target", "loihi"), ("steps", steps)))


def dense_matrix(via: Op, module: Module) -> Array:
    """Effective weight of every synapse of a projection (target, source), found by running it on unit spikes."""
    if isinstance(via, loihi.Lif):
        mant = np.broadcast_to(via.each("reset_mant"), via.shape).reshape(-1)
        return -np.diag((mant << via.reset_exp) << 6)
    assert isinstance(via, loihi.SynapseOp)
    shape = via.spikes.shape
    size = int(np.prod(shape))
    columns = []
    for start in range(0, size, 512):
        unit = np.zeros((min(512, size - start), size), np.uint8)
        unit[np.arange(len(unit)), start + np.arange(len(unit))] = 1
        columns.append(via.run(unit.reshape(-1, *shape)).reshape(len(unit), -1))
    matrix: Array = np.concatenate(columns).T
    return matrix


def recount(image: LoihiImage) -> dict[int, dict[str, int]]:
    """Use of each core's memories, from its tables alone."""
    found = {}
    for core in image.cores:
        meta = unpack("cx_meta", core.tables["cx_meta"])
        active = np.stack([meta[f"phase{k}"] for k in range(4)], axis=1).reshape(-1) == 2
        entries = unpack("syn_map", core.tables["syn_map"])
        used = entries["type"] > 0
        words = np.zeros(16384 + 256, bool)
        for ptr, length in zip(entries["ptr"][used], entries["len"][used], strict=True):
            words[ptr : ptr + length + 1] = True
        ptr = unpack("axon_ptr", core.tables["axon_ptr"])
        mine = unpack("cx_cfg", core.tables["cx_cfg"], 1024)
        found[core.core] = {
            "compartments": int(active.sum()),
            "in_axons": int(used.sum()),
            "synapse_words": int(words.sum()),
            "words_per_axon": int(entries["len"][used].max(initial=-1)) + 1,
            "synapse_formats": int((core.tables["syn_fmt"] != 0).sum()),
            "out_axon_words": int(ptr["count"].sum()),
            "cx_profiles": len(np.unique(mine["cx_profile"][np.flatnonzero(active)])),
            "vth_profiles": len(np.unique(mine["vth_profile"][np.flatnonzero(active)])),
            "accumulators": int(active.sum())
            << int(unpack("core_cfg", core.tables["core_cfg"])["delay_bits"][0]),
        }
    return found


def assert_lawful(image: LoihiImage, limits: Mapping[str, int] | None = None) -> dict[int, dict[str, int]]:
    """Every core is within the limits, and no word of synapse memory lies idle between used ones."""
    table = {**CORE_LIMITS, "accumulators": 8192, **(limits or {})}
    use = recount(image)
    for number, row in use.items():
        for name, amount in row.items():
            assert amount <= table[name], f"core {number} takes {amount} of {table[name]} {name}"
    return use


def image_synapses(image: LoihiImage) -> Array:
    """Every path from a spiking compartment or a host input to a compartment, one row each.

    Columns: source core (-1 - number of the input table for the host), source compartment (flat index for the
    host), target core, target compartment, steps from spike to current, effective weight.
    """
    decoded = {core.core: decode_axons(core.tables) for core in image.cores}
    senders = [_out_axons(core) for core in image.cores]
    senders += [
        np.stack([np.full(len(m.index), -1 - n), m.index, m.core, m.target], axis=1)
        for n, m in enumerate(image.inputs)
        if m.kind == "spikes"
    ]
    every = np.concatenate(senders)
    rows = [_paths(every[every[:, 2] == core], *decoded[core]) for core in np.unique(every[:, 2]).tolist()]
    return np.concatenate(rows) if rows else np.zeros((0, 6), np.int64)


def _paths(senders: Array, axons: InAxons, synapses: Synapses) -> Array:
    """The rows of `image_synapses` for the senders to one core."""
    assert (axons.rows[senders[:, 3]] == 1).all(), "only discrete axons are emitted"
    row = axons.first_row[senders[:, 3]]
    count = np.diff(synapses.indptr)[row]
    own = np.repeat(np.arange(len(senders)), count)
    at = (
        np.arange(len(own))
        - np.repeat(np.cumsum(count) - count, count)
        + np.repeat(synapses.indptr[row], count)
    )
    mantissa, exponent = synapses.mantissa[at], synapses.exponent[at]
    scaled = np.where(
        exponent >= 0, mantissa << np.maximum(exponent, 0), mantissa >> np.maximum(-exponent, 0)
    )
    steps = synapses.delay[at] + (senders[own, 0] >= 0)
    return np.stack([*senders[own, :3].T, synapses.cx[at], steps, scaled << 6], axis=1)


def _out_axons(core: Any) -> Array:
    """(sender core, compartment, target core, in-axon) of every out-axon entry, read word by word."""
    ptr = unpack("axon_ptr", core.tables["axon_ptr"])
    words = np.append(core.tables["axon_cfg"], np.zeros(2, np.uint64))
    rows = []
    for cx in np.flatnonzero(ptr["count"]).tolist():
        at, end = int(ptr["first"][cx]), int(ptr["first"][cx] + ptr["count"][cx])
        while at < end:
            entry = {name: int(item[0]) for name, item in unpack("axon_cfg", words[at : at + 1]).items()}
            chip = core.core // 128
            if entry["chip_flag"]:
                chip = int(unpack("axon_chip", words[at + 1 : at + 2])["chip"][0])
            rows.append((core.core, cx, chip * 128 + entry["dst_core"], entry["dst_syn_map"]))
            at += 1 + entry["chip_flag"]
        assert at == end
    return np.array(rows, np.int64).reshape(-1, 4)


def assert_every_synapse_once(chain: Chain) -> int:
    """The image holds exactly the synapses of the network, zero weights aside; gives their number."""
    image, module = chain.image, chain.legal
    table = image_synapses(image)
    table = table[table[:, 5] != 0]
    pops = {p.name: p for p in image.pops}
    inputs = [m.name for m in image.inputs]
    expected = []
    for target in module.of_type(loihi.Lif):
        vias: list[Op] = [module.producers[value.name] for value in target.current]
        vias += [target] if target.resets_itself else []
        for via in (tap for each in vias for tap in each.taps):
            matrix = dense_matrix(via, module)
            post, pre = np.nonzero(matrix)
            source = target.out if via is target else via.operands[0].name
            if source in pops:
                ends = [pops[source].core[pre], pops[source].cx[pre]]
            else:
                ends = [np.full(len(pre), -1 - inputs.index(source)), pre]
            delay = np.full(len(pre), getattr(via, "delay", 1))
            place = pops[target.out]
            cx = place.vcx[post] - (0 if via is target else target.membrane)
            expected.append(np.stack([*ends, place.core[post], cx, delay, matrix[post, pre]], axis=1))
    wanted = np.concatenate(expected) if expected else np.zeros((0, 6), np.int64)
    assert len(table) == len(wanted)
    np.testing.assert_array_equal(_sorted(table), _sorted(wanted))
    return len(wanted)


def _sorted(rows: Array) -> Array:
    ordered: Array = rows[np.lexsort(rows.T[::-1])]
    return ordered


__all__ = [
    "Chain", "assert_every_synapse_once", "assert_lawful", "compile_legal", "dense_matrix", "image_synapses",
    "legal_module", "probes_of", "recount", "reparse",
]  # fmt: skip
