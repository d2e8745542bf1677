"""Level ``ann``: a trained network as tensor ops.

Shapes leave out the batch axis; `run` takes and gives arrays with it. Channels come first, as in ONNX.
"""

from __future__ import annotations

import numpy as np

from nmc.ir.const import Const
from nmc.ir.dataclass import dataclass
from nmc.ir.op import Array, Op, Value, broadcasts, require
from nmc.ir.ops import kernels
from nmc.ir.types import Type

Ints = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Input(Op, name="ann.input"):
    """A network input.

    %x = ann.input() {shape=[1, 28, 28]} : f32<1x28x28>

    `low` and `high` bound its values; equal bounds mean that they are not known yet (``calibrate`` sets
    them).
    """

    shape: Ints
    low: float = 0.0
    high: float = 0.0

    def infer(self) -> Type:
        """Floats of the given shape."""
        return Type("f32", self.shape)


@dataclass(frozen=True, kw_only=True)
class Output(Op, name="ann.output"):
    """A network output, named by its operand.

    ann.output(%logits)

    `reach` is the largest absolute value that sample data gave, 0 where that is not known (``calibrate`` sets it).
    """

    data: Value
    reach: float = 0.0

    def run(self, data: Array) -> Array:
        """Give the operand."""
        return data


@dataclass(frozen=True, kw_only=True)
class Conv(Op, name="ann.conv"):
    """Convolution over one or two spatial axes (correlation, as in ONNX).

    %1 = ann.conv(%x, @w, @b) {stride=[2, 2], pad=[1, 1, 1, 1], dilation=[1, 1]} : f32<8x14x14>
    """

    data: Value
    weight: Const
    bias: Const | None = None
    stride: Ints
    pad: Ints
    dilation: Ints
    groups: int = 1

    def infer(self) -> Type:
        """Channels of the kernel, extents of the windows."""
        shape = kernels.conv_shape(
            self.data.shape, self.weight.shape, self.stride, self.pad, self.dilation, self.groups
        )
        return Type("f32", shape)

    def verify(self) -> None:
        """The bias has one element a channel."""
        if self.bias is not None:
            require(self.bias.shape == self.weight.shape[:1], f"bias of shape {self.bias.shape}")

    def run(self, data: Array) -> Array:
        """Convolve and add the bias."""
        weight = self.weight.array()
        result = kernels.conv(data, weight, self.stride, self.pad, self.dilation, self.groups)
        return result if self.bias is None else result + _per_channel(self.bias.array(), result)


@dataclass(frozen=True, kw_only=True)
class Dense(Op, name="ann.dense"):
    """Matrix product with weights (outputs, inputs) plus bias.

    %1 = ann.dense(%x, @w, @b) : f32<10>
    """

    data: Value
    weight: Const
    bias: Const | None = None

    def infer(self) -> Type:
        """One element an output."""
        require(len(self.weight.shape) == 2, f"weights of rank {len(self.weight.shape)}")
        require(len(self.data.shape) == 1, f"operand of rank {len(self.data.shape)}; flatten it first")
        have, want = self.data.shape[0], self.weight.shape[1]
        require(have == want, f"weights have {want} inputs, operand has {have}")
        return Type("f32", self.weight.shape[:1])

    def verify(self) -> None:
        """The bias has one element an output."""
        if self.bias is not None:
            require(self.bias.shape == self.weight.shape[:1], f"bias of shape {self.bias.shape}")

    def run(self, data: Array) -> Array:
        """Multiply and add the bias."""
        result = kernels.dense(data, self.weight.array())
        return result if self.bias is None else result + self.bias.array().astype(result.dtype, copy=False)


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Op, name="ann.batchnorm"):
    """Normalise each channel with fixed statistics: scale * (x - mean) / sqrt(var + eps) + bias.

    %2 = ann.batchnorm(%1, @scale, @bias, @mean, @var) : f32<8x14x14>
    """

    data: Value
    scale: Const
    bias: Const
    mean: Const
    var: Const
    eps: float = 1e-5

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type

    def verify(self) -> None:
        """All statistics have one element a channel."""
        channels = self.data.shape[:1]
        for const in self.consts:
            require(
                const.shape == channels, f"@{const.name} has shape {const.shape}, operand {channels} channels"
            )

    def factors(self) -> tuple[Array, Array]:
        """Give the equivalent per-channel (scale, offset), float64."""
        scale = self.scale.array() / np.sqrt(self.var.array().astype(np.float64) + self.eps)
        return scale, self.bias.array() - self.mean.array() * scale

    def run(self, data: Array) -> Array:
        """Scale and shift."""
        scale, offset = self.factors()
        return data * _per_channel(scale, data) + _per_channel(offset, data)


