"""The Glue catalog: columns of a table and places of its partitions, from the footers of parquet files.

Registers the same as a crawler. Tables are created by `infra/`; this module adds columns of newer files, and moves a
partition to another location in one request.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from sluice.aws.retries import until_done
from sluice.aws.sessions import client, client_of, error_code
from sluice.aws.threads import in_parallel
from sluice.errors import SluiceError, TerminalError
from sluice.settings import Settings, load_settings

if TYPE_CHECKING:
    import pyarrow as pa
    from mypy_boto3_glue import GlueClient
    from mypy_boto3_glue.type_defs import PartitionInputTypeDef, TableInputTypeDef, TableTypeDef

log = logging.getLogger(__name__)

FOOTER_BYTES = 64 * 1024
"""Bytes to read from the end of a file at first; a longer footer takes one more request."""

UPDATE_ATTEMPTS = 20
UPDATE_FIRST_PAUSE_SECONDS = 0.01
MAGIC = b"PAR1"

TABLE_INPUT_FIELDS = (
    "Name",
    "Description",
    "Owner",
    "Retention",
    "StorageDescriptor",
    "PartitionKeys",
    "TableType",
    "Parameters",
)
"""Keys of a GetTable response that UpdateTable accepts (Glue API reference, TableInput)."""


class CatalogError(TerminalError):
    """The catalog lacks a table, or a file in the lake cannot be registered."""


class CatalogBusy(SluiceError):
    """Glue refused a change temporarily, or concurrent writers changed the same resource in every attempt."""


class ColumnConflict(CatalogError):
    """A file has a column of another type than the table."""


def glue_type(arrow_type: pa.DataType) -> str:
    """The Glue type of a column.

    Raises:
        CatalogError: this project writes no column of that type.
    """
    import pyarrow.types as pt

    if pt.is_string(arrow_type) or pt.is_large_string(arrow_type):
        return "string"
    if pt.is_timestamp(arrow_type):
        return "timestamp"
    names = {"int64": "bigint", "int32": "int", "double": "double", "float": "float", "bool": "boolean"}
    try:
        return names[str(arrow_type)]
    except KeyError:
        raise CatalogError(f"no column type of Glue is known for parquet type {arrow_type}") from None


def footer_columns(bucket: str, key: str) -> dict[str, str]:
    """Column -> Glue type of one parquet file; reads only its footer.

    Raises:
        CatalogError: it is not a parquet file.
    """
    import pyarrow.parquet as pq

    s3 = client("s3")
    tail = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=-{FOOTER_BYTES}")["Body"].read()
    if len(tail) < 12 or tail[-4:] != MAGIC:
        raise CatalogError(
            f"s3://{bucket}/{key} is not a parquet file: delete it, or move it out of the table's folder"
        )
    footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
    if footer_bytes > len(tail):
        tail = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=-{footer_bytes}")["Body"].read()
    schema = pq.read_schema(io.BytesIO(tail))
    return {name: glue_type(schema.field(name).type) for name in schema.names}


def files_columns(bucket: str, keys: Sequence[str]) -> dict[str, str]:
    """Columns of several files together, in the order of their first appearance.

    Raises:
        ColumnConflict: two files disagree.
    """
    columns: dict[str, str] = {}
    for key, found in zip(keys, in_parallel(lambda key: footer_columns(bucket, key), keys), strict=True):
        _merge(columns, found, f"s3://{bucket}/{key}", "the files before it")
    return columns


def _merge(columns: dict[str, str], found: dict[str, str], source: str, against: str) -> list[str]:
    """Add new columns of `found` to `columns`; returns their names."""
    wrong = {name: kind for name, kind in found.items() if columns.get(name, kind) != kind}
    if wrong:
        name, kind = next(iter(wrong.items()))
        raise ColumnConflict(
            f"column {name} is {kind} in {source}, but {columns[name]} in {against}:"
            " write it again under the table's type, or give the new meaning a new name"
        )
    new = [name for name in found if name not in columns]
    columns |= found
    return new


def read_table(database: str, table: str, settings: Settings | None = None) -> TableTypeDef:
    """The table as returned by Glue, for the settings of this process or for others.

    Raises:
        CatalogError: there is no such table.
    """
    glue: GlueClient = client_of("glue", settings or load_settings())
    try:
        return glue.get_table(DatabaseName=database, Name=table)["Table"]
    except ClientError as error:
        if error_code(error) != "EntityNotFoundException":
            raise
        raise CatalogError(
            f"Glue table {database}.{table} does not exist: run `sluice deploy`, or set SLUICE_GLUE_DATABASE"
        ) from None


def table_columns(database: str, table: str) -> dict[str, str]:
    """Column -> Glue type of a table, without its partition keys."""
    return _columns(read_table(database, table))


def _columns(found: TableTypeDef) -> dict[str, str]:
    return {column["Name"]: column.get("Type", "") for column in found["StorageDescriptor"].get("Columns", [])}


def add_columns(database: str, table: str, columns: dict[str, str], settings: Settings | None = None) -> list[str]:
    """Append missing columns to a table; older files read as null there.

    Glue accepts an update only for the current version of the table (compare-and-set), so concurrent writers both
    succeed.

    Returns:
        Names of the columns added.

    Raises:
        ColumnConflict: the table has one of them under another type; nothing was added.
        CatalogError: there is no such table.
        CatalogBusy: concurrent writers changed it in every attempt.
    """
    settings = settings or load_settings()
    glue = client_of("glue", settings)

    def add() -> list[str] | None:
        found = read_table(database, table, settings)
        keys = {key["Name"] for key in found.get("PartitionKeys", [])}
        merged = _columns(found)
        wanted = {name: kind for name, kind in columns.items() if name not in keys}
        new = _merge(merged, wanted, "a new file", f"table {database}.{table}")
        if not new:
            return []
        given = cast(dict[str, Any], found)
        update: dict[str, Any] = {name: given[name] for name in TABLE_INPUT_FIELDS if given.get(name)}
        update["StorageDescriptor"] = given["StorageDescriptor"] | {
            "Columns": [*given["StorageDescriptor"].get("Columns", []), *({"Name": n, "Type": merged[n]} for n in new)]
        }
        try:
            glue.update_table(
                DatabaseName=database, TableInput=cast("TableInputTypeDef", update), VersionId=found["VersionId"]
            )
        except ClientError as error:
            if error_code(error) != "ConcurrentModificationException":
                raise
            return None
        log.info("table %s.%s: added %s", database, table, ", ".join(f"{name} {merged[name]}" for name in new))
        return new

    added = until_done(add, attempts=UPDATE_ATTEMPTS, first_pause_seconds=UPDATE_FIRST_PAUSE_SECONDS)
    if added is None:
        raise CatalogBusy(f"table {database}.{table} was changed by others {UPDATE_ATTEMPTS} times: try again later")
    return added


def point_partition(database: str, table: str, values: Sequence[str], location: str) -> bool:
    """Create a partition, or move it to a location, with the columns of its table; one atomic request, if it differs.

    Args:
        database: Glue database.
        table: Glue table.
        values: the partition's values, in the order of the table's keys.
        location: s3:// address of a folder, with a slash at its end.

    Returns:
        Whether anything changed.

    Raises:
        CatalogError: there is no such table.
        CatalogBusy: Glue refused, or concurrent writers changed the partition in every attempt.
    """
    glue = client("glue")
    descriptor = cast(dict[str, Any], read_table(database, table)["StorageDescriptor"]) | {"Location": location}
    partition = cast("PartitionInputTypeDef", {"Values": list(values), "StorageDescriptor": descriptor})

    def point() -> bool | None:
        try:
            answer = glue.get_partition(DatabaseName=database, TableName=table, PartitionValues=list(values))
        except ClientError as error:
            if error_code(error) != "EntityNotFoundException":
                raise
            created = glue.batch_create_partition(
                DatabaseName=database, TableName=table, PartitionInputList=[partition]
            )
            codes = _errors(created.get("Errors", []))
            if not codes:
                return True
            if codes != ["AlreadyExistsException"]:
                raise CatalogBusy(f"Glue did not create partition {values} of {database}.{table}: {codes}") from None
            return None
        old = cast(dict[str, Any], answer["Partition"]["StorageDescriptor"])
        if old.get("Location") == location and old.get("Columns") == descriptor.get("Columns"):
            return False
        updated = glue.batch_update_partition(
            DatabaseName=database,
            TableName=table,
            Entries=[{"PartitionValueList": list(values), "PartitionInput": partition}],
        )
        codes = _errors(updated.get("Errors", []))
        if not codes:
            return True
        if codes != ["EntityNotFoundException"]:
            raise CatalogBusy(f"Glue did not move partition {values} of {database}.{table}: {codes}")
        return None

    moved = until_done(point, attempts=UPDATE_ATTEMPTS, first_pause_seconds=UPDATE_FIRST_PAUSE_SECONDS)
    if moved is None:
        raise CatalogBusy(
            f"partition {values} of {database}.{table} was created and deleted by other writers in every attempt"
        )
    return moved


def _errors(errors: Iterable[Any]) -> list[str]:
    return [each.get("ErrorDetail", {}).get("ErrorCode", "unknown") for each in errors]
