"""Data-based threshold balancing: what activation a firing rate of one stands for, per channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import Diagnostic, NmcError, fail
from nmc.ir.interp import run_ann
from nmc.ir.loc import fuse
from nmc.ir.module import Module
from nmc.ir.op import Op
from nmc.ir.ops import ann
from nmc.passes.base import Pass
from nmc.passes.data import fit_shape, load_samples
from nmc.passes.quantize.ranges import Range, drawn_together, round_bits, with_floor
from nmc.passes.quantize.unclear import FEW_LEVELS, READ, least_clear

Array = NDArray[Any]
_BATCH = 64
#: Samples that are read where no number is given and levels are not few.
_READ = 256
#: By how much thresholds are drawn together where nothing is asked for and levels are few.
_SHRINK = 0.2
#: Method, factor and drawing together of thresholds that ``auto`` tries; the first wins where none is clearly better.
_TRIALS: tuple[tuple[Literal["mse", "percentile", "ltb"], float, float], ...] = (
    ("mse", 1.0, 0.0), ("mse", 1.0, 0.2), ("mse", 0.9, 0.0), ("mse", 1.1, 0.0), ("percentile", 1.0, 0.0),
    ("percentile", 0.8, 0.0), ("ltb", 0.9, 0.0),
)  # fmt: skip


@dataclass(frozen=True)
class Calibrate(Pass, name="calibrate", takes="ann"):
    """Give each relu the activation that its highest firing rate stands for, per channel, from sample data.

    ``mse`` takes the threshold that minimises the squared error of rates of `levels` steps (Deng and Gu 2021
    shift and clip the same way), ``max`` the largest activation seen, ``percentile`` the 99.9th (Rueckauer 2017),
    ``ltb`` what local threshold balancing converges to. `shrink` draws the thresholds of a layer together by that share
    (of their logarithms; -1: those of `mse` by a fifth with 4 levels or fewer), `share` multiplies all. The first
    `limit` samples are read (0: 256, or 2,000 with 4 levels or fewer, of which the half counts whose answers are the
    least clear). ``auto`` quantises the network with a few of these and keeps the one
    whose integer network comes nearest to the trained one on the samples; the attribute ``calibration`` tells.
    A relu that was trained with steps keeps its threshold.
    A channel below `floor` times the median of the layer's thresholds gets that. Poolings get thresholds too, for
    the case that a population must stand there. Also notes the range of the inputs and of the outputs. The
    thresholds are rounded to 12 significant bits, so that the last bits of a floating-point sum on another machine
    do not change them.

        before: %2 = ann.relu(%1) : f32<8x14x14>
        after:  %2 = ann.relu(%1, @2.threshold) : f32<8x14x14>
    """

    data: str = ""
    method: Literal["mse", "max", "percentile", "ltb", "auto"] = "mse"
    levels: int = 24
    floor: float = 0.1
    shrink: float = -1.0
    share: float = 1.0
    limit: int = 0
    raw: bool = False
    samples: Array | None = field(default=None, compare=False, repr=False, metadata={"hidden": True})
    layer_levels: tuple[tuple[str, int], ...] = field(default=(), metadata={"hidden": True})

    def run(self, module: Module) -> Module:
        """Attach thresholds and input ranges."""
        inputs = self._inputs(module)
        rates = [op.out for op in module.ops if isinstance(op, ann.Relu | ann.AvgPool)]
        seen = [*rates, *(op.data.name for op in module.of_type(ann.Output))]
        ranges = {name: Range() for name in seen}
        self._observe(module, inputs, ranges)
        if self.method != "auto":
            return module.map_ops(lambda op: self._calibrated(op, inputs, ranges))
        from nmc.passes.quantize.trials import best_trial

        made = {
            str(trial): module.map_ops(partial(trial._calibrated, inputs=inputs, ranges=ranges))
            for trial in self._trials()
        }
        return best_trial(made, inputs, self.levels)

    def _trials(self) -> Iterator[Calibrate]:
        """What ``auto`` chooses from; each prints as its options."""
        plain = Calibrate(levels=self.levels, floor=self.floor)
        for method, share, shrink in _TRIALS:
            yield replace(plain, method=method, share=self.share * share, shrink=shrink)

    def _inputs(self, module: Module) -> dict[str, Array]:
        ops = module.of_type(ann.Input)
        if len(ops) != 1:
            raise fail("E0404", f"calibration needs a network with one input, this one has {len(ops)}")
        samples = self.samples
        if samples is None:
            if not self.data:
                hint = "give sample data: --calib FILE.npz (labels are not needed)"
                raise fail("E0404", "calibration needs sample data", hint=hint)
            limit = self.limit or (READ if self.levels <= FEW_LEVELS else _READ)
            samples, _ = load_samples(self.data, limit=limit, raw=self.raw)
        samples = np.asarray(samples)
        if not len(samples):
            raise fail("E0404", "there are no samples to calibrate with")
        _check_finite(samples, self.data)
        return least_clear(module, {ops[0].out: fit_shape(samples, ops[0].shape)}, self.levels)

    def _observe(self, module: Module, inputs: dict[str, Array], ranges: dict[str, Range]) -> None:
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

    def _calibrated(self, op: Op, inputs: dict[str, Array], ranges: dict[str, Range]) -> Op:
        loc = fuse(self.name, [op.loc])
        if isinstance(op, ann.Input):
            low, high = float(inputs[op.out].min()), float(inputs[op.out].max())
            return replace(op, low=low, high=high if high > low else low + 1.0, loc=loc)
        if isinstance(op, ann.Output):
            return replace(op, reach=float(round_bits(np.array(ranges[op.data.name].largest), 12)), loc=loc)
        if not isinstance(op, ann.Relu | ann.AvgPool) or (isinstance(op, ann.Relu) and op.levels):
            return op
        seen = ranges[op.out]
        levels = dict(self.layer_levels).get(op.out, self.levels)
        few = self.method == "mse" and levels <= FEW_LEVELS
        shrink = self.shrink if self.shrink >= 0 else _SHRINK * few
        threshold = drawn_together(seen.threshold(self.method, levels), seen, shrink)
        threshold = with_floor(threshold, seen, self.floor) * self.share
        threshold = np.minimum(threshold, op.limit if isinstance(op, ann.Relu) else np.inf)
        shape = (-1, *[1] * (len(op.data.shape) - 1))
        const = Const(f"{op.out}.threshold", round_bits(threshold, 12).reshape(shape))
        return replace(op, threshold=const, loc=loc)


def _check_finite(samples: Array, file: str) -> None:
    bad = ~np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if bad.any():
        message = (
            f"{bad.sum()} of {len(samples)} samples hold NaN or infinity, the first is number {bad.argmax()}"
        )
        raise fail("E0403", message, where=file, hint="remove them")


def _batches(inputs: dict[str, Array]) -> Iterator[dict[str, Array]]:
    total = len(next(iter(inputs.values())))
    for start in range(0, total, _BATCH):
        yield {name: data[start : start + _BATCH] for name, data in inputs.items()}
