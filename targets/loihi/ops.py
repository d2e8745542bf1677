"""Loihi's own arithmetic as ops: the exact integer law that mapped module, image and emulator are held to.

All equations are those of the facts sheet, section 2 (nengo-loihi ``emulator/interface.py`` and
``discretize.decay_int``, lava ``proc/lif/models.py``, brian2-loihi), all state is int64. `compat` chooses the rule of
another tool where the public ones disagree (section 2.3). A projection's `delay` counts steps from spike to current
and is at least 1 for spikes that a core sends, 0 or more for spikes that the host injects.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.encode import rate_spikes
from nmc.ir.op import Array, Op, Span, State, StatefulOp, Value, broadcasts, require
from nmc.ir.ops import kernels
from nmc.ir.ops.snn import InputOp, OneToOne
from nmc.ir.types import Type
from nmc.targets.loihi.weights import RANGES, effective_weight, round_mantissa

Ints = tuple[int, ...]
Compat = Literal["nmc", "nengo-loihi", "lava", "brian2loihi"]
Sign = Literal["mixed", "excitatory", "inhibitory"]
FANOUT = {"mixed": 1, "excitatory": 2, "inhibitory": 3}
_LEVELS = ("snn", "mapped")

#: Longest synaptic delay: 2^6 - 2 (facts 1, usable delay); a spike that a core sends takes one step more.
MAX_DELAY = 62

#: Mantissa of a bias register, 13 bits signed (facts 2).
BIAS_LIMIT = 4095


@dataclass(frozen=True, kw_only=True)
class Input(InputOp, name="loihi.input", levels=_LEVELS):
    """What the host brings in.

        %x = loihi.input() {source=x, shape=[1, 28, 28], kind=bias, gain=4080.0, exponent=6} : current<1x28x28>

    ``bias``: before a run the host writes rint(gain * x), cut to 0..4095, into the bias mantissa of each neuron, with
    `exponent`. ``rate`` and ``raster``: it injects spikes. ``pulse``: it injects one spike at step `at`.
    """

    source: str = ""
    shape: Ints
    kind: Literal["bias", "rate", "raster", "pulse"] = "bias"
    gain: float = 1.0
    exponent: int = 0
    seed: int = 0
    at: int = 0

    @property
    def in_time(self) -> bool:
        """A raster is given as spikes."""
        return self.kind == "raster"

    def infer(self) -> Type:
        """Current for a bias, spikes for the rest."""
        return Type("current" if self.kind == "bias" else "spikes", self.shape)

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
        require(self.spikes.type.kind == "spikes", f"operand is {self.spikes.type.kind}, not spikes")
        require(0 <= self.delay <= MAX_DELAY + 1, f"delay {self.delay} is outside 0..{MAX_DELAY + 1}")
        require(-8 <= self.exp <= 7, f"weight exponent {self.exp} is outside -8..7")
        require(self.bits in (1, 2, 3, 4, 5, 6, 8), f"{self.bits} weight bits")
        low, high = RANGES[FANOUT[self.sign]]
        if self.weight.data is not None and self.weight.data.size:
            least, most = int(self.weight.data.min()), int(self.weight.data.max())
            require(
                low <= least and most <= high, f"mantissas {least}..{most} leave {low}..{high} ({self.sign})"
            )

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
        fits = float(np.abs(whole).max(initial=0)) * self._fan_in() < 2**24
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


def wrap(value: Array, bits: int) -> Array:
    """Two's complement wrap of an int64 array to `bits` bits plus sign."""
    half = np.int64(1) << bits
    wrapped: Array = ((value + half) & (2 * half - 1)) - half
    return wrapped


def decay(value: Array, amount: int) -> Array:
    """sgn(x) * ((|x| * (4096 - amount)) >> 12), rounding toward zero (facts 2)."""
    size = (np.abs(value) * (4096 - amount)) >> 12
    return np.where(value < 0, -size, size)


