"""One function a task: what the Dags of this pipeline call. Each can be run again and leaves the same."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TextIO

from sluice import catalog, kinesis, lake, s3
from sluice.errors import SluiceError
from sluice.events import PIPELINE, expectations, storage
from sluice.events.records import Envelope, Reason, record_text
from sluice.events.storage import Checkpoint, Publication, ShardBatch
from sluice.quality.gate import run_gate
from sluice.quarantine import Rejection
from sluice.settings import Settings, load_settings
from sluice.tally import Tally
from sluice.threads import THREADS

if TYPE_CHECKING:
    import pyarrow as pa

    from sluice.events.transform import DedupResult
    from sluice.kinesis import Budget, Page, Shard

log = logging.getLogger(__name__)

HOUR = timedelta(hours=1)

OVERDUE = HOUR
"""An hour that is over for so long and was never published will not be by its schedule."""

REQUEST_AGAIN = HOUR
"""A run that was asked for and did not come to its end in this time is asked for again."""

LATE_HOURS_MAX = 200
"""Hours that one ingest asks for; the others wait for the next. Airflow maps a task over 1024 at the most."""

GLUE_TYPES = {"VARCHAR": "string", "BIGINT": "bigint", "DOUBLE": "double", "BOOLEAN": "boolean"}
"""Types of further columns in the catalog, by their name in the transform."""


def utc_now() -> datetime:
    """The time of day, for what is written and for which hours are over; never for which data is read."""
    return datetime.now(UTC)


class NoHour(SluiceError):
    """Nothing says which hour a run is for."""


class RawDataGone(SluiceError):
    """An hour has fewer raw files than its publication was made from."""


# events_ingest: drain -> check_batch -> publish_batch -> find_late_hours


def drain(run: str) -> dict[str, int]:
    """Read every shard from its checkpoint, transform the records, and stage what they become.

    A batch that a run announced and did not finish is drained again, exactly as far as it reached. Nothing is written
    but staging.

    Args:
        run: the run as a part of a key.

    Returns:
        `records_in`, `rows`, `quarantined` and `files`.

    Raises:
        StreamMissing, IteratorsExpire: see `sluice.kinesis`.
        CatalogError: the raw table is missing.
    """
    settings = load_settings()
    with TemporaryDirectory(prefix="sluice-ingest-") as name:
        folder = Path(name)
        batch = _drain_shards(settings, folder / "envelopes")
        staged = _transform(settings, run, batch, folder)
    s3.write_object(settings.lake_bucket, _batch_key(run), json.dumps(staged, indent=1).encode())
    counts = {name: staged["measures"][name] for name in ("records_in", "rows", "quarantined")}
    counts["files"] = len(staged["files"])
    log.info("drained %s", counts)
    return counts


def _batch_key(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "ingest/batch.json")


def _drain_shards(settings: Settings, folder: Path) -> list[ShardBatch]:
    """Drain the shards side by side, but parents before their children; envelopes go to `<folder>/<shard>.parquet`."""
    folder.mkdir(parents=True)
    checkpoints = storage.read_checkpoints(settings.events_checkpoint_table, settings.event_stream)
    budget = kinesis.Budget(settings.events_max_records)
    waiting = {shard.shard_id: shard for shard in kinesis.list_shards(settings.event_stream)}
    finished = {shard_id for shard_id, found in checkpoints.items() if found.closed}
    batch: list[ShardBatch] = []

    def drain_one(shard: Shard) -> ShardBatch:
        return _drain_shard(settings, shard.shard_id, checkpoints.get(shard.shard_id, Checkpoint()), budget, folder)

    for shard_id in finished:
        waiting.pop(shard_id, None)
    with ThreadPoolExecutor(THREADS) as pool:
        while ready := [shard for shard in waiting.values() if finished.issuperset(shard.parents)]:
            for drained in pool.map(drain_one, ready):
                del waiting[drained.shard_id]
                if drained.closed:
                    finished.add(drained.shard_id)
                if drained.closed or drained.last != drained.after:
                    batch.append(drained)
    return batch


def _drain_shard(settings: Settings, shard_id: str, checkpoint: Checkpoint, budget: Budget, folder: Path) -> ShardBatch:
    """Write the records of one shard to a file of envelopes, page by page."""
    from sluice.events.transform import write_envelopes

    until = checkpoint.pending_until
    numbers: list[str] = []
    closed = False

    def envelopes() -> Iterator[Envelope]:
        nonlocal closed
        for page in _pages(settings, shard_id, checkpoint, budget):
            closed = page.closed
            for each in page.records:
                # The first and the last are wanted.
                numbers[1:] = [each.sequence_number]
                yield Envelope(shard_id, each.sequence_number, each.arrived_at, record_text(each.data))

    path = folder / f"{shard_id}.parquet"
    records = write_envelopes(envelopes(), path)
    if not records:
        path.unlink()
    last = numbers[-1] if numbers else checkpoint.sequence_number
    if until is not None and last != until:
        log.warning(
            "RECORDS MAY BE LOST: stream %s, %s was to be read up to %s again, but ends at %s;"
            " they have left the stream before their batch was published",
            *(settings.event_stream, shard_id, until, last),
        )
        last = until
    return ShardBatch(shard_id, checkpoint.sequence_number, numbers[0] if numbers else None, last, records, closed)


def _pages(settings: Settings, shard_id: str, checkpoint: Checkpoint, budget: Budget) -> Iterator[Page]:
    until = checkpoint.pending_until
    return kinesis.read_pages(
        settings.event_stream,
        shard_id,
        after=checkpoint.sequence_number,
        until=until,
        budget=None if until else budget,
    )


def _transform(settings: Settings, run: str, batch: Sequence[ShardBatch], folder: Path) -> dict[str, Any]:
    """Transform the envelopes and stage what they become; what `check_batch` and `publish_batch` need to know of it."""
    from sluice.events.transform import measure_hour, transform_batch

    known = {
        name: _duckdb_type(kind)
        for name, kind in catalog.table_columns(settings.events_database, storage.RAW_TABLE).items()
    }
    names = {each.shard_id: each.file_name for each in batch}
    result = transform_batch(
        sorted((folder / "envelopes").iterdir()),
        known,
        folder / "out",
        memory_limit_mb=settings.events_memory_limit_mb,
    )
    measures: dict[str, Any] = dict.fromkeys(expectations.ROW_MEASURES, 0) | {
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
        unknown_types.update(measured["unknown_types"])
        for name in expectations.ROW_MEASURES:
            measures[name] += measured[name]
    measures["unknown_types"] = ", ".join(map(repr, sorted(unknown_types)))
    uploads: list[tuple[Path, str]] = []
    files: list[dict[str, Any]] = []
    for file in result.files:
        key = f"{storage.hour_partition(file.hour)}{names[file.shard_id]}.parquet"
        staged = lake.staging_key(PIPELINE, run, f"ingest/{key}")
        uploads.append((file.path, staged))
        files.append(
            {
                "staged": staged,
                "key": storage.RAW_PREFIX + key,
                "hour": storage.hour_text(file.hour),
                "rows": file.rows,
            }
        )
    rejected: list[dict[str, Any]] = []
    if result.rejected_path:
        found = _split_rejected(settings.event_stream, result.rejected_path, folder / "rejected")
        for shard_id, (path, records) in sorted(found.items()):
            name = names[shard_id]
            staged = lake.staging_key(PIPELINE, run, f"ingest/{name}.jsonl")
            uploads.append((path, staged))
            # Named by the records, not by the run: a later run that publishes the same batch overwrites it.
            key = lake.quarantine_key(PIPELINE, shard_id, name)
            rejected.append({"staged": staged, "key": key, "records": records})
    s3.upload_files(settings.lake_bucket, uploads)
    return {
        "shards": [asdict(each) for each in batch],
        "files": files,
        "rejected": rejected,
        "columns": {name: GLUE_TYPES[kind] for name, kind in result.columns.items() if name not in known},
        "measures": measures,
    }


def _duckdb_type(glue_type: str) -> str:
    return next((duckdb for duckdb, glue in GLUE_TYPES.items() if glue == glue_type), glue_type.upper())


def _split_rejected(stream: str, path: Path, folder: Path) -> dict[str, tuple[Path, int]]:
    """Write what the transform rejected as quarantine files: shard id -> its file and number of records."""
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


def check_batch(run: str) -> dict[str, Any]:
    """The gate of a batch: reads the measures of what is staged.

    Raises:
        GateFailed: nothing of this run may be published; the records stay in the stream.
    """
    settings = load_settings()
    staged = json.loads(s3.read_object(settings.lake_bucket, _batch_key(run)).body)
    if not staged["measures"]["records_in"]:
        return {"gate": f"{PIPELINE}/ingest", "rows": 0}
    return run_gate(
        f"{PIPELINE}/ingest",
        run,
        [staged["measures"]],
        expectations.BATCH_COLUMNS,
        expectations.batch_expectations,
        settings.lake_bucket,
    )


def publish_batch(run: str) -> dict[str, int]:
    """Announce the batch, write its columns, quarantine and raw files, mark the hours, and move the checkpoints last.

    Whatever is killed on the way, the announcement makes a later run write the same files again.

    Args:
        run: the run as a part of a key.

    Returns:
        The tally of the run.

    Raises:
        BatchTaken: another run took the same records.
        ColumnConflict: another run gave a new column another type meanwhile.
    """
    settings = load_settings()
    bucket, table, stream = settings.lake_bucket, settings.events_checkpoint_table, settings.event_stream
    staged = json.loads(s3.read_object(bucket, _batch_key(run)).body)
    shards = [ShardBatch(**each) for each in staged["shards"]]
    if shards and storage.announce_batch(table, stream, run, shards):
        # Before the first file: what is drained again is planned with the same columns.
        catalog.add_columns(settings.events_database, storage.RAW_TABLE, staged["columns"])
        s3.copy_objects(bucket, [(each["staged"], each["key"]) for each in staged["rejected"]])
        s3.copy_objects(bucket, [(each["staged"], each["key"]) for each in staged["files"]])
        # After the last file: who has seen the mark sees the files too.
        for hour, because in _touched_hours(staged["files"], run, settings.dedup_lookback_hours).items():
            storage.touch_hour(table, stream, hour, run, because)
        storage.commit_batch(table, stream, run, shards)
    return Tally(
        sum(each.records for each in shards),
        published=sum(each["rows"] for each in staged["files"]),
        quarantined=sum(each["records"] for each in staged["rejected"]),
    ).checked(run)


def _touched_hours(files: Sequence[dict[str, Any]], run: str, lookback_hours: int) -> dict[datetime, str]:
    """Hours whose events or duplicates may change by raw files, with what happened."""
    rows: dict[datetime, int] = {}
    for each in files:
        hour = storage.parse_hour(each["hour"])
        rows[hour] = rows.get(hour, 0) + each["rows"]
    touched: dict[datetime, str] = {}
    for hour, count in sorted(rows.items()):
        touched[hour] = f"events of hour {storage.hour_text(hour)} arrived in {run}: {count}"
    for hour in list(touched):
        for distance in range(1, lookback_hours + 1):
            touched.setdefault(hour + distance * HOUR, f"{touched[hour]}, perhaps duplicated here")
    return touched


def find_late_hours(run: str, clock: Callable[[], datetime] = utc_now) -> list[dict[str, Any]]:
    """Hours to be processed again: they are over, and their raw data changed after they were published.

    An hour that is over for long and was never published counts as well: no schedule will come back to it. Asking for
    an hour is noted on its mark, so that the next ingest does not ask again for what was not touched since.

    Args:
        run: the run as a part of a key.
        clock: tells the time (UTC).

    Returns:
        For TriggerDagRunOperator: `trigger_run_id`, `conf` (`hour`, `reason`) and `note` of each, the earliest first.
    """
    settings = load_settings()
    table, stream = settings.events_checkpoint_table, settings.event_stream
    now = clock()
    found: list[dict[str, Any]] = []
    for touched in storage.list_touched(table, stream):
        if len(found) == LATE_HOURS_MAX:
            log.info("more hours are late than one run asks for, the next ingest asks for the others")
            break
        if touched.hour + HOUR > now:
            continue
        if (
            touched.requested_by not in (None, run)
            and touched.requested_at
            and touched.requested_at + REQUEST_AGAIN > now
        ):
            continue
        published = storage.read_publication(table, stream, touched.hour).number > 0
        if not published:
            if touched.hour + HOUR + OVERDUE > now:
                continue
            if not storage.list_raw(settings.lake_bucket, touched.hour):
                # Touched only as a neighbour, and empty: there is nothing whose duplicates could have changed.
                storage.settle_hour(table, stream, touched.hour, touched.revision)
                continue
        if storage.request_hour(table, stream, touched, run, now):
            text = storage.hour_text(touched.hour)
            found.append(
                {
                    "trigger_run_id": f"late__{text}__{run}",
                    "conf": {"hour": touched.hour.isoformat(), "reason": touched.because},
                    "note": touched.because,
                }
            )
    return found


# events_hourly: crawl -> register_partition -> dedup -> check_hour -> publish_hour


def hour_to_process(logical_date: datetime | None, conf: Mapping[str, Any] | None) -> datetime:
    """The hour of a run: `hour` of its conf, else the one of its logical date.

    Raises:
        NoHour: the run has neither, or what was asked for is no time.
    """
    asked = (conf or {}).get("hour")
    if asked is None and logical_date is None:
        raise NoHour('this run has no logical date: trigger it with --conf \'{"hour": "2024-04-07T17:00:00+00:00"}\'')
    try:
        return storage.parse_hour(str(logical_date if asked is None else asked))
    except ValueError as error:
        raise NoHour(f"hour {asked!r} is no time ({error}): write it like 2024-04-07T17:00:00+00:00") from None


def register_partition(run: str, hour: datetime) -> dict[str, int]:
    """Put the hour's raw files into the catalog, and write down which files its publication is made from.

    Args:
        run: the run as a part of a key.
        hour: start of the hour (UTC).

    Returns:
        `raw_files` and `previous_files` (of the lookback).

    Raises:
        ColumnConflict: a raw file disagrees with the table about a column's type.
        RawDataGone: raw files of a published hour have expired; its publication is better than what is left.
    """
    settings = load_settings()
    bucket, table, stream = settings.lake_bucket, settings.events_checkpoint_table, settings.event_stream
    # In this order: a mark, a publication or a file that comes meanwhile is seen as newer than this run.
    touched = storage.read_touched(table, stream, hour)
    current = storage.read_publication(table, stream, hour)
    raw = storage.list_raw(bucket, hour)
    previous = [
        file
        for distance in range(settings.dedup_lookback_hours, 0, -1)
        for file in storage.list_raw(bucket, hour - distance * HOUR)
    ]
    if len(raw) < current.raw_files:
        raise RawDataGone(
            f"hour {storage.hour_text(hour)} was published from {current.raw_files} raw files and only {len(raw)} are"
            f" left below s3://{bucket}/{storage.RAW_PREFIX}{storage.hour_partition(hour)}: it stays as it is."
            f" To publish it from what is left, restore the files or delete item {stream}#hours of table {table}"
        )
    if raw:
        columns = catalog.files_columns(bucket, [file.key for file in raw])
        for name in (storage.RAW_TABLE, storage.CURATED_TABLE):
            catalog.add_columns(settings.events_database, name, columns)
        location = f"s3://{bucket}/{storage.RAW_PREFIX}{storage.hour_partition(hour)}"
        catalog.point_partition(settings.events_database, storage.RAW_TABLE, storage.partition_values(hour), location)
    inputs = {
        "hour": storage.hour_text(hour),
        "number": current.number,
        "touched": touched.revision if touched else None,
        "raw": [file.key for file in raw],
        "previous": [file.key for file in previous],
    }
    s3.write_object(bucket, _inputs_key(run), json.dumps(inputs, indent=1).encode())
    if settings.events_engine == "glue":
        _write_manifest(settings, run, inputs)
    return {"raw_files": len(raw), "previous_files": len(previous)}


def _inputs_key(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "hourly/inputs.json")


JOB_FOLDER = "hourly/job/"


def _write_manifest(settings: Settings, run: str, inputs: dict[str, Any]) -> None:
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


def _output_key(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "hourly/output.json")


def dedup(run: str) -> dict[str, int]:
    """Keep one row of each event of the hour and stage them as few large files.

    Args:
        run: the run as a part of a key, after `register_partition`.

    Returns:
        `records_in`, `rows`, `duplicates_in_hour` and `duplicates_of_previous`.
    """
    settings = load_settings()
    bucket = settings.lake_bucket
    inputs = json.loads(s3.read_object(bucket, _inputs_key(run)).body)
    with TemporaryDirectory(prefix="sluice-hourly-") as name:
        folder = Path(name)
        output = _dedup(settings, run, inputs, folder)
    s3.write_object(bucket, _output_key(run), json.dumps(output, indent=1).encode())
    return {name: output["measures"][name] for name in expectations.HOURLY_COUNTS}


def _dedup(settings: Settings, run: str, inputs: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Dedup by the engine that the settings name, and stage; measures and files of the result."""
    from sluice.events.transform import measure_hour

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
        from sluice.events.transform import dedup_hour
    return dedup_hour(
        s3.download_files(settings.lake_bucket, inputs["raw"], folder / "raw"),
        s3.download_files(settings.lake_bucket, inputs["previous"], folder / "previous"),
        folder / "out",
        target_file_bytes=settings.events_target_file_bytes,
        memory_limit_mb=settings.events_memory_limit_mb,
    )


