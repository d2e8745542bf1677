"""Source locations: where in the user's files an op comes from, through every rewrite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field

from nmc.ir.dataclass import dataclass


@dataclass(frozen=True)
class Loc:
    """A location: a place in a file, or what a pass made out of other locations.

    Parameters
    ----------
    name : str
        File name for a leaf, pass name for a fused location.
    node : str
        ONNX node, NIR node or ``line:column`` of a leaf; empty for a fused location.
    parts : tuple of Loc
        The fused locations; empty for a leaf.
    """

    name: str
    node: str = ""
    parts: tuple[Loc, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Parts are shared: without this, hashing would visit each as often as there are ways to it.
        object.__setattr__(self, "_hash", hash((self.name, self.node, self.parts)))

    def __hash__(self) -> int:
        return self._hash

    def leaves(self) -> Iterator[Loc]:
        """Yield the distinct places in the user's files, in order of first use."""
        seen: set[Loc] = set()
        stack = [self]
        while stack:
            loc = stack.pop()
            if loc not in seen:
                seen.add(loc)
                stack.extend(reversed(loc.parts))
                if not loc.parts:
                    yield loc

    def __str__(self) -> str:
        return ", ".join(
            f'{leaf.name}: node "{leaf.node}"' if leaf.node else leaf.name for leaf in self.leaves()
        )


def fuse(pass_name: str, locs: Iterable[Loc | None]) -> Loc | None:
    """Fuse the locations a rewrite looked at.

    Parameters
    ----------
    pass_name : str
        Name of the pass that did it.
    locs : iterable of Loc or None
        Locations of the ops looked at; unknown ones are left out.

    Returns
    -------
    Loc or None
        The only location when all are one, a fused location otherwise, None when none is known.
    """
    distinct = tuple(dict.fromkeys(loc for loc in locs if loc is not None))
    if len(distinct) <= 1:
        return distinct[0] if distinct else None
    return Loc(pass_name, parts=distinct)
