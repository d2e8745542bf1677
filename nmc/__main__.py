"""``python -m nmc``: the command line, also from a checkout that nothing has installed."""

import sys

from nmc.cli import main

if __name__ == "__main__":
    sys.exit(main())
