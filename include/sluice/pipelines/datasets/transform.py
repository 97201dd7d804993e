"""The rule of the datasets on a file: rows are validated, accepted ones aggregated by dp. No AWS.

The rule itself is SQL (`sql/aggregate.sql`), run by DuckDB on blocks of the file in parallel, so that memory is
bounded.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from sluice.core.quarantine import RejectedRecord, Rejection
from sluice.engines.duckdb import duckdb_connection
from sluice.engines.queries import read_queries, sql_text
from sluice.pipelines.datasets.blocks import RejectedRow, beginning_text, is_blank, parse_block, read_header, records_at
from sluice.pipelines.datasets.framing import BLOCK_BYTES, Block, read_blocks
from sluice.pipelines.datasets.records import DETAILS, USED_COLUMNS, Reason

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

QUERIES = read_queries(resources.files("sluice.pipelines.datasets") / "sql" / "aggregate.sql")

OUTPUT_COLUMNS = (
    "dp",
    "memory_min",
    "memory_max",
    "memory_count",
    "percentage_max",
    "percentage_avg",
    "ratio_max",
)

LOW_BITS = 60
"""Bits of a percentage below its units of 2^-40, see the SQL."""

UNIT = 2 ** (40 + LOW_BITS)

GROUPS_AT_ONCE = 50_000
"""Aggregates per row group of the parquet file."""


@dataclass(frozen=True)
class Aggregation:
    """Result of one file: `records_in` = `accepted` + all of `rejected`.

    Attributes:
        output_path: the parquet file, one row a dp.
        rejected_path: JSON Lines as in the quarantine; None when no row was rejected.
        records_in: rows of the file but for the header and empty lines.
        rejected: number of rows by reason.
        dps: rows of the parquet file.
    """

    output_path: Path
    rejected_path: Path | None
    records_in: int
    rejected: dict[str, int] = field(default_factory=dict)
    dps: int = 0

    @property
    def accepted(self) -> int:
        """Number of rows in the aggregates."""
        return self.records_in - sum(self.rejected.values())


def aggregate_file(
    path: Path,
    address: str,
    out_dir: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    memory_limit_mb: int = 1024,
    threads: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Aggregation:
    """Validate the rows of a file and aggregate the accepted ones by dp; the same file gives the same bytes.

    `percentage_avg` is the sum of the percentages, exact and then rounded once to float64, divided by their number:
    what `math.fsum(percentages) / len(percentages)` gives, in any order of rows.

    Args:
        path: the CSV.
        address: address of its source, for the quarantine.
        out_dir: new or empty folder for the files.
        metadata: key-value metadata of the parquet file.
        memory_limit_mb: memory of the engine before it spills to `out_dir`, MiB.
        threads: blocks processed in parallel; None for one per core.
        block_bytes: size of a block; a few of them are in memory.

    Raises:
        RejectedRecord: the file is rejected as a whole; see `read_header`.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    rejected_path = out_dir / "rejected.jsonl"
    rejected: Counter[str] = Counter()
    with (
        path.open("rb") as file,
        rejected_path.open("w", encoding="utf-8", errors="backslashreplace") as quarantine,
        duckdb_connection(memory_limit_mb, out_dir / "spill", threads=1) as connection,
    ):
        names = read_header(file)
        records_in = 0
        # Not TEMP: cursors share no temporary objects.
        connection.execute(QUERIES["create_integer_of"])
        connection.execute(f"CREATE TEMP TABLE records ({_RECORDS})")
        connection.execute(f"CREATE TEMP VIEW validated AS {QUERIES['validated']}")
        connection.execute(f"CREATE TABLE partials AS {QUERIES['partial']}")
        for block in _validate_blocks(
            connection, read_blocks(file, block_bytes), names, threads or os.cpu_count() or 1
        ):
            records_in += block.records_in
            _write_rejections(block.rejected, address, quarantine)
            rejected.update(each.reason for each in block.rejected)
        output_path = out_dir / "aggregated.parquet"
        dps = _write_aggregated(connection, output_path, metadata or {})
    if not rejected:
        rejected_path.unlink()
    return Aggregation(
        output_path, rejected_path if rejected else None, records_in, dict(sorted(rejected.items())), dps
    )


_RECORDS = "line BIGINT, " + ", ".join(f"{name} VARCHAR" for name in USED_COLUMNS)


class _ValidatedBlock(NamedTuple):
    records_in: int
    rejected: list[RejectedRow]


