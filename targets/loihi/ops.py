"""Loihi's own arithmetic as ops: the exact integer law that mapped module, image and emulator are held to.

All equations are those of the facts sheet, section 2 (nengo-loihi ``emulator/interface.py`` and
``discretize.decay_int``, lava ``proc/lif/models.py``, brian2-loihi), all state is int64. `compat` chooses the rule of
another tool where the public ones disagree (section 2.3). A projection's `delay` counts steps from spike to current
and is at least 1 for spikes that a core sends, 0 or more for spikes that the host injects.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.encode import rate_spikes
from nmc.ir.op import Array, Op, Value, require
from nmc.ir.ops import kernels, synapse_lists
from nmc.ir.ops.snn import Input as SnnInput
from nmc.ir.ops.snn import InputOp, OneToOne
from nmc.ir.ops.sources import Poisson
from nmc.ir.types import Type
from nmc.targets.loihi.lif import BIAS_LIMIT as BIAS_LIMIT
from nmc.targets.loihi.lif import Compat
from nmc.targets.loihi.lif import Lif as Lif
from nmc.targets.loihi.lif import decay as decay
from nmc.targets.loihi.lif import wrap as wrap
from nmc.targets.loihi.weights import RANGES, effective_weight, round_mantissa

Ints = tuple[int, ...]
Sign = Literal["mixed", "excitatory", "inhibitory"]
FANOUT = {"mixed": 1, "excitatory": 2, "inhibitory": 3}
_LEVELS = ("snn", "mapped")

#: Longest synaptic delay: 2^6 - 2 (facts 1, usable delay); a spike that a core sends takes one step more.
MAX_DELAY = 62


@dataclass(frozen=True, kw_only=True)
class Input(InputOp, name="loihi.input", levels=_LEVELS):
    """What the host brings in.

        %x = loihi.input() {source=x, shape=[1, 28, 28], kind=bias, gain=4080.0, exponent=6} : current<1x28x28>

    ``bias``: before a run the host writes rint(gain * x), cut to 0..4095, into the bias mantissa of each neuron, with
    `exponent`. ``rate`` and ``raster``: it injects spikes. ``pulse``: it injects one spike at step `at`. ``poisson``:
    it injects the counts of a Poisson process of mean `gain` a step, drawn as ``snn.poisson`` draws them. ``count``:
    it injects clip(rint(gain * x), 0, at) spikes, spread evenly over the first `at` steps.
    """

    source: str = ""
    shape: Ints
    kind: Literal["bias", "rate", "raster", "pulse", "poisson", "count"] = "bias"
    gain: float = 1.0
    exponent: int = 0
    seed: int = 0
    at: int = 0

    @property
    def in_time(self) -> bool:
        """A raster is given as spikes."""
        return self.kind == "raster"

    @property
    def rests(self) -> bool:
        """Counts and pulses end."""
        return self.kind in ("pulse", "count")

    @property
    def active_until(self) -> int:
        """Steps in which a count or pulse may enter."""
        return self.at + 1 if self.kind == "pulse" else self.at

    def infer(self) -> Type:
        """Current for a bias, counts for a Poisson process, spikes for the rest."""
        return Type({"bias": "current", "poisson": "graded"}.get(self.kind, "spikes"), self.shape)

    def verify(self) -> None:
        """A Poisson process takes no data, and its mean fits; counts are at least one."""
        if self.kind == "poisson":
            self.process.verify()
        if self.kind == "count":
            require(self.at >= 1, f"counts up to {self.at} are none")
            self.counter.verify()

    @cached_property
    def process(self) -> Poisson:
        """The process of kind ``poisson``."""
        return Poisson(out=self.out, shape=self.shape, mean=self.gain, seed=self.seed, source=self.source)

    @cached_property
    def counter(self) -> SnnInput:
        """The encoder of kind ``count``."""
        return SnnInput(
            out=self.out, source=self.source, shape=self.shape, encoder="count", gain=self.gain,
            high=self.at, over=max(self.at, 1),
        )  # fmt: skip

    @property
    def most(self) -> int:
        """The largest number of spikes that one element sends in a step."""
        return self.process.most if self.kind == "poisson" else 1

    def mantissas(self, data: Array) -> Array:
        """The bias mantissas that the host writes for samples (B, *shape): int64."""
        scaled = np.rint(data.astype(np.float64) * self.gain)
        return np.clip(scaled, 0, BIAS_LIMIT).astype(np.int64)

    def encode(self, data: Array, first_sample: int, t: int) -> Array:
        """What enters at step `t`."""
        if self.kind == "bias":
            return self.mantissas(data) << self.exponent
        if self.kind == "pulse":
            return np.full((len(data), *self.shape), int(t == self.at), np.uint8)
        if self.kind == "raster":
            return data[:, t] if t < data.shape[1] else np.zeros_like(data[:, 0])
        if self.kind == "poisson":
            return self.process.encode(data, first_sample, t)
        if self.kind == "count":
            return self.counter.encode(data, first_sample, t)
        return rate_spikes(data.astype(np.float64) * self.gain, self.seed, first_sample, t)


@dataclass(frozen=True, kw_only=True)
class SynapseOp(Op):
    """Spikes to current through registers: mantissas times 2^exp, times 64."""

    spikes: Value
    weight: Const
    delay: int = 1
    exp: int = 0
    bits: int = 8
    sign: Sign = "mixed"
    compat: Compat = "nmc"

    def verify(self) -> None:
        """Mantissas and exponent are in the range of their registers (facts 1 and 2.4)."""
        kind, longest = self.spikes.type.kind, self.longest
        require(kind in ("spikes", "graded"), f"operand is {kind}, not spikes or counts of them")
        require(
            self.delay >= 0 and longest <= MAX_DELAY + 1, f"delay {longest} is outside 0..{MAX_DELAY + 1}"
        )
        require(-8 <= self.exp <= 7, f"weight exponent {self.exp} is outside -8..7")
        require(self.bits in (1, 2, 3, 4, 5, 6, 8), f"{self.bits} weight bits")
        low, high = RANGES[FANOUT[self.sign]]
        if self.weight.data is not None and self.weight.data.size:
            least, most = int(self.weight.data.min()), int(self.weight.data.max())
            require(
                low <= least and most <= high, f"mantissas {least}..{most} leave {low}..{high} ({self.sign})"
            )

    @property
    def longest(self) -> int:
        """The longest delay of any synapse."""
        return self.delay

    @cached_property
    def mantissas(self) -> NDArray[np.int64]:
        """The mantissas as the registers hold them."""
        weight = self.weight.array()
        return round_mantissa(weight, self.bits, FANOUT[self.sign], self.exp, self.compat)

    @cached_property
    def _numbers(self) -> Array:
        """Weights in the smallest float type whose sums are exact, in units of 64 where that divides them."""
        whole = (
            self.mantissas
            if self._shift_sum
            else effective_weight(self.mantissas, self.exp, self.compat) >> 6
        )
        counts = 255 if self.spikes.type.kind == "graded" else 1
        fits = float(np.abs(whole).max(initial=0)) * self._fan_in() * counts < 2**24
        return whole.astype(np.float32 if fits else np.float64)

    @property
    def _shift_sum(self) -> bool:
        return self.compat == "lava" and self.exp < 0

    def _fan_in(self) -> int:
        return int(np.prod(self.weight.shape[1:], dtype=np.int64))

    def _linear(self, spikes: Array, numbers: Array) -> Array:
        raise TypeError

    def run(self, spikes: Array) -> Array:
        """Sum the weights of the synapses whose spike arrives, int64 (B, *shape)."""
        numbers = self._numbers
        sums = np.rint(self._linear(spikes.astype(numbers.dtype), numbers)).astype(np.int64)
        if self._shift_sum:
            sums >>= -self.exp
        return sums << 6


@dataclass(frozen=True, kw_only=True)
class Dense(SynapseOp, name="loihi.dense", levels=_LEVELS):
    """All to all: mantissas (outputs, inputs), operand taken row-major.

    %h.x = loihi.dense(%x.spikes, @h.w) {exp=1} : current<128>
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

    def _linear(self, spikes: Array, numbers: Array) -> Array:
        product = kernels.dense(spikes, numbers)
        return product.reshape(-1, *self.shape) if self.shape else product


