"""``--check-each``: run the reference interpreter before and after a pass and compare the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.interp import run_ann, run_snn
from nmc.ir.module import Module
from nmc.ir.npz import read_npz
from nmc.ir.op import Array, VerifyError
from nmc.ir.ops import ann, snn
from nmc.passes.base import Pass

#: Time steps of an ``snn`` module that does not say how many it needs.
DEFAULT_STEPS = 16
_LEVELS = ("ann", "snn")


@dataclass(frozen=True)
class Check:
    """How one output moved over one pass.

    Parameters
    ----------
    pass_name, output : str
        The pass, and the value that the network gave out before it.
    exact : bool
        Whether the pass promises to change nothing.
    max_abs : float
        Largest absolute difference.
    max_rel : float
        The same, relative to the largest absolute result before the pass.
    """

    pass_name: str
    output: str
    exact: bool
    max_abs: float
    max_rel: float

    def __str__(self) -> str:
        if self.max_abs == 0:
            return f"{self.pass_name}: %{self.output} is equal"
        return f"{self.pass_name}: %{self.output} moved by {self.moved}"

    @property
    def moved(self) -> str:
        """How far, for a person."""
        return f"up to {self.max_abs:.6g} ({self.max_rel:.3%} of its range)"


class Checker:
    """Keeps the results of the last module, so that each module of a pipeline runs once.

    Parameters
    ----------
    inputs : mapping of str to array, or path of an ``.npz``
        A batch by input name.
    """

    def __init__(self, inputs: Mapping[str, Array] | str | Path) -> None:
        self._inputs = read_npz(inputs) if isinstance(inputs, str | Path) else dict(inputs)
        self._last: tuple[Module, list[tuple[str, Array]]] | None = None

    def compare(self, item: Pass, before: Module, after: Module) -> tuple[Check, ...]:
        """Compare the results over one pass; nothing where the level changes or does not compute.

        Raises
        ------
        NmcError
            E0207 when a pass that calls itself exact moved a result, E0401 for data that do not fit.
        """
        if before.level != after.level or before.level not in _LEVELS:
            return ()
        old, new = self._results(before), self._results(after)
        if len(old) != len(new):
            told = f"pass {item} changed the number of outputs from {len(old)} to {len(new)}"
            raise NmcError(Diagnostic("E0207", told))
        checks = tuple(_difference(item, name, a, b) for (name, a), (_, b) in zip(old, new, strict=True))
        _hold_to_promise(item, checks)
        return checks

    def _results(self, module: Module) -> list[tuple[str, Array]]:
        if self._last is None or self._last[0] is not module:
            self._last = (module, outputs(module, self._inputs))
        return self._last[1]


def outputs(module: Module, inputs: Mapping[str, Array]) -> list[tuple[str, Array]]:
    """Give what a module computes, in the order of its output ops: name and (B, ...) array.

    Parameters
    ----------
    module : Module
        Of level ``ann`` or ``snn``; the attribute ``steps`` says how long the latter runs.
    inputs : mapping of str to (B, ...) array
        Data by input name.

    Raises
    ------
    NmcError
        E0401 when the data do not fit or the module cannot run (a dump without its constants, say).
    """
    try:
        return _run(module, inputs)
    except (ValueError, VerifyError) as error:
        raise fail("E0401", f"module {module.name} cannot run: {error}") from None


def _run(module: Module, inputs: Mapping[str, Array]) -> list[tuple[str, Array]]:
    if module.level == "ann":
        found = run_ann(module, inputs)
        return [(op.data.name, found[op.data.name]) for op in module.of_type(ann.Output)]
    steps = module.attr("steps", DEFAULT_STEPS)
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"its attribute steps is {steps}, not a positive number")
    result = run_snn(module, inputs, steps)
    return [(op.data.name, result.outputs[op.data.name]) for op in module.of_type(snn.Output)]


def _difference(item: Pass, name: str, before: Array, after: Array) -> Check:
    if before.shape != after.shape:
        told = f"pass {item} changed output %{name} from {before.shape[1:]} to {after.shape[1:]} a sample"
        raise NmcError(Diagnostic("E0207", told))
    if np.array_equal(before, after, equal_nan=True):
        return Check(item.name, name, item.exact, 0.0, 0.0)
    wide = before.astype(np.float64)
    worst = float(np.max(np.abs(after.astype(np.float64) - wide), initial=0.0))
    scale = float(np.max(np.abs(wide), initial=0.0))
    relative = worst / scale if scale > 0 else float("inf")
    return Check(item.name, name, item.exact, worst, relative)


def _hold_to_promise(item: Pass, checks: tuple[Check, ...]) -> None:
    """Raise when an exact pass moved a result by more than its tolerance (NaN is never within it)."""
    broken = [check for check in checks if check.max_abs != 0 and not check.max_rel <= item.tolerance]
    if item.exact and broken:
        allowed = f"by more than {item.tolerance:g} of its range" if item.tolerance else ""
        raise NmcError(
            [
                Diagnostic(
                    "E0207",
                    f"pass {item} calls itself exact, but changed output %{check.output} {allowed}".rstrip()
                    + f": by {check.moved}",
                )
                for check in broken
            ]
        )