@dataclass(frozen=True, kw_only=True)
class Affine(Op, name="ann.affine"):
    """Element-wise scale * x + offset with constants that broadcast to the operand.

    %2 = ann.affine(%1, @scale, @offset) : f32<8x14x14>
    """

    data: Value
    scale: Const
    offset: Const

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type

    def verify(self) -> None:
        """Both constants broadcast to the operand's shape."""
        for const in self.consts:
            fits = broadcasts(const.shape, self.data.shape)
            require(fits, f"@{const.name} of shape {const.shape} does not broadcast to {self.data.shape}")

    def run(self, data: Array) -> Array:
        """Scale and shift."""
        result: Array = data * self.scale.array().astype(data.dtype) + self.offset.array().astype(data.dtype)
        return result


@dataclass(frozen=True, kw_only=True)
class Relu(Op, name="ann.relu"):
    """max(x, 0), cut at `limit` where one is given; `threshold` holds what a rate of one stands for.

    %2 = ann.relu(%1) : f32<8x14x14>

    The threshold (shape (C, 1, 1) or broadcastable) is set by ``calibrate`` and does not act on the result, unless
    the network was trained with quantised activations: then `levels` is their number L, and the law is
    clip(floor(x * L / threshold + 1/2) / L, 0, 1) * threshold (QCFS, Bu et al. 2022, equation 15).
    """

    data: Value
    threshold: Const | None = None
    limit: float = float("inf")
    levels: int = 0

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type

    def verify(self) -> None:
        """A limit is positive; levels are those of a threshold."""
        require(self.limit > 0, f"limit {self.limit} is not positive")
        require(0 <= self.levels < 1 << 24, f"{self.levels} levels; 0 to 16,777,215 are possible")
        if self.levels:
            require(self.threshold is not None, f"{self.levels} levels of no threshold")
            shape = self.threshold.shape if self.threshold is not None else ()
            fits = broadcasts(shape, self.data.shape)
            require(fits, f"threshold of shape {shape} does not broadcast to {self.data.shape}")

    def run(self, data: Array) -> Array:
        """Cut off below zero and above the limit, or round down to a level."""
        if self.levels and self.threshold is not None:
            step = self.threshold.array().astype(np.float64) / self.levels
            count = np.floor(data * (1.0 / step).astype(data.dtype) + data.dtype.type(0.5))
            data = np.clip(count, 0, self.levels) * step.astype(data.dtype)
        return np.clip(data, 0, self.limit).astype(data.dtype, copy=False)


@dataclass(frozen=True, kw_only=True)
class Clip(Op, name="ann.clip"):
    """Cut to [low, high] where `low` is not zero (else it is a relu with a limit).

    %2 = ann.clip(%1) {low=-1.0, high=1.0} : f32<10>
    """

    data: Value
    low: float = float("-inf")
    high: float = float("inf")

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type

    def verify(self) -> None:
        """The bounds are in order."""
        require(self.low <= self.high, f"low {self.low} is above high {self.high}")

    def run(self, data: Array) -> Array:
        """Cut to the range."""
        return np.clip(data, self.low, self.high).astype(data.dtype, copy=False)


