"""When the answer of an exact network is taken."""

from __future__ import annotations

from dataclasses import field, replace
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.interp import run_snn
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import exact, snn
from nmc.passes.base import Pass
from nmc.passes.data import fit_shape, load_samples

Array = NDArray[Any]
#: Samples that margins are found on where no number is given.
_READ = 2000
#: Rounds over all steps in which their margins are lowered.
_ROUNDS = 2
#: By how much margins exceed those that are enough on `_READ` samples: others are a little less clear. With fewer
#: samples it is more, by the power 3/2, up to `_MOST_SLACK`. Of 2,000 other training images of digits four networks
#: lost 0.2 points at most so, and 0.55 where a wrong answer could make up for one that became right.
_SLACK, _MOST_SLACK = 1 / 8, 1 / 2


@dataclass(frozen=True)
class Margins:
    """When an answer is clear: the margin of each step.

    Parameters
    ----------
    last : int
        Of the steps that have none of their own; 0 for no early answers.
    delay : int
        First step that may decide.
    steps : tuple of int
        Of the steps from `delay` on.
    """

    last: int
    delay: int = 0
    steps: tuple[int, ...] = ()

    def attached(self, op: snn.Output) -> snn.Output:
        """The output with these margins."""
        return replace(op, margin=self.last, delay=self.delay, margins=self.steps)


@dataclass(frozen=True)
class Readout(Pass, name="readout", takes="snn"):
    """Say when the answer is taken: at the end, at rest (`until_quiescent`), or as soon as it is clear.

    With `early_exit` a sample ends when the largest element of the integer read-out exceeds the second largest by
    `margin`, from step `delay` on. Without a `margin` each step gets one of its own, an eighth more than the least at
    which (and above which) no sample in `data` (the first `limit`; 0: 2,000) that is right at the end gives another
    answer; without labels, no sample at all. With fewer samples it is up to a half more.

        before: snn.output(%fc) {scale=0.01}
        after:  snn.output(%fc) {scale=0.01, margin=71, delay=2, quiescent=true, margins=[602, 412, 95]}
    """

    exact = False  # an early answer may be another one

    early_exit: bool = False
    margin: int = 0
    until_quiescent: bool = False
    delay: int = 0
    data: str = ""
    limit: int = 0
    raw: bool = False
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})
    labels: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})

    def __post_init__(self) -> None:
        if min(self.margin, self.delay, self.limit) < 0:
            raise ValueError("margin, delay and limit cannot be negative")

    def run(self, module: Module) -> Module:
        """Attach the policy, calibrating the margin where none is given."""
        early = self.early_exit or self.margin > 0
        self._refuse(module, early)
        found = Margins(self.margin, self.delay if self.margin else 0)
        if early and not self.margin:
            found = self._calibrated(module)

        def attached(op: Op) -> Op:
            if not isinstance(op, snn.Output):
                return op
            return replace(found.attached(op), quiescent=self.until_quiescent, loc=fuse(self.name, [op.loc]))

        return module.map_ops(attached)

    def _refuse(self, module: Module, early: bool) -> None:
        outputs = module.of_type(snn.Output)
        problems = [
            Diagnostic("E0653", f"output %{op.data.name} is no sum of whole numbers that could be compared on the way",
                       where=str(op.loc or f"%{op.data.name}"), hint="quantize first; the decoder must be last")
            for op in outputs
            if not isinstance(module.producers[op.data.name], exact.Readout) or op.decoder != "last"
        ]  # fmt: skip
        digits = [op for op in module.of_type(exact.Readout) if op.doubling_until]
        if early and digits:
            where = str(digits[0].loc or f"%{digits[0].out}")
            told = "digits sent one after the other give no early answer"
            problems.append(Diagnostic("E0653", told, where=where, hint="use another spike code"))
        if early and any(op.data.type.size < 2 for op in outputs):
            problems.append(Diagnostic("E0653", "a margin needs two elements of an output to compare"))
        if problems:
            raise NmcError(problems)

    def _calibrated(self, module: Module) -> Margins:
        inputs = [op for op in module.of_type(snn.Input) if op.source]  # the others need no data
        outputs = module.of_type(snn.Output)
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].stream:
            hint = "give the margin, or choose it before delta-stream"
            raise fail(
                "E0404", "a margin is found only for one input of single samples and one output", hint=hint
            )
        samples, labels = self.samples, self.labels
        if samples is None:
            if not self.data:
                raise fail(
                    "E0404",
                    "an early exit needs sample data or a margin",
                    hint="give data=FILE.npz or margin=",
                )
            samples, labels = load_samples(self.data, limit=self.limit or _READ, raw=self.raw)
        plain = module.map_ops(_without_policy)
        data = {inputs[0].source: fit_shape(np.asarray(samples), inputs[0].shape)}
        # At rest nothing changes any more; the proved number of steps is often several times that.
        trace = run_snn(plain, data, trace=True, until_quiescent=True).trace / outputs[0].scale
        return find_margins(np.rint(trace).astype(np.int64).reshape(*trace.shape[:2], -1), labels, self.delay)


