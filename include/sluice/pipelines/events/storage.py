"""Names of hours in S3, and reading a published hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sluice import lake
from sluice.aws import s3
from sluice.aws.glue import CatalogError, read_table
from sluice.aws.tables import reading
from sluice.aws.tables.definitions import Column, TableDefinition, TableMissing, load
from sluice.pipelines.events import PIPELINE
from sluice.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

RAW_TABLE = "raw_events"
"""Name in the Glue database (infra/events.yaml)."""

RAW_PREFIX = f"raw/{PIPELINE}/"

EVENTS = TableDefinition(
    "events",
    "Every event once, by hour of creation",
    (
        Column("event_uuid", "string", "identifies the event"),
        Column("event_name", "string", "as sent, such as account:created"),
        Column("created_at", "double", "when the event happened, seconds since 1970 (UTC)"),
        Column("created_datetime", "timestamptz", "the same, cut to whole seconds"),
        Column("event_type", "string", "first part of the name"),
        Column("event_subtype", "string", "second part of a name of three or more, else empty"),
        Column("event_action", "string", "last part of the name, empty if it has one part"),
        Column("arrived_at", "timestamptz", "when the record came into the stream (UTC)"),
        Column("shard_id", "string", "of the stream"),
        Column("sequence_number", "string", "of the record in its shard"),
        Column("rescued_data", "string", "JSON object of the fields that have no column or do not fit it, or null"),
    ),
    partition_column="created_datetime",
    partition_by="hour",
)

HOUR = timedelta(hours=1)


GLUE_TYPES = {"long": "bigint"}
"""Iceberg types of additional columns that have another name in Glue."""


def columns_added(settings: Settings) -> dict[str, str]:
    """Column -> Glue type of additional columns of `raw_events`; from `events` if the raw table lost them."""
    try:
        raw = read_table(settings.glue_database, RAW_TABLE, settings)["StorageDescriptor"].get("Columns", [])
    except CatalogError:
        return {}
    try:
        published = load(settings, EVENTS.name).schema().fields
    # If the table or its files are missing, `create_missing` creates them.
    except (TableMissing, FileNotFoundError):
        published = ()
    known = {column.name for column in EVENTS.columns}
    added = {field.name: str(field.field_type) for field in published}
    columns = {name: GLUE_TYPES.get(kind, kind) for name, kind in added.items() if name not in known}
    return columns | {each["Name"]: each.get("Type", "") for each in raw if each["Name"] not in known}


# Hours


def hour_partition(hour: datetime) -> str:
    """`year=YYYY/month=MM/day=DD/hour=HH/` of an hour in UTC."""
    return f"{lake.day_partition(hour)}/hour={hour.hour:02d}/"


def partition_values(hour: datetime) -> list[str]:
    """Values of the partition keys `year`, `month`, `day`, `hour`, zero-padded."""
    return [f"{hour.year:04d}", f"{hour.month:02d}", f"{hour.day:02d}", f"{hour.hour:02d}"]


def hour_text(hour: datetime) -> str:
    """`2024-04-07T17`; sorts by time."""
    return f"{hour:%Y-%m-%dT%H}"


def parse_hour(text: str) -> datetime:
    """The hour of `hour_text`, or of any ISO 8601 time in it; a time without a zone is UTC.

    Raises:
        ValueError: it is not a time.
    """
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(minute=0, second=0, microsecond=0)


def rows_of_hour(hour: datetime) -> str:
    """Condition on the rows of one hour of the table `events`."""
    return rows_between(hour, hour + HOUR)


def rows_between(start: datetime, end: datetime) -> str:
    """Condition on the rows of the table `events` from a time (UTC) to another (exclusive)."""
    return f"created_datetime >= '{start.isoformat()}' and created_datetime < '{end.isoformat()}'"


def partition_of(hour: datetime) -> int:
    """Value of the hidden partition of an hour: hours since 1970, as Iceberg counts them."""
    return int(hour.timestamp()) // 3600


# Reading


def list_raw(bucket: str, hour: datetime) -> list[s3.ListedObject]:
    """Raw files of an hour."""
    return s3.list_objects(bucket, RAW_PREFIX + hour_partition(hour))


def read_hour(hour: datetime) -> pa.Table:
    """Published events of an hour (its start, in UTC); none before it is published.

    Raises:
        TableMissing: nothing is deployed.
    """
    return reading.read(EVENTS.name, where=rows_of_hour(hour))
