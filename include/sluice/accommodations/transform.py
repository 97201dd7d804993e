"""The rule of the pipeline on files: partners' files to packed output files. No AWS.

The rule itself is SQL (`sql/consolidate.sql`), run here by DuckDB; `current` applies it to all files ever seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.accommodations.records import MAX_BYTES, Flaw, PartnerFile, Reason, epoch_microseconds
from sluice.accommodations.source import UnreadableFile, detect_format, line_batches, lines_schema
from sluice.engine import duckdb_connection, read_queries, sql_text

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

SQL_FILE = resources.files("sluice.accommodations") / "sql" / "consolidate.sql"

LINE_BITS = 40
"""A record is numbered by its file and its line: 2^40 lines a file, 2^23 files a batch."""

ELEMENT_BYTES = (1024 * 1024, 64 * 1024 * 1024)
"""Of one element of a JSON array, tried one after the other: the engine holds some of them in memory."""

OUTPUT_ROWS = 20_000
"""Lines fetched at a time."""

JUDGED = "judged"
"""Folder of what `read_file` leaves: the relation `judged` of the rule."""

JUDGED_GROUP_ROWS = 61_440
"""Rows of a row group there, of which each thread holds one in memory."""

BUCKET_GROUP_ROWS = 10_240
"""Rows of a row group of a file that is sorted by bucket: less than a bucket has."""

JSON_FUNCTIONS = """
CREATE TEMP MACRO is_json(text) AS json_valid(text);
CREATE TEMP MACRO json_fields(text) AS json_transform(
    text, '{"accommodation_id": "JSON", "partner_name": "JSON", "accommodation_data": "JSON"}');
