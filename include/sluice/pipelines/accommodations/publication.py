"""Publishing a batch: every write may be made again, by whoever finds the batch announced."""

from __future__ import annotations

import json
from typing import Any

from sluice import lake
from sluice.aws import s3, sqs
from sluice.aws.tables import commits
from sluice.core.staging import record_published
from sluice.core.tally import Tally
from sluice.errors import TerminalError
from sluice.pipelines.accommodations import PIPELINE, storage
from sluice.pipelines.accommodations.batch import batch_key
from sluice.pipelines.accommodations.catalogue import CANDIDATES, CURRENT, read_tables
from sluice.pipelines.accommodations.records import output_key
from sluice.pipelines.accommodations.storage import Announcement
from sluice.settings import Settings


class TablesChanged(TerminalError):
    """A table is not what a batch was merged with, and another writer than this pipeline changed it.

    Args:
        conflict: which table, and what was replaced.
        run: the run that announced the batch, as a part of a key; `instead` says what to do with it.
    """

    def __init__(self, conflict: commits.Conflict, run: str) -> None:
        # Neither the failed task nor a new run gets past the batch.
        self.instead = (
            f"in the web UI, clear task consolidate of run {run} of accommodations_consolidate, with the tasks after it"
        )
        super().__init__(
            f"{conflict}; clear task consolidate of run {run}, which merges its batch with the tables as they are now"
        )


def finish(settings: Settings, announcement: Announcement) -> dict[str, Any]:
    """Publish an announced batch to its end; nothing of it is done twice in a way that shows.

    Curated files first, then the candidates and the catalogue that readers see, the ledger, and the messages last. A
    run that ends on the way leaves the announcement, and the next run does all of it again.

    Returns:
        The tally of the batch, and `snapshots`: name of a table that changed -> id of its snapshot; the tally alone
        where another worker published it first.

    Raises:
        StagingExpired: its staging expired before any run finished it.
        TablesChanged: the tables were changed since the batch was merged, by a roll-back for example.
    """
    bucket, table = settings.lake_bucket, settings.accommodations_ledger_table
    try:
        batch: dict[str, Any] = json.loads(s3.read_object(bucket, batch_key(announcement.run)).body)
        first = announcement.first_microsecond
        outputs = [(key, output_key(first + place)) for place, key in enumerate(batch["outputs"])]
        s3.copy_objects(bucket, [*batch["quarantine"], *outputs])
        snapshots = _commit_tables(announcement, batch["catalogue"])
    except lake.StagingExpired as expired:
        raise lake.StagingExpired(bucket, expired.key, _way_out(settings, announcement)) from None
    except commits.Conflict as conflict:
        if storage.read_catalogue(table).announced != announcement:
            # Another worker has published the batch to its end, and the next one may be published already.
            return tally_of(announcement.run, batch["measures"])
        raise TablesChanged(conflict, announcement.run) from None
    storage.record_published(table, batch["sources"], announcement.number, announcement.at)
    sqs.delete(sqs.queue_url(settings.accommodations_queue), batch["receipt_handles"])
    storage.settle(table, announcement, read_tables(batch["catalogue"]["lists"]).state)
    tally = tally_of(announcement.run, batch["measures"]) | {"snapshots": snapshots}
    record_published(bucket, PIPELINE, announcement.run, "publish", batch["collected"], tally)
    return tally


def _commit_tables(announcement: Announcement, plan: dict[str, Any]) -> dict[str, str | None]:
    """Replace what the batch changes of the candidates, then of the catalogue: one snapshot each; their ids."""
    summary = {
        "dag": "accommodations_consolidate",
        "run": announcement.run,
        "batch": announcement.number,
        "buckets": plan["buckets"],
        "candidate-bytes": plan["candidate_bytes"],
        "lists": plan["lists"],
    }
    return {
        definition.name: commits.replace(definition.name, **change, summary=summary).snapshot_id
        for definition, change in ((CANDIDATES, plan["candidates"]), (CURRENT, plan["current"]))
        if change
    }


def finish_events(settings: Settings, batch: dict[str, Any]) -> None:
    """Publish a batch of which no file was read: quarantine its events, then delete its messages."""
    s3.copy_objects(settings.lake_bucket, batch["quarantine"])
    sqs.delete(sqs.queue_url(settings.accommodations_queue), batch["receipt_handles"])


def _way_out(settings: Settings, announcement: Announcement) -> str:
    return (
        f"to give up batch {announcement.number}, which that run announced at {announcement.at:%Y-%m-%dT%H:%MZ} and"
        " did not finish, remove attribute `announced` of item #catalogue of table"
        f" {settings.accommodations_ledger_table} and drop the files of that day again"
    )


def tally_of(run: str, measures: dict[str, Any]) -> dict[str, Any]:
    """The tally of a batch, and its `unlisted` and `blocked`, which count as duplicates in it."""
    unusable = {name: measures[name] for name in ("unlisted", "blocked")}
    tally = Tally(
        measures["records_in"],
        published=measures["published"],
        duplicates=measures["duplicates"] + sum(unusable.values()),
        quarantined=measures["quarantined"],
    ).checked(run)
    return tally | unusable
