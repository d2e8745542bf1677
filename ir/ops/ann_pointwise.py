"""More activations of level ``ann``: smooth functions, leaky relus and rounding to a grid.

``unroll`` and ``approximate`` turn them into what neurons do.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Op, Value, broadcasts, require
from nmc.ir.ops.functions import evaluate
from nmc.ir.types import Type


@dataclass(frozen=True, kw_only=True)
class Activation(Op, name="ann.activation"):
    """A smooth function of each element, as the ONNX operator of that name computes it.

    %2 = ann.activation(%1) {fn=sigmoid} : f32<8x14x14>

    `alpha` is the parameter of celu, elu, selu and silu (x * sigmoid(alpha * x)), `beta` the gamma of selu. No spiking
    neuron computes it: ``approximate`` replaces it by straight lines, with a stated error.
    """

    data: Value
    fn: Literal[
        "celu", "elu", "erf", "exp", "gelu", "gelu_tanh", "hard_swish", "mish", "selu", "sigmoid", "silu", "softplus",
        "softsign", "sqrt", "tanh",
    ]  # fmt: skip
    alpha: float = 1.0
    beta: float = 1.0

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type

    def verify(self) -> None:
        """The parameters are finite numbers."""
        good = np.isfinite([self.alpha, self.beta]).all() and (self.fn != "celu" or self.alpha != 0)
        require(good, f"parameters {self.alpha} and {self.beta} of {self.fn}")

    def run(self, data: Array) -> Array:
        """Apply the function."""
        return evaluate(self.fn, data, self.alpha, self.beta)


@dataclass(frozen=True, kw_only=True)
class LeakyRelu(Op, name="ann.leaky_relu"):
    """x where it is positive, slope * x elsewhere; the slope broadcasts to the operand.

    %2 = ann.leaky_relu(%1, @slope) : f32<8x14x14>

    A slope of -1 gives the absolute value. ``unroll`` makes two relus of it, which is exact.
    """

    data: Value
    slope: Const

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type

    def verify(self) -> None:
        """The slope broadcasts."""
        fits = broadcasts(self.slope.shape, self.data.shape)
        require(fits, f"slope of shape {self.slope.shape} does not broadcast to {self.data.shape}")

    def run(self, data: Array) -> Array:
        """Scale the negative elements."""
        return np.where(data >= 0, data, data * self.slope.array().astype(data.dtype))


@dataclass(frozen=True, kw_only=True)
class Quantize(Op, name="ann.quantize"):
    """Round to a grid and give the number back: (clip(rint(x / scale) + zero_point, low, high) - zero_point) * scale.

    %2 = ann.quantize(%1, @scale, @zero_point) {low=-128, high=127} : f32<8x14x14>

    What a pair of QuantizeLinear and DequantizeLinear computes (ties go to the even integer). Scale and zero point
    broadcast to the operand: one number, or one a channel as (C, 1, 1).
    """

    data: Value
    scale: Const
    zero_point: Const
    low: int
    high: int

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type

    def verify(self) -> None:
        """The bounds are in order, the constants broadcast."""
        require(self.low < self.high, f"low {self.low} is not below high {self.high}")
        for const in self.consts:
            fits = broadcasts(const.shape, self.data.shape)
            require(fits, f"@{const.name} of shape {const.shape} does not broadcast to {self.data.shape}")

    def run(self, data: Array) -> Array:
        """Round to the grid."""
        scale = self.scale.array().astype(data.dtype)
        zero = self.zero_point.array().astype(data.dtype)
        grid = np.clip(np.rint(data / scale) + zero, self.low, self.high)
        result: Array = (grid - zero) * scale
        return result
