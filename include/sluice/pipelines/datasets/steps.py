"""One function a task: what the Dag of this pipeline calls. Each is idempotent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from sluice.aws import s3
from sluice.core.notifications import object_keys
from sluice.core.quality.gate import GateResult, run_gate
from sluice.core.quarantine import RejectedRecord, Rejection
from sluice.core.run import Run
from sluice.core.scratch import scratch_folder
from sluice.core.staging import publish_once
from sluice.core.tally import Tally
from sluice.core.work_queue import WorkQueue
from sluice.errors import TerminalError
from sluice.pipelines.datasets import PIPELINE, expectations, storage
from sluice.pipelines.datasets.batch import Collected, FileResult, StagedOutput
from sluice.pipelines.datasets.publication import check_owner, publish_output
from sluice.pipelines.datasets.records import SOURCE_PREFIX, Reason, Source, parse_source, source_of_key
from sluice.pipelines.datasets.source import fetch_url
from sluice.pipelines.datasets.storage import Published, Version
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)

COLLECTED, FILES = "collected.json", "files.json"

NAME_SHOWN = 100
"""Characters of a file's name in the keys of its staging and quarantine."""

RECORD_STORED_BYTES = 1000
"""Bytes stored of a file that is rejected as a whole, in its line of the quarantine."""


class SourceRejected(TerminalError):
    """The requested `source` cannot be published; it is in quarantine."""


# datasets_aggregate: collect -> aggregate -> check -> publish


def collect(run_id: str, source: str | None = None) -> dict[str, int]:
    """Drain the work queue and stage the files that it names; the messages stay until all outputs are written.

    Args:
        run_id: of the run.
        source: address of a single file to process instead; the queue is not read then.

    Returns:
        `messages`, `files` (distinct), `duplicates` (further events of a file) and `quarantined`
        (messages that name none); an empty dict when no message waited.

    Raises:
        BadSource: `source` is not a valid address.
    """
    run, settings = Run.of(PIPELINE, run_id), load_settings()
    if source:
        parse_source(source, settings.landing_bucket)
        # Not the address, which may hold a signature.
        run.save(COLLECTED, Collected(None, []))
        return {"messages": 0, "files": 1, "duplicates": 0, "quarantined": 0}
    queue = WorkQueue(settings.datasets_queue, object_keys(settings.landing_bucket, SOURCE_PREFIX))
    batch = queue.receive(settings.datasets_max_messages)
    if not batch:
        return {}
    for rejection in batch.rejections:
        log.warning(rejection)
    run.quarantine("collect", batch.rejections)
    # In the order of their keys, so that a retry processes two files of one name in the same order.
    distinct = sorted(set(batch.records))
    run.save(COLLECTED, Collected(batch.receipts, distinct))
    return {
        "messages": len(batch),
        "files": len(distinct),
        "duplicates": len(batch.received) - len(distinct),
        "quarantined": len(batch.rejections),
        "is_drained": batch.is_drained,
    }


def aggregate(run_id: str, source: str | None = None, *, force: bool = False) -> dict[str, int]:
    """Aggregate every file that is not published already, stage the results, quarantine rejected rows.

    Args:
        run_id: of the run.
        source: as for `collect`.
        force: also files that are unchanged; with `source`, also one whose name belongs to another source.

    Returns:
        `aggregated`, `unchanged` and `rejected` (files), `rows` and `rows_quarantined`.

    Raises:
        SourceRejected: the file of `source` is rejected as a whole. Files of the queue are only quarantined.
        UrlUnreachable, UrlRefused: see `sluice.pipelines.datasets.source`.
    """
    run, settings = Run.of(PIPELINE, run_id), load_settings()
    collected = run.load(COLLECTED, Collected)
    files: list[FileResult] = []
    for place, each in enumerate(_sources(settings, collected, source)):
        try:
            files.append(_aggregate_one(run, settings, each, place, force=force, take_over=force and bool(source)))
        except RejectedRecord as rejected:
            files.append(_rejected(each, rejected))
    rejections = [each.rejection for each in files if each.rejection]
    for rejection in rejections:
        log.warning(rejection)
    quarantined = run.quarantine("files", rejections)
    run.save(FILES, files)
    if source and rejections:
        raise SourceRejected(f"{rejections[0]}; see {quarantined}")
    aggregated = [each for each in files if each.output]
    return {
        "aggregated": len(aggregated),
        "unchanged": sum(each.is_unchanged for each in files),
        "rejected": len(rejections),
        "rows": sum(each.records_in for each in aggregated),
        "rows_quarantined": sum(each.quarantined for each in aggregated),
    }