@dataclass(frozen=True, kw_only=True)
class Conv(SynapseOp, name="loihi.conv", levels=_LEVELS):
    """One shared kernel (C_out, C_in / groups, *kernel), not flipped, as ``snn.conv``.

    %c.x = loihi.conv(%x.spikes, @c.w) {stride=[1, 1], pad=[1, 1, 1, 1], dilation=[1, 1]} : current<8x28x28>
    """

    stride: Ints
    pad: Ints
    dilation: Ints
    groups: int = 1

    def infer(self) -> Type:
        """Channels of the kernel, extents of the windows."""
        require(
            len(self.stride) in (1, 2),
            f"a convolution over {len(self.stride)} axes; Loihi's lists know 1 and 2",
        )
        args = (self.stride, self.pad, self.dilation, self.groups)
        return Type("current", kernels.conv_shape(self.spikes.shape, self.weight.shape, *args))

    def _linear(self, spikes: Array, numbers: Array) -> Array:
        return kernels.conv(spikes, numbers, self.stride, self.pad, self.dilation, self.groups)


@dataclass(frozen=True, kw_only=True)
class Diagonal(SynapseOp, name="loihi.one_to_one", levels=_LEVELS):
    """Each neuron to the neuron at the same place; mantissas broadcast to the population.

    %s.x = loihi.one_to_one(%a, @s.w) {exp=2, delay=3} : current<16x7x7>
    """

    def infer(self) -> Type:
        """Shape of the operand."""
        return OneToOne(spikes=self.spikes, weight=self.weight).infer()

    def _fan_in(self) -> int:
        return 1

    def _linear(self, spikes: Array, numbers: Array) -> Array:
        product: Array = spikes * numbers
        return product


