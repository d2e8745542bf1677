"""Neuron models: from names and time constants to the coefficients of ``snn.neuron``.

An input of weight w moves the membrane by w, as a delta synapse does; with `r` given, the input is a current of
NIR's equation tau dv/dt = v_leak - v + r I instead, and moves it by r (1 - beta) w.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np

from nmc.frontends.snn import draw
from nmc.frontends.snn.calls import Arguments, Bound, Param
from nmc.frontends.snn.problems import Fault
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import (
    PLAIN,
    STEP,
    TIME,
    VOLT,
    Array,
    Dim,
    Population,
    Quantity,
    Random,
    dim_name,
)
from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass

_LEVEL = (PLAIN, VOLT)


@dataclass(frozen=True)
class Header:
    """What ``network name(...)`` says.

    Parameters
    ----------
    name : str
        Of the network.
    dt : float
        Time step, s.
    steps : int
        Of a run; 0 when the program does not say.
    seed : int
        Of everything random.
    integrator : {"exact", "euler"}
        Decay over a step: exp(-dt / tau) or 1 - dt / tau.
    delay : int
        Of projections that do not say theirs, steps.
    """

    name: str
    dt: float
    steps: int = 0
    seed: int = 0
    integrator: str = "exact"
    delay: int = 0

    def decay(self, tau: Array) -> Array:
        """Decay factor of a step for time constants (s), the same on any machine."""
        if self.integrator == "euler":
            return 1.0 - self.dt / tau
        if tau.size == 1:
            return np.full(tau.shape, _decay(self.dt, float(tau.flat[0])))
        levels, place = np.unique(tau, return_inverse=True)
        exact = [_decay(self.dt, float(level)) for level in levels]
        return np.array(exact)[place].reshape(tau.shape)

    def in_steps(self, quantity: Quantity, pos: Pos, what: str) -> int:
        """Give a time as a number of steps.

        Raises
        ------
        Fault
            E0373 when it is no multiple of dt.
        """
        if quantity.dim == STEP:
            if not isinstance(quantity.value, int):
                raise Fault("E0373", pos, f"{what} of {quantity.value} steps is not whole")
            return int(quantity.value)
        ratio = float(quantity.value) / self.dt
        if abs(ratio - round(ratio)) > 1e-6 * max(1.0, abs(ratio)):
            message = f"{what} is {ratio:g} time steps of {self.dt * 1e3:g} ms"
            raise Fault("E0373", pos, message, "give a multiple of dt")
        return round(ratio)


@cache
def _decay(dt: float, tau: float) -> float:
    """Factor exp(-dt / tau), correctly rounded, so the same on any machine."""
    return float((-Decimal(dt) / Decimal(tau)).exp())


def _level(name: str) -> Param:
    return Param(name, _LEVEL, array=True, random=name == "v_init")


_SHARED = (
    _level("v_leak"), _level("v_init"), Param("r", array=True, positive=True), _level("bias"),
)  # fmt: skip
_SPIKING = (
    _level("v_threshold"), _level("v_reset"),
    Param("reset", kind="word", choices=("subtract", "zero", "to_value", "subtract_late")),
    Param("compare", kind="word", choices=("gt", "ge")),
    Param("refractory", (TIME, STEP), least=0),
    Param("max_spikes", whole=True, least=1, most=65535),
)  # fmt: skip


def _tau(name: str) -> Param:
    return Param(name, (TIME,), required=True, array=True, positive=True)


_SYNAPSE = (_tau("tau_mem"), _tau("tau_syn"), Param("w_in", array=True))
_ORDER = Param("order", kind="word", choices=("synapse_first", "membrane_first"))
#: Parameters of each model; the names are NIR's.
MODELS: dict[str, tuple[Param, ...]] = {
    "lif": (_tau("tau"), *_SPIKING, *_SHARED),
    "iaf": (*_SPIKING, *(param for param in _SHARED if param.name != "v_leak")),
    "cuba_lif": (*_SYNAPSE, _ORDER, *_SPIKING, *_SHARED),
    "li": (_tau("tau"), *_SHARED),
    "cuba_li": (*_SYNAPSE, _ORDER, *_SHARED),
    "integrator": tuple(param for param in _SHARED if param.name != "v_leak"),
}
#: Names in PyNN, NEST, snnTorch, Norse, lava, Sinabs and SpikingJelly.
MODEL_ALIASES = {
    "if": "iaf", "ifnode": "iaf", "integrate_and_fire": "iaf", "iaf_psc_delta": "lif", "leaky": "lif",
    "lifcell": "lif", "lifnode": "lif", "lifboxcell": "lif", "expleak": "li", "licell": "li", "licurrent": "cuba_li",
    "if_curr_delta": "lif", "if_curr_exp": "cuba_lif", "iaf_psc_exp": "cuba_lif", "synaptic": "cuba_lif",
    "cuba": "cuba_lif", "cubalif": "cuba_lif", "cubali": "cuba_li", "lapicque": "lif", "i": "integrator",
}  # fmt: skip
PARAM_ALIASES = {
    "threshold": "v_threshold", "vth": "v_threshold", "v_th": "v_threshold", "v_thresh": "v_threshold",
    "tau_m": "tau", "tau_mem": "tau", "tau_refrac": "refractory", "t_ref": "refractory", "reset_mechanism": "reset",
    "v_rest": "v_leak", "e_l": "v_leak", "i_offset": "bias", "i_e": "bias", "tau_syn_e": "tau_syn", "v_init": "v_init",
}  # fmt: skip


def realise(pop: Population, kind: str, given: Arguments, header: Header) -> None:
    """Set the level and the fields of ``snn.neuron`` of a population.

    Raises
    ------
    Fault
        E0368, E0373 or E0376 for parameters that do not fit together or to the population.
    """
    maker = _Maker(pop, given, header)
    pop.level = PLAIN if "r" in given else maker.level
    fields: dict[str, Any] = {"reset": "none"}
    if any(param.name == "v_threshold" for param in MODELS[kind]):
        fields = maker.spiking()
    if kind in ("lif", "li"):
        fields |= maker.membrane("tau")
    elif kind in ("cuba_lif", "cuba_li"):
        fields |= maker.membrane("tau_mem") | maker.synapse()
    elif "r" in given:
        fields["gain"] = maker.const("gain", maker.array(given["r"]) * header.dt)
    fields["v_init"] = maker.start()
    pop.fields = {name: item for name, item in fields.items() if item is not None}
    if "bias" in given:
        pop.biases.append(maker.array(given["bias"]))


class _Maker:
    """Coefficients of one population."""

    def __init__(self, pop: Population, given: Arguments, header: Header) -> None:
        self._pop, self._given, self._header = pop, given, header
        self.level = self._common_level()

    def _common_level(self) -> Dim | None:
        found: Dim | None = None
        for name in ("v_threshold", "v_leak", "v_reset", "v_init"):
            if name in self._given:
                dim = self._given[name].value.dim
                if found is not None and dim != found:
                    message = (
                        f"{name} is {dim_name(dim)}, but v_threshold or another level is {dim_name(found)}"
                    )
                    raise Fault("E0368", self._given[name].pos, message)
                found = dim
        spiking = self._pop.kind in ("lif", "iaf", "cuba_lif")
        if found == VOLT and spiking and "v_threshold" not in self._given:
            message = "levels in volts need v_threshold in volts"
            raise Fault("E0368", self._pop.pos, message, "add v_threshold = 20 mV")
        return PLAIN if found is None and spiking else found

    def array(self, bound: Bound) -> Array:
        """Give numbers that broadcast to the population."""
        numbers = np.atleast_1d(np.asarray(bound.value.value, np.float64))
        try:
            fits = np.broadcast_shapes(numbers.shape, self._pop.shape) == self._pop.shape
        except ValueError:
            fits = False
        if not fits:
            message = f"shape {numbers.shape} does not broadcast to {self._pop.name} {self._pop.shape}"
            raise Fault("E0376", bound.pos, message)
        return numbers

    def const(self, what: str, numbers: Array) -> Const:
        """Name an array."""
        return Const(f"{self._pop.name}.{what}", numbers)

    def _optional(self, name: str, absent: float = 0.0) -> Array:
        return self.array(self._given[name]) if name in self._given else np.array([absent])

    def spiking(self) -> dict[str, Any]:
        """Threshold, reset, comparison and refractory period."""
        given = self._given
        fields: dict[str, Any] = {"threshold": self.const("threshold", self._optional("v_threshold", 1.0))}
        reset = given["reset"].value.replace("_", "-") if "reset" in given else ""
        if "v_reset" in given:
            if reset not in ("", "to-value"):
                message = f"reset = {given['reset'].value} and v_reset contradict each other"
                raise Fault("E0372", given["v_reset"].pos, message, "leave one of them out")
            reset = "to-value"
            fields["v_reset"] = self.const("v_reset", self.array(given["v_reset"]))
        elif reset == "to-value":
            raise Fault("E0372", given["reset"].pos, "reset = to_value needs v_reset")
        fields["reset"] = reset or "zero"
        if "refractory" in given:
            steps = self._header.in_steps(given["refractory"].value, given["refractory"].pos, "refractory")
            if steps > 2**31 - 1:
                raise Fault("E0373", given["refractory"].pos, f"refractory of {steps} steps is too long")
            fields["refractory"] = self.const("refractory", np.array([steps], np.int32)) if steps else None
        if "compare" in given:
            fields["compare"] = given["compare"].value
        if "max_spikes" in given:
            fields["max_spikes"] = given["max_spikes"].value.value
        return fields

    def _decay(self, name: str) -> Array:
        tau = self.array(self._given[name])
        if self._header.integrator == "euler" and tau.min() < self._header.dt:
            message = f"{name} of {tau.min() * 1e3:g} ms is shorter than dt"
            raise Fault("E0373", self._given[name].pos, message, "use integrator = exact")
        return self._header.decay(tau)

    def membrane(self, name: str) -> dict[str, Any]:
        """Decay, gain and leak of the membrane."""
        beta = self._decay(name)
        fields: dict[str, Any] = {"beta": self.const("beta", beta)}
        if "r" in self._given:
            fields["gain"] = self.const("gain", self.array(self._given["r"]) * (1.0 - beta))
        if "v_leak" in self._given:
            fields["leak"] = self.const("leak", self.array(self._given["v_leak"]) * (1.0 - beta))
        return fields

    def synapse(self) -> dict[str, Any]:
        """Decay and input weight of the synaptic current, and which of the two states moves first."""
        fields: dict[str, Any] = {"alpha": self.const("alpha", self._decay("tau_syn"))}
        if "w_in" in self._given:
            fields["w_in"] = self.const("w_in", self.array(self._given["w_in"]))
        if "order" in self._given:
            fields["order"] = self._given["order"].value.replace("_", "-")
        return fields

    def start(self) -> Const | None:
        """Potentials before the first step; by default v_leak, where the membrane rests."""
        law = self._given.get("v_init")
        if law is None:
            rest = self._given.get("v_leak")
            return None if rest is None else self.const("v_init", self.array(rest))
        if isinstance(law.value, Random):
            index = np.arange(self._pop.size)
            u = draw.unit(self._header.seed, self._pop.number, draw.START, index)
            return self.const("v_init", draw.sample(law.value, u).reshape(self._pop.shape))
        return self.const("v_init", self.array(law))
