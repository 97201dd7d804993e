"""Compares published records with the records that the canary sent."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence

from sluice.aws import s3
from sluice.aws.tables import reading
from sluice.monitoring.canary.records import DATASET_OUTPUT, EVENT_HOUR, NAME
from sluice.pipelines.accommodations.catalogue import CURRENT
from sluice.pipelines.events.storage import EVENTS, hour_text, rows_of_hour
from sluice.settings import Settings


def find_difference(settings: Settings, pipeline: str, sent: Mapping[str, str], messages: Sequence[str] = ()) -> str:
    """The difference between sent and published records in a sentence; "" for none.

    Args:
        settings: the settings.
        pipeline: the pipeline; for `dockerhub` its sensor has compared them.
        sent: its part of `records.records`.
        messages: bodies of the success rates that were received.
    """
    if pipeline == "events":
        return _compare_events(sent["uuid"])
    if pipeline == "modules":
        return _compare_rates(int(sent["timestamp"]), messages)
    if pipeline == "accommodations":
        return _compare_catalogue(sent["token"])
    if pipeline == "datasets":
        return _compare_dataset(settings.lake_bucket, sent["token"])
    return ""


def _compare_events(event_uuid: str) -> str:
    found = reading.read(EVENTS.name, where=rows_of_hour(EVENT_HOUR), columns=("event_uuid",))
    count = found["event_uuid"].to_pylist().count(event_uuid)
    if count == 1:
        return ""
    return f"table events has event {event_uuid} of hour {hour_text(EVENT_HOUR)} {count} times instead of once"


def _compare_rates(timestamp: int, messages: Sequence[str]) -> str:
    """More than 1 % if messages of an earlier canary arrived late."""
    rates = [json.loads(each) for each in messages]
    for rate in rates:
        if (rate["moduleid"], rate["timestamp"]) == (NAME, timestamp) and 1 <= rate["success_rate"] <= 100:
            return ""
    return f"success rates {rates} were received instead of one of {NAME} at {timestamp}; run `sluice verify` again"


def _compare_catalogue(token: str) -> str:
    columns = ("partner_name", "accommodation_data")
    rows = reading.read(CURRENT.name, where=f"accommodation_id = '{NAME}'", columns=columns).to_pylist()
    found = [(row["partner_name"], json.loads(row["accommodation_data"])["accommodation_name"]) for row in rows]
    return "" if found == [(NAME, token)] else f"table {CURRENT.name} has {found} instead of {[(NAME, token)]}"


def _compare_dataset(bucket: str, token: str) -> str:
    import pyarrow.parquet as pq

    found = pq.read_table(io.BytesIO(s3.read_object(bucket, DATASET_OUTPUT).body))["dp"].to_pylist()
    return "" if found == [token] else f"s3://{bucket}/{DATASET_OUTPUT} has dp {found} instead of {[token]}"
