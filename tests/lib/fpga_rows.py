"""Dense, group-sparse and convolution rows of one core, written by hand as the contract in `shape` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmc.targets.fpga.shape import bits_for
from nmc.targets.fpga.words import Writer

Array = NDArray[Any]


def _axons(writer: Writer, core: int, count: int, **given: Array | int) -> None:
    names = [item.name for item in writer.shape.memories["axons"].fields]
    values = {name: np.broadcast_to(np.asarray(given.get(name, 0), np.int64), count) for name in names}
    writer.memory("axons", values, core=core)


def _matrix(writer: Writer, rows: Mapping[int, Array]) -> Array:
    matrix = np.zeros((max(rows) + 1, writer.shape.neurons), np.int64)
    for axon, row in rows.items():
        matrix[axon] = row
    return matrix


def dense(writer: Writer, core: int, rows: Mapping[int, Array]) -> int:
    """Fill a core with dense rows: weights (neurons,) of some axons, 0 for those between. The rows it takes."""
    shape, matrix = writer.shape, _matrix(writer, rows)
    count = len(matrix)
    writer.memory("weights", {"w": matrix.reshape(-1, shape.lanes)}, core=core)
    zero = np.zeros(1, np.int64)
    entry = {"len": zero + shape.groups - 1, **dict.fromkeys(("nx", "dgx", "dgy", "dwx", "dwy"), zero)}
    built = [item.name for item in shape.memories["geometry"].fields]
    writer.memory("geometry", {name: entry[name] for name in built}, core=core)
    _axons(writer, core, count, base=np.arange(count) * shape.groups, ny=1)
    return count * shape.groups


def sparse(writer: Writer, core: int, rows: Mapping[int, Array]) -> int:
    """Fill a core with group-sparse rows; as `dense`."""
    matrix = _matrix(writer, rows)
    grouped = matrix.reshape(len(matrix), -1, writer.shape.lanes)
    axon, place = np.nonzero(grouped.any(axis=2))
    length = np.bincount(axon, minlength=len(matrix))
    some = (length > 0).astype(np.int64)
    writer.memory("weights", {"w": grouped[axon, place]}, core=core)
    writer.memory("groups", {"group": place}, core=core)
    base = np.where(length > 0, np.cumsum(length) - length, 0)
    _axons(writer, core, len(matrix), base=base, first=np.maximum(length - 1, 0), ny=some, sparse=some)
    return len(place)


@dataclass(frozen=True, eq=False)
class ConvGeometry:
    """A convolution: `kernel` (out, in, K, K) over (in, height, width), the same `stride` and `pad` both ways.

    Input (c, y, x) is axon (c * height + y) * width + x; output (y, x, channel) is neuron (y * W + x) * C + channel, C
    the channels rounded up to whole groups.
    """

    height: int
    width: int
    kernel: Array
    stride: int = 1
    pad: int = 0

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the output."""
        size = self.kernel.shape[2]
        high, wide = (extent + 2 * self.pad - size for extent in (self.height, self.width))
        return high // self.stride + 1, wide // self.stride + 1

    def taps(self, extent: int, result: int) -> tuple[Array, Array, Array]:
        """Of each input along an axis: first output, first tap, how many."""
        at = np.arange(extent) + self.pad
        first = np.maximum(-((self.kernel.shape[2] - 1 - at) // self.stride), 0)
        last = np.minimum(at // self.stride, result - 1)
        return first, at - first * self.stride, np.maximum(last - first + 1, 0)


def conv(writer: Writer, core: int, geometry: ConvGeometry) -> int:
    """Fill a core with one convolution, weights stored once; the rows it takes."""
    shape = writer.shape
    out, depth, size, _ = geometry.kernel.shape
    per = -(-out // shape.lanes)
    padded = np.zeros((depth, size, size, per * shape.lanes), np.int64)
    padded[..., :out] = geometry.kernel.transpose(1, 2, 3, 0)
    oy, ky, ny = geometry.taps(geometry.height, geometry.outputs[0])
    ox, kx, nx = geometry.taps(geometry.width, geometry.outputs[1])
    widths = np.unique(nx[nx > 0])
    c, y, x = (part.reshape(-1) for part in np.indices((depth, geometry.height, geometry.width)))
    live = (ny[y] > 0) & (nx[x] > 0)
    base = np.where(live, ((c * size + ky[y]) * size + kx[x]) * per, 0)
    first = np.where(live, (oy[y] * geometry.outputs[1] + ox[x]) * per, 0)
    geo = np.searchsorted(widths, np.maximum(nx[x], widths[0]))
    _axons(writer, core, len(c), base=base, first=first, ny=np.where(live, ny[y], 0), geo=geo)
    groups, rows = (1 << bits_for(count) for count in (shape.groups, shape.weight_rows))
    step, line, inner = geometry.stride * per, geometry.outputs[1] * per, per - 1
    table = {
        "len": 0 * widths + inner, "nx": widths - 1, "dgx": (0 * widths + per - inner) % groups,
        "dgy": (line - (widths - 1) * per - inner) % groups, "dwx": (0 * widths - step - inner) % rows,
        "dwy": (-step * size + (widths - 1) * step - inner) % rows,
    }  # fmt: skip
    writer.memory("geometry", table, core=core)
    writer.memory("weights", {"w": padded.reshape(-1, shape.lanes)}, core=core)
    return padded.size // shape.lanes
