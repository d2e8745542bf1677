"""Public instance formats: QAPLIB ``.dat`` for placement, MiniMalloc ``.csv`` for memory allocation."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from stat import S_ISREG
from typing import Literal

import numpy as np

from nmc.ir.dataclass import dataclass
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
        found = path.stat()
        if not S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise fail("E0715", f"{path} is no regular file")
        if found.st_size > _MAX_BYTES:
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


#: Names of the columns: those of today, and of older files.
_COLUMNS = {
    "id": "id", "buffer": "id", "buffer_id": "id", "lower": "lower", "start": "lower", "begin": "lower",
    "upper": "upper", "end": "end", "size": "size", "alignment": "alignment", "gaps": "gaps", "offset": "offset",
}  # fmt: skip


def read_minimalloc(
    path: Path | str, end: Literal["auto", "included", "excluded"] = "auto"
) -> tuple[Buffer, ...]:
    """Read buffers in MiniMalloc's CSV format: columns id, lower, upper, size, maybe alignment.

    Also ``buffer`` or ``buffer_id``, ``start`` or ``begin``, and ``end`` are known. ``upper`` is excluded. Of ``end``
    there are both kinds: today's tool takes it as the last moment of a buffer, older files (those of the paper) as the
    first after it. A column ``offset``, as solutions have it, does not matter.

    Parameters
    ----------
    path : Path or str
        The file.
    end : {"auto", "included", "excluded"}
        Whether a moment ``end`` belongs to the buffer. "auto": the reading in which more buffers end at the very
        moment at which another begins; included if both are equally good.

    Raises
    ------
    NmcError
        E0715 for a file that is none, is too large, or has gaps within lives, which are not supported.
    """
    path = Path(path)
    try:
        text = _bytes(path).decode("utf-8-sig")
        lines = [[word.strip() for word in row] for row in csv.reader(io.StringIO(text, newline=""))]
        rows = [row for row in lines if any(row)]
        names = [_COLUMNS.get(name.lower(), name) for name in rows[0]] if rows else []
        missing = [name for name in ("id", "lower", "size") if name not in names]
        missing += ["upper"] if not {"upper", "end"} & set(names) else []
        if missing or len(set(names)) != len(names):
            raise ValueError(f"missing columns: {', '.join(missing)}" if missing else "a column comes twice")
        table = [dict(zip(names, row, strict=True)) for row in rows[1:]]
        return tuple(_buffer(row, _after(table, end)) for row in table)
    except (UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise fail(
            "E0715",
            f"{path} is no MiniMalloc file: {str(error)[:80]}",
            hint="the first line is id,lower,upper,size, and all values but id are integers",
        ) from error


def _after(table: list[dict[str, str]], end: str) -> int:
    """What is added to a column ``end`` to get the first moment after the buffer."""
    if end != "auto" or not table or "end" not in table[0]:
        return int(end != "excluded")
    begins = {int(row["lower"]) for row in table}
    ends = [int(row["end"]) for row in table]
    met = [sum(moment + more in begins for moment in ends) for more in (0, 1)]
    return int(met[1] >= met[0])


def _buffer(row: dict[str, str], after: int) -> Buffer:
    if row.get("gaps"):
        raise ValueError(f"buffer {row['id']} has gaps, which are not supported")
    begin, size = int(row["lower"]), int(row["size"])
    end = int(row["upper"]) if "upper" in row else int(row["end"]) + after
    align = int(row.get("alignment") or 1)
    if not (begin < end and 0 < size < 1 << 48 and 0 < align < 1 << 48):
        raise ValueError(f"buffer {row['id']} has no life, size or alignment")
    return Buffer(row["id"], begin, end, size, align)
