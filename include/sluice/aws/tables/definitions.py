"""Iceberg tables in the Glue catalog: their definitions, and creating and opening them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from sluice.aws.emulator import EMBEDDED_SECRET_KEY
from sluice.aws.sessions import client_of
from sluice.errors import TerminalError
from sluice.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.catalog.glue import GlueCatalog
    from pyiceberg.table import Table
    from pyiceberg.table import snapshots as iceberg

log = logging.getLogger(__name__)

PREFIX = "curated/"
"""Prefix of the files of tables in the lake bucket: `<prefix><name>/data/` and `.../metadata/`."""

PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "commit.manifest.min-count-to-merge": "20",
    "commit.manifest-merge.enabled": "true",
}
"""Properties of every table; https://iceberg.apache.org/docs/latest/configuration/ lists them."""

ColumnType = Literal["string", "long", "int", "double", "boolean", "timestamptz", "decimal(20,0)"]


class TableMissing(TerminalError):
    """The catalog has no such table."""


@dataclass(frozen=True)
class Column:
    """A column of a table: name, Iceberg type, and description with the unit."""

    name: str
    type: ColumnType
    description: str


@dataclass(frozen=True)
class TableDefinition:
    """A table that a pipeline publishes.

    Attributes:
        name: in the Glue database of the settings.
        description: what a row is.
        columns: initial columns; writers may add others, which a deployment does not change.
        partition_column: source column of the partition.
        partition_by: partition transform of that column.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    partition_column: str
    partition_by: Literal["month", "hour", "identity"]

    @property
    def prefix(self) -> str:
        """Prefix of its files in the lake bucket."""
        return f"{PREFIX}{self.name}/"


@dataclass(frozen=True)
class Snapshot:
    """One state of a table.

    Attributes:
        snapshot_id: its id, also for reading as of it.
        committed_at: when it was committed (UTC).
        operation: `append`, `overwrite`, `delete` or `replace`.
        summary: counts of Iceberg, and properties set by the writer (`sluice.run`, `sluice.dag`, counts).
        is_current: whether readers see it now.
        sequence_number: of the commit, strictly increasing; 0 in older formats of a table.
    """

    snapshot_id: int
    committed_at: datetime
    operation: str
    summary: Mapping[str, str] = field(hash=False)
    is_current: bool = True
    sequence_number: int = 0


# The catalog


class _Glue:
    """A Glue client that sends UpdateTable once, and other requests with retries."""

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
    # boto3 reads these variables, Arrow does not.
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


def load(settings: Settings, name: str) -> Table:
    """The newest state of a table.

    Raises:
        TableMissing: there is no such table.
    """
    from pyiceberg.exceptions import NoSuchTableError

    try:
        return _catalog(settings).load_table((settings.glue_database, name))
    except NoSuchTableError:
        raise TableMissing(
            f"table {settings.glue_database}.{name} does not exist: run `sluice deploy`, or set SLUICE_GLUE_DATABASE"
        ) from None


def create_missing(settings: Settings, definitions: Iterable[TableDefinition]) -> list[str]:
    """Create the tables that the catalog lacks; `Add` or `Restore` and the name of each.

    A table whose catalog entry was deleted while its files are still in the lake is registered again in its latest
    state. So is a table of the embedded AWS whose entry is older than its files: a killed emulator loses unsaved
    catalog entries, but not objects.
    """
    glue = client_of("glue", settings)
    pages = glue.get_paginator("get_tables").paginate(DatabaseName=settings.glue_database)
    existing = {table["Name"]: table.get("Parameters", {}) for page in pages for table in page["TableList"]}
    changes = []
    for definition in definitions:
        if definition.name in existing and settings.target != "embedded":
            continue
        catalog, identifier = _catalog(settings), (settings.glue_database, definition.name)
        metadata = _newest_metadata(settings, catalog, definition)
        if definition.name in existing:
            if _version_of(metadata) <= _version_of(existing[definition.name].get("metadata_location", "")):
                continue
            catalog.drop_table(identifier)
        if metadata:
            catalog.register_table(identifier, metadata)
            changes.append(f"Restore {definition.name}")
        else:
            _create(settings, catalog, definition)
            changes.append(f"Add {definition.name}")
    return changes


def _version_of(metadata: str) -> int:
    """Number of a metadata file, increasing with each commit: 12 of `.../00012-<uuid>.metadata.json`."""
    return int(metadata.rpartition("/")[2].partition("-")[0] or -1)


def _newest_metadata(settings: Settings, catalog: GlueCatalog, definition: TableDefinition) -> str:
    """Address of the newest metadata file of a table whose snapshot is whole; "" where it has none.

    The metadata file of a refused commit may have the same number, but its manifests are deleted.
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
        "decimal(20,0)": types.DecimalType(20, 0),
    }
    # No column is required: readers would refuse a file that lacks a required one for ever.
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


def snapshot_of(table: Table, found: iceberg.Snapshot | None) -> Snapshot:
    """Convert a snapshot of PyIceberg."""
    assert found is not None
    summary = found.summary
    return Snapshot(
        found.snapshot_id,
        datetime.fromtimestamp(found.timestamp_ms / 1000, UTC),
        summary.operation.value if summary else "",
        dict(summary.additional_properties) if summary else {},
        found.snapshot_id == table.metadata.current_snapshot_id,
        found.sequence_number or 0,
    )
