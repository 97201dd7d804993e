"""Iceberg tables in the Glue catalog: create, replace a part, append, read as of a time, and go back to a snapshot.

The only module that knows PyIceberg. A publication is one commit, which makes one snapshot: a reader sees all of it or
nothing. An answer of Glue that gets lost must not be taken for a refusal, as PyIceberg would then delete the manifests
of a commit that took place: UpdateTable is sent once, and whether it took place is found by the id of its snapshot.
"""

from __future__ import annotations

import io
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from sluice import s3
from sluice.aws import EMBEDDED_SECRET_KEY, client, client_of, error_code
from sluice.errors import SluiceError, TerminalError
from sluice.retries import until_done
from sluice.settings import Settings, load_settings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog.glue import GlueCatalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table import snapshots as iceberg
    from pyiceberg.table.update.snapshot import _SnapshotProducer

log = logging.getLogger(__name__)

COMMIT_ATTEMPTS = 10
COMMIT_FIRST_PAUSE_SECONDS = 0.1

PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest.min-count-to-merge": "20",
    "commit.manifest-merge.enabled": "true",
}
"""Properties of every table; https://iceberg.apache.org/docs/latest/configuration/ lists them."""

ColumnType = Literal["string", "long", "int", "double", "boolean", "timestamptz"]


class TableMissing(TerminalError):
    """The catalog has no such table."""


class SnapshotMissing(TerminalError):
    """A table has no snapshot of this id, or none that is as old as a time."""


class BadCondition(TerminalError):
    """A condition or a list of columns that a table cannot be read by."""


class Conflict(SluiceError):
    """Another writer replaced the same part of a table since it was looked at."""


class TableBusy(SluiceError):
    """A commit was refused again and again, or Glue did not answer."""


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, its type in Iceberg's words, and what it holds, with the unit."""

    name: str
    type: ColumnType
    description: str


