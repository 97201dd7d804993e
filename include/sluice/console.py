"""Where the command line prints."""

from __future__ import annotations

import sys

from rich.console import Console

LOG_WIDTH = 140


def console() -> Console:
    """Standard output; a log file is not cut at the 80 columns of a terminal that it is not."""
    return Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
