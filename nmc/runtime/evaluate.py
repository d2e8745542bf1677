"""Accuracy of a compiled network on labelled data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.interp import Progress
from nmc.program import Program

Array = NDArray[Any]


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
    """

    accuracy: float
    samples: int
    steps: int
    latency_steps: int
    summary: dict[str, float]
    predictions: Array = field(repr=False)
    logits: Array = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays."""
        head = {"accuracy": self.accuracy, "samples": self.samples, "steps": self.steps}
        return {**head, "latency_steps": self.latency_steps, **self.summary}


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
    steps, raw, engine, progress
        As `nmc.program.Program.run`.

    Raises
    ------
    NmcError
        E0403 without labels.
    """
    if y is None:
        raise fail("E0403", "evaluation needs labels: an array y in the data file")
    if limit > 0:
        x, y = x[:limit], y[:limit]
    run = program.run(x, raw=raw, steps=steps, engine=engine, progress=progress)
    logits = run.logits.reshape(len(x), -1)
    predictions = logits.argmax(axis=1)
    return Evaluation(
        accuracy=float((predictions == y).mean()),
        samples=len(x),
        steps=program.steps if steps is None else steps,
        latency_steps=max(program.manifest.get("latency", {}).values(), default=0),
        summary=run.summary,
        predictions=predictions,
        logits=np.asarray(logits),
    )
