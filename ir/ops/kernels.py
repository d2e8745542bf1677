"""Linear maps on batches of arrays, shared by the ops of every level.

All take and give arrays with a leading batch axis and compute in the dtype of their input. Convolution is
correlation, as in ONNX and PyTorch: the kernel is not flipped.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.ir.op import VerifyError, require

Array = NDArray[Any]
Ints = tuple[int, ...]


def conv_shape(source: Ints, weight: Ints, stride: Ints, pad: Ints, dilation: Ints, groups: int) -> Ints:
    """Shape (C_out, *spatial) of a convolution's result.

    Parameters
    ----------
    source : tuple of int
        (C_in, *spatial).
    weight : tuple of int
        (C_out, C_in / groups, *kernel).
    stride, dilation : tuple of int
        One entry a spatial axis.
    pad : tuple of int
        Zeros before and after each axis: (before_0, ..., after_0, ...), as ONNX has them; may be negative.
    groups : int
        Number of channel groups.

    Raises
    ------
    VerifyError
        When they do not fit together.
    """
    spatial = len(source) - 1
    require(spatial >= 1, f"a convolution needs channels and space, not a value of rank {len(source)}")
    require(len(weight) == spatial + 2, f"kernel of rank {len(weight)} over {spatial} spatial axes")
    require(len(stride) == spatial == len(dilation), f"stride and dilation need {spatial} entries")
    require(len(pad) == 2 * spatial, f"pad needs {2 * spatial} entries (all befores, then all afters)")
    require(
        min(stride) > 0 and min(dilation) > 0 and groups > 0, "stride, dilation and groups must be positive"
    )
    require(weight[0] % groups == 0, f"{weight[0]} output channels do not divide into {groups} groups")
    have = weight[1] * groups
    require(have == source[0], f"kernel has {have} input channels, operand has {source[0]}")
    return (weight[0], *window_shape(source[1:], weight[2:], stride, pad, dilation))


def window_shape(space: Ints, kernel: Ints, stride: Ints, pad: Ints, dilation: Ints) -> Ints:
    """Extents after sliding a window over each axis.

    Raises
    ------
    VerifyError
        When the window is larger than the padded operand.
    """
    half = len(space)
    sizes = []
    for axis, extent in enumerate(space):
        padded = padded_extent(extent, pad[axis], pad[half + axis])
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        require(reach >= 1 and padded >= reach, f"window of {reach} over {padded} elements on axis {axis}")
        sizes.append((padded - reach) // stride[axis] + 1)
    return tuple(sizes)


def padded_extent(extent: int, before: int, after: int) -> int:
    """Extent after padding (cropping, where negative).

    Raises
    ------
    VerifyError
        When more is cropped than there is.
    """
    require(
        extent + min(before, 0) + min(after, 0) >= 0,
        f"pad {before}, {after} crops more than {extent} elements",
    )
    return extent + before + after


def pad_array(data: Array, pad: Ints, value: float = 0) -> Array:
    """Pad (or crop, where negative) the last ``len(pad) / 2`` axes of a batch."""
    half = len(pad) // 2
    lead = data.ndim - half
    crop = [slice(None)] * lead + [
        slice(max(-pad[axis], 0), data.shape[lead + axis] - max(-pad[half + axis], 0)) for axis in range(half)
    ]
    widths = [(0, 0)] * lead + [(max(pad[axis], 0), max(pad[half + axis], 0)) for axis in range(half)]
    data = data[tuple(crop)]
    return np.pad(data, widths, constant_values=value) if any(map(any, widths)) else data


def windows(data: Array, kernel: Ints, stride: Ints, dilation: Ints) -> Array:
    """View (B, C, *out, *kernel) of all windows of a padded (B, C, *space) batch."""
    space = len(kernel)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(data, reach, axis=tuple(range(2, 2 + space)))
    steps = tuple(slice(None, None, s) for s in stride) + tuple(slice(None, None, d) for d in dilation)
    return view[(slice(None), slice(None), *steps)]


def conv(data: Array, weight: Array, stride: Ints, pad: Ints, dilation: Ints, groups: int) -> Array:
    """Convolve a batch (B, C_in, *space) with (C_out, C_in / groups, *kernel); see `conv_shape`.

    Space stays innermost, so that windows are copied in rows and the product is in its final order; each sample is a
    product of its own, so that rounding does not depend on the batch.
    """
    space, kernel = weight.ndim - 2, weight.shape[2:]
    view = windows(pad_array(data, pad), kernel, stride, dilation)
    batch, out = data.shape[0], view.shape[2 : 2 + space]
    order = (0, 1, *range(2 + space, 2 + 2 * space), *range(2, 2 + space))
    depth = weight.shape[1] * prod(kernel)
    columns = view.transpose(order).reshape(batch, groups, depth, prod(out))
    matrix = weight.reshape(groups, weight.shape[0] // groups, depth).astype(data.dtype, copy=False)
    return np.asarray(np.matmul(matrix, columns).reshape(batch, weight.shape[0], *out))


def conv_whole(
    data: Array, weight: Array, stride: Ints, pad: Ints, dilation: Ints, groups: int, kind: Any
) -> Array:
    """Convolve whole numbers (B, C_in, *space) in the floating type `kind`, which holds every partial sum exactly.

    With exact sums their order is free: the batch lies innermost in memory (see `batch_inner`), windows are copied
    along the last axis only, and a row of results is one product with a matrix whose rows overlap in memory.
    """
    space = weight.ndim - 2
    if space > 2 or groups > 1 or min(pad) < 0 or (space == 2 and dilation[0] > 1):
        return conv(data.astype(kind, copy=False), weight, stride, pad, dilation, groups)
    if space == 1:
        wide = conv_whole(
            data[:, :, None],
            weight[:, :, None],
            (1, *stride),
            (0, pad[0], 0, pad[1]),
            (1, *dilation),
            1,
            kind,
        )
        return wide[:, :, 0]
    _, rows, wide_out = conv_shape(data.shape[1:], weight.shape, stride, pad, dilation, 1)
    lines = _lines(data, weight.shape[2:], (rows, wide_out), stride, pad, dilation[1], kind)
    depth, width = prod(weight.shape[1:]), wide_out * len(data)
    windows = np.lib.stride_tricks.as_strided(
        lines,
        (rows, depth, width),
        (stride[0] * lines.strides[0], lines.strides[2], lines.itemsize),
        writeable=False,
    )
    matrix = weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], depth).astype(kind)
    found = np.matmul(matrix, windows).reshape(rows, weight.shape[0], wide_out, len(data))
    return np.asarray(found.transpose(3, 1, 0, 2))


def _lines(data: Array, kernel: Ints, out: Ints, stride: Ints, pad: Ints, dilation: int, kind: Any) -> Array:
    """Rows (H, taps, C, W_out, B) of a padded batch, what each tap of a row of the kernel meets side by side."""
    batch, channels, height, width = data.shape
    top, left = pad[0], pad[1]
    rows = stride[0] * (out[0] - 1) + kernel[0]
    held = max(0, min(height, rows - top))
    lines = np.empty((rows, kernel[1], channels, out[1], batch), kind)
    lines[:top], lines[top + held :] = 0, 0
    source = data.transpose(2, 1, 3, 0)[:held]
    for tap in range(kernel[1]):
        ahead = tap * dilation - left  # column that the first window meets
        first = min(out[1], max(0, -(ahead // stride[1])))
        last = max(first, min(out[1], (width - 1 - ahead) // stride[1] + 1))
        part, begin = lines[top : top + held, tap], first * stride[1] + ahead
        part[:, :, :first], part[:, :, last:] = 0, 0
        part[:, :, first:last] = source[:, :, begin : begin + (last - first) * stride[1] : stride[1]]
    return lines


def batch_inner(shape: Ints, kind: Any) -> Array:
    """An array of a batch (B, C, H, W), not filled, whose memory holds rows (H, C, W, B); others are as usual.

    Convolutions of whole numbers take and give that: everything between them then runs through memory in order.
    """
    if len(shape) != 4:
        return np.empty(shape, kind)
    batch, channels, height, width = shape
    return np.empty((height, channels, width, batch), kind).transpose(3, 1, 0, 2)


def dense(data: Array, weight: Array) -> Array:
    """Multiply a batch (B, n) with weights (m, n): (B, m)."""
    product: Array = data.reshape(data.shape[0], -1) @ weight.T.astype(data.dtype, copy=False)
    return product


def reshape_target(size: int, shape: Ints) -> Ints:
    """Check that `shape` holds `size` elements.

    Raises
    ------
    VerifyError
        When it does not.
    """
    if prod(shape) != size:
        raise VerifyError(f"{size} elements do not reshape to {'x'.join(map(str, shape))}")
    return shape
