"""Measures of an hour's files for the gates: one row for files of any size. No AWS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sluice.engines.duckdb import duckdb_connection
from sluice.engines.queries import sql_list
from sluice.pipelines.events.records import RAW_COLUMNS


@dataclass(frozen=True)
class HourMeasures:
    """Measures of an hour.

    Attributes:
        counts: `rows`; `distinct_uuids`; `null_<column>` for each of `RAW_COLUMNS`; `outside_hour` (rows whose
            created_at is in another hour); `unknown_type_rows`.
        unknown_types: names of unexpected event types, sorted, at most 20.
    """

    counts: dict[str, int]
    unknown_types: list[str]


def measure_hour(
    files: Sequence[Path], hour: datetime, known_types: Sequence[str], *, memory_limit_mb: int = 1024
) -> HourMeasures:
    """Measures of an hour for its gate.

    Args:
        files: parquet files of the hour, raw or deduplicated.
        hour: start of the hour, aware.
        known_types: expected event types.
        memory_limit_mb: of DuckDB.
    """
    if not files:
        names = ("rows", "distinct_uuids", *(f"null_{name}" for name in RAW_COLUMNS), "outside_hour")
        return HourMeasures(dict.fromkeys((*names, "unknown_type_rows"), 0), [])
    start = hour.timestamp()
    nulls = ", ".join(f'count(*) - count("{name}") AS null_{name}' for name in RAW_COLUMNS)
    unknown = f"NOT list_contains({sql_list(list(known_types))}::VARCHAR[], event_type)"
    with duckdb_connection(memory_limit_mb, files[0].parent / "spill") as connection:
        relation = connection.sql(
            f"SELECT count(*) AS rows, count(DISTINCT event_uuid) AS distinct_uuids, {nulls},"
            f" count(*) FILTER (created_at < {start} OR created_at >= {start + 3600}) AS outside_hour,"
            f" coalesce(list_sort(list_distinct(list(event_type) FILTER ({unknown})))[:20], []) AS unknown_types,"
            f" count(*) FILTER ({unknown}) AS unknown_type_rows"
            f" FROM read_parquet({sql_list(list(files))}, hive_partitioning = false)"
        )
        row = relation.fetchone()
        assert row is not None
        measures = dict(zip(relation.columns, row, strict=True))
        return HourMeasures(unknown_types=measures.pop("unknown_types"), counts=measures)
