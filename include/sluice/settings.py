"""Typed settings: the only module that reads the environment.

Every setting is an environment variable `SLUICE_<NAME>` or a line of `.env`; `.env.example` lists them all. Those of a
pipeline are a model of its own, `sluice/pipelines/<name>/settings.py`.
"""

from __future__ import annotations

import difflib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice.base_settings import CronExpression
from sluice.errors import TerminalError
from sluice.pipelines.accommodations.settings import AccommodationsSettings
from sluice.pipelines.datasets.settings import DatasetsSettings
from sluice.pipelines.dockerhub.settings import DockerHubSettings
from sluice.pipelines.events.settings import EventsSettings
from sluice.pipelines.modules.settings import ModulesSettings

PROJECT_ROOT = Path(__file__).resolve().parents[2]

SECRETS = ("database_url", "web_password", "airflow_secret", "fernet_key")
"""Settings whose value is never shown."""


RENAMED = {
    "batch_size": "accommodations_max_messages",
    "datasets_max_files": "datasets_max_messages",
    "dedup_lookback_hours": "events_dedup_window_hours",
    "drain_max_messages": "dockerhub_max_messages",
    "event_stream": "events_stream",
    "partner_priority_billing": "accommodations_priority_billing",
    "partner_priority_table": "accommodations_priority_table",
}
"""Older name of a setting -> its name. The older one is read, with a warning, until version 2."""


ENVIRONMENT = "the environment"


class SettingsError(TerminalError):
    """A setting has an invalid value; the message names the variable and the valid values."""


