"""Airflow on this machine: its environment, and its metadata database made ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from sluice.environment import airflow_environment, stored_secret
from sluice.errors import SluiceError
from sluice.settings import Settings
from sluice_dev.stack import postgres

USER = "admin"


class AirflowNotReady(SluiceError):
    """The metadata database could not be made ready."""


def environment(settings: Settings) -> dict[str, str]:
    """Variables of Airflow's processes. Starts PostgreSQL unless the metadata database is elsewhere."""
    url = settings.database_url or postgres.start(settings)
    given = settings.airflow_secret
    secret = given.get_secret_value() if given else stored_secret(settings.home / "airflow" / "secret")
    password(settings)
    return airflow_environment(settings, url, secret)


def prepare(settings: Settings) -> dict[str, str]:
    """The environment, with the metadata database at the version of this Airflow.

    A PostgreSQL of one's own is left as it is (`sluice airflow db migrate`): it may have other users.

    Raises:
        AirflowNotReady: the migration failed; its log is named.
    """
    variables = environment(settings)
    if settings.database_url and not settings.database_url.startswith("sqlite:"):
        return variables
    marker = _migrated_marker(settings)
    if not marker.exists():
        log = settings.home / "logs" / "airflow-migrate.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=os.environ | variables,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            raise AirflowNotReady(f"airflow db migrate failed, see {log}; `make clean` starts with an empty database")
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    return variables


def _migrated_marker(settings: Settings) -> Path:
    """In the folder of the data, so that both are deleted together."""
    folder = settings.home / "airflow" if settings.database_url else postgres.data_folder(settings)
    return folder / f"migrated-to-airflow-{version('apache-airflow')}"


def password(settings: Settings) -> str:
    """Password of the web user: that of the settings, or one made at random on first use."""
    folder = settings.home / "airflow"
    given = settings.web_password
    secret = given.get_secret_value() if given else stored_secret(folder / "web-password")[:16]
    file = folder / "passwords.json"
    text = json.dumps({USER: secret})
    if not file.exists() or file.read_text() != text:
        folder.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(text)
    return secret
