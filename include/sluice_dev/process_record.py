"""A file that says which process it is, safe against stale files and reused pids."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil


def write(record: Path) -> None:
    """Record this process."""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"pid": os.getpid(), "created": psutil.Process().create_time()}))


def find(record: Path) -> psutil.Process | None:
    """The recorded process if it still runs.

    A record that outlived it, whose pid went to another, or that a kill left half written, is none.
    """
    try:
        written = json.loads(record.read_text())
        process = psutil.Process(written["pid"])
        # A second of tolerance: the kernel counts from boot, and the time of boot moves when the clock is set.
        same = abs(process.create_time() - written["created"]) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, TypeError, KeyError, psutil.NoSuchProcess):
        return None
    return process if same else None
