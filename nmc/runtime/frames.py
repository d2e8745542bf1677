"""Streams of frames on an emulated chip: state stays, differences enter (`nmc.passes.convert.delta_stream`).

Counts of ``snn.stbif`` depend only on the sum of what has arrived, so that a program for single samples is one for
streams, too: the host sends the first frame, and of each later one how it differs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.ops import snn

Array = NDArray[Any]
_CODES = ("stbif", "graded")
_SCHEDULES = ("burst", "spread", "const")


def check_frames(module: Module, target: str) -> None:
    """Refuse programs that cannot go on from the state of the frame before.

    Raises
    ------
    NmcError
        E0654.
    """
    chosen = module.attr("spike_code") or {}
    if chosen.get("code") not in _CODES or chosen.get("schedule") not in _SCHEDULES:
        what = f"spike code {chosen['code']}" if chosen else "a network of rates"
        hint = "compile for a chip with signed spikes (spinnaker2, fpga), in the exact mode"
        raise fail(
            "E0654", f"{what} on {target} does not go on from the state of the frame before", hint=hint
        )
    for op in module.of_type(snn.Input):
        if op.low < 0:
            told = f"input {op.source} has a sign: its differences may leave the bounds that were proved"
            raise fail("E0654", told, hint="shift the data so that they start at 0")


def ends(trace: Array, steps: int) -> Array:
    """Of outputs after each step (N, F * steps, ...) those after each frame, (N, F, ...)."""
    return np.ascontiguousarray(trace[:, steps - 1 :: steps])