@dataclass(frozen=True)
class TableDefinition:
    """A table that a pipeline publishes.

    Attributes:
        name: in the Glue database of the settings.
        description: what a row is.
        columns: those that it is created with; writers may add others, which a deployment leaves alone.
        partition_column: by which files are kept apart.
        partition_by: how a value of that column becomes a partition.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    partition_column: str
    partition_by: Literal["month", "hour", "identity"]

    @property
    def prefix(self) -> str:
        """Where its files are in the lake bucket: `data/` and `metadata/` below this."""
        return f"curated/{self.name}/"


@dataclass(frozen=True)
class Snapshot:
    """One state of a table.

    Attributes:
        snapshot_id: its id, also for reading as of it.
        committed_at: when it was committed (UTC).
        operation: `append`, `overwrite`, `delete` or `replace`.
        summary: counts of Iceberg, and what the writer noted (`sluice.run`, `sluice.dag`, counts).
        is_current: whether readers see it now.
    """

    snapshot_id: int
    committed_at: datetime
    operation: str
    summary: Mapping[str, str] = field(hash=False)
    is_current: bool = True


# The catalog


class _Glue:
    """A Glue client that sends UpdateTable once, and all else with retries."""

    def __init__(self, settings: Settings) -> None:
        self._usual = client_of("glue", settings)
        self._once = client_of("glue", settings, single_attempt=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._once if name == "update_table" else self._usual, name)


def _catalog(settings: Settings) -> GlueCatalog:
    from pyiceberg.catalog.glue import GlueCatalog

    properties = {
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        "s3.region": settings.aws_region,
        "s3.connect-timeout": "5",
        "s3.request-timeout": "60",
    }
    # boto3 reads these variables by itself, Arrow does not.
    endpoint = settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        properties["s3.endpoint"] = endpoint
    if settings.endpoint_url:
        properties |= {
            "s3.access-key-id": settings.aws_account_id,
            "s3.secret-access-key": EMBEDDED_SECRET_KEY,
        }
    glue: Any = _Glue(settings)
    return GlueCatalog("sluice", client=glue, **properties)


def _load(settings: Settings, name: str) -> Table:
    from pyiceberg.exceptions import NoSuchTableError

    try:
        return _catalog(settings).load_table((settings.glue_database, name))
    except NoSuchTableError:
        raise TableMissing(
            f"table {settings.glue_database}.{name} does not exist: run `sluice deploy`, or set SLUICE_GLUE_DATABASE"
        ) from None


def create_missing(settings: Settings, definitions: Iterable[TableDefinition]) -> list[str]:
    """Create the tables that the catalog lacks; `Add` or `Restore` and the name of each.

    A table whose files are still in the lake, because only its entry in the catalog is gone, is registered again as it
    was last.
    """
    glue = client_of("glue", settings)
    pages = glue.get_paginator("get_tables").paginate(DatabaseName=settings.glue_database)
    existing = {table["Name"] for page in pages for table in page["TableList"]}
    changes = []
    for definition in definitions:
        if definition.name in existing:
            continue
        catalog, identifier = _catalog(settings), (settings.glue_database, definition.name)
        metadata = _newest_metadata(settings, catalog, definition)
        if metadata:
            catalog.register_table(identifier, metadata)
            changes.append(f"Restore {definition.name}")
        else:
            _create(settings, catalog, definition)
            changes.append(f"Add {definition.name}")
    return changes


def _newest_metadata(settings: Settings, catalog: GlueCatalog, definition: TableDefinition) -> str:
    """Address of the newest metadata file of a table whose snapshot is whole; "" where it has none.

    A commit that was refused leaves a metadata file of the same number behind, and its manifests are deleted.
    """
    from pyiceberg.table import StaticTable

    pages = (
        client_of("s3", settings)
        .get_paginator("list_objects_v2")
        .paginate(Bucket=settings.lake_bucket, Prefix=f"{definition.prefix}metadata/")
    )
    listed = {f"s3://{settings.lake_bucket}/{each['Key']}" for page in pages for each in page.get("Contents", [])}
    for address in sorted((each for each in listed if each.endswith(".metadata.json")), reverse=True):
        snapshot = StaticTable.from_metadata(address, catalog.properties).current_snapshot()
        if snapshot is None or snapshot.manifest_list in listed:
            return address
    return ""


def _create(settings: Settings, catalog: GlueCatalog, definition: TableDefinition) -> None:
    from pyiceberg import types
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.transforms import HourTransform, IdentityTransform, MonthTransform

    kinds: dict[str, Any] = {
        "string": types.StringType(),
        "long": types.LongType(),
        "int": types.IntegerType(),
        "double": types.DoubleType(),
        "boolean": types.BooleanType(),
        "timestamptz": types.TimestamptzType(),
    }
    # None is required: a file that lacks one of them would be refused by readers for ever.
    fields = [
        types.NestedField(number, column.name, kinds[column.type], required=False, doc=column.description)
        for number, column in enumerate(definition.columns, 1)
    ]
    schema = Schema(*fields)
    transforms: dict[str, Any] = {"month": MonthTransform(), "hour": HourTransform(), "identity": IdentityTransform()}
    transform = transforms[definition.partition_by]
    source = schema.find_field(definition.partition_column)
    name = source.name if definition.partition_by == "identity" else f"{source.name}_{definition.partition_by}"
    catalog.create_table(
        (settings.glue_database, definition.name),
        schema,
        location=f"s3://{settings.lake_bucket}/{definition.prefix.rstrip('/')}",
        partition_spec=PartitionSpec(PartitionField(source.field_id, 1000, transform, name)),
        properties=PROPERTIES
        | {"comment": definition.description, "schema.name-mapping.default": schema.name_mapping.model_dump_json()},
    )


# Writing


def live_files(definition: TableDefinition, where: str) -> list[str]:
    """Addresses of the files that hold the rows of a part of a table now, sorted: the `expected` of `replace`.

    Args:
        definition: the table.
        where: condition on the rows, such as `created_datetime >= '2024-04-07T17:00:00+00:00'`.
    """
    return sorted(file.file_path for file in _live(_load(load_settings(), definition.name), where))


def _live(table: Table, where: str) -> list[DataFile]:
    return [task.file for task in table.scan(row_filter=where).plan_files()]


def replace(
    definition: TableDefinition,
    where: str,
    staged: Sequence[str],
    *,
    content: str,
    expected: Sequence[str],
    summary: Mapping[str, object],
) -> Snapshot | None:
    """Replace a part of a table by staged files, in one snapshot, unless it holds this content already.

    Args:
        definition: the table.
        where: condition that is true of all rows of the part and of no others, and of the staged ones.
        staged: keys of parquet files in the lake bucket; none to empty the part.
        content: what tells one content of the part from another, a part of a file name.
        expected: the files of the part when the content was made, as `live_files` gave them.
        summary: what the snapshot notes about itself; names get `sluice.` before them.

    Returns:
        The snapshot; None where the part held this content already, so nothing was committed.

    Raises:
        Conflict: another writer replaced the part meanwhile.
        TableBusy: the commit was refused again and again.
        TableMissing: there is no such table.
    """
    from pyiceberg.expressions.parser import parse

    settings = load_settings()
    attempt_id = uuid.uuid4().hex
    keys = [f"{definition.prefix}data/{content}-{attempt_id}-{n:05d}.parquet" for n in range(len(staged))]

    def is_done(table: Table) -> bool:
        names = [file.file_path.rpartition("/")[2] for file in _live(table, where)]
        return len(names) == len(keys) and all(name.startswith(f"{content}-") for name in names)

    def change(table: Table, transaction: Transaction) -> _SnapshotProducer[Any]:
        live = _live(table, where)
        if sorted(file.file_path for file in live) != sorted(expected):
            raise Conflict(
                f"table {settings.glue_database}.{definition.name}: another writer replaced {where} meanwhile"
            )
        # Again by an attempt after this one, which is rare, and does no harm.
        s3.copy_objects(settings.lake_bucket, zip(staged, keys, strict=True))
        update = transaction.update_snapshot(_noted(summary)).overwrite()
        update.delete_by_predicate(parse(where))
        for file in live:
            update.delete_data_file(file)
        _add_files(settings, table, transaction, update, keys)
        return update

    return _commit(settings, definition, is_done, change)


def append(
    definition: TableDefinition, rows: pa.Table, *, key: Sequence[str], where: str, summary: Mapping[str, object]
) -> Snapshot | None:
    """Append rows in one snapshot, but those whose key the table has already.

    Args:
        definition: the table.
        rows: all in one partition.
        key: columns that identify a row.
        where: condition that is true of the rows and of few others, by which rows with their keys are looked for.
        summary: as for `replace`.

    Returns:
        The snapshot; None where the table had all rows, so nothing was committed.

    Raises:
        TableBusy: the commit was refused again and again.
        TableMissing: there is no such table.
    """
    settings = load_settings()

    def missing(table: Table) -> pa.Table:
        known = table.scan(row_filter=where, selected_fields=tuple(key)).to_arrow()
        seen = {tuple(row.values()) for row in known.select(list(key)).to_pylist()}
        asked = rows.select(list(key)).to_pylist()
        return rows.filter([tuple(row.values()) not in seen for row in asked])

    def change(table: Table, transaction: Transaction) -> _SnapshotProducer[Any]:
        name = f"{definition.prefix}data/{uuid.uuid4().hex}.parquet"
        s3.write_object(settings.lake_bucket, name, parquet_bytes(missing(table)), "application/vnd.apache.parquet")
        update = transaction.update_snapshot(_noted(summary)).merge_append()
        _add_files(settings, table, transaction, update, [name])
        return update

    return _commit(settings, definition, lambda table: missing(table).num_rows == 0, change)


def parquet_bytes(rows: pa.Table) -> bytes:
    """A parquet file of the rows."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd")
    return buffer.getvalue()


