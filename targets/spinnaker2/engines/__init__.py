"""Engines: vectorised numpy, the firmware as a shared library, the firmware as ARM code in Unicorn.

All take a `LoadedChip` and have ``run(inputs, steps, probes=...)``: `inputs` are payloads by input name, integers
(B, T, *shape) with 0 for no spike (steps beyond T bring none); the result is a `RunResult`. A spike of step t, of an
input too, arrives at step t + delay. Every sample starts anew. ``words(place)`` gives the regions of a PE afterwards.
"""

from __future__ import annotations

from typing import Any

from nmc.ir.diagnostics import fail
from nmc.targets.spinnaker2.engines.chip import LoadedChip

ENGINES = ("functional", "native", "exact")


def make_engine(chip: LoadedChip, name: str) -> Any:
    """Make an engine by name.

    Raises
    ------
    NmcError
        E0802 for an unknown name; E0914 when what it needs is not installed.
    """
    if name == "functional":
        from nmc.targets.spinnaker2.engines.functional import FunctionalEngine

        return FunctionalEngine(chip)
    if name == "native":
        from nmc.targets.spinnaker2.engines.native import NativeEngine

        return NativeEngine(chip)
    if name == "exact":
        from nmc.targets.spinnaker2.engines.exact import ExactEngine

        return ExactEngine(chip)
    raise fail("E0802", f"SpiNNaker2 has no engine {name!r}", hint=f"engines: {', '.join(ENGINES)}")