@dataclass(frozen=True, kw_only=True)
class Lif(StatefulOp, name="loihi.lif", levels=_LEVELS):
    """A population of current-based leaky integrate-and-fire compartments, one step of the chip at a time.

        %h = loihi.lif(_, %h.x, @h.bias, @h.bias_exp, @h.v) {du=4096, vth=2040, reset=soft, reset_mant=255,
                                                              reset_exp=3} : spikes<128>

    `current` are the synaptic currents, `drive` the bias that the host writes. With

        q = wrap21(sum of currents);  u = wrap23(decay(u, du) + q)
        v = clip(decay(v, dv) + u + (bias << bias_exp) + drive, -(2^neg_limit) + 1, 2^(9 + 2 pos_limit) - 1)
        v = 0 while the refractory counter runs;  spike = v > (vth << 6)

    ``hard`` reset sets v to 0 and starts the counter at `refract`. ``soft`` reset is a pair of compartments, the
    second of which only compares, and a synapse of weight -(reset_mant << reset_exp) << 6 from it to the first, one
    step later. ``none`` never spikes: the result is v.
    """

    drive: Value | None = None
    current: tuple[Value, ...] = ()
    bias: Const | None = None
    bias_exp: Const | None = None
    v_init: Const | None = None
    du: int = 4096
    dv: int = 0
    vth: int = 0
    refract: int = 1
    neg_limit: int = 23
    pos_limit: int = 7
    reset: Literal["hard", "soft", "none"] = "hard"
    reset_mant: int = 0
    reset_exp: int = 0
    compat: Compat = "nmc"

    @property
    def shape(self) -> Ints:
        """Shape of the population."""
        values = [*self.current, *([self.drive] if self.drive else [])]
        require(len(values) >= 1, "a population needs a current")
        shapes = {value.shape for value in values}
        require(len(shapes) == 1, f"currents differ in shape: {sorted(shapes)}")
        return values[0].shape

    def infer(self) -> Type:
        """Spikes, or potentials where it never spikes."""
        return Type("graded" if self.reset == "none" else "spikes", self.shape)

    @property
    def compartments(self) -> int:
        """Compartments that one neuron takes."""
        return 2 if self.reset == "soft" else 1

    def verify(self) -> None:
        """Everything is in the range of its register (facts 1 and 2)."""
        require(
            0 <= self.du <= 4096 and 0 <= self.dv <= 4096, f"decays {self.du}, {self.dv} are outside 0..4096"
        )
        require(0 <= self.vth < 1 << 17, f"threshold mantissa {self.vth} is outside 17 bits")
        require(1 <= self.refract <= 63, f"refractory delay {self.refract} is outside 1..63")
        require(
            0 <= self.neg_limit <= 31 and 0 <= self.pos_limit <= 7, "limits of v are outside their registers"
        )
        require(
            0 <= self.reset_mant <= 255 and 0 <= self.reset_exp <= 7, "reset weight is outside its register"
        )
        require(self.reset != "soft" or self.refract == 1, "a soft reset has no refractory time")
        require(self.reset != "soft" or self.reset_mant > 0, "a soft reset needs a reset weight")
        require(
            self.drive is None or (self.bias is None and self.bias_exp is None),
            "the host writes the bias registers of this population; it cannot have a bias",
        )
        have = self.shape
        for const in self.consts:
            shape = const.shape
            fits = broadcasts(shape, have)
            require(fits, f"@{const.name} {shape} does not broadcast to {have}")
        if self.bias is not None and self.bias.data is not None:
            require(
                int(np.abs(self.bias.data).max(initial=0)) <= BIAS_LIMIT + 1,
                "bias mantissa is outside 13 bits",
            )

    def part(self, box: tuple[Span, ...]) -> Lif:
        """The same population cut to a box of indices."""
        shape, cut = tuple(len(span) for span in box), tuple(span.slice() for span in box)

        def small(value: Value) -> Value:
            return Value(value.name, Type(value.type.kind, shape))

        def cropped(const: Const | None) -> Const | None:
            return (
                None if const is None else Const(const.name, np.broadcast_to(const.array(), self.shape)[cut])
            )

        return replace(
            self, drive=None if self.drive is None else small(self.drive), current=tuple(map(small, self.current)),
            bias=cropped(self.bias), bias_exp=cropped(self.bias_exp), v_init=cropped(self.v_init),
        )  # fmt: skip

    @cached_property
    def _bias(self) -> Array:
        if self.bias is None:
            return np.zeros((1,) * len(self.shape), np.int64)
        exponent = self.bias_exp.array().astype(np.int64) if self.bias_exp is not None else np.int64(0)
        shifted: Array = self.bias.array().astype(np.int64) << exponent
        return shifted

    def begin(self, batch: int) -> State:
        """Zeros, and `v_init` where given."""
        shape = (batch, *self.shape)
        v = np.zeros(shape, np.int64)
        if self.v_init is not None:
            v += self.v_init.array()
        zeros = {name: np.zeros(shape, np.int64) for name in ("u", "refractory", "fired")}
        return {"v": v, **zeros}

    def step(self, state: State, t: int, *inputs: Array) -> Array:
        """One row of the facts sheet's update."""
        drive, currents = inputs[: len(inputs) - len(self.current)], inputs[len(inputs) - len(self.current) :]
        shape = state["v"].shape
        q = sum(currents, np.zeros(shape, np.int64))
        if self.reset == "soft":
            q = q - state["fired"] * np.int64((self.reset_mant << self.reset_exp) << 6)
        u = self._u(decay(state["u"], self.du) + self._q(q))
        v = self._limited(decay(state["v"], self.dv) + u + self._bias + sum(drive, np.int64(0)))
        v = np.where(state["refractory"] > 0, 0, v)
        state["u"], state["v"] = u, v
        if self.reset == "none":
            return v
        fired = v > (self.vth << 6)
        state["fired"] = fired.astype(np.int64)
        if self.reset == "hard":
            state["v"] = np.where(fired, 0, v)
            state["refractory"] = np.maximum(np.where(fired, self.refract, state["refractory"]) - 1, 0)
        return fired.astype(np.uint8)

    def _q(self, q: Array) -> Array:
        return q if self.compat in ("lava", "brian2loihi") else wrap(q, 21)

    def _u(self, u: Array) -> Array:
        if self.compat == "brian2loihi":
            return u
        if self.compat == "lava":  # wraps into (-2^23, 2^23] (facts 2.3 row 4)
            return -wrap(-u, 23)
        return wrap(u, 23)

    def _limited(self, v: Array) -> Array:
        if self.compat == "brian2loihi":
            return v
        if self.compat == "lava":
            return np.clip(v, -(1 << 23) + 1, (1 << 23) - 1)
        return np.clip(v, -(1 << self.neg_limit) + 1, (1 << (9 + 2 * self.pos_limit)) - 1)
