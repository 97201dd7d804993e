"""What one step of the pipeline stages and the next one reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sluice.core.work_queue import Receipts
from sluice.pipelines.dockerhub.records import Repository, Stats
from sluice.pipelines.dockerhub.transform import RawObject


@dataclass(frozen=True)
class StagedAnswer:
    """A good answer.

    Attributes:
        stats: its fields.
        asked: the repository that was asked for.
        body: all of it.
    """

    stats: Stats
    asked: Repository
    body: str


@dataclass(frozen=True)
class Answers:
    """What `fetch` stages.

    Attributes:
        observed_at: when all answers were in (UTC).
        answers: the good ones.
    """

    observed_at: datetime
    answers: list[StagedAnswer]


@dataclass(frozen=True)
class Collected:
    """What `collect` and its siblings stage.

    Attributes:
        receipts: of the messages that told of the objects; None for a rebuild.
        read_at: when the objects were read (UTC).
        objects: what they say.
    """

    receipts: Receipts | None
    read_at: datetime
    objects: list[RawObject]