CREATE TEMP MACRO json_kind(text) AS json_type(text);
CREATE TEMP MACRO json_decoded(text) AS json_extract_string(text, '$');
CREATE TEMP MACRO field_count(text) AS len(json_keys(text));
CREATE TEMP MACRO has_repeated_field(text) AS len(list_distinct(json_keys(text))) < len(json_keys(text));
"""


@dataclass(frozen=True)
class Consolidated:
    """What became of a batch.

    Attributes:
        outputs: packed files, in order; lines sorted by accommodation_id.
        rejected_path: JSON Lines as they go to quarantine; None when there is nothing.
        counts: `records_in` = `published` + `duplicates` (older or of a lesser partner) + `unlisted` + `blocked` +
            `quarantined`; and what the gate looks at: `distinct_ids`, `unusable` (published of a partner that may not
            be used), `largest_file_bytes`, `smallest_file_bytes`.
        rejected: quarantined records by reason.
        unknown_partners: names that are on no list, sorted.
    """

    outputs: list[Path]
    rejected_path: Path | None
    counts: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)
    unknown_partners: list[str] = field(default_factory=list)


@contextmanager
def consolidation(work_dir: Path, memory_limit_mb: int) -> Iterator[DuckDBPyConnection]:
    """A DuckDB that takes the files of one batch: `read_file` for each, then `consolidate_batch`.

    Args:
        work_dir: folder for what spills.
        memory_limit_mb: memory before it spills, MiB.
    """
    with duckdb_connection(memory_limit_mb, work_dir / "spill") as connection:
        connection.execute(JSON_FUNCTIONS)
        (work_dir / JUDGED).mkdir()
        # Files and not a table: memory holds only what a query asks for, and a file that cannot be read is taken back.
        connection.execute(
            "CREATE TABLE files (file_id INTEGER, source VARCHAR, object_key VARCHAR, modified_at BIGINT);"
            "COPY (SELECT NULL::BIGINT AS record_id, NULL::VARCHAR AS accommodation_id, NULL::VARCHAR AS partner_name,"
            " NULL::VARCHAR AS accommodation_data, NULL::VARCHAR AS reason, NULL::VARCHAR AS text WHERE FALSE)"
            f" TO {sql_text(str(work_dir / JUDGED / 'none.parquet'))} (FORMAT parquet);"
            f"CREATE VIEW judged AS FROM read_parquet({sql_text(str(work_dir / JUDGED / '*.parquet'))})"
        )
        yield connection


def read_file(connection: DuckDBPyConnection, work_dir: Path, file_id: int, file: PartnerFile, path: Path) -> int:
    """Judge every line of a file; nothing of it stays when it cannot be read.

    Args:
        connection: of `consolidation`.
        work_dir: its folder.
        file_id: its place among the files of the batch by age (`records.by_age`).
        file: what it is.
        path: where its bytes are.

    Returns:
        Its records, good or bad; blank lines are none.

    Raises:
        UnreadableFile: nothing of it can be taken.
    """
    connection.execute(
        "INSERT INTO files VALUES (?, ?, ?, ?)", [file_id, file.source, file.key, epoch_microseconds(file.modified_at)]
    )
    judged = work_dir / JUDGED / f"{file_id:06d}.parquet"
    try:
        _judge_file(connection, path, file_id << LINE_BITS, judged)
        records, textless = connection.execute(
            f"SELECT count(*), count(*) FILTER (reason IN ('{Reason.NOT_JSON}', '{Reason.NOT_UTF8}'))"
            f" FROM read_parquet({sql_text(str(judged))})"
        ).fetchall()[0]
        if records and records == textless:
            raise UnreadableFile(Flaw.NO_JSON)
    except UnreadableFile:
        judged.unlink(missing_ok=True)
        raise
    return int(records)


def _judge_file(connection: DuckDBPyConnection, path: Path, first: int, judged: Path) -> None:
    if detect_format(path) == "array":
        _judge_array(connection, path, first, judged)
        return
    import pyarrow as pa

    reader = pa.RecordBatchReader.from_batches(lines_schema(), line_batches(path, first))
    connection.from_arrow(reader).create_view("lines")
    _judge(connection, judged)
    connection.execute("DROP VIEW lines")


def _judge(connection: DuckDBPyConnection, judged: Path) -> None:
    connection.execute(
        f"COPY (FROM ({read_queries(SQL_FILE)['judged']}) WHERE reason IS DISTINCT FROM 'blank')"
        f" TO {sql_text(str(judged))} (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {JUDGED_GROUP_ROWS})"
    )


def _judge_array(connection: DuckDBPyConnection, path: Path, first: int, judged: Path) -> None:
    """Judge the elements of a JSON array, which DuckDB streams.

    Raises:
        UnreadableFile: it is no JSON to its end.
    """
    import duckdb

    threads = connection.execute("SELECT current_setting('threads')").fetchall()[0][0]
    for element_bytes in ELEMENT_BYTES:
        connection.execute(
            # Each thread has buffers for elements of that size.
            f"SET threads = {threads if element_bytes == ELEMENT_BYTES[0] else 1};"
            f"CREATE TEMP VIEW lines AS SELECT {first} + row_number() OVER () - 1 AS record_id,"
            f" CASE WHEN strlen(json) > {MAX_BYTES} THEN left(json, {MAX_BYTES}) ELSE json::VARCHAR END AS text,"
            f" CASE WHEN strlen(json) > {MAX_BYTES} THEN '{Reason.TOO_LARGE}' END AS flaw"
            f" FROM read_json_objects({sql_text(str(path))}, format = 'array', maximum_object_size = {element_bytes})"
        )
        try:
            _judge(connection, judged)
        except duckdb.InvalidInputException as error:
            if "maximum_object_size" not in str(error):
                raise UnreadableFile(Flaw.BROKEN_ARRAY) from None
        else:
            return
        finally:
            connection.execute(f"DROP VIEW lines; SET threads = {threads}")
    raise UnreadableFile(Flaw.LARGE_ELEMENT)


def consolidate_batch(
    connection: DuckDBPyConnection, priority: Sequence[str], blocked: Sequence[str], out_dir: Path
) -> Consolidated:
    """Apply the rule to the files that were read, and pack the result.

    The same files and lists give the same bytes.

    Args:
        connection: of `consolidation`.
        priority: partners that may be used, best first (`records.usable_partners`).
        blocked: partners that may not, for the count.
        out_dir: new folder for the output files.
    """
    out_dir.mkdir(parents=True)
    queries = read_queries(SQL_FILE)
    create_priority(connection, priority)
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW records AS"
        " SELECT accommodation_id, partner_name, record_id AS recency FROM judged WHERE reason IS NULL"
    )
    connection.execute(f"CREATE OR REPLACE TABLE newest AS {queries['newest']}")
    connection.execute(f"CREATE OR REPLACE TABLE consolidated AS {queries['consolidated']}")
    outputs, published = _pack(_output_lines(connection), out_dir)
    rejected = dict(
        connection.execute(
            "SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    )
    rejected_path = None
    if rejected:
        rejected_path = out_dir / "rejected.jsonl"
        _write_rejected(connection, rejected_path)
    counts, unknown = _count(connection, blocked)
    counts |= {
        "published": published,
        "quarantined": sum(rejected.values()),
        "duplicates": counts["usable"] - published,
        "largest_file_bytes": max((path.stat().st_size for path in outputs), default=0),
        "smallest_file_bytes": min((path.stat().st_size for path in outputs), default=0),
    }
    counts["records_in"] = counts.pop("good") + counts["quarantined"]
    return Consolidated(outputs, rejected_path, counts, rejected, unknown)


def create_priority(connection: DuckDBPyConnection, priority: Sequence[str]) -> None:
    """Fill the relation `priority` of the rule."""
    connection.execute("CREATE OR REPLACE TABLE priority (partner_name VARCHAR, place INTEGER)")
    if priority:
        connection.executemany(
            "INSERT INTO priority VALUES (?, ?)", [[name, place] for place, name in enumerate(priority)]
        )


def _output_lines(connection: DuckDBPyConnection) -> Iterator[pa.Array]:
    """The lines of the result with their newlines, in order, some at a time."""
    reader = connection.execute(
        "SELECT '{\"accommodation_id\":' || to_json(judged.accommodation_id)"
        " || ',\"partner_name\":' || to_json(judged.partner_name)"
        " || ',\"accommodation_data\":' || judged.accommodation_data || E'}\\n'"
        " FROM judged SEMI JOIN consolidated ON judged.record_id = consolidated.recency"
        " ORDER BY judged.accommodation_id"
    ).to_arrow_reader(OUTPUT_ROWS)
    for batch in reader:
        yield batch.column(0)


def _pack(lines: Iterator[pa.Array], out_dir: Path) -> tuple[list[Path], int]:
    """Write lines to files of at most `MAX_BYTES`, each as full as its lines allow; the files and the number of lines.

    The lines of a batch lie side by side in memory, so a file is a slice of it. A batch is written while the next one
    is fetched.
    """
    import numpy as np

    outputs: list[Path] = []
    rows = 0
    rest = b""
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(2) as pool:
        for batch in lines:
            rows += len(batch)
            offsets = np.frombuffer(batch.buffers()[1], np.int32)[batch.offset : batch.offset + len(batch) + 1]
            content = rest + memoryview(batch.buffers()[2])[int(offsets[0]) : int(offsets[-1])]
            ends = offsets[1:].astype(np.int64) - int(offsets[0]) + len(rest)
            cuts = [0]
            while len(content) - cuts[-1] > MAX_BYTES:
                fitting = int(np.searchsorted(ends, cuts[-1] + MAX_BYTES, "right"))
                # What was left of the batch before ends where the first of these lines begins.
                cuts.append(int(ends[fitting - 1]) if fitting else len(rest))
            rest = content[cuts[-1] :]
            first = len(outputs)
            outputs += [out_dir / f"output-{number:05d}.jsonl" for number in range(first, first + len(cuts) - 1)]
            writing.append(pool.submit(_write_slices, content, cuts, outputs[first:]))
            # Two batches in memory, not all of them.
            if len(writing) > 1:
                writing.popleft().result()
        for each in writing:
            each.result()
    if rest:
        outputs.append(out_dir / f"output-{len(outputs):05d}.jsonl")
        outputs[-1].write_bytes(rest)
    return outputs, rows


def _write_slices(content: bytes, cuts: Sequence[int], paths: Sequence[Path]) -> None:
    view = memoryview(content)
    for path, begin, end in zip(paths, cuts, cuts[1:], strict=False):
        path.write_bytes(view[begin:end])


def _write_rejected(connection: DuckDBPyConnection, path: Path) -> None:
    details = ", ".join(f"({sql_text(reason)}, {sql_text(reason.detail)})" for reason in Reason)
    connection.execute(
        f"COPY (SELECT files.source || '#line=' || ((record_id & {(1 << LINE_BITS) - 1}) + 1) AS source, reason,"
        f" rtrim(left(text, {MAX_BYTES}), E'\\r\\n') AS record, detail"
        f" FROM judged JOIN files ON record_id >> {LINE_BITS} = file_id"
        f" JOIN (VALUES {details}) AS details (code, detail) ON reason = code ORDER BY record_id)"
        f" TO {sql_text(str(path))} (FORMAT json)"
    )


def _count(connection: DuckDBPyConnection, blocked: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Good records by what may become of them, and names of partners that are on no list."""
    by_partner = connection.execute(
        "SELECT partner_name, count(*), partner_name IN (SELECT partner_name FROM priority) FROM judged"
        " WHERE reason IS NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    counts = dict.fromkeys(("good", "usable", "blocked", "unlisted"), 0)
    unknown: list[str] = []
    refused = set(blocked)
    for name, records, is_usable in by_partner:
        counts["good"] += records
        counts["usable" if is_usable else "blocked" if name in refused else "unlisted"] += records
        if not is_usable and name not in refused:
            unknown.append(name)
    distinct, unusable = connection.execute(
        "SELECT count(DISTINCT judged.accommodation_id),"
        " count(*) FILTER (judged.partner_name NOT IN (SELECT partner_name FROM priority))"
        " FROM judged SEMI JOIN consolidated ON judged.record_id = consolidated.recency"
    ).fetchall()[0]
    return counts | {"distinct_ids": distinct, "unusable": unusable}, unknown


def write_newest(connection: DuckDBPyConnection, batch_number: int, buckets: int, path: Path) -> list[int]:
    """Write the newest record of every accommodation and partner of the batch, for the current catalogue.

    Args:
        connection: after `consolidate_batch`.
        batch_number: number of the batch, by which two versions of one file of the same second are told apart.
        buckets: number of buckets.
        path: parquet file to write, see `write_by_bucket`.

    Returns:
        The buckets that have records.
    """
    return write_by_bucket(
        connection,
        "SELECT accommodation_id, partner_name, accommodation_data, modified_at, object_key,"
        f" {batch_number}::BIGINT AS batch_number, (record_id & {(1 << LINE_BITS) - 1}) AS line"
        " FROM judged SEMI JOIN newest ON judged.record_id = newest.recency"
        f" JOIN files ON record_id >> {LINE_BITS} = file_id",
        buckets,
        path,
    )


def write_by_bucket(connection: DuckDBPyConnection, query: str, buckets: int, path: Path) -> list[int]:
    """Write rows with their `bucket`, sorted by it, so that who reads one bucket reads little else; gives the buckets.

    A file a bucket would be simpler, but writing many files at once takes memory that is not there.
    """
    connection.execute(
        f"COPY (SELECT *, {bucket_of('accommodation_id', buckets)} AS bucket FROM ({query}) ORDER BY bucket)"
        f" TO {sql_text(str(path))} (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {BUCKET_GROUP_ROWS})"
    )
    found = connection.execute(f"SELECT DISTINCT bucket FROM read_parquet({sql_text(str(path))}) ORDER BY bucket")
    return [bucket for (bucket,) in found.fetchall()]


def bucket_of(column: str, buckets: int) -> str:
    """SQL of the bucket of an accommodation; by MD5, which no release of an engine changes."""
    return f"(md5_number_lower({column}) % {buckets})::INTEGER"


def measure_counts(consolidated: Consolidated) -> dict[str, Any]:
    """The row of measures that the gate of a batch looks at."""
    counts = consolidated.counts
    accounted = sum(counts[name] for name in ("published", "duplicates", "unlisted", "blocked", "quarantined"))
    unknown = consolidated.unknown_partners
    return {
        **counts,
        "accounted": accounted,
        "unknown_partners": ", ".join(map(repr, unknown[:10])) + (" ..." if len(unknown) > 10 else ""),
    }
