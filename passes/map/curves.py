"""Orders of the cells of a grid along which parts are laid out to begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nmc.passes.map.sparse import IntArray


def columns(width: int, height: int) -> IntArray:
    """Column by column: the order of the cells' numbers."""
    return np.arange(width * height, dtype=np.int64)


def rows(width: int, height: int) -> IntArray:
    """Row by row."""
    return columns(width, height).reshape(width, height).T.reshape(-1)


def snake(width: int, height: int) -> IntArray:
    """Column by column, every other one backwards."""
    cells = columns(width, height).reshape(width, height).copy()
    cells[1::2] = cells[1::2, ::-1]
    return cells.reshape(-1)


def hilbert(width: int, height: int) -> IntArray:
    """Along Hilbert's curve of the smallest enclosing square of a power of two."""
    x, y = np.divmod(columns(width, height), height)
    return np.argsort(_hilbert_index(x, y, max(width, height)), kind="stable").astype(np.int64)


def _hilbert_index(x: IntArray, y: IntArray, size: int) -> IntArray:
    """Position on the curve of each (x, y)."""
    x, y, index = x.copy(), y.copy(), np.zeros(len(x), np.int64)
    side = 1 << max(size - 1, 0).bit_length()
    half = side // 2
    while half:
        right, up = (x & half) > 0, (y & half) > 0
        index += half * half * ((3 * right) ^ up)
        flip = right & ~up
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(up, x, y), np.where(up, y, x)
        half //= 2
    return index


def rings(width: int, height: int) -> IntArray:
    """From the middle outwards, nearest first (the order of PACMAN's radial placer, in rings)."""
    x, y = np.divmod(columns(width, height), height)
    away = np.abs(2 * x - (width - 1)) + np.abs(2 * y - (height - 1))
    return np.argsort(away, kind="stable").astype(np.int64)


CURVES: Mapping[str, Callable[[int, int], IntArray]] = {
    "columns": columns, "rows": rows, "snake": snake, "hilbert": hilbert,
}  # fmt: skip