def _without_policy(op: Op) -> Op:
    return replace(op, margin=0, delay=0, quiescent=False, margins=()) if isinstance(op, snn.Output) else op


def find_margins(trace: Array, labels: Array | None = None, delay: int = 0) -> Margins:
    """Margins, one a step, with which samples that are right in the end are right early.

    Others do not count: one that is right too early would only on these samples make up for one that is lost. From the
    last step to the first each margin is lowered, from the largest gap on, until a sample would be wrong; then once
    more with the margins of the other steps in view. A gap means little in a step in which the first spikes have just
    arrived, and nearly everything in one in which all is about to rest: one margin for all steps must be that of the
    worst. After the last step of `trace` all samples are at rest, and any difference will do.

    Parameters
    ----------
    trace : (N, T, classes) integer array
        The read-out of each sample after each step.
    labels : (N,) array, optional
        What is right; by default the answer at the end.
    delay : int
        First step that may decide.
    """
    two = np.partition(trace, -2, axis=2)[:, :, -2:]
    gaps, answers = two[:, :, 1] - two[:, :, 0], trace.argmax(axis=2)
    gaps[:, :delay] = 0
    right = answers == answers[:, -1:]
    if labels is not None:
        right |= (answers[:, -1] != labels)[:, None]
    never = int(gaps.max(initial=0)) + 1
    found = np.full(gaps.shape[1], never, np.int64)
    found[-1] = 1
    for _ in range(_ROUNDS):
        for step in range(gaps.shape[1] - 2, delay - 1, -1):
            found[step] = _lowered(gaps, right, found, step)
    kept = [*_safe(found, gaps, right)[:-1].tolist(), 1]
    while len(kept) > delay + 1 and kept[-1] == kept[-2]:
        kept.pop()
    return Margins(kept[-1], delay, tuple(kept[delay:-1]))


def _safe(margins: Array, gaps: Array, right: Array) -> Array:
    """Margins that exceed those that are enough: all, or else, from the last step on, those that cost nothing."""
    fewer = max(1.0, _READ / len(gaps))
    slack = min(_MOST_SLACK, _SLACK * fewer * sqrt(fewer))
    safe, least = np.ceil(margins * (1 + slack)).astype(np.int64), int(right[:, -1].sum())
    if _right(gaps >= safe, right) >= least:
        return np.asarray(safe)
    kept = margins
    for step in range(len(margins) - 1, -1, -1):
        tried = kept.copy()
        tried[step] = safe[step]
        if _right(gaps >= tried, right) >= least:
            kept = tried
    return np.asarray(kept)


def _right(clear: Array, right: Array) -> int:
    """How many answers are right when each is taken in the first step that is clear, or the last one."""
    last = clear.shape[1] - 1
    first = np.where(clear.any(axis=1), clear.argmax(axis=1), last)
    return int(right[np.arange(len(right)), first].sum())


def _lowered(gaps: Array, right: Array, margins: Array, step: int) -> int:
    """The least margin of a step at which, and above which, no fewer answers are right than at the end."""
    never, last = int(gaps.max(initial=0)) + 1, gaps.shape[1] - 1
    clear = gaps >= margins
    before, after = clear[:, :step].any(axis=1), clear[:, step + 1 :]
    later = np.where(after.any(axis=1), step + 1 + after.argmax(axis=1), last)
    taken = np.where(before, clear.argmax(axis=1), later)
    samples = np.arange(len(gaps))
    count, least = int(right[samples, taken].sum()), int(right[:, -1].sum())
    if count < least:  # this step makes up for what another loses
        return int(margins[step])
    free = np.flatnonzero(~before & (gaps[:, step] > 0))
    free = free[np.argsort(-gaps[free, step], kind="stable")]
    if not len(free):
        return never
    change = np.cumsum(right[free, step].astype(np.int64) - right[free, later[free]])
    tried = gaps[free, step]
    ends = np.flatnonzero(np.append(tried[1:] != tried[:-1], True))
    good = count + change[ends] >= least
    kept = len(ends) if good.all() else int(good.argmin())
    return int(tried[ends[kept - 1]]) if kept else never
