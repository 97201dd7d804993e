"""Parts of the tasks of events_hourly: deduplicate the rows of an hour, and publish them in one commit."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.aws import glue, s3
from sluice.aws.tables import commits
from sluice.aws.tables.commits import Commit
from sluice.aws.threads import in_parallel
from sluice.core.run import Run
from sluice.core.staging import Summary
from sluice.core.tally import Tally
from sluice.errors import TerminalError
from sluice.pipelines.events import dirty_hours, hours, storage
from sluice.pipelines.events.batch import HourInputs, HourOutput, JobManifest, Measures, PreparedHour
from sluice.pipelines.events.expectations import HOURLY_COUNTS
from sluice.pipelines.events.hours import PublishedHour
from sluice.settings import Settings, load_settings

if TYPE_CHECKING:
    from sluice.pipelines.events.dedup import DedupResult

log = logging.getLogger(__name__)

JOB_FOLDER = "hourly/job/"


class JobResultMissing(TerminalError):
    """The Glue job of a run wrote no counts to staging."""


class RawDataGone(TerminalError):
    """An hour has fewer raw files than at its publication."""


# Inputs of an hour


def list_inputs(settings: Settings, hour: datetime, published: Sequence[str]) -> HourInputs:
    """List the files for a publication of an hour, after reading the state of the hour.

    Args:
        settings: the settings.
        hour: start of the hour (UTC).
        published: current addresses of the files of the hour in the table `events`.

    Raises:
        RawDataGone: raw files of a published hour have expired; its publication is more complete than the remaining
            files.
    """
    bucket, table, stream = settings.lake_bucket, settings.events_hours_table, settings.events_stream
    # In this order: a concurrent marker, publication or file is recognized as newer than this run.
    dirty = dirty_hours.read_dirty_hour(table, stream, hour)
    before = hours.read_hour(table, stream, hour)
    raw = [file.key for file in storage.list_raw(bucket, hour)]
    previous = [
        file.key
        for distance in range(settings.events_dedup_window_hours, 0, -1)
        for file in storage.list_raw(bucket, hour - distance * storage.HOUR)
    ]
    if before and len(raw) < before.raw_files:
        raise RawDataGone(
            f"hour {storage.hour_text(hour)} was published from {before.raw_files} raw files and only {len(raw)} are"
            f" left below s3://{bucket}/{storage.RAW_PREFIX}{storage.hour_partition(hour)}: it stays as it is."
            f" Restore the files, or delete this item to publish it from the remaining files: table"
            f" {table} with state={stream}#published and hour={storage.hour_text(hour)}"
        )
    revision = dirty.revision if dirty else None
    return HourInputs(storage.hour_text(hour), list(published), revision, raw, previous)


def register_raw(settings: Settings, inputs: HourInputs) -> None:
    """Put columns and partition of the hour's raw files into the catalog.

    Raises:
        ColumnConflict: a raw file disagrees with the table about a column's type.
    """
    columns = glue.files_columns(settings.lake_bucket, inputs.raw)
    glue.add_columns(settings.glue_database, storage.RAW_TABLE, columns)
    location = f"s3://{settings.lake_bucket}/{storage.RAW_PREFIX}{storage.hour_partition(inputs.start)}"
    glue.point_partition(settings.glue_database, storage.RAW_TABLE, storage.partition_values(inputs.start), location)


# Dedup


def write_manifest(settings: Settings, run: Run, inputs: HourInputs) -> None:
    """Stage the manifest of the Glue job of this run, which events_hourly starts."""
    root = f"s3://{run.bucket}/"
    manifest = JobManifest(
        raw=[root + key for key in inputs.raw],
        previous=[root + key for key in inputs.previous],
        out=root + run.staging_key(JOB_FOLDER),
        target_file_bytes=settings.events_target_file_bytes,
    )
    run.save("hourly/manifest.json", manifest)


def stage_hour(settings: Settings, run: Run, inputs: HourInputs, folder: Path) -> HourOutput:
    """Stage the result of the Glue job of this run, or of the local deduplication; see `stage_result`."""
    is_job = settings.events_engine == "glue"
    result = _job_result(run, folder) if is_job else run_dedup(settings, inputs, folder)
    return stage_result(settings, run, inputs, result)


def stage_result(settings: Settings, run: Run, inputs: HourInputs, result: DedupResult) -> HourOutput:
    """Upload the rows of an hour to the staging of a run, and measure them."""
    from sluice.pipelines.events.measures import measure_hour

    digest = hashlib.sha256()
    files = []
    for index, path in enumerate(result.files):
        with path.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
        files.append((path, run.staging_key(f"hourly/part-{index:05d}.parquet")))
    s3.upload_files(run.bucket, files)
    found = measure_hour(
        result.files,
        inputs.start,
        settings.events_known_types,
        memory_limit_mb=settings.events_memory_limit_mb,
    )
    counts = found.counts | {
        "records_in": result.rows_in,
        "duplicates_in_hour": result.duplicates_in_hour,
        "duplicates_of_previous": result.duplicates_of_previous,
        "quarantined": 0,
        "accounted": found.counts["rows"] + result.duplicates_in_hour + result.duplicates_of_previous,
    }
    return HourOutput(
        files=[key for _, key in files],
        content=digest.hexdigest()[:16] if files else "empty",
        measures=Measures(counts, ", ".join(map(repr, found.unknown_types))),
    )


def run_dedup(settings: Settings, inputs: HourInputs, folder: Path) -> DedupResult:
    """Fetch the raw files of an hour and its deduplication window, and run the SQL locally."""
    if settings.events_engine == "spark":
        from sluice.pipelines.events.spark_job import dedup_hour
    else:
        from sluice.pipelines.events.dedup import dedup_hour
    return dedup_hour(
        s3.download_files(settings.lake_bucket, inputs.raw, folder / "raw"),
        s3.download_files(settings.lake_bucket, inputs.previous, folder / "previous"),
        folder / "out",
        target_file_bytes=settings.events_target_file_bytes,
        memory_limit_mb=settings.events_memory_limit_mb,
    )


def _job_result(run: Run, folder: Path) -> DedupResult:
    """The result of the Glue job of this run in staging.

    Raises:
        JobResultMissing: the job did not complete.
    """
    from sluice.pipelines.events.dedup import DedupResult
    from sluice.pipelines.events.spark_job import RESULT_FOLDER

    bucket, prefix = run.bucket, run.staging_key(JOB_FOLDER)
    keys = list(s3.list_keys(bucket, prefix))
    lines = [s3.read_object(bucket, key).body for key in keys if key.startswith(f"{prefix}{RESULT_FOLDER}/part-")]
    counts = next((json.loads(line) for line in lines if line), None)
    if counts is None:
        raise JobResultMissing(
            f"s3://{bucket}/{prefix}{RESULT_FOLDER}/ holds no counts: check the log of task dedup_job, then clear it"
        )
    parts = [key for key in keys if key.startswith(f"{prefix}part-") and key.endswith(".parquet")]
    return DedupResult(s3.download_files(bucket, parts, folder / "out"), **counts)


# Publication


def publish(dag_id: str, run: Run, prepared: Sequence[PreparedHour]) -> Summary:
    """Replace hours by staged files in one commit, and record their publication.

    An hour that another run published since its raw files were listed is skipped, and processed again. All hours stay
    dirty until their publication is recorded, so that an interrupted publication is repeated.

    Args:
        dag_id: the Dag that publishes.
        run: the run, whose clock gives the time of the publication.
        prepared: the hours; may be empty.

    Returns:
        The tally of the hours that this run published, and `snapshots`: the id of the snapshot of `events` with their
        rows, None for none.

    Raises:
        TableBusy: see `sluice.aws.tables.commits`.
    """
    settings, now, claim = load_settings(), run.clock(), f"publish:{run.slug}"
    table, stream = settings.events_hours_table, settings.events_stream
    in_parallel(
        lambda each: dirty_hours.claim_hour(
            table, stream, each.inputs.start, claim, each.inputs.dirty_revision, run.slug, now
        ),
        prepared,
    )
    commit, conflicts = _commit(dag_id, run.slug, prepared)

    def note(each: PreparedHour) -> None:
        hour = each.inputs.start
        if each.inputs.hour in conflicts:
            # Which run has the newer raw files is unknown here: the other publication stays, and the next ingest
            # requests the hour again.
            because = f"{run.slug} and another run published hour {each.inputs.hour} at the same time"
            dirty_hours.mark_dirty(table, stream, hour, f"yield:{run.slug}", because, now)
            log.warning("%s: the other publication stays, and the hour will be processed again", because)
        else:
            snapshot = commit.snapshot if commit else None
            published = PublishedHour(
                len(each.inputs.raw),
                each.output.measures.counts["rows"],
                run.slug,
                now,
                str(snapshot.snapshot_id) if snapshot else None,
                snapshot.sequence_number if snapshot else 0,
            )
            hours.write_hour(table, stream, hour, published)
        dirty_hours.clear_dirty_hour(table, stream, hour, claim)

    in_parallel(note, prepared)
    counts = _sums([each for each in prepared if each.inputs.hour not in conflicts])
    tally = Tally(
        counts["records_in"],
        published=counts["rows"],
        duplicates=counts["duplicates_in_hour"] + counts["duplicates_of_previous"],
    ).checked(run.slug)
    return tally | {"snapshots": {storage.EVENTS.name: commit.snapshot_id if commit else None}}


def _sums(prepared: Sequence[PreparedHour]) -> dict[str, int]:
    return {name: sum(each.output.measures.counts[name] for each in prepared) for name in HOURLY_COUNTS}


def _commit(dag_id: str, run: str, prepared: Sequence[PreparedHour]) -> tuple[Commit | None, set[str]]:
    """The snapshot with the hours, None if this run published none, and the hours that another run published."""
    if not prepared:
        return None, set()
    raw = [key for each in prepared for key in each.inputs.raw]
    summary = {
        "dag": dag_id,
        "run": run,
        "hour": " ".join(each.inputs.hour for each in prepared),
        "raw-files": len(raw),
        "raw-files-sha256": hashlib.sha256("\n".join(raw).encode()).hexdigest(),
        **{name.replace("_", "-"): count for name, count in _sums(prepared).items()},
    }
    parts = [
        commits.Part(
            storage.rows_of_hour(each.inputs.start),
            each.output.files,
            content=each.output.content,
            expected=each.inputs.published,
        )
        for each in prepared
    ]
    commit, conflicts = commits.replace_parts(storage.EVENTS.name, parts, summary=summary)
    taken = {each.inputs.hour for each, part in zip(prepared, parts, strict=True) if part in conflicts}
    if not commit.is_new and not taken:
        log.info("%s: these rows are published already", run)
    return (None if len(taken) == len(prepared) else commit), taken
