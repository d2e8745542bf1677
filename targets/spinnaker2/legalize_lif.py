"""Spiking populations in real numbers: leaky neurons in single precision on integer sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op, Value
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron, Sparse
from nmc.targets.spinnaker2 import legalize_s1615
from nmc.targets.spinnaker2 import ops as s2
from nmc.targets.spinnaker2.layout import MAX_WEIGHT, Format
from nmc.targets.spinnaker2.scaling import Stored, Wish, list_format, matrix_format, small_steps, store, whole

if TYPE_CHECKING:
    from nmc.targets.spinnaker2.legalize import Legalization

Array = NDArray[Any]
#: Matrices beyond this size are not searched for weights that are multiples of one number.
_LOOKED_AT = 1 << 20
Population = snn.If | snn.Integrator | Neuron


@dataclass(frozen=True)
class Form:
    """A population in the words of ``spinnaker2.lif``.

    Parameters
    ----------
    consts : mapping of str to float array
        alpha, beta, gain, leak, threshold, v_reset, v_init, bias, refractory where given; `w_in` for the weights.
    compare, reset, order : str
        As of ``spinnaker2.lif``.
    start : int
        Step from which bias and leak act.
    """

    consts: dict[str, Array]
    compare: Literal["ge", "gt"] = "gt"
    reset: Literal["none", "subtract", "to-value"] = "none"
    order: Literal["synapse-first", "membrane-first"] = "synapse-first"
    start: int = 0
    problems: tuple[str, ...] = field(default=())


def form_of(op: Population) -> Form:
    """Give the common form; what it cannot hold is in `problems`."""
    if isinstance(op, Neuron):
        return _of_neuron(op)
    consts = {} if op.bias is None else {"bias": op.bias.array()}
    if isinstance(op, snn.Integrator):
        return Form(consts, start=op.start)
    consts |= {"threshold": np.array([op.threshold]), "v_init": np.array([op.v_init])}
    reset: Literal["subtract", "to-value"] = "subtract" if op.reset == "subtract" else "to-value"
    return Form(consts, op.compare, reset, start=op.start)


def _of_neuron(op: Neuron) -> Form:
    names = ("alpha", "beta", "gain", "leak", "threshold", "v_reset", "w_in", "bias", "v_init", "refractory")
    consts = {name: const.array() for name in names if (const := getattr(op, name)) is not None}
    resets: dict[str, Literal["none", "subtract", "to-value"]] = {
        "none": "none", "subtract": "subtract", "zero": "to-value", "to-value": "to-value",
    }  # fmt: skip
    checks = {
        f"reset {op.reset}": op.reset not in resets,
        "several spikes a step": op.max_spikes > 1,
        "decays after the spike (decay_last)": op.decay_last,
        "an input that bypasses the synapse (feed)": op.feed is not None,
        "a bias from the second step on (late_bias)": op.late_bias is not None,
        "fixed-point states (precision fixed12)": op.precision == "fixed12",
    }
    if op.bias is not None:
        bias = consts.pop("bias").astype(np.float64)
        if op.bias_site == "membrane":
            consts["leak"] = np.asarray(consts.get("leak", 0.0)) + bias
        else:
            consts["bias"] = bias * np.asarray(consts.get("w_in", 1.0), np.float64)
    if op.reset == "zero":
        consts.pop("v_reset", None)
    problems = tuple(what for what, wrong in checks.items() if wrong)
    return Form(consts, op.compare, resets.get(op.reset, "none"), op.order, op.start, problems)


def _passes_on(op: Op, vias: Sequence[snn.ProjectionOp]) -> bool:
    """Whether a population only sends what comes, as relays do: any arithmetic gives the same."""
    if not (isinstance(op, snn.If) and op.reset == "zero" and not op.v_init and len(vias) == 1):
        return False
    (via,) = vias
    single = isinstance(via, snn.OneToOne) and via.spikes.type.kind == "spikes"
    return single and bool((via.weight.array() > op.threshold).all())


def population(work: Legalization, op: Population) -> None:
    """Legalise a population with its projections, or say what of it SpiNNaker2 cannot do."""
    form = form_of(op)
    for what in form.problems:
        work.refuse("E0921", f"%{op.out} needs {what}; the firmware has none", op)
    vias = work.projections(op, op.current)
    if vias is None or form.problems:
        return
    if work.options.arithmetic == "s1615" and form.reset != "none" and not _passes_on(op, vias):
        legalize_s1615.population(work, op, form, vias)
        return
    scale, each, current = currents(work, op, vias)
    w_in = form.consts.get("w_in", np.ones(1))
    factor = scale * (1.0 if each is None else each) * w_in
    if scale == 1.0 and each is None:
        factor = w_in  # bit for bit: the compat mode of whole weights
    consts = {name: value for name, value in form.consts.items() if name != "w_in"}
    work.emit(_lif(work, op, form, {**consts, "scale": np.asarray(factor)}, current))


def currents(
    work: Legalization, op: Op, vias: Sequence[snn.ProjectionOp]
) -> tuple[float, Array | None, tuple[Value, ...]]:
    """Store the weights of all projections onto a population.

    Returns
    -------
    scale : float
        Current of a sum of one.
    each : array or None
        What the scale is multiplied by for each neuron or channel.
    current : tuple of Value
        The projections.
    """
    wishes = [wish(work, via) for via in vias]
    each = _each(op, vias, wishes)
    if each is not None:
        wishes = [_normalised(item, via, each) for item, via in zip(wishes, vias, strict=True)]
    scale, stored = store(wishes)
    return scale, each, projected(work, vias, stored, wishes)


def projected(
    work: Legalization, vias: Sequence[snn.ProjectionOp], stored: Sequence[Stored], wishes: Sequence[Wish]
) -> tuple[Value, ...]:
    """The projections with their stored weights, in the shortest formats."""
    return tuple(
        work.projection(via, item, final_format(via, item, want.format))
        for via, item, want in zip(vias, stored, wishes, strict=True)
    )


def _lif(work: Legalization, op: Op, form: Form, values: dict[str, Array], current: Any) -> Op:
    consts: dict[str, Any] = {}
    for name, value in values.items():
        value = np.atleast_1d(np.asarray(value))
        if (value == value.flat[0]).all():
            value = value.reshape(-1)[:1]
        kind = np.int32 if name == "refractory" else np.float32
        consts[name] = work.const(f"{op.out}.{name}", value.astype(kind))
    return s2.Lif(
        out=op.out, loc=op.loc, current=current, compare=form.compare, reset=form.reset, order=form.order,
        start=form.start, **consts,
    )  # fmt: skip


def wish(work: Legalization, via: snn.ProjectionOp) -> Wish:
    """What a projection would like: its weights, and the widest stored weights of its format."""
    weight = via.weight.array().astype(np.float64)
    bits, payload = work.options.bits, work.bound(via)[0]
    row, fan = (float(payload) * _row_sums(via, each) for each in (weight, np.ones(weight.shape)))
    wide = (1 << (bits - 1)) - 1
    if isinstance(via, snn.Conv):
        return Wish(weight, "conv", min(wide, MAX_WEIGHT["conv"]), row, fan)
    if isinstance(via, snn.Dense):
        few = small_steps(weight) if weight.size <= _LOOKED_AT else 0
        if few:  # exact, and maybe short
            return Wish(weight, "sparse16", few, row, fan)
        return Wish(weight, "dense8" if wide <= MAX_WEIGHT["dense8"] else "sparse32", wide, row, fan)
    if whole(weight, MAX_WEIGHT["sparse32"]):
        return Wish(weight, "sparse32", MAX_WEIGHT["sparse32"], row, fan)
    steps = MAX_WEIGHT["sparse16"] if bits <= 4 else small_steps(weight)
    return Wish(weight, "sparse16" if steps else "sparse32", steps or MAX_WEIGHT["sparse32"], row, fan)


def _row_sums(via: snn.ProjectionOp, weight: Array) -> float:
    sizes = np.abs(weight)
    if isinstance(via, Sparse):
        full = np.broadcast_to(sizes, via.target.shape)
        return float(np.bincount(via.target.array(), weights=full).max(initial=0.0)) if full.size else 0.0
    if isinstance(via, snn.Conv | snn.Dense):
        return float(sizes.reshape(len(sizes), -1).sum(axis=1).max(initial=0.0))
    return float(sizes.max(initial=0.0))


def final_format(via: snn.ProjectionOp, stored: Stored, wanted: Format) -> Format:
    """The row format that takes the fewest bytes for what is stored."""
    if wanted == "conv":
        return "conv"
    return matrix_format(stored.weight) if isinstance(via, snn.Dense) else list_format(stored.weight)


def _each(op: Op, vias: Sequence[snn.ProjectionOp], wishes: Sequence[Wish]) -> Array | None:
    """How far each neuron (or channel) uses the range of the widest one, where a scale of its own makes sense.

    Shape broadcasts to the population; None where all share one scale: lists of synapses hold 16 bits anyway, and
    whole weights stay as they are.
    """
    if not all(isinstance(via, snn.Conv | snn.Dense) for via in vias) or not vias:
        return None
    if all(whole(item.weight, item.largest) for item in wishes):
        return None
    shape = op.result.shape
    channels = any(isinstance(via, snn.Conv) for via in vias)
    found = np.zeros(shape[:1] if channels else (int(np.prod(shape)),))
    for item in wishes:
        largest = np.abs(item.weight).reshape(len(item.weight), -1).max(axis=1, initial=0.0)
        whole_range = float(largest.max(initial=0.0))
        if whole_range:
            share = largest / whole_range
            found = np.maximum(found, share.reshape(len(found), -1).max(axis=1))
    found[found == 0] = 1.0
    return found.reshape(-1, *[1] * (len(shape) - 1)) if channels else found.reshape(shape)


def _normalised(item: Wish, via: snn.ProjectionOp, each: Array) -> Wish:
    """The weights in the scale of each target; rows grow by as much."""
    rows = np.repeat(each.reshape(-1), len(item.weight) // each.size)
    weight = item.weight / rows.reshape(-1, *[1] * (item.weight.ndim - 1))
    sizes = np.abs(weight).reshape(len(weight), -1).sum(axis=1).max(initial=0.0)
    before = np.abs(item.weight).reshape(len(weight), -1).sum(axis=1).max(initial=0.0)
    return replace(item, weight=weight, row=item.row * (float(sizes / before) if before else 1.0))
