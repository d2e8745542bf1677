"""Plain text tables: columns padded with blanks, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from nmc.cli.console import clean

#: The last column is wrapped so that lines stay this short.
WIDTH = 110


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, width: int = WIDTH) -> str:
    """Lay out rows under a heading.

    Parameters
    ----------
    head : sequence of str
        Heading of each column.
    rows : sequence of sequences
        Cells; integers get thousands separators and stand to the right, None is empty.
    width : int
        Longest line; the last column is wrapped to it.
    """
    cells = [[_shown(item) for item in row] for row in rows]
    right = [
        any(_number(row[at]) for row in rows) and all(row[at] is None or _number(row[at]) for row in rows)
        for at in range(len(head))
    ]
    widths = [max(len(row[at]) for row in [list(head), *cells]) for at in range(len(head))]
    room = max(20, width - sum(widths[:-1]) - 2 * (len(head) - 1))
    lines = [_line(list(head), widths, right)]
    for row in cells:
        parts = wrap(row[-1], room, break_on_hyphens=False) or [""]
        lines.append(_line([*row[:-1], parts[0]], widths, right))
        lines += [_line([""] * (len(head) - 1) + [part], widths, right) for part in parts[1:]]
    return "\n".join(lines)


def pairs(rows: Sequence[tuple[str, object]], *, indent: int = 2) -> str:
    """Lay out names and values, one a line."""
    widest = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{' ' * indent}{name:<{widest}}  {_shown(item)}".rstrip() for name, item in rows)


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
