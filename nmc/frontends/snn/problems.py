"""Problems of a ``.snn`` program: collected, shown with the source line and a caret, all told in one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from nmc.frontends.snn.syntax import Pos
from nmc.ir.diagnostics import Diagnostic, NmcError

#: More would not be read.
MAX_PROBLEMS = 200
_WIDTH = 120


class Fault(Exception):
    """One mistake in one statement; ends the statement, not the run."""

    def __init__(self, code: str, pos: Pos, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.pos, self.message, self.hint = code, pos, message, hint


class Silent(Exception):
    """A statement depends on one that is wrong itself; there is nothing new to say."""


class Problems:
    """All problems of a run.

    Parameters
    ----------
    sources : mapping of str to list of str
        Lines of each file, for the carets; filled as files are read.
    """

    def __init__(self) -> None:
        self.sources: dict[str, list[str]] = {}
        self._found: dict[tuple[str, str, str], tuple[Pos, Diagnostic]] = {}

    def add(self, fault: Fault) -> None:
        """Note a fault, once however often it happens (in a loop)."""
        pos = fault.pos
        where = f"{pos.file}:{pos.line}:{pos.column}" if pos.line else pos.file
        key = (fault.code, where, fault.message)
        if key in self._found or len(self._found) >= MAX_PROBLEMS:
            return
        message = fault.message + _excerpt(self.sources, pos)
        self._found[key] = (pos, Diagnostic(fault.code, message, where=where, hint=fault.hint))

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raise `NmcError` with everything, in the order of the files."""
        if self._found:
            ordered = sorted(self._found.values(), key=lambda entry: (entry[0].file, entry[0][:2]))
            raise NmcError(diagnostic for _, diagnostic in ordered)


def _excerpt(sources: Mapping[str, list[str]], pos: Pos) -> str:
    lines = sources.get(pos.file, [])
    if not 1 <= pos.line <= len(lines):
        return ""
    text = lines[pos.line - 1].replace("\t", " ").rstrip("\r")
    cut = max(pos.column - _WIDTH * 2 // 3, 0)
    shown = text[cut : cut + _WIDTH]
    start = pos.column - 1 - cut
    marks = "^" * max(1, min(pos.length, len(shown) - start))
    number = str(pos.line)
    return f"\n  {number} | {shown}\n  {' ' * len(number)} | {' ' * start}{marks}"


def did_you_mean(name: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """Give a hint with the nearest known name, names of other tools included; the list where none is near."""
    names = sorted(set(known))
    lower = name.lower().replace("-", "_")
    if aliases and lower in aliases and aliases[lower] in names:
        return f"did you mean {aliases[lower]}?"
    near = get_close_matches(name, names, 1) or [item for item in names if item.lower() == lower]
    if near:
        return f"did you mean {near[0]}?"
    shown = ", ".join(names[:12])
    return f"there is {shown}{', ...' if len(names) > 12 else ''}" if names else ""
