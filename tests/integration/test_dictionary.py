"""What a person reads in the data dictionary about an item of DynamoDB is what the pipelines write there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sluice.aws.sessions import client
from sluice.core import checkpoints
from sluice.monitoring import alerts, history, runs
from sluice.monitoring.canary import state
from sluice.monitoring.dictionary import collections
from sluice.pipelines.events import dirty_hours, hours
from sluice.pipelines.events.pipeline import event_stream
from sluice.settings import Settings

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_every_attribute_that_runs_write_is_in_the_dictionary(deployed: Settings) -> None:
    table = deployed.runs_table
    runs.record_start(table, "a_dag", "run", AT)
    runs.record_drain(table, "a_dag", "run")
    tally = {"records_in": 1, "published": 1}
    runs.record_success(table, "a_dag", "run", started_at=AT, at=AT, tally=tally, is_drained=True)
    failure = runs.Failure("a_dag", "task", "2026-11", "run", AT, AT, 1, "message", "http://log", "sluice ...")
    runs.record_failure(table, failure)
    alerts.claim_alert(table, "key", "subject", AT, repeat_after=timedelta(1), dead_after=timedelta(1))
    runs.record_empty(table, "queue", AT)
    runs.record_depth(table, "queue", runs.Depth(AT, 3), ())
    state.record_canary(table, "events", runs.CanaryResult("run", AT, 1.5, ""))
    state.open_canary(table, AT)
    history.record_run(table, history.RunRecord("a_dag", "run", AT, AT, history.SUCCEEDED, tally))
    history.record_gate(
        table, history.GateRecord("a/gate", "a_dag", "task", "run", AT, AT, history.PASSED, "s3://report")
    )

    assert written(table, "pipeline_runs", lambda item: kind_of(item["kind"]["S"])) == described("pipeline_runs")


def test_all_attributes_of_ingest_and_publication_are_in_the_dictionary(deployed: Settings) -> None:
    stream = event_stream(deployed)
    for after, last in ((None, "1"), ("1", "2")):
        batch = [checkpoints.ShardBatch("shard", after, last, last, 1, closed=True)]
        checkpoints.announce_batch(stream, last, batch)
        if after is None:
            checkpoints.commit_batch(stream, last, batch)
    assert written(stream.checkpoint_table, "stream_checkpoints", lambda _: "shards") == described("stream_checkpoints")

    table, name = deployed.events_hours_table, deployed.events_stream
    dirty_hours.claim_hour(table, name, AT, "revision", None, "run", AT)
    hours.write_hour(table, name, AT, hours.PublishedHour(1, 2, "run", AT, "1"))

    assert written(table, "events_hours", lambda item: item["state"]["S"].partition("#")[2]) == described(
        "events_hours"
    )


def kind_of(key: str) -> str:
    kind, *below = key.split("/")
    return f"{kind} of runs" if below else kind


def written(table: str, name: str, part: Callable[[dict[str, Any]], str]) -> dict[str, dict[str, str]]:
    """Entry of the dictionary -> attribute -> type, of one item of each in the table."""
    pages = client("dynamodb").get_paginator("scan").paginate(TableName=table)
    return {
        f"{name}: {part(item)}": {attribute: next(iter(value)) for attribute, value in item.items()}
        for page in pages
        for item in page["Items"]
    }


def described(name: str) -> dict[str, dict[str, str]]:
    """The same, of the dictionary."""
    return {
        each.name: {field.name: field.type for field in each.fields}
        for group in collections().values()
        for each in group
        if each.name.startswith(f"{name}:")
    }
