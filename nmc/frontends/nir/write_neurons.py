"""From a population to a NIR neuron: what the coefficients of a step say about time constants and resistances.

The inverse of `neurons.coefficients`. Where rounding keeps the way back from being exact, the coefficients go into the
node's metadata, so that nmc reads back the same arithmetic bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmc.frontends.nir.convention import Convention
from nmc.frontends.nir.metadata import ENTRIES, KEY, dumps, node_record
from nmc.frontends.nir.neurons import Coefficients, _bias_factor, _cross, _lost, coefficients
from nmc.frontends.nir.primitives import Array, Field, Ints, Node
from nmc.ir.dataclass import dataclass
from nmc.ir.op import StatefulOp
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import GRID, Neuron
from nmc.ir.record import Record

Law = dict[str, Any]


class Refused(Exception):
    """A population has no NIR form; the text says why."""


@dataclass(frozen=True)
class Cell:
    """A population in NIR's terms.

    Parameters
    ----------
    kind : str
        Primitive.
    fields : dict
        Of the primitive, each in the shape of the population.
    meta : dict
        Metadata of the node: what the primitive does not say.
    """

    kind: str
    fields: dict[str, Field]
    meta: dict[str, Field]


def common_record(base: Record, ops: tuple[StatefulOp, ...]) -> Record:
    """The record of a file: entries that all populations share; nodes say what they do otherwise."""
    laws = [law_of(op)[0] for op in ops if _spiking(op)]
    shared = {
        name: laws[0][name]
        for name in ENTRIES
        if laws and name in laws[0] and len({law[name] for law in laws}) == 1
    }
    drives = {_drive(base, op) for op in ops if isinstance(op, Neuron) and op.alpha is not None}
    if len(drives) == 1:
        shared["drive"] = drives.pop()
    return node_record(base, shared)


def _spiking(op: StatefulOp) -> bool:
    return isinstance(op, snn.If) or (isinstance(op, Neuron) and op.threshold is not None)


def _drive(base: Record, op: Neuron) -> str:
    """How inputs drive a population; only the held ones of exact current-based neurons have a `feed`."""
    if op.feed is not None:
        return "step"
    return (
        "delta"
        if base.drive == "step" and op.alpha is not None and base.integrator == "exact"
        else base.drive
    )


def law_of(op: StatefulOp) -> tuple[dict[str, Any], Coefficients]:
    """The entries of the record and the coefficients (in their own shapes, float64) of a population."""
    if isinstance(op, Neuron):
        names = ("order", "compare", "reset", "bias_site", "max_spikes", "decay_last", "precision")
        consts = (
            "alpha",
            "beta",
            "gain",
            "leak",
            "threshold",
            "v_reset",
            "w_in",
            "feed",
            "v_init",
            "bias",
            "late_bias",
        )
        found = {name: item for name in consts if (item := getattr(op, name)) is not None}
        return {name: getattr(op, name) for name in names}, {
            name: item.array().astype(np.float64) for name, item in found.items()
        }
    plain = Record(1.0)
    law = {
        name: getattr(plain, name) for name in ("order", "bias_site", "max_spikes", "decay_last", "precision")
    }
    found = (
        {}
        if not isinstance(op, snn.NeuronOp) or op.bias is None
        else {"bias": op.bias.array().astype(np.float64)}
    )
    if isinstance(op, snn.If):
        found |= {
            "threshold": np.array([op.threshold]),
            **({"v_init": np.array([op.v_init])} if op.v_init else {}),
        }
        return {**law, "compare": op.compare, "reset": op.reset}, found
    return {**law, "compare": "gt", "reset": "none"}, found


def cell_of(op: StatefulOp, shape: Ints, base: Record, named: str) -> Cell:
    """Give the NIR neuron of a population.

    Parameters
    ----------
    op : StatefulOp
        ``snn.if``, ``snn.integrator`` or ``snn.neuron``.
    shape : tuple of int
        In which NIR has the population.
    base : Record
        Of the file.
    named : str
        Name of its node, which cannot be every name.

    Raises
    ------
    Refused
        When no primitive says the same.
    """
    law, found = law_of(op)
    found = {
        name: item
        for name, item in found.items()
        if item.any() or name in ("alpha", "beta", "gain", "threshold")
    }
    _check(op, found)
    own = {
        name: law[name]
        for name in ENTRIES
        if name in law and (_spiking(op) or name not in ("reset", "compare"))
    }
    if isinstance(op, Neuron) and op.alpha is not None:
        own["drive"] = _drive(base, op)
    if not _spiking(op):
        own["max_spikes"] = base.max_spikes
    if "feed" in found:
        own["order"] = base.order  # a feed implies it
    entries: dict[str, Any] = {name: item for name, item in own.items() if item != getattr(base, name)}
    record = node_record(base, entries)
    kind, values = _fields(found, record, law["reset"] != "none")
    fields: dict[str, Field] = {
        name: np.broadcast_to(_shaped(item, op, shape), shape).copy() for name, item in values.items()
    }
    node = Node(op.out, kind, fields)
    meta = _exact(node, op, shape, found, record)
    if named != op.out:
        entries["name"] = op.out
    start = int(getattr(op, "start", 0))
    if start != base.output_delay:
        entries["start"] = start
    if entries:
        meta[KEY] = dumps(entries)
    return Cell(kind, fields, meta)


def _check(op: StatefulOp, found: Coefficients) -> None:
    """Raise for what no primitive says."""
    reasons = []
    if isinstance(op, Neuron) and op.refractory is not None and bool(op.refractory.array().any()):
        reasons.append("a refractory period")
    beta = found.get("beta")
    instant = beta is not None and not beta.any()
    if beta is not None and not instant and not bool(((beta > 0) & (beta < 1)).all()):
        reasons.append(f"a membrane decay of {float(beta.min()):.6g} to {float(beta.max()):.6g}")
    if "alpha" in found and not bool(((found["alpha"] > 0) & (found["alpha"] < 1)).all()):
        reasons.append(f"a synaptic decay of {float(found['alpha'].min()):.6g}")
    if beta is None and "alpha" in found:
        reasons.append("a synaptic filter before a membrane without leak")
    if beta is None and "leak" in found:
        reasons.append("a constant drift without a leak")
    if "alpha" not in found and ("feed" in found or ("w_in" in found and bool((found["w_in"] != 1).any()))):
        reasons.append("an input weight without a synaptic filter")
    if instant and ("leak" in found or bool((found.get("gain", np.ones(1)) != 1).any()) or "alpha" in found):
        reasons.append("a membrane that forgets in one step, with a gain or a leak")
    if instant and getattr(op, "reset", "none") not in ("zero", "subtract"):
        reasons.append("a membrane that forgets in one step, read out or reset to a value")
    if reasons:
        raise Refused(f"NIR has no form for {' and '.join(reasons)}")


def _fields(found: Coefficients, record: Record, spiking: bool) -> tuple[str, dict[str, Array]]:
    """The primitive and its fields, in the shapes of the coefficients."""
    beta = found.get("beta")
    threshold = found.get("threshold", np.zeros(1))
    if beta is not None and not beta.any():
        return "Threshold", {"threshold": threshold}
    if record.precision == "fixed12":
        threshold = threshold - 0.01 / GRID  # `coefficients` adds it
    values: dict[str, Array] = {}
    gain = found.get("gain", np.ones(1))
    if beta is None:
        values["r"] = gain / record.dt
        kind = "I"
    elif "alpha" in found:
        values = _current_based(found, beta, gain, record)
        kind = "CubaLI"
    else:
        tau = _tau(beta, record)
        values = {"tau": tau, "r": gain / _lost(tau, record)}
        kind = "LI"
    if beta is not None:
        values["v_leak"] = found.get("leak", np.zeros(1)) / (1.0 - beta)
    if spiking:
        kind += "F"
        values |= {"v_threshold": threshold, "v_reset": found.get("v_reset", np.zeros(1))}
    return kind, values


def _current_based(found: Coefficients, beta: Array, gain: Array, record: Record) -> dict[str, Array]:
    tau, tau_syn = _tau(beta, record), _tau(found["alpha"], record)
    w_in = found.get("w_in", np.ones(1)) / _lost(tau_syn, record)
    r = gain / _lost(tau, record)
    if "feed" in found:
        kept = _cross(tau_syn, tau, record.dt)
        r = gain / kept
        if not np.allclose(found["feed"], r * (1.0 - beta - kept) * w_in, rtol=1e-9, atol=0.0):
            raise Refused("NIR has no input that bypasses the synaptic filter")
    return {"tau_mem": tau, "tau_syn": tau_syn, "r": r, "w_in": w_in}


def _tau(decay: Array, record: Record) -> Array:
    if record.precision == "fixed12" or record.integrator == "euler":
        return np.asarray(record.dt / (1.0 - decay))
    return np.asarray(-record.dt / np.log(decay))


def _shaped(item: Array, op: StatefulOp, shape: Ints) -> Array:
    """A coefficient in the shape in which NIR has the population."""
    return np.broadcast_to(item, op.result.shape).reshape(shape)


def _exact(node: Node, op: StatefulOp, shape: Ints, found: Coefficients, record: Record) -> dict[str, Field]:
    """Coefficients that the fields give back only rounded, and starting values, which NIR does not have."""
    back = coefficients(node, record, Convention("nmc", record.dt))
    meta: dict[str, Field] = {}
    for name in ("alpha", "beta", "gain", "w_in", "leak", "threshold", "feed", "v_reset"):
        absent = np.ones(1) if name in ("beta", "gain", "w_in") else np.zeros(1)
        if name not in back and name not in found:
            continue
        want = _shaped(found.get(name, absent), op, shape)
        if not np.array_equal(
            np.broadcast_to(np.reshape(back.get(name, absent), -1), want.size)
            if np.size(back.get(name, absent)) == 1
            else np.reshape(back[name], -1),
            want.reshape(-1),
        ):
            meta[f"{KEY}_{name}"] = _small(want)
    if "v_init" in found:
        meta[f"{KEY}_v_init"] = _small(_shaped(found["v_init"], op, shape))
    if record.bias_site == "membrane":
        for name in {"bias", "late_bias"} & found.keys():
            meta[f"{KEY}_{name}"] = _small(_shaped(found[name], op, shape))
    return meta


def _small(values: Array) -> Array:
    return values.reshape(-1)[:1].copy() if bool((values == values.flat[0]).all()) else values.copy()


def nir_bias(name: str, op: StatefulOp, cell: Cell, record: Record) -> Array | None:
    """The bias (or ``late_bias``) of a population as NIR's linear nodes have it, flat; None without one."""
    found = law_of(op)[1].get(name)
    if found is None or not found.any():
        return None
    law = law_of(op)[0]
    full = np.broadcast_to(found, op.result.shape).reshape(-1)
    if law["bias_site"] != "membrane":
        return full
    node = Node(op.out, cell.kind, cell.fields)
    back = coefficients(node, record, Convention("nmc", record.dt))
    return np.asarray(full / np.reshape(_bias_factor(node, back), -1))
