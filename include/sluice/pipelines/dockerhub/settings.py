"""Settings of the pipeline `dockerhub`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from sluice.base_settings import CANARY, CronExpression, PipelineSettings

REPOSITORY_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
"""Pattern of `namespace/name` of Docker Hub."""


class DockerHubSettings(PipelineSettings):
    """Settings of the pipeline `dockerhub`."""

    dockerhub_url: str = Field(
        "https://hub.docker.com", pattern=r"^https?://[^/]+$", description="Docker Hub, or the stand-in"
    )
    dockerhub_repositories: Annotated[tuple[str, ...], NoDecode] = Field(
        ("localstack/localstack",), description="repositories to watch, `namespace/name`, comma separated"
    )
    dockerhub_pull_schedule: CronExpression = Field(
        "*/5 * * * *", description="cron expression (UTC) of dockerhub_pull"
    )
    dockerhub_concurrency: int = Field(8, ge=1, le=64, description="concurrent requests to Docker Hub")
    dockerhub_timeout_seconds: float = Field(10.0, gt=0, le=300, description="timeout of one request")
    dockerhub_attempts: int = Field(4, ge=1, le=10, description="maximum number of requests for a repository")
    dockerhub_retry_max_seconds: float = Field(
        60.0, gt=0, le=600, description="longest wait between two attempts, `Retry-After` included"
    )
    dockerhub_max_messages: int = Field(
        1_000, ge=10, le=10_000, description="maximum number of messages that one run of dockerhub_aggregate receives"
    )
    dockerhub_table: str = Field(
        "dockerhub_stats", pattern=r"^[A-Za-z0-9_.-]{3,255}$", description="DynamoDB table of the aggregates"
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

    @property
    def dockerhub_queue(self) -> str:
        """Name of the queue that is notified of every new raw object (infra/dockerhub.yaml)."""
        return f"{self.resource_prefix}-dockerhub-raw"
