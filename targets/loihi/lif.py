"""Compartments: the exact integer law of a population, its decays and its stacks.

Equations are those of the facts sheet, section 2 (nengo-loihi ``emulator/interface.py`` and
``discretize.decay_int``, lava ``proc/lif/models.py``, brian2-loihi); stacks follow NxTF's two-compartment soft reset
(facts 1), the three-compartment one is ours.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Span, State, StatefulOp, Value, broadcasts, require
from nmc.ir.types import Type

Ints = tuple[int, ...]
Compat = Literal["nmc", "nengo-loihi", "lava", "brian2loihi"]

#: Mantissa of a bias register, 13 bits signed (facts 2).
BIAS_LIMIT = 4095

#: Compartments of a neuron by reset; the first receives, the last spikes.
COMPARTMENTS = {"hard": 1, "none": 1, "soft": 2, "split": 3}

#: Parameters that may differ from neuron to neuron: the integer for all, the constant that replaces it, the range.
_EACH = (("du", "du_each", 0, 4096), ("dv", "dv_each", 0, 4096), ("refract", "refract_each", 1, 63),
         ("reset_mant", "reset_each", 0, 255))  # fmt: skip
_FIELDS = {name: field for name, field, *_ in _EACH}


def wrap(value: Array, bits: int) -> Array:
    """Two's complement wrap of an int64 array to `bits` bits plus sign."""
    half = np.int64(1) << bits
    wrapped: Array = ((value + half) & (2 * half - 1)) - half
    return wrapped


def decay(value: Array, amount: int | Array) -> Array:
    """sgn(x) * ((|x| * (4096 - amount)) >> 12), rounding toward zero (facts 2)."""
    size = (np.abs(value) * (4096 - amount)) >> 12
    return np.where(value < 0, -size, size)


