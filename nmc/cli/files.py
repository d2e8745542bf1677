"""Files that a user names: told apart before anything long begins."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nmc.ir.diagnostics import fail

if TYPE_CHECKING:
    from nmc.driver import LoadOptions
    from nmc.ir.module import Module
    from nmc.program import Program


def readable(path: str | Path) -> Path:
    """Give the path of a file that can be read.

    Raises
    ------
    NmcError
        E0002 when it is missing, a folder, or not to be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise fail("E0002", "this is a folder, not a file", where=str(path))
        if not path.exists():
            raise fail("E0002", "there is no such file", where=str(path), hint=_neighbour(path))
        path.open("rb").close()
    except ValueError as error:  # a null character in the name
        raise fail("E0002", f"not the name of a file: {error}", where=repr(str(path))) from None
    return path


def writable(path: Path) -> Path:
    """Give the path of a file that can be written.

    Raises
    ------
    NmcError
        E0002 when it is a folder, or its folder is missing or takes no files.
    """
    try:
        if path.is_dir():
            raise fail("E0002", "this is a folder; name a file to write", where=str(path))
        if not path.parent.is_dir():
            hint = f"make it first: mkdir -p {path.parent}"
            raise fail("E0002", f"there is no folder {path.parent}", where=str(path), hint=hint)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise fail("E0002", "no permission to write here", where=str(path))
    except ValueError as error:
        raise fail("E0002", f"not the name of a file: {error}", where=repr(str(path))) from None
    return path


def open_module(
    path: str | Path, params: Mapping[str, object] | None = None, options: LoadOptions | None = None
) -> Module:
    """Read a network: ``.onnx``, ``.snn``, ``.nir``, ``.nmc``, or the mapped network inside an ``.nmx``."""
    file = readable(path)
    if file.suffix == ".nmx":
        return open_program(file).module
    from nmc.driver import load

    return load(file, params, options)


def load_options(args: argparse.Namespace, side: str = "") -> LoadOptions:
    """Give what the command line says about ``.nir`` files; `side` (``a_``, ``b_``) goes before the common words."""
    from nmc.driver import LoadOptions

    plain = LoadOptions()
    given = {
        name: next(
            (item for item in (getattr(args, f"{side}{name}", None), getattr(args, name, None)) if item), None
        )
        for name in ("dt", "convention", "semantics", "reset")
    }
    return LoadOptions(
        given["dt"],
        given["convention"] or plain.convention,
        given["semantics"] or plain.semantics,
        given["reset"],
    )


def read_params(words: Sequence[str]) -> dict[str, str]:
    """Give the NAME=VALUE words of ``--param`` as a mapping.

    Raises
    ------
    NmcError
        E0004 for a word without ``=``.
    """
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise fail("E0004", f"--param {wrong[0][:60]} has no value", hint="write --param NAME=VALUE")
    pairs = (word.partition("=") for word in words)
    return {name.strip(): value.strip() for name, _, value in pairs}


def open_program(path: str | Path) -> Program:
    """Read a compiled network.

    Raises
    ------
    NmcError
        E0002 when there is no such file, E0001 for a network that is not compiled yet, E08.. when damaged.
    """
    file = readable(path)
    if file.suffix in (".onnx", ".snn", ".nir", ".nmc"):
        hint = f"compile it first: nmc compile {file} -o {file.stem}.nmx"
        raise fail("E0001", "this network is not compiled yet", where=str(path), hint=hint)
    from nmc.program import Program

    return Program.open(file)


@contextmanager
def distrusting(path: Path) -> Iterator[None]:
    """Tell of a compiled network whose report, map or manifest is no such thing: hashes prove nothing.

    Raises
    ------
    NmcError
        E0804 in place of what looking things up in it raised.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        told = f"it holds something else than nmc writes: {type(error).__name__}: {error}"
        raise fail("E0804", told, where=str(path)) from None


def check_target(name: str) -> None:
    """Refuse a target that does not exist, with the nearest name.

    Raises
    ------
    NmcError
        E0721, or E0722 for a TOML file that is none.
    """
    from nmc.cli.targets import target_names
    from nmc.ir.target import resolve
    from nmc.passes.registry import did_you_mean

    names = target_names()
    if not name.endswith(".toml") and name not in names:
        raise fail("E0721", f"there is no target {name[:80]}", hint=did_you_mean(name, names))
    resolve(name if name in names else str(readable(name)))


def _neighbour(path: Path) -> str:
    from difflib import get_close_matches

    try:
        near = get_close_matches(path.name, [item.name for item in path.parent.iterdir()], 1)
    except OSError:
        return f"there is no folder {path.parent} either"
    return f"did you mean {path.parent / near[0]}?" if near else ""
