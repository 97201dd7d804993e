"""Publishing a batch: every write may be made again, by whoever finds the batch announced."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sluice import catalog, lake, s3, sqs
from sluice.accommodations import PIPELINE, storage
from sluice.accommodations.current import CANDIDATES_PREFIX, manifest_key, next_manifest
from sluice.accommodations.records import output_key
from sluice.accommodations.storage import Announcement
from sluice.errors import TerminalError
from sluice.scratch import scratch_folder
from sluice.settings import Settings, load_settings
from sluice.staging import record_published
from sluice.tally import Tally

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

CURRENT_TABLE = "accommodations_current"
CURRENT_PARTITION = ["latest"]
"""Table of the Glue catalog, and the value of `snapshot` of its one partition (infra/accommodations.yaml)."""

EMPTY_MANIFEST: dict[str, Any] = {
    "number": 0,
    "digest": "",
    "buckets": 1,
    "files": {},
    "current_prefix": "",
    "superseded": [],
}
"""Before the first batch."""


def read_manifest(bucket: str, number: int) -> dict[str, Any]:
    """What a version of the catalogue consists of (`current.next_manifest`)."""
    if not number:
        return EMPTY_MANIFEST
    manifest: dict[str, Any] = json.loads(s3.read_object(bucket, manifest_key(number)).body)
    return manifest


def finish(settings: Settings, announcement: Announcement, clock: Callable[[], datetime]) -> None:
    """Publish an announced batch to its end; nothing of it is done twice in a way that shows.

    Curated files first, then the version that counts, the one step that shows it to readers, the ledger, and the
    messages last. Whoever dies on the way leaves the announcement, and the next run does all of it again.

    Raises:
        StagingExpired: its staging expired before any run finished it.
    """
    bucket, table = settings.lake_bucket, settings.accommodations_ledger_table
    try:
        batch, manifest = _write_files(settings, announcement)
    except lake.StagingExpired as expired:
        raise lake.StagingExpired(bucket, expired.key, _way_out(settings, announcement)) from None
    storage.commit(table, announcement)
    show(settings)
    storage.record_published(table, batch["sources"], announcement.number, announcement.at)
    sqs.delete(sqs.queue_url(settings.accommodations_queue), batch["receipt_handles"])
    _remove_expired(bucket, batch["catalogue"], manifest)
    storage.settle(table, announcement, clock())
    tally = tally_of(announcement.run, batch["measures"])
    record_published(bucket, PIPELINE, announcement.run, "publish", batch["collected"], tally)


def finish_events(settings: Settings, batch: dict[str, Any]) -> None:
    """Publish a batch of which no file was read: quarantine its events, then delete its messages."""
    s3.copy_objects(settings.lake_bucket, batch["quarantine"])
    sqs.delete(sqs.queue_url(settings.accommodations_queue), batch["receipt_handles"])


def _write_files(settings: Settings, announcement: Announcement) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copy what is staged to where it is read, and write the manifest; the batch and the manifest."""
    bucket = settings.lake_bucket
    key = lake.staging_key(PIPELINE, announcement.run, "batch.json")
    batch: dict[str, Any] = json.loads(s3.read_object(bucket, key).body)
    plan = batch["catalogue"]
    manifest = next_manifest(plan, announcement.number, announcement.before_settled_at)
    copies = [(key, output_key(announcement.first_microsecond + place)) for place, key in enumerate(batch["outputs"])]
    s3.copy_objects(bucket, [*batch["quarantine"], *copies, *_catalogue_copies(plan, manifest, announcement.run)])
    s3.write_object(bucket, manifest_key(announcement.number), json.dumps(manifest).encode())
    return batch, manifest


def _way_out(settings: Settings, announcement: Announcement) -> str:
    return (
        f"to give up version {announcement.number}, which that run announced at {announcement.at:%Y-%m-%dT%H:%MZ} and"
        " did not finish, remove attribute `announced` of item #catalogue of table"
        f" {settings.accommodations_ledger_table} and drop the files of that day again"
    )


def tally_of(run: str, measures: dict[str, Any]) -> dict[str, int]:
    """The tally of a batch, and its `unlisted` and `blocked`, which count as duplicates in it."""
    unusable = {name: measures[name] for name in ("unlisted", "blocked")}
    tally = Tally(
        measures["records_in"],
        published=measures["published"],
        duplicates=measures["duplicates"] + sum(unusable.values()),
        quarantined=measures["quarantined"],
    ).checked(run)
    return tally | unusable


def _catalogue_copies(plan: dict[str, Any], manifest: dict[str, Any], run: str) -> list[tuple[str, str]]:
    """What makes the folder of the new version complete: staged buckets, and those of the version before."""
    if not plan["files"]:
        return []
    copies: list[tuple[str, str]] = []
    for name, each in manifest["files"].items():
        target = manifest["current_prefix"] + each["current"]
        if name not in plan["files"]:
            copies.append((plan["before"]["current_prefix"] + each["current"], target))
            continue
        copies.append((lake.staging_key(PIPELINE, run, each["current"]), target))
        if each["candidates"].startswith(f"{CANDIDATES_PREFIX}version={manifest['number']:06d}/"):
            staged = lake.staging_key(PIPELINE, run, each["candidates"].rsplit("/", 1)[-1])
            copies.append((staged, each["candidates"]))
    return copies


def show(settings: Settings) -> None:
    """Point the partition of the catalog at the version that counts, again when another one came meanwhile."""
    bucket, table = settings.lake_bucket, settings.accommodations_ledger_table
    number = storage.read_catalogue(table).number
    while True:
        prefix = read_manifest(bucket, number)["current_prefix"]
        if prefix:
            location = f"s3://{bucket}/{prefix}"
            catalog.point_partition(settings.glue_database, CURRENT_TABLE, CURRENT_PARTITION, location)
        found = storage.read_catalogue(table).number
        if found == number:
            return
        number = found


def _remove_expired(bucket: str, plan: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Delete what was superseded for longer than the retention: what the manifest before knew and this one does not."""
    left = {each["key"] for each in manifest["superseded"]}
    keys: list[str] = []
    for each in plan["before"]["superseded"]:
        if each["key"] not in left:
            keys += s3.list_keys(bucket, each["key"])
    if keys:
        s3.delete_objects(bucket, keys)
        log.info("removed %d superseded files", len(keys))


# Reading, as an engine would


class CatalogueNotPublished(TerminalError):
    """The catalog has no current catalogue yet."""


def read_current() -> pa.Table:
    """The current catalogue through the catalog: partition, its place, the files there; sorted by accommodation.

    Raises:
        CatalogueNotPublished: there is none yet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = load_settings()
    location = catalog.partition_location(settings.glue_database, CURRENT_TABLE, CURRENT_PARTITION)
    if location is None:
        raise CatalogueNotPublished(
            f"{settings.glue_database}.{CURRENT_TABLE} has no partition yet: drop a partner's file (`sluice produce"
            " partners`), and `sluice airflow dags test accommodations_consolidate` makes it"
        )
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    with scratch_folder("accommodations-read") as folder:
        paths = s3.download_files(bucket, [file.key for file in s3.list_objects(bucket, prefix)], folder)
        found: pa.Table = pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths])
    return found.sort_by("accommodation_id")
