"""When the answer of an exact network is taken."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.interp import run_snn
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import exact, snn
from nmc.passes.base import Pass
from nmc.passes.data import fit_shape, load_samples

Array = NDArray[Any]
#: Margins that are tried, at regular ranks of those that occur.
_TRIED = 512


@dataclass(frozen=True)
class Readout(Pass, name="readout", takes="snn"):
    """Say when the answer is taken: at the end, at rest (`until_quiescent`), or as soon as it is clear.

    With `early_exit` a sample ends when the largest element of the integer read-out exceeds the second largest by
    `margin`, from step `delay` on. Without a `margin` the least one is taken at which (and above which) no more
    of the samples in `data` are wrong than at the end; without labels, at which none gives another answer.

        before: snn.output(%fc) {scale=0.01}
        after:  snn.output(%fc) {scale=0.01, margin=412, quiescent=true}
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
        margin = self.margin
        if early and not margin:
            margin = self._calibrated(module)

        def attached(op: Op) -> Op:
            if not isinstance(op, snn.Output):
                return op
            delay = self.delay if margin else 0
            loc = fuse(self.name, [op.loc])
            return replace(op, margin=margin, delay=delay, quiescent=self.until_quiescent, loc=loc)

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

    def _calibrated(self, module: Module) -> int:
        inputs, outputs = module.of_type(snn.Input), module.of_type(snn.Output)
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
            samples, labels = load_samples(self.data, limit=self.limit, raw=self.raw)
        plain = module.map_ops(_without_policy)
        data = {inputs[0].source: fit_shape(np.asarray(samples), inputs[0].shape)}
        trace = run_snn(plain, data, trace=True).trace / outputs[0].scale
        return find_margin(np.rint(trace).astype(np.int64).reshape(*trace.shape[:2], -1), labels, self.delay)


def _without_policy(op: Op) -> Op:
    return replace(op, margin=0, delay=0, quiescent=False) if isinstance(op, snn.Output) else op


def find_margin(trace: Array, labels: Array | None = None, delay: int = 0) -> int:
    """The least margin with which early answers are as often right as late ones.

    Parameters
    ----------
    trace : (N, T, classes) integer array
        The read-out of each sample after each step.
    labels : (N,) array, optional
        What is right; by default the answer at the end.
    delay : int
        First step that may decide.

    Returns
    -------
    int
        At least 1; no larger margin that was tried does worse than the end.
    """
    two = np.partition(trace, -2, axis=2)[:, :, -2:]
    gaps, answers = two[:, :, 1] - two[:, :, 0], trace.argmax(axis=2)
    gaps[:, :delay] = -1
    right = answers == (answers[:, -1] if labels is None else labels)[:, None]
    tried = np.unique(gaps[gaps > 0])
    tried = tried[np.unique(np.linspace(0, len(tried) - 1, _TRIED).astype(np.int64))] if len(tried) else tried
    best = int(gaps.max(initial=0)) + 1
    for margin in tried[::-1]:
        if _right_early(gaps >= margin, right) < int(right[:, -1].sum()):
            break
        best = int(margin)
    return best


def _right_early(clear: Array, right: Array) -> int:
    """How many answers are right when each is taken in the first step that is clear, or the last one."""
    last = clear.shape[1] - 1
    first = np.where(clear.any(axis=1), clear.argmax(axis=1), last)
    return int(right[np.arange(len(right)), first].sum())