class JobResultMissing(SluiceError):
    """The Glue job of a run left no counts in staging."""


def _job_result(bucket: str, run: str, folder: Path) -> DedupResult:
    """What the Glue job of this run left in staging.

    Raises:
        JobResultMissing: it did not come to its end.
    """
    from sluice.events.spark_job import RESULT_FOLDER
    from sluice.events.transform import DedupResult

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


def check_hour(run: str) -> dict[str, Any]:
    """The gate of an hour: reads the measures of what is staged.

    Raises:
        GateFailed: nothing of this run may be published.
    """
    settings = load_settings()
    output = json.loads(s3.read_object(settings.lake_bucket, _output_key(run)).body)
    return run_gate(
        f"{PIPELINE}/hourly",
        run,
        [output["measures"]],
        expectations.HOURLY_COLUMNS,
        expectations.hourly_expectations,
        settings.lake_bucket,
    )


def publish_hour(run: str, hour: datetime, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Make the staged files a version of the hour, and the version the one that readers of the catalog see.

    The files get a folder of their own; the publication is recorded on condition that nobody recorded one since the
    raw files were listed; then one request moves the partition. The hour stays marked until all of it is done.

    Args:
        run: the run as a part of a key, after `dedup` and its gate.
        hour: start of the hour (UTC).
        clock: tells the time (UTC) of the publication.

    Returns:
        The tally of the hour.
    """
    settings = load_settings()
    bucket, table, stream = settings.lake_bucket, settings.events_checkpoint_table, settings.event_stream
    inputs = json.loads(s3.read_object(bucket, _inputs_key(run)).body)
    output = json.loads(s3.read_object(bucket, _output_key(run)).body)
    claim = f"publish:{run}"
    storage.claim_hour(table, stream, hour, claim, inputs["touched"], run, clock())
    current = storage.read_publication(table, stream, hour)
    version = f"{inputs['number'] + 1:06d}-{output['content']}" if inputs["raw"] else ""
    if _same_content(current, version):
        log.info("hour %s is published already: version %s", storage.hour_text(hour), current.version)
    elif current.number != inputs["number"]:
        current = _yield_to(settings, hour, current, run)
    else:
        current = _write_version(settings, run, hour, current, version, inputs, output, clock())
    _show(settings, hour, current, clock())
    storage.settle_hour(table, stream, hour, claim)
    _remove_expired(settings, hour, current, clock())
    measures = output["measures"]
    return Tally(
        measures["records_in"],
        published=measures["rows"],
        duplicates=measures["duplicates_in_hour"] + measures["duplicates_of_previous"],
    ).checked(f"{run}, hour {storage.hour_text(hour)}")


def _same_content(current: Publication, version: str) -> bool:
    return current.number > 0 and current.version.partition("-")[2] == version.partition("-")[2]


def _yield_to(settings: Settings, hour: datetime, current: Publication, run: str) -> Publication:
    """Another run published since this one listed the raw files: whose files are newer is not known from here.

    The other one stays, and the hour is marked, so that the next ingest has it processed once more.
    """
    storage.touch_hour(
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
        storage.write_publication(settings.events_checkpoint_table, settings.event_stream, hour, publication, run, now)
    except storage.HourTaken:
        # Perhaps by this very run: an answer that gets lost makes the client ask again.
        found = storage.read_publication(settings.events_checkpoint_table, settings.event_stream, hour)
        return found if _same_content(found, version) else _yield_to(settings, hour, found, run)
    return publication


def _show(settings: Settings, hour: datetime, current: Publication, now: datetime) -> None:
    """Point the partition at the current publication; again when another one came meanwhile."""
    table, stream = settings.events_checkpoint_table, settings.event_stream
    database, values = settings.events_database, storage.partition_values(hour)
    while True:
        if current.version:
            shown = catalog.partition_location(database, storage.CURATED_TABLE, values)
            location = f"s3://{settings.lake_bucket}/{storage.version_prefix(hour, current.version)}"
            if shown and shown != location:
                # A publisher that died may have left this one in sight for long: its retention begins only now.
                shown_version = shown.rstrip("/").rpartition("version=")[2]
                storage.supersede(table, stream, hour, shown_version, now)
            catalog.point_partition(database, storage.CURATED_TABLE, values, location)
        found = storage.read_publication(table, stream, hour)
        if found.number == current.number:
            return
        current = found


def _remove_expired(settings: Settings, hour: datetime, current: Publication, now: datetime) -> None:
    """Delete the versions of an hour that no reader may hold any more."""
    bucket = settings.lake_bucket
    table, stream = settings.events_checkpoint_table, settings.event_stream
    prefix = f"{storage.CURATED_PREFIX}{storage.hour_partition(hour)}"
    folders = [each.rstrip("/").rpartition("version=")[2] for each in s3.list_folders(bucket, prefix)]
    # Read anew: `_show` may have noted that one of them was in sight until now.
    known = storage.read_publication(table, stream, hour)
    if known.number != current.number:
        return
    retention = timedelta(hours=settings.events_version_retention_hours)
    expired = storage.expired_versions(folders, known, now, retention)
    for version in expired:
        s3.delete_objects(bucket, list(s3.list_keys(bucket, storage.version_prefix(hour, version))))
        log.info("hour %s: removed version %s", storage.hour_text(hour), version)
    forgotten = [version for version, _ in known.superseded if version in expired or version not in folders]
    if forgotten:
        storage.forget_superseded(table, stream, hour, forgotten)


# Reading, as an engine would


class HourNotPublished(SluiceError):
    """The catalog has no partition for an hour."""


def read_hour(hour: datetime) -> pa.Table:
    """Events of an hour through the catalog: partition, its place, the files there.

    Args:
        hour: start of the hour (UTC).

    Returns:
        The columns of the table; null where a file is older than a column.

    Raises:
        HourNotPublished: the catalog has no such partition.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = load_settings()
    values = storage.partition_values(hour)
    location = catalog.partition_location(settings.events_database, storage.CURATED_TABLE, values)
    if location is None:
        raise HourNotPublished(
            f"hour {storage.hour_text(hour)} is not in {settings.events_database}.{storage.CURATED_TABLE}:"
            f" `sluice airflow dags test events_hourly {hour:%Y-%m-%dT%H}:00:00+00:00` makes it"
        )
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    columns = catalog.table_columns(settings.events_database, storage.CURATED_TABLE)
    schema = pa.schema([(name, catalog.arrow_type(kind)) for name, kind in columns.items()])
    with TemporaryDirectory(prefix="sluice-read-") as name:
        paths = s3.download_files(bucket, [file.key for file in s3.list_objects(bucket, prefix)], Path(name))
        tables = [pq.read_table(path, partitioning=None) for path in paths]
    if not tables:
        return schema.empty_table()
    return pa.concat_tables([schema.empty_table(), *tables], promote_options="default").select(schema.names)
