"""Keep the logs of background processes small: bounded files of services, old logs of tasks removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

LIMIT_BYTES = 10 * 1024 * 1024
STOPPED_TIMEOUT_SECONDS = 1.0
GENERATIONS = 3
"""A log `x.log` of 10 MiB becomes `x.log.1`, that one `x.log.2`, and so on; four files at the most."""


def rotate(
    log: Path,
    writers: Callable[[], Iterable[psutil.Process]] = tuple,
    *,
    limit_bytes: int = LIMIT_BYTES,
    generations: int = GENERATIONS,
) -> bool:
    """Move the content of a log that reached the limit to `<log>.1`; returns whether it did.

    The writers keep their descriptor, opened for appending, so nothing but the kernel stands between them and the
    file. They are suspended for the milliseconds of the copy: no line falls between the copy and the truncation.

    Args:
        log: a file that may be missing.
        writers: finds the processes that write to it; not called below the limit.
        limit_bytes: size from which it is rotated.
        generations: number of older files that are kept.
    """
    try:
        if log.stat().st_size < limit_bytes:
            return False
    except FileNotFoundError:
        return False
    suspended = []
    try:
        for process in writers():
            with contextlib.suppress(psutil.Error):
                process.suspend()
                suspended.append(process)
        _wait_until_stopped(suspended)
        copy = log.with_name(f"{log.name}.new")
        shutil.copyfile(log, copy)
        for number in range(generations - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                log.with_name(f"{log.name}.{number}").replace(log.with_name(f"{log.name}.{number + 1}"))
        copy.replace(log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
    finally:
        for process in suspended:
            with contextlib.suppress(psutil.Error):
                process.resume()
    return True


def _wait_until_stopped(suspended: Iterable[psutil.Process]) -> None:
    """The signal is delivered when a process is next scheduled; until then it may finish a write."""
    deadline = time.monotonic() + STOPPED_TIMEOUT_SECONDS
    for process in suspended:
        with contextlib.suppress(psutil.Error):
            while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                if time.monotonic() > deadline:
                    return
                time.sleep(0.001)


def remove_older(folder: Path, days: int, clock: Callable[[], float] = time.time) -> int:
    """Remove files below a folder that were last written more than `days` ago, and folders that are then empty.

    Returns:
        Number of files removed.
    """
    oldest = clock() - days * 24 * 3600
    removed = 0
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                if (path := Path(parent, name)).lstat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
        for name in folders:
            # Only an empty folder can be removed; one that a task has just made is perhaps empty as well.
            with contextlib.suppress(OSError):
                if (path := Path(parent, name)).stat().st_mtime < oldest:
                    path.rmdir()
    return removed
