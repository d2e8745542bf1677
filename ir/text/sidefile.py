"""Modules on disk: ``NAME.nmc`` for the text, ``NAME.npz`` beside it for the large constants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nmc.ir.diagnostics import fail
from nmc.ir.module import Module
from nmc.ir.npz import read_npz, write_npz
from nmc.ir.text.parser import parse
from nmc.ir.text.printer import inline_const, print_module

MAX_TEXT_BYTES = 256 << 20


def blobs(module: Module) -> dict[str, NDArray[Any]]:
    """Arrays that the text does not hold, by digest, each once."""
    return {
        const.digest: const.data
        for const in module.consts
        if const.data is not None and not inline_const(const)
    }


def save(module: Module, path: str | Path) -> None:
    """Write ``PATH`` and, when it has large constants, the side file ``PATH`` with suffix ``.npz``."""
    path = Path(path)
    path.write_text(print_module(module), encoding="utf-8", newline="\n")
    arrays = blobs(module)
    if arrays:
        write_npz(path.with_suffix(".npz"), arrays)


def load(path: str | Path) -> Module:
    """Read a module and its side file.

    A missing side file is no error: the constants then have a digest and no data.

    Raises
    ------
    NmcError
        E0101 and others for text that does not parse, E0120 for a damaged side file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise fail("E0100", f"cannot read the file: {error.strerror}", where=str(path)) from None
    if len(data) > MAX_TEXT_BYTES:
        raise fail(
            "E0100", f"more than {MAX_TEXT_BYTES:,} bytes of text, which is the limit", where=str(path)
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise fail("E0100", f"not UTF-8 text (byte {error.start})", where=str(path)) from None
    side = path.with_suffix(".npz")
    arrays: Mapping[str, NDArray[Any]] = read_npz(side) if side.exists() else {}
    return parse(text, arrays, file=str(path))
