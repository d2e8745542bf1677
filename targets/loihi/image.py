"""Between the binary image and the image level of the IR, both ways without loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nmc.ir.const import Const
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops.image import Header, HostMap, Reg, Region
from nmc.targets.loihi.layout import (
    SECTIONS,
    CoreImage,
    InputMap,
    LoihiImage,
    OutputMap,
    PopMap,
    Words,
    pack,
    unpack,
)
from nmc.targets.loihi.layout import Header as ImageHeader

#: Tables shown register by register; the others are regions of words.
_REGISTERS = ("core_cfg", "cx_profile", "vth_profile", "syn_fmt")


def to_module(image: LoihiImage) -> Module:
    """Write any well-formed image as a module of level ``image``; `to_image` gives it back."""
    header = image.header
    fields: dict[str, object] = {
        "profile": header.profile, "version": header.version, "n_chips": header.n_chips, "compat": header.compat,
        "steps": header.steps, "source_sha256": header.source_sha256, "seed": header.seed,
    }  # fmt: skip
    ops: list[Op] = [Header(fields=fields)]
    for core in image.cores:
        ops += _core_ops(core)
    ops += [_input_op(entry) for entry in image.inputs]
    ops += [_output_op(entry) for entry in image.outputs]
    ops += [_population_op(entry) for entry in image.pops]
    return Module("loihi", "image", tuple(ops))


def _core_ops(core: CoreImage) -> list[Op]:
    ops: list[Op] = []
    for table in SECTIONS:
        words = core.tables[table]
        if table in _REGISTERS:
            shown = unpack(table, words)
            for index in np.flatnonzero(words).tolist():
                fields = {key: int(column[index]) for key, column in shown.items() if column[index]}
                ops.append(Reg(core=core.core, table=table, index=index, fields=fields))
        elif len(words):
            ops.append(Region(core=core.core, table=table, words=Const(f"core{core.core}.{table}", words)))
    return ops


def _const(name: str, column: str, values: Any) -> Const:
    return Const(f"{name}.{column}", np.asarray(values, np.int64))


def _input_op(entry: InputMap) -> HostMap:
    label = f"in.{entry.name}"
    return HostMap(
        table="input", of=entry.name, kind=entry.encoder, shape=entry.shape, scale=entry.gain, exponent=entry.bias_exp,
        seed=entry.seed, source=entry.source, first_step=entry.at, index=_const(label, "index", entry.index),
        core=_const(label, "core", entry.core), place=_const(label, "place", entry.target),
    )  # fmt: skip


def _output_op(entry: OutputMap) -> HostMap:
    label = f"out.{entry.name}"
    return HostMap(
        table="output", of=entry.name, kind=entry.kind, shape=entry.shape, scale=entry.scale,
        first_step=entry.first_step, index=_const(label, "index", np.arange(len(entry.core))),
        core=_const(label, "core", entry.core), place=_const(label, "place", entry.cx),
    )  # fmt: skip


def _population_op(entry: PopMap) -> HostMap:
    label = f"pop.{entry.name}"
    return HostMap(
        table="population", of=entry.name, kind="probe", shape=entry.shape,
        index=_const(label, "index", np.arange(len(entry.core))), core=_const(label, "core", entry.core),
        place=_const(label, "place", entry.cx), state=_const(label, "state", entry.vcx),
    )  # fmt: skip


def to_image(module: Module) -> LoihiImage:
    """Assemble a module of level ``image``.

    Raises
    ------
    NmcError
        E0704 when it is not a Loihi image, E0510 and E0511 for fields and words that do not fit.
    """
    headers = module.of_type(Header)
    if module.level != "image" or len(headers) != 1:
        raise fail("E0704", "this is not an image module with one image.header")
    header = _header(headers[0].fields)
    tables: dict[int, dict[str, Words]] = {}
    for op in module.ops:
        if isinstance(op, Reg | Region):
            _store(tables.setdefault(op.core, {}), op)
    maps = module.of_type(HostMap)
    cores = tuple(CoreImage(number, tables[number]) for number in sorted(tables))
    return LoihiImage(
        header, cores,
        tuple(_input_map(op) for op in maps if op.table == "input"),
        tuple(_output_map(op) for op in maps if op.table == "output"),
        tuple(_population_map(op) for op in maps if op.table == "population"),
    )  # fmt: skip


def _header(given: Mapping[str, object]) -> ImageHeader:
    """Check names and types: the text of a module may hold anything."""
    plain = ImageHeader()
    wrong = [name for name, item in given.items() if type(item) is not type(getattr(plain, name, None))]
    if wrong:
        raise fail("E0704", f"not a Loihi header: {', '.join(wrong)} cannot be {given[wrong[0]]!r}")
    return replace(plain, **given)  # type: ignore[arg-type]  # the types were just compared


def _store(tables: dict[str, Words], op: Reg | Region) -> None:
    if op.table not in SECTIONS:
        raise fail("E0704", f"a core has no table {op.table}")
    old = tables.get(op.table, np.zeros(0, np.uint64))
    base, new = (op.index, pack(op.table, op.fields)) if isinstance(op, Reg) else (op.base, op.words.array())
    if base < 0 or base + len(new) > 1 << 16:
        raise fail("E0704", f"core {op.core}: {op.table} has no entry {base}")
    grown = np.zeros(max(len(old), base + len(new)), np.uint64)
    grown[: len(old)] = old
    grown[base : base + len(new)] = new
    tables[op.table] = grown


def _input_map(op: HostMap) -> InputMap:
    kind: Any = "bias" if op.kind == "bias" else "spikes"
    return InputMap(
        op.of, kind, op.shape, op.index.array(), op.core.array(), op.place.array(), gain=op.scale,
        bias_exp=op.exponent, source=op.source, encoder=op.kind, seed=op.seed, at=op.first_step,
    )  # fmt: skip


def _output_map(op: HostMap) -> OutputMap:
    kind: Any = op.kind
    return OutputMap(op.of, kind, op.shape, op.core.array(), op.place.array(), op.first_step, op.scale)


def _population_map(op: HostMap) -> PopMap:
    if op.state is None:
        raise fail("E0704", f"the population table of {op.of} lacks its state compartments")
    return PopMap(op.of, op.shape, op.core.array(), op.place.array(), op.state.array())
