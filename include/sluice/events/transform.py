"""The two rules of `events` on files: records to hourly parquet, and an hour's raw files to one row a uuid. No AWS.

The rules themselves are SQL (`sql/transform.sql`, `sql/dedup.sql`), run here by DuckDB and by Spark in `spark_job`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.engine import duckdb_connection, fill, read_queries, sql_list, sql_text
from sluice.events.records import (
    RAW_COLUMNS,
    Envelope,
    FurtherColumn,
    Reason,
    check_known_columns,
    plan_columns,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SQL_DIR = resources.files("sluice.events") / "sql"

ENVELOPE_ROWS = 50_000
"""Records of one row group of an envelope file."""

KEY_BYTES = 64
"""Memory of one row while duplicates are looked for; hours that need more than half of the limit go in buckets."""

KEEP_ORDER = "SET disabled_optimizers = 'join_order,build_side_probe_side'; SET threads = 1"
"""Rows keep their order, so the same input gives the same bytes: the left side of a join is streamed, by one thread.
With two a join mixes the rows of its files; sorting them afterwards costs more than the second thread brings."""

GROUPS_UNSORTED_MAX = 16
"""Files for which the rows are looked through as they lie; for more of them they are sorted first."""

SAMPLE_ROWS = 2_000
"""Records that are looked at first to plan the columns, so that the whole batch is seldom transformed twice."""


@dataclass(frozen=True)
class HourFile:
    """The rows of one shard in one hour.

    Attributes:
        hour: its start, UTC.
        shard_id: the shard.
        path: parquet file with `RAW_COLUMNS` and the further columns.
        rows: at least one.
    """

    hour: datetime
    shard_id: str
    path: Path
    rows: int


@dataclass(frozen=True)
class TransformResult:
    """What became of a batch: `rows_in` = rows of `files` + `rows_rejected`.

    Attributes:
        files: one for each hour and shard, in that order.
        rejected_path: JSON Lines with `shard_id`, `sequence_number`, `reason` and `record`; None when there is nothing.
        columns: the further columns of the files, name -> type: those known, then new ones.
        rows_in: records of the batch.
        rejected: number of records by reason.
    """

    files: list[HourFile]
    rejected_path: Path | None
    columns: dict[str, str]
    rows_in: int
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def rows_rejected(self) -> int:
        """Records in `rejected_path`."""
        return sum(self.rejected.values())

    @property
    def rows_out(self) -> int:
        """Rows of all files."""
        return sum(each.rows for each in self.files)


@dataclass(frozen=True)
class DedupResult:
    """What became of an hour: `rows_in` = `rows_out` + `duplicates_in_hour` + `duplicates_of_previous`.

    Attributes:
        files: parquet files in order; none when no row is left.
        rows_in: rows of the hour's raw files.
        rows_out: rows of `files`.
        duplicates_in_hour: rows dropped as the hour has the uuid earlier.
        duplicates_of_previous: rows dropped as a previous hour has the uuid.
    """

    files: list[Path]
    rows_in: int
    rows_out: int
    duplicates_in_hour: int
    duplicates_of_previous: int


def write_envelopes(envelopes: Iterable[Envelope], path: Path) -> int:
    """Write records as the transform reads them, `ENVELOPE_COLUMNS` in parquet, in their order; gives their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("shard_id", pa.string()),
            ("sequence_number", pa.string()),
            ("arrived_at", pa.timestamp("us", tz="UTC")),
            ("record", pa.string()),
        ]
    )
    rows = 0
    remaining = iter(envelopes)
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        while group := list(islice(remaining, ENVELOPE_ROWS)):
            writer.write_table(pa.table(list(map(list, zip(*group, strict=True))), schema=schema))
            rows += len(group)
    return rows


def transform_batch(
    envelopes: Sequence[Path], known_columns: Mapping[str, str], out_dir: Path, *, memory_limit_mb: int = 1024
) -> TransformResult:
    """Turn a batch of records into one parquet file for each hour and shard, and one file of rejected records.

    The same envelopes and known columns give the same bytes.

    Args:
        envelopes: parquet files with `ENVELOPE_COLUMNS`; their order is that of the rows.
        known_columns: columns of the raw table, name -> type in DuckDB; only further columns count.
        out_dir: new or empty folder for the files.
        memory_limit_mb: memory of the engine before it spills to `out_dir`, MiB.

    Raises:
        ValueError: a known column has a type that no further field can have.
    """
    known = check_known_columns(known_columns)
    out_dir.mkdir(parents=True, exist_ok=True)
    if not envelopes:
        return TransformResult([], None, known, 0)
    with duckdb_connection(memory_limit_mb, out_dir / "spill") as connection:
        columns = _judge(connection, envelopes, known)
        rejected = dict(
            connection.execute(
                "SELECT __reason, count(*) FROM judged WHERE __reason IS NOT NULL GROUP BY 1 ORDER BY 1"
            ).fetchall()
        )
        rejected_path = out_dir / "rejected.jsonl" if rejected else None
        if rejected_path:
            connection.execute(
                "COPY (SELECT shard_id, sequence_number, __reason AS reason, __record AS record FROM judged"
                " WHERE __reason IS NOT NULL)"
                f" TO {sql_text(str(rejected_path))} (FORMAT json)"
            )
        files = _write_hours(connection, columns, out_dir)
    rows_out = sum(each.rows for each in files)
    return TransformResult(
        files, rejected_path, {each.name: each.type for each in columns}, rows_out + sum(rejected.values()), rejected
    )


