"""Row formats: the synapses of one population-table entry as words of SRAM (formats: `layout`, region rows).

What a projection of a part becomes: pick one of `DenseRows`, `SparseRows`, `ConvRows`, put it into an `Entry`.
Sources are numbered as the keys count, targets as the neurons of the PE do.
"""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nmc.ir.dataclass import dataclass
from nmc.ir.diagnostics import fail
from nmc.ir.op import Span
from nmc.targets.spinnaker2.layout import MAX_DELAY, MAX_TARGETS, MAX_WEIGHT, Box, Format

Array = NDArray[Any]
Ints = tuple[int, ...]
_ROW = Span(0, 1)


@dataclass(frozen=True, eq=False)
class DenseRows:
    """``dense8``: a weight for every pair.

    Parameters
    ----------
    weights : (sources, targets) int array
        -128..127.
    delay : int
        1..8 ticks.
    type : int
        Synapse type.
    target : int
        First target.
    """

    format: ClassVar[Format] = "dense8"
    weights: Array
    delay: int = 1
    type: int = 0
    target: int = 0

    def __post_init__(self) -> None:
        _check_delay(self.delay)
        _check_range("dense8", self.weights, -128, 127)

    @property
    def sources(self) -> int:
        """Rows."""
        return int(self.weights.shape[0])

    @property
    def longest(self) -> int:
        """Longest delay in ticks."""
        return self.delay

    @property
    def stride(self) -> int:
        """Bytes of a row: whole words."""
        return -(-int(self.weights.shape[1]) // 4) * 4

    def row_bytes(self) -> int:
        """Bytes in the region rows."""
        return self.sources * self.stride

    def encode(self) -> NDArray[np.uint8]:
        """The bytes of all rows."""
        rows = np.zeros((self.sources, self.stride), np.int8)
        rows[:, : self.weights.shape[1]] = self.weights
        return rows.view(np.uint8).reshape(-1)


@dataclass(frozen=True, eq=False)
class SparseRows:
    """``sparse16`` and ``sparse32``: synapses one by one, in any order.

    Parameters
    ----------
    format : {"sparse16", "sparse32"}
    sources : int
        Number of sources (rows).
    source, target, weight : (n,) int arrays
        ``sparse16``: -15..15 with one synapse type, 0..15 with two; ``sparse32``: int16.
    delay : (n,) int array or int
        1..8 ticks.
    type : (n,) int array or int
        Synapse type.
    types : int
        Synapse types of the PE.
    """

    format: Literal["sparse16", "sparse32"]
    sources: int
    source: Array
    target: Array
    weight: Array
    delay: Array | int = 1
    type: Array | int = 0
    types: int = 1

    def __post_init__(self) -> None:
        _check_delay(self.delay)
        bound = MAX_WEIGHT[self.format]
        _check_range(
            self.format, self.weight, 0 if self.format == "sparse16" and self.types > 1 else -bound, bound
        )
        _check_range(f"target of {self.format}", self.target, 0, MAX_TARGETS[self.format] - 1)
        _check_range(f"source of {self.format}", self.source, 0, self.sources - 1)
        _check_range("synapse type", np.asarray(self.type), 0, min(self.types, 2) - 1)

    @property
    def longest(self) -> int:
        """Longest delay in ticks."""
        return int(np.max(self.delay, initial=1))

    def row_bytes(self) -> int:
        """Bytes in the region rows: whole words."""
        return 4 * self.source.size if self.format == "sparse32" else (self.source.size + 1) // 2 * 4

    def index(self) -> NDArray[np.uint16]:
        """Number of the element with which each row starts, and with which the last ends.

        Raises
        ------
        NmcError
            E0902 for more elements than halfwords can count.
        """
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.source, minlength=self.sources))])
        if starts[-1] > 0xFFFF:
            raise fail("E0902", f"{starts[-1]:,} synapses in {self.format} rows; an entry can index 65,535")
        return starts.astype(np.uint16)

    def encode(self) -> NDArray[np.uint8]:
        """The bytes of all rows; synapses of a row are ordered by delay, type and target."""
        delay, kind = (
            np.broadcast_to(np.asarray(item), self.source.shape) for item in (self.delay, self.type)
        )
        order = np.lexsort((self.target, kind, delay, self.source))
        target, weight = self.target[order].astype(np.int64), self.weight[order].astype(np.int64)
        late, kind = delay[order].astype(np.int64) - 1, kind[order]
        per_word = 2 if self.format == "sparse16" else 1
        words = np.zeros(self.row_bytes() // 4 * per_word, np.uint32 if per_word == 1 else np.uint16)
        if self.format == "sparse32":
            words[:] = (weight & 0xFFFF) << 16 | late << 13 | kind.astype(np.int64) << 12 | target
        else:
            bit = (weight < 0) if self.types == 1 else kind != 0
            words[: target.size] = np.abs(weight) << 12 | late << 9 | bit.astype(np.int64) << 8 | target
        return words.view(np.uint8)


@dataclass(frozen=True, eq=False)
class ConvRows:
    """``conv``: one shared kernel from a box of a (C, [H,] W) population to a box of another.

    Parameters
    ----------
    weight : (C_out, C_in / groups, [K_y,] K_x) int array
        The whole projection's kernel, not flipped, -128..127.
    stride, dilation : tuple of int
    pad : tuple of int
        All befores, then all afters.
    groups : int
    source, target : tuple of Span
        The boxes.
    delay, type : int
        1..8 ticks; synapse type.
    """

    format: ClassVar[Format] = "conv"
    weight: Array
    stride: Ints
    pad: Ints
    dilation: Ints
    groups: int
    source: Box
    target: Box
    delay: int = 1
    type: int = 0

    def __post_init__(self) -> None:
        _check_delay(self.delay)
        _check_range("conv", self.weight, -128, 127)

    @property
    def sources(self) -> int:
        """Neurons of the source box."""
        return prod(len(span) for span in self.source)

    @property
    def longest(self) -> int:
        """Longest delay in ticks."""
        return self.delay

    def _groups(self) -> tuple[int, int]:
        return int(self.weight.shape[1]), int(self.weight.shape[0]) // self.groups

    def _reach(self) -> tuple[Array, Array]:
        """First and last+1 target channel that each channel of the source box reaches in the target box."""
        inner, outer = self._groups()
        group = np.arange(self.source[0].start, self.source[0].stop) // inner
        low = np.maximum(group * outer, self.target[0].start)
        return low, np.maximum(np.minimum((group + 1) * outer, self.target[0].stop), low)

    @property
    def widths(self) -> NDArray[np.int64]:
        """Targets of a kernel position, by channel of the source box."""
        low, high = self._reach()
        return np.asarray(high - low, np.int64)

    @property
    def kernel_stride(self) -> int:
        """Bytes of one kernel position: whole words."""
        return max(-(-int(self.widths.max()) // 4) * 4, 4)

    def row_bytes(self) -> int:
        """Bytes in the region rows."""
        return len(self.source[0]) * prod(self.weight.shape[2:]) * self.kernel_stride

    def encode(self) -> NDArray[np.uint8]:
        """The kernel as [channel of the source box][ky][kx][target channel]."""
        low, high = self._reach()
        kernel = np.zeros((len(low), prod(self.weight.shape[2:]), self.kernel_stride), np.int8)
        flat = self.weight.reshape(*self.weight.shape[:2], -1)
        for c, (first, last) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
            inside = (self.source[0].start + c) % self.weight.shape[1]
            kernel[c, :, : last - first] = flat[first:last, inside].T
        return kernel.view(np.uint8).reshape(-1)

    def geometry(self) -> dict[str, int]:
        """The record of region geometry."""
        flat = len(self.source) == 2  # one axis is two with a single row
        sy, sx = (_ROW, self.source[1]) if flat else self.source[1:]
        ty, tx = (_ROW, self.target[1]) if flat else self.target[1:]
        one, zero = ((1,), (0,)) if flat else ((), ())
        (ky, kx), (stride_y, stride_x) = one + self.weight.shape[2:], one + self.stride
        (pad_y, pad_x), (dilation_y, dilation_x) = (zero + self.pad[: len(self.stride)], one + self.dilation)
        inner, outer = self._groups()
        return {
            "channels": len(self.source[0]), "width": len(sx), "c0": self.source[0].start, "y0": sy.start,
            "x0": sx.start, "kernel_y": ky, "kernel_x": kx, "stride_y": stride_y, "stride_x": stride_x,
            "pad_y": pad_y, "pad_x": pad_x, "dilation_y": dilation_y, "dilation_x": dilation_x,
            "ty0": ty.start, "ty1": ty.stop, "tx0": tx.start, "tx1": tx.stop, "tc0": self.target[0].start,
            "tc1": self.target[0].stop, "group_in": inner, "group_out": outer, "kernel_stride": self.kernel_stride,
        }  # fmt: skip


Rows = DenseRows | SparseRows | ConvRows


@dataclass(frozen=True, eq=False)
class Entry:
    """An entry of the population table: packets with key & mask == `key` have source (key & ~mask) - `first`.

    `gain` (int32) times the payload multiplies the weights.
    """

    key: int
    mask: int
    rows: Rows
    first: int = 0
    gain: int = 1


def _check_delay(delay: Array | int) -> None:
    found = np.asarray(delay)
    if found.size and (found.min() < 1 or found.max() > MAX_DELAY):
        raise fail("E0901", f"delays {found.min()}..{found.max()} ticks; SpiNNaker2 rows hold 1..{MAX_DELAY}")


def _check_range(what: str, values: Array, low: int, high: int) -> None:
    if values.size and (int(values.min()) < low or int(values.max()) > high):
        raise fail("E0901", f"{what}: {values.min()}..{values.max()} is outside {low}..{high}")
