"""What the tasks of events_hourly are made of: the rows of an hour are deduplicated, and become a version of it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice import catalog, lake, s3
from sluice.errors import TerminalError
from sluice.events import PIPELINE, marks, publications, storage
from sluice.events.publications import Publication
from sluice.settings import Settings

if TYPE_CHECKING:
    from sluice.events.dedup import DedupResult

log = logging.getLogger(__name__)

JOB_FOLDER = "hourly/job/"


class JobResultMissing(TerminalError):
    """The Glue job of a run left no counts in staging."""


# The catalog


def register_raw(settings: Settings, hour: datetime, raw: Sequence[s3.ListedObject]) -> None:
    """Put columns and partition of the hour's raw files into the catalog.

    Raises:
        ColumnConflict: a raw file disagrees with the table about a column's type.
    """
    columns = catalog.files_columns(settings.lake_bucket, [file.key for file in raw])
    for name in (storage.RAW_TABLE, storage.CURATED_TABLE):
        catalog.add_columns(settings.glue_database, name, columns)
    location = f"s3://{settings.lake_bucket}/{storage.RAW_PREFIX}{storage.hour_partition(hour)}"
    catalog.point_partition(settings.glue_database, storage.RAW_TABLE, storage.partition_values(hour), location)


# Dedup


def write_manifest(settings: Settings, run: str, inputs: dict[str, Any]) -> None:
    """Tell the Glue job of this run, which events_hourly starts, what to read and where to write."""
    bucket = settings.lake_bucket
    manifest = {
        "raw": [f"s3://{bucket}/{key}" for key in inputs["raw"]],
        "previous": [f"s3://{bucket}/{key}" for key in inputs["previous"]],
        "out": f"s3://{bucket}/{lake.staging_key(PIPELINE, run, JOB_FOLDER)}",
        "target_file_bytes": settings.events_target_file_bytes,
    }
    # On one line: Spark reads it as text.
    key = lake.staging_key(PIPELINE, run, "hourly/manifest.json")
    s3.write_object(bucket, key, json.dumps(manifest).encode())


def stage_hour(settings: Settings, run: str, inputs: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Dedup by the engine that the settings name, and stage; measures and files of the result."""
    from sluice.events.measures import measure_hour

    bucket = settings.lake_bucket
    result = (
        _job_result(bucket, run, folder) if settings.events_engine == "glue" else _run_dedup(settings, inputs, folder)
    )
    digest = hashlib.sha256()
    files = []
    for index, path in enumerate(result.files):
        with path.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
        files.append((path, lake.staging_key(PIPELINE, run, f"hourly/part-{index:05d}.parquet")))
    s3.upload_files(bucket, files)
    measures = measure_hour(
        result.files,
        storage.parse_hour(inputs["hour"]),
        settings.events_known_types,
        memory_limit_mb=settings.events_memory_limit_mb,
    )
    measures |= {
        "records_in": result.rows_in,
        "duplicates_in_hour": result.duplicates_in_hour,
        "duplicates_of_previous": result.duplicates_of_previous,
        "quarantined": 0,
        "accounted": measures["rows"] + result.duplicates_in_hour + result.duplicates_of_previous,
        "unknown_types": ", ".join(map(repr, measures["unknown_types"])),
    }
    return {
        "files": [key for _, key in files],
        "content": digest.hexdigest()[:16] if files else "empty",
        "measures": measures,
    }


def _run_dedup(settings: Settings, inputs: dict[str, Any], folder: Path) -> DedupResult:
    """Fetch the raw files and run the SQL here."""
    if settings.events_engine == "spark":
        from sluice.events.spark_job import dedup_hour
    else:
        from sluice.events.dedup import dedup_hour
    return dedup_hour(
        s3.download_files(settings.lake_bucket, inputs["raw"], folder / "raw"),
        s3.download_files(settings.lake_bucket, inputs["previous"], folder / "previous"),
        folder / "out",
        target_file_bytes=settings.events_target_file_bytes,
        memory_limit_mb=settings.events_memory_limit_mb,
    )


def _job_result(bucket: str, run: str, folder: Path) -> DedupResult:
    """What the Glue job of this run left in staging.

    Raises:
        JobResultMissing: it did not come to its end.
    """
    from sluice.events.dedup import DedupResult
    from sluice.events.spark_job import RESULT_FOLDER

    prefix = lake.staging_key(PIPELINE, run, JOB_FOLDER)
    keys = list(s3.list_keys(bucket, prefix))
    lines = [s3.read_object(bucket, key).body for key in keys if key.startswith(f"{prefix}{RESULT_FOLDER}/part-")]
    counts = next((json.loads(line) for line in lines if line), None)
    if counts is None:
        raise JobResultMissing(
            f"s3://{bucket}/{prefix}{RESULT_FOLDER}/ holds no counts: look at the log of task dedup_job, then clear it"
        )
    parts = [key for key in keys if key.startswith(f"{prefix}part-") and key.endswith(".parquet")]
    return DedupResult(s3.download_files(bucket, parts, folder / "out"), **counts)


