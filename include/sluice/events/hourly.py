"""What the tasks of events_hourly are made of: the rows of an hour are deduplicated, and published by one commit."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice import catalog, lake, s3
from sluice.errors import TerminalError
from sluice.events import PIPELINE, hours, marks, storage
from sluice.events.expectations import HOURLY_COUNTS
from sluice.events.hours import PublishedHour
from sluice.settings import Settings
from sluice.tables import commits

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
    catalog.add_columns(settings.glue_database, storage.RAW_TABLE, columns)
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


def publish_rows(
    settings: Settings, run: str, hour: datetime, inputs: dict[str, Any], output: dict[str, Any], now: datetime
) -> str | None:
    """Make the staged files the rows of the hour by one commit, unless they are already or another run was quicker.

    Args:
        settings: the settings.
        run: the run as a part of a key.
        hour: start of the hour (UTC).
        inputs: what `register_partition` wrote down.
        output: what `stage_hour` returned.
        now: the time (UTC) of the publication.

    Returns:
        The id of the snapshot that holds them; None where another run was quicker.
    """
    table, stream = settings.events_checkpoint_table, settings.event_stream
    measures = output["measures"]
    summary = {
        "dag": "events_hourly",
        "run": run,
        "hour": inputs["hour"],
        "raw-files": len(inputs["raw"]),
        "raw-files-sha256": hashlib.sha256("\n".join(inputs["raw"]).encode()).hexdigest(),
        **{name.replace("_", "-"): measures[name] for name in HOURLY_COUNTS},
    }
    try:
        commit = commits.replace(
            storage.EVENTS.name,
            storage.rows_of_hour(hour),
            output["files"],
            content=output["content"],
            expected=inputs["published"],
            summary=summary,
        )
    except commits.Conflict as conflict:
        # Whose raw files are newer is not known from here: the other one stays, and the next ingest has the hour
        # processed once more.
        because = f"{run} and another run published hour {storage.hour_text(hour)} at the same time"
        marks.touch_hour(table, stream, hour, f"yield:{run}", because)
        log.warning("%s: what it published stays, and the hour will be processed again", conflict)
        return None
    if not commit.is_new:
        log.info("hour %s has these rows already", storage.hour_text(hour))
    published = PublishedHour(len(inputs["raw"]), measures["rows"], run, now)
    hours.write_hour(table, stream, hour, published)
    return commit.snapshot_id
