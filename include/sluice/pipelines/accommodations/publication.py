"""Publication of an announced batch: every write is idempotent, so that any run can complete it."""

from __future__ import annotations

from sluice import lake
from sluice.aws import s3
from sluice.aws.tables import commits
from sluice.core import documents
from sluice.core.run import Run
from sluice.core.staging import Summary, record_published
from sluice.core.tally import Tally
from sluice.errors import TerminalError
from sluice.pipelines.accommodations import PIPELINE, storage
from sluice.pipelines.accommodations.batch import BATCH, Batch, CatalogueChange
from sluice.pipelines.accommodations.catalogue import CANDIDATES, CURRENT, read_tables
from sluice.pipelines.accommodations.records import output_key
from sluice.pipelines.accommodations.storage import AnnouncedBatch
from sluice.settings import Settings

TASK = "publish"


class TablesChanged(TerminalError):
    """Another writer than this pipeline changed a table since a batch was merged with it.

    Args:
        conflict: which table, and what was replaced.
        run: the run that announced the batch, as a part of a key; `instead` says what to do.
    """

    def __init__(self, conflict: commits.Conflict, run: str) -> None:
        # Until the batch is merged again, the failed task and every new run fail.
        self.instead = (
            f"in the web UI, clear task consolidate of run {run} of accommodations_consolidate, with the tasks after it"
        )
        super().__init__(
            f"{conflict}; clear task consolidate of run {run}, which merges its batch with the tables as they are now"
        )


def finish(settings: Settings, announced: AnnouncedBatch) -> Summary:
    """Complete the publication of an announced batch; idempotent.

    Order: curated files, candidates, current catalogue, ledger, and deletion of the messages last. If it is
    interrupted, the batch stays announced, and the next run repeats all of it.

    Returns:
        The tally of the batch, and `snapshots`: name of a changed table -> id of its snapshot; the tally alone if
        another worker published it first.

    Raises:
        StagingExpired: its staging expired before a run completed it, or another version of the code saved it.
        TablesChanged: the tables were changed since the batch was merged, for example by a rollback.
    """
    table = settings.accommodations_ledger_table
    run = Run.of(PIPELINE, announced.run)
    try:
        batch = run.load(BATCH, Batch)
        first = announced.first_microsecond
        outputs = [(key, output_key(first + place)) for place, key in enumerate(batch.outputs)]
        _quarantine(run, batch)
        s3.copy_objects(run.bucket, outputs)
        snapshots = _commit_tables(announced, batch.catalogue)
    except lake.StagingExpired as expired:
        raise lake.StagingExpired(run.bucket, expired.key, _way_out(settings, announced), expired.why) from None
    except commits.Conflict as conflict:
        if storage.read_catalogue(table).announced != announced:
            # Another worker completed the batch, and the next one may be published already.
            return tally_of(batch)
        raise TablesChanged(conflict, announced.run) from None
    storage.record_published(table, batch.sources, announced.number, announced.at)
    batch.receipts.delete()
    storage.commit_batch(table, announced, read_tables(batch.catalogue.lists).state)
    tally = tally_of(batch) | {"snapshots": snapshots}
    record_published(run, TASK, documents.digest(batch.collected), tally)
    return tally


def _commit_tables(announced: AnnouncedBatch, change: CatalogueChange) -> dict[str, str | None]:
    """Commit the changes of the batch to the candidates, then to the catalogue; returns the ids of the snapshots."""
    summary = {
        "dag": "accommodations_consolidate",
        "run": announced.run,
        "batch": announced.number,
        "buckets": change.buckets,
        "candidate-bytes": change.candidate_bytes,
        "lists": change.lists,
    }
    return {
        definition.name: commits.replace(definition.name, **vars(part), summary=summary).snapshot_id
        for definition, part in ((CANDIDATES, change.candidates), (CURRENT, change.current))
        if part
    }


def finish_events(run: Run, batch: Batch) -> None:
    """Publish a batch without files to read: quarantine its events, then delete its messages."""
    _quarantine(run, batch)
    batch.receipts.delete()


def _quarantine(run: Run, batch: Batch) -> None:
    run.quarantine("events", batch.rejections)
    if batch.rejected:
        s3.copy_objects(run.bucket, [(batch.rejected, run.quarantine_key("records"))])


def _way_out(settings: Settings, announced: AnnouncedBatch) -> str:
    return (
        f"to abandon batch {announced.number}, which that run announced at {announced.at:%Y-%m-%dT%H:%MZ} and"
        " did not finish, remove attribute `announced` of item #catalogue of table"
        f" {settings.accommodations_ledger_table} and upload the files of that day again"
    )


def tally_of(batch: Batch) -> Summary:
    """The tally of a batch, and its `unlisted` and `blocked`, which count as duplicates in it."""
    unusable = {name: batch.counts[name] for name in ("unlisted", "blocked")}
    tally = Tally(
        batch.counts["records_in"],
        published=batch.counts["published"],
        duplicates=batch.counts["duplicates"] + sum(unusable.values()),
        quarantined=batch.counts["quarantined"],
    ).checked(batch.run)
    return {**tally, **unusable}
