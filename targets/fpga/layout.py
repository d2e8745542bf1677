"""What every core of a mapped network holds, before a shape is chosen: neurons, axons, rows, destinations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.module import Module
from nmc.ir.ops import snn
from nmc.ir.ops.mapped import HOST, Neurons
from nmc.targets.fpga import dialect
from nmc.targets.fpga.demands import FpgaDemands, aligned, vias_of
from nmc.targets.fpga.ops import RESETS, Class
from nmc.targets.fpga.rows import Geometry, Place, Rows, place

Array = NDArray[Any]
#: Neurons that nobody is never fire.
IDLE = Class(theta=1, close=0)


@dataclass(frozen=True, eq=False)
class Part:
    """A box of a population on a core, from group `group` on; `neurons` are the flat indices of its neurons."""

    op: dialect.Neuron
    core: int
    group: int
    place: Place
    neurons: Array


@dataclass(eq=False)
class CoreLayout:
    """Tables of one core; arrays in `axons` are those of `Rows`, with absolute values."""

    parts: list[Part] = field(default_factory=list)
    groups: int = 0
    rows: int = 0
    count: int = 0
    axons: dict[str, list[Array]] = field(default_factory=dict)
    weights: list[Array] = field(default_factory=list)
    named: list[Array] = field(default_factory=list)
    geometries: dict[Geometry, int] = field(default_factory=dict)

    def add(self, rows: Rows, group: int) -> Array:
        """Take in the rows of a projection onto a part; gives the numbers of the new axons."""
        geometry = [self.geometries.setdefault(item, len(self.geometries)) for item in rows.geometries]
        numbers = np.array([*geometry, 0], np.int64)
        values = {
            "base": rows.base + self.rows, "first": rows.first + np.where(rows.sparse == 1, 0, group),
            "geo": np.where(rows.sparse == 1, 0, numbers[rows.geo]), "ny": rows.ny, "sparse": rows.sparse,
        }  # fmt: skip
        for name, column in values.items():
            self.axons.setdefault(name, []).append(column)
        self.weights.append(rows.weight)
        self.named.append(rows.group + group)
        self.rows += len(rows.weight)
        self.count += len(rows.source)
        return np.arange(self.count - len(rows.source), self.count)

    def column(self, name: str) -> Array:
        """A field of all axons."""
        return np.concatenate([*self.axons.get(name, ()), np.zeros(0, np.int64)])


@dataclass(frozen=True, eq=False)
class Links:
    """Synapses of source neurons as destinations, int64 arrays of one length; `delay` counts steps to the current."""

    source: Array
    core: Array
    axon: Array
    delay: Array


@dataclass(frozen=True, eq=False)
class Layout:
    """Everything of a mapped network that the memories are made from.

    Parameters
    ----------
    cores : tuple of CoreLayout
    core, slot : mapping of str to int array
        Core and neuron of each neuron of a population.
    links : mapping of str to list of Links
        By population or input; `source` are flat indices.
    """

    cores: tuple[CoreLayout, ...]
    core: dict[str, Array]
    slot: dict[str, Array]
    links: dict[str, list[Links]]

    def routes(self) -> tuple[Array, Array, Links]:
        """Core and neuron of the sender of each destination, by core and neuron, and the destinations."""
        names = [name for name in self.links if name in self.core]
        every = [(name, item) for name in names for item in self.links[name]]
        none = np.zeros(0, np.int64)
        core = np.concatenate([self.core[name][item.source] for name, item in every] + [none])
        slot = np.concatenate([self.slot[name][item.source] for name, item in every] + [none])
        joined = joined_links([item for _, item in every])
        order = np.lexsort((slot, core))
        return core[order], slot[order], Links(*(column[order] for column in vars(joined).values()))


def joined_links(items: list[Links]) -> Links:
    """All links of a list as one."""
    none = np.zeros(0, np.int64)
    return Links(
        *(
            np.concatenate([getattr(item, name) for item in items] + [none])
            for name in ("source", "core", "axon", "delay")
        )
    )


def layout_of(module: Module, demands: FpgaDemands) -> Layout:
    """Lay out all cores of a mapped module."""
    found = [part for part in module.of_type(Neurons) if part.core != HOST]
    cores = tuple(CoreLayout() for _ in range(1 + max((part.core for part in found), default=0)))
    core, slot = dict[str, Array](), dict[str, Array]()
    for part in found:
        op = module.producers[part.of.name]
        assert isinstance(op, dialect.Neuron)
        grid = np.arange(op.result.type.size).reshape(op.result.shape)[part.slices]
        where = place(grid.shape, demands.lanes, aligned(module, op))
        held = cores[part.core]
        made = Part(op, part.core, held.groups, where, grid.reshape(-1))
        core.setdefault(op.out, np.full(op.result.type.size, -1))[made.neurons] = part.core
        numbers = slot.setdefault(op.out, np.full(op.result.type.size, -1))
        numbers[made.neurons] = held.groups * demands.lanes + where.slots
        held.parts.append(made)
        held.groups += where.groups
    return Layout(cores, core, slot, _links(module, demands, found, cores))


def _links(
    module: Module, demands: FpgaDemands, parts: list[Neurons], cores: tuple[CoreLayout, ...]
) -> dict[str, list[Links]]:
    """Fill the cores with rows and axons, and note what they hang on."""
    found: dict[str, list[Links]] = {}
    at = {number: iter(held.parts) for number, held in enumerate(cores)}
    for part in parts:
        made = next(at[part.core])
        for via in vias_of(module, made.op):
            rows = demands.rows(module, via, made.op, part.box)
            axons = cores[part.core].add(rows, made.group)
            full = [np.full(len(axons), value) for value in (part.core, via.delay)]
            found.setdefault(via.spikes.name, []).append(Links(rows.source, full[0], axons, full[1]))
    return found


def class_of(op: dialect.Neuron, *, own_theta: bool, own_bias: bool) -> Class:
    """The class of a population; thresholds and biases are in it where neurons have none of their own."""
    names = ("v_reset", "keep", "keep_i", "limit", "strict", "late", "signed", "once", "open", "close")
    values = {name: int(getattr(op, name)) for name in names}
    theta = 0 if own_theta else int(op.theta.array().reshape(-1)[0])
    bias = 0 if own_bias else int(op.bias.array().reshape(-1)[0])
    return Class(theta=theta, bias=bias, reset=RESETS[op.reset], **values)


def uniform(values: Array) -> bool:
    """Whether all elements are the same."""
    return bool((values == values.reshape(-1)[0]).all()) if values.size else True


def inputs_of(module: Module) -> Iterator[dialect.Input | dialect.Poisson]:
    """Inputs of the network."""
    for op in module.of_type(snn.InputOp):
        assert isinstance(op, dialect.Input | dialect.Poisson)
        yield op
