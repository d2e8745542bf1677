"""``nmc explain CODE``: what an error code means."""

from __future__ import annotations

import argparse
from textwrap import fill

from nmc.cli.console import Console
from nmc.cli.tables import table
from nmc.ir.diagnostics import fail
from nmc.passes.registry import did_you_mean
from nmc.report.codes import CODES


def explain_verb(args: argparse.Namespace, console: Console) -> int:
    """Print the paragraph of one code, or the titles of all."""
    if args.code is None:
        rows = [(code, entry.title) for code, entry in CODES.items()]
        facts = {"codes": [{"code": code, "title": title} for code, title in rows]}
        console.result(table(("code", "about"), rows), facts)
        return 0
    code = args.code.upper()
    if code not in CODES:
        raise fail("E0007", f"there is no error code {args.code[:40]}", hint=did_you_mean(code, CODES))
    entry = CODES[code]
    text = f"{code}: {entry.title}\n\n{fill(entry.text, 90)}"
    console.result(text, {"code": code, "title": entry.title, "text": entry.text})
    return 0