def before_decay(value: Array, amount: int | Array) -> Array:
    """Smallest integer, in size, that `decay` takes to `value`; `amount` must be below 4096.

    One exists because a decay never moves neighbours further apart than one.
    """
    keep = 4096 - np.asarray(amount, np.int64)
    size = -(-(np.abs(value) << 12) // keep)
    return np.where(value < 0, -size, size)


@dataclass(frozen=True, kw_only=True)
class Lif(StatefulOp, name="loihi.lif", levels=("snn", "mapped")):
    """A population of current-based leaky integrate-and-fire compartments, one step of the chip at a time.

        %h = loihi.lif(_, %h.x, @h.bias, @h.bias_exp, @h.v) {du=4096, vth=2040, reset=soft, reset_mant=255,
                                                              reset_exp=3} : spikes<128>

    `current` are the synaptic currents, `drive` the bias that the host writes. With

        q = wrap21(sum of currents);  u = wrap23(decay(u, du) + q)
        v = clip(decay(v, dv) + u + (bias << bias_exp) + drive, -(2^neg_limit) + 1, 2^(9 + 2 pos_limit) - 1)
        v = 0 while the refractory counter runs;  spike = v > (vth << 6)

    ``hard`` reset sets v to 0 and starts the counter at `refract`. ``soft`` reset is a pair of compartments, the
    second of which only compares, and a synapse of weight -(reset_mant << reset_exp) << 6 from it to the first, one
    step later: it passes du as all currents do. ``split`` puts a compartment in front whose u takes the currents and
    whose v is u; the next adds it to its own v, so that the reset does not pass the filter. There u is the current of
    the reset and the state ``filter`` the filtered one. ``none`` never spikes: the result is v.

    `du_each`, `dv_each`, `refract_each` and `reset_each` replace du, dv, refract and reset_mant where neurons differ.
    """

    drive: Value | None = None
    current: tuple[Value, ...] = ()
    bias: Const | None = None
    bias_exp: Const | None = None
    v_init: Const | None = None
    u_init: Const | None = None
    du_each: Const | None = None
    dv_each: Const | None = None
    refract_each: Const | None = None
    reset_each: Const | None = None
    du: int = 4096
    dv: int = 0
    vth: int = 0
    refract: int = 1
    neg_limit: int = 23
    pos_limit: int = 7
    reset: Literal["hard", "soft", "split", "none"] = "hard"
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
        return COMPARTMENTS[self.reset]

    @property
    def resets_itself(self) -> bool:
        """Whether its own spikes come back through a synapse."""
        return self.compartments > 1

    @property
    def membrane(self) -> int:
        """Which of its compartments holds v and the bias, and takes the reset; 0 receives the currents."""
        return max(0, self.compartments - 2)

    def each(self, name: str) -> Array:
        """A parameter of every neuron (du, dv, refract, reset_mant), int64, broadcasting to the population."""
        const: Const | None = getattr(self, _FIELDS[name])
        if const is None:
            return np.full((1,) * len(self.shape), getattr(self, name), np.int64)
        return const.array().astype(np.int64)

    @cached_property
    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Distinct (du, dv, refract), one row each, and which of them each neuron has: int64 of the shape."""
        names = ("du", "dv", "refract")
        if self.du_each is None and self.dv_each is None and self.refract_each is None:
            return np.array([[self.du, self.dv, self.refract]]), np.zeros(self.shape, np.int64)
        table = np.stack([np.broadcast_to(self.each(name), self.shape).reshape(-1) for name in names], axis=1)
        rows, index = np.unique(table, axis=0, return_inverse=True)
        return rows, index.reshape(self.shape)

    def verify(self) -> None:
        """Everything is in the range of its register (facts 1 and 2)."""
        have = self.shape
        for const in self.consts:
            fits = broadcasts(const.shape, have)
            require(fits, f"@{const.name} {const.shape} does not broadcast to {have}")
        self._verify_decays()
        require(0 <= self.vth < 1 << 17, f"threshold mantissa {self.vth} is outside 17 bits")
        require(
            0 <= self.neg_limit <= 31 and 0 <= self.pos_limit <= 7, "limits of v are outside their registers"
        )
        require(0 <= self.reset_exp <= 7, "reset weight is outside its register")
        require(
            self.drive is None or (self.bias is None and self.bias_exp is None),
            "the host writes the bias registers of this population; it cannot have a bias",
        )
        require(
            self.u_init is None or _within(self.u_init, -(1 << 23) + 1, (1 << 23) - 1),
            "u_init leaves 24 bits",
        )
        require(
            self.bias is None or _within(self.bias, -BIAS_LIMIT - 1, BIAS_LIMIT + 1),
            "bias mantissa is outside 13 bits",
        )

    def _verify_decays(self) -> None:
        texts = {"du": "decays", "dv": "decays", "refract": "refractory delay", "reset_mant": "reset weight"}
        for name, field, low, high in _EACH:
            const: Const | None = getattr(self, field)
            value = getattr(self, name)
            message = f"{texts[name]} {value if const is None else '@' + const.name} outside {low}..{high}"
            require(low <= value <= high and (const is None or _within(const, low, high)), message)
        own = self.resets_itself
        some = self.reset_mant > 0 or self.reset_each is not None
        idle = self.refract == 1 and self.refract_each is None
        require(not own or idle, "a soft reset has no refractory time")
        require(not own or some, "a soft reset needs a reset weight")
        for name in ("du", "dv") if self.reset == "split" else ():
            require(self.each(name).size == 0 or int(self.each(name).min()) > 0,
                    f"a split population cannot have a {name} of 0: its compartments share the offset")  # fmt: skip

    def part(self, box: tuple[Span, ...]) -> Lif:
        """The same population cut to a box of indices."""
        shape, cut = tuple(len(span) for span in box), tuple(span.slice() for span in box)

        def small(value: Value) -> Value:
            return Value(value.name, Type(value.type.kind, shape))

        def cropped(const: Const | None) -> Const | None:
            return (
                None if const is None else Const(const.name, np.broadcast_to(const.array(), self.shape)[cut])
            )

        fields = ("bias", "bias_exp", "v_init", "u_init", "du_each", "dv_each", "refract_each", "reset_each")
        consts: dict[str, Any] = {name: cropped(getattr(self, name)) for name in fields}
        return replace(
            self, drive=None if self.drive is None else small(self.drive), current=tuple(map(small, self.current)),
            **consts,
        )  # fmt: skip

    @cached_property
    def _bias(self) -> Array:
        if self.bias is None:
            return np.zeros((1,) * len(self.shape), np.int64)
        exponent = self.bias_exp.array().astype(np.int64) if self.bias_exp is not None else np.int64(0)
        shifted: Array = self.bias.array().astype(np.int64) << exponent
        return shifted

    @cached_property
    def _registers(self) -> tuple[Array, Array, Array, Array]:
        du, dv, refract, mant = (self.each(name) for name in ("du", "dv", "refract", "reset_mant"))
        return du, dv, refract, (mant << self.reset_exp) << 6

    def begin(self, batch: int) -> State:
        """Zeros, and `v_init` and `u_init` where given."""
        shape = (batch, *self.shape)
        state = {name: np.zeros(shape, np.int64) for name in ("v", "u", "refractory", "fired")}
        if self.reset == "split":
            state["filter"] = np.zeros(shape, np.int64)
        if self.v_init is not None:
            state["v"] += self.v_init.array()
        if self.u_init is not None:
            state["filter" if self.reset == "split" else "u"] += self.u_init.array()
        return state

    def step(self, state: State, t: int, *inputs: Array) -> Array:
        """One row of the facts sheet's update."""
        drive, currents = inputs[: len(inputs) - len(self.current)], inputs[len(inputs) - len(self.current) :]
        du, dv, refract, weight = self._registers
        q = sum(currents, np.zeros(state["v"].shape, np.int64))
        popped: Array | int = 0
        if self.reset == "split":
            state["filter"] = self._u(decay(state["filter"], du) + self._q(q))
            q, du, popped = np.zeros_like(q), np.asarray(4096), self._limited(state["filter"])
        if self.resets_itself:
            q = q - state["fired"] * weight
        u = self._u(decay(state["u"], du) + self._q(q))
        v = self._limited(decay(state["v"], dv) + u + self._bias + sum(drive, np.int64(0)) + popped)
        v = np.where(state["refractory"] > 0, 0, v)
        state["u"], state["v"] = u, v
        if self.reset == "none":
            return v
        fired = v > (self.vth << 6)
        state["fired"] = fired.astype(np.int64)
        if self.reset == "hard":
            state["v"] = np.where(fired, 0, v)
            state["refractory"] = np.maximum(np.where(fired, refract, state["refractory"]) - 1, 0)
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


def _within(const: Const, low: int, high: int) -> bool:
    """Whether all values lie in a range; unknown ones do."""
    data = const.data
    return data is None or data.size == 0 or bool(low <= int(data.min()) and int(data.max()) <= high)
