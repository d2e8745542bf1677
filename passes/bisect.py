"""Which pass broke it: halve a pipeline with a test that a person (or a script) supplies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nmc.ir.module import Module
from nmc.passes.base import Pass
from nmc.passes.manager import run_pipeline


def bisect(module: Module, pipeline: Sequence[Pass], test: Callable[[Module], bool]) -> str | None:
    """Find the first pass after which a test fails.

    Parameters
    ----------
    module : Module
        Start of the pipeline.
    pipeline : sequence of Pass
        The passes to blame.
    test : callable
        Whether a module is still good; the test is assumed to stay failed once it failed.

    Returns
    -------
    str or None
        Pipeline text of the pass; ``"input"`` when `module` itself fails, None when even the end is good.
    """
    if not test(module):
        return "input"
    good, start = 0, module  # `start` is what the first `good` passes give
    bad = len(pipeline)
    if bad == 0 or test(run_pipeline(module, pipeline).module):
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        tried = run_pipeline(start, pipeline[good:middle]).module
        if test(tried):
            good, start = middle, tried
        else:
            bad = middle
    return str(pipeline[good])
