"""Measures of an hour's files, which the gates look at: one row, however large the files. No AWS."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sluice.engines.duckdb import duckdb_connection
from sluice.engines.queries import sql_list
from sluice.pipelines.events.records import RAW_COLUMNS


def measure_hour(
    files: Sequence[Path], hour: datetime, known_types: Sequence[str], *, memory_limit_mb: int = 1024
) -> dict[str, Any]:
    """Measures of an hour for its gate, one row.

    Args:
        files: parquet files of the hour, raw or deduplicated.
        hour: start of the hour, aware.
        known_types: event types that are expected.

    Returns:
        `rows`; `distinct_uuids`; `null_<column>` for each of `RAW_COLUMNS`; `outside_hour` (rows whose created_at is in
        another hour); `unknown_types` (their names, sorted, at most 20) and `unknown_type_rows`.
    """
    measures: dict[str, Any] = {"rows": 0, "distinct_uuids": 0, **{f"null_{name}": 0 for name in RAW_COLUMNS}}
    measures |= {"outside_hour": 0, "unknown_types": [], "unknown_type_rows": 0}
    if not files:
        return measures
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
        return measures | dict(zip(relation.columns, row, strict=True))
