"""Level ``mapped``: which part of each population lives where, and which memory holds its synapses.

A mapped module keeps the legalised populations and projections (their op classes say that they belong to both
levels) and adds ops that say what each core holds: the kernel stays stored once, a part is a box of indices.
"""

from __future__ import annotations

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Op, Span, Value, require
from nmc.ir.types import Type

HOST = -1


@dataclass(frozen=True, kw_only=True)
class Neurons(Op, name="map.neurons", levels=("mapped",)):
    """A box of a population on a core, in the compartments `slots`.

    %relu1.0 = map.neurons(%relu1) {box=[0:8, 0:9, 0:14], core=4, slots=0:1008} : pop<8x9x14>

    Inside the slots the first axis (channels) runs fastest, then the last, the second slowest, so that the
    targets of a kernel position are neighbours. Core -1 is the host (injected input).
    """

    of: Value
    box: tuple[Span, ...]
    core: int
    slots: Span

    def infer(self) -> Type:
        """Extents of the box."""
        require(len(self.box) == len(self.of.shape), f"box of rank {len(self.box)} in {self.of.type}")
        for span, extent in zip(self.box, self.of.shape, strict=True):
            require(0 <= span.start < span.stop <= extent, f"box {span} leaves 0:{extent}")
        return Type("pop", tuple(len(span) for span in self.box))

    def verify(self) -> None:
        """The slots are a multiple of the neurons."""
        size = self.result.type.size
        require(self.core >= HOST, f"core {self.core}")
        require(len(self.slots) % size == 0, f"{len(self.slots)} slots for {size} neurons")

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as slices of the population's array."""
        return tuple(span.slice() for span in self.box)

    def global_indices(self) -> Array:
        """Flat (row-major) population index of each neuron of the box, in slot order: (n,) int64."""
        grid = np.arange(self.of.type.size).reshape(self.of.shape)[self.slices]
        return slot_order(grid)


def slot_order(grid: Array) -> Array:
    """Flatten a box with its first axis running fastest: (C, H, W) is read as (H, W, C)."""
    return np.moveaxis(grid, 0, -1).reshape(-1)


@dataclass(frozen=True, kw_only=True)
class Synapses(Op, name="map.synapses", levels=("mapped",)):
    """The synapses of one projection (or of a population's own reset, `via` naming it) between two parts.

    map.synapses(%x.0, %relu1.0, %conv1) {axons=0:784, mem=0:72, formats=[1]}

    `axons` and `mem` are ranges of the destination core's axon table and synapse memory; empty before
    allocation.
    """

    source: Value
    target: Value
    via: Value
    axons: Span = Span(0, 0)
    mem: Span = Span(0, 0)
    formats: tuple[int, ...] = ()

    def verify(self) -> None:
        """Both ends are parts."""
        for value in (self.source, self.target):
            require(value.type.kind == "pop", f"%{value.name} is {value.type}, not a part")


@dataclass(frozen=True, kw_only=True)
class Route(Op, name="map.route", levels=("mapped",)):
    """The cores that spikes of a part are sent to, and their number a sample where known.

    map.route(%x.0) {to=[4, 5], spikes=[120, 98]}
    """

    source: Value
    to: tuple[int, ...]
    spikes: tuple[int, ...] = ()

    def verify(self) -> None:
        """One spike count a destination, or none."""
        require(not self.spikes or len(self.spikes) == len(self.to), "one spike count a destination")
