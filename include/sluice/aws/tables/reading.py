"""Reading Iceberg tables: rows as of a time, columns, snapshots; and rollback to a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from sluice.aws.sessions import client, error_code
from sluice.aws.tables.definitions import Snapshot, TableMissing, load, snapshot_of
from sluice.errors import TerminalError
from sluice.settings import load_settings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table


class SnapshotMissing(TerminalError):
    """A table has no snapshot of this id, or none that is as old as a time."""


class BadCondition(TerminalError):
    """An invalid condition or list of columns."""


def names() -> list[str]:
    """Names of the Iceberg tables in the database, sorted.

    Raises:
        TableMissing: there is no such database.
    """
    database = load_settings().glue_database
    pages = client("glue").get_paginator("get_tables").paginate(DatabaseName=database)
    try:
        found = [table for page in pages for table in page["TableList"]]
    except ClientError as error:
        if error_code(error) != "EntityNotFoundException":
            raise
        raise TableMissing(
            f"Glue database {database} does not exist: run `sluice deploy`, or set SLUICE_GLUE_DATABASE"
        ) from None
    kinds = {each["Name"]: each.get("Parameters", {}).get("table_type", "") for each in found}
    return sorted(name for name, kind in kinds.items() if kind.upper() == "ICEBERG")


@dataclass(frozen=True)
class TableState:
    """Description of a table.

    Attributes:
        name: in the database.
        description: what a row is.
        location: address of its files.
        columns: name, type and description of each.
        partitioning: such as `created_datetime_hour = hour(created_datetime)`, of each partition field.
        snapshot: the current snapshot; None before the first publication.
        snapshots: number of readable snapshots.
        rows: of the current snapshot.
        files: of the current snapshot.
        size_bytes: of those files.
    """

    name: str
    description: str
    location: str
    columns: list[tuple[str, str, str]]
    partitioning: list[str]
    snapshot: Snapshot | None
    snapshots: int
    rows: int
    files: int
    size_bytes: int


def describe(name: str) -> TableState:
    """Describe a table.

    Raises:
        TableMissing: there is no such table.
    """
    table = load(load_settings(), name)
    current = table.current_snapshot()
    summary = snapshot_of(table, current).summary if current else {}
    schema = table.schema()
    return TableState(
        name,
        table.properties.get("comment", ""),
        table.location(),
        [(each.name, str(each.field_type), each.doc or "") for each in schema.fields],
        [f"{each.name} = {each.transform}({schema.find_column_name(each.source_id)})" for each in table.spec().fields],
        snapshot_of(table, current) if current else None,
        len(table.snapshots()),
        *(int(summary.get(f"total-{what}", 0)) for what in ("records", "data-files", "files-size")),
    )


def read(
    name: str,
    *,
    where: str = "",
    columns: Sequence[str] = ("*",),
    as_of: datetime | int | None = None,
    limit: int | None = None,
) -> pa.Table:
    """Rows of a table.

    Args:
        name: of the table.
        where: condition on the rows in SQL syntax; "" for all.
        columns: their names.
        as_of: the snapshot of this id, or the one that readers saw at this time (aware); the current one if None.
        limit: rows to read; None for all.

    Raises:
        TableMissing: there is no such table.
        SnapshotMissing: there is no such snapshot any more.
        BadCondition: `where` or `columns` name an unknown column, or cannot be parsed.
    """
    from pyparsing import ParseBaseException

    table = load(load_settings(), name)
    snapshot_id = None if as_of is None else _snapshot_at(table, name, as_of)
    row_filter: Any = {"row_filter": where} if where else {}
    try:
        scan = table.scan(**row_filter, selected_fields=tuple(columns), snapshot_id=snapshot_id, limit=limit)
        return scan.to_arrow()
    except (ValueError, ParseBaseException) as error:
        raise BadCondition(
            f"table {name}, condition {where!r}, columns {', '.join(columns)}: {error};"
            f" `sluice tables describe {name}` lists the columns"
        ) from None


def partition_filter(name: str, value: str) -> str:
    """Condition on the rows of one partition, such as `2024-04-07T17` of a table partitioned by hour.

    Raises:
        TableMissing: there is no such table.
        BadCondition: the value is not an hour or month.
    """
    table = load(load_settings(), name)
    (part,) = table.spec().fields
    column, transform = table.schema().find_column_name(part.source_id), str(part.transform)
    if transform not in ("hour", "month"):
        return (
            f"{column} = '{value}'" if str(table.schema().find_type(str(column))) == "string" else f"{column} = {value}"
        )
    try:
        moment = datetime.fromisoformat(f"{value}-01" if len(value) == len("2024-04") else value)
    except ValueError:
        example = "2024-04-07T17" if transform == "hour" else "2024-04"
        raise BadCondition(
            f"{value!r} is not the {transform} of a partition of table {name}: write it like {example}"
        ) from None
    moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    start = moment.replace(minute=0, second=0, microsecond=0)
    end = start + timedelta(hours=1)
    if transform == "month":
        start = start.replace(day=1, hour=0)
        end = (start + timedelta(days=31)).replace(day=1)
    return f"{column} >= '{start.isoformat()}' and {column} < '{end.isoformat()}'"


def _snapshot_at(table: Table, name: str, as_of: datetime | int) -> int:
    if isinstance(as_of, int):
        found = table.snapshot_by_id(as_of)
    else:
        found = table.snapshot_as_of_timestamp(int(as_of.timestamp() * 1000))
    if found is None:
        raise SnapshotMissing(
            f"table {name} has no snapshot {'of id' if isinstance(as_of, int) else 'as of'} {as_of}:"
            f" `sluice tables history {name}` lists those that can be read"
        )
    return found.snapshot_id


def history(name: str) -> list[Snapshot]:
    """Every snapshot of a table that can be read, the newest first.

    Raises:
        TableMissing: there is no such table.
    """
    table = load(load_settings(), name)
    return [snapshot_of(table, each) for each in sorted(table.snapshots(), key=lambda each: -each.timestamp_ms)]


def roll_back(name: str, snapshot_id: int) -> None:
    """Roll back to an earlier snapshot, an ancestor of the current one.

    Raises:
        TableMissing: there is no such table.
        SnapshotMissing: the table has no such snapshot among those before the current one.
    """
    table = load(load_settings(), name)
    _snapshot_at(table, name, snapshot_id)
    try:
        table.manage_snapshots().rollback_to_snapshot(snapshot_id).commit()
    except ValueError as error:
        raise SnapshotMissing(f"table {name}: {error}") from None
