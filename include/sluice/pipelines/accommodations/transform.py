"""The rule of the pipeline on files: partners' files to packed output files. No AWS.

The rule itself is SQL (`sql/consolidate.sql`), run here by DuckDB; `current` applies it to all files ever received.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.base_settings import CANARY
from sluice.core.run import epoch_microseconds
from sluice.engines.duckdb import duckdb_connection
from sluice.engines.queries import read_queries, sql_list, sql_text
from sluice.pipelines.accommodations.elements import element_batches
from sluice.pipelines.accommodations.json_functions import create_json_functions
from sluice.pipelines.accommodations.packing import pack_lines
from sluice.pipelines.accommodations.records import MAX_BYTES, Flaw, PartnerFile, Reason
from sluice.pipelines.accommodations.source import UnreadableFile, detect_format, line_batches, lines_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

SQL_FILE = resources.files("sluice.pipelines.accommodations") / "sql" / "consolidate.sql"

LINE_BITS = 40
"""Bits of a record id for the line: up to 2^40 lines a file, 2^23 files a batch."""

BATCH_BYTES = 4 * 1024 * 1024
"""Approximate number of output lines fetched at a time."""

VALIDATED = "validated"
"""Folder of the output of `read_files`: the relation `validated` of the rule, in files each sorted by accommodation."""

SORTED_BYTES = 64 * 1024 * 1024
"""Bytes of records sorted at a time, when reading and when writing: far below the memory limit, as the engine needs
about the size of large rows in memory to sort them."""

ROW_BYTES = 100
"""Approximate memory of a record while it is sorted, in addition to its text."""

MARK_ROWS, MARKS_MIN = 64, 100
"""Ranges are planned from every 64th accommodation of each of these files, at least 100."""

VALIDATED_GROUP_ROWS = 2_048
"""Rows of a row group there: reading a range of accommodations reads a few groups of each file."""


@dataclass(frozen=True)
class Consolidated:
    """Result of a batch.

    Attributes:
        outputs: packed files, in order; lines sorted by accommodation_id.
        ranges: SQL conditions that part the accommodations, in order, into ranges of about `SORTED_BYTES`.
        rejected_path: JSON Lines as they go to quarantine; None when there is nothing.
        counts: `records_in` = `published` + `duplicates` (older or of a lesser partner) + `unlisted` (unlisted partner,
            or only one of the two names is the canary's) + `blocked` + `quarantined`; `good` records and those `usable`
            under the lists; and the measures of the gate: `distinct_ids` and `unusable` (of a blocked or unlisted
            partner) of the published lines, `largest_file_bytes`, `smallest_file_bytes`.
        rejected: quarantined records by reason.
        unknown_partners: of `unlisted` records, sorted: unlisted names, and partners that used the name of the canary.
    """

    outputs: list[Path]
    ranges: list[str]
    rejected_path: Path | None
    counts: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)
    unknown_partners: list[str] = field(default_factory=list)


@contextmanager
def consolidation(work_dir: Path, memory_limit_mb: int) -> Iterator[DuckDBPyConnection]:
    """Open a DuckDB for the files of one batch: call `read_files` once or more, then `consolidate_batch`.

    Args:
        work_dir: folder for spilled data.
        memory_limit_mb: memory before it spills, MiB.
    """
    with duckdb_connection(memory_limit_mb, work_dir / "spill") as connection:
        create_json_functions(connection)
        (work_dir / VALIDATED).mkdir()
        # Files and not a table: only the columns and rows of a query are in memory.
        connection.execute(
            "CREATE TABLE files (file_id INTEGER, source VARCHAR, object_key VARCHAR, modified_at BIGINT);"
            "CREATE TABLE marks (accommodation_id VARCHAR, size_bytes BIGINT);"
            "COPY (SELECT NULL::BIGINT AS record_id, NULL::VARCHAR AS accommodation_id, NULL::VARCHAR AS partner_name,"
            " NULL::VARCHAR AS accommodation_data, NULL::VARCHAR AS reason, NULL::VARCHAR AS text,"
            " NULL::BIGINT AS text_bytes WHERE FALSE)"
            f" TO {sql_text(str(work_dir / VALIDATED / 'none.parquet'))} (FORMAT parquet);"
            f"CREATE VIEW validated AS FROM read_parquet({sql_text(str(work_dir / VALIDATED / '*.parquet'))})"
        )
        yield connection


def read_files(
    connection: DuckDBPyConnection, work_dir: Path, files: Mapping[int, tuple[PartnerFile, Path]]
) -> tuple[dict[int, int], dict[int, Flaw]]:
    """Validate every line or element of some files; an unreadable file adds nothing.

    Args:
        connection: of `consolidation`.
        work_dir: its folder.
        files: place of a file among those of the batch by age (`records.by_age`) -> the file and its local path.

    Returns:
        Place -> number of its records, good or bad (without blank lines); and place -> why the file is unreadable.
    """
    flaws: dict[int, Flaw] = {}
    batches: list[Iterator[pa.RecordBatch]] = []
    for file_id, (_, path) in files.items():
        try:
            batches.append(_open(path, file_id << LINE_BITS))
        except UnreadableFile as error:
            flaws[file_id] = error.flaw
    validated = _validate(connection, chain.from_iterable(batches), work_dir / VALIDATED)
    records = dict.fromkeys(files.keys() - flaws.keys(), 0)
    if validated:
        counts = connection.execute(
            f"SELECT record_id >> {LINE_BITS}, count(*),"
            f" count(*) FILTER (reason IN ('{Reason.NOT_JSON}', '{Reason.NOT_UTF8}', '{Reason.CUT_OFF}'))"
            f" FROM read_parquet({sql_list(validated)}) GROUP BY ALL"
        ).fetchall()
        for file_id, lines, textless in counts:
            if lines == textless:
                flaws[file_id] = Flaw.NO_JSON
                del records[file_id]
            else:
                records[file_id] = lines
    rows = [
        [file_id, file.source, file.key, epoch_microseconds(file.modified_at)]
        for file_id, (file, _) in files.items()
        if file_id in records
    ]
    if rows:
        connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
    return records, flaws


def _open(path: Path, first: int) -> Iterator[pa.RecordBatch]:
    """The records of a file as text in batches, numbered from `first`.

    Raises:
        UnreadableFile: its format is not readable.
    """
    if detect_format(path) == "lines":
        return line_batches(path, first)
    return element_batches(path, first)


def _validate(connection: DuckDBPyConnection, batches: Iterator[pa.RecordBatch], folder: Path) -> list[Path]:
    """Write the relation `validated` of some records, one sorted file for each `SORTED_BYTES` of them; returns the
    files."""
    query = read_queries(SQL_FILE)["validated"]
    written: list[Path] = []
    first = sum(1 for _ in folder.iterdir())
    for lines in _tables(batches):
        path = folder / f"{first + len(written):06d}.parquet"
        connection.from_arrow(lines).create_view("lines")
        mark_rows = min(MARK_ROWS, lines.num_rows // MARKS_MIN + 1)
        connection.execute(
            f"COPY (FROM ({query}) WHERE reason IS DISTINCT FROM 'blank' ORDER BY accommodation_id)"
            f" TO {sql_text(str(path))} (FORMAT parquet, COMPRESSION lz4,"
            f" ROW_GROUP_SIZE {VALIDATED_GROUP_ROWS});"
            "DROP VIEW lines;"
            f"INSERT INTO marks SELECT min(accommodation_id), sum(text_bytes + {ROW_BYTES})"
            f" FROM read_parquet({sql_text(str(path))}) WHERE reason IS NULL GROUP BY file_row_number // {mark_rows}"
        )
        written.append(path)
    return written


def _tables(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches in tables of about `SORTED_BYTES`; the next is read while one is processed."""
    import pyarrow as pa

    def read() -> list[pa.RecordBatch]:
        group: list[pa.RecordBatch] = []
        size_bytes = 0
        while size_bytes < SORTED_BYTES and (batch := next(batches, None)) is not None:
            group.append(batch)
            size_bytes += _sorted_bytes(batch)
        return group

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(read)
        while group := ahead.result():
            ahead = pool.submit(read)
            yield pa.Table.from_batches(group, lines_schema())


def _sorted_bytes(lines: pa.RecordBatch | pa.Table) -> int:
    return int(lines.nbytes + ROW_BYTES * lines.num_rows)


def consolidate_batch(
    connection: DuckDBPyConnection, priority: Sequence[str], blocked: Sequence[str], out_dir: Path
) -> Consolidated:
    """Apply the rule to the files read before, and pack the result.

    The same files and lists give the same bytes.

    Args:
        connection: of `consolidation`.
        priority: partners that may be used, best first (`records.usable_partners`).
        blocked: blocked partners, for the count.
        out_dir: new folder for the output files.
    """
    out_dir.mkdir(parents=True)
    create_priority(connection, priority)
    ranges = _plan_ranges(connection)
    counts, unknown = _count_good(connection, blocked)
    outputs, published = pack_lines(_output_lines(connection, ranges, priority, counts), out_dir)
    rejected = dict(
        connection.execute(
            f"SELECT reason, count(*) FROM validated SEMI JOIN files ON record_id >> {LINE_BITS} = file_id"
            " WHERE reason IS NOT NULL GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    )
    rejected_path = None
    if rejected:
        rejected_path = out_dir / "rejected.jsonl"
        _write_rejected(connection, rejected_path)
    quarantined = sum(rejected.values())
    totals = {
        **counts,
        "records_in": counts["good"] + quarantined,
        "published": published,
        "quarantined": quarantined,
        "duplicates": counts["usable"] - published,
        "largest_file_bytes": max((path.stat().st_size for path in outputs), default=0),
        "smallest_file_bytes": min((path.stat().st_size for path in outputs), default=0),
    }
    return Consolidated(outputs, ranges, rejected_path, totals, rejected, unknown)


def create_priority(connection: DuckDBPyConnection, priority: Sequence[str]) -> None:
    """Fill the relation `priority` of the rule, and make its function `is_reserved`."""
    name = sql_text(CANARY)
    connection.execute(
        "CREATE OR REPLACE TABLE priority (partner_name VARCHAR, place INTEGER);"
        "CREATE OR REPLACE TEMP MACRO is_reserved(accommodation_id, partner_name) AS"
        f" (accommodation_id = {name}) <> (partner_name = {name})"
    )
    if priority:
        connection.executemany(
            "INSERT INTO priority VALUES (?, ?)", [[name, place] for place, name in enumerate(priority)]
        )


def _plan_ranges(connection: DuckDBPyConnection) -> list[str]:
    """Conditions that part the accommodations, in order, into ranges that have about `SORTED_BYTES` of records each."""
    bounds: list[str] = []
    size_bytes = 0
    for mark, gap_bytes in connection.execute("FROM marks ORDER BY ALL").fetchall():
        # A literal ends at a NUL.
        if size_bytes >= SORTED_BYTES and bounds[-1:] != [mark] and "\0" not in mark:
            bounds.append(mark)
            size_bytes = 0
        size_bytes += gap_bytes
    lower = ["TRUE", *(f"validated.accommodation_id >= {sql_text(bound)}" for bound in bounds)]
    upper = [*(f"validated.accommodation_id < {sql_text(bound)}" for bound in bounds), "TRUE"]
    return [f"{low} AND {high}" for low, high in zip(lower, upper, strict=True)]


def _output_lines(
    connection: DuckDBPyConnection, ranges: Sequence[str], priority: Sequence[str], counts: Counter[str]
) -> Iterator[pa.Array]:
    """The lines of the result with their newlines, in order, in batches; also counts them.

    Fills the table `newest_records` with the newest records of all ranges.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    queries = read_queries(SQL_FILE)
    usable = pa.array(priority, pa.string())
    last_id = pa.nulls(1, pa.string())
    connection.execute("CREATE OR REPLACE TABLE newest_records (range INTEGER, record_id BIGINT)")
    size_bytes = connection.execute("SELECT sum(size_bytes)::BIGINT FROM marks").fetchall()[0][0]
    rows = 1 + BATCH_BYTES * counts["good"] // (size_bytes or 1)
    for number, condition in enumerate(ranges):
        connection.execute(
            "CREATE OR REPLACE TEMP VIEW records AS SELECT accommodation_id, partner_name, record_id AS recency"
            f" FROM validated WHERE reason IS NULL AND {condition};"
            f"CREATE OR REPLACE TABLE newest AS {queries['newest']};"
            f"CREATE OR REPLACE TABLE consolidated AS {queries['consolidated']};"
            f"INSERT INTO newest_records SELECT {number}, recency FROM newest"
        )
        reader = connection.execute(
            "SELECT concat('{\"accommodation_id\":', to_json(validated.accommodation_id),"
            " ',\"partner_name\":', to_json(validated.partner_name),"
            " ',\"accommodation_data\":', validated.accommodation_data, E'}\\n'),"
            " validated.accommodation_id, validated.partner_name"
            f" FROM validated SEMI JOIN consolidated ON validated.record_id = consolidated.recency WHERE {condition}"
            " ORDER BY validated.accommodation_id"
        ).to_arrow_reader(rows)
        for lines, ids, partners in (batch.columns for batch in reader):
            # Sorted, so each is greater than the one before, unless it is a duplicate.
            before = pa.concat_arrays([last_id, ids[:-1]])
            counts["distinct_ids"] += pc.sum(pc.greater(ids, before).fill_null(True)).as_py()
            counts["unusable"] += len(ids) - pc.sum(pc.is_in(partners, usable)).as_py()
            last_id = ids[-1:]
            yield lines


def _write_rejected(connection: DuckDBPyConnection, path: Path) -> None:
    """Write the rejected records of files that could be read, in their order, `SORTED_BYTES` of them at a time."""
    details = ", ".join(f"({sql_text(reason)}, {sql_text(reason.detail)})" for reason in Reason)
    rejected = f"validated JOIN files ON record_id >> {LINE_BITS} = file_id"
    parts = connection.execute(
        "SELECT min(record_id), max(record_id) FROM ("
        f"SELECT record_id, sum(text_bytes) OVER (ORDER BY record_id) // {SORTED_BYTES} AS part"
        f" FROM {rejected} WHERE reason IS NOT NULL) GROUP BY part ORDER BY ALL"
    ).fetchall()
    part_path = path.with_suffix(".part")
    with path.open("wb") as whole:
        for first, last in parts:
            connection.execute(
                f"COPY (SELECT files.source || '#line=' || ((record_id & {(1 << LINE_BITS) - 1}) + 1) AS source,"
                f" reason, rtrim(left(text, {MAX_BYTES}), E'\\r\\n') AS record, detail"
                f" FROM {rejected} JOIN (VALUES {details}) AS details (code, detail) ON reason = code"
                f" WHERE record_id BETWEEN {first} AND {last} ORDER BY record_id)"
                f" TO {sql_text(str(part_path))} (FORMAT json)"
            )
            with part_path.open("rb") as part:
                shutil.copyfileobj(part, whole)
            part_path.unlink()


def _count_good(connection: DuckDBPyConnection, blocked: Sequence[str]) -> tuple[Counter[str], list[str]]:
    """Good records by usability, and names of partners with unlisted ones."""
    by_partner = connection.execute(
        "SELECT partner_name, count(*), partner_name IN (SELECT partner_name FROM priority)"
        " AND NOT is_reserved(accommodation_id, partner_name) FROM validated"
        " WHERE reason IS NULL GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    counts = Counter(dict.fromkeys(("good", "usable", "blocked", "unlisted", "distinct_ids", "unusable"), 0))
    unknown: list[str] = []
    refused = set(blocked)
    for name, records, is_usable in by_partner:
        counts["good"] += records
        counts["usable" if is_usable else "blocked" if name in refused else "unlisted"] += records
        if not is_usable and name not in refused:
            unknown.append(name)
    return counts, unknown