def transform_queries(columns: Sequence[FurtherColumn]) -> dict[str, str]:
    """The queries of `transform.sql` with these further columns; each reads what those before gave, by their names."""
    counts, values, faults = [], [], []
    for column in columns:
        texts = [f'CAST(__fields."{column.fields[0]}" AS VARCHAR)']
        texts += [
            f'CASE WHEN __fields IS NOT NULL THEN CAST((json_fields_{rank}(__record))."{spelling}" AS VARCHAR) END'
            for rank, spelling in enumerate(column.fields[1:], 1)
        ]
        text = texts[0] if len(texts) == 1 else f"coalesce({', '.join(texts)})"
        values.append(f'{_VALUES[column.type].format(text=text)} AS "{column.name}",')
        counts += [f" + CAST({each} IS NOT NULL AS INTEGER)" for each in texts]
        if column.type != "VARCHAR":
            faults.append(f'({text} IS NOT NULL AND "{column.name}" IS NULL)')
    incompatible = " OR ".join(faults)
    queries = read_queries(SQL_DIR / "transform.sql")
    return queries | {
        "judged": fill(
            queries["judged"],
            further_columns=" ".join(f'"{column.name}",' for column in columns),
            further_values=" ".join(values),
            further_count="".join(counts),
            further_compatible=f"AND NOT ({incompatible})" if faults else "",
            further_incompatible=f"WHEN {incompatible} THEN '{Reason.INCOMPATIBLE_TYPE}'" if faults else "",
        ),
        "transformed": fill(
            queries["transformed"], further_columns=" ".join(f'judged."{column.name}",' for column in columns)
        ),
    }


def fields_by_rank(columns: Sequence[FurtherColumn]) -> list[dict[str, str]]:
    """What the functions `json_fields_<rank>` read: field -> VARCHAR (strings as they are) or JSON (always its text).

    The first reads the required fields and one spelling of each further field; a struct has only one field of a name,
    letter case aside, so other spellings are read by others.
    """
    ranks = [{"event_uuid": "VARCHAR", "event_name": "VARCHAR", "created_at": "JSON"}]
    for column in columns:
        ranks += [{} for _ in range(len(column.fields) - len(ranks))]
        for rank, spelling in enumerate(column.fields):
            ranks[rank][spelling] = "VARCHAR" if column.type == "VARCHAR" else "JSON"
    return ranks


_VALUES = {
    "VARCHAR": "{text}",
    "DOUBLE": "TRY_CAST({text} AS DOUBLE)",
    # the cast alone would round 1.5 and 1e-7
    "BIGINT": "CASE WHEN {text} LIKE '%.0' THEN TRY_CAST(left({text}, length({text}) - 2) AS BIGINT)"
    " WHEN {text} LIKE '%.%' OR {text} LIKE '%e%' THEN NULL ELSE TRY_CAST({text} AS BIGINT) END",
    "BOOLEAN": "CASE {text} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END",
}
"""The value of a further column from the text that `json_fields` gives."""


def _judge(connection: DuckDBPyConnection, envelopes: Sequence[Path], known: Mapping[str, str]) -> list[FurtherColumn]:
    """Fill the table `judged`; gives the further columns that it has."""
    seen: set[tuple[str, str]] = set()
    columns = plan_columns(known, seen)
    source = f"FROM read_parquet({sql_list(list(envelopes))})"
    for relation in (f"{source} LIMIT {SAMPLE_ROWS}", source):
        connection.execute(f"CREATE OR REPLACE TEMP VIEW envelopes AS {relation}")
        while True:
            _create_json_functions(connection, columns)
            connection.execute(f"CREATE OR REPLACE TABLE judged AS {transform_queries(columns)['judged']}")
            seen.update(connection.execute(_UNPLANNED).fetchall())
            replanned = plan_columns(known, seen)
            if replanned == columns:
                break
            columns = replanned
    return columns


_UNPLANNED = f"""
    SELECT DISTINCT field, CASE
        WHEN text LIKE '"%' OR text LIKE '{{%' OR text LIKE '[%' THEN 'VARCHAR'
        WHEN text IN ('true', 'false') THEN 'BOOLEAN'
        WHEN regexp_full_match(text, '-?[0-9]+')
            THEN CASE WHEN TRY_CAST(text AS BIGINT) IS NULL THEN 'VARCHAR' ELSE 'BIGINT' END
        ELSE 'DOUBLE' END
    FROM (
        SELECT field, CAST(json_extract(__record, '$.' || field) AS VARCHAR) AS text
        FROM (
            SELECT __record, unnest(json_keys(__record)) AS field
            FROM judged WHERE __reason IN ('{Reason.BAD_FIELD}', '{Reason.INCOMPATIBLE_TYPE}')
        )
        WHERE regexp_full_match(field, '[A-Za-z_][A-Za-z0-9_]*')
    )
    WHERE text <> 'null'
"""
"""The fields, and the kinds of their values, of records that do not fit the planned columns."""


