"""``nmc demo``: the main job on a network that ships with nmc."""

from __future__ import annotations

import argparse

from nmc.cli.console import Console
from nmc.cli.files import check_target, readable, writable
from nmc.cli.progress import Progress


def demo_verb(args: argparse.Namespace, console: Console) -> int:
    """Compile the network, run it, and compare float, integer (or converted and quantised) and emulated accuracy."""
    from nmc.runtime.demo import run_demo

    check_target(args.target)
    if args.o:
        writable(args.o)
    for file in (args.data, args.calib):
        if file:
            readable(file)
    names = ("steps", "levels", "mode")
    given = {name: getattr(args, name) for name in names if getattr(args, name)}
    with Progress("demo", quiet=console.quiet) as progress:
        found = run_demo(
            model=args.model, target=args.target, data=args.data, calib=args.calib, limit=args.limit or 0,
            out=args.o, progress=progress.phase, **given,
        )  # fmt: skip
    console.result(found.text(), found.to_json())
    return 0
