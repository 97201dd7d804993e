"""Background processes that can be ended together, also after a kill of their parent or of some of them.

Each process leads a session of its own and holds its record, a file in SLUICE_HOME/sessions, open; so do its children.
The record names the session. A session is ended only while one of its processes holds the record open, so that a pid or
session number that the system has given to another program since is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

KILL_TIMEOUT_SECONDS = 10.0
"""Time that the system gets to remove processes which were sent SIGKILL."""

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Session:
    """One started process.

    Attributes:
        record: file that names the session.
        process: its first process.
        log: where its output goes.
        log_start_bytes: size of the log when the process was started.
    """

    record: Path
    process: subprocess.Popen[bytes]
    log: Path
    log_start_bytes: int

    @property
    def name(self) -> str:
        """What was started, as in the name of the record."""
        return self.record.stem

    def last_lines(self, count: int = 15) -> list[str]:
        """The last lines that this process wrote to its log."""
        with self.log.open("rb") as log:
            log.seek(min(self.log_start_bytes, self.log.stat().st_size))
            return log.read().decode(errors="replace").splitlines()[-count:]


def start(record: Path, command: Sequence[str], environment: dict[str, str], log: Path) -> Session:
    """Start a command in a session of its own, its output appended to a log.

    The record is written by the started process before it becomes the command, so no kill of this process can leave
    one behind that is not recorded.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        log_start_bytes = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(record), str(os.getpid()), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Not in the terminal's group: ctrl-C reaches the stack alone, which stops its services in order.
            start_new_session=True,
        )
    return Session(record, process, log, log_start_bytes)


def recorded(folder: Path) -> list[Path]:
    """Records in a folder, whether their sessions still run or not."""
    return sorted(folder.glob("*.session"))


def members(record: Path) -> list[psutil.Process]:
    """Every process of a recorded session, empty where none is left."""
    try:
        number = int(record.read_text())
    except (FileNotFoundError, ValueError):
        return []
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(pid) == number:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found if any(_holds(process, record) for process in found) else []


def end(records: Sequence[Path], grace_seconds: float) -> list[str]:
    """End recorded sessions side by side; returns the names of those that ran.

    The first process of each is asked to end (SIGTERM), or all of its processes where the first is gone. What still
    runs after the grace is killed.
    """
    ended = []
    for record in records:
        running = members(record)
        if running:
            ended.append(record.stem)
            number = record.read_text()
        first = [process for process in running if str(process.pid) == number]
        for process in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process in (first or running):
                    process.terminate()
                # A suspended process (after a kill during `log_files.rotate`) would not handle the signal.
                process.resume()
    asked_at = time.monotonic()
    while left := [process for record in records for process in members(record)]:
        seconds = time.monotonic() - asked_at
        if seconds > grace_seconds + KILL_TIMEOUT_SECONDS:
            break
        if seconds > grace_seconds:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        time.sleep(POLL_SECONDS)
    for record in records:
        if not members(record):
            record.unlink(missing_ok=True)
    return ended


def _holds(process: psutil.Process, record: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return any(record.samefile(file.path) for file in process.open_files())
    return False


def _become(record: Path, parent_pid: int, command: list[str]) -> None:
    """Write the record of this process, keep it open, and become the command."""
    record.unlink(missing_ok=True)
    descriptor = os.open(record, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.set_inheritable(descriptor, True)
    os.write(descriptor, str(os.getpid()).encode())
    if os.getppid() != parent_pid:
        # The parent was killed, and its cleanup may have run before this record existed.
        record.unlink()
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
