"""Public instance formats: QAPLIB ``.dat`` for placement, MiniMalloc ``.csv`` for memory allocation."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmc.ir.diagnostics import fail
from nmc.passes.map.memory import Buffer
from nmc.passes.map.quadratic import IntArray, mesh_distance

_MAX_BYTES = 64 << 20
_MAX_FACILITIES = 2_000
_MAX_VALUE = 1 << 30


@dataclass(frozen=True, eq=False)
class Assignment:
    """A quadratic assignment problem: minimise the sum of flow[i, j] * distance[site_i, site_j].

    Attributes
    ----------
    flow, distance : IntArray
        (n, n) each; `distance` is symmetric with zero diagonal.
    grid : (int, int) or None
        Columns and rows, if the distances are those of a grid, numbered column by column.
    """

    flow: IntArray
    distance: IntArray
    grid: tuple[int, int] | None


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise fail("E0715", f"{path} is larger than {_MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise fail("E0715", f"{path} cannot be read: {error.strerror}") from error


def read_qaplib(path: Path | str) -> Assignment:
    """Read an instance of QAPLIB: the size, then two matrices.

    Which of the two holds distances is not part of the format. The one that is a grid is taken, else the first that
    is symmetric with zero diagonal; the other is the flow. An instance with two asymmetric matrices is refused.

    Raises
    ------
    NmcError
        E0715 for a file that is none, is too large, or has no symmetric matrix.
    """
    path = Path(path)
    data = _bytes(path)
    try:
        values = np.array([float(word) for word in data.split()])
    except ValueError as error:
        raise fail("E0715", f"{path}: {str(error)[:80]}") from error
    if not len(values) or not 1 <= values[0] <= _MAX_FACILITIES or values[0] != round(values[0]):
        raise fail("E0715", f"{path}: a QAPLIB file begins with its size, 1..{_MAX_FACILITIES}")
    n = int(values[0])
    if len(values) != 1 + 2 * n * n:
        raise fail("E0715", f"{path}: size {n} needs {2 * n * n:,} numbers, not {len(values) - 1:,}")
    whole = np.rint(values)
    if (
        not np.isfinite(values).all()
        or (whole != values).any()
        or whole.min() < 0
        or whole.max() > _MAX_VALUE
    ):
        raise fail("E0715", f"{path}: values must be integers 0..2^30")
    first, second = whole[1:].astype(np.int64).reshape(2, n, n)
    for distance, flow in ((first, second), (second, first)):
        grid = grid_of(distance)
        if grid:
            return Assignment(flow, distance, grid)
    for distance, flow in ((first, second), (second, first)):
        if np.array_equal(distance, distance.T) and not distance.diagonal().any():
            return Assignment(flow, distance, None)
    raise fail("E0715", f"{path}: neither matrix is symmetric with zero diagonal")


def grid_of(distance: IntArray) -> tuple[int, int] | None:
    """Columns and rows of the whole grid, numbered column by column, whose Manhattan distances these are."""
    n = len(distance)
    for height in range(1, n + 1):
        if n % height or distance[0, height - 1] != height - 1:
            continue
        if np.array_equal(distance, mesh_distance(n // height, height, 1)):
            return n // height, height
    return None


def read_minimalloc(path: Path | str) -> tuple[Buffer, ...]:
    """Read buffers in MiniMalloc's CSV format: columns id, lower (or start), upper (or end), size, maybe alignment.

    ``upper`` is excluded; a column ``end`` without ``upper`` is included, as in the format's older form.

    Raises
    ------
    NmcError
        E0715 for a file that is none or is too large.
    """
    path = Path(path)
    try:
        rows = list(csv.DictReader(io.StringIO(_bytes(path).decode("utf-8"), newline="")))
        return tuple(_buffer(row) for row in rows)
    except (UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise fail(
            "E0715",
            f"{path} is no MiniMalloc file: {str(error)[:80]}",
            hint="the first line is id,lower,upper,size, and all values but id are integers",
        ) from error


def _buffer(row: dict[str, str]) -> Buffer:
    begin = int(row["lower"] if "lower" in row else row["start"])
    end = int(row["upper"]) if "upper" in row else int(row["end"]) + 1
    align = int(row.get("alignment") or 1)
    if not (begin < end and 0 < int(row["size"]) < 1 << 48 and 0 < align < 1 << 48):
        raise ValueError(f"buffer {row['id']} has no life, size or alignment")
    return Buffer(row["id"], begin, end, int(row["size"]), align)
