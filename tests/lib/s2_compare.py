"""Run a program on several engines and compare everything that can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.targets.spinnaker2.engines import make_engine
from nmc.targets.spinnaker2.engines.chip import LoadedChip, RunResult, load_chip
from nmc.targets.spinnaker2.layout import STACK_BYTES, ChipImage

Array = NDArray[Any]


def probes_of(image: ChipImage) -> list[str]:
    """All probes."""
    return [f"{pop.name}.{what}" for pop in image.pops for what in ("spikes", "v")]


def run_all(
    image: ChipImage, inputs: dict[str, Array], steps: int, engines: Sequence[str]
) -> tuple[LoadedChip, dict[str, Any], dict[str, RunResult]]:
    """Run on each engine."""
    chip = load_chip(image)
    made = {name: make_engine(chip, name) for name in engines}
    return chip, made, {name: made[name].run(inputs, steps, probes=probes_of(image)) for name in engines}


def bits(seen: Array) -> tuple[Any, ...]:
    """Everything about an array."""
    return seen.shape, seen.dtype, seen.tobytes()


def differences(image: ChipImage, inputs: dict[str, Array], steps: int, engines: Sequence[str]) -> list[str]:
    """What differs between the first engine and each other: probes, outputs, event counts, final memories."""
    chip, made, found = run_all(image, inputs, steps, engines)
    first, wrong = found[engines[0]], []
    for name in engines[1:]:
        other = found[name]
        wrong += [f"{name} {k}" for k in first.probes if bits(first.probes[k]) != bits(other.probes[k])]
        wrong += [f"{name} {k}" for k in first.outputs if bits(first.outputs[k]) != bits(other.outputs[k])]
        wrong += [] if vars(first.events) == vars(other.events) else [f"{name} events"]
        for place in chip.pes:
            a, b = made[engines[0]].words(place), made[name].words(place)
            wrong += [f"{name} {place} {k}" for k in a if k in b and not np.array_equal(a[k], b[k])]
    if "native" in made and "exact" in made:
        for place in chip.pes:
            a, b = (made[name].pes[place].sram[: -STACK_BYTES // 4] for name in ("native", "exact"))
            wrong += [] if np.array_equal(a, b) else [f"SRAM of {place}"]
    return wrong
