"""What `steps.collect` and `steps.consolidate` are made of: from events to files, and from files to what is staged."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice import lake, s3
from sluice.accommodations import PIPELINE, storage
from sluice.accommodations.current import (
    CANDIDATES_PREFIX,
    COUNTS,
    CURRENT_PREFIX,
    digest_lists,
    merge_bucket,
    newest_bytes,
    plan_buckets,
    split_candidates,
    write_newest,
)
from sluice.accommodations.publication import read_manifest
from sluice.accommodations.records import PartnerFile, Reason, usable_partners
from sluice.notifications import Announced
from sluice.quarantine import Rejection
from sluice.settings import Settings
from sluice.staging import content_digest
from sluice.threads import THREADS, in_parallel

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from sluice.accommodations.transform import Consolidated

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


def consolidate_files(settings: Settings, run: str, folder: Path, now: datetime) -> dict[str, Any]:
    """Read the files, apply the rule, merge the catalogue, stage everything; what `publish` needs to know of it.

    Args:
        settings: of this process.
        run: the run as a part of a key.
        folder: empty folder for its work.
        now: the time (UTC); what was superseded for longer than the retention before it may be deleted.
    """
    from sluice.accommodations import transform

    bucket = settings.lake_bucket
    collected = json.loads(s3.read_object(bucket, collected_key(run)).body)
    files = [
        PartnerFile(name, key, version, datetime.fromisoformat(at), size)
        for name, key, version, at, size in collected["files"]
    ]
    priority, blocked = storage.read_lists(settings.partner_priority_table)
    base = storage.read_catalogue(settings.accommodations_ledger_table).number
    before = read_manifest(bucket, base)
    with transform.consolidation(folder, settings.accommodations_memory_limit_mb) as connection:
        unreadable = _read_files(connection, files, folder)
        result = transform.consolidate_batch(connection, usable_partners(priority, blocked), blocked, folder / "out")
        quarantine = [*collected["quarantine"], *_stage_rejected(settings, run, result)]
        outputs = [(path, lake.staging_key(PIPELINE, run, path.name)) for path in result.outputs]
        s3.upload_files(bucket, outputs)
        digest = digest_lists(priority, blocked)
        plan, counts = _merge(connection, settings, run, result.ranges, before, digest, folder)
    read = [file for file in files if file not in unreadable]
    kept = {file.key for file in unreadable}
    kept_messages = {message_id for message_id, key in collected["events"] if key in kept}
    retention = timedelta(hours=settings.accommodations_retention_hours)
    return {
        "run": run,
        "collected": content_digest(collected),
        "base": base,
        "outputs": [key for _, key in outputs],
        "quarantine": quarantine,
        "sources": [file.source for file in read],
        "receipt_handles": [
            handle for message_id, handle in collected["messages"].items() if message_id not in kept_messages
        ],
        "catalogue": plan | {"expired_until": (now - retention).isoformat()},
        "measures": _measures(collected["counts"], len(unreadable), result, counts),
    }


def _read_files(connection: DuckDBPyConnection, files: Sequence[PartnerFile], folder: Path) -> dict[PartnerFile, str]:
    """Fetch and read the files, some at a time, as the disk may not hold all; the unreadable ones and why."""
    from sluice.accommodations.transform import read_files

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
    before: dict[str, Any],
    digest: str,
    folder: Path,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Merge the batch into the buckets that it touches, or all of them when the lists changed; stage them.

    Returns:
        `catalogue` of the batch (see `current.next_manifest`), and the counts of the gate.
    """
    number = before["number"] + 1
    # A bucket that was last written by an older release has no size yet.
    known_bytes = sum(each.get("candidate_bytes", 0) for each in before["files"].values())
    buckets = plan_buckets(before["buckets"], known_bytes + newest_bytes(connection))
    # Candidates of all buckets, sorted by bucket.
    newest_files, new = write_newest(connection, ranges, number, buckets, folder)
    is_split, is_decided_anew = buckets != before["buckets"], digest != before["digest"]
    old_keys = {int(name): each["candidates"] for name, each in before["files"].items()}
    touched = {*new, *old_keys} if is_decided_anew and not is_split else set(new)
    split_files: dict[int, Path] = {}
    if is_split:
        for name, key in old_keys.items():
            (path,) = s3.download_files(settings.lake_bucket, [key], folder / f"old-{name}")
            split_files[name] = folder / f"split-{name:05d}.parquet"
            touched.update(split_candidates(connection, path, buckets, split_files[name]))
            path.unlink()
    files: dict[str, Any] = {}
    counts = dict.fromkeys(COUNTS, 0)
    for name in sorted(touched):
        old: list[Path] = []
        if not is_split and name in old_keys:
            old = s3.download_files(settings.lake_bucket, [old_keys[name]], folder / f"old-{name}")
        parent = split_files.get(name % before["buckets"])
        sorted_files = [*newest_files, *([parent] if parent else [])]
        candidates, current = folder / f"candidates-{name:05d}.parquet", folder / f"bucket-{name:05d}.parquet"
        found = merge_bucket(connection, old, sorted_files, name, buckets, candidates, current)
        staged = [(path, lake.staging_key(PIPELINE, run, path.name)) for path in (candidates, current)]
        s3.upload_files(settings.lake_bucket, staged)
        for path in (*old, candidates, current):
            path.unlink()
        # A batch that brings no candidate to a bucket leaves the file of its candidates where it is.
        is_new = name in new or is_split
        files[str(name)] = {
            "candidates": f"{CANDIDATES_PREFIX}version={number:06d}/{candidates.name}" if is_new else old_keys[name],
            "current": current.name,
            "candidate_rows": found["candidate_rows"],
            "candidate_bytes": found["candidate_bytes"],
            "current_rows": found["current_rows"],
        }
        for count in COUNTS:
            counts[count] += found[count]
    plan = {
        "before": before,
        "digest": digest,
        "is_decided_anew": is_decided_anew,
        "buckets": buckets,
        "files": files,
        "current_prefix": f"{CURRENT_PREFIX}version={number:06d}/",
    }
    return plan, counts


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
