"""SpiNNaker2's own arithmetic as ops: integer synapses and the neuron models of the firmware.

A legalised module holds these at level ``snn``, a mapped one at level ``mapped``. Sums of weights are integers that
wrap at 32 bits; what neurons do with them is `nmc.targets.spinnaker2.laws`. A projection's `delay` counts steps from
spike to current and is 1..8 (a 3-bit field plus one, facts/spinnaker2.md 1.2), for spikes of the host too.
"""

from __future__ import annotations

from typing import Literal

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, State, require
from nmc.targets.spinnaker2 import laws
from nmc.targets.spinnaker2.host import Input as Input
from nmc.targets.spinnaker2.host import Poisson as Poisson
from nmc.targets.spinnaker2.laws import Law
from nmc.targets.spinnaker2.layout import MAX_TYPES
from nmc.targets.spinnaker2.neuron import NeuronOp, total_of
from nmc.targets.spinnaker2.synapses import Conv, Dense, Diagonal, RowFormat, Sparse, SynapseOp
from nmc.targets.spinnaker2.user import User

__all__ = [
    "BitSerial", "Conv", "Dense", "Diagonal", "ExactOp", "Graded", "If", "Lif", "LifFixed", "MaxPool", "NeuronOp",
    "Phased", "Readout", "RowFormat", "Sparse", "StBif", "SynapseOp", "User",
]  # fmt: skip

Ints = tuple[int, ...]
_LEVELS = ("snn", "mapped")


@dataclass(frozen=True, kw_only=True)
class If(NeuronOp, name="spinnaker2.if", levels=_LEVELS):
    """Integer integrate and fire: v += x + bias; fires where v passes `threshold`; then reset and `refractory` steps.

    %h = spinnaker2.if(%h.x, _, @h.bias, @h.theta) {reset=subtract, compare=ge} : spikes<128>
    """

    bias: Const | None = None
    threshold: Const | None = None
    v_reset: Const | None = None
    refractory: Const | None = None
    v_init: Const | None = None
    compare: Literal["ge", "gt"] = "ge"
    reset: Literal["none", "subtract", "to-value"] = "subtract"

    @property
    def law(self) -> Law:
        """Model ``if``."""
        return Law("if", compare=self.compare, reset=self.reset, start=self.start)


@dataclass(frozen=True, kw_only=True)
class ExactOp(NeuronOp):
    """An exact neuron (design/04-conversion.md): comes to rest, as the op of the same name in ``snn`` does."""

    @property
    def rests(self) -> bool:
        """Once all has arrived it settles."""
        return True

    @property
    def active_until(self) -> int:
        """While the bias enters, or what has come doubles, it moves by itself."""
        law = self.law
        if law.model in ("graded", "phased", "max_pool") or (law.model == "readout" and not law.extra):
            return 0
        return law.start + (law.open if law.model == "bit_serial" else law.extra)

    def eligible(self, state: State, t: int) -> Array:
        """Samples in which a neuron would still send something by itself."""
        return laws.eligible(self.law, self._params, state, t)


@dataclass(frozen=True, kw_only=True)
class StBif(ExactOp, name="spinnaker2.stbif", levels=_LEVELS):
    """Signed spikes with a counter 0..levels: the exact neuron (design/04-conversion.md). `spread`: see ``snn.stbif``.

    %h = spinnaker2.stbif(%h.x, @h.theta, @h.offset) {levels=8} : graded<128>
    """

    theta: Const
    offset: Const
    levels: int
    spread: int = 0

    @property
    def law(self) -> Law:
        """Model ``stbif``."""
        return Law("stbif", levels=self.levels, extra=self.spread, start=self.start)


@dataclass(frozen=True, kw_only=True)
class Graded(ExactOp, name="spinnaker2.graded", levels=_LEVELS):
    """Sends by how much its count clip(v // theta, 0, levels) has changed, as payload.

    %h = spinnaker2.graded(%h.x, @h.theta, @h.offset) {levels=8} : graded<128>
    """

    theta: Const
    offset: Const
    levels: int

    @property
    def law(self) -> Law:
        """Model ``graded``."""
        return Law("graded", levels=self.levels, start=self.start)


@dataclass(frozen=True, kw_only=True)
class Phased(ExactOp, name="spinnaker2.phased", levels=_LEVELS):
    """Integrates always, fires in steps open <= t - start < open + levels only.

    %h = spinnaker2.phased(%h.x, @h.theta, @h.offset) {levels=8, open=8} : spikes<128>
    """

    theta: Const
    offset: Const
    levels: int
    open: int

    @property
    def law(self) -> Law:
        """Model ``phased``."""
        return Law("phased", levels=self.levels, open=self.open, start=self.start)


