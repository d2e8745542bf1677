"""Plain text tables: columns padded with blanks, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap

from nmc.cli.console import clean

#: Long cells are wrapped: the last column so that lines stay this short, the others at `_COLUMN`.
WIDTH = 110
_COLUMN = 40


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, width: int = WIDTH) -> str:
    """Lay out rows under a heading.

    Parameters
    ----------
    head : sequence of str
        Heading of each column.
    rows : sequence of sequences
        Cells; integers get thousands separators and stand to the right, None is empty.
    width : int
        Longest line; long cells are wrapped.
    """
    right = [_numeric([row[at] for row in rows]) for at in range(len(head))]
    cells = [list(head), *([_shown(item) for item in row] for row in rows)]
    widths = [min(_COLUMN, max(len(row[at]) for row in cells)) for at in range(len(head))]
    if not right[-1]:
        widths[-1] = max(20, width - sum(widths[:-1]) - 2 * (len(head) - 1))
    lines: list[str] = []
    for row in cells:
        parts = [
            wrap(cell, size, break_on_hyphens=False) or [""] for cell, size in zip(row, widths, strict=True)
        ]
        lines += [_line(line, widths, right) for line in zip_longest(*parts, fillvalue="")]
    return "\n".join(lines)


def pairs(rows: Sequence[tuple[str, object]], *, indent: int = 2) -> str:
    """Lay out names and values, one a line."""
    widest = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{' ' * indent}{name:<{widest}}  {_shown(item)}".rstrip() for name, item in rows)


def _numeric(column: Sequence[object]) -> bool:
    """Tell whether a column holds nothing but numbers and blanks."""
    return any(map(_number, column)) and all(item is None or _number(item) for item in column)


def _number(item: object) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)


def _shown(item: object) -> str:
    if item is None:
        return ""
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int):
        return f"{item:,}"
    return f"{item:.4g}" if isinstance(item, float) else clean(str(item))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(size) if flush else cell.ljust(size)
        for cell, size, flush in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(padded).rstrip()
