"""Declaration of the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice.core.pipeline import Asset, Dag, Pipeline, Stream
from sluice.settings import Settings

if TYPE_CHECKING:
    from sluice.aws.tables.definitions import TableDefinition

COMMANDS = {"events": "sluice.pipelines.events.commands:events"}
"""Commands of `sluice`: name -> `<module>:<attribute>`."""


def pipeline(settings: Settings) -> Pipeline:
    """An event stream into a deduplicated table."""
    lake = f"s3://{settings.lake_bucket}"
    return Pipeline(
        "events",
        dags=(
            Dag(
                "events_ingest",
                "*/5 * * * *",
                deadline_seconds=900,
                streams=(event_stream(settings),),
            ),
            Dag("events_hourly", "0 * * * *", deadline_seconds=1800, tables=("events",), partitioned=True),
            Dag("events_rebuild", None, partitioned=True),
        ),
        assets=(
            Asset("event_stream", f"kinesis://{settings.events_stream}/shards", "kinesis", "Events as sent"),
            Asset(
                "raw_events",
                f"{lake}/raw/events",
                "parquet",
                "Events as received, duplicates included",
                "events/ingest",
            ),
            Asset("events", f"{lake}/curated/events", "iceberg", "Every event once, by hour", "events/hourly"),
        ),
        tables=_tables,
        expired_staging=(
            (
                "[^/]+/ingest/",
                "run `sluice airflow dags trigger events_ingest`, which drains the unpublished records",
            ),
            (
                "[^/]+/rebuild/",
                "run `sluice airflow backfill create --dag-id events_rebuild --reprocess-behavior completed"
                " --from-date YYYY-MM-DD --to-date YYYY-MM-DD` with its day (UTC)",
            ),
            (
                "",
                "run `sluice airflow backfill create --dag-id events_hourly --reprocess-behavior completed"
                " --from-date YYYY-MM-DDTHH:00 --to-date YYYY-MM-DDTHH:00` with its hour (UTC)",
            ),
        ),
        keep_columns=_columns_added,
    )


def event_stream(settings: Settings) -> Stream:
    """The stream of the events, with its checkpoints."""
    return Stream(settings.events_stream, settings.events_checkpoint_table)


def _tables() -> tuple[TableDefinition, ...]:
    from sluice.pipelines.events.storage import EVENTS

    return (EVENTS,)


def _columns_added(settings: Settings) -> tuple[str, dict[str, str]]:
    from sluice.pipelines.events.storage import RAW_TABLE, columns_added

    return RAW_TABLE, columns_added(settings)
