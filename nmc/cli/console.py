"""Where a verb's words go: results to standard output as text or JSON, notes to standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from nmc.ir.dataclass import dataclass


@dataclass(frozen=True)
class Console:
    """The output of one command.

    Parameters
    ----------
    verb : str
        Names the schema of the JSON output.
    json : bool
        Print one JSON object instead of text.
    quiet, verbose : bool
        Leave out summaries and progress; tell more.
    """

    verb: str
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def result(self, text: str, facts: Mapping[str, Any]) -> None:
        """Print what was asked for: `facts` as JSON, or `text`."""
        print(to_json(self.verb, facts) if self.json else text.rstrip("\n"))

    def summary(self, text: str, facts: Mapping[str, Any]) -> None:
        """Print what nobody asked for expressly: left out with ``-q``, but not its JSON."""
        if self.json or not self.quiet:
            self.result(text, facts)

    def note(self, text: str) -> None:
        """Tell something on the side."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def detail(self, text: str) -> None:
        """Tell something that only ``-v`` shows."""
        if self.verbose:
            print(text, file=sys.stderr)


def to_json(verb: str, facts: Mapping[str, Any]) -> str:
    """Give the JSON object of a verb; NaN and infinities, which JSON lacks, become null."""
    return json.dumps({"schema": f"nmc.{verb}/1", **_plain(facts)}, indent=2, allow_nan=False)


def _plain(item: Any) -> Any:
    """Make a value printable as JSON: numpy numbers and arrays, paths, dataclasses that know how."""
    if isinstance(item, Mapping):
        return {str(key): _plain(value) for key, value in item.items()}
    if hasattr(item, "tolist"):  # numpy scalars and arrays, without importing numpy
        return _plain(item.tolist())
    if hasattr(item, "to_json"):
        return _plain(item.to_json())
    if isinstance(item, list | tuple | set | frozenset):
        return [_plain(part) for part in item]
    if isinstance(item, float) and not math.isfinite(item):
        return None
    return item if item is None or isinstance(item, bool | int | float | str) else str(item)


def clean(text: str) -> str:
    """Escape control characters (names come from files that nobody vouches for), except newline and tab."""
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if ord(char) > 127 else f"\\x{ord(char):02x}"
