"""Typed settings: the one place that reads the environment.

Every setting is an environment variable `SLUICE_<NAME>` or a line of `.env`; `.env.example` lists them all.
"""

from __future__ import annotations

import difflib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sluice.errors import TerminalError

PROJECT_ROOT = Path(__file__).resolve().parents[2]

REPOSITORY_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
"""`namespace/name` as Docker Hub allows it."""


CANARY = "sluice-canary"
"""Reserved for `platform_canary`: the name of each of its records (docs/decisions/0033)."""

SECRETS = ("database_url", "web_password", "airflow_secret", "fernet_key")
"""Settings whose value no message shows."""


class SettingsError(TerminalError):
    """A setting has a value that it may not have; the message names the variable and what it may be."""


class Settings(BaseSettings):
    """All settings of sluice, read from the environment and from `.env` in the project's folder."""

    model_config = SettingsConfigDict(
        env_prefix="SLUICE_", env_file=PROJECT_ROOT / ".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Where things run
    target: Literal["embedded", "aws"] = Field("embedded", description="`embedded` emulator, or a real `aws` account")
    environment: str = Field(
        "dev", pattern=r"^[a-z][a-z0-9-]{0,15}$", description="name of this deployment, part of stack and queue names"
    )
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
        "000000000000", pattern=r"^\d{12}$", description="account of the embedded AWS: each is a world of its own"
    )

    # The lake
    landing_bucket: str = Field(
        "sluice-landing", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="what others drop off"
    )
    lake_bucket: str = Field(
        "sluice-lake", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="what the pipelines make"
    )
    glue_database: str = Field(
        "sluice", pattern=r"^[a-z0-9_]{1,252}$", description="Glue database of the tables of the lake"
    )
    table_retention_hours: int = Field(
        24, ge=1, description="hours that a snapshot of a table can be read once another took its place"
    )
    table_maintenance: Literal["airflow", "glue"] = Field(
        "airflow",
        description="who maintains the Iceberg tables: Airflow (platform_maintain), or on AWS the optimizers of Glue",
    )
    drain_max_messages: int = Field(
        1_000, ge=10, le=10_000, description="messages that one run takes from its queue at the most"
    )

    # dockerhub
    dockerhub_url: str = Field(
        "https://hub.docker.com", pattern=r"^https?://[^/]+$", description="Docker Hub, or the stand-in"
    )
    dockerhub_repositories: Annotated[tuple[str, ...], NoDecode] = Field(
        ("localstack/localstack",), description="repositories to watch, `namespace/name`, comma separated"
    )
    dockerhub_pull_schedule: str = Field("*/5 * * * *", description="cron expression (UTC) of dockerhub_pull")
    dockerhub_concurrency: int = Field(8, ge=1, le=64, description="requests to Docker Hub at the same time")
    dockerhub_timeout_seconds: float = Field(10.0, gt=0, le=300, description="time one request may take")
    dockerhub_attempts: int = Field(4, ge=1, le=10, description="times a repository is asked before it is given up")
    dockerhub_retry_max_seconds: float = Field(
        60.0, gt=0, le=600, description="longest wait between two attempts, `Retry-After` included"
    )
    dockerhub_table: str = Field(
        "dockerhub_stats", pattern=r"^[A-Za-z0-9_.-]{3,255}$", description="DynamoDB table of the aggregates"
    )

    # events
    event_stream: str = Field(
        "sluice-events", pattern=r"^[A-Za-z0-9_.-]{1,128}$", description="Kinesis stream of the events"
    )
    events_checkpoint_table: str = Field(
        "stream_checkpoints",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of stream checkpoints and of the state of hours",
    )
    events_max_records: int = Field(
        100_000, ge=1_000, le=10_000_000, description="records that one ingest takes at the most"
    )
    dedup_lookback_hours: int = Field(1, ge=0, le=168, description="hours before in which a uuid counts as seen")
    events_max_columns: int = Field(
        500, ge=0, le=5_000, description="columns of additional fields of events; fields beyond them are rescued"
    )
    events_schema_contract: Literal["evolve", "freeze"] = Field(
        "evolve", description="new fields of events: get columns (evolve), or go into rescued_data (freeze)"
    )
    events_known_types: Annotated[tuple[str, ...], NoDecode] = Field(
        ("account", "job", "lesson", "order", "payment", "session"),
        description="event types that are expected, comma separated; others only warn",
    )
    events_engine: Literal["duckdb", "glue", "spark"] = Field("duckdb", description="who runs the SQL of an hour")
    events_firehose: bool = Field(False, description="also deliver the stream through Firehose and a Lambda; AWS only")
    events_rebuild_processes: int = Field(
        2, ge=1, le=64, description="hours of a day that one run of events_rebuild deduplicates at the same time"
    )
    events_memory_limit_mb: int = Field(2048, ge=256, description="memory of the engine before it spills to disk, MiB")
    events_target_file_bytes: int = Field(
        128 * 1024 * 1024, ge=1024 * 1024, description="size of a published file, about"
    )

    # accommodations
    batch_size: int = Field(
        10, ge=1, le=10_000, description="messages that one run of accommodations_consolidate takes at the most"
    )
    partner_priority_table: str = Field(
        "partner_priority",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of the priority list and of blocked partners",
    )
    partner_priority_billing: Literal["provisioned", "on_demand"] = Field(
        "provisioned", description="5 read and 2 write units of that table, or paid by request"
    )
    accommodations_ledger_table: str = Field(
        "accommodations_ledger",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of the files that were published and of the batch being published",
    )
    accommodations_memory_limit_mb: int = Field(
        2048, ge=256, description="memory of the engine before it spills to disk, MiB"
    )

    # datasets
    datasets_max_files: int = Field(
        25, ge=1, le=10_000, description="messages that one run of datasets_aggregate takes at the most"
    )
    datasets_memory_limit_mb: int = Field(
        1024, ge=256, description="memory of the engine before it spills to disk, MiB"
    )
    datasets_url_timeout_seconds: float = Field(
        600.0, gt=0, le=1800, description="time that the download of a dataset from a URL may take"
    )
    datasets_url_max_bytes: int = Field(
        5 * 1024 * 1024 * 1024, ge=1, description="largest dataset that is taken from a URL, once decoded"
    )
    datasets_url_allow_private: bool = Field(
        False, description="also fetch datasets from URLs whose host has a private, loopback or link-local address"
    )

    # modules
    modules_message_table: str = Field(
        "message_recv", pattern=r"^[A-Za-z0-9_.-]{3,255}$", description="DynamoDB table of the messages of modules"
    )
    modules_diagnostic_table: str = Field(
        "weekly_diagnostic",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of weekly diagnostics and of the rates that were published",
    )
    modules_max_messages: int = Field(
        50_000, ge=10, le=100_000, description="messages that one run takes from each queue at the most"
    )

    # The platform's senses
    runs_table: str = Field(
        "pipeline_runs",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of the last run of every Dag and of what was announced",
    )
    alert_email: str = Field(
        "", pattern=r"^([^@\s]+@[^@\s]+)?$", description="who gets the alerts by e-mail; nobody when unset"
    )
    alert_repeat_hours: int = Field(
        6, ge=1, le=168, description="hours after which an alert is sent again while it lasts"
    )

    # The canary
    canary_schedule: str = Field("", description="cron expression (UTC) of platform_canary; only by hand when unset")
    canary_timeout_seconds: int = Field(
        300, ge=10, le=3600, description="time that the canary gives each pipeline to publish its record"
    )

    @field_validator("dockerhub_repositories", mode="before")
    @classmethod
    def _split_repositories(cls, value: object) -> object:
        """Comma separated, blanks and duplicates dropped, order kept."""
        if not isinstance(value, str):
            return value
        names = dict.fromkeys(part.strip() for part in value.split(",") if part.strip())
        wrong = [name for name in names if not REPOSITORY_PATTERN.fullmatch(name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not namespace/name")
        if not names:
            raise ValueError("names no repository")
        if any(name.startswith(f"{CANARY}/") for name in names):
            raise ValueError(f"{CANARY} is reserved for platform_canary")
        return tuple(names)

    @field_validator("events_known_types", mode="before")
    @classmethod
    def _split_types(cls, value: object) -> object:
        """Comma separated, blanks dropped."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

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

    @field_validator("dockerhub_pull_schedule", "canary_schedule")
    @classmethod
    def _five_cron_fields(cls, value: str) -> str:
        from croniter import croniter

        # The default of the canary, which may be unset.
        if not value:
            return value
        if len(value.split()) != 5 or not croniter.is_valid(value):
            raise ValueError("not a cron expression of five fields, such as '*/5 * * * *'")
        return value

    @property
    def endpoint_url(self) -> str | None:
        """Endpoint of every AWS client: the emulator's, or None for AWS itself."""
        if self.target == "aws":
            return None
        return self.aws_endpoint_url or f"http://127.0.0.1:{self.aws_port}"

    @property
    def dockerhub_queue(self) -> str:
        """Name of the queue that hears of every new raw object (infra/dockerhub.yaml)."""
        return f"{self.resource_prefix}-dockerhub-raw"

    @property
    def recv_message_queue(self) -> str:
        """Name of the topic of the messages of modules and of its queue (infra/modules.yaml)."""
        return f"{self.resource_prefix}-recv_message"

    @property
    def weekly_diagnostic_queue(self) -> str:
        """Name of the topic of weekly diagnostics and of its queue (infra/modules.yaml)."""
        return f"{self.resource_prefix}-weekly_diagnostic"

    @property
    def success_rate_topic(self) -> str:
        """Name of the topic that rates are published to (infra/modules.yaml)."""
        return f"{self.resource_prefix}-success_rate"

    @property
    def canary_queue(self) -> str:
        """Name of the queue that gets the success rates of the canary's module (infra/modules.yaml)."""
        return f"{self.resource_prefix}-canary"

    @property
    def alerts_topic(self) -> str:
        """Name of the topic that tells people what is wrong (infra/platform.yaml)."""
        return f"{self.resource_prefix}-alerts"

    @property
    def accommodations_queue(self) -> str:
        """Name of the queue that hears of every partner file (infra/accommodations.yaml)."""
        return f"{self.resource_prefix}-accommodations"

    @property
    def datasets_queue(self) -> str:
        """Name of the queue that hears of every dataset that was dropped off (infra/datasets.yaml)."""
        return f"{self.resource_prefix}-datasets"

    @property
    def resource_prefix(self) -> str:
        """Prefix of stack, topic and queue names, one for each environment."""
        return f"sluice-{self.environment}"


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process, read once; a forked process reads them again where they changed meanwhile.

    Raises:
        SettingsError: one line for each wrong variable, with what it may be.
    """
    global _sources_read
    _sources_read = _sources()
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = str(problem["loc"][0])
            shown = "***" if name in SECRETS else repr(problem["input"])
            about = Settings.model_fields[name].description
            lines.append(f"SLUICE_{name.upper()}={shown}: {problem['msg']} ({about})")
        raise SettingsError("\n".join(lines)) from None


_sources_read: tuple[Any, ...] = ()


def _sources() -> tuple[Any, ...]:
    """What settings are read from: the variables, and which version of `.env`."""
    variables = tuple(sorted(each for each in os.environ.items() if each[0].startswith("SLUICE_")))
    try:
        file = Path(str(Settings.model_config.get("env_file"))).stat()
    except FileNotFoundError:
        return (variables,)
    return (variables, file.st_ino, file.st_mtime_ns, file.st_size)


def _forget_what_changed() -> None:
    if _sources() != _sources_read:
        load_settings.cache_clear()


# Reading takes 8 ms of CPU, a tenth of what a task takes that does nothing.
os.register_at_fork(after_in_child=_forget_what_changed)


def unknown_settings() -> list[str]:
    """A sentence for each `SLUICE_*` name of the environment or of `.env` that is no setting, with the nearest one."""
    known = {f"SLUICE_{name.upper()}" for name in Settings.model_fields}
    file = Settings.model_config.get("env_file")
    places = dict.fromkeys(os.environ, "the environment")
    if isinstance(file, str | Path):
        places |= {name: str(file) for name in dotenv_values(file)}
    sentences = []
    for name in sorted(places):
        if not name.upper().startswith("SLUICE_") or name.upper() in known:
            continue
        nearest = difflib.get_close_matches(name.upper(), known, 1)
        hint = f"the nearest name is {nearest[0]}" if nearest else ".env.example lists all names"
        sentences.append(f"{name} in {places[name]} is not a setting and has no effect; {hint}")
    return sentences
