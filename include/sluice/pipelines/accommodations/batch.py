"""What `steps.collect` and `steps.consolidate` are made of: from events to files, and from files to what is staged."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice import lake
from sluice.aws import s3
from sluice.aws.threads import THREADS, in_parallel
from sluice.base_settings import CANARY
from sluice.core.notifications import Announced
from sluice.core.quarantine import Rejection
from sluice.core.staging import content_digest
from sluice.pipelines.accommodations import PIPELINE, storage
from sluice.pipelines.accommodations.catalogue import StagedFiles, Tables, read_tables
from sluice.pipelines.accommodations.current import (
    COUNTS,
    buckets_of,
    digest_lists,
    merge_bucket,
    newest_bytes,
    plan_buckets,
    split_candidates,
    write_newest,
)
from sluice.pipelines.accommodations.records import PartnerFile, Reason, usable_partners
from sluice.pipelines.accommodations.storage import Catalogue
from sluice.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from sluice.pipelines.accommodations.transform import Consolidated

log = logging.getLogger(__name__)


def collected_key(run: str) -> str:
    """Key of what a run took from the queue."""
    return lake.staging_key(PIPELINE, run, "collected.json")


def batch_key(run: str) -> str:
    """Key of what a run will publish."""
    return lake.staging_key(PIPELINE, run, "batch.json")


# collect


def find_files(settings: Settings, events: Sequence[Announced]) -> tuple[list[PartnerFile], list[Rejection]]:
    """The files that events are about, each once as it is now; and the events of those that were deleted.

    An object that was overwritten since its event is taken as it is; the event of the newer version is a duplicate.
    A deleted one can never be read, so its message is not left to become a dead letter.
    """
    distinct = list(dict.fromkeys(event.key for event in events))
    found = in_parallel(lambda key: storage.find_file(settings.landing_bucket, key), distinct)
    deleted = {key for key, file in zip(distinct, found, strict=True) if file is None}
    rejections = [
        Rejection(
            f"s3://{settings.landing_bucket}/{event.key}", Reason.OBJECT_MISSING, "", Reason.OBJECT_MISSING.detail
        )
        for event in events
        if event.key in deleted
    ]
    return [file for file in found if file], rejections


def quarantine_events(settings: Settings, run: str, rejections: Sequence[Rejection]) -> list[list[str]]:
    """Stage rejected events; (staged key, quarantine key), or nothing."""
    if not rejections:
        return []
    staged = lake.staging_key(PIPELINE, run, "events.jsonl")
    s3.write_json_lines(settings.lake_bucket, staged, [asdict(each) for each in rejections])
    return [[staged, lake.quarantine_key(PIPELINE, run, "events")]]


# consolidate


def consolidate_files(settings: Settings, run: str, folder: Path) -> dict[str, Any]:
    """Read the files, apply the rule, merge the catalogue, stage everything; what `publish` needs to know of it.

    Args:
        settings: of this process.
        run: the run as a part of a key.
        folder: empty folder for its work.

    Raises:
        ForeignSnapshot: see `catalogue.read_tables`.
    """
    from sluice.pipelines.accommodations import transform

    bucket = settings.lake_bucket
    collected = json.loads(s3.read_object(bucket, collected_key(run)).body)
    files = [
        PartnerFile(name, key, version, datetime.fromisoformat(at), size)
        for name, key, version, at, size in collected["files"]
    ]
    priority, blocked = storage.read_lists(settings.partner_priority_table)
    found = storage.read_catalogue(settings.accommodations_ledger_table)
    tables = read_tables(digest_lists(priority, blocked))
    with transform.consolidation(folder, settings.accommodations_memory_limit_mb) as connection:
        unreadable = _read_files(connection, files, folder)
        # Usable for its own accommodation only (`is_reserved` of the rule), without being on the list.
        usable = usable_partners([*priority, CANARY], blocked)
        result = transform.consolidate_batch(connection, usable, blocked, folder / "out")
        quarantine = [*collected["quarantine"], *_stage_rejected(settings, run, result)]
        outputs = [(path, lake.staging_key(PIPELINE, run, path.name)) for path in result.outputs]
        s3.upload_files(bucket, outputs)
        withdrawn = collected.get("withdraw", [])
        plan, counts = _merge(connection, settings, run, result.ranges, found, tables, withdrawn, folder)
    read = [file for file in files if file not in unreadable]
    kept = {file.key for file in unreadable}
    kept_messages = {message_id for message_id, key in collected["events"] if key in kept}
    return {
        "run": run,
        "collected": content_digest(collected),
        "base": found.number,
        "outputs": [key for _, key in outputs],
        "quarantine": quarantine,
        "sources": [file.source for file in read],
        "receipt_handles": [
            handle for message_id, handle in collected["messages"].items() if message_id not in kept_messages
        ],
        "catalogue": plan,
        "measures": _measures(collected["counts"], len(unreadable), result, counts),
    }


def _read_files(connection: DuckDBPyConnection, files: Sequence[PartnerFile], folder: Path) -> dict[PartnerFile, str]:
    """Fetch and read the files, some at a time, as the disk may not hold all; the unreadable ones and why."""
    from sluice.pipelines.accommodations.transform import read_files

    unreadable: dict[PartnerFile, str] = {}
    for start in range(0, len(files), THREADS):
        group = files[start : start + THREADS]
        paths = storage.fetch_files(group, folder / "in")
        numbered = dict(enumerate(zip(group, paths, strict=True), start))
        records, flaws = read_files(connection, folder, numbered)
        for number, (file, path) in numbered.items():
            if number in flaws:
                unreadable[file] = flaws[number]
                log.warning(
                    "%s cannot be read (%s): %s. Its message stays in the queue and becomes a dead letter after ten"
                    " receives; drop the file again, or correct it and run"
                    " `sluice dead-letters redrive accommodations --no-dry-run`",
                    *(file.source, flaws[number], flaws[number].detail),
                )
            else:
                log.info("%s: %d records", file.source, records[number])
            path.unlink()
    return unreadable


def _stage_rejected(settings: Settings, run: str, result: Consolidated) -> list[list[str]]:
    if not result.rejected_path:
        return []
    staged = lake.staging_key(PIPELINE, run, result.rejected_path.name)
    s3.upload_files(settings.lake_bucket, [(result.rejected_path, staged)])
    log.warning("quarantined %s", result.rejected)
    return [[staged, lake.quarantine_key(PIPELINE, run, "records")]]


def _merge(
    connection: DuckDBPyConnection,
    settings: Settings,
    run: str,
    ranges: Sequence[str],
    found: Catalogue,
    tables: Tables,
    withdrawn: Sequence[str],
    folder: Path,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Merge the batch into the buckets that it touches, or all of them where `current` is outdated; stage them.

    Earlier records of the accommodations that are `withdrawn` are left out.

    Returns:
        `catalogue` of the batch, which `publication.finish` commits, and the counts of the gate.
    """
    number = found.number + 1
    buckets = plan_buckets(tables.buckets, tables.candidate_bytes + newest_bytes(connection))
    # Candidates of all buckets, sorted by bucket.
    newest_files, new = write_newest(connection, ranges, number, buckets, folder)
    is_split, is_outdated = buckets != tables.buckets, tables.is_outdated(found)
    old = tables.candidates.files
    changed = set(new) | (buckets_of(connection, withdrawn, buckets) & old.keys())
    touched = changed | old.keys() if is_outdated else set(changed)
    split_files: dict[int, Path] = {}
    if is_split:
        for bucket, addresses in old.items():
            paths = _download(settings, addresses, folder / f"old-{bucket}")
            split_files[bucket] = folder / f"split-{bucket:05d}.parquet"
            changed.update(split_candidates(connection, paths, buckets, split_files[bucket]))
            for path in paths:
                path.unlink()
        touched = changed
    # Of each table the files that take the place of those of the buckets.
    candidates, current = StagedFiles(settings, run), StagedFiles(settings, run)
    counts = dict.fromkeys(COUNTS, 0)
    for bucket in sorted(touched):
        paths = [] if is_split else _download(settings, old.get(bucket, []), folder / f"old-{bucket}")
        parent = split_files.get(bucket % tables.buckets)
        targets = folder / f"candidates-{bucket:05d}.parquet", folder / f"current-{bucket:05d}.parquet"
        sources = [*paths, *newest_files, *([parent] if parent else [])]
        merged = merge_bucket(connection, sources, bucket, buckets, number, *targets, withdrawn=withdrawn)
        # A file without a row has no value of the partition.
        if bucket in changed and merged["candidate_rows"]:
            candidates.add(targets[0])
        if merged["current_rows"]:
            current.add(targets[1])
        for path in (*paths, *targets):
            path.unlink()
        for count in COUNTS:
            counts[count] += merged[count]
    size_bytes = tables.candidate_bytes + counts["candidate_bytes"] - counts["replaced_bytes"]
    plan = {
        "buckets": buckets,
        "candidate_bytes": size_bytes,
        "lists": tables.lists,
        "is_outdated": is_outdated,
        "candidates": candidates.replacing(tables.candidates.files, None if is_split else changed),
        "current": current.replacing(tables.current.files, None if is_split or is_outdated else touched),
    }
    return plan, counts


