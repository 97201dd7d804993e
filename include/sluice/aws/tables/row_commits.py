"""Append or delete rows of an Iceberg table, in one commit each."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sluice.aws import s3
from sluice.aws.tables.commits import Commit, add_files, commit_change, noted
from sluice.aws.tables.definitions import PREFIX
from sluice.settings import load_settings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table.update.snapshot import _SnapshotProducer


def append(
    name: str,
    rows: pa.Table,
    *,
    where: str,
    columns: Sequence[str],
    is_new: Callable[[pa.Table], list[bool]],
    summary: Mapping[str, object],
) -> Commit:
    """Append rows in one snapshot, except existing ones.

    Args:
        name: of the table.
        rows: all in one partition.
        where: condition on the few rows of the table that may equal the new ones.
        columns: names of the columns to read of these rows.
        is_new: these rows -> for each row to append, whether it does not exist yet.
        summary: as for `replace`.

    Returns:
        The new snapshot, or the current one if the table had all rows already.

    Raises:
        TableBusy: the commit was refused in every attempt.
        TableMissing: there is no such table.
    """
    settings = load_settings()

    def missing(table: Table) -> pa.Table:
        return rows.filter(is_new(table.scan(row_filter=where, selected_fields=tuple(columns)).to_arrow()))

    def change(table: Table, transaction: Transaction) -> _SnapshotProducer[Any] | None:
        new = missing(table)
        if not new.num_rows:
            return None
        file = f"{PREFIX}{name}/data/{uuid.uuid4().hex}.parquet"
        s3.write_object(settings.lake_bucket, file, parquet_bytes(new), "application/vnd.apache.parquet")
        # PyIceberg would repeat a refused commit with these rows, although another writer may have appended some of
        # them meanwhile: `commit_change` repeats it and looks again. The property of the table itself is not changed.
        table.metadata.properties["commit.retry.num-retries"] = "0"
        update = transaction.update_snapshot(noted(summary)).merge_append()
        add_files(settings, table, transaction, update, [file])
        return update

    return commit_change(settings, name, change)


def delete_rows(
    name: str,
    *,
    where: str,
    columns: Sequence[str],
    is_deleted: Callable[[pa.Table], list[bool]],
    summary: Mapping[str, object],
) -> Commit:
    """Delete rows in one snapshot: a file that holds others as well is rewritten without them (copy-on-write).

    Args:
        name: of the table.
        where: condition on the rows, in few files, that include those to delete.
        columns: names of the columns that decide; only files with rows to delete are read in full.
        is_deleted: these columns of a file -> for each row, whether to delete it.
        summary: as for `replace`.

    Returns:
        The new snapshot, or the current one if the table has no such row.

    Raises:
        TableBusy: the commit was refused in every attempt.
        TableMissing: there is no such table.
    """
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.expressions.parser import parse
    from pyiceberg.io.pyarrow import ArrowScan

    settings = load_settings()

    def change(table: Table, transaction: Transaction) -> _SnapshotProducer[Any] | None:
        schema = table.schema()
        deciding = ArrowScan(table.metadata, table.io, schema.select(*columns), AlwaysTrue())
        whole = ArrowScan(table.metadata, table.io, schema, AlwaysTrue())
        replaced, rewritten = [], []
        for task in table.scan(row_filter=where).plan_files():
            deleted = is_deleted(deciding.to_table([task]))
            if not any(deleted):
                continue
            replaced.append(task.file)
            kept = whole.to_table([task]).filter([not each for each in deleted])
            if kept.num_rows:
                key = f"{PREFIX}{name}/data/{uuid.uuid4().hex}.parquet"
                s3.write_object(settings.lake_bucket, key, parquet_bytes(kept), "application/vnd.apache.parquet")
                rewritten.append(key)
        if not replaced:
            return None
        update = transaction.update_snapshot(noted(summary)).overwrite()
        # Selects the manifests to search for the files.
        update.delete_by_predicate(parse(where))
        for file in replaced:
            update.delete_data_file(file)
        add_files(settings, table, transaction, update, rewritten)
        return update

    return commit_change(settings, name, change)


def without_keys(rows: pa.Table, key: Sequence[str]) -> Callable[[pa.Table], list[bool]]:
    """The `is_new` of `append` for rows identified by key columns."""
    keys = [tuple(row.values()) for row in rows.select(list(key)).to_pylist()]

    def is_new(known: pa.Table) -> list[bool]:
        seen = {tuple(row.values()) for row in known.select(list(key)).to_pylist()}
        return [each not in seen for each in keys]

    return is_new


def parquet_bytes(rows: pa.Table) -> bytes:
    """A parquet file of the rows."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd")
    return buffer.getvalue()