def _validate_blocks(
    connection: DuckDBPyConnection, blocks: Iterator[Block], names: Sequence[str], threads: int
) -> Iterator[_ValidatedBlock]:
    """Validate blocks in parallel and add their partial aggregates; returns their results in order."""
    local = threading.local()

    def validate(block: Block) -> _ValidatedBlock:
        if not hasattr(local, "cursor"):
            local.cursor = connection.cursor()
        return _validate_block(local.cursor, block, names)

    with ThreadPoolExecutor(threads) as pool:
        # One block more than threads: the next is read meanwhile, and no more are in memory.
        flying: deque[Future[_ValidatedBlock]] = deque()
        for block in blocks:
            flying.append(pool.submit(validate, block))
            if len(flying) > threads:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()


def _validate_block(cursor: DuckDBPyConnection, block: Block, names: Sequence[str]) -> _ValidatedBlock:
    parsed = parse_block(block, names)
    cursor.register("records", parsed.table)
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE validated AS {QUERIES['validated']}")
    cursor.unregister("records")
    cursor.execute(f"INSERT INTO partials {QUERIES['partial']}")
    bad = cursor.execute(QUERIES["rejected"]).fetchall()
    records = records_at(block, [line for line, _, _ in bad]) if bad else []
    rejected = [
        RejectedRow(line, Reason(reason), DETAILS[Reason(reason)].format(_shown(value)), beginning_text(record))
        for (line, reason, value), record in zip(bad, records, strict=True)
        if not is_blank(record)
    ]
    accepted = parsed.table.num_rows - len(bad)
    return _ValidatedBlock(accepted + len(rejected) + len(parsed.rejected), sorted(parsed.rejected + rejected))


def _shown(value: str | None) -> str:
    text = value or ""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def _write_rejections(rejected: Sequence[RejectedRow], address: str, quarantine: TextIO) -> None:
    for each in rejected:
        rejection = Rejection(f"{address} line {each.line}", each.reason, each.record, each.detail)
        quarantine.write(json.dumps(asdict(rejection), ensure_ascii=False) + "\n")


def output_schema() -> pa.Schema:
    """Types of the published file (docs/pipelines.md, datasets)."""
    import pyarrow as pa

    kinds = [pa.string(), pa.int16(), pa.int16(), pa.int64(), pa.float64(), pa.float64(), pa.float64()]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in zip(OUTPUT_COLUMNS, kinds, strict=True)])


def _write_aggregated(connection: DuckDBPyConnection, path: Path, metadata: Mapping[str, str]) -> int:
    """Merge the partial aggregates into the parquet file; returns the number of its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = output_schema()
    rows = 0
    found = connection.execute(QUERIES["aggregated"])
    with pq.ParquetWriter(path, schema.with_metadata(dict(metadata)), compression="zstd") as writer:
        while groups := found.fetchmany(GROUPS_AT_ONCE):
            columns = zip(*map(_with_average, groups), strict=True)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema.with_metadata(dict(metadata))))
            rows += len(groups)
    return rows


def _with_average(group: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of the output from one of the query `aggregated`."""
    dp, memory_min, memory_max, memory_count, percentage_max, high, low, remainders, ratio_max = group
    average = exact_sum(high, low, remainders or ()) / memory_count
    return dp, memory_min, memory_max, memory_count, percentage_max, average, ratio_max


def exact_sum(high: int, low: int, remainders: Sequence[float] = ()) -> float:
    """The float64 nearest to `high` units of 2^-40, `low` units of 2^-100 and remainders in such units."""
    units = (high << LOW_BITS) + low
    if remainders:
        return float(Fraction(units + sum(map(Fraction, remainders)), UNIT))
    # The quotient of integers is rounded once.
    total: float = units / UNIT
    return total


def check_not_all_rejected(aggregation: Aggregation) -> None:
    """Reject a file without accepted rows, so that it does not replace a good output.

    Raises:
        RejectedRecord: reason `no_row_accepted`.
    """
    if aggregation.records_in and not aggregation.accepted:
        reasons = ", ".join(f"{count} {reason}" for reason, count in aggregation.rejected.items())
        raise RejectedRecord(
            Reason.NO_ROW_ACCEPTED, f"none of {aggregation.records_in} rows is valid ({reasons}): nothing is published"
        )


def measure_output(path: Path) -> dict[str, int]:
    """Measures of a written file for its gate, read from the file: see the query `measured`."""
    with duckdb_connection(256, path.with_suffix(".spill"), threads=1) as connection:
        connection.execute(f"CREATE VIEW output AS FROM read_parquet({sql_text(str(path))})")
        found = connection.execute(QUERIES["measured"])
        names = [name for name, *_ in found.description or ()]
        return dict(zip(names, found.fetchone() or (), strict=True))
