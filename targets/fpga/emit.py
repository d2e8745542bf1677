"""From a mapped module to the image: one word stream and the maps of the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.passes.base import Pass
from nmc.targets.fpga import dialect
from nmc.targets.fpga.demands import FpgaDemands
from nmc.targets.fpga.fit import shape_of
from nmc.targets.fpga.image import Image, InputMap, OutputMap, PopMap, to_module
from nmc.targets.fpga.layout import (
    IDLE,
    CoreLayout,
    Layout,
    Part,
    class_of,
    inputs_of,
    joined_links,
    layout_of,
)
from nmc.targets.fpga.ops import Class
from nmc.targets.fpga.shape import Shape, class_fields
from nmc.targets.fpga.words import Op, Register, Writer, word

Array = NDArray[Any]


@dataclass(frozen=True)
class Emit(Pass, name="fpga-emit", takes="mapped", gives="image"):
    """Write the memories of every core as words: nothing is chosen here any more.

    before: %2.p0 = map.neurons(%2) {box=[0:125], core=0, slots=0:125} : pop<125>
    after:  image.region {core=0, table=weights, ...}
    """

    def run(self, module: Module) -> Module:
        """Make the image."""
        return to_module(build_image(module))


def build_image(module: Module) -> Image:
    """Make the image of a mapped module.

    Raises
    ------
    NmcError
        E0702 for a module without a shape, E0944 for outputs that the host cannot read.
    """
    shape = shape_of(module)
    layout = layout_of(module, FpgaDemands(shape.lanes))
    pops = tuple(_pop(module, layout, op) for op in module.of_type(dialect.Neuron))
    return Image(
        shape=shape, program=_program(module, shape, layout), inputs=_inputs(module, layout), pops=pops,
        outputs=_outputs(module), steps=int(module.attr("steps") or 1), proved=int(module.attr("proved_steps") or 0),
        device=str(module.attr("device") or ""),
    )  # fmt: skip


def _pop(module: Module, layout: Layout, op: dialect.Neuron) -> PopMap:
    host = op.out in (module.attr("host") or [])
    return PopMap(op.out, op.result.shape, layout.core[op.out], layout.slot[op.out], op.fires, host)


def _inputs(module: Module, layout: Layout) -> tuple[InputMap, ...]:
    found = []
    for op in inputs_of(module):
        links = joined_links(layout.links.get(op.out, []))
        found.append(
            InputMap(op.out, op.shape, encoder_of(op), links.source, links.core, links.axon, links.delay)
        )
    return tuple(found)


def encoder_of(op: dialect.Input | dialect.Poisson) -> dict[str, Any]:
    """What the host needs to encode data for an input."""
    if isinstance(op, dialect.Poisson):
        return {"kind": "poisson", "mean": op.mean, "seed": op.seed}
    names = ("source", "encoder", "gain", "seed", "low", "high", "over")
    return {"kind": "data", **{name: getattr(op, name) for name in names}}


def _outputs(module: Module) -> tuple[OutputMap, ...]:
    found = []
    for op in module.of_type(snn.Output):
        source = module.producers[op.data.name]
        if not isinstance(source, dialect.Neuron) or source.fires != (op.decoder == "count"):
            raise fail("E0944", f"output %{op.data.name} has decoder {op.decoder}", where=f"%{op.data.name}")
        found.append(OutputMap(op.data.name, "count" if source.fires else "v", op.scale))
    return tuple(found)


# ---------------------------------------------------------------------------------------------------- words
def _program(module: Module, shape: Shape, layout: Layout) -> bytes:
    """All memories, then CLR, then what the host writes after each CLR."""
    writer = Writer(shape)
    for number, core in enumerate(layout.cores):
        _synapses(writer, core, number)
        _neurons(writer, core, number)
    _routes(writer, layout, module)
    writer.register(Register.GROUPS, max(core.groups for core in layout.cores))
    writer.put(word(Op.CLR, 1))
    for number, core in enumerate(layout.cores):
        for part in core.parts:
            if part.op.v_init is not None:
                _start(writer, part, number)
    return writer.file()


def _synapses(writer: Writer, core: CoreLayout, number: int) -> None:
    """Weights, axons and geometries."""
    shape = writer.shape
    if core.rows:
        writer.memory("weights", {"w": np.concatenate(core.weights)}, core=number)
        if shape.sparse:
            writer.memory("groups", {"group": np.concatenate(core.named)}, core=number)
    if core.count:
        names = ("base", "first", "geo", "ny", "sparse")
        values = {name: core.column(name) for name in names}
        writer.memory("axons", values, core=number)
    if core.geometries:
        memory = shape.memories["geometry"]
        table = np.array(list(core.geometries), np.int64)
        columns = {
            item.name: table[:, index] & ((1 << item.bits) - 1) for index, item in enumerate(memory.fields)
        }
        writer.memory("geometry", columns, core=number)


def _neurons(writer: Writer, core: CoreLayout, number: int) -> None:
    """Classes, and what each group and each neuron has."""
    shape = writer.shape
    own_theta, own_bias = shape.theta_bits > 0, shape.bias_bits > 0
    classes: dict[Class, int] = {IDLE: 0}
    size = (core.groups, shape.lanes)
    index = np.zeros(core.groups, np.int64)
    theta = np.full(size, (1 << shape.theta_bits) - 1, np.int64).reshape(-1)
    bias = np.zeros(size, np.int64).reshape(-1)
    for part in core.parts:
        entry = class_of(part.op, own_theta=own_theta, own_bias=own_bias)
        index[part.group : part.group + part.place.groups] = classes.setdefault(entry, len(classes))
        at = part.group * shape.lanes + part.place.slots
        theta[at], bias[at] = _each(part, part.op.theta.array()), _each(part, part.op.bias.array())
    table = {
        item.name: np.array([getattr(entry, item.name) for entry in classes]) for item in class_fields(shape)
    }
    writer.memory("classes", table, core=number)
    values = {"class": index}
    values |= {"bias": bias.reshape(size)} if own_bias else {}
    values |= {"theta": theta.reshape(size)} if own_theta else {}
    writer.memory("params", values, core=number)


def _each(part: Part, values: Array) -> Array:
    """A parameter of each neuron of a part."""
    return np.broadcast_to(values, part.op.result.shape).reshape(-1)[part.neurons].astype(np.int64)


def _routes(writer: Writer, layout: Layout, module: Module) -> None:
    """Destinations, and each core's pointers to them."""
    core, slot, links = layout.routes()
    if len(core):
        targets = {"axon": links.axon, "core": links.core, "delay": links.delay - 1}
        writer.memory("targets", targets)
    told = [name for name in module.attr("host") or [] if name in layout.core]
    for number, held in enumerate(layout.cores):
        size = held.groups * writer.shape.lanes
        host = np.zeros(size, np.int64)
        for name in told:
            host[layout.slot[name][layout.core[name] == number]] = 1
        mine = core == number
        count = np.bincount(slot[mine], minlength=size)
        base = np.cumsum(count) - count + int(np.count_nonzero(core < number))
        base = np.where(count > 0, base, 0)
        writer.memory("pointers", {"base": base, "count": count, "host": host}, core=number)


def _start(writer: Writer, part: Part, number: int) -> None:
    """State of a part at the beginning of a sample, where it is not what CLR makes it."""
    shape, const = writer.shape, part.op.v_init
    assert const is not None
    v = np.zeros(part.place.groups * shape.lanes, np.int64)
    v[part.place.slots] = _each(part, const.array())
    values = {
        item.name: np.zeros((part.place.groups, shape.lanes), np.int64)
        for item in shape.memories["state"].fields
    }
    values["v"] = v.reshape(-1, shape.lanes)
    writer.memory("state", values, core=number, row=part.group)
