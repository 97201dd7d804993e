"""Publication of a staged batch, and not again when its task is cleared and runs again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from sluice.aws import s3
from sluice.core import documents
from sluice.core.run import Run

log = logging.getLogger(__name__)

Summary: TypeAlias = dict[str, int | dict[str, str | None]]
"""Result of a publication for XCom: counts, and `snapshots`, table name -> id of its new snapshot."""

Returned = TypeVar("Returned", dict[str, int], Summary)


@dataclass(frozen=True)
class PublicationRecord:
    """Record that a task published a batch.

    Attributes:
        digest: of the published documents; other content is another batch.
        tally: what the task returned.
    """

    digest: str
    tally: Summary


def publish_once(run: Run, task: str, staged: object, publish: Callable[[], Returned]) -> Returned:
    """Publish, unless the same task published the same documents before; then nothing is written.

    The record of it is in the staging of the run and expires with it. An attempt that crashed before the record was
    written publishes again, which is idempotent in each pipeline; the record protects the results of later runs.

    Args:
        run: the run.
        task: of the Dag.
        staged: the documents that are published.
        publish: publishes them; returns the tally and the snapshots.

    Returns:
        The tally, that of the earlier attempt if there was one.
    """
    name = _record_name(task)
    if s3.object_exists(run.bucket, run.staging_key(name)):
        record = run.load(name, PublicationRecord)
        if record.digest == documents.digest(staged):
            log.info("%s of run %s published this batch before: nothing to do", task, run.slug)
            tally: Returned = cast("Any", record.tally)
            return tally
    returned = publish()
    record_published(run, task, documents.digest(staged), returned)
    return returned


def record_published(run: Run, task: str, digest: str, tally: Returned) -> None:
    """Record that a batch is completely published, for the case that its task is cleared."""
    run.save(_record_name(task), PublicationRecord(digest, {**tally}))


def _record_name(task: str) -> str:
    return f"published/{task}.json"
