"""Documents that one step of the pipeline stages for the next one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sluice.core.work_queue import Receipts
from sluice.pipelines.dockerhub.records import Repository, Stats
from sluice.pipelines.dockerhub.transform import RawObject


@dataclass(frozen=True)
class StagedAnswer:
    """An accepted response.

    Attributes:
        stats: its fields.
        asked: the requested repository.
        body: the whole response.
    """

    stats: Stats
    asked: Repository
    body: str


@dataclass(frozen=True)
class Answers:
    """Result of `fetch`.

    Attributes:
        observed_at: when all responses were received (UTC).
        answers: the accepted responses.
    """

    observed_at: datetime
    answers: list[StagedAnswer]


@dataclass(frozen=True)
class Collected:
    """Result of `collect`, `collect_all` and `collect_month`.

    Attributes:
        receipts: of the messages that named the objects; None for a rebuild.
        read_at: when the objects were read (UTC).
        objects: their content.
    """

    receipts: Receipts | None
    read_at: datetime
    objects: list[RawObject]
