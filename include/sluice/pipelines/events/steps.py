"""One function a task: what the Dags of this pipeline call. Each is idempotent."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from sluice.aws import glue, s3
from sluice.aws.tables import commits
from sluice.core import streams
from sluice.core.quality.gate import GateResult, run_gate
from sluice.core.run import Run, utc_now
from sluice.core.scratch import scratch_folder
from sluice.core.staging import Summary, publish_once
from sluice.core.tally import Tally
from sluice.errors import TerminalError
from sluice.pipelines.events import PIPELINE, dirty_hours, expectations, hourly, ingest, storage
from sluice.pipelines.events.batch import HourInputs, HourOutput, IngestBatch, PreparedHour
from sluice.pipelines.events.pipeline import event_stream
from sluice.settings import load_settings

log = logging.getLogger(__name__)

LATE_HOURS_MAX = 200
"""Maximum number of hours that one ingest requests; the next one requests the others. Airflow maps a task at most 1024
times."""


BATCH, INPUTS, OUTPUT = "ingest/batch.json", "hourly/inputs.json", "hourly/output.json"


class NoHour(TerminalError):
    """The run has no hour."""


# events_ingest: drain -> check_batch -> publish_batch -> find_late_hours


def drain(run_id: str) -> dict[str, int]:
    """Read every shard from its checkpoint, transform the records, and stage the results.

    A batch that was announced and not committed is drained again up to exactly the same records. Writes to staging
    only.

    Args:
        run_id: of the run.

    Returns:
        `records_in`, `rows`, `quarantined`, `files`, and `shards` whose checkpoint moves; if none does, also the tally.

    Raises:
        ResourceMissing: the stream is missing.
        IteratorsExpire: see `sluice.aws.kinesis`.
        CatalogError: the raw table is missing.
    """
    run, settings = Run.of(PIPELINE, run_id), load_settings()
    with scratch_folder("events-ingest") as folder:
        shards = ingest.drain_shards(settings, folder / "envelopes")
        batch = ingest.stage_batch(settings, run, shards, folder)
    run.save(BATCH, batch)
    counts = {name: batch.measures.counts[name] for name in ("records_in", "rows", "quarantined")}
    counts |= {"files": len(batch.files), "shards": len(batch.shards)}
    if not batch.shards:
        counts |= Tally(0, published=0).checked(run.slug)
    log.info("drained %s", counts)
    return counts


def check_batch(run_id: str) -> GateResult:
    """The gate of a batch: reads its staged measures.

    Raises:
        GateFailed: nothing of this run is published; the records stay in the stream.
    """
    run = Run.of(PIPELINE, run_id)
    measures = run.load(BATCH, IngestBatch).measures
    if not measures.counts["records_in"]:
        return {"gate": f"{PIPELINE}/ingest", "rows": 0}
    return run_gate(run, "ingest", [measures.row], expectations.BATCH_COLUMNS, expectations.batch_expectations)


def publish_batch(run_id: str) -> dict[str, int]:
    """Announce the batch, write columns, quarantine and raw files, mark hours as dirty, and move the checkpoints last.

    After a crash at any point, the next run drains the announced batch again and overwrites the same files.

    Args:
        run_id: of the run.

    Returns:
        The tally of the run.

    Raises:
        BatchTaken: another run took the same records.
        ColumnConflict: another run added a new column with another type meanwhile.
    """
    run = Run.of(PIPELINE, run_id)
    batch = run.load(BATCH, IngestBatch)
    return publish_once(run, "publish_batch", batch, lambda: _publish_batch(run.slug, batch, run.clock()))


def _publish_batch(run: str, batch: IngestBatch, now: datetime) -> dict[str, int]:
    settings = load_settings()
    bucket, stream = settings.lake_bucket, event_stream(settings)

    def write() -> None:
        # Before the first file: a batch that is drained again is planned with the same columns.
        glue.add_columns(settings.glue_database, storage.RAW_TABLE, batch.columns)
        s3.copy_objects(bucket, [(each.staged, each.key) for each in batch.rejected])
        s3.copy_objects(bucket, [(each.staged, each.key) for each in batch.files])
        # After the last file: a reader of the marker also sees the files.
        for hour, reason in dirty_hours.hours_to_mark(batch.files, run, settings.events_dedup_window_hours).items():
            dirty_hours.mark_dirty(settings.events_hours_table, stream.name, hour, run, reason, now)

    streams.publish_batch(stream, run, batch.shards, write)
    return Tally(
        sum(each.records for each in batch.shards),
        published=sum(each.rows for each in batch.files),
        quarantined=sum(each.records for each in batch.rejected),
    ).checked(run)


def find_late_hours(
    run_id: str, has_run: Callable[[str, datetime], bool], clock: Callable[[], datetime] = utc_now
) -> list[dict[str, Any]]:
    """Hours to process again: they are over, and their raw data changed after publication.

    Includes hours that are over for long and were never published, because their scheduled run is missing. The request
    is recorded on the marker, so that the next ingest does not request an hour again that was not marked since. An hour
    is skipped while a queued or running run processes it or its day; if that run fails, the marker is still set.

    Args:
        run_id: of the run.
        has_run: whether a run of a Dag with a logical date is queued or running.
        clock: returns the time (UTC).

    Returns:
        For TriggerDagRunOperator: `trigger_run_id`, `conf` (`hour`, `reason`) and `note` of each, the earliest first.
    """
    run, settings = Run.of(PIPELINE, run_id).slug, load_settings()
    table, stream = settings.events_hours_table, settings.events_stream
    now = clock()
    is_owned = cache(has_run)
    found: list[dict[str, Any]] = []
    for dirty in dirty_hours.list_dirty_hours(table, stream):
        if len(found) == LATE_HOURS_MAX:
            log.info("more hours are dirty than one run requests; the next ingest requests the others")
            break
        if not ingest.is_late(settings, dirty, run, now):
            continue
        if is_owned("events_rebuild", dirty.hour.replace(hour=0)) or is_owned("events_hourly", dirty.hour):
            log.info("hour %s is skipped: a run that processes it is queued or running", storage.hour_text(dirty.hour))
            continue
        if dirty_hours.request_hour(table, stream, dirty, run, now):
            text = storage.hour_text(dirty.hour)
            found.append(
                {
                    "trigger_run_id": f"late__{text}__{run}",
                    "conf": {"hour": dirty.hour.isoformat(), "reason": dirty.reason},
                    "note": dirty.reason,
                }
            )
    return found


# events_hourly: dedup (register_partition, dedup) -> check_hour, crawl -> publish_hour


_DATE_AND_HOUR = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}")


def hour_to_process(logical_date: datetime | None, conf: Mapping[str, Any] | None) -> datetime:
    """The hour of a run: `hour` of its conf, else the one of its logical date.

    Raises:
        NoHour: the run has neither, or `hour` is not a time.
    """
    asked = (conf or {}).get("hour")
    if asked is not None and not _DATE_AND_HOUR.match(str(asked)):
        raise NoHour(f"hour {asked!r} has no date and hour: write it like 2024-04-07T17:00:00+00:00")
    if asked is None and logical_date is None:
        raise NoHour('this run has no logical date: trigger it with --conf \'{"hour": "2024-04-07T17:00:00+00:00"}\'')
    try:
        return storage.parse_hour(str(logical_date if asked is None else asked))
    except ValueError as error:
        raise NoHour(f"hour {asked!r} is not a time ({error}): write it like 2024-04-07T17:00:00+00:00") from None


def register_partition(run_id: str, hour: datetime) -> dict[str, int]:
    """Register the hour's raw files in the catalog, and stage the list of input files of its publication.

    Args:
        run_id: of the run.
        hour: start of the hour (UTC).

    Returns:
        `raw_files` and `previous_files` (of the deduplication window).

    Raises:
        ColumnConflict: a raw file disagrees with the table about a column's type.
        RawDataGone: raw files of a published hour have expired; its publication is more complete than the remaining
            files.
    """
    run, settings = Run.of(PIPELINE, run_id), load_settings()
    inputs = hourly.list_inputs(settings, hour, commits.live_files(storage.EVENTS.name, storage.rows_of_hour(hour)))
    if inputs.raw:
        hourly.register_raw(settings, inputs)
    run.save(INPUTS, inputs)
    if settings.events_engine == "glue":
        hourly.write_manifest(settings, run, inputs)
    return {"raw_files": len(inputs.raw), "previous_files": len(inputs.previous)}


def dedup(run_id: str) -> dict[str, int]:
    """Deduplicate the hour and stage its rows as few large files.

    Args:
        run_id: of the run, after `register_partition`.

    Returns:
        `records_in`, `rows`, `duplicates_in_hour` and `duplicates_of_previous`.
    """
    run = Run.of(PIPELINE, run_id)
    with scratch_folder("events-hourly") as folder:
        output = hourly.stage_hour(load_settings(), run, run.load(INPUTS, HourInputs), folder)
    run.save(OUTPUT, output)
    return {name: output.measures.counts[name] for name in expectations.HOURLY_COUNTS}


def check_hour(run_id: str) -> GateResult:
    """The gate of an hour: reads its staged measures.

    Raises:
        GateFailed: nothing of this run is published.
    """
    run = Run.of(PIPELINE, run_id)
    measures = run.load(OUTPUT, HourOutput).measures
    return run_gate(run, "hourly", [measures.row], expectations.HOURLY_COLUMNS, expectations.hourly_expectations)


def publish_hour(run_id: str, clock: Callable[[], datetime] = utc_now) -> Summary:
    """Replace the hour in the table `events` by the staged files in one commit.

    On condition that no other run published the hour since its raw files were listed. The hour stays dirty until the
    publication is recorded.

    Args:
        run_id: of the run, after `dedup` and its gate.
        clock: returns the time (UTC) of the publication.

    Returns:
        The tally of the hour, and `snapshots`: the id of the snapshot of the table with it.

    Raises:
        TableBusy: see `sluice.aws.tables.commits`.
    """
    run = Run.of(PIPELINE, run_id, clock)
    prepared = PreparedHour(run.load(INPUTS, HourInputs), run.load(OUTPUT, HourOutput))
    return publish_once(run, "publish_hour", prepared, lambda: hourly.publish("events_hourly", run, [prepared]))
