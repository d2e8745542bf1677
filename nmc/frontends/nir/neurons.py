"""From a NIR neuron and the record to the coefficients of ``snn.neuron`` (equations: facts/nir.md 1.1)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nmc.frontends.nir.convention import Convention
from nmc.frontends.nir.metadata import exact
from nmc.frontends.nir.primitives import SPIKING, Array, Ints, Node
from nmc.ir.const import Const
from nmc.ir.op import Value
from nmc.ir.ops.neurons import GRID, Neuron
from nmc.ir.record import Record

Coefficients = dict[str, Array]


def spread(values: Array, shape: Ints) -> Array:
    """Give a parameter the shape of its population; (1,) where all elements are the same."""
    flat = np.asarray(values)
    if flat.size and bool((flat == flat.flat[0]).all()):
        return flat.reshape(-1)[:1]
    return flat.reshape(shape) if flat.size == np.prod(shape) else flat


def neuron(
    node: Node,
    out: str,
    current: tuple[Value, ...],
    record: Record,
    convention: Convention,
    biases: tuple[Array | None, Array | None],
    scale: float,
    start: int,
) -> Neuron:
    """Make the population of a node.

    Parameters
    ----------
    node : Node
        The primitive, its fields checked.
    out : str
        Name of the population.
    current : tuple of Value
        What its projections bring.
    record, convention
        Which arithmetic, and what r means.
    biases : (ndarray or None, ndarray or None)
        Constant currents of the forward and of the recurrent branches.
    scale : float
        Factor that its quantised weights have lost.
    start : int
        Step from which on biases act.
    """
    shape = current[0].shape
    found = coefficients(node, record, convention)
    site_factor = _bias_factor(node, found) if record.bias_site == "membrane" else 1.0
    if scale != 1.0:
        found = _scaled(node, found, scale, record)
    for key, bias in zip(("bias", "late_bias"), _split(biases, record), strict=True):
        if bias is not None and bool(np.any(bias)):
            found[key] = bias * site_factor / (scale if record.bias_site == "current" else 1.0)
    found |= exact(node, found, shape)
    consts = {key: Const(f"{out}.{key}", spread(value, shape)) for key, value in found.items()}
    spiking = node.kind in SPIKING
    reset = record.reset if spiking else "none"
    if reset == "to-value" and "v_reset" not in consts:
        reset = "zero"
    if node.kind == "Threshold":
        reset = "zero"
    plain = Neuron(
        out=out,
        current=current,
        order=record.order,
        compare=record.compare,
        reset=reset,
        bias_site=record.bias_site,
        max_spikes=record.max_spikes if spiking else 1,
        decay_last=record.decay_last and node.kind != "Threshold",
        precision=record.precision,
        start=start,
    )
    return replace(plain, order=_order(found, record), **consts)  # type: ignore[arg-type]


def _order(found: Coefficients, record: Record) -> str:
    return "membrane-first" if "feed" in found else record.order


def _split(biases: tuple[Array | None, Array | None], record: Record) -> tuple[Array | None, Array | None]:
    forward, recurrent = biases
    if record.recurrent_bias == "dropped" or recurrent is None:
        return forward, None
    if record.recurrent_bias == "late":
        return forward, recurrent
    return recurrent if forward is None else forward + recurrent, None


def _scaled(node: Node, found: Coefficients, scale: float, record: Record) -> Coefficients:
    """Put the factor of the quantised weights where they act: the synapse, else the membrane."""
    if "alpha" in found:
        changed = {"w_in": found["w_in"] * scale}
        return {**found, **changed, **({"feed": found["feed"] * scale} if "feed" in found else {})}
    return {**found, "gain": found["gain"] * scale}


def _bias_factor(node: Node, found: Coefficients) -> Array | float:
    """A bias that bypasses the synapse enters the membrane at bias * w_in (facts/nir.md 1.5, SpiNNaker2)."""
    gain = found.get("gain", np.asarray(1.0))
    return gain * node.array("w_in", 1.0).astype(np.float64)


def coefficients(node: Node, record: Record, convention: Convention) -> Coefficients:
    """Coefficients of a step, float64; the names are those of ``snn.neuron``."""
    if node.kind == "Threshold":
        return {
            "beta": np.zeros(1),
            "gain": np.ones(1),
            "threshold": node.array("threshold").astype(np.float64),
        }
    resistance = convention.resistance(node)
    found: Coefficients = {}
    if node.kind in ("I", "IF"):
        found["gain"] = resistance * record.dt
    else:
        found.update(_leaky(node, record, resistance))
    if node.kind in SPIKING:
        found["threshold"] = node.array("v_threshold").astype(np.float64)
        if record.precision == "fixed12":  # facts/nir.md 1.5: v >= thr + 0.01 / 4096
            found["threshold"] = found["threshold"] + 0.01 / GRID
        v_reset = node.array("v_reset", 0.0).astype(np.float64)
        if record.reset == "to-value" and bool(np.any(v_reset)):
            found["v_reset"] = v_reset
    return found


def _leaky(node: Node, record: Record, resistance: Array) -> Coefficients:
    cuba = "tau_syn" in node.fields
    tau = node.array("tau_mem" if cuba else "tau").astype(np.float64)
    decay, lost = _decay(tau, record), _lost(tau, record)
    found = {"beta": decay, "gain": resistance * lost}
    leak = node.array("v_leak").astype(np.float64)
    if bool(np.any(leak)):
        found["leak"] = leak * (1.0 - decay)
    if not cuba:
        return found
    tau_syn, w_in = node.array("tau_syn").astype(np.float64), node.array("w_in", 1.0).astype(np.float64)
    alpha = _decay(tau_syn, record)
    found |= {"alpha": alpha, "w_in": w_in * _lost(tau_syn, record)}
    if record.integrator == "exact" and record.drive == "step":
        # Both equations solved together for an input that is held over the step.
        kept = _cross(tau_syn, tau, record.dt)
        found |= {"gain": resistance * kept, "feed": resistance * (1.0 - decay - kept) * w_in}
    return found


def _cross(tau_syn: Array, tau: Array, dt: float) -> Array:
    """How much of the synaptic current of the step before reaches the membrane."""
    same = np.isclose(tau_syn, tau, rtol=1e-9, atol=0.0)
    apart = np.where(same, 1.0, tau_syn - tau)
    general = (np.exp(-dt / tau_syn) - np.exp(-dt / tau)) * tau_syn / apart
    return np.where(same, dt / tau * np.exp(-dt / tau), general)


def _decay(tau: Array, record: Record) -> Array:
    if record.precision == "fixed12":
        return 1.0 - np.round(GRID * record.dt / tau) / GRID
    return np.asarray(np.exp(-record.dt / tau) if record.integrator == "exact" else 1.0 - record.dt / tau)


def _lost(tau: Array, record: Record) -> Array:
    """Gain of an input: what the decay loses for one that is held, dt / tau for an impulse and for Euler."""
    held = record.integrator == "exact" and record.drive != "impulse"
    return np.asarray(-np.expm1(-record.dt / tau) if held else record.dt / tau)
