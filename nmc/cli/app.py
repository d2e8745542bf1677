"""From the words of a command line to an exit code; whatever goes wrong on the way is told without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TextIO

#: What a shell reports for a program that SIGPIPE or SIGINT ends.
BROKEN_PIPE, INTERRUPTED = 141, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str or None
        The words after ``nmc``; those of the process when None.

    Returns
    -------
    int
        0 ok, 1 user error, 2 does not fit the target, 3 internal error, 130 interrupted, 141 nobody reads the
        output any more.
    """
    words = [str(word) for word in (sys.argv[1:] if argv is None else argv)]
    # OpenBLAS rounds differently on one core and on two; nothing that is written may depend on their number.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _accept_any_text(sys.stdout)
    return _guarded(lambda: _told(lambda: _run(words), words))


def _run(words: list[str]) -> int:
    """Find the verb, read its options and run it."""
    from nmc.cli import parser

    if not words or words[0] in ("-h", "--help", "help"):
        return _help(words)
    if words[0] in ("-V", "--version"):
        from nmc import __version__

        print(f"nmc {__version__}")
        return 0
    verb = parser.find_verb(words[0])
    args = parser.build(verb).parse_args(words[1:])
    from nmc.cli.console import Console

    run: Callable[..., int] = getattr(import_module(f"nmc.cli.{verb.module}"), f"{verb.name}_verb")
    return run(args, Console(verb.name, args.json, args.quiet, args.verbose))


def _help(words: list[str]) -> int:
    """Print the help of everything or, after ``help``, of one verb; without words it is an error."""
    from nmc.cli import parser

    if words[:1] == ["help"] and len(words) > 1:
        print(parser.build(parser.find_verb(words[1])).format_help(), end="")
        return 0
    print(parser.overview(), end="", file=sys.stdout if words else sys.stderr)
    return 0 if words else 1


def _told(run: Callable[[], int], words: list[str]) -> int:
    """Run, and tell what was raised."""
    try:
        code = run()
        _flush()
        return code
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:  # the last line of defence: nobody should see a traceback unasked
        from nmc.cli.errors import report

        return report(error, words)


def _guarded(run: Callable[[], int]) -> int:
    """Run, and end quietly when the reader of the output or the user has gone."""
    try:
        code = run()
        _flush()
        return code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    except OSError:  # standard output cannot take the text (a full disk); `report` has said so
        _discard_output()
        return 1


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard_output() -> None:
    """Let the interpreter's last flush of standard output go nowhere instead of failing."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):  # standard output is no file
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (for the rest of the process)


def _accept_any_text(stream: TextIO | None) -> None:
    """Print what the terminal's encoding lacks (file names may hold anything) as escapes instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
