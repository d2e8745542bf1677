"""From a mapped and placed module to the image of the chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import DoesNotFit, fail
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.ir.target import resolve
from nmc.passes.base import Pass
from nmc.passes.map.place import check_placed
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.build import PeProgram, build
from nmc.targets.spinnaker2.image import to_module
from nmc.targets.spinnaker2.keys import KeyRange, allocate
from nmc.targets.spinnaker2.layout import Box, ChipImage, InputMap, OutputMap, Part, PopMap, Route
from nmc.targets.spinnaker2.programs import Site, program
from nmc.targets.spinnaker2.router import Flow, Place, noc_targets, tables
from nmc.targets.spinnaker2.target import place_of
from nmc.targets.spinnaker2.ways import place_of_part, ways


@dataclass(frozen=True)
class Emit(Pass, name="spinnaker2-emit", takes="mapped", gives="image"):
    """Write the memory of every PE and the router tables: nothing is chosen here any more.

    before: %2.p0 = map.neurons(%2) {box=[0:125], core=7, slots=0:125} : pop<125>
    after:  image.region {core=9, table=rows, ...}
    """

    def run(self, module: Module) -> Module:
        """Make the image."""
        return to_module(build_image(module))


@dataclass(frozen=True, eq=False)
class Layout:
    """Everything about where things are that programs and router tables are made from.

    Parameters
    ----------
    parts : mapping of str to sequence of Neurons
        Parts of each population and input, in order.
    keys : mapping of str to sequence of KeyRange
    flows : mapping of str to sequence of Flow
        By name of the part.
    chips : int
    """

    parts: Mapping[str, Sequence[Neurons]]
    keys: Mapping[str, Sequence[KeyRange]]
    flows: Mapping[str, Sequence[Flow]]
    chips: int

    @property
    def boxes(self) -> dict[str, Sequence[Box]]:
        """How everything is cut."""
        return {name: [part.box for part in found] for name, found in self.parts.items()}

    def targets(self, part: str) -> frozenset[Place]:
        """All PEs that any spike of a part goes to."""
        return frozenset().union(*(flow.targets for flow in self.flows[part]))

    def sizes(self) -> dict[KeyRange, int]:
        """Keys in use."""
        return {
            keys: part.result.type.size
            for name, found in self.parts.items()
            for part, keys in zip(found, self.keys[name], strict=True)
        }


def layout_of(module: Module, *, ranges: bool = True) -> Layout:
    """Find keys and ways of all parts; `ranges` as `nmc.targets.spinnaker2.ways.ways`."""
    parts: dict[str, list[Neurons]] = {}
    for part in module.of_type(Neurons):
        parts.setdefault(part.of.name, []).append(part)
    keys = allocate({name: [part.result.type.size for part in found] for name, found in parts.items()})
    own = {
        part.out: key for name, found in parts.items() for part, key in zip(found, keys[name], strict=True)
    }
    chips = 1 + max(place_of_part(part)[0] for found in parts.values() for part in found)
    return Layout(parts, keys, ways(module, own, ranges=ranges), chips)


def programs(module: Module, where: Layout) -> list[PeProgram]:
    """The programs of all PEs."""
    found = []
    for name, parts in where.parts.items():
        op = module.producers[name]
        if not isinstance(op, s2.NeuronOp):
            continue
        for number, part in enumerate(parts):
            chip, pe = place_of(part.core)
            noc = noc_targets(chip, where.targets(part.out))
            site = Site(chip, pe, where.keys, number, noc)
            found.append(program(module, op, part.box, where.boxes, site))
    return sorted(found, key=lambda item: (item.chip, item.pe))


def build_image(module: Module) -> ChipImage:
    """Make the image of a mapped and placed module.

    Raises
    ------
    NmcError
        E0702 for a module without places, E0923 for outputs that no chip can give; `DoesNotFit` for too little memory,
        keys or router entries.
    """
    check_placed(module)
    where = layout_of(module)
    limit = int(resolve(module.attr("target", "spinnaker2")).data["router"]["entries"]["value"])
    try:
        routers = _routers(where, limit)
    except DoesNotFit:
        routers = _routers(layout_of(module, ranges=False), limit)
    images = tuple(build(item) for item in programs(module, where))
    inputs = tuple(
        InputMap(op.out, op.shape, _parts(where, op.out), encoder_of(op)) for op in module.of_type(snn.InputOp)
        if op.out in where.parts
    )  # fmt: skip
    pops = tuple(
        PopMap(op.out, op.shape, _parts(where, op.out), _names(op)) for op in module.of_type(s2.NeuronOp)
    )
    outputs = _outputs(module)
    return ChipImage(images, routers, inputs, pops, outputs, (where.chips, 1), int(module.attr("steps") or 1))


def _names(op: s2.NeuronOp) -> tuple[str, ...]:
    """What the user calls the states of a population; the first is `v` to probes, and no other may be."""
    if not isinstance(op, s2.User):
        return ()
    taken = ("v", "spikes")
    return tuple(name if number == 0 or name not in taken else "" for number, name in enumerate(op.states))


def _routers(where: Layout, limit: int) -> dict[int, tuple[Route, ...]]:
    flows = [flow for found in where.flows.values() for flow in found]
    return tables(flows, where.sizes(), where.chips, limit)


def _parts(where: Layout, name: str) -> tuple[Part, ...]:
    found = []
    for part, keys in zip(where.parts[name], where.keys[name], strict=True):
        chip, pe = (0, -1) if part.core == HOST else place_of(part.core)
        found.append(Part(chip, pe, keys.base, part.box))
    return tuple(found)


def encoder_of(op: Op) -> dict[str, Any]:
    """What the host needs to encode data for an input."""
    if isinstance(op, s2.Poisson):
        return {"kind": "poisson", "mean": op.mean, "seed": op.seed}
    if not isinstance(op, s2.Input):
        raise fail("E0922", f"%{op.out} is no input that the host of SpiNNaker2 knows")
    names = ("source", "encoder", "gain", "seed", "low", "high", "over")
    return {"kind": "data", **{name: getattr(op, name) for name in names}}


def _outputs(module: Module) -> tuple[OutputMap, ...]:
    found = []
    for op in module.of_type(snn.Output):
        source = module.producers[op.data.name]
        if not isinstance(source, s2.NeuronOp) or source.law.fires != (op.decoder == "count"):
            raise fail("E0923", f"output %{op.data.name} has decoder {op.decoder}", where=f"%{op.data.name}")
        found.append(OutputMap(op.data.name, op.data.name, "count" if source.law.fires else "v", op.scale))
    return tuple(found)