def _noted(summary: Mapping[str, object]) -> dict[str, str]:
    return {f"sluice.{name}": str(value) for name, value in summary.items()}


def _add_files(
    settings: Settings, table: Table, transaction: Transaction, update: _SnapshotProducer[Any], keys: Sequence[str]
) -> None:
    """Add files to a snapshot, and the columns that they bring to the schema."""
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import parquet_files_to_data_files

    paths = [f"s3://{settings.lake_bucket}/{key}" for key in keys]
    known = set(table.schema().column_names)
    for path in paths:
        with table.io.new_input(path).open() as opened:
            arrow_schema = pq.read_schema(opened)
        if not known.issuperset(arrow_schema.names):
            with transaction.update_schema() as schema:
                schema.union_by_name(arrow_schema)
            known.update(arrow_schema.names)
    for file in parquet_files_to_data_files(table.io, transaction.table_metadata, iter(paths)):
        update.append_data_file(file)


def _commit(
    settings: Settings,
    definition: TableDefinition,
    is_done: Callable[[Table], bool],
    change: Callable[[Table, Transaction], _SnapshotProducer[Any]],
) -> Snapshot | None:
    """Make a change to the newest state of a table, again where another writer was quicker or the answer is lost."""
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    failures: list[Exception] = []
    committed: list[Snapshot | None] = []

    def attempt() -> bool | None:
        table = _load(settings, definition.name)
        if is_done(table):
            committed.append(None)
            return True
        transaction = table.transaction()
        update = change(table, transaction)
        try:
            update.commit()
            table = transaction.commit_transaction()
        except (CommitFailedException, ValidationException) as refused:
            failures.append(refused)
            return None
        except (BotoCoreError, ClientError) as unknown:
            # It may have taken place all the same.
            table = _load(settings, definition.name)
            if table.snapshot_by_id(update.snapshot_id) is None:
                if isinstance(unknown, ClientError) and not _is_passing(unknown):
                    raise
                failures.append(unknown)
                return None
        committed.append(_snapshot(table, table.snapshot_by_id(update.snapshot_id)))
        return True

    if not until_done(attempt, attempts=COMMIT_ATTEMPTS, first_pause_seconds=COMMIT_FIRST_PAUSE_SECONDS):
        raise TableBusy(
            f"table {settings.glue_database}.{definition.name}: {COMMIT_ATTEMPTS} commits failed, the last with:"
            f" {failures[-1]}"
        ) from failures[-1]
    (snapshot,) = committed
    if snapshot:
        log.info("table %s: snapshot %d, %s", definition.name, snapshot.snapshot_id, json.dumps(dict(snapshot.summary)))
    return snapshot


