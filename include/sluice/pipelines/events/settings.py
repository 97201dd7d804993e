"""Settings of the pipeline `events`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from sluice.base_settings import PipelineSettings


class EventsSettings(PipelineSettings):
    """Settings of the pipeline `events`."""

    events_stream: str = Field(
        "sluice-events", pattern=r"^[A-Za-z0-9_.-]{1,128}$", description="Kinesis stream of the events"
    )
    events_checkpoint_table: str = Field(
        "stream_checkpoints",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of stream checkpoints",
    )
    events_hours_table: str = Field(
        "events_hours",
        pattern=r"^[A-Za-z0-9_.-]{3,255}$",
        description="DynamoDB table of published and dirty hours of events",
    )
    events_max_records: int = Field(
        100_000, ge=1_000, le=10_000_000, description="maximum number of records that one ingest reads"
    )
    events_dedup_window_hours: int = Field(
        1, ge=0, le=168, description="deduplication window: hours before an hour in which a uuid counts as a duplicate"
    )
    events_max_columns: int = Field(
        500, ge=0, le=5_000, description="columns of additional fields of events; fields beyond them are rescued"
    )
    events_schema_contract: Literal["evolve", "freeze"] = Field(
        "evolve", description="new fields of events: get columns (evolve), or go into rescued_data (freeze)"
    )
    events_known_types: Annotated[tuple[str, ...], NoDecode] = Field(
        ("account", "job", "lesson", "order", "payment", "session"),
        description="expected event types, comma separated; others only warn",
    )
    events_engine: Literal["duckdb", "glue", "spark"] = Field(
        "duckdb", description="query engine of the hourly deduplication"
    )
    events_firehose: bool = Field(False, description="also deliver the stream through Firehose and a Lambda; AWS only")
    events_rebuild_processes: int = Field(
        2, ge=1, le=64, description="hours that one run of events_rebuild deduplicates in parallel"
    )
    events_memory_limit_mb: int = Field(2048, ge=256, description="memory of the engine before it spills to disk, MiB")
    events_target_file_bytes: int = Field(
        128 * 1024 * 1024, ge=1024 * 1024, description="approximate size of a published file"
    )

    @field_validator("events_known_types", mode="before")
    @classmethod
    def _split_types(cls, value: object) -> object:
        """Comma separated, blanks dropped."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())
