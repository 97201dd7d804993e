"""The rule of the ingest on files: records to hourly parquet. No AWS.

The rule itself is SQL (`sql/transform.sql`), run by DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.engine import create_is_json, duckdb_connection, fill, read_queries, sql_list, sql_text
from sluice.events.records import (
    Envelope,
    FurtherColumn,
    Reason,
    check_known_columns,
    plan_columns,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SQL = resources.files("sluice.events") / "sql" / "transform.sql"

ENVELOPE_ROWS = 50_000
"""Records of one row group of an envelope file."""

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
        create_is_json(connection)
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
    queries = read_queries(SQL)
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
