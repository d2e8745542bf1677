"""Level ``snn``: inputs that need no data."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from math import prod

import numpy as np

from nmc.ir.dataclass import dataclass
from nmc.ir.encode import uniform_words
from nmc.ir.op import Array, require
from nmc.ir.ops.snn import InputOp
from nmc.ir.types import Type

Ints = tuple[int, ...]
_U = np.uint64
MAX_MEAN = 64.0


@dataclass(frozen=True, kw_only=True)
class Poisson(InputOp, name="snn.poisson"):
    """Independent Poisson processes: each element sends a Poisson-distributed number of spikes a step.

    %drive = snn.poisson() {shape=[1000], mean=0.8, seed=42} : graded<1000>

    The counts are quantiles of the counter-based random words keyed by (seed, sample, step, neuron).
    """

    shape: Ints
    mean: float
    seed: int = 0
    source: str = ""

    def infer(self) -> Type:
        """Counts."""
        return Type("graded", self.shape)

    def verify(self) -> None:
        """The mean is a number of spikes that fits a byte, and no data are named."""
        require(0.0 <= self.mean <= MAX_MEAN, f"mean {self.mean} a step is not in 0..{MAX_MEAN:g}")
        require(not self.source, "a Poisson source takes no data")

    @cached_property
    def _steps(self) -> Array:
        """Cumulative probabilities up to where they no longer change, from correctly rounded arithmetic."""
        mean = Decimal(self.mean)
        term = total = (-mean).exp()
        levels = [total]
        while len(levels) < 255 and (total < 1 - Decimal("1e-18")):
            term = term * mean / len(levels)
            total += term
            levels.append(total)
        return np.array([float(level) for level in levels])

    @property
    def most(self) -> int:
        """The largest count that any random word stands for."""
        return int(np.searchsorted(self._steps, 1.0 - 2.0**-53, side="right"))

    def encode(self, data: Array, first_sample: int, t: int) -> Array:
        """Spikes of step `t`: (B, *shape) uint8."""
        batch = data.shape[0]
        samples = np.arange(first_sample, first_sample + batch)
        words = uniform_words(self.seed, samples, t, np.arange(prod(self.shape)))
        u = (words >> _U(11)).astype(np.float64) * 2.0**-53
        count = np.searchsorted(self._steps, u.reshape(-1), side="right")
        return count.astype(np.uint8).reshape(batch, *self.shape)
