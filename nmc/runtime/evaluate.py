"""Accuracy of a compiled network on labelled data, at the end, after each step and with early answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.interp import Progress
from nmc.ir.ops import snn
from nmc.ir.ops.sources import Poisson
from nmc.program import Program, Run
from nmc.runtime.early import Rule

Array = NDArray[Any]
#: Bytes of outputs after each step that are held at once; longer runs are evaluated piece by piece.
_TRACE_BYTES = 1 << 28


@dataclass(frozen=True)
class EarlyExit:
    """What early answers cost and save.

    Parameters
    ----------
    margin : float
        By how much the largest output had to exceed the second largest, in the units of the outputs.
    accuracy : float
        Share of right answers when each is taken as soon as it is clear.
    steps : (N,) int64 array
        Steps of each sample.
    summary : dict or None
        Spikes, synaptic operations, energy and time a sample, each up to its answer; None where runs cannot be
        repeated with fewer steps because the host draws spikes at random.
    margins : tuple of float
        Of single steps, where each has its own; `margin` is then the least.
    first : int
        The first step after which outputs held anything of the samples: no answer can come earlier.
    """

    margin: float
    accuracy: float
    steps: Array = field(repr=False)
    summary: dict[str, float] | None = None
    margins: tuple[float, ...] = ()
    first: int = 1

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays."""
        steps = {
            "mean_steps": float(self.steps.mean()),
            "max_steps": int(self.steps.max()),
            "first_step": self.first,
        }
        own = {"margins": list(self.margins)} if self.margins else {}
        return {"margin": self.margin, **own, "accuracy": self.accuracy, **steps, **(self.summary or {})}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Parameters
    ----------
    accuracy : float
        Share of right predictions.
    samples, steps, latency_steps : int
        Samples run, time steps a sample, steps before the first output counts.
    summary : dict
        Spikes, synaptic operations, energy (J) and time (s) a sample.
    predictions : (N,) array
        Index of the largest output.
    logits : (N, classes) array
        Outputs in the trained network's range.
    by_step : tuple of float
        Accuracy if the run had ended after step 1, 2, ...; empty where it was not asked for.
    early : EarlyExit or None
        With answers that are taken as soon as they are clear.
    settled : (N,) int64 array or None
        Steps after which each sample was at rest, where that was followed.
    """

    accuracy: float
    samples: int
    steps: int
    latency_steps: int
    summary: dict[str, float]
    predictions: Array = field(repr=False)
    logits: Array = field(repr=False)
    by_step: tuple[float, ...] = field(default=(), repr=False)
    early: EarlyExit | None = None
    settled: Array | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays of samples.

        Keys: accuracy, samples, steps, latency_steps, spikes_per_sample and other means a sample (see
        `Program.run`); where they were asked for accuracy_by_step (a list, one entry a step), early_exit (margin,
        accuracy, mean_steps, max_steps, and means a sample up to the answer), settled_steps (mean, max).
        """
        found: dict[str, Any] = {"accuracy": self.accuracy, "samples": self.samples, "steps": self.steps}
        found |= {"latency_steps": self.latency_steps, **self.summary}
        if self.by_step:
            found["accuracy_by_step"] = list(self.by_step)
        if self.early is not None:
            found["early_exit"] = self.early.to_json()
        if self.settled is not None:
            found["settled_steps"] = {"mean": float(self.settled.mean()), "max": int(self.settled.max())}
        return found


@dataclass(frozen=True)
class _Piece:
    """What a part of the samples gave."""

    run: Run
    logits: Array
    right: Array
    early: tuple[Array, Array] | None
    first: int


def evaluate(
    program: Program,
    x: Array,
    y: Array | None,
    *,
    limit: int = 0,
    steps: int | None = None,
    raw: bool = False,
    engine: str = "functional",
    progress: Progress | None = None,
    by_step: bool = False,
    rule: Rule | None = None,
    until_quiescent: bool = False,
) -> Evaluation:
    """Run labelled samples on the emulator.

    Parameters
    ----------
    program : Program
        A compiled network with one output.
    x, y : (N, ...) and (N,) arrays
        Samples and labels.
    limit : int
        Only the first `limit` samples when positive.
    steps, raw, engine, progress, until_quiescent
        As `nmc.program.Program.run`.
    by_step : bool
        Also find the accuracy after each step.
    rule : Rule or None
        Also find what answers give that are taken early.

    Raises
    ------
    NmcError
        E0403 without labels.
    """
    if y is None:
        raise fail("E0403", "evaluation needs labels: an array y in the data file")
    if limit > 0:
        x, y = x[:limit], y[:limit]
    how: dict[str, Any] = {"raw": raw, "engine": engine}
    looking = by_step or rule is not None
    size = _piece_size(program, len(x), steps) if looking else max(len(x), 1)
    pieces = []
    for start in range(0, max(len(x), 1), size):
        part, labels = x[start : start + size], y[start : start + size]
        run = program.run(part, steps=steps, first_sample=start, trace=looking, until_quiescent=until_quiescent,
                          progress=_moved(progress, start, len(x)), **how)  # fmt: skip
        pieces.append(_piece(run, labels, rule))
    return _joined(program, pieces, (x, y), steps, how, rule, by_step)


