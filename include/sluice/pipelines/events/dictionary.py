"""Data dictionary of the pipeline (docs/tables.md)."""

from sluice.core.dictionary import Collection, Field, checkpoints, iceberg
from sluice.pipelines.events.storage import EVENTS

_RAW_TYPES = {"created_datetime": "string", "arrived_at": "timestamp"}

COLLECTIONS = (
    Collection(
        "raw_events",
        "Glue table of parquet files",
        "Every accepted record of the stream, duplicates included. Additional fields become additional columns"
        " ([decision 15](decisions/0015-rescued-data.md))",
        "`raw/events/year=YYYY/month=MM/day=DD/hour=HH/<shard>-<first>-<last sequence number>.parquet`",
        (
            *(
                Field(column.name, _RAW_TYPES.get(column.name, column.type), column.description)
                for column in EVENTS.columns
            ),
            Field("year, month, day, hour", "string", "of `created_at` in UTC, padded with zeros; only in the path"),
        ),
        ("events_ingest",),
        "5 minutes after the record came into the stream",
        "365 days",
        "hour of `created_at`",
    ),
    iceberg(
        EVENTS,
        key="`event_uuid`, in an hour and the `SLUICE_EVENTS_DEDUP_WINDOW_HOURS` before it",
        written_by=("events_hourly", "events_rebuild"),
        fresh="30 minutes after the hour is over; late events within minutes of their ingest",
    ),
    checkpoints("stream_checkpoints: shards", "`SLUICE_EVENTS_CHECKPOINT_TABLE`", written_by=("events_ingest",)),
    Collection(
        "events_hours: published",
        "DynamoDB table",
        "Last publication of one hour",
        "`SLUICE_EVENTS_HOURS_TABLE`",
        (
            Field("state", "S", "`<stream>#published`", "partition key"),
            Field("hour", "S", "the hour, such as `2024-04-07T17`", "sort key"),
            Field("raw_files", "N", "number of its raw files"),
            Field("rows", "N", "events in it"),
            Field("run", "S", "run that published it"),
            Field("published_at", "S", "when, ISO 8601 in UTC"),
            Field("snapshot_id", "S", "snapshot of `events` with its rows; missing where it has none"),
            Field("sequence_number", "N", "of the snapshot, orders publications; missing in items of version 1.0"),
        ),
        ("events_hourly", "events_rebuild"),
        "as for `events`",
        "while the hour has raw files",
    ),
    Collection(
        "events_hours: dirty",
        "DynamoDB table",
        "An hour whose raw data changed since it was published; deleted by the publication that includes the change",
        "`SLUICE_EVENTS_HOURS_TABLE`",
        (
            Field("state", "S", "`<stream>#dirty`", "partition key"),
            Field("hour", "S", "the hour, such as `2024-04-07T17`", "sort key"),
            Field("revision", "S", "run that changed it last; only a publication that has read it may delete the item"),
            Field("reason", "S", "what changed, one sentence"),
            Field("dirty_since", "S", "when it became dirty, ISO 8601 in UTC"),
            Field("requested_by", "S", "run that requested its processing"),
            Field("requested_at", "S", "time of the request, ISO 8601 in UTC"),
        ),
        ("events_ingest", "events_hourly", "events_rebuild"),
        "5 minutes",
        "until the hour is published again",
    ),
)
