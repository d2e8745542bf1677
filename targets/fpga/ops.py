"""The law of the FPGA core in int64 numpy: what every engine and the RTL do, bit for bit.

Tick t has two phases. Phase A adds, in any order and modulo 2**vb, `payload * weight` for each synapse of each event
that arrives in t to `v` (to the current `i` where the shape has one): facts/fpga.md 2.6, the only rule whose result
does not depend on the order of arrival. Phase B (`tick`) does for every neuron::

    s     = sat(v + i + bias)                     bias from tick `open` on; i only with `cuba`
    s     = v_reset where refractory              refractory: c > 0 and not signed
    up    = s >= theta, or s > theta if strict    only in open <= t < close, s >= 0, not refractory, signed: c < limit
    down  = signed and s < 0 and c > 0            only in open <= t < close
    after = s - theta (up), s + theta (down)      reset subtract and all signed ones; v_reset (up) with reset to-value
    v     = leak(after) - (theta if up and late)  late: subtract after the leak, instead of before it
    c     = c + up - down (signed); limit where up, else max(c - 1, 0)
    i     = leak(i)

so that from compare to compare v[t] = leak(v[t - 1]) + acc[t] + bias, ``snn.neuron`` with beta = keep / 4096, alpha =
keep_i / 4096, synapse-first. With `once` the bias does not enter at ticks: `clear` sets v to it (offsets of exact
networks: ``snn.stbif``, ``snn.phased`` and ``snn.readout`` with keep 4096). A neuron that shall not fire has close 0.
`leak` cuts towards zero (`multiply`) or subtracts v >> keep (`shift`). A spike of tick t arrives at t + 1 + delay.
What a probe shows is `after`.
"""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.targets.fpga.shape import Leak, Shape

Array = NDArray[Any]
State = dict[str, Array]

#: A window with this end never closes.
FOREVER = 0xFFFF
#: `keep` of neurons that lose nothing (multiply); for shift it is 0.
ALL = 4096
RESETS = {"none": 0, "subtract": 1, "to-value": 2}


@dataclass(frozen=True, kw_only=True)
class Class:
    """Parameters that all neurons of a group share: one row of memory ``classes``.

    Parameters
    ----------
    theta : int
        Threshold, 0..2**(vb - 1) - 1; not read in shapes with `theta_bits`.
    bias : int
        Not read in shapes with `bias_bits`.
    v_reset : int
        Membrane after a spike with reset to-value (2), and of refractory neurons.
    keep, keep_i : int
        What is left of membrane and current: 0..4096 in 1/4096 (multiply), or the shift 0..15 (0: no leak).
    limit : int
        Refractory ticks, or levels of signed neurons.
    reset : int
        0 none, 1 subtract, 2 to-value.
    strict, late, signed, once : int
        Flags of the law.
    open, close : int
        Window of ticks; close 65,535 is never.
    """

    theta: int = 1
    bias: int = 0
    v_reset: int = 0
    keep: int = 0
    keep_i: int = 0
    limit: int = 0
    reset: int = 1
    strict: int = 0
    late: int = 0
    signed: int = 0
    once: int = 0
    open: int = 0
    close: int = FOREVER


@dataclass(frozen=True)
class Neurons:
    """Parameters of each neuron, int64 arrays (N,), as the tables of a core give them."""

    values: dict[str, Array] = field(repr=False)

    def __getitem__(self, name: str) -> Array:
        return self.values[name]


def neurons(shape: Shape, classes: dict[str, Array], params: dict[str, Array]) -> Neurons:
    """Look up what each neuron of a core has.

    Parameters
    ----------
    shape : Shape
    classes : dict of (classes,) arrays
        Fields of memory ``classes``; those that are not built have the defaults of `Class`.
    params : dict
        Fields of memory ``params``: class (groups,), bias and theta (groups, lanes) where built.
    """
    of = np.repeat(params["class"].reshape(-1), shape.lanes)
    values = {item.name: np.full(len(of), item.default, np.int64) for item in fields(Class)}
    values |= {name: column.astype(np.int64)[of] for name, column in classes.items()}
    for name in ("bias", "theta"):
        if name in params:
            values[name] = params[name].astype(np.int64).reshape(-1)
    return Neurons(values)


def wrap(values: Array, bits: int) -> Array:
    """Values modulo 2**bits, as signed numbers."""
    half = 1 << (bits - 1)
    return np.asarray(((values.astype(np.int64) + half) & ((1 << bits) - 1)) - half)


def saturate(values: Array, bits: int) -> Array:
    """Values cut to the range of `bits` signed bits."""
    half = 1 << (bits - 1)
    return np.clip(values, -half, half - 1)


def decay(values: Array, keep: Array, leak: Leak) -> Array:
    """What is left of membranes or currents after the leak."""
    if leak == "none":
        return values
    if leak == "shift":
        shift = keep & 15
        return np.where(shift > 0, values - (values >> shift), values)
    product = values * np.minimum(keep, 8191)
    return np.asarray((product >> 12) + ((product < 0) & (product & 4095 != 0)))


def clear(shape: Shape, params: Neurons, batch: tuple[int, ...] = ()) -> State:
    """State after CLR: v at the bias of neurons that take it once, else all zero. Arrays (*batch, N)."""
    zero = np.zeros((*batch, shape.neurons), np.int64)
    state = {"v": zero + wrap(np.where(params["once"] == 1, params["bias"], 0), shape.vb), "c": zero.copy()}
    if shape.cuba:
        state["i"] = zero.copy()
    return state


def accumulate(shape: Shape, state: State, sums: Array) -> None:
    """Phase A: add the sums of a tick, modulo 2**vb."""
    name = "i" if shape.cuba else "v"
    state[name] = wrap(state[name] + sums, shape.vb)


def tick(shape: Shape, p: Neurons, state: State, t: int) -> tuple[Array, Array, Array]:
    """Phase B of all neurons of a core.

    Returns
    -------
    fired : int8 array (*batch, N)
        -1, 0 or 1.
    after : int64 array (*batch, N)
        Membrane after the reset and before the leak.
    saturated : bool array (*batch, N)
        Where v + i + bias did not fit (sticky error flag).
    """
    now = min(t, FOREVER)
    begun = now >= p["open"]
    window = begun & ((now < p["close"]) | (p["close"] == FOREVER))
    signed, theta = p["signed"] == 1, p["theta"]
    whole = state["v"] + np.where(begun & (p["once"] == 0), p["bias"], 0)
    if shape.cuba:
        whole = whole + state["i"]
    s = saturate(whole, shape.vb)
    saturated = s != whole
    held = ~signed & (state["c"] > 0)
    s = np.where(held, p["v_reset"], s)
    up = window & ~held & (s >= 0) & (s - theta >= p["strict"]) & (~signed | (state["c"] < p["limit"]))
    down = window & signed & (s < 0) & (state["c"] > 0)
    late = (p["late"] == 1) & ~signed
    after = np.where(up & (signed | (p["reset"] == 1)) & ~late, s - theta, s)
    after = np.where(up & ~signed & (p["reset"] == 2), p["v_reset"], after)
    after = np.where(down, s + theta, after)
    state["v"] = decay(after, p["keep"], shape.leak) - np.where(up & late & (p["reset"] == 1), theta, 0)
    counted = state["c"] + up - down
    timed = np.where(up, p["limit"], np.maximum(state["c"] - 1, 0))
    state["c"] = np.where(signed, counted, timed)
    if shape.cuba:
        state["i"] = decay(state["i"], p["keep_i"], shape.leak)
    return up.astype(np.int8) - down.astype(np.int8), after, saturated
