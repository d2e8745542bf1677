"""Answers that are taken as soon as they are clear: the host looks at the outputs of a chip after every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.ops import snn
from nmc.ir.rest import Exit
from nmc.passes.convert.readout import find_margins
from nmc.program import Program

Array = NDArray[Any]


@dataclass(frozen=True)
class Rule:
    """When a sample may end.

    Parameters
    ----------
    outputs : tuple of Output
        The network's outputs; those with a margin decide, together, as in `nmc.ir.interp.run_snn`.
    """

    outputs: tuple[snn.Output, ...]

    @property
    def margin(self) -> float:
        """The least margin on the way of the first output that decides, in the units of the outputs."""
        return next(min(op.margins or (op.margin,)) * op.scale for op in self.outputs if op.margin)

    @property
    def margins(self) -> tuple[float, ...]:
        """Margins of single steps, from the first that may decide; empty where all have the same."""
        op = next(op for op in self.outputs if op.margin)
        return tuple(margin * op.scale for margin in (*op.margins, op.margin)) if op.margins else ()

    def take(self, traces: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Take each sample's answer in the first step that is clear, the last one where none is.

        Parameters
        ----------
        traces : mapping of str to (N, T, ...) array
            Of `nmc.ir.results.Result`.

        Returns
        -------
        steps : (N,) int64 array
            Steps after which each answer was there.
        outputs : dict of str to (N, ...) float64 array
            The outputs then.

        Raises
        ------
        NmcError
            E0804 when the image has other outputs than the module.
        """
        for op in self.outputs:
            found = traces.get(op.data.name)
            if found is None or found.shape[2:] != op.data.shape:
                raise fail("E0804", f"the image has no output {op.data.name} as the module has it")
        whole = {op.data.name: np.rint(traces[op.data.name] / op.scale) for op in self.outputs}
        samples, steps = next(iter(whole.values())).shape[:2]
        leaving = Exit(self.outputs, samples)
        for t in range(steps):
            leaving.look({name: values[:, t] for name, values in whole.items()}, t)
            if leaving.done.all():
                break
        scales = {op.data.name: op.scale for op in self.outputs}
        return leaving.steps, {name: values * scales[name] for name, values in leaving.values.items()}


def rule_of(
    program: Program,
    asked: float | None = None,
    calib: tuple[Array, Array | None] | None = None,
    *,
    steps: int | None = None,
    engine: str = "functional",
) -> Rule:
    """Find out when answers of a program are clear.

    Parameters
    ----------
    program : Program
        A compiled network.
    asked : float or None
        Margin between the largest and the second largest output, in the units of the outputs. None: the margin that
        the program holds (``nmc compile --early-exit``), else the least one that costs no right answer of `calib`.
    calib : ((N, ...) array, (N,) array or None) or None
        Samples, not to be divided by 255 any more, and labels.
    steps, engine
        As `nmc.program.Program.run`.

    Raises
    ------
    NmcError
        E0653 for outputs that cannot be compared on the way, E0404 when there is nothing to find a margin with.
    """
    outputs = program.module.of_type(snn.Output)
    for op in outputs:
        _check(op)
    if not outputs:
        raise fail("E0653", "the network has no outputs to compare")
    if asked is not None:
        return Rule(
            tuple(replace(op, margin=max(1, ceil(asked / op.scale - 1e-9)), margins=()) for op in outputs)
        )
    if any(op.margin for op in outputs):
        return Rule(outputs)
    if calib is None or len(outputs) > 1:
        hint = "give --calib FILE.npz or a margin, or compile with --early-exit"
        raise fail("E0404", "the program holds no margin, and there is nothing to find one with", hint=hint)
    (only,) = outputs
    first = max(only.delay, int(program.manifest.get("latency", {}).get(only.data.name, 0)))
    trace = program.run(calib[0], raw=True, steps=steps, engine=engine, trace=True).result.trace
    whole = np.rint(trace / only.scale).astype(np.int64).reshape(*trace.shape[:2], -1)
    return Rule((find_margins(whole, calib[1], first).attached(only),))


def _check(op: snn.Output) -> None:
    told = None
    if op.decoder != "last":
        told = "counts spikes, whose sum is no answer before the end"
    elif op.data.type.size < 2:
        told = "has a single element, a margin needs two to compare"
    elif not isfinite(op.scale) or op.scale <= 0:
        told = f"has the scale {op.scale}, not a positive number"
    if told:
        raise fail("E0653", f"output %{op.data.name} {told}", hint="leave --early-exit away")
