"""The rule of the ingest on files: records to hourly parquet. No AWS.

The rule itself is SQL (`sql/transform.sql`), run by DuckDB.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sluice.core.strict_json import is_too_deep
from sluice.engines.duckdb import create_is_json, duckdb_connection
from sluice.engines.queries import fill, read_queries, sql_list, sql_text
from sluice.pipelines.events.records import Envelope, is_column_name, plan_columns, split_known_columns
from sluice.pipelines.events.rescue import SplitRecord, count_kinds, split_record

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SQL = resources.files("sluice.pipelines.events") / "sql" / "transform.sql"

ENVELOPE_ROWS = 50_000
"""Records of one row group of an envelope file."""

KEEP_ORDER = "SET disabled_optimizers = 'join_order,build_side_probe_side'; SET threads = 1"
"""Rows keep their order, so the same input gives the same bytes: the left side of a join is streamed by one thread.
With two threads a join mixes the rows of its files; sorting them afterwards costs more than the second thread saves."""

GROUPS_UNSORTED_MAX = 16
"""Number of files up to which all rows are scanned for each file; for more of them rows are sorted first."""

SAMPLE_ROWS = 2_000
"""Records that are sampled for the spelling of the fields of known columns."""

RECORDS_AT_A_TIME = 20_000
"""Records that are not plain, in memory at a time."""


@dataclass(frozen=True)
class HourFile:
    """The rows of one shard in one hour.

    Attributes:
        hour: its start, UTC.
        shard_id: the shard.
        path: parquet file with `RAW_COLUMNS`, `rescued_data` and the additional columns.
        rows: at least one.
    """

    hour: datetime
    shard_id: str
    path: Path
    rows: int


class Rescued(NamedTuple):
    """How much of a batch is in `rescued_data`: `records`, their `fields`, and of these `over_limit`, without a column
    only because of the maximum number of columns; `looked_at` counts the accepted records that are not plain."""

    records: int = 0
    fields: int = 0
    over_limit: int = 0
    looked_at: int = 0

    def plus(self, found: Sequence[SplitRecord]) -> Rescued:
        """With some more records."""
        return Rescued(
            self.records + sum(each.rescued is not None for each in found),
            self.fields + sum(each.rescued_fields for each in found),
            self.over_limit + sum(each.over_limit for each in found),
            self.looked_at + len(found),
        )


@dataclass(frozen=True)
class TransformResult:
    """Result of a batch: `rows_in` = rows of `files` + `rows_rejected`.

    Attributes:
        files: one for each hour and shard, in that order.
        rejected_path: JSON Lines with `shard_id`, `sequence_number`, `reason` and `record`; None when there is nothing.
        columns: the additional columns of the files, name -> type: known ones, then new ones.
        rows_in: records of the batch.
        rejected: number of records by reason.
        rescued: counts of `rescued_data`.
    """

    files: list[HourFile]
    rejected_path: Path | None
    columns: dict[str, str]
    rows_in: int
    rejected: dict[str, int] = field(default_factory=dict)
    rescued: Rescued = field(default_factory=lambda: Rescued())

    @property
    def rows_rejected(self) -> int:
        """Records in `rejected_path`."""
        return sum(self.rejected.values())

    @property
    def rows_out(self) -> int:
        """Rows of all files."""
        return sum(each.rows for each in self.files)


def write_envelopes(envelopes: Iterable[Envelope], path: Path) -> int:
    """Write records as parquet with `ENVELOPE_COLUMNS` for the transform, in their order; returns their number."""
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
    envelopes: Sequence[Path],
    known_columns: Mapping[str, str],
    out_dir: Path,
    *,
    memory_limit_mb: int = 1024,
    max_columns: int = 500,
    evolve: bool = True,
) -> TransformResult:
    """Turn a batch of records into one parquet file for each hour and shard, and one file of rejected records.

    The same envelopes and known columns give the same bytes.

    Args:
        envelopes: parquet files with `ENVELOPE_COLUMNS`.
        known_columns: columns of the raw table, name -> type in DuckDB; only additional columns matter.
        out_dir: new or empty folder for the files.
        memory_limit_mb: memory of the engine before it spills to `out_dir`, MiB.
        max_columns: maximum number of additional columns; further fields are rescued.
        evolve: whether new fields get columns; else they are rescued.
    """
    known, taken = split_known_columns(known_columns)
    out_dir.mkdir(parents=True, exist_ok=True)
    if not envelopes:
        return TransformResult([], None, known, 0)
    with duckdb_connection(memory_limit_mb, out_dir / "spill") as connection:
        _validate(connection, envelopes, known)
        columns, rescued = _rescue(connection, known, taken, max_columns, evolve)
        rejected = dict(
            connection.execute(
                "SELECT __reason, count(*) FROM validated WHERE __reason IS NOT NULL GROUP BY 1 ORDER BY 1"
            ).fetchall()
        )
        rejected_path = out_dir / "rejected.jsonl" if rejected else None
        if rejected_path:
            connection.execute(
                "COPY (SELECT shard_id, sequence_number, __reason AS reason, __record AS record FROM validated"
                " WHERE __reason IS NOT NULL)"
                f" TO {sql_text(str(rejected_path))} (FORMAT json)"
            )
        files = _write_hours(connection, columns, out_dir)
    rows_out = sum(each.rows for each in files)
    return TransformResult(files, rejected_path, columns, rows_out + sum(rejected.values()), rejected, rescued)


def transform_queries(columns: Mapping[str, str], spellings: Mapping[str, str]) -> dict[str, str]:
    """The queries of `transform.sql`; each reads the results of those before, by their names.

    Args:
        columns: additional columns, name -> type.
        spellings: of these, column -> its field in plain records.
    """
    values = [f'{_VALUES[columns[name]].format(field=field)} AS "{name}",' for name, field in spellings.items()]
    queries = read_queries(SQL)
    return queries | {
        "validated": fill(
            queries["validated"],
            additional_columns=" ".join(f'"{name}",' for name in spellings),
            further_values=" ".join(values),
            further_count="".join(f' + CAST("{name}" IS NOT NULL AS INTEGER)' for name in spellings),
        ),
        "transformed": fill(
            queries["transformed"], additional_columns=" ".join(f'validated."{name}",' for name in columns)
        ),
    }


_VALUES = {
    # other types than strings have become text: check the type if it may be one
    "VARCHAR": 'CASE WHEN __fields."{field}" IS NULL THEN NULL'
    " WHEN __fields.\"{field}\" >= 'A' AND __fields.\"{field}\" < '[' "
    " AND upper(__fields.\"{field}\") NOT IN ('NAN', 'INF', 'INFINITY')"
    ' THEN __fields."{field}"'
    " WHEN json_kind(__record, '$.\"{field}\"') = 'VARCHAR' THEN __fields.\"{field}\" END",
    "DOUBLE": 'CASE WHEN abs(TRY_CAST(__fields."{field}"::VARCHAR AS DOUBLE)) < 4000000000'
    ' THEN TRY_CAST(__fields."{field}"::VARCHAR AS DOUBLE) END',
    # the cast alone would round 1.5 and 1e-7
    "BIGINT": "CASE WHEN NOT contains(__fields.\"{field}\"::VARCHAR, '.')"
    " AND NOT contains(__fields.\"{field}\"::VARCHAR, 'e')"
    ' THEN TRY_CAST(__fields."{field}"::VARCHAR AS BIGINT) END',
    "BOOLEAN": "CASE __fields.\"{field}\"::VARCHAR WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END",
}
"""The value of a plain record for a column; null if it must be checked whether the column holds it exactly."""


def _validate(connection: DuckDBPyConnection, envelopes: Sequence[Path], known: Mapping[str, str]) -> None:
    """Fill the table `validated`; additional columns of records that are not plain are not valid yet."""
    connection.execute(f"CREATE TEMP VIEW envelopes AS FROM read_parquet({sql_list(list(envelopes))})")
    spellings = _spellings(connection, known)
    create_is_json(connection)
    fields = {"event_uuid": "VARCHAR", "event_name": "VARCHAR", "created_at": "JSON"}
    fields |= {field: "VARCHAR" if known[name] == "VARCHAR" else "JSON" for name, field in spellings.items()}
    for signature, expression in {
        "json_fields(record)": f"json_transform(record, {sql_text(json.dumps(fields))})",
        "json_kind(record, path)": "json_type(record, path)",
        "field_count(record)": "len(json_keys(record))",
        "has_repeated_field(record)": "len(list_distinct(json_keys(record))) < len(json_keys(record))",
    }.items():
        connection.execute(f"CREATE TEMP MACRO {signature} AS {expression}")
    connection.execute(f"CREATE TABLE validated AS {transform_queries(known, spellings)['validated']}")


def _spellings(connection: DuckDBPyConnection, known: Mapping[str, str]) -> dict[str, str]:
    """Column -> its most frequent field in the first records; the transform reads that one fastest."""
    counted = connection.execute(
        "SELECT field FROM (SELECT unnest(json_keys(record)) AS field"
        f" FROM (FROM envelopes LIMIT {SAMPLE_ROWS}) WHERE json_valid(record))"
        " GROUP BY field ORDER BY count(*), field DESC"
    ).fetchall()
    found = {field.lower(): field for (field,) in counted if is_column_name(field)}
    return {name: found.get(name, name) for name in known}


def _rescue(
    connection: DuckDBPyConnection, known: Mapping[str, str], taken: frozenset[str], max_columns: int, evolve: bool
) -> tuple[dict[str, str], Rescued]:
    """Set the columns and `rescued_data` of the accepted records of `validated` that are not plain.

    Returns:
        The additional columns, known ones first, and the counts of rescued data.
    """
    import pyarrow as pa

    odd = "FROM validated WHERE __reason IS NULL AND NOT __is_plain"
    deep = [
        row
        for rows, records in _records(connection, odd)
        for row, record in zip(rows, records, strict=True)
        if is_too_deep(record)
    ]
    if deep:
        connection.execute("UPDATE validated SET __reason = 'not_json' WHERE list_contains($1, rowid)", [deep])
    columns = dict(known)
    room = max_columns - len(known) - len(taken) if evolve else 0
    if room > 0:
        counts: Counter[tuple[str, str]] = Counter()
        for _, records in _records(connection, odd):
            counts += count_kinds(records, known.keys() | taken)
        columns |= plan_columns(counts, room)
    connection.execute("CREATE TEMP TABLE split (row_id BIGINT, fields VARCHAR, rescued_data VARCHAR)")
    rescued = Rescued()
    for rows, records in _records(connection, odd):
        found = [split_record(record, columns, taken) for record in records]
        table = pa.table(
            {"row_id": rows, "fields": [each.columns for each in found], "rescued": [each.rescued for each in found]},
            schema=pa.schema([("row_id", pa.int64()), ("fields", pa.string()), ("rescued", pa.string())]),
        )
        connection.from_arrow(table).insert_into("split")
        rescued = rescued.plus(found)
    if not rescued.looked_at:
        return columns, rescued
    parsed = f"json_transform(split.fields, {sql_text(json.dumps(columns))})" if columns else "NULL"
    values = "".join(
        f', CASE WHEN split.row_id IS NULL THEN validated."{name}" ELSE parsed."{name}" END AS "{name}"'
        if name in known
        else f', parsed."{name}"'
        for name in columns
    )
    replaced = ", ".join(["rescued_data", *(f'"{name}"' for name in known)])
    connection.execute(KEEP_ORDER)
    connection.execute(
        f"CREATE TABLE joined AS SELECT validated.* EXCLUDE ({replaced}), split.rescued_data{values} FROM validated"
        f" LEFT JOIN (SELECT row_id, rescued_data, {parsed} AS parsed FROM split) AS split"
        " ON validated.rowid = split.row_id;"
        "DROP TABLE validated; ALTER TABLE joined RENAME TO validated"
    )
    return columns, rescued


def _records(connection: DuckDBPyConnection, relation: str) -> Iterator[tuple[list[int], list[str]]]:
    """Row ids and records of a relation, in batches."""
    with connection.cursor() as cursor:
        reader = cursor.execute(f"SELECT rowid, __record {relation}").to_arrow_reader(RECORDS_AT_A_TIME)
        for batch in reader:
            yield batch.column(0).to_pylist(), batch.column(1).to_pylist()


def _write_hours(connection: DuckDBPyConnection, columns: Mapping[str, str], out_dir: Path) -> list[HourFile]:
    """Write the accepted rows of `validated`, one file for each hour and shard."""
    queries = transform_queries(columns, {})
    for name in ("names", "seconds"):
        connection.execute(f"CREATE TABLE {name} AS {queries[name]}")
    groups = connection.execute(
        "SELECT __hour, shard_id, count(*) FROM validated JOIN seconds USING (__second) WHERE __reason IS NULL"
        " GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    if len(groups) > GROUPS_UNSORTED_MAX:
        order = "__second - __second % 3600, shard_id, lpad(sequence_number, 64, '0')"
        connection.execute(f"CREATE TABLE sorted AS FROM validated WHERE __reason IS NULL ORDER BY {order}")
        connection.execute("DROP TABLE validated; ALTER TABLE sorted RENAME TO validated")
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
                f" AND validated.shard_id = {sql_text(shard_id)}"
                f" AND validated.__second BETWEEN {start} AND {start + 3599}))"
                f" TO {sql_text(str(path))} (FORMAT parquet)"
            )
        return HourFile(hour, shard_id, path, rows)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(write, groups))
