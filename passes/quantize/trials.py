"""Compare integer networks with the trained one on sample data, without labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.ops import ann, snn
from nmc.passes.quantize.integer import run_integer

Array = NDArray[Any]
_BATCH = 64
#: Another calibration than the first is taken only when its divergence is below this share of the first's.
_CLEARLY = 0.9


def best_trial(made: Mapping[str, Module], inputs: Mapping[str, Array], levels: int) -> Module:
    """Choose among calibrated networks the one whose integer network comes nearest to the trained one.

    Parameters
    ----------
    made : mapping of str to Module
        Level ``ann``, with thresholds, by what is told about them; the first wins where none is clearly better.
    inputs : mapping of str to (N, *shape) array
        Data of the network's one input.
    levels : int
        Largest count of a population.

    Returns
    -------
    Module
        With the attribute ``calibration``: what was chosen, and the divergence of each.

    Raises
    ------
    NmcError
        Where the network cannot be quantised.
    """
    from nmc.passes.quantize.quantize import Quantize  # which uses this module for mixed precision

    (samples,) = inputs.values()
    real = trained_logits(next(iter(made.values())), inputs)
    found: dict[str, float] = {}
    for name, module in made.items():
        network = Quantize(samples=samples, levels=levels, certify=False).run(module)
        found[name] = float(f"{divergence(real, integer_logits(network, inputs)):.3g}")
    first, chosen = next(iter(found)), min(found, key=lambda name: found[name])
    if found[chosen] > _CLEARLY * found[first]:
        chosen = first
    return made[chosen].with_attrs(calibration={"chosen": chosen, "divergence": found})


def trained_logits(module: Module, inputs: Mapping[str, Array]) -> Array:
    """First output of a network of level ``ann``, (N, elements) float64."""
    name = module.of_type(ann.Output)[0].data.name
    total = min(len(data) for data in inputs.values())
    parts = [
        run_ann(module, {key: data[first : first + _BATCH] for key, data in inputs.items()})[name]
        for first in range(0, total, _BATCH)
    ]
    return np.concatenate(parts).reshape(total, -1).astype(np.float64)


def integer_logits(module: Module, inputs: Mapping[str, Array]) -> Array:
    """First output of an integer network in the trained network's range, (N, elements) float64."""
    op = module.of_type(snn.Output)[0]
    sources = {item.source: inputs[item.source] for item in module.of_type(snn.Input)}
    found = run_integer(module, sources)[op.data.name]
    return np.asarray(found.reshape(len(found), -1) * op.scale)


def divergence(real: Array, other: Array) -> float:
    """Mean squared distance of the directions of two sets of logits (N, elements), means taken off.

    It asks neither for labels nor for disagreements, of which a few hundred samples have hardly any, and does not
    weigh samples by the size of their logits: of seven measures it told best which of ten calibrations had the least
    divergence on other data (three networks, 4 and 8 levels: rank correlation 0.54; Kullback-Leibler divergence 0.31,
    squared error 0.13). With one output it is the squared error relative to the mean square.
    """
    if real.shape[1] == 1:
        return float(np.square(other - real).mean() / max(float(np.square(real).mean()), 1e-30))
    return float(np.square(_directions(real) - _directions(other)).sum(axis=1).mean())


def _directions(logits: Array) -> Array:
    centred = logits - logits.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-30))
