"""What a PE computes in one tick, as functions on arrays: the law that ops, engines and firmware are held to.

Integers are int32 and wrap; floats are IEEE single, every operation rounded on its own and done in the order written
here (``firmware/neurons.h`` says the same in C). Nothing here knows shapes: parameters broadcast to the states.

Equations: exact neurons of design/04-conversion.md; ``lif`` is `nmc.ir.ops.neurons.Neuron` in single precision with
integer sums scaled to currents (py-spinnaker2 computes in float32, facts/spinnaker2.md 1.2); ``lif_fixed`` are
sPyNNaker's bit rules (facts 1.3: round-half-up products, decays rounded down, uint16 sums that saturate).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.targets.spinnaker2 import machine
from nmc.targets.spinnaker2.machine import Machine

Array = NDArray[Any]
State = dict[str, Array]
Model = Literal[
    "if", "stbif", "graded", "phased", "bit_serial", "readout", "lif", "lif_fixed", "max_pool", "user"
]

_I32, _F32 = np.int32, np.float32

#: Parameters of each model with what they are when absent, in the order of the firmware's fields. Floats are
#: single-precision parameters, integers int32 ones (`decay` holds an unsigned 32-bit fraction). Those of ``user`` are
#: its machine's (`params_of`).
PARAMS: Mapping[str, Mapping[str, float | int]] = {
    "if": {"bias": 0, "threshold": 1, "v_reset": 0, "refractory": 0},
    "stbif": {"theta": 1, "offset": 0},
    "graded": {"theta": 1},
    "phased": {"theta": 1},
    "bit_serial": {"theta": 1, "offset": 0},
    "readout": {"offset": 0},
    "lif": {"scale": 1.0, "bias": 0.0, "alpha": 0.0, "beta": 1.0, "gain": 1.0, "leak": 0.0, "threshold": 1.0,
            "v_reset": 0.0, "refractory": 0, "scale2": 1.0, "alpha2": 0.0},
    "lif_fixed": {"decay": 0, "shift": 0, "decay2": 0, "shift2": 0, "i_offset": 0, "r": 1 << 15, "v_rest": 0,
                  "exp_tc": 0, "threshold": 1 << 15, "v_reset": 0, "refractory": 0},
    "max_pool": {}, "user": {},
}  # fmt: skip

#: State words of each model, in the order of the firmware's arrays; `i2` only with two synapse types. ``max_pool`` has
#: a `count0`, `count1`... for each synapse type besides, ``user`` the states of its machine.
STATES: Mapping[str, tuple[str, ...]] = {
    "if": ("v", "refractory"), "stbif": ("v", "count"), "graded": ("v", "count"), "phased": ("v",),
    "bit_serial": ("v", "count"), "readout": ("v",), "lif": ("v", "refractory", "i", "i2"),
    "lif_fixed": ("v", "refractory", "i", "i2"), "max_pool": ("v",), "user": ("v",),
}  # fmt: skip

#: Models whose v starts at the parameter `offset` of the exact neuron.
_FROM_OFFSET = ("stbif", "graded", "phased", "bit_serial", "readout")


@dataclass(frozen=True)
class Law:
    """A neuron model with its options.

    Parameters
    ----------
    model : str
        One of `PARAMS`.
    compare : {"ge", "gt"}
        Whether reaching the threshold suffices (``if`` and ``lif``; the others have ge).
    reset : {"none", "subtract", "to-value"}
        Of ``if`` and ``lif``; ``none`` never fires.
    order : {"synapse-first", "membrane-first"}
        Whether ``lif`` integrates the synaptic current after or before the input of this tick.
    shape_last : bool
        Whether ``lif_fixed`` decays its currents after the membrane (newer sPyNNaker) or before (older).
    types : int
        Synapse types: 1, or 2 with a filter each (``lif`` adds them, ``lif_fixed`` subtracts the second); for
        ``max_pool`` one for each place in its window.
    levels : int
        Largest count of ``stbif``, ``graded`` and ``bit_serial``; ticks of the window of ``phased``.
    open : int
        First tick of the window, counted from `start`, of ``phased`` and ``bit_serial``.
    extra : int
        ``stbif``: ticks over which the bias enters; ``bit_serial``: bits; ``readout``: ticks in which what has come
        doubles (after them nothing is taken; 0 for a plain sum).
    start : int
        Tick from which bias, leak and windows count; the exact neurons only collect before it, and ``user`` does
        nothing.
    machine : Machine or None
        Of ``user``.
    """

    model: Model
    compare: Literal["ge", "gt"] = "ge"
    reset: Literal["none", "subtract", "to-value"] = "subtract"
    order: Literal["synapse-first", "membrane-first"] = "synapse-first"
    shape_last: bool = False
    types: int = 1
    levels: int = 1
    open: int = 0
    extra: int = 0
    start: int = 0
    machine: Machine | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the state words of a neuron."""
        if self.machine is not None:
            return self.machine.state_names
        if self.model == "max_pool":
            return ("v", *(f"count{k}" for k in range(self.types)))
        return tuple(name for name in STATES[self.model] if name != "i2" or self.types == 2)

    @property
    def fires(self) -> bool:
        """Whether it sends anything; otherwise its result is v."""
        if self.machine is not None:
            return self.machine.fire > 0
        return self.model != "readout" and (self.model not in ("if", "lif") or self.reset != "none")

    @property
    def binary(self) -> bool:
        """Whether what it sends is always 1."""
        return self.model not in ("stbif", "graded", "max_pool")