@dataclass(frozen=True, kw_only=True)
class _Pool(Op):
    """Common to the poolings: a window that slides over the spatial axes."""

    data: Value
    kernel: Ints
    stride: Ints
    pad: Ints
    dilation: Ints

    def infer(self) -> Type:
        """Channels stay, extents are those of the windows."""
        shape = self.data.shape
        half = len(shape) - 1
        require(half >= 1, "a pooling needs channels and space")
        require(len(self.kernel) == len(self.stride) == len(self.dilation) == half, f"{half} spatial axes")
        require(len(self.pad) == 2 * half, f"pad needs {2 * half} entries")
        require(
            min(self.kernel) > 0 and min(self.stride) > 0 and min(self.dilation) > 0, "sizes must be positive"
        )
        return Type(
            "f32",
            (shape[0], *kernels.window_shape(shape[1:], self.kernel, self.stride, self.pad, self.dilation)),
        )

    def _windows(self, data: Array, fill: float) -> Array:
        padded = kernels.pad_array(data, self.pad, fill)
        return kernels.windows(padded, self.kernel, self.stride, self.dilation)

    def _axes(self) -> Ints:
        return tuple(range(-len(self.kernel), 0))


@dataclass(frozen=True, kw_only=True)
class AvgPool(_Pool, name="ann.avgpool"):
    """Mean over a sliding window; padding counts as zeros only when `count_pad`.

    %3 = ann.avgpool(%2) {kernel=[2, 2], stride=[2, 2], pad=[0, 0, 0, 0], dilation=[1, 1]} : f32<8x14x14>

    The threshold is as that of a relu, for the case that a population must stand here.
    """

    threshold: Const | None = None
    count_pad: bool = False

    def divisors(self) -> Array:
        """Number of elements each window counts, shape (*out)."""
        ones = np.ones((1, 1, *self.data.shape[1:]), np.float32)
        inside: Array = self._windows(ones, 1.0 if self.count_pad else 0.0).sum(axis=self._axes())[0, 0]
        return inside

    def run(self, data: Array) -> Array:
        """Sum each window and divide."""
        total: Array = self._windows(data, 0).sum(axis=self._axes())
        mean: Array = total / np.maximum(self.divisors(), 1).astype(data.dtype)
        return mean


@dataclass(frozen=True, kw_only=True)
class SumPool(_Pool, name="ann.sum_pool"):
    """Sum over a sliding window; padding counts as zeros (``sum-pool`` makes it of an average).

    %3 = ann.sum_pool(%2) {kernel=[2, 2], stride=[2, 2], pad=[0, 0, 0, 0], dilation=[1, 1]} : f32<8x14x14>
    """

    def run(self, data: Array) -> Array:
        """Sum each window."""
        total: Array = self._windows(data, 0).sum(axis=self._axes())
        return total


@dataclass(frozen=True, kw_only=True)
class MaxPool(_Pool, name="ann.maxpool"):
    """Largest element of a sliding window; padding never wins.

    %3 = ann.maxpool(%2) {kernel=[2, 2], stride=[2, 2], pad=[0, 0, 0, 0], dilation=[1, 1]} : f32<8x14x14>
    """

    def run(self, data: Array) -> Array:
        """Take the maximum of each window."""
        result: Array = self._windows(data, float("-inf")).max(axis=self._axes())
        return result


@dataclass(frozen=True, kw_only=True)
class Lrn(Op, name="ann.lrn"):
    """Local response normalisation across channels (Krizhevsky 2012, as ONNX defines LRN).

    %3 = ann.lrn(%2) {size=5} : f32<96x55x55>
    """

    data: Value
    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self) -> Type:
        """Type of the operand."""
        return self.data.type

    def verify(self) -> None:
        """The window is positive."""
        require(self.size > 0, f"size {self.size} is not positive")

    def run(self, data: Array) -> Array:
        """Divide by the local energy."""
        before = (self.size - 1) // 2
        squares = np.pad(data * data, [(0, 0), (before, self.size - 1 - before)] + [(0, 0)] * (data.ndim - 2))
        energy = np.lib.stride_tricks.sliding_window_view(squares, self.size, axis=1).sum(axis=-1)
        result: Array = data / (self.bias + self.alpha / self.size * energy) ** self.beta
        return result.astype(data.dtype, copy=False)