@dataclass(frozen=True, kw_only=True)
class Sparse(SynapseOp, name="loihi.sparse", levels=_LEVELS):
    """Synapses one by one: source, target, mantissa and, with `late`, a delay of `delay + late` each.

        %e.x = loihi.sparse(%e, @e.w, @e.source, @e.target, @e.late) {exp=2, shape=[800]} : current<800>

    Indices are flat (row-major); one mantissa may stand for all synapses. All synapses of a source neuron onto one core
    share an axon, whatever their delays.
    """

    source: Const
    target: Const
    late: Const | None = None
    shape: Ints

    def infer(self) -> Type:
        """The given shape."""
        return Type("current", self.shape)

    def verify(self) -> None:
        """As the other projections; lists of one length, inside the populations."""
        lists = (self.weight, self.source, self.target, self.late)
        synapse_lists.verify(self.spikes.type.size, prod(self.shape), *lists)
        SynapseOp.verify(self)

    @property
    def longest(self) -> int:
        """The longest delay of any synapse."""
        return self.delay + synapse_lists.longest(self.late)

    @cached_property
    def taps(self) -> tuple[Op, ...]:
        """One op for each delay."""
        return synapse_lists.by_delay(self, self.late, ("weight", "source", "target"))

    @cached_property
    def _rows(self) -> synapse_lists.BySource:
        source, target = self.source.array(), self.target.array()
        return synapse_lists.by_source(source, target, self._numbers, self.spikes.type.size)

    @cached_property
    def by_target(self) -> tuple[Array, Array]:
        """Order of the synapses by target and then by source, and where each target's begin: int64 arrays."""
        source, target = self.source.array(), self.target.array()
        count = np.bincount(target, minlength=prod(self.shape))
        return np.lexsort((source, target)), np.concatenate([[0], np.cumsum(count)])

    def _fan_in(self) -> int:
        return int(np.bincount(self.target.array(), minlength=1).max())

    def _linear(self, spikes: Array, numbers: Array) -> Array:
        total = self._rows.add(spikes.reshape(len(spikes), -1), prod(self.shape))
        return total.reshape(-1, *self.shape)
