"""Benchmarks: each measure with its baseline or other engines, in one run on the same data."""

import signal
import sys


def end_on_sigterm() -> None:
    """Let SIGTERM end this program as ctrl-C does, so that `finally` ends every process that it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