def _is_passing(error: ClientError) -> bool:
    """Whether a service refused for now: throttling, a conflict, an error of its own."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or "Throttling" in error_code(error) or error_code(error) == "ConcurrentModificationException"


# Reading


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
    """A table as it is now.

    Attributes:
        name: in the database.
        description: what a row is.
        location: address of its files.
        columns: name, type and description of each.
        partitioning: such as `created_datetime_hour = hour(created_datetime)`, of each partition field.
        snapshot: what readers see; None before the first publication.
        snapshots: how many can be read.
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
    """A table as it is now.

    Raises:
        TableMissing: there is no such table.
    """
    table = _load(load_settings(), name)
    current = table.current_snapshot()
    summary = _snapshot(table, current).summary if current else {}
    schema = table.schema()
    return TableState(
        name,
        table.properties.get("comment", ""),
        table.location(),
        [(each.name, str(each.field_type), each.doc or "") for each in schema.fields],
        [f"{each.name} = {each.transform}({schema.find_column_name(each.source_id)})" for each in table.spec().fields],
        _snapshot(table, current) if current else None,
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
        where: condition on the rows, in SQL's words; "" for all.
        columns: their names.
        as_of: the snapshot of this id, or the one that readers saw at this time (aware); the current one if None.
        limit: rows to read; None for all.

    Raises:
        TableMissing: there is no such table.
        SnapshotMissing: there is no such snapshot any more.
        BadCondition: `where` or `columns` name no column, or cannot be understood.
    """
    from pyparsing import ParseBaseException

    table = _load(load_settings(), name)
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
    table = _load(load_settings(), name)
    return [_snapshot(table, each) for each in sorted(table.snapshots(), key=lambda each: -each.timestamp_ms)]


def _snapshot(table: Table, found: iceberg.Snapshot | None) -> Snapshot:
    assert found is not None
    summary = found.summary
    return Snapshot(
        found.snapshot_id,
        datetime.fromtimestamp(found.timestamp_ms / 1000, UTC),
        summary.operation.value if summary else "",
        dict(summary.additional_properties) if summary else {},
        found.snapshot_id == table.metadata.current_snapshot_id,
    )


def roll_back(name: str, snapshot_id: int) -> None:
    """Let readers see an earlier snapshot again, from which the current one came.

    Raises:
        TableMissing: there is no such table.
        SnapshotMissing: the table has no such snapshot among those before the current one.
    """
    table = _load(load_settings(), name)
    _snapshot_at(table, name, snapshot_id)
    try:
        table.manage_snapshots().rollback_to_snapshot(snapshot_id).commit()
    except ValueError as error:
        raise SnapshotMissing(f"table {name}: {error}") from None
