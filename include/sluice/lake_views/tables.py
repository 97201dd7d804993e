"""Published tables: columns, snapshots, partitions as a calendar, and first rows with a profile of their columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from sluice.aws.tables import definitions, reading
from sluice.aws.tables.definitions import Snapshot
from sluice.aws.threads import in_parallel
from sluice.lake_views.files import cell
from sluice.lake_views.places import table_owners, table_pages
from sluice.monitoring import history
from sluice.monitoring.history import RunRecord
from sluice.monitoring.pipelines import find_dag
from sluice.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

ROWS = 10
SAMPLE_ROWS = 5000
"""Rows of a preview, and rows of a profile."""

SNAPSHOTS = 50
CALENDAR_HOURS = 24 * 30
CALENDAR_MONTHS = 24
"""Number of newest hours or months in a calendar."""

RUNS_NAMED = 3
"""Runs that a cell of a calendar names."""

HOUR = timedelta(hours=1)

HOURS_READ = 4 * CALENDAR_HOURS
"""Newest runs that a calendar reads of a Dag: those of 30 days, each hour four times."""

PRESENT, EMPTY, MISSING, LATE, REPROCESSED = "present", "empty", "missing", "late", "reprocessed"
"""States of a partition: published once; processed, and without rows; no rows, and no run; published again with late
events; published again by a person, a backfill or a rebuild."""


def import_readers() -> None:
    """Import the libraries for tables, which takes a second, outside of the time limit of a page."""
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401
    import pyiceberg.catalog.glue
    import pyiceberg.io.pyarrow  # noqa: F401


def list_tables(settings: Settings, of: Container[str]) -> list[dict[str, Any]]:
    """Every Iceberg table of some pipelines: rows, files, bytes, and when it was last published."""
    owners = table_owners(settings)
    names = [name for name in reading.names() if owners.get(name, "") in of]
    return [_summary(state) | {"pipeline": owners[state.name]} for state in in_parallel(reading.describe, names)]


def list_folders(settings: Settings, of: Container[str]) -> list[dict[str, str]]:
    """Tables of some pipelines that are folders of parquet files, and no Iceberg tables."""
    owners = table_owners(settings)
    return [
        {"table": name, "description": asset.description, "pipeline": owners[name]}
        for name, asset in table_pages(settings).items()
        if asset.format != "iceberg" and owners[name] in of
    ]


def _summary(state: reading.TableState) -> dict[str, Any]:
    return {
        "table": state.name,
        "description": state.description,
        "rows": state.rows,
        "files": state.files,
        "size_bytes": state.size_bytes,
        "snapshots": state.snapshots,
        "published_at": state.snapshot.committed_at.isoformat() if state.snapshot else None,
        "partitioning": state.partitioning,
        "columns": [{"name": name, "type": kind, "description": about} for name, kind, about in state.columns],
    }


def read_table(settings: Settings, name: str, now: datetime) -> dict[str, Any]:
    """Current state of a table, its snapshots and its calendar.

    Raises:
        TableMissing: there is no such table.
    """
    asked: list[Callable[[], Any]] = [
        partial(definitions.load, settings, name),
        partial(reading.describe, name),
        partial(processed, settings, name, now),
    ]
    table, state, processed_by = in_parallel(lambda ask: ask(), asked)
    _, hourly = find_dag(settings, "events_hourly")
    snapshots = sorted(
        (definitions.snapshot_of(table, each) for each in table.snapshots()),
        key=lambda each: each.committed_at,
        reverse=True,
    )
    return {
        **_summary(state),
        "pipeline": table_owners(settings).get(name, ""),
        "database": settings.glue_database,
        "snapshot_list": [snapshot_document(each) for each in snapshots[:SNAPSHOTS]],
        "calendar": calendar(table, snapshots, processed_by, now - timedelta(seconds=hourly.deadline_seconds)),
    }


def processed(settings: Settings, name: str, now: datetime) -> dict[str, list[str]]:
    """Begin of each hour of the table of events -> the runs of the last 30 days that processed it, the newest first."""
    if name != "events":
        return {}
    since = now - history.RUNS_KEPT
    read = partial(history.read_runs_of, settings.runs_table, since=since, limit=HOURS_READ)
    hourly, daily = in_parallel(read, ("events_hourly", "events_rebuild"))
    return runs_by_hour(hourly, daily)


def runs_by_hour(hourly: Iterable[RunRecord], daily: Iterable[RunRecord]) -> dict[str, list[str]]:
    """Begin of each hour -> ids of the runs that processed it, the newest first; a daily run processes 24 hours."""
    found: dict[str, list[str]] = defaultdict(list)
    ended = [(run, 1) for run in hourly] + [(run, 24) for run in daily]
    for run, hours in sorted(ended, key=lambda each: each[0].at, reverse=True):
        if not (run.tally and run.partition):
            continue
        first = datetime.fromisoformat(run.partition).replace(minute=0)
        if hours > 1:
            first = first.replace(hour=0)
        for hour in range(hours):
            found[(first + hour * HOUR).isoformat(timespec="minutes")].append(run.run_id)
    return dict(found)


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as plain values; its id as text, which a browser represents exactly."""
    counts = {name: int(snapshot.summary.get(f"{name}-records", 0)) for name in ("added", "deleted", "total")}
    return {
        "snapshot": str(snapshot.snapshot_id),
        "at": snapshot.committed_at.isoformat(),
        "operation": snapshot.operation,
        "run": snapshot.summary.get("sluice.run", ""),
        "dag": snapshot.summary.get("sluice.dag", ""),
        "is_current": snapshot.is_current,
        **counts,
    }


