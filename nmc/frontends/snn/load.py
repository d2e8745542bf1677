"""From a file to a verified module."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmc.frontends.snn.elaborate import Elaborator
from nmc.frontends.snn.evaluate import Evaluator
from nmc.frontends.snn.network import build
from nmc.frontends.snn.parse import parse, parse_value
from nmc.frontends.snn.problems import Fault, Problems, Silent
from nmc.frontends.snn.synapses import Limits
from nmc.frontends.snn.syntax import Pos
from nmc.frontends.snn.values import Quantity, Scope
from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.verify import verify_or_raise

MAX_BYTES = 4 << 20


def load_snn(
    path: str | Path, params: Mapping[str, object] | None = None, limits: Limits | None = None
) -> Module:
    """Read a ``.snn`` program.

    Parameters
    ----------
    path : str or Path
        The program; files that it names must be in its folder.
    params : mapping of str to str or number
        Overrides of ``param`` statements: numbers, or text in the language's own form ("20 ms").
    limits : Limits or None
        Bounds of the network's size.

    Returns
    -------
    Module
        Of level ``snn``; it verifies.

    Raises
    ------
    NmcError
        E0361 to E0386, all problems of the program at once.
    """
    path = Path(path)
    return read_snn(read_source(path), path.name, params, path.parent, limits)


def read_source(path: Path) -> str:
    """Read a program's text.

    Raises
    ------
    NmcError
        E0361 when it is missing, too large or not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            message = f"the program has {path.stat().st_size:,} of at most {MAX_BYTES:,} bytes"
            raise fail("E0361", message, where=str(path), hint="put weights and lists into .npz files")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fail("E0361", f"not UTF-8 text (byte {error.start})", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise fail("E0361", f"cannot be read: {error}", where=str(path)) from None


def read_snn(
    text: str,
    file: str = "<text>",
    params: Mapping[str, object] | None = None,
    folder: Path | None = None,
    limits: Limits | None = None,
) -> Module:
    """Read a program from its text; see `load_snn`. Without a folder it can name no files."""
    with _uncollected():
        return _read(text, file, params, folder, limits)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the garbage collector back: what is built here stays, and it would only walk it over and over."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _read(
    text: str,
    file: str,
    params: Mapping[str, object] | None,
    folder: Path | None,
    limits: Limits | None,
) -> Module:
    problems = Problems()
    statements = parse(text, file, problems)
    elaborator = Elaborator(problems, _values(params or {}, file, problems), folder, limits or Limits())
    elaborator.program(statements, file)
    problems.raise_if_any()
    module = build(elaborator.network, problems)
    problems.raise_if_any()
    verify_or_raise(module)
    return module


def _values(params: Mapping[str, object], file: str, problems: Problems) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, given in params.items():
        pos = Pos(0, 0, 1, file)
        try:
            if isinstance(given, str):
                values[name] = Evaluator().value(parse_value(given, f"--param {name}"), Scope())
            elif isinstance(given, bool):
                values[name] = given
            elif isinstance(given, int | float):
                values[name] = Quantity(given)
            else:
                raise Fault("E0378", pos, f"param {name} cannot be a {type(given).__name__}")
        except Fault as fault:
            hint = 'write it as in the program: 256, 20 ms, true or "text"'
            problems.add(Fault("E0378", pos, f"param {name} = {given!s:.60}: {fault.message}", hint))
        except Silent:
            pass
    return values
