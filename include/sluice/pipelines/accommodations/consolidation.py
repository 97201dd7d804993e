"""Parts of `steps.collect` (events to files) and `steps.consolidate` (files to staged outputs)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.aws import s3
from sluice.aws.threads import THREADS, in_parallel
from sluice.base_settings import CANARY
from sluice.core import documents
from sluice.core.quarantine import Rejection
from sluice.core.run import Run
from sluice.core.work_queue import Received
from sluice.pipelines.accommodations import storage
from sluice.pipelines.accommodations.batch import COLLECTED, Batch, CatalogueChange, Collected
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
from sluice.settings import Settings, load_settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from sluice.pipelines.accommodations.transform import Consolidated

log = logging.getLogger(__name__)


# collect


def find_files(settings: Settings, events: Sequence[Received[str]]) -> tuple[list[PartnerFile], list[Rejection]]:
    """The current versions of the files of the events, each once; and the events of deleted files.

    For an object overwritten since its event, the current version is used; the event of that version is a duplicate. A
    deleted object can never be read, so its event is rejected instead of retried until it is a dead letter.
    """
    distinct = list(dict.fromkeys(event.record for event in events))
    found = in_parallel(lambda key: storage.find_file(settings.landing_bucket, key), distinct)
    deleted = {key for key, file in zip(distinct, found, strict=True) if file is None}
    rejections = [
        Rejection(
            f"s3://{settings.landing_bucket}/{event.record}", Reason.OBJECT_MISSING, "", Reason.OBJECT_MISSING.detail
        )
        for event in events
        if event.record in deleted
    ]
    return [file for file in found if file], rejections


# consolidate


def consolidate_files(run: Run, folder: Path) -> Batch:
    """Read the files, apply the rule, merge the catalogue, and stage the results; returns the batch for `publish`.

    Args:
        run: the run.
        folder: empty working folder.

    Raises:
        ForeignSnapshot: see `catalogue.read_tables`.
    """
    from sluice.pipelines.accommodations import transform

    settings = load_settings()
    collected = run.load(COLLECTED, Collected)
    priority, blocked = storage.read_lists(settings.accommodations_priority_table)
    found = storage.read_catalogue(settings.accommodations_ledger_table)
    # After the catalogue: what is published from here on makes the publication of this batch fail.
    files = _left(settings, run, found, collected.files)
    tables = read_tables(digest_lists(priority, blocked))
    with transform.consolidation(folder, settings.accommodations_memory_limit_mb) as connection:
        unreadable = _read_files(connection, files, folder)
        # Usable for its own accommodation only (`is_reserved` of the rule), without being on the list.
        usable = usable_partners([*priority, CANARY], blocked)
        result = transform.consolidate_batch(connection, usable, blocked, folder / "out")
        rejected = _stage_rejected(run, result)
        outputs = [(path, run.staging_key(path.name)) for path in result.outputs]
        s3.upload_files(run.bucket, outputs)
        change, counts = _merge(connection, run, result.ranges, found, tables, collected.withdraw, folder)
    kept = {file.key for file in unreadable}
    unknown = result.unknown_partners
    return Batch(
        run=run.slug,
        collected=documents.digest(collected),
        base=found.number,
        outputs=[key for _, key in outputs],
        rejected=rejected,
        rejections=collected.rejections,
        sources=[file.source for file in files if file not in unreadable],
        receipts=collected.receipts.without({message_id for message_id, key in collected.events if key in kept}),
        catalogue=change,
        counts=_counts(collected, len(files), len(unreadable), result) | counts,
        unknown_partners=", ".join(map(repr, unknown[:10])) + (" ..." if len(unknown) > 10 else ""),
    )


def _left(settings: Settings, run: Run, found: Catalogue, files: list[PartnerFile]) -> list[PartnerFile]:
    """The files that no other run published since this one collected them, while their messages were out of sight."""
    if found.announced and found.announced.run == run.slug:
        # Published under the names that were announced, which are as many as there were outputs.
        return files
    published = storage.find_published(settings.accommodations_ledger_table, files)
    return [file for file in files if file not in published]


def _read_files(connection: DuckDBPyConnection, files: Sequence[PartnerFile], folder: Path) -> dict[PartnerFile, str]:
    """Fetch and read the files in groups, as the disk may not hold all; returns the unreadable ones with the reason."""
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
                    " receives; upload the file again, or correct it and run"
                    " `sluice dead-letters redrive accommodations --no-dry-run`",
                    *(file.source, flaws[number], flaws[number].detail),
                )
            else:
                log.info("%s: %d records", file.source, records[number])
            path.unlink()
    return unreadable


def _stage_rejected(run: Run, result: Consolidated) -> str | None:
    if not result.rejected_path:
        return None
    staged = run.staging_key(result.rejected_path.name)
    s3.upload_files(run.bucket, [(result.rejected_path, staged)])
    log.warning("quarantined %s", result.rejected)
    return staged


def _merge(
    connection: DuckDBPyConnection,
    run: Run,
    ranges: Sequence[str],
    found: Catalogue,
    tables: Tables,
    withdrawn: Sequence[str],
    folder: Path,
) -> tuple[CatalogueChange, dict[str, int]]:
    """Merge the batch into its buckets, or into all of them if `current` is outdated; stage the results.

    Earlier records of the `withdrawn` accommodations are removed.

    Returns:
        The changes for `publication.finish` to commit, and the counts of the gate.
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
            paths = _download(run.bucket, addresses, folder / f"old-{bucket}")
            split_files[bucket] = folder / f"split-{bucket:05d}.parquet"
            changed.update(split_candidates(connection, paths, buckets, split_files[bucket]))
            for path in paths:
                path.unlink()
        touched = changed
    # For each table the files that replace those of the buckets.
    candidates, current = StagedFiles(run), StagedFiles(run)
    counts = dict.fromkeys(COUNTS, 0)
    for bucket in sorted(touched):
        paths = [] if is_split else _download(run.bucket, old.get(bucket, []), folder / f"old-{bucket}")
        parent = split_files.get(bucket % tables.buckets)
        targets = folder / f"candidates-{bucket:05d}.parquet", folder / f"current-{bucket:05d}.parquet"
        sources = [*paths, *newest_files, *([parent] if parent else [])]
        merged = merge_bucket(connection, sources, bucket, buckets, number, *targets, withdrawn=withdrawn)
        # A file without rows has no partition value.
        if bucket in changed and merged["candidate_rows"]:
            candidates.add(targets[0])
        if merged["current_rows"]:
            current.add(targets[1])
        for path in (*paths, *targets):
            path.unlink()
        for count in COUNTS:
            counts[count] += merged[count]
    size_bytes = tables.candidate_bytes + counts["candidate_bytes"] - counts["replaced_bytes"]
    change = CatalogueChange(
        buckets=buckets,
        candidate_bytes=size_bytes,
        lists=tables.lists,
        is_outdated=is_outdated,
        candidates=candidates.replacing(tables.candidates.files, None if is_split else changed),
        current=current.replacing(tables.current.files, None if is_split or is_outdated else touched),
    )
    return change, counts


def _download(bucket: str, addresses: Sequence[str], folder: Path) -> list[Path]:
    root = f"s3://{bucket}/"
    return s3.download_files(bucket, [each.removeprefix(root) for each in addresses], folder)


def _counts(collected: Collected, files: int, unreadable: int, result: Consolidated) -> dict[str, int]:
    """Counts of the records and events, for the gate."""
    counts = result.counts
    duplicates = collected.duplicate_events + len(collected.files) - files
    rejected = len(collected.rejections)
    return counts | {
        "accounted": sum(counts[name] for name in ("published", "duplicates", "unlisted", "blocked", "quarantined")),
        "events_in": collected.events_in,
        "files": files - unreadable,
        "unreadable": unreadable,
        "duplicate_events": duplicates,
        "quarantined_events": rejected,
        "events_accounted": files + duplicates + rejected,
        "outputs": len(result.outputs),
    }
