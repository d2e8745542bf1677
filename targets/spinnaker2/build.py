"""From what a PE shall do to its memory image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, DoesNotFit
from nmc.targets.spinnaker2 import layout, machine
from nmc.targets.spinnaker2.laws import Law, as_params, params_of, state_dtype
from nmc.targets.spinnaker2.layout import NocTarget, PeImage, Words
from nmc.targets.spinnaker2.rows import ConvRows, DenseRows, Entry, SparseRows

Array = NDArray[Any]

#: Packets of a mailbox unless said otherwise; a tick may take several fillings.
RX_PACKETS = 256


@dataclass(frozen=True, eq=False)
class PeProgram:
    """One PE: a box of neurons of one population, and the synapses onto them.

    Parameters
    ----------
    chip, pe : int
    key_base : int
        Neuron i sends `key_base` + i.
    law : Law
    neurons : int
    params : mapping of str to array
        Parameters of the law (`laws.params_of`): one value, one a class, or one a neuron.
    v : array
        Potential before the first tick (`laws.initial_v`): one value or one a neuron; a row a state for ``user``.
    entries : tuple of Entry
        In any order; sorted by key here.
    period : int
        Number of classes: neuron i is of class i modulo `period`.
    record : tuple of str
        Of ``spikes``, ``v``, ``payload``: what is recorded in SRAM in the first `record_ticks` ticks.
    record_ticks : int
    rx_packets : int
        Size of the mailbox.
    noc : tuple of NocTarget
        Packets on the network on chip for one spike.
    """

    chip: int
    pe: int
    key_base: int
    law: Law
    neurons: int
    params: Mapping[str, Array]
    v: Array
    entries: tuple[Entry, ...] = ()
    period: int = 1
    record: tuple[str, ...] = ()
    record_ticks: int = 0
    rx_packets: int = RX_PACKETS
    noc: tuple[NocTarget, ...] = field(default=())


def slots_of(program: PeProgram) -> int:
    """Delay slots of the ring: the least power of two that holds the longest delay."""
    longest = max((entry.rows.longest for entry in program.entries), default=1)
    return int(1 << (longest - 1).bit_length())


def sizes(program: PeProgram) -> dict[str, int]:
    """Words of every region, without making them."""
    n, law = program.neurons, program.law
    rows = [entry.rows for entry in program.entries]
    conv = sum(isinstance(item, ConvRows) for item in rows)
    index = sum(item.sources + 1 for item in rows if isinstance(item, SparseRows))
    values = sum(_mode(item, n, _period(program))[1] for item in as_params(law, program.params).values())
    scratch = machine.scratch_words(law.machine) if law.machine else 0
    ticks = {name: program.record_ticks if name in program.record else 0 for name in layout.RECORDS}
    return {
        "control": len(layout.CONTROL), "global": len(layout.GLOBAL), "routing": 1 + len(program.noc),
        "params": values_at(law) + max(values, 1), "table": layout.ENTRY_WORDS * len(rows),
        "index": (index + 1) // 2, "rows": sum(item.row_bytes() // 4 for item in rows),
        "geometry": conv * len(layout.GEOMETRY), "state": n * len(law.states),
        "ring": slots_of(program) * law.types * n, "rx": 2 * program.rx_packets, "tx": 2 * n + scratch,
        "rec_spikes": ticks["spikes"] * ((n + 31) // 32), "rec_v": ticks["v"] * n, "rec_payload": ticks["payload"] * n,
    }  # fmt: skip


def _period(program: PeProgram) -> int:
    """Classes of parameters; the machine of ``user`` takes one value or one a neuron."""
    return 1 if program.law.machine else program.period


def fields_at(law: Law) -> int:
    """Word of the region params at which the descriptors of parameters begin."""
    return machine.code_words(law.machine) if law.machine else 0


def values_at(law: Law) -> int:
    """Word of the region params at which their values begin."""
    return fields_at(law) + 2 * (len(params_of(law)) if law.machine else layout.MAX_FIELDS)


def used_bytes(program: PeProgram) -> int:
    """SRAM that a program would take, to the byte: text, data specification, regions and stack."""
    return layout.REGIONS_BASE + 4 * sum(sizes(program).values()) + layout.STACK_BYTES


def build(program: PeProgram) -> PeImage:
    """Make the image of a PE.

    Raises
    ------
    NmcError
        E0901 for delays, weights and targets that a row format cannot hold, E0902 for rows that cannot be indexed;
        `DoesNotFit` with E0903 for an image larger than the SRAM, with the bytes of every region.
    """
    used = used_bytes(program)
    where = f"PE {program.chip}:{program.pe}"
    if used > layout.SRAM_BYTES:
        worst = sorted(sizes(program).items(), key=lambda item: -item[1])[:4]
        told = ", ".join(f"{name} {4 * words:,}" for name, words in worst)
        hint = "cut the population smaller, record less, or choose a denser row format"
        text = f"{used:,} of {layout.SRAM_BYTES:,} bytes of SRAM; largest regions: {told}"
        raise DoesNotFit(Diagnostic("E0903", text, where=where, hint=hint))
    count = sizes(program)
    regions = {name: np.zeros(words, np.uint32) for name, words in count.items()}
    at, pointers = layout.REGIONS_BASE, {}
    for name in layout.REGIONS:
        pointers[name] = at
        at += 4 * count[name]
    regions["global"][:] = _global(program)
    regions["routing"][:] = [program.key_base, *(t.qpe_x | t.qpe_y << 8 | t.pes << 16 for t in program.noc)]
    regions["params"][:] = _params(program, pointers["params"], count["params"])
    regions["state"][:] = _state(program)
    _fill_rows(program, pointers, regions)
    return PeImage(program.chip, program.pe, regions)


def _words(values: Any) -> Words:
    return np.asarray(values, np.int64).astype(np.uint32)


def _global(program: PeProgram) -> Words:
    law, n = program.law, program.neurons
    flags = [law.compare, law.order, law.reset, *(["shape-last"] if law.shape_last else [])]
    record = sum(layout.RECORDS[name] for name in set(program.record)) if program.record_ticks else 0
    return _words([
        layout.MODELS.index(law.model) + 1, sum(layout.FLAGS.get(name, 0) for name in flags), n, n, law.types,
        slots_of(program) - 1, len(program.entries), program.period, law.start, law.levels, law.open, law.extra,
        record, program.record_ticks,
    ])  # fmt: skip


def _mode(values: Array, neurons: int, period: int) -> tuple[int, int]:
    """How a parameter is stored, and in how many words."""
    bits = values.view(np.uint32)
    if (bits == bits[0]).all():
        return layout.UNIFORM, 1
    if values.size == period or (
        values.size == neurons and (bits == np.resize(bits[:period], neurons)).all()
    ):
        return layout.CLASS, period
    if values.size != neurons:
        raise ValueError(f"{values.size} values for {neurons} neurons in {period} classes")
    return layout.NEURON, neurons


def _params(program: PeProgram, pointer: int, total: int) -> Words:
    """Descriptors and values; fields that the model lacks point at the first value."""
    law = program.law
    words = np.zeros(total, np.uint32)
    first, at = fields_at(law), values_at(law)
    if law.machine:
        words[:first] = machine.encode(law.machine)
    words[first:at:2] = pointer + 4 * at
    full = as_params(law, program.params)
    for number, name in enumerate(params_of(law)):
        mode, size = _mode(full[name], program.neurons, _period(program))
        words[first + 2 * number], words[first + 2 * number + 1] = pointer + 4 * at, mode
        words[at : at + size] = full[name][:size].view(np.uint32)
        at += size
    return words


def _state(program: PeProgram) -> Words:
    dtype = state_dtype(program.law, "v")
    state = np.zeros((len(program.law.states), program.neurons), np.uint32)
    v = np.atleast_1d(np.asarray(program.v, dtype))
    v = v.reshape(-1 if program.law.machine else 1, v.shape[-1])
    rows = np.broadcast_to(v, (len(v), program.neurons))
    state[: len(v)] = np.ascontiguousarray(rows).view(np.uint32)
    return state.reshape(-1)


def _fill_rows(program: PeProgram, pointers: Mapping[str, int], regions: Mapping[str, Words]) -> None:
    """Write table, index, rows and geometry."""
    rows, index = regions["rows"].view(np.uint8), regions["index"].view(np.uint16)
    at, entry_at, index_at, geometry_at = 0, 0, 0, 0
    for entry in sorted(program.entries, key=lambda item: (item.key, item.mask)):
        item = entry.rows
        target, targets, stride, field_, kind = 0, program.neurons, 0, 0, 0
        if isinstance(item, DenseRows):
            target, targets, stride = item.target, int(item.weights.shape[1]), item.stride
            field_, kind = item.delay - 1, item.type
        elif isinstance(item, SparseRows):
            stride = pointers["index"] + 2 * index_at
            index[index_at : index_at + item.sources + 1] = item.index()
            index_at += item.sources + 1
        else:
            stride = pointers["geometry"] + 4 * geometry_at
            regions["geometry"][geometry_at : geometry_at + len(layout.GEOMETRY)] = _words([
                item.geometry()[name] for name in layout.GEOMETRY
            ])  # fmt: skip
            geometry_at += len(layout.GEOMETRY)
            field_, kind = item.delay - 1, item.type
        info = layout.FORMATS.index(item.format) | field_ << 8 | kind << 16
        regions["table"][entry_at : entry_at + layout.ENTRY_WORDS] = _words([
            entry.key, entry.mask, entry.first, item.sources, pointers["rows"] + at, stride, info, entry.gain,
            target, targets,
        ])  # fmt: skip
        entry_at += layout.ENTRY_WORDS
        rows[at : at + item.row_bytes()] = item.encode()
        at += item.row_bytes()