def params_of(law: Law) -> Mapping[str, float | int]:
    """Parameters of a law with what they are when absent; as `PARAMS`."""
    if law.machine is None:
        return PARAMS[law.model]
    absent: float | int = 0 if law.machine.fixed else 0.0
    return dict.fromkeys(law.machine.param_names, absent)


def state_dtype(law: Law, name: str) -> type[np.int32] | type[np.float32]:
    """Type of a state word."""
    if law.machine is not None:
        return law.machine.dtype
    return _F32 if law.model == "lif" and name in ("v", "i", "i2") else _I32


def param_dtype(law: Law, name: str) -> type[np.int32] | type[np.float32]:
    """Type of a parameter."""
    return _F32 if isinstance(params_of(law)[name], float) else _I32


def as_params(law: Law, given: Mapping[str, Array]) -> dict[str, Array]:
    """All parameters of a law in their types, at least one-dimensional; absent ones at their defaults.

    Integers outside int32 wrap (a decay of 2^32 - 1 is stored as -1).
    """
    full = {}
    for name, absent in params_of(law).items():
        value = np.atleast_1d(np.asarray(given.get(name, absent)))
        if param_dtype(law, name) is _I32 and value.dtype != _I32:
            value = value.astype(np.int64)
        full[name] = value.astype(param_dtype(law, name))
    return full


