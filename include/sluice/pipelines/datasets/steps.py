"""One function a task: what the Dag of this pipeline calls. Each can be run again and leaves the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sluice import lake
from sluice.aws import s3, sqs
from sluice.core.notifications import announced_objects
from sluice.core.quality.gate import run_gate
from sluice.core.quarantine import RejectedRecord, Rejection, write_quarantine
from sluice.core.scratch import scratch_folder
from sluice.core.staging import publish_once
from sluice.core.tally import Tally
from sluice.errors import TerminalError
from sluice.pipelines.datasets import PIPELINE, expectations, storage
from sluice.pipelines.datasets.publication import check_owner, publish_output
from sluice.pipelines.datasets.records import SOURCE_PREFIX, Reason, Source, parse_source, source_of_key
from sluice.pipelines.datasets.source import fetch_url
from sluice.pipelines.datasets.storage import Published, Version
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)

AGGREGATED, UNCHANGED, REJECTED = "aggregated", "unchanged", "rejected"
"""What became of a file before the gate."""

NAME_SHOWN = 100
"""Characters of a file's name in the keys of its staging and quarantine."""

RECORD_SHOWN_BYTES = 1000
"""Beginning of a file that is rejected as a whole, in its line of the quarantine."""


class SourceRejected(TerminalError):
    """The file that a person asked for cannot be published; it is in quarantine."""


# datasets_aggregate: collect -> aggregate -> check -> publish


def collect(run: str, source: str | None = None) -> dict[str, int]:
    """Drain the work queue and stage which files it names; the messages stay until all is written.

    Args:
        run: the run as a part of a key.
        source: the one file to process instead, an address that a person gave; the queue is left alone.

    Returns:
        `messages`, `files` (distinct), `duplicates` (events of a file that is named twice) and `quarantined`
        (messages that name none); an empty dict when no message waited.

    Raises:
        BadSource: `source` names nothing that can be read.
    """
    settings = load_settings()
    if source:
        parse_source(source, settings.landing_bucket)
        return {"messages": 0, "files": 1, "duplicates": 0, "quarantined": 0}
    messages, is_drained = sqs.drain(sqs.queue_url(settings.datasets_queue), settings.datasets_max_files)
    if not messages:
        return {}
    s3.write_json_lines(
        settings.lake_bucket, _staged_messages(run), [{"receipt_handle": each.receipt_handle} for each in messages]
    )
    announced, rejections = announced_objects(messages, settings.datasets_queue, settings.landing_bucket, SOURCE_PREFIX)
    for rejection in rejections:
        log.warning(rejection)
    write_quarantine(settings.lake_bucket, PIPELINE, run, "collect", rejections)
    # In the order of their keys, so that of two files of one name a retry finds the same one first.
    distinct = sorted({each.key for each in announced})
    s3.write_json_lines(settings.lake_bucket, _staged_sources(run), [{"key": key} for key in distinct])
    return {
        "messages": len(messages),
        "files": len(distinct),
        "duplicates": len(announced) - len(distinct),
        "quarantined": len(rejections),
        "is_drained": is_drained,
    }


def _staged_messages(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "messages.jsonl")


def _staged_sources(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "sources.jsonl")


def _staged_files(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "files.jsonl")


def aggregate(run: str, source: str | None = None, *, force: bool = False) -> dict[str, int]:
    """Aggregate every file that is not published already, stage the results, quarantine what is rejected.

    Args:
        run: the run as a part of a key.
        source: as for `collect`.
        force: also files that are unchanged; with `source`, also one whose name belongs to another source.

    Returns:
        `aggregated`, `unchanged` and `rejected` (files), `rows` and `rows_quarantined`.

    Raises:
        SourceRejected: the whole file of `source` is not what it should be. Files of the queue are only quarantined.
        UrlUnreachable, UrlRefused: see `sluice.pipelines.datasets.source`.
    """
    settings = load_settings()
    files: list[dict[str, Any]] = []
    for place, each in enumerate(_sources(run, settings, source)):
        try:
            files.append(_aggregate_one(run, settings, each, place, force=force, take_over=force and bool(source)))
        except RejectedRecord as rejected:
            files.append(_rejected(each, rejected))
    rejections = [Rejection(**each["rejection"]) for each in files if each["outcome"] == REJECTED]
    for rejection in rejections:
        log.warning(rejection)
    quarantined = write_quarantine(settings.lake_bucket, PIPELINE, run, "files", rejections)
    s3.write_json_lines(settings.lake_bucket, _staged_files(run), files)
    if source and rejections:
        raise SourceRejected(f"{rejections[0]}; see {quarantined}")
    outcomes = [each["outcome"] for each in files]
    rows = [each for each in files if each["outcome"] == AGGREGATED]
    return {outcome: outcomes.count(outcome) for outcome in (AGGREGATED, UNCHANGED, REJECTED)} | {
        "rows": sum(each["records_in"] for each in rows),
        "rows_quarantined": sum(each["quarantined"] for each in rows),
    }


