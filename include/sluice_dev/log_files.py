"""Keep the logs of background processes small: bounded files of services, old logs of tasks removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

LIMIT_BYTES = 10 * 1024 * 1024
STOPPED_TIMEOUT_SECONDS = 1.0
GENERATIONS = 3
"""A log `x.log` of 10 MiB becomes `x.log.1`, that one `x.log.2`, and so on; at most four files."""


def rotate(
    log: Path,
    writers: Callable[[], Iterable[psutil.Process]] = tuple,
    *,
    limit_bytes: int = LIMIT_BYTES,
    generations: int = GENERATIONS,
) -> bool:
    """Move the content of a log that reached the limit to `<log>.1`; returns whether it did.

    The writers keep their descriptor, opened for appending, so nothing but the kernel stands between them and the
    file. They are suspended for the milliseconds of the copy: no line falls between the copy and the truncation. Where
    a busy machine does not suspend them in time, the log is left as it is.

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
    suspended: list[psutil.Process] = []
    try:
        for process in writers():
            with contextlib.suppress(psutil.Error):
                process.suspend()
                suspended.append(process)
        if not _wait_until_stopped(suspended):
            return False
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


def _wait_until_stopped(suspended: Sequence[psutil.Process]) -> bool:
    """The signal is delivered to each thread when it is next scheduled; until then it may finish a write."""
    deadline = time.monotonic() + STOPPED_TIMEOUT_SECONDS
    while not all(map(_is_stopped, suspended)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def _is_stopped(process: psutil.Process) -> bool:
    """Whether no thread of a process runs. Linux shows the state of the first thread as that of the process."""
    try:
        tasks = list(Path(f"/proc/{process.pid}/task").glob("*/stat"))
        states = {task.read_text().rpartition(")")[2].split()[0] for task in tasks}
        return (
            states <= {"T", "t", "Z", "X"}
            if states
            else process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        )
    except (psutil.NoSuchProcess, OSError):
        # A thread or the process has just ended.
        return not process.is_running()


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