def initial_v(law: Law, given: Mapping[str, Array]) -> Array:
    """Potential before the first tick: `v_init`, or the offset of the exact neurons.

    Half of theta where the bias of ``stbif`` enters later. For ``user``, a row for each state: `v`, `s1`...
    """
    if law.machine is not None:
        rows = [np.atleast_1d(np.asarray(given.get(name, 0))) for name in law.states]
        return np.stack(np.broadcast_arrays(*rows)).astype(law.machine.dtype)
    if law.model == "stbif" and law.extra:
        return np.atleast_1d(np.asarray(given["theta"]).astype(np.int64) // 2).astype(_I32)
    name = "offset" if law.model in _FROM_OFFSET else "v_init"
    value = np.atleast_1d(np.asarray(given.get(name, 0)))
    if state_dtype(law, "v") is _I32:
        value = value.astype(np.int64)
    return value.astype(state_dtype(law, "v"))


def begin(law: Law, v: Array, shape: tuple[int, ...]) -> State:
    """State before the first tick, arrays of `shape`; `v` as from `initial_v`."""
    if law.machine is not None:
        return {name: np.broadcast_to(row, shape).copy() for name, row in zip(law.states, v, strict=True)}
    state = {name: np.zeros(shape, state_dtype(law, name)) for name in law.states}
    state["v"] = state["v"] + v.astype(state["v"].dtype)
    return state


def step(law: Law, params: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    """One tick: update `state` and give what each neuron sends (int32; 0 for nothing).

    Parameters
    ----------
    law : Law
    params : mapping of str to array
        As from `as_params`, broadcasting to the states.
    state : dict of str to array
        Changed.
    sums : sequence of int32 arrays
        What has arrived, one array a synapse type.
    t : int
        Tick.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        return _STEPS[law.model](law, params, state, sums, t)


def eligible(law: Law, params: Mapping[str, Array], state: State, t: int) -> Array:
    """Samples (B,) bool in which, after tick `t`, an exact neuron would still send something by itself."""
    now, v = t - law.start, state["v"].astype(np.int64)
    found = np.zeros(v.shape, bool)
    if law.model == "stbif":
        count = state["count"]
        found = ((v >= params["theta"]) & (count < law.levels)) | ((v < 0) & (count > 0))
    elif law.model == "graded":
        found = _clipped(v, params["theta"], law.levels) != state["count"]
    elif law.model == "phased" and now + 1 - law.open < law.levels:
        found = v >= params["theta"]
    elif law.model == "bit_serial":
        left = law.open + law.extra - 1 - now  # ticks to come in which bits may leave
        if 0 < left < law.extra:
            found = (state["count"].astype(np.int64) & ((1 << left) - 1)) != 0
        elif left > 0:
            total = (v - params["offset"]) << min(left - law.extra, 30)
            found = _clipped(total + params["offset"], params["theta"], law.levels) != 0
    return np.asarray(found.reshape(len(found), -1).any(axis=1))


def wrap32(value: Array) -> Array:
    """Wrap int64 to int32."""
    return value.astype(_I32)


def _if(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    v = state["v"] + sums[0]
    if t >= law.start:
        v = v + p["bias"]
    return _fire(law, p, state, v)


def _fire(law: Law, p: Mapping[str, Array], state: State, v: Array) -> Array:
    """Compare, reset and wait (``if`` and ``lif``)."""
    if law.reset == "none":
        state["v"] = v
        return np.zeros(v.shape, _I32)
    fired: Array = (v >= p["threshold"]) if law.compare == "ge" else (v > p["threshold"])
    after = v - p["threshold"] if law.reset == "subtract" else p["v_reset"]
    if not (p["refractory"].any() or state["refractory"].any()):  # nobody waits, ever
        state["v"] = np.where(fired, after, v)
        return fired.astype(_I32)
    waiting = state["refractory"] != 0
    fired &= ~waiting
    state["v"] = np.where(waiting, p["v_reset"], np.where(fired, after, v))
    state["refractory"] = np.where(fired, p["refractory"], state["refractory"] - waiting.astype(_I32))
    return fired.astype(_I32)


def _stbif(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    v, count, theta, now = state["v"] + sums[0], state["count"], p["theta"], t - law.start
    if 0 <= now < law.extra:
        v = v + _share((p["offset"] - theta // 2).astype(np.int64), now, law.extra)
    up = (v >= theta) & (count < law.levels)
    down = ~up & (v < 0) & (count > 0)
    sign = (up.astype(_I32) - down.astype(_I32)) * _I32(now >= 0)
    state["v"], state["count"] = v - sign * theta, count + sign
    return sign


def _share(bias: Array, now: int, over: int) -> Array:
    """What a bias adds at tick `now` of `over`: the difference of floor(k * bias / over)."""
    return wrap32(((now + 1) * bias) // over - (now * bias) // over)


def _clipped(value: Array, theta: Array, levels: int) -> Array:
    count: Array = np.clip(value // theta, 0, levels).astype(_I32)
    return count


def _graded(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    state["v"] = state["v"] + sums[0]
    before = state["count"]
    if t >= law.start:
        state["count"] = _clipped(state["v"], p["theta"], law.levels)
    change: Array = state["count"] - before
    return change


def _phased(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    v, now = state["v"] + sums[0], t - law.start
    fired = (v >= p["theta"]) & (law.open <= now < law.open + law.levels)
    state["v"] = v - fired.astype(_I32) * p["theta"]
    return fired.astype(_I32)


def _bit_serial(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    now = t - law.start
    if now < law.open:
        state["v"] = state["v"] + state["v"] + sums[0] - p["offset"]
    if now == law.open:
        state["count"] = _clipped(state["v"], p["theta"], law.levels)
    since = now - law.open
    if not 0 <= since < law.extra:
        return np.zeros(state["v"].shape, _I32)
    bit: Array = (state["count"] >> _I32(law.extra - 1 - since)) & _I32(1)
    return bit


def _readout(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    if not law.extra:
        state["v"] = state["v"] + sums[0]
    elif t - law.start < law.extra:
        state["v"] = state["v"] + sums[0] + state["v"] - p["offset"]
    return np.zeros(state["v"].shape, _I32)


def _lif(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    running, nothing = t >= law.start, np.zeros(1, _F32)
    old = state["i"]
    x = sums[0].astype(_F32) * p["scale"] + (p["bias"] if running else nothing)
    drive = state["i"] = x + p["alpha"] * old
    if law.types == 2:
        before = state["i2"]
        state["i2"] = sums[1].astype(_F32) * p["scale2"] + p["alpha2"] * before
        old, drive = old + before, drive + state["i2"]
    if law.order == "membrane-first":
        drive = old
    v = (p["beta"] * state["v"] + p["gain"] * drive) + (p["leak"] if running else nothing)
    return _fire(law, p, state, v)


def product(a: Array, b: Array) -> Array:
    """s16.15 product, half rounded up, saturated (facts 1.3, rounding of the multiply): int32."""
    p = a.astype(np.int64) * b.astype(np.int64)
    rounded = (p >> 15) + ((p >> 14) & 1)
    return np.clip(rounded, -(1 << 31), (1 << 31) - 1).astype(_I32)


def decayed(value: Array, factor: Array) -> Array:
    """s16.15 times u0.32, rounded down (facts 1.3, decay): int32."""
    return wrap32((value.astype(np.int64) * factor.astype(np.uint32).astype(np.int64)) >> 32)


def _arrived(total: Array, shift: Array) -> Array:
    """A ring of uint16 that saturates, shifted to s16.15."""
    return wrap32(np.clip(total, 0, 0xFFFF).astype(np.int64) << (shift.astype(np.int64) & 31))


def _lif_fixed(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    total = _filtered(law, state, "i", _arrived(sums[0], p["shift"]), p["decay"])
    if law.types == 2:
        total = total - _filtered(law, state, "i2", _arrived(sums[1], p["shift2"]), p["decay2"])
    total = total + p["i_offset"]
    waiting = state["refractory"] != 0
    goal = product(total, p["r"]) + p["v_rest"]
    v = goal - product(p["exp_tc"], goal - state["v"])
    fired: Array = (v >= p["threshold"]) & ~waiting
    state["v"] = np.where(waiting, state["v"], np.where(fired, p["v_reset"], v))
    state["refractory"] = np.where(fired, p["refractory"], state["refractory"] - waiting.astype(_I32))
    return fired.astype(_I32)


def _filtered(law: Law, state: State, name: str, fresh: Array, decay: Array) -> Array:
    """Current of this tick of one synapse type; its state decays before the input, or after."""
    if law.shape_last:
        now: Array = state[name] + fresh
        state[name] = decayed(now, decay)
        return now
    state[name] = decayed(state[name], decay) + fresh
    return state[name]


def _max_pool(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    before = state["v"]
    for k, x in enumerate(sums):
        state[f"count{k}"] = state[f"count{k}"] + x
    state["v"] = np.stack([state[f"count{k}"] for k in range(law.types)]).max(axis=0)
    change: Array = state["v"] - before
    return change


def _user(law: Law, p: Mapping[str, Array], state: State, sums: Sequence[Array], t: int) -> Array:
    shape, model = state["v"].shape, law.machine
    if t < law.start or model is None:
        return np.zeros(shape, _I32)
    names = law.states
    values: list[Any] = [machine.current(model, sums[0], p["scale"], p["bias"])]
    values += [state[name] for name in names] + [p[f"p{k}"] for k in range(model.params)]
    fired = machine.run(model, values)
    for name, value in zip(names, values[1:], strict=False):
        state[name] = np.array(np.broadcast_to(value, shape))
    return np.zeros(shape, _I32) if fired is None else np.broadcast_to(fired, shape).astype(_I32)


_STEPS = {
    "if": _if, "stbif": _stbif, "graded": _graded, "phased": _phased, "bit_serial": _bit_serial,
    "readout": _readout, "lif": _lif, "lif_fixed": _lif_fixed, "max_pool": _max_pool,
    "user": _user,
}  # fmt: skip
