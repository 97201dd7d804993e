"""Removes the records of canaries; idempotent, and limited to the reserved names.

Not removed here: the catalogue of accommodations, which has one writer (`accommodations_consolidate` with `withdraw`),
and objects and items that expire, such as staging and the ledger of files.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from sluice import lake
from sluice.aws import dynamodb, s3, sqs
from sluice.aws.sessions import client, error_code
from sluice.aws.tables import row_commits
from sluice.aws.threads import in_parallel
from sluice.monitoring.canary.records import (
    DATASET_FILE,
    DATASET_OUTPUT,
    EVENT_HOUR,
    NAME,
    PARTNER_FILE,
    REPOSITORY_KEY,
)
from sluice.pipelines.accommodations.records import CURATED_PREFIX
from sluice.pipelines.dockerhub.records import RAW_PREFIX
from sluice.pipelines.events import storage as events_storage
from sluice.pipelines.events.hours import forget_hour
from sluice.pipelines.modules.storage import RATES
from sluice.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

CLOCKS_APART = timedelta(minutes=5)
"""Maximum difference of the clocks of two machines."""


def clean_up(settings: Settings, summary: Mapping[str, str], since: datetime, now: datetime) -> dict[str, int]:
    """Remove all records of canaries; returns their number by pipeline.

    Args:
        settings: the settings.
        summary: `dag` and `run`, for the summaries of snapshots.
        since: start of the first canary whose records may exist (UTC).
        now: the time (UTC).

    Raises:
        TableBusy: see `sluice.aws.tables.commits`.
    """
    removed = {
        "dockerhub": _clean_dockerhub(settings),
        "events": _clean_events(settings, summary),
        "modules": _clean_modules(settings, summary, since),
        "accommodations": _clean_accommodations(settings, since, now),
        "datasets": _delete(settings.landing_bucket, [DATASET_FILE]) + _delete(settings.lake_bucket, [DATASET_OUTPUT]),
    }
    log.info("removed %s", removed)
    return removed


def _clean_dockerhub(settings: Settings) -> int:
    """Raw objects first, so that a concurrent rebuild does not create the items again."""
    bucket, table = settings.lake_bucket, settings.dockerhub_table
    raw = list(s3.list_keys(bucket, f"{RAW_PREFIX}namespace={NAME}/"))
    items = dynamodb.query_items(table, "PK = :pk", {":pk": REPOSITORY_KEY})
    return _delete(bucket, raw) + _delete_items(table, items, "PK", "SK")


def _clean_events(settings: Settings, summary: Mapping[str, str]) -> int:
    """Raw files first, so that a concurrent run of the hour does not publish the rows again."""
    bucket = settings.lake_bucket
    raw = [file.key for file in events_storage.list_raw(bucket, EVENT_HOUR)]
    own = [
        key for key, is_own in zip(raw, in_parallel(lambda key: _is_own_raw(bucket, key), raw), strict=True) if is_own
    ]
    removed = _delete(bucket, own)
    where = f"{events_storage.rows_of_hour(EVENT_HOUR)} and event_type = '{NAME}'"
    rows = _delete_rows(events_storage.EVENTS.name, where, "event_type", summary)
    if len(own) == len(raw):
        _delete_partition(settings)
    # Its number of raw files has changed.
    forget_hour(settings.events_hours_table, settings.events_stream, EVENT_HOUR)
    return removed + rows


def _is_own_raw(bucket: str, key: str) -> bool:
    """Whether a raw file has only events of the canary; a wrong clock may have added others."""
    import pyarrow.parquet as pq

    types = pq.read_table(io.BytesIO(s3.read_object(bucket, key).body), columns=["event_type"])["event_type"]
    return set(types.to_pylist()) <= {NAME}


def _delete_partition(settings: Settings) -> None:
    values = events_storage.partition_values(EVENT_HOUR)
    try:
        client("glue").delete_partition(
            DatabaseName=settings.glue_database, TableName=events_storage.RAW_TABLE, PartitionValues=values
        )
    except ClientError as error:
        if error_code(error) != "EntityNotFoundException":
            raise


def _clean_modules(settings: Settings, summary: Mapping[str, str], since: datetime) -> int:
    removed = 0
    for table in (settings.modules_message_table, settings.modules_diagnostic_table):
        items = dynamodb.query_items(table, "moduleId = :module", {":module": NAME})
        removed += _delete_items(table, items, "moduleId", "timestamp")
    where = f"module = '{NAME}' and published_at >= '{(since - CLOCKS_APART).isoformat()}'"
    removed += _delete_rows(RATES.name, where, "module", summary)
    url = sqs.queue_url(settings.canary_queue)
    messages, _ = sqs.drain(url, sqs.BATCH_SIZE)
    if messages:
        sqs.delete(url, [each.receipt_handle for each in messages])
    return removed


def _clean_accommodations(settings: Settings, since: datetime, now: datetime) -> int:
    """Delete the partner's file, and its line in the output files; a file without other lines is deleted."""
    removed = _delete(settings.landing_bucket, [PARTNER_FILE])
    bucket = settings.lake_bucket
    return removed + sum(
        in_parallel(lambda key: _remove_line(bucket, key), list(_outputs(bucket, since - CLOCKS_APART, now)))
    )


def _outputs(bucket: str, since: datetime, now: datetime) -> Iterator[str]:
    """Output files written since a time."""
    pages = client("s3").get_paginator("list_objects_v2")
    for days in range((now.date() - since.date()).days + 1):
        prefix = f"{CURATED_PREFIX}{lake.day_partition(since + timedelta(days=days))}/"
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            yield from (each["Key"] for each in page.get("Contents", []) if each["LastModified"] >= since)


def _remove_line(bucket: str, key: str) -> bool:
    """Remove the canary's line from a file, on condition that it is unchanged; returns whether it had the line."""
    found = client("s3").get_object(Bucket=bucket, Key=key)
    lines = found["Body"].read().splitlines(keepends=True)
    kept = [line for line in lines if not (NAME.encode() in line and json.loads(line)["accommodation_id"] == NAME)]
    if len(kept) == len(lines):
        return False
    if kept:
        client("s3").put_object(
            Bucket=bucket, Key=key, Body=b"".join(kept), ContentType=found["ContentType"], IfMatch=found["ETag"]
        )
    else:
        s3.delete_objects(bucket, [key])
    return True


def _delete_rows(table: str, where: str, column: str, summary: Mapping[str, str]) -> int:
    def is_own(rows: pa.Table) -> list[bool]:
        return [value == NAME for value in rows[column].to_pylist()]

    commit = row_commits.delete_rows(table, where=where, columns=(column,), is_deleted=is_own, summary=summary)
    if not (commit.is_new and commit.snapshot):
        return 0
    counts = commit.snapshot.summary
    return int(counts.get("deleted-records", 0)) - int(counts.get("added-records", 0))


def _delete(bucket: str, keys: list[str]) -> int:
    """Delete objects, if any; returns their number."""
    found = [key for key in keys if s3.object_exists(bucket, key)]
    s3.delete_objects(bucket, found)
    return len(found)


def _delete_items(table: str, items: Iterator[dynamodb.Item], *key: str) -> int:
    found = [{name: item[name] for name in key} for item in items]
    in_parallel(lambda each: dynamodb.write(dynamodb.Delete(table, each)), found)
    return len(found)