def calendar(
    table: Table, snapshots: Sequence[Snapshot], processed_by: Mapping[str, Sequence[str]], due: datetime
) -> dict[str, Any] | None:
    """Hours or months of a table with rows, bytes, snapshot and run of each; None where it is parted otherwise.

    Args:
        table: the table.
        snapshots: those that it has.
        processed_by: begin of an hour, as runs have it, -> the runs that processed it, the newest first.
        due: the time (UTC) until which hours must have been processed: a later one is not missing.
    """
    (part, *_) = table.spec().fields
    unit = str(part.transform)
    if unit not in ("hour", "month") or not snapshots:
        return None
    runs = {snapshot.snapshot_id: snapshot for snapshot in snapshots}
    found: dict[datetime, dict[str, Any]] = {}
    for row in table.inspect.partitions().to_pylist():
        start = partition_start(unit, row["partition"][part.name])
        snapshot = runs.get(row["last_updated_snapshot_id"])
        found[start] = {
            "rows": row["record_count"],
            "files": row["file_count"],
            "size_bytes": row["total_data_file_size_in_bytes"],
            "snapshot": str(row["last_updated_snapshot_id"] or ""),
            "updated_at": row["last_updated_at"].replace(tzinfo=UTC).isoformat() if row["last_updated_at"] else None,
            "run": snapshot.summary.get("sluice.run", "") if snapshot else "",
            "dag": snapshot.summary.get("sluice.dag", "") if snapshot else "",
        }
    return {"unit": unit, "partitions": fill(unit, found, processed_by, due)}


def partition_start(unit: str, value: int) -> datetime:
    """Start of a partition (UTC) by its number in Iceberg: hours or months since 1970."""
    if unit == "hour":
        return datetime(1970, 1, 1, tzinfo=UTC) + value * HOUR
    return datetime(1970 + value // 12, value % 12 + 1, 1, tzinfo=UTC)


def fill(
    unit: str,
    found: Mapping[datetime, Mapping[str, Any]],
    processed_by: Mapping[str, Sequence[str]],
    due: datetime,
) -> list[dict[str, Any]]:
    """The newest partitions in order of time, also those without rows between the first and the last.

    Args:
        unit: `hour` or `month`.
        found: start of each partition with rows -> its data.
        processed_by: begin of a partition, as runs have it, -> the runs that processed it, the newest first.
        due: the time (UTC) until which hours must have been processed: a later one is not missing.
    """
    if not found:
        return []
    last, limit = max(found), CALENDAR_HOURS if unit == "hour" else CALENDAR_MONTHS
    newest_hour = due.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - HOUR
    # A table with only old hours still shows them.
    if unit == "hour" and newest_hour - last < CALENDAR_HOURS / 2 * HOUR:
        last = max(last, newest_hour)
    starts = [last]
    while starts[-1] > min(found) and len(starts) < limit:
        starts.append(starts[-1] - HOUR if unit == "hour" else (starts[-1] - timedelta(days=1)).replace(day=1))
    cells = []
    for start in reversed(starts):
        known, runs = found.get(start), processed_by.get(start.isoformat(timespec="minutes"), ())
        state = state_of(known["run"] if known else None, runs)
        named = {"processed_by": list(runs[:RUNS_NAMED]), "times": len(runs)}
        cells.append({"start": start.isoformat(), **(known or {}), "state": state, **named})
    return cells


def state_of(run: str | None, runs: Sequence[str]) -> str:
    """State of a partition.

    Args:
        run: the run that wrote its rows; None where it has none.
        runs: the runs of the last 30 days that processed it, the newest first. An hour requested by an ingest is late
            only if it was processed before.
    """
    if run is None:
        return EMPTY if runs else MISSING
    if len(runs) > 1:
        return LATE if runs[0].startswith("late__") else REPROCESSED
    return REPROCESSED if run.startswith("backfill__") else PRESENT


def preview(settings: Settings, name: str) -> dict[str, Any]:
    """The first rows of a table, and a profile of its columns from a bounded sample of rows.

    Raises:
        TableMissing: there is no such table.
    """
    table = definitions.load(settings, name)
    sample = table.scan(limit=SAMPLE_ROWS).to_arrow()
    names = sample.column_names
    rows = [[cell(row[column]) for column in names] for row in sample.slice(0, ROWS).to_pylist()]
    return {
        "table": name,
        "columns": names,
        "rows": rows,
        "sampled": sample.num_rows,
        "profile": [profile(column, sample.column(column)) for column in names],
        "command": f"sluice tables read {name} --limit 10",
        "sql": f'SELECT * FROM "{settings.glue_database}"."{name}" LIMIT 10',
    }


def profile(name: str, column: pa.ChunkedArray) -> dict[str, Any]:
    """Nulls, distinct values, and the least and greatest of a column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, Any] = {"column": name, "nulls": column.null_count, "distinct": None, "min": None, "max": None}
    if not len(column) or pa.types.is_nested(column.type):
        return found
    found["distinct"] = pc.count_distinct(column, mode="only_valid").as_py()
    try:
        least = pc.min_max(column)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return found
    return found | {"min": cell(least["min"].as_py()), "max": cell(least["max"].as_py())}
