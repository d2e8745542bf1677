"""What other installed packages add: their entry points, read once a process."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def plugins(group: str, name: str | None = None) -> tuple[EntryPoint, ...]:
    """Give the entry points of a group, or those of one name in it.

    Parameters
    ----------
    group : str
        Such as ``nmc.passes``.
    name : str or None
        Name of the entry points.

    Returns
    -------
    tuple of EntryPoint
        In the order of ``sys.path``.
    """
    path = tuple(sys.path)
    if not any(f"[{group}]".encode() in text for text in _tables(path)) and not _hidden(path):
        return ()
    found = _installed(path).select(group=group)
    return tuple(found if name is None else found.select(name=name))


@cache
def _tables(path: tuple[str, ...]) -> tuple[bytes, ...]:
    """The texts of all tables of entry points in the folders of a path: read ten times as fast as they are parsed."""
    found = []
    for folder in (entry or "." for entry in path if os.path.isdir(entry or ".")):
        with suppress(OSError):  # what cannot be read provides nothing
            for entry in os.listdir(folder):
                if entry.endswith((".dist-info", ".egg-info")):
                    with (
                        suppress(OSError),
                        open(os.path.join(folder, entry, "entry_points.txt"), "rb") as table,
                    ):
                        found.append(table.read())
    return tuple(found)


def _hidden(path: tuple[str, ...]) -> bool:
    """Whether distributions may be where no folder shows them: in archives, or known to other finders."""
    finders = (finder for finder in sys.meta_path if hasattr(finder, "find_distributions"))
    return any(map(os.path.isfile, path)) or any(finder is not PathFinder for finder in finders)


@cache
def _installed(path: tuple[str, ...]) -> Any:
    """All entry points on a path (before Python 3.12 by group): reading them opens files of all installed packages."""
    from importlib.metadata import entry_points

    return entry_points()
