"""What other installed packages add: their entry points, read once a process."""

from __future__ import annotations

import sys
from functools import cache
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
    found = _installed(tuple(sys.path)).select(group=group)
    return tuple(found if name is None else found.select(name=name))


@cache
def _installed(path: tuple[str, ...]) -> Any:
    """All entry points on a path (before Python 3.12 by group): reading them opens files of all installed packages."""
    from importlib.metadata import entry_points

    return entry_points()
