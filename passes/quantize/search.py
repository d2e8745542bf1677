"""Choose levels and calibration for a loss of accuracy that is small enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.ops import ann, exact, snn
from nmc.passes.base import Pass
from nmc.passes.convert.fold_affine import FoldAffine
from nmc.passes.convert.fold_batchnorm import FoldBatchNorm
from nmc.passes.convert.grids import COARSE, Grids
from nmc.passes.convert.join_adds import JoinAdds
from nmc.passes.convert.lift_maxima import LiftMaxima
from nmc.passes.convert.max_pool import MaxPool
from nmc.passes.convert.split_concat import SplitConcat
from nmc.passes.convert.sum_pool import SumPool
from nmc.passes.convert.unroll import Unroll
from nmc.passes.data import fit_shape
from nmc.passes.optimize.dead_code import DeadCode
from nmc.passes.quantize.calibrate import Calibrate
from nmc.passes.quantize.certificate import steps_bound
from nmc.passes.quantize.quantize import Quantize
from nmc.passes.quantize.trials import divergence, integer_logits, trained_logits

Array = NDArray[Any]

LEVELS = (2, 3, 4, 6, 8, 12, 15, 16, 24, 32)
METHODS = ("mse", "percentile")
SCHEDULES = ("burst", "spread")
#: Samples that calibrate; the others are held out (half of them when there are fewer than twice as many).
_CALIBRATE = 256
#: Held-out samples that a setting is judged by at a time: one that loses too much on the first is left there.
_AT_ONCE = 256
#: Held-out samples that the schedules are compared on, step by step.
_IN_TIME = 32


@dataclass(frozen=True)
class Candidate:
    """What one setting gives on the samples held out.

    Parameters
    ----------
    levels : int
        Largest count.
    method : str
        Of calibration.
    agreement : float
        Share of samples whose largest output is that of the trained network.
    accuracy : float or None
        Share of right answers, where labels are given.
    drop : float
        Predicted loss of accuracy in percentage points: of right answers, without labels of agreement.
    divergence : float
        Mean squared distance of the directions of the logits.
    steps : int
        Time steps until signed spikes have settled, without delays.
    whole : bool
        Whether all samples held out were looked at; not where the first of them lose too much. `agreement`, `accuracy`
        and `drop` are then what it has if it answers all others rightly.
    """

    levels: int
    method: str
    agreement: float
    accuracy: float | None
    drop: float
    divergence: float
    steps: int
    whole: bool = True


@dataclass(frozen=True)
class Choice:
    """The setting chosen, the network it gives, and all that were tried.

    Parameters
    ----------
    candidate : Candidate
        The chosen one.
    schedule : str
        How the input enters: what gives the better answers before the end.
    module : Module
        Integer network, level ``snn``, calibrated with the samples that are not held out.
    table : tuple of Candidate
        In the order in which they were tried.
    """

    candidate: Candidate
    schedule: str
    module: Module
    table: tuple[Candidate, ...]

    def __str__(self) -> str:
        return "\n".join([_HEAD, *(_row(item, item == self.candidate) for item in self.table)])


_HEAD = "levels  calibration  agreement  accuracy    drop  steps"


def _row(item: Candidate, chosen: bool) -> str:
    right = "       -" if item.accuracy is None else f"{item.accuracy:8.2%}"
    mark = " <- chosen" if chosen else ""
    drop = f"{item.drop:6.2f}{' ' if item.whole else '+'}"  # or more
    return f"{item.levels:6}  {item.method:11}  {item.agreement:9.2%}  {right}  {drop} {item.steps:5}{mark}"


def choose(
    module: Module,
    data: Array,
    drop: float,
    labels: Array | None = None,
    *,
    levels: Sequence[int] = LEVELS,
    base: Quantize | None = None,
    sink: Callable[[str], None] | None = None,
) -> Choice:
    """Find the fewest levels whose predicted loss is at most `drop`.

    Parameters
    ----------
    module : Module
        A trained network with one input and one output, level ``ann``.
    data : (N, ...) array
        Samples, in the range that the network takes; a part of them is held out.
    drop : float
        Percentage points of accuracy that may be lost.
    labels : (N,) array, optional
        Right answers; without them every disagreement with the trained network counts as an error.
    levels : sequence of int
        What to try, ascending.
    base : Quantize, optional
        Further options of the quantisation.
    sink : callable, optional
        Is given the lines of the table while they are found.

    Raises
    ------
    NmcError
        E0404 for fewer than two samples, E0607 when no setting is good enough.
    """
    tell = sink or (lambda line: None)
    work = _Search(
        prepared(module, np.asarray(data), free=True), np.asarray(data), labels, base or Quantize()
    )
    tell(_HEAD)
    table: list[Candidate] = []
    for count in levels:
        tried = [work.tried(count, method, drop) for method in METHODS]
        best = min(tried, key=lambda item: (item.drop, item.divergence))
        table += tried
        good = best.drop <= drop
        for item in tried:
            tell(_row(item, good and item is best))
        if good:
            network = work.network(count, best.method)
            return Choice(best, work.schedule(network), network, tuple(table))
    least = min(table, key=lambda item: item.drop)
    raise fail(
        "E0607",
        f"no setting loses at most {drop:g} points on the samples held out: the best, {least.levels} levels with "
        f"{least.method}, loses {least.drop:.2f} or more",
        hint="allow a larger drop, or give more weight bits or more calibration samples",
    )


def prepare_passes(samples: Array | None = None, grids: Grids | None = None) -> tuple[Pass, ...]:
    """The passes that bring a trained network into the form that ``quantize`` takes best."""
    return (
        grids or Grids(),
        Unroll(),
        FoldBatchNorm(),
        SplitConcat(),
        FoldAffine(),
        MaxPool(),
        LiftMaxima(samples=samples),
        SumPool(),
        FoldAffine(),
        JoinAdds(),
        DeadCode(),
    )


def prepared(module: Module, samples: Array | None = None, *, free: bool = False) -> Module:
    """Run `prepare_passes`; `free`: relus with many levels of their own (8 bits) get the levels that are chosen."""
    for item in prepare_passes(samples, Grids(most=COARSE - 1) if free else Grids()):
        module = item.run(module)
    return module


def quantised(module: Module, data: str, *, levels: int = 8, raw: bool = False) -> Module:
    """Prepare, calibrate and quantise a trained network with the samples of an ``.npz`` file."""
    calibrate = Calibrate(data=data, levels=levels, raw=raw)
    return Quantize(data=data, levels=levels, raw=raw).run(calibrate.run(prepared(module)))


class _Search:
    """The data, split, and what does not change from candidate to candidate."""

    def __init__(self, module: Module, data: Array, labels: Array | None, base: Quantize) -> None:
        inputs = module.of_type(ann.Input)
        if len(inputs) != 1 or len(data) < 2:
            raise fail(
                "E0404", f"a search needs one input and two samples; {len(inputs)} and {len(data)} are there"
            )
        cut = _CALIBRATE if len(data) >= 2 * _CALIBRATE else len(data) // 2
        shaped = fit_shape(data, inputs[0].shape)
        self._module, self._base = module, base
        self._first, self._held = shaped[:cut], {inputs[0].out: shaped[cut:]}
        self._labels = None if labels is None else np.asarray(labels)[cut:]
        self._real = trained_logits(module, self._held)

    def network(self, levels: int, method: str, *, certify: bool = True) -> Module:
        """The integer network of a setting."""
        calibrate = Calibrate(samples=self._first, levels=levels, method=method)  # type: ignore[arg-type]
        quantize = replace(self._base, samples=self._first, levels=levels, certify=certify)
        return quantize.run(calibrate.run(self._module))

    def tried(self, levels: int, method: str, drop: float) -> Candidate:
        """Quantise and compare on the samples held out, until it is certain that it loses more than `drop`."""
        network = self.network(levels, method, certify=False)
        (name,) = self._held
        parts: list[Array] = []
        for first in range(0, len(self._held[name]), _AT_ONCE):
            parts.append(integer_logits(network, {name: self._held[name][first : first + _AT_ONCE]}))
            made = self._judged(np.concatenate(parts), levels, method, network)
            if made.drop > drop:
                break
        return made

    def _judged(self, found: Array, levels: int, method: str, network: Module) -> Candidate:
        """What a setting gives that answers the first samples so and the others as well as possible."""
        count, total = len(found), len(self._real)
        answers, trained = found.argmax(axis=1), self._real.argmax(axis=1)
        agree = total - int((answers != trained[:count]).sum())
        right, best = agree, total
        if self._labels is not None:
            right = total - int((answers != self._labels[:count]).sum())
            best = int((trained == self._labels).sum())
        accuracy = None if self._labels is None else right / total
        apart = divergence(self._real[:count], found)
        drop, steps = 100 * (best - right) / total, steps_bound(network)
        return Candidate(levels, method, agree / total, accuracy, drop, apart, steps, count == total)

    def schedule(self, network: Module) -> str:
        """How the input should enter: agreement with the final answer, averaged over the steps until then."""
        found = {name: float(np.mean(list(self._early(network, name)))) for name in SCHEDULES}
        return max(found, key=lambda name: found[name])

    def _early(self, network: Module, schedule: str) -> Iterator[float]:
        from nmc.ir.interp import run_snn
        from nmc.passes.convert.spike_code import SpikeCode

        coded = SpikeCode(code="stbif", schedule=schedule).run(network)  # type: ignore[arg-type]
        (source,) = network.of_type(snn.Input)
        some = next(iter(self._held.values()))[:_IN_TIME]
        most = max(op.levels for op in network.of_type(exact.Graded)) if network.of_type(exact.Graded) else 1
        trace = run_snn(coded, {source.source: some}, 2 * most, trace=True).trace
        flat = trace.reshape(*trace.shape[:2], -1)
        last = integer_logits(network, {source.source: some}).argmax(axis=1)
        yield from (flat.argmax(axis=2) == last[:, None]).mean(axis=0)