def _sources(run: str, settings: Settings, source: str | None) -> list[Source]:
    bucket = settings.landing_bucket
    if source:
        return [parse_source(source, bucket)]
    return [source_of_key(bucket, row["key"]) for row in s3.read_json_lines(settings.lake_bucket, _staged_sources(run))]


def _aggregate_one(
    run: str, settings: Settings, source: Source, place: int, *, force: bool, take_over: bool
) -> dict[str, Any]:
    """One file: a row of `files.jsonl`, the result in staging, its rejected rows in quarantine.

    Raises:
        RejectedRecord: with a reason for the whole file.
    """
    if not source.has_usable_name:
        raise RejectedRecord(Reason.BAD_NAME, "the file has no name that can be that of an output")
    # Before the source is read: whatever is published later than this was made of no older source.
    published = storage.read_published(settings.lake_bucket, source.output_key)
    if published and not take_over:
        check_owner(source, published)
    with scratch_folder("datasets-aggregate") as folder:
        path = folder / "source.csv"
        version = _fetch(settings, source, published, path, force=force)
        if version is None:
            assert published is not None
            log.info("%s is unchanged since it was published as %s: skipped", source.address, source.output_key)
            return {"address": source.address, "outcome": UNCHANGED, "records_in": published.records, "quarantined": 0}
        return _stage(run, settings, source, version, published, place, path)