@dataclass(frozen=True, kw_only=True)
class Add(Op, name="ann.add"):
    """Sum of values of one shape (residual connections).

    %4 = ann.add(%2, %3) : f32<8x14x14>
    """

    data: tuple[Value, ...]

    def infer(self) -> Type:
        """Type of the operands."""
        require(len(self.data) >= 1, "a sum needs operands")
        shapes = {value.shape for value in self.data}
        require(len(shapes) == 1, f"operands differ in shape: {sorted(shapes)}")
        return self.data[0].type

    def run(self, *data: Array) -> Array:
        """Add all operands."""
        total = data[0]
        for term in data[1:]:
            total = total + term
        return total


@dataclass(frozen=True, kw_only=True)
class Concat(Op, name="ann.concat"):
    """Operands one after another along an axis.

    %5 = ann.concat(%3, %4) {axis=0} : f32<16x14x14>
    """

    data: tuple[Value, ...]
    axis: int = 0

    def infer(self) -> Type:
        """Sum of the extents along the axis."""
        require(len(self.data) >= 1, "a concatenation needs operands")
        shapes = [value.shape for value in self.data]
        rank = len(shapes[0])
        require(0 <= self.axis < rank, f"axis {self.axis} of a value of rank {rank}")
        rest = {shape[: self.axis] + shape[self.axis + 1 :] for shape in shapes}
        require(
            len(rest) == 1 and all(len(shape) == rank for shape in shapes), f"operands do not match: {shapes}"
        )
        total = sum(shape[self.axis] for shape in shapes)
        return Type("f32", (*shapes[0][: self.axis], total, *shapes[0][self.axis + 1 :]))

    def run(self, *data: Array) -> Array:
        """Concatenate."""
        return np.concatenate(data, axis=self.axis + 1)


@dataclass(frozen=True, kw_only=True)
class Reshape(Op, name="ann.reshape"):
    """The same elements in another shape (row-major); an index map that costs no hardware.

    %6 = ann.reshape(%5) {shape=[3136]} : f32<3136>
    """

    data: Value
    shape: Ints

    def infer(self) -> Type:
        """The given shape."""
        return Type("f32", kernels.reshape_target(self.data.type.size, self.shape))

    def run(self, data: Array) -> Array:
        """Reshape."""
        return data.reshape(data.shape[0], *self.shape)


@dataclass(frozen=True, kw_only=True)
class Transpose(Op, name="ann.transpose"):
    """Axes in another order; an index map that costs no hardware.

    %6 = ann.transpose(%5) {perm=[1, 2, 0]} : f32<14x14x16>
    """

    data: Value
    perm: Ints

    def infer(self) -> Type:
        """The permuted shape."""
        shape = self.data.shape
        require(sorted(self.perm) == list(range(len(shape))), f"{self.perm} is no order of {len(shape)} axes")
        return Type("f32", tuple(shape[axis] for axis in self.perm))

    def run(self, data: Array) -> Array:
        """Transpose behind the batch axis."""
        return data.transpose(0, *(axis + 1 for axis in self.perm))


@dataclass(frozen=True, kw_only=True)
class Pad(Op, name="ann.pad"):
    """A constant border (before of every axis, then after of every axis; negative crops).

    %2 = ann.pad(%1) {pad=[0, 1, 1, 0, 1, 1]} : f32<8x16x16>
    """

    data: Value
    pad: Ints
    value: float = 0.0

    def infer(self) -> Type:
        """Extents grown by the border."""
        rank = len(self.data.shape)
        require(len(self.pad) == 2 * rank, f"pad needs {2 * rank} entries")
        pairs = zip(self.data.shape, self.pad[:rank], self.pad[rank:], strict=True)
        shape = tuple(kernels.padded_extent(*pair) for pair in pairs)
        require(min(shape, default=1) > 0, f"the border leaves {shape}")
        return Type("f32", shape)

    def run(self, data: Array) -> Array:
        """Pad each sample."""
        return kernels.pad_array(data, self.pad, self.value)


def _per_channel(vector: Array, like: Array) -> Array:
    return vector.reshape(-1, *[1] * (like.ndim - 2)).astype(like.dtype, copy=False)
