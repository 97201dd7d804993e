"""The rule of the pipeline on files: partners' files to packed output files. No AWS.

The rule itself is SQL (`sql/consolidate.sql`), run here by DuckDB; `current` applies it to all files ever seen.
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
"""A record is numbered by its file and its line: 2^40 lines a file, 2^23 files a batch."""

BATCH_BYTES = 4 * 1024 * 1024
"""Lines of the output fetched at a time, about."""

JUDGED = "judged"
"""Folder of what `read_files` leaves: the relation `judged` of the rule, in files each sorted by accommodation."""

SORTED_BYTES = 64 * 1024 * 1024
"""Records sorted at a time, when they are read and when they are written: far less than the memory limit, as the engine
does not sort rows of many kilobytes in much less memory than they take."""

ROW_BYTES = 100
"""What a record takes beside its text while it is sorted, about."""

MARK_ROWS, MARKS_MIN = 64, 100
"""Ranges are planned by every 64th accommodation of each of these files, and by 100 at the least."""

JUDGED_GROUP_ROWS = 2_048
"""Rows of a row group there: who reads a range of accommodations reads a few groups of each file."""


@dataclass(frozen=True)
class Consolidated:
    """What became of a batch.

    Attributes:
        outputs: packed files, in order; lines sorted by accommodation_id.
        ranges: SQL conditions that part the accommodations, in order, into ranges of about `SORTED_BYTES`.
        rejected_path: JSON Lines as they go to quarantine; None when there is nothing.
        counts: `records_in` = `published` + `duplicates` (older or of a lesser partner) + `unlisted` (partner on no
            list, or only one of the two names is the canary's) + `blocked` + `quarantined`; `good` records and those
            `usable` under the lists; and what the gate looks at: `distinct_ids` and `unusable` (of a partner that may
            not be used) of the published lines, `largest_file_bytes`, `smallest_file_bytes`.
        rejected: quarantined records by reason.
        unknown_partners: of `unlisted` records, sorted: names on no list, and who used a name of the canary.
    """

    outputs: list[Path]
    ranges: list[str]
    rejected_path: Path | None
    counts: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)
    unknown_partners: list[str] = field(default_factory=list)


@contextmanager
def consolidation(work_dir: Path, memory_limit_mb: int) -> Iterator[DuckDBPyConnection]:
    """A DuckDB that takes the files of one batch: `read_files`, once or more, then `consolidate_batch`.

    Args:
        work_dir: folder for what spills.
        memory_limit_mb: memory before it spills, MiB.
    """
    with duckdb_connection(memory_limit_mb, work_dir / "spill") as connection:
        create_json_functions(connection)
        (work_dir / JUDGED).mkdir()
        # Files and not a table: memory holds only what a query asks for.
        connection.execute(
            "CREATE TABLE files (file_id INTEGER, source VARCHAR, object_key VARCHAR, modified_at BIGINT);"
            "CREATE TABLE marks (accommodation_id VARCHAR, size_bytes BIGINT);"
            "COPY (SELECT NULL::BIGINT AS record_id, NULL::VARCHAR AS accommodation_id, NULL::VARCHAR AS partner_name,"
            " NULL::VARCHAR AS accommodation_data, NULL::VARCHAR AS reason, NULL::VARCHAR AS text,"
            " NULL::BIGINT AS text_bytes WHERE FALSE)"
            f" TO {sql_text(str(work_dir / JUDGED / 'none.parquet'))} (FORMAT parquet);"
            f"CREATE VIEW judged AS FROM read_parquet({sql_text(str(work_dir / JUDGED / '*.parquet'))})"
        )
        yield connection


def read_files(
    connection: DuckDBPyConnection, work_dir: Path, files: Mapping[int, tuple[PartnerFile, Path]]
) -> tuple[dict[int, int], dict[int, Flaw]]:
    """Judge every line or element of some files; of a file that cannot be read nothing counts.

    Args:
        connection: of `consolidation`.
        work_dir: its folder.
        files: place of a file among those of the batch by age (`records.by_age`) -> what it is, where its bytes are.

    Returns:
        Place -> number of its records, good or bad (blank lines are none); and place -> why nothing of it can be taken.
    """
    flaws: dict[int, Flaw] = {}
    batches: list[Iterator[pa.RecordBatch]] = []
    for file_id, (_, path) in files.items():
        try:
            batches.append(_open(path, file_id << LINE_BITS))
        except UnreadableFile as error:
            flaws[file_id] = error.flaw
    judged = _judge(connection, chain.from_iterable(batches), work_dir / JUDGED)
    records = dict.fromkeys(files.keys() - flaws.keys(), 0)
    if judged:
        counts = connection.execute(
            f"SELECT record_id >> {LINE_BITS}, count(*),"
            f" count(*) FILTER (reason IN ('{Reason.NOT_JSON}', '{Reason.NOT_UTF8}', '{Reason.CUT_OFF}'))"
            f" FROM read_parquet({sql_list(judged)}) GROUP BY ALL"
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
    """The records of a file as text, numbered from `first`, some at a time.

    Raises:
        UnreadableFile: its form says that nothing of it can be taken.
    """
    if detect_format(path) == "lines":
        return line_batches(path, first)
    return element_batches(path, first)


def _judge(connection: DuckDBPyConnection, batches: Iterator[pa.RecordBatch], folder: Path) -> list[Path]:
    """Write the relation `judged` of some records, one sorted file for each `SORTED_BYTES` of them; gives the files."""
    query = read_queries(SQL_FILE)["judged"]
    written: list[Path] = []
    first = sum(1 for _ in folder.iterdir())
    for lines in _tables(batches):
        path = folder / f"{first + len(written):06d}.parquet"
        connection.from_arrow(lines).create_view("lines")
        mark_rows = min(MARK_ROWS, lines.num_rows // MARKS_MIN + 1)
        connection.execute(
            f"COPY (FROM ({query}) WHERE reason IS DISTINCT FROM 'blank' ORDER BY accommodation_id)"
            f" TO {sql_text(str(path))} (FORMAT parquet, COMPRESSION lz4,"
            f" ROW_GROUP_SIZE {JUDGED_GROUP_ROWS});"
            "DROP VIEW lines;"
            f"INSERT INTO marks SELECT min(accommodation_id), sum(text_bytes + {ROW_BYTES})"
            f" FROM read_parquet({sql_text(str(path))}) WHERE reason IS NULL GROUP BY file_row_number // {mark_rows}"
        )
        written.append(path)
    return written


def _tables(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches in tables of about `SORTED_BYTES`; one is read while the one before is worked on."""
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
    """Apply the rule to the files that were read, and pack the result.

    The same files and lists give the same bytes.

    Args:
        connection: of `consolidation`.
        priority: partners that may be used, best first (`records.usable_partners`).
        blocked: partners that may not, for the count.
        out_dir: new folder for the output files.
    """
    out_dir.mkdir(parents=True)
    create_priority(connection, priority)
    ranges = _plan_ranges(connection)
    counts, unknown = _count_good(connection, blocked)
    outputs, published = pack_lines(_output_lines(connection, ranges, priority, counts), out_dir)
    rejected = dict(
        connection.execute(
            f"SELECT reason, count(*) FROM judged SEMI JOIN files ON record_id >> {LINE_BITS} = file_id"
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
    lower = ["TRUE", *(f"judged.accommodation_id >= {sql_text(bound)}" for bound in bounds)]
    upper = [*(f"judged.accommodation_id < {sql_text(bound)}" for bound in bounds), "TRUE"]
    return [f"{low} AND {high}" for low, high in zip(lower, upper, strict=True)]


def _output_lines(
    connection: DuckDBPyConnection, ranges: Sequence[str], priority: Sequence[str], counts: Counter[str]
) -> Iterator[pa.Array]:
    """The lines of the result with their newlines, in order, some at a time; counts them on the way.

    Leaves the newest records of all ranges in the table `newest_records`.
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
            f" FROM judged WHERE reason IS NULL AND {condition};"
            f"CREATE OR REPLACE TABLE newest AS {queries['newest']};"
            f"CREATE OR REPLACE TABLE consolidated AS {queries['consolidated']};"
            f"INSERT INTO newest_records SELECT {number}, recency FROM newest"
        )
        reader = connection.execute(
            "SELECT concat('{\"accommodation_id\":', to_json(judged.accommodation_id),"
            " ',\"partner_name\":', to_json(judged.partner_name),"
            " ',\"accommodation_data\":', judged.accommodation_data, E'}\\n'),"
            " judged.accommodation_id, judged.partner_name"
            f" FROM judged SEMI JOIN consolidated ON judged.record_id = consolidated.recency WHERE {condition}"
            " ORDER BY judged.accommodation_id"
        ).to_arrow_reader(rows)
        for lines, ids, partners in (batch.columns for batch in reader):
            # In order, so each is greater than the one before, unless it is there twice.
            before = pa.concat_arrays([last_id, ids[:-1]])
            counts["distinct_ids"] += pc.sum(pc.greater(ids, before).fill_null(True)).as_py()
            counts["unusable"] += len(ids) - pc.sum(pc.is_in(partners, usable)).as_py()
            last_id = ids[-1:]
            yield lines


def _write_rejected(connection: DuckDBPyConnection, path: Path) -> None:
    """Write the rejected records of files that could be read, in their order, `SORTED_BYTES` of them at a time."""
    details = ", ".join(f"({sql_text(reason)}, {sql_text(reason.detail)})" for reason in Reason)
    rejected = f"judged JOIN files ON record_id >> {LINE_BITS} = file_id"
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
    """Good records by what may become of them, and names of partners with unlisted ones."""
    by_partner = connection.execute(
        "SELECT partner_name, count(*), partner_name IN (SELECT partner_name FROM priority)"
        " AND NOT is_reserved(accommodation_id, partner_name) FROM judged"
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
