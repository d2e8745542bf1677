"""The command line: ``nmc VERB ...``. Importing it loads the standard library's argparse and nothing heavy."""

from nmc.cli.app import main

__all__ = ["main"]
