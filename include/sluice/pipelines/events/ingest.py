"""Parts of the tasks of events_ingest: shards to envelopes, envelopes to raw files and rejected records."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sluice import lake
from sluice.aws import glue, s3
from sluice.core import streams
from sluice.core.checkpoints import ShardBatch
from sluice.core.quarantine import Rejection
from sluice.core.run import Run
from sluice.pipelines.events import PIPELINE, dirty_hours, expectations, hours, storage
from sluice.pipelines.events.batch import IngestBatch, Measures, RawFile, RejectedFile
from sluice.pipelines.events.dirty_hours import DirtyHour
from sluice.pipelines.events.pipeline import event_stream
from sluice.pipelines.events.records import RESCUED_COLUMN, Envelope, Reason, record_text
from sluice.settings import Settings

if TYPE_CHECKING:
    from sluice.aws.kinesis import StreamRecord
    from sluice.pipelines.events.transform import HourFile, TransformResult

log = logging.getLogger(__name__)

OVERDUE = timedelta(hours=1)
"""Age after which an hour that was never published is requested: its scheduled run is missing."""

REQUEST_AGAIN = timedelta(hours=1)
"""Time after which a requested run that has not completed is requested again."""

GLUE_TYPES = {"VARCHAR": "string", "BIGINT": "bigint", "DOUBLE": "double", "BOOLEAN": "boolean"}
"""Glue types of additional columns, by their type in the transform."""


# Draining


def drain_shards(settings: Settings, folder: Path) -> list[ShardBatch]:
    """Drain the stream; the envelopes of each shard go to `<folder>/<shard>.parquet`, page by page."""
    from sluice.pipelines.events.transform import write_envelopes

    folder.mkdir(parents=True)

    def write(shard_id: str, records: Iterator[StreamRecord]) -> None:
        path = folder / f"{shard_id}.parquet"
        envelopes = (
            Envelope(shard_id, each.sequence_number, each.arrived_at, record_text(each.data)) for each in records
        )
        if not write_envelopes(envelopes, path):
            path.unlink()

    return streams.drain_shards(event_stream(settings), settings.events_max_records, write)


# Staging


def stage_batch(settings: Settings, run: Run, batch: Sequence[ShardBatch], folder: Path) -> IngestBatch:
    """Transform the envelopes and stage the results.

    Args:
        settings: the settings.
        run: the run.
        batch: records drained from each shard.
        folder: working folder with `envelopes/`.
    """
    from sluice.pipelines.events.transform import transform_batch

    known = {
        name: _duckdb_type(kind) for name, kind in glue.table_columns(settings.glue_database, storage.RAW_TABLE).items()
    }
    result = transform_batch(
        sorted((folder / "envelopes").iterdir()),
        known,
        folder / "out",
        memory_limit_mb=settings.events_memory_limit_mb,
        max_columns=settings.events_max_columns,
        evolve=settings.events_schema_contract == "evolve",
    )
    _log_rescued(settings, result)
    measures = _measure(settings, batch, result)
    names = {each.shard_id: each.file_name for each in batch}
    files = [(each.path, _raw_file(run, each, names[each.shard_id])) for each in result.files]
    rejected: list[tuple[Path, RejectedFile]] = []
    if result.rejected_path:
        split = _split_rejected(settings.events_stream, result.rejected_path, folder / "rejected")
        for shard_id, (path, records) in sorted(split.items()):
            rejected.append((path, _rejected_file(run, shard_id, names[shard_id], records)))
    uploads = [(path, file.staged) for path, file in files] + [(path, file.staged) for path, file in rejected]
    s3.upload_files(run.bucket, uploads)
    return IngestBatch(
        shards=list(batch),
        files=[each for _, each in files],
        rejected=[each for _, each in rejected],
        # The table may be older than `rescued_data`, so it is added like a new column.
        columns={
            name: GLUE_TYPES[kind]
            for name, kind in {RESCUED_COLUMN: "VARCHAR", **result.columns}.items()
            if name not in known
        },
        measures=measures,
    )


def _log_rescued(settings: Settings, result: TransformResult) -> None:
    rescued = result.rescued
    log.info("%d of %d events have rescued_data, %d fields", rescued.records, result.rows_out, rescued.fields)
    if rescued.over_limit and settings.events_schema_contract == "evolve":
        log.warning(
            "table %s has the maximum number of additional columns: %d fields were rescued instead;"
            " SLUICE_EVENTS_MAX_COLUMNS is %d",
            *(storage.RAW_TABLE, rescued.over_limit, settings.events_max_columns),
        )


def _duckdb_type(glue_type: str) -> str:
    return next((duckdb for duckdb, glue in GLUE_TYPES.items() if glue == glue_type), glue_type.upper())


def _measure(settings: Settings, batch: Sequence[ShardBatch], result: TransformResult) -> Measures:
    """Measures for the gate of a batch: counts, and the sums of the measures of all hours."""
    from sluice.pipelines.events.measures import measure_hour

    counts = dict.fromkeys(expectations.ROW_MEASURES, 0) | {
        "records_in": sum(each.records for each in batch),
        "rows": result.rows_out,
        "quarantined": result.rows_rejected,
        "accounted": result.rows_out + result.rows_rejected,
    }
    unknown_types: set[str] = set()
    for hour in sorted({file.hour for file in result.files}):
        paths = [file.path for file in result.files if file.hour == hour]
        measured = measure_hour(
            paths, hour, settings.events_known_types, memory_limit_mb=settings.events_memory_limit_mb
        )
        unknown_types.update(measured.unknown_types)
        for name in expectations.ROW_MEASURES:
            counts[name] += measured.counts[name]
    return Measures(counts, ", ".join(map(repr, sorted(unknown_types))))


def _raw_file(run: Run, file: HourFile, name: str) -> RawFile:
    key = f"{storage.hour_partition(file.hour)}{name}.parquet"
    staged = run.staging_key(f"ingest/{key}")
    return RawFile(staged, storage.RAW_PREFIX + key, storage.hour_text(file.hour), file.rows)


def _rejected_file(run: Run, shard_id: str, name: str, records: int) -> RejectedFile:
    # Named by the records, not by the run: a later run that publishes the same batch overwrites it.
    key = lake.quarantine_key(PIPELINE, shard_id, name)
    return RejectedFile(run.staging_key(f"ingest/{name}.jsonl"), key, records)


def _split_rejected(stream: str, path: Path, folder: Path) -> dict[str, tuple[Path, int]]:
    """Write rejected records as quarantine files; returns shard id -> its file and number of records."""
    folder.mkdir()
    found: dict[str, tuple[Path, int]] = {}
    with path.open(encoding="utf-8") as lines, ExitStack() as opened:
        outputs: dict[str, TextIO] = {}
        for line in lines:
            row = json.loads(line)
            shard_id = row["shard_id"]
            if shard_id not in outputs:
                name = folder / f"{shard_id}.jsonl"
                outputs[shard_id] = opened.enter_context(name.open("w", encoding="utf-8"))
                found[shard_id] = (name, 0)
            source = f"kinesis://{stream}/{shard_id}/{row['sequence_number']}"
            reason = Reason(row["reason"])
            rejection = Rejection(source, reason, row["record"], reason.detail)
            outputs[shard_id].write(json.dumps(asdict(rejection), ensure_ascii=False) + "\n")
            found[shard_id] = (found[shard_id][0], found[shard_id][1] + 1)
    return found


# Late hours


def is_late(settings: Settings, dirty: DirtyHour, run: str, now: datetime) -> bool:
    """Whether a run must request a dirty hour; clears the marker of an hour without raw files."""
    if dirty.hour + storage.HOUR > now:
        return False
    if dirty.requested_by not in (None, run) and dirty.requested_at and dirty.requested_at + REQUEST_AGAIN > now:
        return False
    table, stream = settings.events_hours_table, settings.events_stream
    if hours.read_hour(table, stream, dirty.hour):
        return True
    if dirty.hour + storage.HOUR + OVERDUE > now:
        return False
    if not storage.list_raw(settings.lake_bucket, dirty.hour):
        # Marked only because of an earlier hour, and without raw files: it has no rows that could change.
        dirty_hours.clear_dirty_hour(table, stream, dirty.hour, dirty.revision)
        return False
    return True