class Settings(
    AccommodationsSettings,
    DatasetsSettings,
    DockerHubSettings,
    EventsSettings,
    ModulesSettings,
    BaseSettings,
):
    """All settings of sluice, read from the environment and from `.env` in the project's folder."""

    model_config = SettingsConfigDict(
        env_prefix="SLUICE_", env_file=PROJECT_ROOT / ".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Where things run
    target: Literal["embedded", "aws"] = Field("embedded", description="`embedded` emulator, or a real `aws` account")
    home: Path = Field(
        PROJECT_ROOT / ".sluice", description="state of everything that runs here: emulator, Airflow, PostgreSQL, logs"
    )

    # Airflow
    web_port: int = Field(8080, ge=1, le=65535, description="port of Airflow's web UI on 127.0.0.1")
    log_retention_days: int = Field(
        30, ge=1, le=3650, description="days that logs of tasks are kept while `make up` runs"
    )
    database_url: str | None = Field(
        None,
        pattern=r"^(postgresql\+psycopg2|sqlite)://",
        description="Airflow's metadata database; the embedded PostgreSQL when unset",
    )
    web_host: str = Field("127.0.0.1", pattern=r"^[0-9a-fA-F.:]+$", description="address that the web UI listens on")
    execution_api_url: str | None = Field(
        None,
        pattern=r"^https?://.+/execution/$",
        description="where tasks report to; the web UI of this machine when unset",
    )
    web_password: SecretStr | None = Field(
        None, description="password of the web UI's user `admin`; made at random when unset"
    )
    airflow_secret: SecretStr | None = Field(
        None, description="signs the tokens between Airflow's processes; made at random when unset"
    )
    fernet_key: SecretStr | None = Field(
        None, description="encrypts what Airflow stores of connections and variables; Airflow makes one when unset"
    )

    # AWS
    aws_region: str = Field("us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="region of every client")
    aws_port: int = Field(4566, ge=1, le=65535, description="port of the embedded AWS on 127.0.0.1")
    aws_endpoint_url: str | None = Field(
        None, pattern=r"^https?://", description="endpoint of the emulator when it runs elsewhere (Compose)"
    )
    aws_account_id: str = Field(
        "000000000000", pattern=r"^\d{12}$", description="account of the embedded AWS; accounts do not share resources"
    )

    # The lake
    landing_bucket: str = Field(
        "sluice-landing",
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="bucket to which partners and users upload files",
    )
    lake_bucket: str = Field(
        "sluice-lake", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="bucket that the pipelines write to"
    )
    glue_database: str = Field(
        "sluice", pattern=r"^[a-z0-9_]{1,252}$", description="Glue database of the tables of the lake"
    )
    table_retention_hours: int = Field(
        24, ge=1, description="hours that a snapshot of a table can be read after it was replaced"
    )
    table_maintenance: Literal["airflow", "glue"] = Field(
        "airflow",
        description="maintainer of the Iceberg tables: Airflow (platform_maintain), or on AWS the optimizers of Glue",
    )

    # Monitoring
    runs_table: str = Field(
        "pipeline_runs",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of the last run of every Dag and of the alerts that were sent",
    )
    alert_email: str = Field(
        "", pattern=r"^([^@\s]+@[^@\s]+)?$", description="e-mail address that alerts are sent to; none when unset"
    )
    alert_repeat_hours: int = Field(
        6, ge=1, le=168, description="hours after which an alert is sent again while it lasts"
    )

    # Canary
    canary_schedule: CronExpression = Field(
        "", description="cron expression (UTC) of platform_canary; started by hand only when unset"
    )
    canary_timeout_seconds: int = Field(
        300, ge=10, le=3600, description="timeout of the canary for each pipeline to publish its record"
    )

    @field_validator("table_maintenance")
    @classmethod
    def _table_optimizers_need_an_account(cls, value: str, info: ValidationInfo) -> str:
        if value == "glue" and info.data.get("target") == "embedded":
            raise ValueError("needs SLUICE_TARGET=aws, as the embedded AWS has no table optimizers")
        return value

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, value: Path) -> Path:
        return value.expanduser() if value.is_absolute() else (PROJECT_ROOT / value.expanduser()).resolve()

    @property
    def endpoint_url(self) -> str | None:
        """Endpoint of every AWS client: the emulator's, or None for AWS itself."""
        if self.target == "aws":
            return None
        return self.aws_endpoint_url or f"http://127.0.0.1:{self.aws_port}"

    @property
    def alerts_topic(self) -> str:
        """Name of the topic of alerts (infra/platform.yaml)."""
        return f"{self.resource_prefix}-alerts"


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process, read once; a forked process reads them again if they changed meanwhile.

    Raises:
        SettingsError: one line for each invalid variable, with its valid values.
    """
    global _sources_read
    _sources_read = _sources()
    try:
        return Settings(**_under_older_names())
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = str(problem["loc"][0])
            shown = "***" if name in SECRETS else repr(problem["input"])
            about = Settings.model_fields[name].description
            lines.append(f"SLUICE_{name.upper()}={shown}: {problem['msg']} ({about})")
        raise SettingsError("\n".join(lines)) from None


def _given() -> dict[str, tuple[str, str]]:
    """Upper-case name of each variable `SLUICE_...` -> its value and where it is; the environment wins over `.env`."""
    found: dict[str, tuple[str, str]] = {}
    file = Settings.model_config.get("env_file")
    if isinstance(file, str | Path):
        found |= {name: (value or "", str(file)) for name, value in dotenv_values(file).items()}
    found |= {name: (value, ENVIRONMENT) for name, value in os.environ.items()}
    return {name.upper(): given for name, given in found.items() if name.upper().startswith("SLUICE_")}


def _under_older_names() -> dict[str, Any]:
    """Name -> value of each setting that is set by its older name only."""
    given = _given()
    return {name: given[f"SLUICE_{older.upper()}"][0] for older, name in RENAMED.items() if _counts(given, older, name)}


def _counts(given: dict[str, tuple[str, str]], older: str, name: str) -> bool:
    """Whether the older name of a setting is effective: it has a value, and the newer name has none."""
    (value, place), (other, other_place) = (given.get(f"SLUICE_{each.upper()}", ("", "")) for each in (older, name))
    return bool(value) and (not other or (place == ENVIRONMENT and other_place != ENVIRONMENT))


_sources_read: tuple[Any, ...] = ()


def _sources() -> tuple[Any, ...]:
    """Sources of the settings: the variables, and the version of `.env`."""
    variables = tuple(sorted(each for each in os.environ.items() if each[0].startswith("SLUICE_")))
    try:
        file = Path(str(Settings.model_config.get("env_file"))).stat()
    except FileNotFoundError:
        return (variables,)
    return (variables, file.st_ino, file.st_mtime_ns, file.st_size)


def _forget_what_changed() -> None:
    if _sources() != _sources_read:
        load_settings.cache_clear()


# Reading takes 8 ms of CPU, a tenth of an empty task.
os.register_at_fork(after_in_child=_forget_what_changed)


def unknown_settings() -> list[str]:
    """A sentence for each `SLUICE_*` name of the environment or of `.env` that is not the name of a setting."""
    known = {f"SLUICE_{name.upper()}" for name in Settings.model_fields}
    renamed = {f"SLUICE_{older.upper()}": (older, name) for older, name in RENAMED.items()}
    sentences = []
    given = _given()
    for name, (_, place) in sorted(given.items()):
        if name in known:
            continue
        if name in renamed:
            counts = "read until version 2" if _counts(given, *renamed[name]) else "ignored here, as that one is set"
            sentences.append(f"{name} in {place} is now SLUICE_{renamed[name][1].upper()}; the older name is {counts}")
            continue
        nearest = difflib.get_close_matches(name, known, 1)
        hint = f"the nearest name is {nearest[0]}" if nearest else ".env.example lists all names"
        sentences.append(f"{name} in {place} is not a setting and has no effect; {hint}")
    return sentences
