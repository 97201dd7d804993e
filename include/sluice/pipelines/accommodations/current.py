"""The current catalogue on files: the newest record of every accommodation and partner, and the rule applied to them.

The records are in buckets by accommodation, so that a batch rewrites only its buckets. No AWS.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.engines.queries import read_queries, sql_list, sql_text
from sluice.pipelines.accommodations.transform import LINE_BITS, ROW_BYTES, SQL_FILE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BUCKET_BYTES = 32 * 1024 * 1024
"""Approximate size of the candidates of one bucket above which the number of buckets grows."""

BUCKET_GROUP_ROWS = 2_048
"""Rows of a row group of a file sorted by bucket: fewer than those of a bucket, unless rows are large."""

GROWTH = 4
"""Factor by which the number of buckets grows: the amortized cost per record stays constant."""

COUNTS = (
    "candidate_rows",
    "candidate_bytes",
    "replaced_bytes",
    "current_rows",
    "current_distinct",
    "current_unusable",
    "current_misplaced",
)


def plan_buckets(buckets: int, size_bytes: int) -> int:
    """Number of buckets for candidates of this size; never fewer than before."""
    while size_bytes > buckets * BUCKET_BYTES:
        buckets *= GROWTH
    return buckets


def digest_lists(priority: Sequence[str], blocked: Sequence[str]) -> str:
    """Digest of the lists; stored with a catalogue that was computed from them."""
    return hashlib.sha256(json.dumps([list(priority), sorted(set(blocked))]).encode()).hexdigest()


def newest_bytes(connection: DuckDBPyConnection) -> int:
    """Approximate size of the newest records of the batch as candidates; call it after `consolidate_batch`."""
    found = connection.execute(
        f"SELECT coalesce(sum(text_bytes + {ROW_BYTES}), 0) FROM validated SEMI JOIN newest_records USING (record_id)"
    ).fetchall()
    return int(found[0][0])


def write_newest(
    connection: DuckDBPyConnection, ranges: Sequence[str], batch_number: int, buckets: int, folder: Path
) -> tuple[list[Path], list[int]]:
    """Write the newest record of every accommodation and partner of the batch, for the current catalogue.

    Args:
        connection: after `consolidate_batch`.
        ranges: of its result.
        batch_number: number of the batch, which orders two versions of a file of the same second.
        buckets: number of buckets.
        folder: where to write `newest-00000.parquet` and so on, see `write_by_bucket`.

    Returns:
        The files, and the buckets that have records.
    """
    paths = [folder / f"newest-{number:05d}.parquet" for number in range(len(ranges))]
    found: set[int] = set()
    for number, (condition, path) in enumerate(zip(ranges, paths, strict=True)):
        query = (
            "SELECT accommodation_id, partner_name, accommodation_data, modified_at, object_key,"
            f" {batch_number}::BIGINT AS batch_number, (validated.record_id & {(1 << LINE_BITS) - 1}) AS line"
            " FROM validated"
            f" SEMI JOIN (FROM newest_records WHERE range = {number}) AS newest USING (record_id)"
            f" JOIN files ON validated.record_id >> {LINE_BITS} = file_id WHERE {condition}"
        )
        found.update(write_by_bucket(connection, query, buckets, path))
    return paths, sorted(found)


def write_by_bucket(connection: DuckDBPyConnection, query: str, buckets: int, path: Path) -> list[int]:
    """Write rows sorted by `bucket`, so that reading a bucket reads few other rows; returns the buckets.

    One file per bucket would be simpler, but writing many files at once needs too much memory.
    """
    connection.execute(
        f"COPY (SELECT *, {bucket_of('accommodation_id', buckets)} AS bucket FROM ({query}) ORDER BY bucket)"
        f" TO {sql_text(str(path))} (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {BUCKET_GROUP_ROWS})"
    )
    found = connection.execute(f"SELECT DISTINCT bucket FROM read_parquet({sql_text(str(path))}) ORDER BY bucket")
    return [bucket for (bucket,) in found.fetchall()]


def bucket_of(column: str, buckets: int) -> str:
    """SQL of the bucket of an accommodation; by MD5, which is the same in every release of an engine."""
    return f"(md5_number_lower({column}) % {buckets})::INTEGER"


def buckets_of(connection: DuckDBPyConnection, accommodation_ids: Sequence[str], buckets: int) -> set[int]:
    """The buckets of some accommodations."""
    found = connection.execute(
        f"SELECT DISTINCT {bucket_of('accommodation_id', buckets)}"
        f" FROM (SELECT unnest({sql_list([*accommodation_ids])}::VARCHAR[]) AS accommodation_id)"
    )
    return {bucket for (bucket,) in found.fetchall()}


def split_candidates(connection: DuckDBPyConnection, files: Sequence[Path], buckets: int, path: Path) -> list[int]:
    """Distribute candidates over a larger number of buckets, in a file as of `write_by_bucket`; returns the buckets."""
    return write_by_bucket(connection, f"SELECT * EXCLUDE bucket FROM {_parquet(files)}", buckets, path)


def merge_bucket(
    connection: DuckDBPyConnection,
    files: Sequence[Path],
    bucket: int,
    buckets: int,
    batch_number: int,
    candidates_path: Path,
    current_path: Path,
    *,
    withdrawn: Sequence[str] = (),
) -> dict[str, int]:
    """Write the candidates of a bucket and the current records derived from them.

    The same records and lists give the same bytes, independent of their input files.

    Args:
        connection: with the relation `priority` (`transform.create_priority`).
        files: candidates of this bucket and perhaps of others; parquet.
        bucket: the bucket.
        buckets: number of buckets.
        batch_number: number of the batch; candidates with another one existed before.
        candidates_path: file to write, by accommodation_id and partner_name.
        current_path: file to write, by accommodation_id.
        withdrawn: accommodations whose records of earlier batches are removed.

    Returns:
        `COUNTS`; the last two must be 0, and `current_distinct` equal to `current_rows`.
    """
    queries = read_queries(SQL_FILE)
    connection.execute(
        "CREATE OR REPLACE TABLE candidates AS SELECT *,"
        " row_number() OVER (ORDER BY modified_at, object_key, batch_number, line) AS recency"
        f" FROM {_parquet(files)} WHERE bucket = {bucket}"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW records AS SELECT accommodation_id, partner_name, recency FROM candidates"
        f" WHERE batch_number = {batch_number}"
        f" OR NOT list_contains({sql_list([*withdrawn])}::VARCHAR[], accommodation_id)"
    )
    connection.execute(f"CREATE OR REPLACE TABLE newest AS {queries['newest']}")
    connection.execute(f"CREATE OR REPLACE TABLE consolidated AS {queries['consolidated']}")
    connection.execute(
        "COPY (SELECT * EXCLUDE recency FROM candidates SEMI JOIN newest USING (recency)"
        " ORDER BY accommodation_id, partner_name)"
        f" TO {sql_text(str(candidates_path))} (FORMAT parquet, COMPRESSION zstd)"
    )
    connection.execute(
        "COPY (SELECT accommodation_id, partner_name, accommodation_data, bucket"
        " FROM candidates SEMI JOIN consolidated USING (recency) ORDER BY accommodation_id)"
        f" TO {sql_text(str(current_path))} (FORMAT parquet, COMPRESSION zstd)"
    )
    size = f"coalesce(sum({ROW_BYTES} + strlen(accommodation_id) + strlen(accommodation_data)), 0)"
    replaced = connection.execute(f"SELECT {size} FROM candidates WHERE batch_number <> {batch_number}").fetchall()[0]
    # Measured on the written files, not on their input.
    candidates = connection.execute(f"SELECT count(*), {size} FROM {_parquet([candidates_path])}").fetchall()[0]
    found = connection.execute(
        "SELECT count(*), count(DISTINCT accommodation_id),"
        " count(*) FILTER (partner_name NOT IN (SELECT partner_name FROM priority)),"
        f" count(*) FILTER (bucket <> {bucket} OR {bucket_of('accommodation_id', buckets)} <> {bucket})"
        f" FROM {_parquet([current_path])}"
    ).fetchall()[0]
    return dict(zip(COUNTS, map(int, (*candidates, *replaced, *found)), strict=True))


def _parquet(files: Sequence[Path]) -> str:
    return f"read_parquet({sql_list(list(files))}, hive_partitioning = false)"