def _fetch(
    settings: Settings, source: Source, published: Published | None, path: Path, *, force: bool
) -> Version | None:
    """Fetch the file as it is now, and say which version that is; None when it is the published one.

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
        raise RejectedRecord(Reason.OBJECT_MISSING, "deleted before it was read")
    if known and known.etag == version.etag:
        return None
    try:
        storage.download_version(settings.landing_bucket, source.location, version, path)
    except s3.ObjectMissing:
        raise RejectedRecord(Reason.OBJECT_MISSING, "deleted or replaced while it was read") from None
    return version


def _stage(
    run: str,
    settings: Settings,
    source: Source,
    version: Version,
    published: Published | None,
    place: int,
    path: Path,
) -> dict[str, Any]:
    """Aggregate a file that is here."""
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
            return _rejected(source, rejected, record=file.read(RECORD_SHOWN_BYTES).decode("utf-8", "replace"))
    name = f"{place:04d}-{source.name[:NAME_SHOWN]}"
    quarantined = found.records_in - found.accepted
    if found.rejected_path:
        address = lake.quarantine_key(PIPELINE, run, name)
        s3.upload_files(settings.lake_bucket, [(found.rejected_path, address)])
        log.warning(
            "%s: %d of %d rows quarantined (%s), see s3://%s/%s",
            *(source.address, quarantined, found.records_in),
            *(", ".join(f"{rows} {reason}" for reason, rows in found.rejected.items()), settings.lake_bucket, address),
        )
    try:
        check_not_all_rejected(found)
    except RejectedRecord as rejected:
        return _rejected(source, rejected, records_in=found.records_in)
    staged = lake.staging_key(PIPELINE, run, f"{name}.parquet")
    s3.upload_files(settings.lake_bucket, [(found.output_path, staged)])
    return {
        "address": source.address,
        "outcome": AGGREGATED,
        "staged": staged,
        "output": source.output_key,
        "records_in": found.records_in,
        "accepted": found.accepted,
        "quarantined": quarantined,
        "version": [version.etag, version.version_id],
        "expected_etag": published.etag if published else None,
    }


def _rejected(source: Source, rejected: RejectedRecord, *, record: str = "", records_in: int = 1) -> dict[str, Any]:
    """A whole file that is rejected: one record, unless its rows were."""
    return {
        "address": source.address,
        "outcome": REJECTED,
        "records_in": records_in,
        "quarantined": records_in,
        "rejection": asdict(Rejection(source.address, rejected.reason, record, rejected.detail)),
    }


def check(run: str) -> dict[str, Any]:
    """The gate: measures each staged file, one row a file.

    Raises:
        GateFailed: nothing of this run is published, and the messages come back.
    """
    settings = load_settings()
    rows = [_measured(settings, each) for each in _aggregated(run, settings)]
    return run_gate(
        f"{PIPELINE}/aggregate",
        run,
        rows,
        expectations.COLUMNS,
        expectations.dataset_expectations,
        settings.lake_bucket,
    )


def _aggregated(run: str, settings: Settings) -> list[dict[str, Any]]:
    found = s3.read_json_lines(settings.lake_bucket, _staged_files(run))
    return [each for each in found if each["outcome"] == AGGREGATED]


def _measured(settings: Settings, file: dict[str, Any]) -> dict[str, Any]:
    from sluice.pipelines.datasets.transform import measure_output

    with scratch_folder("datasets-aggregate") as folder:
        path = folder / "staged.parquet"
        storage.download_output(settings.lake_bucket, file["staged"], path)
        measures = measure_output(path)
    counts = {name: file[name] for name in ("output", "records_in", "accepted", "quarantined")}
    return counts | {
        "accounted": measures["memory_count_sum"] + file["quarantined"],
        "quarantined_share": file["quarantined"] / max(file["records_in"], 1),
        **measures,
    }


def publish(run: str, collected: dict[str, int], source: str | None = None, *, force: bool = False) -> dict[str, int]:
    """Publish every staged file unless a newer one is, then delete the messages that told of them.

    Args:
        run: the run as a part of a key.
        collected: what `collect` returned.
        source: as for `collect`.
        force: as for `aggregate`.

    Returns:
        The tally of the run, in rows; a file that is rejected unread, and a message that names none, is one. Rows of a
        file that is unchanged, or was replaced meanwhile, are duplicates.

    Raises:
        PublishedMeanwhile: the output of a URL was published by someone else while this run worked.
    """
    settings = load_settings()
    files = s3.read_json_lines(settings.lake_bucket, _staged_files(run))
    messages = s3.read_json_lines(settings.lake_bucket, _staged_messages(run)) if collected["messages"] else []
    handles = [row["receipt_handle"] for row in messages]
    return publish_once(
        settings.lake_bucket,
        *(PIPELINE, run, "publish"),
        [collected, files, handles],
        lambda: _publish_files(settings, run, files, handles, collected, source, force=force),
    )


def _publish_files(
    settings: Settings,
    run: str,
    files: Sequence[dict[str, Any]],
    handles: Sequence[str],
    collected: dict[str, int],
    source: str | None,
    *,
    force: bool,
) -> dict[str, int]:
    by_address = {each.address: each for each in _sources(run, settings, source)}
    counts = {"published": 0, "duplicates": 0, "quarantined": collected["quarantined"]}
    counts["quarantined"] += sum(each["quarantined"] for each in files)
    counts["duplicates"] += sum(each["records_in"] for each in files if each["outcome"] == UNCHANGED)
    rejections: list[Rejection] = []
    for file in [each for each in files if each["outcome"] == AGGREGATED]:
        try:
            is_newest = publish_output(settings, by_address[file["address"]], file, take_over=force and bool(source))
            counts["published" if is_newest else "duplicates"] += file["accepted"]
        except RejectedRecord as rejected:
            counts["quarantined"] += file["accepted"]
            rejections.append(Rejection(file["address"], rejected.reason, "", rejected.detail))
            log.warning(rejections[-1])
    write_quarantine(settings.lake_bucket, PIPELINE, run, "publish", rejections)
    records_in = sum(each["records_in"] for each in files) + collected["quarantined"]
    tally = Tally(records_in, **counts).checked(run)
    if source and rejections:
        raise SourceRejected(str(rejections[0]))
    if handles:
        sqs.delete(sqs.queue_url(settings.datasets_queue), handles)
    return tally
