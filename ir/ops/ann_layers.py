"""More layers of level ``ann``: transposed convolution, selection of elements, and simple recurrent cells."""

from __future__ import annotations

from math import prod
from typing import Literal

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Op, Value, require
from nmc.ir.ops import kernels
from nmc.ir.types import Type

Ints = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ConvTranspose(Op, name="ann.conv_transpose"):
    """Transposed convolution: each element of the operand adds its multiple of the kernel to the result.

    %1 = ann.conv_transpose(%x, @w, @b) {stride=[2, 2], pad=[0, 0, 0, 0], dilation=[1, 1]} : f32<8x28x28>

    Weights are (C_in, C_out / groups, *kernel), as in ONNX. `pad` crops the result (before each axis, then after),
    negative entries add zeros to it (ONNX's output_padding).
    """

    data: Value
    weight: Const
    bias: Const | None = None
    stride: Ints
    pad: Ints
    dilation: Ints
    groups: int = 1

    def infer(self) -> Type:
        """Channels of the kernel; extents (n - 1) * stride + reach - pads."""
        shape, weight = self.data.shape, self.weight.shape
        space = len(shape) - 1
        require(space >= 1, "a convolution needs channels and space")
        require(len(weight) == space + 2, f"kernel of rank {len(weight)} over {space} spatial axes")
        require(len(self.stride) == space == len(self.dilation), f"stride and dilation need {space} entries")
        require(len(self.pad) == 2 * space, f"pad needs {2 * space} entries")
        positive = min(self.stride) > 0 and min(self.dilation) > 0 and self.groups > 0
        require(positive, "stride, dilation and groups must be positive")
        fits = weight[0] == shape[0] and shape[0] % self.groups == 0
        require(
            fits, f"kernel has {weight[0]} input channels in {self.groups} groups, operand has {shape[0]}"
        )
        extents = tuple(
            kernels.padded_extent(self._whole(axis), -self.pad[axis], -self.pad[space + axis])
            for axis in range(space)
        )
        require(min((*extents, *weight[2:])) > 0, f"the result would have the extents {extents}")
        return Type("f32", (weight[1] * self.groups, *extents))

    def _whole(self, axis: int) -> int:
        """Extent before `pad` crops it."""
        reach = self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1
        return (self.data.shape[1 + axis] - 1) * self.stride[axis] + reach

    def verify(self) -> None:
        """The bias has one element a channel."""
        if self.bias is not None:
            channels = self.weight.shape[1] * self.groups
            require(
                self.bias.shape == (channels,), f"bias of shape {self.bias.shape} for {channels} channels"
            )

    def kernel(self) -> Array:
        """The kernel (C_out, C_in / groups, *kernel) of the equal convolution of the spread operand."""
        weight, groups = self.weight.array(), self.groups
        parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]).swapaxes(1, 2)
        flipped = np.flip(parts, tuple(range(3, parts.ndim)))
        return np.ascontiguousarray(flipped.reshape(-1, *flipped.shape[2:]))

    def run(self, data: Array) -> Array:
        """Spread the operand with zeros between its elements, then convolve with the flipped kernel."""
        space = len(self.stride)
        extents = [(n - 1) * step + 1 for n, step in zip(data.shape[2:], self.stride, strict=True)]
        wide = np.zeros((*data.shape[:2], *extents), data.dtype)
        wide[(slice(None), slice(None), *(slice(None, None, step) for step in self.stride))] = data
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.weight.shape[2:], strict=True)]
        border = tuple(reach[axis % space] - pad for axis, pad in enumerate(self.pad))
        ones = (1,) * space
        result: Array = kernels.conv(wide, self.kernel(), ones, border, self.dilation, self.groups)
        if self.bias is not None:
            result = result + self.bias.array().reshape(-1, *ones).astype(result.dtype, copy=False)
        return result


@dataclass(frozen=True, kw_only=True)
class Take(Op, name="ann.take"):
    """Elements of an axis by their numbers, in any order and any number of times; an index map without arithmetic.

    %2 = ann.take(%1, @index) {axis=1} : f32<8x28x14>

    Nearest-neighbour upsampling, strided slices, tiling and reflecting borders are such maps.
    """

    data: Value
    index: Const
    axis: int

    def infer(self) -> Type:
        """The extent of the axis becomes the number of indices."""
        shape = self.data.shape
        require(0 <= self.axis < len(shape), f"axis {self.axis} of a value of rank {len(shape)}")
        require(
            len(self.index.shape) == 1 and self.index.type.kind == "i64", "the index is a vector of int64"
        )
        return Type("f32", (*shape[: self.axis], *self.index.shape, *shape[self.axis + 1 :]))

    def verify(self) -> None:
        """The indices are those of elements."""
        if self.index.data is not None and self.index.data.size:
            low, high = int(self.index.data.min()), int(self.index.data.max())
            extent = self.data.shape[self.axis]
            require(low >= 0 and high < extent, f"indices {low} to {high} of {extent} elements")

    def run(self, data: Array) -> Array:
        """Pick the elements."""
        return np.take(data, self.index.array(), axis=self.axis + 1)


@dataclass(frozen=True, kw_only=True)
class Rnn(Op, name="ann.rnn"):
    """A simple recurrent layer over a sequence (T, inputs): h_t = f(W x_t + R h_(t-1) + b), from h_(-1) = 0.

    %1 = ann.rnn(%x, @w, @r, @b) {fn=relu} : f32<12x64>

    Gives all h_t, the last row being the last step. ``unroll`` makes a layer of every step.
    """

    data: Value
    weight: Const
    recurrent: Const
    bias: Const
    fn: Literal["relu", "tanh"]
    reverse: bool = False

    def infer(self) -> Type:
        """One row a step."""
        require(len(self.data.shape) == 2, f"a sequence has two axes, not the shape {self.data.shape}")
        require(len(self.weight.shape) == 2, f"weights of rank {len(self.weight.shape)}")
        return Type("f32", (self.data.shape[0], self.weight.shape[0]))

    def verify(self) -> None:
        """Weights, recurrence and bias fit each other."""
        hidden, inputs = self.weight.shape
        require(inputs == self.data.shape[1], f"weights have {inputs} inputs, operand {self.data.shape[1]}")
        fits = self.recurrent.shape == (hidden, hidden) and self.bias.shape == (hidden,)
        require(fits, f"recurrence {self.recurrent.shape} and bias {self.bias.shape} of {hidden} units")

    def run(self, data: Array) -> Array:
        """Step through the sequence."""
        hidden = self.weight.shape[0]
        drive = kernels.dense(data.reshape(prod(data.shape[:2]), -1), self.weight.array())
        drive = drive.reshape(*data.shape[:2], hidden) + self.bias.array().astype(data.dtype, copy=False)
        rows: Array = np.zeros_like(drive)
        state: Array = np.zeros((len(data), hidden), data.dtype)
        steps = range(data.shape[1])
        for t in reversed(steps) if self.reverse else steps:
            total = drive[:, t] + kernels.dense(state, self.recurrent.array())
            state = np.maximum(total, 0) if self.fn == "relu" else np.tanh(total)
            rows[:, t] = state
        return rows
