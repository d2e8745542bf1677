"""What may stand behind ``network``, ``input``, ``synapse``, ``output`` and ``@``."""

from __future__ import annotations

from typing import Any, Literal

from nmc.frontends.snn import syntax as ast
from nmc.frontends.snn.calls import Arguments, Param
from nmc.frontends.snn.evaluate import Evaluator
from nmc.frontends.snn.models import Header
from nmc.frontends.snn.network import loc_of
from nmc.frontends.snn.problems import Fault
from nmc.frontends.snn.values import PLAIN, RATE, STEP, TIME, VOLT, Population, Quantity, Scope, kind_name
from nmc.ir.ops import snn
from nmc.ir.ops.sources import MAX_MEAN, Poisson

HEADER = (
    Param("dt", (TIME,), required=True, positive=True, most=10.0),
    Param("steps", whole=True, least=1, most=1 << 31),
    Param("duration", (TIME,), positive=True),
    Param("seed", whole=True, least=0),
    Param("integrator", kind="word", choices=("exact", "euler")),
    Param("delay", (TIME, STEP), least=0),
)
INPUTS: dict[str, tuple[Param, ...]] = {
    "rate": (Param("max", (RATE,), required=True, positive=True),),
    "poisson": (Param("rate", (RATE,), required=True, least=0),),
    "constant": (Param("gain"),),
    "events": (Param("file", kind="text"), Param("polarity", kind="word", choices=("split", "merge", "on", "off"))),
    "raster": (Param("file", kind="text"),),
}  # fmt: skip
_LEVEL = (PLAIN, VOLT)


def _tau(name: str) -> Param:
    return Param(name, (TIME,), required=True, positive=True)


def _amplitude(name: str) -> Param:
    return Param(name, _LEVEL, required=True, least=0)


#: How synapses learn; the names are PyNN's.
RULES: dict[str, tuple[Param, ...]] = {
    "stdp": (
        _tau("tau_plus"), _tau("tau_minus"), _amplitude("a_plus"), _amplitude("a_minus"),
        Param("w_max", _LEVEL, required=True), Param("w_min", _LEVEL),
        Param("pairing", kind="word", choices=("all", "nearest")),
    ),
    "static": (),
}  # fmt: skip
DECODERS: dict[str, Literal["last", "count"]] = {
    "count_argmax": "count", "count": "count", "last": "last", "last_argmax": "last",
}  # fmt: skip


def make_header(node: ast.Network, bound: Arguments) -> Header:
    """Read the network line.

    Raises
    ------
    Fault
        E0365 without dt or with both steps and duration, E0373 for a duration that is no multiple of dt.
    """
    if "dt" not in bound:
        raise Fault("E0365", node.pos, "the network line has no dt", f"network {node.name}(dt = 1 ms)")
    if "steps" in bound and "duration" in bound:
        raise Fault("E0365", bound["duration"].pos, "steps and duration say the same", "leave one out")
    header = Header(node.name, float(bound["dt"].value.value))
    steps = int(bound["steps"].value.value) if "steps" in bound else 0
    if "duration" in bound:
        steps = header.in_steps(bound["duration"].value, bound["duration"].pos, "duration")
    delay = header.in_steps(bound["delay"].value, bound["delay"].pos, "delay") if "delay" in bound else 0
    return Header(
        node.name,
        header.dt,
        steps,
        int(bound["seed"].value.value) if "seed" in bound else 0,
        bound["integrator"].value if "integrator" in bound else "exact",
        delay,
    )


def make_input(pop: Population, bound: Arguments, header: Header) -> snn.InputOp:
    """Make the op of an input.

    Raises
    ------
    Fault
        E0373 for a rate of more than one spike a step, or too many.
    """
    loc, seed = loc_of(pop.pos), header.seed + pop.number
    if pop.kind == "rate":
        gain = bound["max"].value.value * header.dt
        if gain > 1.0 + 1e-9:
            message = f"{gain:g} spikes a step of {header.dt * 1e3:g} ms; an input sends one at most"
            raise Fault("E0373", bound["max"].pos, message, "use a lower rate or a smaller dt")
        return snn.Input(
            out=pop.name,
            loc=loc,
            source=pop.name,
            shape=pop.shape,
            encoder="rate",
            gain=min(gain, 1.0),
            seed=seed,
        )
    if pop.kind == "poisson":
        mean = bound["rate"].value.value * header.dt
        if mean > MAX_MEAN:
            raise Fault("E0373", bound["rate"].pos, f"{mean:g} spikes a step, of at most {MAX_MEAN:g}")
        return Poisson(out=pop.name, loc=loc, shape=pop.shape, mean=float(mean), seed=seed)
    if pop.kind == "constant":
        gain = float(bound["gain"].value.value) if "gain" in bound else 1.0
        return snn.Input(out=pop.name, loc=loc, source=pop.name, shape=pop.shape, gain=gain)
    return snn.Input(out=pop.name, loc=loc, source=pop.name, shape=pop.shape, encoder="raster")


def hint_text(hint: ast.Hint, evaluator: Evaluator, scope: Scope) -> str:
    """Give a hint as text with its arguments evaluated: ``quantize(bits=8)``."""
    shown = []
    for argument in hint.arguments:
        value = evaluator.value(argument.value, scope)
        if isinstance(value, Quantity) and not value.is_array:
            text = str(value.value)
        elif isinstance(value, range):
            text = f"{value.start}..{value.stop}"
        elif isinstance(value, bool | str):
            text = str(value).lower() if isinstance(value, bool) else value
        else:
            raise Fault("E0386", argument.pos, "hints take numbers, ranges, strings and truth values")
        shown.append(f"{argument.name}={text}" if argument.name else text)
    return f"{hint.name}({', '.join(shown)})"


def overridden(name: str, default: Any, given: Any, node: ast.Let) -> Any:
    """Give the value of a ``param`` that the caller sets.

    Raises
    ------
    Fault
        E0378 for one of another kind or unit.
    """
    same = type(given) is type(default)
    if isinstance(given, Quantity) and isinstance(default, Quantity):
        if given.dim != default.dim:
            message = f"param {name} is {kind_name(default)}, but {kind_name(given)} is given"
            raise Fault("E0378", node.pos, message, "give it with the unit that the program has")
        return given
    if not same:
        raise Fault(
            "E0378", node.pos, f"param {name} is {kind_name(default)}, but {kind_name(given)} is given"
        )
    return given