def _piece_size(program: Program, samples: int, steps: int | None) -> int:
    """How many samples run at once so that what is recorded of them stays within `_TRACE_BYTES`."""
    entries = sum(op.data.type.size for op in program.module.of_type(snn.Output))
    bytes_a_sample = 8 * max(entries, 1) * max(steps or program.steps, 1)
    return max(1, min(samples, _TRACE_BYTES // bytes_a_sample))


def _moved(progress: Progress | None, start: int, total: int) -> Progress | None:
    """Progress of a piece as that of the whole."""
    return None if progress is None else lambda done, _: progress(start + done, total)


def _piece(run: Run, labels: Array, rule: Rule | None) -> _Piece:
    count = len(labels)
    right, first = np.zeros(0, np.int64), 1
    if run.result.traces:
        trace = run.result.trace
        first = _first_step(trace)
        right = (trace.reshape(*trace.shape[:2], -1).argmax(axis=2) == labels[:, None]).sum(axis=0)
    early = None
    if rule is not None:
        steps, outputs = rule.take(run.result.traces)
        answers = next(iter(outputs.values())).reshape(count, -1).argmax(axis=1)
        early = steps, answers == labels
    run = replace(run, result=replace(run.result, traces={}))
    return _Piece(run, np.asarray(run.logits.reshape(count, -1)), right, early, first)


def _first_step(trace: Array) -> int:
    """The first step after which outputs (N, T, ...) are not those of silence; 1 for outputs that hold data at once."""
    flat = trace.reshape(*trace.shape[:2], -1)
    return 1 + int((flat != flat[:1, :1]).any(axis=(0, 2)).argmax())


def _joined(
    program: Program,
    pieces: Sequence[_Piece],
    data: tuple[Array, Array],
    steps: int | None,
    how: dict[str, Any],
    rule: Rule | None,
    by_step: bool,
) -> Evaluation:
    (x, y), sizes = data, [len(piece.logits) for piece in pieces]
    logits = np.concatenate([piece.logits for piece in pieces])
    predictions = logits.argmax(axis=1)
    early = _early(program, pieces, x, how, rule) if rule is not None else None
    settled = [piece.run.result.settled for piece in pieces if piece.run.result.settled is not None]
    return Evaluation(
        accuracy=float((predictions == y).mean()),
        samples=len(x),
        steps=program.steps if steps is None else steps,
        latency_steps=max(program.manifest.get("latency", {}).values(), default=0),
        summary=_mean([piece.run.summary for piece in pieces], sizes),
        predictions=predictions,
        logits=logits,
        by_step=tuple((_summed([piece.right for piece in pieces]) / len(x)).tolist()) if by_step else (),
        early=early,
        settled=np.concatenate(settled) if settled else None,
    )


def _early(
    program: Program, pieces: Sequence[_Piece], x: Array, how: dict[str, Any], rule: Rule
) -> EarlyExit:
    found = [piece.early for piece in pieces if piece.early is not None]
    steps, right = np.concatenate([item[0] for item in found]), np.concatenate([item[1] for item in found])
    summary = costs_until(program, x, steps, how) if _repeatable(program) else None
    waited = max(program.manifest.get("latency", {}).values(), default=0)
    first = min(piece.first for piece in pieces) if waited else 1
    return EarlyExit(rule.margin, float(right.mean()), steps, summary, rule.margins, first)


def costs_until(program: Program, x: Array, steps: Array, how: dict[str, Any]) -> dict[str, float]:
    """Means a sample of what samples cost up to a step of their own: those of equal steps run again, so long.

    Parameters
    ----------
    program : Program
        A compiled network whose inputs are not random.
    x : (N, ...) array
        Samples.
    steps : (N,) int array
        Steps of each.
    how : dict
        Of `Program.run`: raw, engine.
    """
    counts = np.unique(steps).tolist()
    groups = [np.flatnonzero(steps == count) for count in counts]
    runs = [program.run(x[group], steps=count, **how) for count, group in zip(counts, groups, strict=True)]
    return _mean([run.summary for run in runs], [len(group) for group in groups])


def _repeatable(program: Program) -> bool:
    """Whether a sample's spikes do not depend on its place among the samples."""
    random = {"rate", "poisson"}
    return not any(
        isinstance(op, Poisson) or random & {getattr(op, "encoder", ""), getattr(op, "kind", "")}
        for op in program.module.of_type(snn.InputOp)
    )


def _mean(summaries: Sequence[dict[str, float]], sizes: Sequence[int]) -> dict[str, float]:
    """Means over all samples, from those over groups of them."""
    if len(summaries) == 1:
        return summaries[0]
    total = sum(sizes)
    return {
        name: sum(item[name] * size for item, size in zip(summaries, sizes, strict=True)) / total
        for name in summaries[0]
    }


def _summed(parts: Sequence[Array]) -> Array:
    """Sum of arrays that may end earlier than others, whose last entry is held."""
    longest = max(len(part) for part in parts)
    held = [np.pad(part, (0, longest - len(part)), mode="edge") for part in parts]
    return np.asarray(np.sum(held, axis=0))