def _download(settings: Settings, addresses: Sequence[str], folder: Path) -> list[Path]:
    root = f"s3://{settings.lake_bucket}/"
    return s3.download_files(settings.lake_bucket, [each.removeprefix(root) for each in addresses], folder)


def _measures(
    events: dict[str, int], unreadable: int, result: Consolidated, catalogue: dict[str, int]
) -> dict[str, Any]:
    """The row that the gate looks at."""
    measures = _measure_counts(result) | catalogue | events
    measures |= {"files": events["files"] - unreadable, "unreadable": unreadable, "outputs": len(result.outputs)}
    measures["events_accounted"] = sum(
        measures[name] for name in ("files", "unreadable", "duplicate_events", "quarantined_events")
    )
    if not result.outputs:
        # There is no file that could be too small.
        measures["smallest_file_bytes"] = None
    return measures


def _measure_counts(consolidated: Consolidated) -> dict[str, Any]:
    """The row of measures that the gate of a batch looks at."""
    counts = consolidated.counts
    accounted = sum(counts[name] for name in ("published", "duplicates", "unlisted", "blocked", "quarantined"))
    unknown = consolidated.unknown_partners
    return {
        **counts,
        "accounted": accounted,
        "unknown_partners": ", ".join(map(repr, unknown[:10])) + (" ..." if len(unknown) > 10 else ""),
    }
