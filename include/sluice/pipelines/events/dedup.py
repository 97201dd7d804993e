"""The deduplication rule on files: raw files of an hour to one row for each uuid. No AWS.

The rule itself is SQL (`sql/dedup.sql`), run here by DuckDB and by Spark in `spark_job`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.engines.duckdb import duckdb_connection
from sluice.engines.queries import read_queries, sql_list, sql_text

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SQL = resources.files("sluice.pipelines.events") / "sql" / "dedup.sql"

KEY_BYTES = 64
"""Memory of one row during deduplication; hours that need more than half of the limit are processed in buckets."""


@dataclass(frozen=True)
class DedupResult:
    """Result of an hour: `rows_in` = `rows_out` + `duplicates_in_hour` + `duplicates_of_previous`.

    Attributes:
        files: parquet files in order; empty if no row is left.
        rows_in: rows of the hour's raw files.
        rows_out: rows of `files`.
        duplicates_in_hour: rows dropped because the hour has an earlier row with the uuid.
        duplicates_of_previous: rows dropped because a previous hour has the uuid.
    """

    files: list[Path]
    rows_in: int
    rows_out: int
    duplicates_in_hour: int
    duplicates_of_previous: int


def dedup_hour(
    raw_files: Sequence[Path],
    previous_files: Sequence[Path],
    out_dir: Path,
    *,
    target_file_bytes: int = 128 * 1024 * 1024,
    memory_limit_mb: int = 2048,
) -> DedupResult:
    """Keep the earliest row of each event_uuid of an hour, unless a previous hour has the uuid.

    The same files give the same bytes.

    Args:
        raw_files: parquet files of the hour; a column that a file lacks reads as null.
        previous_files: raw files of the hours before.
        out_dir: new or empty folder for `part-00000.parquet` and so on.
        target_file_bytes: approximate size of a written file.
        memory_limit_mb: memory of the engine before it spills to `out_dir`, MiB.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    if not raw_files:
        return DedupResult([], 0, 0, 0, 0)
    files = sorted(raw_files)
    queries = read_queries(SQL)
    with duckdb_connection(memory_limit_mb, out_dir / "spill") as connection:
        connection.execute("CREATE TEMP TABLE dropped (__row_id BIGINT, cause VARCHAR)")
        first_rows, rows_in = _first_rows(connection, files)
        buckets = math.ceil(rows_in * KEY_BYTES / (memory_limit_mb * 1024 * 1024 / 2))
        for bucket in range(buckets):
            condition = f"WHERE hash(event_uuid) % {buckets} = {bucket}" if buckets > 1 else "WHERE TRUE"
            connection.execute(f"CREATE OR REPLACE TEMP VIEW raw AS {_raw_query(files, first_rows)} {condition}")
            connection.execute(f"CREATE OR REPLACE TEMP VIEW previous AS {_previous_query(previous_files)} {condition}")
            connection.execute(f"INSERT INTO dropped {queries['dropped']}")
        causes = dict(connection.execute("SELECT cause, count(*) FROM dropped GROUP BY 1").fetchall())
        rows_out = rows_in - sum(causes.values())
        connection.execute(f"SET VARIABLE dropped = (SELECT bitstring_agg(__row_id, 0, {rows_in - 1}) FROM dropped)")
        parts = _write_parts(connection, files, first_rows, out_dir, target_file_bytes) if rows_out else []
    return DedupResult(parts, rows_in, rows_out, causes.get("hour", 0), causes.get("previous", 0))


def _previous_query(files: Sequence[Path]) -> str:
    if not files:
        return "FROM (SELECT CAST(NULL AS VARCHAR) AS event_uuid WHERE FALSE)"
    return f"SELECT event_uuid FROM read_parquet({sql_list(sorted(files))}, hive_partitioning = false)"


def _first_rows(connection: DuckDBPyConnection, files: Sequence[Path]) -> tuple[list[int], int]:
    """The number of each file's first row among the rows of all files, and the number of all rows."""
    rows = dict(
        connection.execute(f"SELECT file_name, num_rows FROM parquet_file_metadata({sql_list(list(files))})").fetchall()
    )
    *first_rows, rows_in = accumulate((rows[str(file)] for file in files), initial=0)
    return first_rows, rows_in


def _raw_query(files: Sequence[Path], first_rows: Sequence[int]) -> str:
    """The relation `raw` of `dedup.sql`; the rows of all files are numbered consecutively."""
    return (
        f"SELECT *, ({list(first_rows)}::BIGINT[])[file_index::BIGINT + 1] + file_row_number AS __row_id"
        f" FROM read_parquet({sql_list(list(files))}, union_by_name = true, hive_partitioning = false)"
    )


KEPT = "getvariable('dropped') IS NULL OR get_bit(getvariable('dropped'), __row_id::INTEGER) = 0"
"""The query `kept` of `dedup.sql` without its join: two threads would mix the rows of a join, and the same input would
not give the same bytes. The variable `dropped` has a bit for each row of the hour."""


def _write_parts(
    connection: DuckDBPyConnection,
    files: Sequence[Path],
    first_rows: Sequence[int],
    out_dir: Path,
    target_file_bytes: int,
) -> list[Path]:
    """Write the kept rows, one part for consecutive raw files of about the target size."""
    columns = connection.execute(f"DESCRIBE {_raw_query(files, first_rows)}").fetchall()
    parts: list[Path] = []
    first = 0
    while first < len(files):
        size, end = files[first].stat().st_size, first + 1
        while end < len(files) and size + files[end].stat().st_size <= target_file_bytes:
            size, end = size + files[end].stat().st_size, end + 1
        raw = _raw_query(files[first:end], first_rows[first:end])
        present = {name for name, *_ in connection.execute(f"DESCRIBE {raw}").fetchall()}
        names = ", ".join(
            _published_value(name) if name in present else f'CAST(NULL AS {kind}) AS "{name}"'
            for name, kind, *_ in columns
            if name != "__row_id"
        )
        path = out_dir / f"part-{len(parts):05d}.parquet"
        rows = connection.execute(
            f"COPY (SELECT {names} FROM ({raw}) WHERE {KEPT}) TO {sql_text(str(path))} (FORMAT parquet)"
        ).fetchone()
        if rows and rows[0]:
            parts.append(path)
        else:
            path.unlink()
        first = end
    return parts


def _published_value(name: str) -> str:
    """Expression of a published column: times are text in ISO 8601 in raw files."""
    return f'CAST("{name}" AS TIMESTAMPTZ) AS "{name}"' if name == "created_datetime" else f'"{name}"'
