"""What the command line prints when something is wrong, and the exit code that says so."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from nmc.cli.console import clean, to_json
from nmc.ir.diagnostics import Diagnostic, NmcError

INTERNAL = 3
CRASH_FILE = "nmc-crash.txt"
_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}
_BOLD, _BLUE, _RESET = "\x1b[1m", "\x1b[34m", "\x1b[0m"


def report(error: Exception, words: Sequence[str]) -> int:
    """Print an exception and give the exit code.

    Parameters
    ----------
    error : Exception
        What was raised.
    words : sequence of str
        The command line: ``--json``, ``--traceback`` and ``--crash-dir`` hold for errors too.
    """
    if "--traceback" in words:
        traceback.print_exception(error, file=sys.stderr)
    diagnostics, code = diagnose(error, words)
    print_diagnostics(diagnostics)
    if "--json" in words:
        print(to_json(_verb(words), {"exit_code": code, "diagnostics": [d.to_json() for d in diagnostics]}))
    return code


def diagnose(error: Exception, words: Sequence[str] = ()) -> tuple[tuple[Diagnostic, ...], int]:
    """Give the diagnostics of an exception and its exit code."""
    if isinstance(error, NmcError):
        return error.diagnostics, error.exit_code
    if isinstance(error, OSError):
        return (system_error(error),), 1
    message = " ".join(f"internal error: {type(error).__name__}: {error}".split())
    written = _write_crash(error, words)
    kept = f"please report it with {written}; " if written else ""
    return (Diagnostic("E0299", message, hint=f"{kept}--traceback shows where it happened"),), INTERNAL


def system_error(error: OSError) -> Diagnostic:
    """Tell what the operating system refused."""
    where = "" if error.filename is None else str(error.filename)
    return Diagnostic("E0002", f"cannot read or write: {error.strerror or error}", where=where)


def print_diagnostics(diagnostics: Iterable[Diagnostic], stream: TextIO | None = None) -> None:
    """Print diagnostics, with colour where a person reads them."""
    stream = sys.stderr if stream is None else stream
    paint = use_colour(stream)
    for diagnostic in diagnostics:
        print(render(diagnostic, colour=paint), file=stream)


def render(diagnostic: Diagnostic, *, colour: bool = False) -> str:
    """Give a diagnostic as text; what comes from the user's files cannot control the terminal."""
    text = clean(str(diagnostic))
    if not colour:
        return text
    first, *rest = text.split("\n")
    head, _, message = first.partition(": ")
    lines = [f"{_COLOURS[diagnostic.severity]}{head}{_RESET}{_BOLD}: {message}{_RESET}"]
    return "\n".join([*lines, *(line.replace("-->", f"{_BLUE}-->{_RESET}", 1) for line in rest)])


def use_colour(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal whose user did not opt out (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _verb(words: Sequence[str]) -> str:
    return words[0] if words and words[0].isalpha() else "nmc"


def _write_crash(error: Exception, words: Sequence[str]) -> Path | None:
    """Keep what a bug report needs; None when the folder takes no file."""
    from nmc import __version__

    folder = Path(words[words.index("--crash-dir") + 1]) if "--crash-dir" in words[:-1] else Path()
    path = folder / CRASH_FILE
    told = "".join(traceback.format_exception(error))
    text = f"nmc {__version__}, Python {sys.version}\nnmc {' '.join(map(ascii, words))}\n\n{told}"
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return path
