"""Maintenance of Iceberg tables: expire snapshots, merge small files (compaction), and delete orphan files.

Nothing that a reader may use is deleted: a snapshot is kept for the retention after it was replaced, and a file without
a snapshot for the retention and `WRITE_HOURS` after it was written, as it may belong to a commit in progress.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sluice import lake
from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.aws.tables import commits, row_commits
from sluice.aws.tables.definitions import PREFIX, load
from sluice.settings import load_settings

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile, ManifestFile
    from pyiceberg.table import Table

log = logging.getLogger(__name__)

WRITE_HOURS = 6
"""Upper bound of the time between the first file of a commit and the commit."""

SMALL_FILES = 10
"""A partition with at least this many small files is rewritten as one file."""

SMALL_BYTES = 16 * 1024 * 1024
"""Size below which a file is small."""

REWRITE_MAX_BYTES = 256 * 1024 * 1024
"""Larger partitions are not rewritten, as that happens in memory."""


@dataclass(frozen=True)
class Maintained:
    """Changes made to a table, or planned by a dry run.

    Attributes:
        table: its name.
        merged_files: small files that were rewritten as fewer ones.
        expired_snapshots: number of expired snapshots.
        deleted_files: number of orphan files deleted.
        deleted_bytes: their size.
    """

    table: str
    merged_files: int
    expired_snapshots: int
    deleted_files: int
    deleted_bytes: int


def maintain(name: str, run: str, now: datetime, *, dry_run: bool = False) -> Maintained:
    """Merge small files, expire snapshots, then delete orphan files.

    Args:
        name: of the table.
        run: the run as a part of a key.
        now: the time (UTC).
        dry_run: only count. `deleted_files` then lacks files that become orphans by the expiry.

    Raises:
        TableMissing: there is no such table.
        TableBusy: see `sluice.aws.tables.commits`.
    """
    retention = timedelta(hours=load_settings().table_retention_hours)
    merged = merge_small_files(name, run, dry_run=dry_run)
    expired = expire_snapshots(name, now - retention, dry_run=dry_run)
    deleted = delete_unnamed_files(name, now - retention - timedelta(hours=WRITE_HOURS), dry_run=dry_run)
    done = Maintained(name, merged, expired, len(deleted), sum(deleted.values()))
    log.info("%s%s", "dry run: " if dry_run else "", done)
    return done


# Small files


def merge_small_files(name: str, run: str, *, dry_run: bool = False) -> int:
    """Rewrite each partition with many small files as one file; returns the number of merged files.

    A concurrent writer that replaces the partition wins: its rows stay, and the next run merges.
    """
    table = load(load_settings(), name)
    merged = 0
    for files in list(_by_partition(table).values()):
        small = sum(file.file_size_in_bytes < SMALL_BYTES for file in files)
        if small < SMALL_FILES or sum(file.file_size_in_bytes for file in files) > REWRITE_MAX_BYTES:
            continue
        if dry_run or _rewrite(table, name, run, files):
            merged += len(files)
    return merged


def _by_partition(table: Table) -> dict[Any, list[DataFile]]:
    found: dict[Any, list[DataFile]] = {}
    for task in table.scan().plan_files():
        found.setdefault(task.file.partition[0], []).append(task.file)
    return found


def _rewrite(table: Table, name: str, run: str, files: list[DataFile]) -> bool:
    settings = load_settings()
    where = _partition_condition(table, files[0].partition[0])
    rows = table.scan(row_filter=where).to_arrow()
    content = f"merged-{uuid.uuid4().hex}"
    key = lake.staging_key("platform", run, f"{name}-{content}.parquet")
    s3.write_object(settings.lake_bucket, key, row_commits.parquet_bytes(rows), "application/vnd.apache.parquet")
    try:
        commits.replace(
            name,
            where,
            [key],
            content=content,
            expected=[file.file_path for file in files],
            summary={"dag": "platform_maintain", "run": run, "merged-files": len(files)},
        )
    except commits.Conflict as conflict:
        log.info("%s; its files are merged by the next run", conflict)
        return False
    return True


def _partition_condition(table: Table, value: Any) -> str:
    """Condition on the rows of a partition, by its value in a file's metadata."""
    from pyiceberg.transforms import HourTransform, MonthTransform

    (part,) = table.spec().fields
    column = table.schema().find_column_name(part.source_id)
    if isinstance(part.transform, HourTransform):
        start = datetime.fromtimestamp(value * 3600, UTC)
        end = start + timedelta(hours=1)
    elif isinstance(part.transform, MonthTransform):
        start = datetime(1970 + value // 12, value % 12 + 1, 1, tzinfo=UTC)
        end = (start + timedelta(days=31)).replace(day=1)
    else:
        return f"{column} = {value!r}"
    return f"{column} >= '{start.isoformat()}' and {column} < '{end.isoformat()}'"


# Snapshots


def expire_snapshots(name: str, before: datetime, *, dry_run: bool = False) -> int:
    """Expire the snapshots of a table that were replaced before a time; returns their number.

    By the time of replacement, not of the commit: a snapshot that was current a minute ago may be days old.
    """
    table = load(load_settings(), name)
    replaced_at = _replaced_at(table)
    current = table.metadata.current_snapshot_id
    cutoff = int(before.timestamp() * 1000)
    ids = [
        each.snapshot_id
        for each in table.snapshots()
        if each.snapshot_id != current and replaced_at.get(each.snapshot_id, each.timestamp_ms) < cutoff
    ]
    if ids and not dry_run:
        table.maintenance.expire_snapshots().by_ids(ids).commit()
    return len(ids)


def _replaced_at(table: Table) -> dict[int, int]:
    """Snapshot -> when it was replaced (ms since 1970); the last time, if a rollback made it current again."""
    entries = sorted(table.metadata.snapshot_log, key=lambda each: each.timestamp_ms)
    following = [each.timestamp_ms for each in entries[1:]]
    return {each.snapshot_id: at for each, at in zip(entries, following, strict=False)}


# Files


def delete_unnamed_files(name: str, before: datetime, *, dry_run: bool = False) -> dict[str, int]:
    """Delete orphan files of a table that were written before a time; returns key -> bytes."""
    settings = load_settings()
    # List the files before loading the table: a file committed in between is younger than `before`.
    listed = list(_written_before(settings.lake_bucket, f"{PREFIX}{name}/", before))
    table = load(settings, name)
    named = _named_files(table)
    root = f"s3://{settings.lake_bucket}/"
    unnamed = {key: size for key, size in listed if root + key not in named}
    if unnamed and not dry_run:
        s3.delete_objects(settings.lake_bucket, list(unnamed))
    return unnamed


def _written_before(bucket: str, prefix: str, before: datetime) -> Iterator[tuple[str, int]]:
    """Key and size of the files in the folders of Iceberg; other files below the prefix are never deleted."""
    for folder in ("data/", "metadata/"):
        for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + folder):
            for each in page.get("Contents", []):
                if each["LastModified"] < before and not each["Key"].endswith("/"):
                    yield each["Key"], each["Size"]


def _named_files(table: Table) -> set[str]:
    """Addresses of all files of all snapshots, and of the metadata."""
    named = {table.metadata_location} | {each.metadata_file for each in table.metadata.metadata_log}
    manifests: dict[str, ManifestFile] = {}
    for snapshot in table.snapshots():
        named.add(snapshot.manifest_list)
        manifests |= {each.manifest_path: each for each in snapshot.manifests(table.io)}
    for path, manifest in manifests.items():
        named.add(path)
        named |= {each.data_file.file_path for each in manifest.fetch_manifest_entry(table.io, discard_deleted=True)}
    return named
