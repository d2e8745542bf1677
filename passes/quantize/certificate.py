"""What ``quantize`` did and lost, as an attribute of the module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.interp import run_ann
from nmc.ir.module import Module
from nmc.ir.rest import settle_bound
from nmc.passes.convert.spike_code import SpikeCode
from nmc.passes.quantize.integer import run_integer
from nmc.passes.quantize.lower import Layer

Array = NDArray[Any]
_BATCH = 64
#: Samples that the errors are measured with.
_SAMPLES = 256


def certificate(
    told: Mapping[str, Any],
    layers: list[Layer],
    before: Module,
    after: Module,
    inputs: Mapping[str, Array],
    relays: Mapping[str, Any],
) -> dict[str, Any]:
    """Give the certificate.

    Parameters
    ----------
    told : mapping
        How it was done: options and data.
    layers : list of Layer
        What the walk found out.
    before, after : Module
        The trained and the integer network.
    inputs : mapping of str to (N, *shape) array
        Calibration data; without them nothing is measured.
    relays : mapping
        What is known of populations of means that stand for no layer.

    Returns
    -------
    dict
        ``told``; ``steps_bound`` (time steps after which signed spikes have settled, without delays); and for each
        layer the range of thresholds, the share of clipped weights, the proved bound and its bits, the share of
        squared error that fitted weights left of a layer's sums, and on the data the share of
        saturated counts and the error of the activation against the trained network, relative to its root mean square.
    """
    measured = measure(layers, before, after, inputs) if inputs else {}
    rows = {layer.name: {**_proved(layer), **measured.get(layer.name, {})} for layer in layers}
    found = {**told, "steps_bound": steps_bound(after), "layers": rows}
    return {**found, "relays": dict(relays)} if relays else found


def _proved(layer: Layer) -> dict[str, Any]:
    bound = int(layer.scaled.bound.max())
    shown: dict[str, Any] = {"bits": layer.bits, "clipped": _short(layer.scaled.clipped), "bound": bound,
                             "bound_bits": bound.bit_length() + 1, "correction": layer.correction,
                             "refit": _short(layer.refit)}  # fmt: skip
    if not layer.levels:
        return shown
    theta = layer.scaled.theta
    return {"levels": layer.levels, "theta": (int(theta.min()), int(theta.max())), **shown}


def steps_bound(module: Module) -> int:
    """Time steps after which a network of signed spikes without delays is at rest, whatever the data."""
    return settle_bound(SpikeCode(code="stbif").run(module)) or 0


def measure(
    layers: list[Layer], before: Module, after: Module, inputs: Mapping[str, Array]
) -> dict[str, dict[str, float]]:
    """Compare each layer's activations with those of the trained network."""
    total = min(_SAMPLES, *(len(data) for data in inputs.values()))
    sums = {layer.name: np.zeros(4) for layer in layers}
    for first in range(0, total, _BATCH):
        part = {name: data[first : min(first + _BATCH, total)] for name, data in inputs.items()}
        real = run_ann(before, part, keep=[layer.source for layer in layers])
        whole = run_integer(after, part, keep=[layer.name for layer in layers])
        for layer in layers:
            sums[layer.name] += _errors(layer, real[layer.source], whole[layer.name])
    return {layer.name: _shares(layer, sums[layer.name]) for layer in layers}


def _errors(layer: Layer, real: Array, whole: Array) -> Array:
    error = (whole * layer.step).astype(np.float64) - real
    saturated = np.count_nonzero(whole >= layer.levels) if layer.levels else 0
    return np.array([saturated, whole.size, np.square(error).sum(), np.square(real, dtype=np.float64).sum()])


def _shares(layer: Layer, sums: Array) -> dict[str, float]:
    saturated, count, error, energy = (float(item) for item in sums)
    rms = {"rms_error": _short((error / energy) ** 0.5 if energy else 0.0)}
    return {"saturated": _short(saturated / max(count, 1)), **rms} if layer.levels else rms


def _short(number: float) -> float:
    """Three significant digits: the last bits of floating-point sums differ between machines."""
    return float(f"{number:.3g}")
