"""Spiking populations in real numbers on the FPGA core: one scale a population, leaks in 1/4096."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron
from nmc.targets.fpga import bounds, dialect, ops

if TYPE_CHECKING:
    from nmc.targets.fpga.legalize import Legalization

Array = NDArray[Any]
Population = snn.If | snn.Integrator | Neuron


@dataclass(frozen=True)
class Form:
    """A population in the words of ``fpga.neuron``, before anything is rounded.

    Parameters
    ----------
    theta, bias, v_init : float array
        Broadcast to the population.
    factor : float array
        What weights are multiplied by.
    beta, alpha, v_reset : float
        alpha below 0: no current of its own.
    refractory : int
    reset : {"none", "subtract", "to-value"}
    strict, late, fires, wait : bool
        wait: the membrane takes the current of the step before.
    problems : tuple of str
        What the law does not have.
    """

    theta: Array
    bias: Array
    v_init: Array
    factor: Array
    beta: float = 1.0
    alpha: float = -1.0
    v_reset: float = 0.0
    refractory: int = 0
    reset: Literal["none", "subtract", "to-value"] = "none"
    strict: bool = True
    late: bool = False
    fires: bool = True
    wait: bool = False
    start: int = 0
    problems: tuple[str, ...] = field(default=())


def form_of(op: Population) -> Form:
    """Give the common form; what it cannot hold is in `problems`."""
    if isinstance(op, Neuron):
        return _of_neuron(op)
    zero, one = np.zeros(1), np.ones(1)
    bias = zero if op.bias is None else op.bias.array().astype(np.float64)
    if isinstance(op, snn.Integrator):
        return Form(zero, bias, zero, one, fires=False, start=op.start)
    return Form(
        np.array([op.threshold]), bias, np.array([op.v_init]), one, strict=op.compare == "gt", start=op.start,
        reset="subtract" if op.reset == "subtract" else "to-value",
    )  # fmt: skip


def _of_neuron(op: Neuron) -> Form:
    problems: list[str] = []

    def values(name: str, absent: float) -> Array:
        const = getattr(op, name)
        return np.full(1, absent) if const is None else np.asarray(const.array().astype(np.float64))

    def one(name: str, absent: float) -> float:
        found = values(name, absent).reshape(-1)
        if found.size and (found != found[0]).any():
            problems.append(f"different values of {name} within one population")
        return float(found[0]) if found.size else absent

    factor = values("w_in", 1.0) * values("gain", 1.0)
    bias = values("leak", 0.0) + values("bias", 0.0) * (factor if op.bias_site == "current" else 1.0)
    problems += _refused(op)
    reset: Literal["none", "subtract", "to-value"] = "to-value"
    if op.reset in ("none", "subtract", "subtract-late"):
        reset = "none" if op.reset == "none" else "subtract"
    return Form(
        values("threshold", 0.0), bias, values("v_init", 0.0), factor, beta=one("beta", 1.0),
        alpha=-1.0 if op.alpha is None else one("alpha", 0.0),
        v_reset=one("v_reset", 0.0) if op.reset == "to-value" else 0.0, refractory=int(one("refractory", 0)),
        reset=reset, strict=op.compare == "gt", late=op.reset == "subtract-late", fires=op.threshold is not None,
        wait=op.order == "membrane-first", start=op.start, problems=tuple(problems),
    )  # fmt: skip


def _refused(op: Neuron) -> list[str]:
    """What a neuron may be and the law is not."""
    filtered = op.bias_site == "current" and (op.alpha is not None or op.order == "membrane-first")
    checks = {
        f"reset {op.reset}": op.reset == "subtract-guarded",
        "several spikes a step": op.max_spikes > 1,
        "decays after the spike (decay_last)": op.decay_last
        and (op.alpha is not None or op.beta is not None),
        "an input that bypasses the synapse (feed)": op.feed is not None,
        "a bias from the second step on (late_bias)": op.late_bias is not None,
        "a bias that goes through the synapse": op.bias is not None and filtered,
        "fixed-point states (precision fixed12)": op.precision == "fixed12",
    }
    for name in ("alpha", "beta"):
        const = getattr(op, name)
        if const is not None and const.array().size:
            low, high = float(const.array().min()), float(const.array().max())
            checks[f"{name} of {low:g}..{high:g} (0..1 are decays)"] = not 0 <= low <= high <= 1
    for name in ("w_in", "gain"):
        const = getattr(op, name)
        if const is not None and const.array().size > 1 and np.ptp(const.array()) != 0:
            checks[f"different values of {name} within one population"] = True
    return [what for what, wrong in checks.items() if wrong]


def population(work: Legalization, op: Population) -> None:
    """Legalise a population with its projections, or say what of it the core cannot do."""
    form = form_of(op)
    if form.fires and float(form.theta.min(initial=1.0)) < 0:
        form = Form(
            form.theta, form.bias, form.v_init, form.factor, problems=(*form.problems, "thresholds below 0")
        )
    for what in form.problems:
        work.refuse("E0941", f"%{op.out} needs {what}; the FPGA core has none", op)
    vias = work.projections(op, op.current)
    if vias is None or form.problems:
        return
    factor = float(form.factor.reshape(-1)[0])
    weights = [via.weight.array().astype(np.float64) * factor for via in vias]
    scale = _scale(work, form, weights)
    made = _rounded(form, scale)
    whole = [np.rint(weight * scale).astype(np.int8) for weight in weights]
    reach = _reach(work, made, vias, whole)
    if not work.holds(op, reach) or not work.fits(op, made):
        return
    work.proved.append(work.steps)
    current = tuple(
        work.projection(via, weight, error=_error(weight, real * scale), wait=int(form.wait))
        for via, weight, real in zip(vias, whole, weights, strict=True)
    )
    work.scales[op.out] = 1.0 / scale
    names = ("theta", "bias", "v_init")
    consts: dict[str, Any] = {
        name: work.const(f"{op.out}.{name}", made[name])
        for name in names
        if name != "v_init" or made[name].any()
    }
    work.emit(dialect.Neuron(
        out=op.out, loc=op.loc, current=current, **consts, v_reset=int(made["v_reset"]), keep=int(made["keep"]),
        keep_i=max(0, int(made["keep_i"])), limit=form.refractory, reset=form.reset, strict=form.strict,
        late=form.late, open=form.start if made["bias"].any() else 0, close=ops.FOREVER if form.fires else 0,
        cuba=form.alpha >= 0,
    ))  # fmt: skip


def _scale(work: Legalization, form: Form, weights: list[Array]) -> float:
    """By what real numbers are multiplied: 1 where all are whole and nothing leaks, else as far as weights go."""
    given = [
        *weights,
        form.bias,
        form.v_init,
        np.array([form.v_reset]),
        *([form.theta] if form.fires else []),
    ]
    most = work.options.largest
    largest = max((float(np.abs(weight).max(initial=0.0)) for weight in weights), default=0.0)
    lasting = form.beta in (0.0, 1.0) and form.alpha in (-1.0, 0.0)  # leaks of small numbers would lose them
    if lasting and largest <= most and all(map(_all_whole, given)):
        return 1.0
    return most / largest if largest else float(most)


def _all_whole(values: Array) -> bool:
    return bool((values == np.rint(values)).all())


def _rounded(form: Form, scale: float) -> dict[str, Array]:
    """The integers of the class and of each neuron."""
    parts = {"theta": form.theta, "bias": form.bias, "v_init": form.v_init, "v_reset": np.array(form.v_reset)}
    whole = {name: np.asarray(np.rint(values * scale)).astype(np.int64) for name, values in parts.items()}
    keeps = {"keep": form.beta, "keep_i": form.alpha}
    return whole | {name: np.array(round(value * ops.ALL), np.int64) for name, value in keeps.items()}


def _reach(
    work: Legalization, made: dict[str, Array], vias: list[snn.ProjectionOp], whole: list[Array]
) -> float:
    """How far any membrane or current can go in the steps of a run."""
    step: Array = np.zeros(1)
    for via, weight in zip(vias, whole, strict=True):
        step = step + bounds.row_sums(via, weight) * work.bound(via)[0]
    keep_i = int(made["keep_i"])
    current = step * bounds.lasting(keep_i, work.steps) if keep_i >= 0 else step
    theta = np.abs(made["theta"])
    each = current + np.abs(made["bias"]) + theta
    once = np.abs(made["v_init"]) + np.abs(made["v_reset"])
    return float(np.max(once + each * bounds.lasting(int(made["keep"]), work.steps) + each))


def _error(stored: Array, real: Array) -> float:
    """Root mean square error of the weights, relative to that of the weights."""
    power = float(np.sqrt(np.mean(real**2))) if real.size else 0.0
    return float(np.sqrt(np.mean((stored - real) ** 2))) / power if power else 0.0
