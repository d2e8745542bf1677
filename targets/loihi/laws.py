"""What a population does, in thresholds and registers: the form that every kind of neuron is brought to.

A step of the form, with J the filtered current and everything in thresholds:

    J = (1 - du/4096) J + x;    v = (1 - dv/4096) v + J + bias;    spike where v > 1

Gains go into x, resets to a value become resets to zero by moving the membrane (v - v_reset), leaks and constant
currents become the bias. A constant current b behind a filter of decay a adds up to b / (1 - a) (1 - a^k): a bias of
b / (1 - a), and a state of the filter that starts at minus that and fades (`transient`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Op
from nmc.ir.ops import snn
from nmc.ir.ops.neurons import Neuron
from nmc.targets.loihi.quantize import reach

Array = NDArray[Any]
_ONE = np.ones(1)
_NONE = np.zeros(1)


@dataclass(frozen=True)
class Law:
    """A population in thresholds; arrays are float64 and broadcast to it unless said otherwise.

    Parameters
    ----------
    scale : array
        From the sum of the currents to x.
    du, dv, refract : int64 arrays
        Registers (0..4096, 0..4096, 1..63).
    bias : array or None
        Added to v in every step.
    transient : array
        What the state of the filter must be short of just before the step `start`.
    v_start : array
        v just before the step `start`.
    reset : {"hard", "soft", "split", "none"}
        As ``loihi.lif``.
    back : array
        What a spike takes from v one step later.
    at_threshold : bool
        Whether a spike needs no more than v = 1.
    more_delay : int
        Steps that currents arrive later.
    start : int
        First step in which constant currents act.
    decay_error : float
        Largest relative error of 1 - decay through rounding.
    """

    scale: Array
    du: Array
    dv: Array
    refract: Array
    bias: Array | None
    transient: Array
    v_start: Array
    reset: Literal["hard", "soft", "split", "none"]
    back: Array
    at_threshold: bool = False
    more_delay: int = 0
    start: int = 0
    decay_error: float = 0.0

    @property
    def filtered(self) -> bool:
        """Whether currents outlast their step."""
        return bool((self.du < 4096).any())

    @property
    def leaky(self) -> bool:
        """Whether v forgets."""
        return bool((self.dv > 0).any())


@dataclass(frozen=True)
class Refusal:
    """Why a population has no such form: an error code, what and what to do."""

    code: str
    message: str
    hint: str = ""


def law_of(
    op: Op, projections: Sequence[snn.ProjectionOp], counts: Mapping[str, int], driven: bool
) -> Law | list[Refusal]:
    """Bring a population to the common form, or tell everything that forbids it.

    Parameters
    ----------
    op : If, Integrator or Neuron
    projections : sequence of ProjectionOp
        What comes in.
    counts : mapping of str to int
        Spikes that an element of a source sends in a step at most, where that is more than one.
    driven : bool
        Whether the host sets its bias.
    """
    law: Law | list[Refusal]
    if isinstance(op, Neuron):
        found = list(_unlike(op, projections, counts))
        law = found or _neuron_law(op)
    else:
        assert isinstance(op, snn.If | snn.Integrator)
        law = _plain_law(op)
    if isinstance(law, list):
        return law
    return list(_unlawful(law, driven)) or law


def _plain_law(op: snn.If | snn.Integrator) -> Law:
    threshold = op.threshold if isinstance(op, snn.If) else 1.0
    start = op.v_init / threshold if isinstance(op, snn.If) else 0.0
    reset: Any = {"subtract": "soft", "zero": "hard"}[op.reset] if isinstance(op, snn.If) else "none"
    return Law(
        scale=_ONE / threshold, du=np.array([4096]), dv=np.array([0]), refract=np.array([1]),
        bias=None if op.bias is None else op.bias.array().astype(np.float64) / threshold, transient=_NONE,
        v_start=np.array([start]), reset=reset, back=_ONE,
        at_threshold=isinstance(op, snn.If) and op.compare == "ge", start=op.start,
    )  # fmt: skip


def _p(const: Const | None, absent: float) -> Array:
    return np.full(1, absent) if const is None else const.array().astype(np.float64)


def _unlike(
    op: Neuron, projections: Sequence[snn.ProjectionOp], counts: Mapping[str, int]
) -> Iterator[Refusal]:
    """Whatever of the general law no compartment does."""
    if op.max_spikes > 1:
        yield Refusal(
            "E0610", f"up to {op.max_spikes} spikes a step", "a compartment sends one: max_spikes=1"
        )
    if _p(op.feed, 0.0).any():
        yield Refusal(
            "E0610", "a current that reaches the membrane beside its filter (feed)", "another semantics"
        )
    for name, const in (("alpha", op.alpha), ("beta", op.beta)):
        values = _p(const, 0.0)
        if ((values < 0) | (values > 1)).any():
            yield Refusal("E0619", f"{name} of {values.min():g}..{values.max():g} is no decay", "0..1 is")
        elif ((_rounded(values) == 0) & (values < 1)).any() or (
            name == "alpha" and (_rounded(values) == 0).any()
        ):
            slow = float(values.max())
            hint = (
                "a longer time step" if slow < 1 else "leave it out: an integrated current is none that fades"
            )
            yield Refusal("E0619", f"{name} = {slow:.6f} is slower than 4095/4096, the slowest decay", hint)
    refractory = _p(op.refractory, 0.0)
    if refractory.max() > 62 or refractory.min() < 0:
        hint = "the register counts to 63, one of which is the spike's own step"
        yield Refusal("E0610", f"{int(refractory.max())} refractory steps, Loihi has up to 62", hint)
    if op.threshold is None:
        return
    if (_span(op) <= 0).any():
        yield Refusal(
            "E0610", "a threshold that is not above what it is reset to", "the neuron would never be silent"
        )
    soft = op.reset.startswith("subtract")
    if soft and refractory.any() and not refractory.all():
        hint = "all neurons or none; where they rest after a spike, zero and subtract are the same"
        yield Refusal("E0610", "a reset by subtraction with refractory steps for some neurons only", hint)
    if op.reset == "subtract-guarded" and not _guard_idle(op, projections, counts):
        hint = "--reset zero, or a semantics that subtracts once (norse); where a step brings less than twice the " \
               "threshold less what is left of v, the two are the same"  # fmt: skip
        yield Refusal("E0610", "snnTorch's guarded reset, which inputs this large can trigger", hint)


def _rounded(decays: Array) -> Array:
    """Register of a decay factor."""
    found: Array = np.rint((1 - decays) * 4096).astype(np.int64)
    return found


def _span(op: Neuron) -> Array:
    """From reset to threshold, one without a threshold."""
    if op.threshold is None:
        return _ONE
    return _p(op.threshold, 0.0) - (_p(op.v_reset, 0.0) if op.reset == "to-value" else 0.0)


def _guard_idle(op: Neuron, projections: Sequence[snn.ProjectionOp], counts: Mapping[str, int]) -> bool:
    """Whether v stays within a threshold of the threshold, so that no reset is ever doubled.

    From v <= 1 a step leads to at most beta + the largest input; that minus one must not exceed one.
    """
    span = _span(op)
    factor = _p(op.gain, 1.0) * _p(op.w_in, 1.0) / span / np.maximum(1 - _p(op.alpha, 0.0), 1e-9)
    constant = np.abs(_p(op.bias, 0.0)) + np.abs(_p(op.late_bias, 0.0))
    through, beside = (constant, _NONE) if op.bias_site == "current" else (_NONE, constant)
    step = (
        np.abs(factor) * (reach(projections, counts) + through) + (beside + np.abs(_p(op.leak, 0.0))) / span
    )
    small = bool((step <= 2 - _p(op.beta, 1.0)).all())
    return small and op.refractory is None and bool((_p(op.v_init, 0.0) <= span).all())


def _neuron_law(op: Neuron) -> Law | list[Refusal]:
    span, late_order = _span(op), op.order == "membrane-first"
    alpha = _p(op.alpha, 0.0)
    du = np.array([4096]) if op.alpha is None else _rounded(alpha)
    dv = np.array([0]) if op.beta is None else _rounded(_p(op.beta, 1.0))
    scale = _p(op.gain, 1.0) * _p(op.w_in, 1.0) / span
    if late_order and op.decay_last and op.alpha is not None:
        scale = scale * alpha  # the membrane takes the filter's state after its decay
    bias, early, transient, wrong = _constants(op, scale, span, du, dv)
    v_start, start_wrong = _first_v(op, span, dv, early)
    if wrong or start_wrong:
        return wrong + start_wrong
    reset, back = _reset(op, du, dv)
    return Law(
        scale=scale, du=du, dv=dv, refract=_p(op.refractory, 0.0).astype(np.int64) + 1,
        bias=bias if bias.any() else None, transient=transient, v_start=v_start, reset=reset, back=back,
        at_threshold=op.threshold is not None and op.compare == "ge", more_delay=int(late_order), start=op.start,
        decay_error=max(_decay_error(op.alpha, du), _decay_error(op.beta, dv)),
    )  # fmt: skip


def _decay_error(const: Const | None, register: Array) -> float:
    """How far the register is from 1 - decay, relative to it."""
    if const is None:
        return 0.0
    lost = 1 - const.array().astype(np.float64)
    return float((np.abs(register / 4096 - lost) / np.where(lost > 0, lost, 1)).max())


def _constants(
    op: Neuron, scale: Array, span: Array, du: Array, dv: Array
) -> tuple[Array, Array, Array, list[Refusal]]:
    """Bias of every step, what of it the step `start` must not have yet, and the transient of the filter."""
    on_current = op.bias_site == "current"
    factor = scale if on_current else 1 / span
    first, later = _p(op.bias, 0.0) * factor, _p(op.late_bias, 0.0) * factor
    steady, early = first + later, later
    transient = _NONE
    fades = du < 4096
    if on_current:
        keep = np.where(fades, 4096 - du, 4096) / 4096
        gain = np.where(fades, 4096 / np.maximum(du, 1), 1.0)
        steady = steady * gain
        transient = np.where(fades, (first + later / keep) * gain, 0.0)
        early = np.where(fades, 0.0, later)
        if op.order == "membrane-first":
            transient = transient / keep
            # The late part comes two steps late; its transient makes up for one of them, v for the other.
            early = np.where(fades, later * gain * (1 - 1 / keep), first + later)
            if (later * ~fades).any():
                text = "a bias that begins two steps late (late_bias, membrane-first, no synaptic filter)"
                return steady, early, transient, [Refusal("E0610", text, "synapse-first, or no late_bias")]
    moved = _p(op.v_reset, 0.0) / span * (dv / 4096) if op.reset == "to-value" else 0.0
    return steady + _p(op.leak, 0.0) / span - moved, early, transient, []


def _first_v(op: Neuron, span: Array, dv: Array, early: Array) -> tuple[Array, list[Refusal]]:
    """V before the step `start`: it decays in that step, and what its bias has too early is taken off in advance."""
    keep = (4096 - dv) / 4096
    init = _p(op.v_init, 0.0)
    waits = op.start if not op.decay_last or op.start else -1  # decay_last: the first step does not decay
    forgets = (keep == 0) & ((early != 0) | (waits < 0) & (init != 0))
    if forgets.any():
        text = "a start value or late bias of a membrane that forgets in one step"
        return init, [Refusal("E0614", text, "leave out late_bias and v_init, or let v decay more slowly")]
    safe = np.where(keep == 0, 1.0, keep)
    rest = _p(op.v_reset, 0.0) if op.reset == "to-value" else 0.0
    return (init * safe**waits - rest) / span - early / safe, []


def _reset(op: Neuron, du: Array, dv: Array) -> tuple[Any, Array]:
    """Kind of reset in compartments, and what it takes from v in the step after the spike."""
    if op.threshold is None:
        return "none", _ONE
    rests = op.refractory is not None and bool(op.refractory.array().all())
    forgets = bool((dv == 4096).all()) and op.reset != "subtract-late"
    if not op.reset.startswith("subtract") or rests or forgets:
        return "hard", _ONE  # after a refractory step or a full decay nothing is left to subtract from
    back = _ONE if op.reset == "subtract-late" else (4096 - dv) / 4096
    return ("soft" if (du == 4096).all() else "split"), back


def _unlawful(law: Law, driven: bool) -> Iterator[Refusal]:
    """What the registers and the compartments of one core do not do together."""
    for name, values in (("synaptic", law.du), ("membrane", law.dv)):
        if np.isin((0, 4096), values).all():
            hint = "make two populations of it"
            yield Refusal("E0610", f"{name} decays of 0 and of 1 in one population, which share a core", hint)
    if law.reset == "split" and (law.dv == 0).any():
        hint = "reset to zero, a leak, or no synaptic filter"
        yield Refusal(
            "E0610", "a reset by subtraction behind a synaptic filter on a membrane without leak", hint
        )
    if law.at_threshold and (law.filtered or not np.isin(law.dv, (0, 4096)).all() or driven):
        hint = "Loihi fires above the threshold (compare=gt); where weights, thresholds and biases have a common " \
               "divisor and nothing decays, compare=ge is possible"  # fmt: skip
        yield Refusal("E0611", "a threshold that fires when it is just reached", hint)
    if driven and (law.filtered or law.more_delay):
        yield Refusal(
            "E0610", "a constant current that passes a synaptic filter", "encode it as spikes (rate)"
        )
    if driven and law.bias is not None:
        hint = (
            "a bias, a leak or a reset to another value than zero needs them too; encode the input as spikes"
        )
        yield Refusal(
            "E0610", "the host writes the bias registers of this population; it cannot have a bias", hint
        )
    if driven and not (law.scale == law.scale.flat[0]).all():
        yield Refusal(
            "E0610", "a constant current into neurons of different gain", "encode it as spikes (rate)"
        )