def _sources(settings: Settings, collected: Collected, source: str | None) -> list[Source]:
    bucket = settings.landing_bucket
    return [parse_source(source, bucket)] if source else [source_of_key(bucket, key) for key in collected.keys]


def _aggregate_one(
    run: Run, settings: Settings, source: Source, place: int, *, force: bool, take_over: bool
) -> FileResult:
    """One file: its result in staging, its rejected rows in quarantine.

    Raises:
        RejectedRecord: with a reason for the whole file.
    """
    if not source.has_usable_name:
        raise RejectedRecord(Reason.BAD_NAME, "the file has no valid name for an output")
    # Before the source is read: any later publication is from the same or a newer version of it.
    published = storage.read_published(settings.lake_bucket, source.output_key)
    if published and not take_over:
        check_owner(source, published)
    with scratch_folder("datasets-aggregate") as folder:
        path = folder / "source.csv"
        version = _fetch(settings, source, published, path, force=force)
        if version is None:
            assert published is not None
            log.info("%s is unchanged since it was published as %s: skipped", source.address, source.output_key)
            return FileResult(source.address, published.records, 0)
        return _stage(run, settings, source, version, published, place, path)


def _fetch(
    settings: Settings, source: Source, published: Published | None, path: Path, *, force: bool
) -> Version | None:
    """Fetch the current version of the file and return it; None if it is the published one.

    Raises:
        RejectedRecord: reason `object_missing`.
    """
    known = published.version if published and published.source == source.encoded_address and not force else None
    if source.is_url:
        return fetch_url(
            source.location,
            path,
            known=known.etag if known else "",
            timeout_seconds=settings.datasets_url_timeout_seconds,
            max_bytes=settings.datasets_url_max_bytes,
            allow_private=settings.datasets_url_allow_private,
        )
    version = storage.read_version(settings.landing_bucket, source.location)
    if version is None:
        raise RejectedRecord(Reason.OBJECT_MISSING, "does not exist: never uploaded, or deleted")
    if known and known.etag == version.etag:
        return None
    try:
        storage.download_version(settings.landing_bucket, source.location, version, path)
    except s3.ObjectMissing:
        raise RejectedRecord(Reason.OBJECT_MISSING, "deleted or replaced while it was read") from None
    return version


def _stage(
    run: Run,
    settings: Settings,
    source: Source,
    version: Version,
    published: Published | None,
    place: int,
    path: Path,
) -> FileResult:
    """Aggregate a local file."""
    from sluice.pipelines.datasets.transform import aggregate_file, check_not_all_rejected

    try:
        found = aggregate_file(
            path,
            source.address,
            path.parent / "out",
            metadata=storage.output_metadata(source, version),
            memory_limit_mb=settings.datasets_memory_limit_mb,
        )
    except RejectedRecord as rejected:
        with path.open("rb") as file:
            return _rejected(source, rejected, record=file.read(RECORD_STORED_BYTES).decode("utf-8", "replace"))
    name = f"{place:04d}-{source.name[:NAME_SHOWN]}"
    quarantined = found.records_in - found.accepted
    if found.rejected_path:
        address = run.quarantine_key(name)
        s3.upload_files(run.bucket, [(found.rejected_path, address)])
        log.warning(
            "%s: %d of %d rows quarantined (%s), see s3://%s/%s",
            *(source.address, quarantined, found.records_in),
            *(", ".join(f"{rows} {reason}" for reason, rows in found.rejected.items()), run.bucket, address),
        )
    try:
        check_not_all_rejected(found)
    except RejectedRecord as rejected:
        return _rejected(source, rejected, records_in=found.records_in)
    staged = run.staging_key(f"{name}.parquet")
    s3.upload_files(run.bucket, [(found.output_path, staged)])
    expected_etag = published.etag if published else None
    output = StagedOutput(staged, source.output_key, found.accepted, version, expected_etag)
    return FileResult(source.address, found.records_in, quarantined, output)


