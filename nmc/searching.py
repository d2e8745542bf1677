"""What ``--accuracy-drop`` looks for before a compilation: levels, and with ``--steps`` how to use so many steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.passes.base import Pass
from nmc.recipe import depth, pipeline_for, spreads, takes_digits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nmc.driver import CompileOptions
    from nmc.passes.convert.spike_code import Code
    from nmc.passes.quantize.budget import Schedule, Setting


@dataclass(frozen=True)
class Cut:
    """A run that ends after a number of steps, whether all has settled or not.

    Parameters
    ----------
    pipeline : tuple of Pass
        With the setting that makes the best of the steps.
    steps : int
        How many.
    setting : Setting
        What was chosen, and what it loses on the samples held out.
    """

    pipeline: tuple[Pass, ...]
    steps: int
    setting: Setting

    def ended(self, module: Module) -> Module:
        """The module with so many steps; the attribute ``budget`` tells what that loses."""
        found = self.setting
        told = {"steps": self.steps, "agreement": float(f"{found.agreement:.4g}"), "drop": float(f"{found.drop:.4g}"),
                "settled": found.settled}  # fmt: skip
        return module.with_attrs(steps=self.steps, budget=told)


def searched(
    module: Module, options: CompileOptions, tell: Callable[[str], None]
) -> tuple[CompileOptions, Cut | None]:
    """Options in which everything is chosen, and how a run is cut where it is.

    Parameters
    ----------
    module : Module
        What will be compiled.
    options : CompileOptions
        As given; without ``accuracy_drop`` there is nothing to search.
    tell : callable
        Is given the name of the stage.

    Raises
    ------
    NmcError
        E0004 and E0404 where there is nothing to choose or to choose by, E0607 when no setting is good enough, E0407
        when no answer is there in so many steps.
    """
    if options.accuracy_drop is None:
        return options, None
    from nmc.passes.data import load_samples
    from nmc.passes.quantize.quantize import Quantize

    if options.mode != "exact" or module.level != "ann" or options.levels:
        hint = "--accuracy-drop chooses the levels of the exact mode for a trained network"
        raise fail("E0004", "there are no levels to choose", hint=hint)
    if not options.calib:
        raise fail("E0404", "a search needs sample data", hint="give sample data: --calib FILE.npz")
    tell("search")
    x, y = load_samples(options.calib, raw=options.raw)
    passes = pipeline_for(replace(options, steps=0, early_exit=False), module)
    base = next((item for item in passes if isinstance(item, Quantize)), None)
    if options.steps and _signed(passes):
        return options, _cut(module, options, base, x, y)
    from nmc.passes.quantize.search import choose

    found = choose(module, x, options.accuracy_drop, y, base=base)
    method: Any = found.candidate.method
    return replace(options, levels=found.candidate.levels, method=method), None


def _signed(passes: tuple[Pass, ...]) -> bool:
    """Whether a pipeline codes counts as signed spikes, which have an answer at every step."""
    from nmc.passes.convert.spike_code import SpikeCode

    return any(isinstance(item, SpikeCode) and item.code == "stbif" for item in passes)


def _cut(module: Module, options: CompileOptions, base: Any, x: NDArray[Any], y: NDArray[Any] | None) -> Cut:
    """Levels, code and schedule that lose least after the steps that are left when a chip's latency is over."""
    from nmc.passes.convert.spike_code import SpikeCode
    from nmc.passes.quantize.budget import choose_in_steps

    latency = depth(module) + 1
    if options.steps <= latency:
        told = f"the first answer is there after {latency + 1} steps, not {options.steps}"
        raise fail("E0407", told, hint=f"run {latency + 1} steps or more")
    digits = takes_digits(options) and not options.early_exit  # of which there is no early answer
    codes: tuple[Code, ...] = ("stbif", "bit-serial") if digits else ("stbif",)
    ways: tuple[Schedule, ...] = ("burst", "spread") if spreads(options) else ("burst",)
    left = options.steps - latency
    found = choose_in_steps(module, x, left, y, codes=codes, schedules=ways, base=base, uneven=False).setting
    assert options.accuracy_drop is not None
    if found.drop > options.accuracy_drop:
        told = (
            f"no setting loses at most {options.accuracy_drop:g} points after {options.steps} steps: the best"
        )
        hint = "allow more steps or a larger drop"
        raise fail("E0607", f"{told}, {found.levels} levels, loses {found.drop:.2f}", hint=hint)
    passes = pipeline_for(replace(options, steps=0, levels=found.levels), module)
    coded = tuple(
        replace(item, code=found.code, schedule=found.schedule) if isinstance(item, SpikeCode) else item
        for item in passes
    )
    return Cut(coded, options.steps, found)