@dataclass(frozen=True, kw_only=True)
class BitSerial(ExactOp, name="spinnaker2.bit_serial", levels=_LEVELS):
    """What has come doubles in every step before `open`; then the bits of the count are sent, the highest first.

    %h = spinnaker2.bit_serial(%h.x, @h.theta, @h.offset) {levels=7, open=4, bits=3} : spikes<128>
    """

    theta: Const
    offset: Const
    levels: int
    open: int
    bits: int

    def verify(self) -> None:
        """1 to 31 bits."""
        NeuronOp.verify(self)
        require(1 <= self.bits <= 31, f"{self.bits} bits")
        require(self.levels >> self.bits == 0, f"{self.bits} bits do not hold counts up to {self.levels}")

    @property
    def law(self) -> Law:
        """Model ``bit_serial``."""
        return Law("bit_serial", levels=self.levels, open=self.open, extra=self.bits, start=self.start)


@dataclass(frozen=True, kw_only=True)
class Readout(ExactOp, name="spinnaker2.readout", levels=_LEVELS):
    """v = offset + all that has come; never fires. `doubling_until`: see ``snn.readout``.

    %y = spinnaker2.readout(%y.x, @y.offset) : graded<10>
    """

    offset: Const | None = None
    doubling_until: int = 0

    @property
    def law(self) -> Law:
        """Model ``readout``."""
        return Law("readout", extra=self.doubling_until, start=self.start)


@dataclass(frozen=True, kw_only=True)
class Lif(NeuronOp, name="spinnaker2.lif", levels=_LEVELS):
    """Leaky integrate and fire in single precision, every operation rounded, on integer sums s (and s2).

        i' = (s * scale + bias) + alpha * i        i2' = s2 * scale2 + alpha2 * i2
        v' = (beta * v + gain * (i' + i2')) + leak             (i + i2 where `order` is membrane-first)

    then compare, reset and refractory steps as ``snn.neuron``; bias and leak from step `start` on.

        %h = spinnaker2.lif(%h.x, _, @h.scale, _, @h.alpha, @h.beta) {reset=subtract, compare=gt} : spikes<40>
    """

    scale: Const | None = None
    bias: Const | None = None
    alpha: Const | None = None
    beta: Const | None = None
    gain: Const | None = None
    leak: Const | None = None
    threshold: Const | None = None
    v_reset: Const | None = None
    refractory: Const | None = None
    scale2: Const | None = None
    alpha2: Const | None = None
    v_init: Const | None = None
    compare: Literal["ge", "gt"] = "ge"
    reset: Literal["none", "subtract", "to-value"] = "subtract"
    order: Literal["synapse-first", "membrane-first"] = "synapse-first"

    @property
    def law(self) -> Law:
        """Model ``lif``."""
        return Law("lif", compare=self.compare, reset=self.reset, order=self.order, start=self.start,
                   types=2 if self.second else 1)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LifFixed(NeuronOp, name="spinnaker2.lif_fixed", levels=_LEVELS):
    """sPyNNaker's leaky integrate and fire in s16.15 (facts 1.3): products round half up, decays (u0.32) round down.

    i' = decay * i + (min(s, 65535) << shift)              (``shape_last``: the decay comes after the membrane)
    u = (i' - i2') + i_offset;  w = u * r + v_rest;  v' = w - exp_tc * (w - v);  fires where v' >= threshold

    %h = spinnaker2.lif_fixed(%h.e, %h.i, @h.decay, @h.shift, @h.decay2, @h.shift2) : spikes<100>
    """

    decay: Const | None = None
    shift: Const | None = None
    decay2: Const | None = None
    shift2: Const | None = None
    i_offset: Const | None = None
    r: Const | None = None
    v_rest: Const | None = None
    exp_tc: Const | None = None
    threshold: Const | None = None
    v_reset: Const | None = None
    refractory: Const | None = None
    v_init: Const | None = None
    shape_last: bool = False

    @property
    def law(self) -> Law:
        """Model ``lif_fixed``."""
        return Law("lif_fixed", shape_last=self.shape_last, start=self.start, types=2 if self.second else 1)


@dataclass(frozen=True, kw_only=True)
class MaxPool(ExactOp, name="spinnaker2.max_pool", levels=_LEVELS):
    """Maximum of counts over windows, in events: how much it changed. Each operand is one place of the window.

    %p = spinnaker2.max_pool(%p.0, %p.1, %p.2, %p.3) : graded<8x7x7>

    The projection of a place is a ``spinnaker2.conv`` whose kernel is a single 1 a channel (one group each), with the
    stride of the pooling and a pad that is smaller by where the place is; synapse type k is operand k.
    """

    @property
    def law(self) -> Law:
        """Model ``max_pool``."""
        return Law("max_pool", types=len(self.current))

    def verify(self) -> None:
        """At most `layout.MAX_TYPES` places, and no other operands."""
        NeuronOp.verify(self)
        require(not self.second and self.start == 0, "a maximum has neither second synapses nor a start")
        require(
            len(self.current) <= MAX_TYPES, f"a window of {len(self.current)} places; at most {MAX_TYPES}"
        )

    def _sums(self, inputs: tuple[Array, ...], shape: Ints) -> list[Array]:
        """One place, one type."""
        return [total_of((item,), shape) for item in inputs]
