"""Projections of a legalised SpiNNaker2 network: integer weights, a row format, a delay of 1..8 steps."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Op, Value, require
from nmc.ir.ops import kernels
from nmc.ir.ops.snn import OneToOne
from nmc.ir.types import Type
from nmc.targets.spinnaker2.layout import MAX_DELAY, MAX_WEIGHT

Ints = tuple[int, ...]
_LEVELS = ("snn", "mapped")
RowFormat = Literal["dense8", "sparse16", "sparse32", "conv"]
_INT32 = 1 << 31


@dataclass(frozen=True, kw_only=True)
class SynapseOp(Op):
    """Spikes (or payloads) to integer sums: ring += gain * weight * payload.

    `format` is how the weights lie in SRAM; it bounds them (15, 127 or 32767 either way).
    """

    spikes: Value
    weight: Const
    delay: int = 1
    gain: int = 1
    format: RowFormat = "dense8"

    def verify(self) -> None:
        """Delay, gain and weights fit the row format."""
        require(
            self.spikes.type.kind in ("spikes", "graded"), f"operand is {self.spikes.type.kind}, not spikes"
        )
        require(1 <= self.delay <= MAX_DELAY, f"delay {self.delay} is outside 1..{MAX_DELAY}")
        require(-_INT32 <= self.gain < _INT32, f"gain {self.gain} leaves 32 bits")
        data = self.weight.data
        if data is not None and data.size:
            bound, low, high = MAX_WEIGHT[self.format], int(data.min()), int(data.max())
            require(data.dtype.kind in "iu", f"weights of type {data.dtype}, not integers")
            require(
                -bound <= low and high <= bound,
                f"weights {low}..{high} leave {-bound}..{bound} of {self.format}",
            )

    @cached_property
    def _reach(self) -> float:
        """Largest sum of weights onto a target, for a payload of 1."""
        return (
            float(np.abs(self.weight.array().astype(np.float64)).max(initial=0))
            * self._fan_in()
            * abs(self.gain)
        )

    def _fan_in(self) -> int:
        return int(prod(self.weight.shape[1:]))

    @cached_property
    def _whole(self) -> Array:
        return self.weight.array().astype(np.int64) * self.gain

    def _linear(self, spikes: Array, weight: Array) -> Array:
        raise TypeError

    def run(self, spikes: Array) -> Array:
        """Sum what arrives, int32 (B, *shape): in floats where that is exact, else in integers that wrap."""
        peak = float(np.abs(spikes).max(initial=0)) * self._reach
        kind = np.float32 if peak < 2**24 else np.float64 if peak < 2**53 else np.int64
        total = self._linear(spikes.astype(kind), self._whole.astype(kind))
        return total.astype(np.int64).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Dense(SynapseOp, name="spinnaker2.dense", levels=_LEVELS):
    """All to all: integers (outputs, inputs), operand taken row-major.

    %h.x = spinnaker2.dense(%x, @h.w) {delay=1} : current<128>
    """

    shape: Ints = ()

    def infer(self) -> Type:
        """One element an output, in `shape` where given."""
        require(len(self.weight.shape) == 2, f"weights of rank {len(self.weight.shape)}")
        have, want = self.spikes.type.size, self.weight.shape[1]
        require(have == want, f"weights have {want} inputs, operand has {have}")
        return Type(
            "current", kernels.reshape_target(self.weight.shape[0], self.shape or self.weight.shape[:1])
        )

    def _linear(self, spikes: Array, weight: Array) -> Array:
        product = kernels.dense(spikes, weight)
        return product.reshape(-1, *self.shape) if self.shape else product


@dataclass(frozen=True, kw_only=True)
class Conv(SynapseOp, name="spinnaker2.conv", levels=_LEVELS):
    """One shared kernel (C_out, C_in / groups, *kernel), not flipped, as ``snn.conv``.

    %c.x = spinnaker2.conv(%x, @c.w) {format=conv, stride=[1, 1], pad=[1, 1, 1, 1], dilation=[1, 1]} : current<8x28x28>
    """

    stride: Ints
    pad: Ints
    dilation: Ints
    groups: int = 1

    def infer(self) -> Type:
        """Channels of the kernel, extents of the windows."""
        require(len(self.stride) in (1, 2), f"a convolution over {len(self.stride)} axes; rows know 1 and 2")
        args = (self.stride, self.pad, self.dilation, self.groups)
        return Type("current", kernels.conv_shape(self.spikes.shape, self.weight.shape, *args))

    def _linear(self, spikes: Array, weight: Array) -> Array:
        return kernels.conv(spikes, weight, self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, kw_only=True)
class Diagonal(SynapseOp, name="spinnaker2.one_to_one", levels=_LEVELS):
    """Each neuron to the neuron at the same place; weights broadcast to the population.

    %s.x = spinnaker2.one_to_one(%a, @s.w) {format=sparse16, delay=3} : current<16x7x7>
    """

    def infer(self) -> Type:
        """Shape of the operand."""
        return OneToOne(spikes=self.spikes, weight=self.weight).infer()

    def _fan_in(self) -> int:
        return 1

    def _linear(self, spikes: Array, weight: Array) -> Array:
        product: Array = spikes * weight
        return product


@dataclass(frozen=True, kw_only=True)
class Sparse(SynapseOp, name="spinnaker2.sparse", levels=_LEVELS):
    """Synapses one by one: `source` and `target` are flat (row-major) indices, `weight` has one element each.

    %e.x = spinnaker2.sparse(%e, @e.w, @e.src, @e.dst) {format=sparse16, shape=[800], delay=5} : current<800>
    """

    source: Const
    target: Const
    shape: Ints

    def infer(self) -> Type:
        """The given shape."""
        return Type("current", self.shape)

    def verify(self) -> None:
        """One source, target and weight a synapse, all inside their populations."""
        SynapseOp.verify(self)
        count = self.source.shape
        require(len(count) == 1 and self.target.shape == count, "one source and one target each")
        require(self.weight.shape in (count, (1,)), "one weight a synapse, or one for all")
        for const, size in ((self.source, self.spikes.type.size), (self.target, prod(self.shape))):
            data = const.data
            if data is not None and data.size:
                require(
                    int(data.min()) >= 0 and int(data.max()) < size, f"@{const.name} leaves 0..{size - 1}"
                )

    @cached_property
    def _order(self) -> tuple[Array, Array, Array]:
        """Sources and weights by target, and where each target's synapses start."""
        target = self.target.array().astype(np.int64)
        order = np.argsort(target, kind="stable")
        weight = np.broadcast_to(self._whole, target.shape)[order]
        return (
            self.source.array().astype(np.int64)[order],
            weight,
            np.searchsorted(target[order], np.arange(prod(self.shape) + 1)),
        )

    def run(self, spikes: Array) -> Array:
        """Sum what arrives, int32 (B, *shape)."""
        source, weight, starts = self._order
        flat = spikes.reshape(len(spikes), -1).astype(np.int64)
        sums = np.zeros((len(spikes), source.size + 1), np.int64)
        np.cumsum(
            flat[:, source] * weight, axis=1, out=sums[:, 1:]
        )  # wraps; differences are exact modulo 2^64
        total = sums[:, starts[1:]] - sums[:, starts[:-1]]
        return total.astype(np.int32).reshape(len(spikes), *self.shape)