# Publication


def publish_version(
    settings: Settings, run: str, hour: datetime, inputs: dict[str, Any], output: dict[str, Any], now: datetime
) -> Publication:
    """Make the staged files a version of the hour, unless they are one already or another run was quicker.

    Args:
        settings: the settings.
        run: the run as a part of a key.
        hour: start of the hour (UTC).
        inputs: what `register_partition` wrote down.
        output: what `stage_hour` returned.
        now: the time (UTC) of the publication.

    Returns:
        The publication that counts afterwards.
    """
    current = publications.read_publication(settings.events_checkpoint_table, settings.event_stream, hour)
    version = f"{inputs['number'] + 1:06d}-{output['content']}" if inputs["raw"] else ""
    if _same_content(current, version):
        log.info("hour %s is published already: version %s", storage.hour_text(hour), current.version)
        return current
    if current.number != inputs["number"]:
        return _yield_to(settings, hour, current, run)
    return _write_version(settings, run, hour, current, version, inputs, output, now)


def _same_content(current: Publication, version: str) -> bool:
    return current.number > 0 and current.version.partition("-")[2] == version.partition("-")[2]


def _yield_to(settings: Settings, hour: datetime, current: Publication, run: str) -> Publication:
    """Another run published since this one listed the raw files: whose files are newer is not known from here.

    The other one stays, and the hour is marked, so that the next ingest has it processed once more.
    """
    marks.touch_hour(
        settings.events_checkpoint_table,
        settings.event_stream,
        hour,
        f"yield:{run}",
        f"{run} and another run published hour {storage.hour_text(hour)} at the same time",
    )
    log.warning(
        "hour %s: another run published version %s meanwhile; it stays, and the hour will be processed again",
        *(storage.hour_text(hour), current.version),
    )
    return current


def _write_version(
    settings: Settings,
    run: str,
    hour: datetime,
    current: Publication,
    version: str,
    inputs: dict[str, Any],
    output: dict[str, Any],
    now: datetime,
) -> Publication:
    """Copy the staged files into the version's folder and record the publication; the one that counts afterwards."""
    folder = storage.version_prefix(hour, version)
    s3.copy_objects(settings.lake_bucket, [(key, folder + key.rsplit("/", 1)[-1]) for key in output["files"]])
    superseded = dict(current.superseded)
    if current.version:
        superseded[current.version] = now
    publication = Publication(
        current.number + 1, version, len(inputs["raw"]), output["measures"]["rows"], tuple(superseded.items())
    )
    try:
        publications.write_publication(
            settings.events_checkpoint_table, settings.event_stream, hour, publication, run, now
        )
    except publications.HourTaken:
        # Perhaps by this very run: an answer that gets lost makes the client ask again.
        found = publications.read_publication(settings.events_checkpoint_table, settings.event_stream, hour)
        return found if _same_content(found, version) else _yield_to(settings, hour, found, run)
    return publication


def show_version(settings: Settings, hour: datetime, current: Publication, now: datetime) -> None:
    """Point the partition at the current publication; again when another one came meanwhile."""
    table, stream = settings.events_checkpoint_table, settings.event_stream
    database, values = settings.glue_database, storage.partition_values(hour)
    while True:
        if current.version:
            shown = catalog.partition_location(database, storage.CURATED_TABLE, values)
            location = f"s3://{settings.lake_bucket}/{storage.version_prefix(hour, current.version)}"
            if shown and shown != location:
                # A publisher that died may have left this one in sight for long: its retention begins only now.
                shown_version = shown.rstrip("/").rpartition("version=")[2]
                publications.supersede(table, stream, hour, shown_version, now)
            catalog.point_partition(database, storage.CURATED_TABLE, values, location)
        found = publications.read_publication(table, stream, hour)
        if found.number == current.number:
            return
        current = found


def remove_expired(settings: Settings, hour: datetime, current: Publication, now: datetime) -> None:
    """Delete the versions of an hour that no reader may hold any more."""
    bucket = settings.lake_bucket
    table, stream = settings.events_checkpoint_table, settings.event_stream
    prefix = f"{storage.CURATED_PREFIX}{storage.hour_partition(hour)}"
    folders = [each.rstrip("/").rpartition("version=")[2] for each in s3.list_folders(bucket, prefix)]
    # Read anew: `show_version` may have noted that one of them was in sight until now.
    known = publications.read_publication(table, stream, hour)
    if known.number != current.number:
        return
    retention = timedelta(hours=settings.events_version_retention_hours)
    expired = publications.expired_versions(folders, known, now, retention)
    for version in expired:
        s3.delete_objects(bucket, list(s3.list_keys(bucket, storage.version_prefix(hour, version))))
        log.info("hour %s: removed version %s", storage.hour_text(hour), version)
    forgotten = [version for version, _ in known.superseded if version in expired or version not in folders]
    if forgotten:
        publications.forget_superseded(table, stream, hour, forgotten)
