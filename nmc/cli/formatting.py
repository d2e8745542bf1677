"""``nmc fmt``: one way to write a ``.snn`` program."""

from __future__ import annotations

import argparse

from nmc.cli.console import Console
from nmc.cli.files import readable, writable
from nmc.ir.diagnostics import fail


def fmt_verb(args: argparse.Namespace, console: Console) -> int:
    """Rewrite a program in place, or with ``--check`` tell whether that would change it.

    Raises
    ------
    NmcError
        E0387 with ``--check`` when it would, E0361 to E0364 for a program that cannot be read.
    """
    from nmc.frontends.snn import format_text
    from nmc.frontends.snn.load import read_source

    path = readable(args.file)
    old = read_source(path)
    new = format_text(old, path.name)
    changed = new != old
    if changed and args.check:
        pairs = zip([*old.split("\n"), None], [*new.split("\n"), None], strict=False)
        line = next((number for number, (a, b) in enumerate(pairs, 1) if a != b), 1)
        hint = f"run nmc fmt {path}"
        raise fail("E0387", "this program is not formatted", where=f"{path}:{line}:1", hint=hint)
    if changed:
        writable(path).write_text(new, encoding="utf-8", newline="\n")
    told = "formatted" if changed else "already formatted"
    console.summary(f"{path}: {told}", {"file": str(path), "changed": changed})
    return 0
