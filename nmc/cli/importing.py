"""``nmc import``: a network of any frontend as IR text."""

from __future__ import annotations

import argparse

from nmc.cli.console import Console
from nmc.cli.files import load_options, open_module, read_params, writable
from nmc.cli.opt import write_module


def import_verb(args: argparse.Namespace, console: Console) -> int:
    """Print or write the module that a frontend makes of a file."""
    if args.o:
        writable(args.o)
    write_module(open_module(args.model, read_params(args.param), load_options(args)), args.o, console)
    return 0
