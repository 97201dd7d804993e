"""Temporary local folders of a step. Folders of a killed process are removed by the next step."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "sluice-scratch-"


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A new, empty folder among the temporary files of this machine (TMPDIR), removed at the end.

    Its process holds a lock on it (flock(2)), which the kernel releases when the process ends for any reason. A folder
    without a lock therefore belongs to a killed process; it may hold gigabytes and is removed first.

    Args:
        purpose: part of its name, for diagnosis.
    """
    _remove_abandoned()
    # Hidden until it is locked: in between, another process would treat it as abandoned.
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}{purpose}-"))
    descriptor = os.open(hidden, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        folder = hidden.rename(hidden.with_name(hidden.name[1:]))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
    finally:
        os.close(descriptor)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            # Removed meanwhile, of another user, or not a folder.
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            log.info("removed %s of a killed process", folder)
        except BlockingIOError:
            # In use.
            continue
        finally:
            os.close(descriptor)