def _rejected(source: Source, rejected: RejectedRecord, *, record: str = "", records_in: int = 1) -> FileResult:
    """A file that is rejected as a whole: counts as one record, unless its rows were counted."""
    rejection = Rejection(source.address, rejected.reason, record, rejected.detail)
    return FileResult(source.address, records_in, records_in, rejection=rejection)


def check(run_id: str) -> GateResult:
    """The gate: measures each staged file, one row a file.

    Raises:
        GateFailed: nothing is published, and the messages are delivered again.
    """
    run = Run.of(PIPELINE, run_id)
    files = run.load(FILES, list[FileResult])
    rows = [_measured(run, each, each.output) for each in files if each.output]
    return run_gate(run, "aggregate", rows, expectations.COLUMNS, expectations.dataset_expectations)


def _measured(run: Run, file: FileResult, output: StagedOutput) -> dict[str, object]:
    from sluice.pipelines.datasets.transform import measure_output

    with scratch_folder("datasets-aggregate") as folder:
        path = folder / "staged.parquet"
        storage.download_output(run.bucket, output.staged, path)
        measures = measure_output(path)
    return {
        "output": output.key,
        "records_in": file.records_in,
        "accepted": output.accepted,
        "quarantined": file.quarantined,
        "accounted": measures["memory_count_sum"] + file.quarantined,
        "quarantined_share": file.quarantined / max(file.records_in, 1),
        **measures,
    }


def publish(run_id: str, counts: dict[str, int], source: str | None = None, *, force: bool = False) -> dict[str, int]:
    """Publish every staged file unless a newer one is published, then delete their messages.

    Args:
        run_id: of the run.
        counts: what `collect` returned.
        source: as for `collect`.
        force: as for `aggregate`.

    Returns:
        The tally of the run, in rows; a file that is rejected unread, and a message that names none, is one. Rows of a
        file that is unchanged or superseded are duplicates.

    Raises:
        PublishedMeanwhile: the output of a URL was published by another run meanwhile.
    """
    run, settings = Run.of(PIPELINE, run_id), load_settings()
    collected = run.load(COLLECTED, Collected)
    files = run.load(FILES, list[FileResult])

    def publish_files() -> dict[str, int]:
        sources = _sources(settings, collected, source)
        tally, rejections = _publish_files(run, sources, files, counts["quarantined"], take_over=force and bool(source))
        if source and rejections:
            raise SourceRejected(str(rejections[0]))
        if collected.receipts:
            collected.receipts.delete()
        return tally

    return publish_once(run, "publish", [counts, files, collected], publish_files)


def _publish_files(
    run: Run, sources: Sequence[Source], files: Sequence[FileResult], bad_messages: int, *, take_over: bool
) -> tuple[dict[str, int], list[Rejection]]:
    by_address = {each.address: each for each in sources}
    published = 0
    duplicates = sum(each.records_in for each in files if each.is_unchanged)
    quarantined = bad_messages + sum(each.quarantined for each in files)
    rejections: list[Rejection] = []
    for file in files:
        if file.output is None:
            continue
        try:
            if publish_output(load_settings(), by_address[file.address], file, file.output, take_over=take_over):
                published += file.output.accepted
            else:
                duplicates += file.output.accepted
        except RejectedRecord as rejected:
            quarantined += file.output.accepted
            rejections.append(Rejection(file.address, rejected.reason, "", rejected.detail))
            log.warning(rejections[-1])
    run.quarantine("publish", rejections)
    records_in = sum(each.records_in for each in files) + bad_messages
    tally = Tally(records_in, published=published, duplicates=duplicates, quarantined=quarantined)
    return tally.checked(run.slug), rejections