def _create_json_functions(connection: DuckDBPyConnection, columns: Sequence[FurtherColumn]) -> None:
    """The functions that `transform.sql` reads JSON with."""
    import json

    ranks = fields_by_rank(columns)
    planned = sql_list([name for fields in ranks for name in fields])
    pointer = "'/' || replace(replace(field, '~', '~0'), '/', '~1')"
    for signature, expression in {
        "is_json(record)": "json_valid(record)",
        **{
            f"json_fields_{rank}(record)": f"json_transform(record, {sql_text(json.dumps(fields))})"
            for rank, fields in enumerate(ranks)
        },
        "json_kind(record, path)": "json_type(record, path)",
        "field_count(record)": "len(json_keys(record))",
        "has_repeated_field(record)": "len(list_distinct(list_transform(json_keys(record), lambda name: lower(name))))"
        " < len(json_keys(record))",
        "has_unplanned_field(record)": "len(list_filter(json_keys(record), lambda field:"
        f" NOT list_contains({planned}, field) AND json_type(record, {pointer}) <> 'NULL')) > 0",
    }.items():
        connection.execute(f"CREATE OR REPLACE TEMP MACRO {signature} AS {expression}")


def _write_hours(connection: DuckDBPyConnection, columns: Sequence[FurtherColumn], out_dir: Path) -> list[HourFile]:
    """Write the good rows of `judged`, one file for each hour and shard."""
    queries = transform_queries(columns)
    for name in ("names", "seconds"):
        connection.execute(f"CREATE TABLE {name} AS {queries[name]}")
    groups = connection.execute(
        "SELECT __hour, shard_id, count(*) FROM judged JOIN seconds USING (__second) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    if len(groups) > GROUPS_UNSORTED_MAX:
        order = "__second - __second % 3600, shard_id, lpad(sequence_number, 64, '0')"
        connection.execute(f"CREATE TABLE sorted AS FROM judged WHERE __reason IS NULL ORDER BY {order}")
        connection.execute("DROP TABLE judged; ALTER TABLE sorted RENAME TO judged")
    connection.execute(KEEP_ORDER)

    def write(group: tuple[int, str, int]) -> HourFile:
        start, shard_id, rows = group
        hour = datetime.fromtimestamp(start, UTC)
        path = out_dir / f"{hour:%Y-%m-%dT%H}" / f"{shard_id}.parquet"
        path.parent.mkdir(exist_ok=True)
        with connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            cursor.execute(
                f"COPY (SELECT * EXCLUDE (__hour) FROM ({queries['transformed']}"
                f" AND judged.shard_id = {sql_text(shard_id)} AND judged.__second BETWEEN {start} AND {start + 3599}))"
                f" TO {sql_text(str(path))} (FORMAT parquet)"
            )
        return HourFile(hour, shard_id, path, rows)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(write, groups))


def dedup_hour(
    raw_files: Sequence[Path],
    previous_files: Sequence[Path],
    out_dir: Path,
    *,
    target_file_bytes: int = 128 * 1024 * 1024,
    memory_limit_mb: int = 2048,
) -> DedupResult:
    """Keep one row for each event_uuid of an hour: the earliest; none that the previous hours have.

    The same files give the same bytes.

    Args:
        raw_files: parquet files of the hour; a column that a file lacks reads as null.
        previous_files: raw files of the hours before.
        out_dir: new or empty folder for `part-00000.parquet` and so on.
        target_file_bytes: size of a written file, about.
        memory_limit_mb: memory of the engine before it spills to `out_dir`, MiB.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    if not raw_files:
        return DedupResult([], 0, 0, 0, 0)
    files = sorted(raw_files)
    queries = read_queries(SQL_DIR / "dedup.sql")
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
    """The number of each file's first row among the rows of all files, and how many there are."""
    rows = dict(
        connection.execute(f"SELECT file_name, num_rows FROM parquet_file_metadata({sql_list(list(files))})").fetchall()
    )
    *first_rows, rows_in = accumulate((rows[str(file)] for file in files), initial=0)
    return first_rows, rows_in


def _raw_query(files: Sequence[Path], first_rows: Sequence[int]) -> str:
    """The relation `raw` of `dedup.sql`; the rows of all files are numbered through."""
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
    """Write the kept rows, one part for as many raw files in a row as make up the target size."""
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
            f'"{name}"' if name in present else f'CAST(NULL AS {kind}) AS "{name}"'
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


def measure_hour(
    files: Sequence[Path], hour: datetime, known_types: Sequence[str], *, memory_limit_mb: int = 1024
) -> dict[str, Any]:
    """Measures of a deduplicated hour for its gate, one row.

    Args:
        files: parquet files as `dedup_hour` wrote them.
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
