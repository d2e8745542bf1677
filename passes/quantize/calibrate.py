"""Data-based threshold balancing: what activation a firing rate of one stands for, per channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.interp import run_ann
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.data import fit_shape, load_samples

Array = NDArray[Any]
_BATCH = 64
#: Activations kept for each channel when searching the best threshold.
_KEPT = 8192


@dataclass(frozen=True)
class Calibrate(Pass, name="calibrate", takes="ann"):
    """Give each relu the activation that its highest firing rate stands for, per channel, from sample data.

    ``mse`` takes the threshold that minimises the squared error of rates of `levels` steps (Deng and Gu 2021
    shift and clip the same way), ``max`` the largest activation seen, ``percentile`` the 99.9th (Rueckauer 2017).
    A channel below `floor` times the median of the layer's thresholds gets that. Poolings get thresholds too, for
    the case that a population must stand there. Also notes the range of the inputs and of the outputs. The
    thresholds are rounded to 12 significant bits, so that the last bits of a floating-point sum on another machine
    do not change them.

        before: %2 = ann.relu(%1) : f32<8x14x14>
        after:  %2 = ann.relu(%1, @2.threshold) : f32<8x14x14>
    """

    data: str = ""
    method: Literal["mse", "max", "percentile"] = "mse"
    levels: int = 24
    floor: float = 0.1
    limit: int = 256
    raw: bool = False
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})

    def run(self, module: Module) -> Module:
        """Attach thresholds and input ranges."""
        inputs = self._inputs(module)
        rates = [op.out for op in module.ops if isinstance(op, ann.Relu | ann.AvgPool)]
        seen = [*rates, *(op.data.name for op in module.of_type(ann.Output))]
        ranges = {name: _Range() for name in seen}
        self._observe(module, inputs, ranges)
        return module.map_ops(lambda op: self._calibrated(op, inputs, ranges))

    def _inputs(self, module: Module) -> dict[str, Array]:
        ops = module.of_type(ann.Input)
        if len(ops) != 1:
            raise fail("E0404", f"calibration needs a network with one input, this one has {len(ops)}")
        samples = self.samples
        if samples is None:
            if not self.data:
                hint = "give sample data: --calib FILE.npz (labels are not needed)"
                raise fail("E0404", "calibration needs sample data", hint=hint)
            samples, _ = load_samples(self.data, limit=self.limit, raw=self.raw)
        samples = np.asarray(samples)
        if not len(samples):
            raise fail("E0404", "there are no samples to calibrate with")
        _check_finite(samples, self.data)
        return {ops[0].out: fit_shape(samples, ops[0].shape)}

    def _observe(self, module: Module, inputs: dict[str, Array], ranges: dict[str, _Range]) -> None:
        for part in _batches(inputs):
            with np.errstate(over="ignore", invalid="ignore"):
                values = run_ann(module, part, keep=ranges, dtype=np.float64)
            for name, seen in ranges.items():
                seen.add(values[name])
        problems = [
            Diagnostic("E0404", "the activations are not finite", where=str(module.producers[name].loc or f"%{name}"))
            for name, seen in ranges.items()
            if not (np.isfinite(seen.highest).all() and np.isfinite(seen.largest))
        ]  # fmt: skip
        if problems:
            raise NmcError(problems)

    def _calibrated(self, op: Op, inputs: dict[str, Array], ranges: dict[str, _Range]) -> Op:
        loc = fuse(self.name, [op.loc])
        if isinstance(op, ann.Input):
            low, high = float(inputs[op.out].min()), float(inputs[op.out].max())
            return replace(op, low=low, high=high if high > low else low + 1.0, loc=loc)
        if isinstance(op, ann.Output):
            return replace(op, reach=float(_round_bits(np.array(ranges[op.data.name].largest), 12)), loc=loc)
        if not isinstance(op, ann.Relu | ann.AvgPool):
            return op
        threshold = _with_floor(
            ranges[op.out].threshold(self.method, self.levels), ranges[op.out], self.floor
        )
        threshold = np.minimum(threshold, op.limit if isinstance(op, ann.Relu) else np.inf)
        shape = (-1, *[1] * (len(op.data.shape) - 1))
        const = Const(f"{op.out}.threshold", _round_bits(threshold, 12).reshape(shape))
        return replace(op, threshold=const, loc=loc)


class _Range:
    """Activations of each channel: the largest, and a regular sample of all."""

    def __init__(self) -> None:
        self._chunks: list[Array] = []
        self.highest: Array | float = 0.0
        self.largest = 0.0

    def add(self, values: Array) -> None:
        channels = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        self.largest = max(self.largest, float(np.abs(channels).max(initial=0.0)))
        self.highest = np.maximum(self.highest, channels.max(axis=1))
        stride = max(1, channels.shape[1] // (_KEPT // 4))
        self._chunks.append(channels[:, ::stride])

    def threshold(self, method: str, levels: int) -> Array:
        """Threshold of each channel, (C,) float64; 1 for a channel that is never active."""
        highest = np.asarray(self.highest, np.float64)
        silent = highest < np.finfo(np.float32).tiny
        safe = np.where(silent, 1.0, highest)
        if method == "max":
            return safe
        values = np.concatenate(self._chunks, axis=1)
        values = values[:, :: max(1, values.shape[1] // _KEPT)]
        if method == "percentile":
            found = np.percentile(values, 99.9, axis=1)
            return np.where(silent | (found <= 0), safe, found)
        return _least_squares(values, safe, levels)


def _with_floor(threshold: Array, seen: _Range, floor: float) -> Array:
    """Raise the thresholds of nearly silent channels: their weights would take the range of all others' registers."""
    active = threshold[np.asarray(seen.highest) > 0]
    if not active.size:
        return threshold
    middle = float(np.median(active))
    return np.where(np.asarray(seen.highest) > 0, np.maximum(threshold, floor * middle), middle)


def _least_squares(values: Array, highest: Array, levels: int) -> Array:
    """Choose, per channel, the share of the largest activation with the least squared rate error."""
    best, least = highest, np.full(highest.shape, np.inf)
    for share in np.linspace(1.0, 0.3, 36):
        trial = highest * share
        rates = np.clip(np.floor(values / trial[:, None] * levels + 0.5) / levels, 0.0, 1.0)
        error = ((values - rates * trial[:, None]) ** 2).sum(axis=1)
        best = np.where(error < least * (1 - 1e-9), trial, best)
        least = np.minimum(error, least)
    return best


def _check_finite(samples: Array, file: str) -> None:
    bad = ~np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if bad.any():
        message = (
            f"{bad.sum()} of {len(samples)} samples hold NaN or infinity, the first is number {bad.argmax()}"
        )
        raise fail("E0403", message, where=file, hint="remove them")


def _round_bits(values: Array, bits: int) -> Array:
    fraction, exponent = np.frexp(values)
    rounded: Array = np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits)
    return rounded


def _batches(inputs: dict[str, Array]) -> Iterator[dict[str, Array]]:
    total = len(next(iter(inputs.values())))
    for start in range(0, total, _BATCH):
        yield {name: data[start : start + _BATCH] for name, data in inputs.items()}
