"""What the pipeline keeps in S3: how hours are named there, and an hour as its readers see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sluice import catalog, lake, s3
from sluice.errors import TerminalError
from sluice.events import PIPELINE
from sluice.scratch import scratch_folder
from sluice.settings import load_settings

if TYPE_CHECKING:
    import pyarrow as pa

RAW_TABLE = "raw_events"
CURATED_TABLE = "events"
"""Names in the Glue database (infra/events.yaml)."""

RAW_PREFIX = f"raw/{PIPELINE}/"
CURATED_PREFIX = f"curated/{PIPELINE}/"

HOUR = timedelta(hours=1)


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
        ValueError: it is no time.
    """
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(minute=0, second=0, microsecond=0)


def version_prefix(hour: datetime, version: str) -> str:
    """Folder of one version of an hour."""
    return f"{CURATED_PREFIX}{hour_partition(hour)}version={version}/"


# Reading


def list_raw(bucket: str, hour: datetime) -> list[s3.ListedObject]:
    """Raw files of an hour."""
    return s3.list_objects(bucket, RAW_PREFIX + hour_partition(hour))


class HourNotPublished(TerminalError):
    """The catalog has no partition for an hour."""


def read_hour(hour: datetime) -> pa.Table:
    """Events of an hour through the catalog: partition, its place, the files there.

    Args:
        hour: start of the hour (UTC).

    Returns:
        The columns of the table; null where a file is older than a column.

    Raises:
        HourNotPublished: the catalog has no such partition.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = load_settings()
    values = partition_values(hour)
    location = catalog.partition_location(settings.glue_database, CURATED_TABLE, values)
    if location is None:
        raise HourNotPublished(
            f"hour {hour_text(hour)} is not in {settings.glue_database}.{CURATED_TABLE}:"
            f" `sluice airflow dags test events_hourly {hour:%Y-%m-%dT%H}:00:00+00:00` makes it"
        )
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    columns = catalog.table_columns(settings.glue_database, CURATED_TABLE)
    schema = pa.schema([(name, catalog.arrow_type(kind)) for name, kind in columns.items()])
    with scratch_folder("events-read") as folder:
        paths = s3.download_files(bucket, [file.key for file in s3.list_objects(bucket, prefix)], folder)
        tables = [pq.read_table(path, partitioning=None) for path in paths]
    if not tables:
        return schema.empty_table()
    return pa.concat_tables([schema.empty_table(), *tables], promote_options="default").select(schema.names)
