"""The events pipeline in an account of its own, as its tests see it."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq

from embedded_aws import deploy_one_stack
from sluice.aws import kinesis, s3
from sluice.aws.sessions import client
from sluice.aws.tables import definitions
from sluice.pipelines.events import rebuild, steps, storage
from sluice.settings import Settings
from sluice_dev.samples import events

HOUR = datetime(2024, 4, 7, 17, tzinfo=UTC)


class World:
    """The pipeline in an account of its own: what a test does to it and sees of it."""

    hour = HOUR
    day = HOUR.replace(hour=0)

    def __init__(self, settings: Settings) -> None:
        client("s3").create_bucket(Bucket=settings.lake_bucket)
        deploy_one_stack(settings, "events")
        definitions.create_missing(settings, [storage.EVENTS])
        self.settings = settings
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.truth: dict[str, datetime] = {}
        self.records = 0
        self.malformed = 0
        self.owned: set[tuple[str, datetime]] = set()
        self.read: dict[s3.ListedObject, list[tuple[str, str]]] = {}

    def put(self, records: int, *, seed: int, start: datetime = HOUR, hours: float = 1.0, **shares: float) -> None:
        """Put generated records into the stream and remember what must be published."""
        traffic = events.Traffic(records, start, start + timedelta(hours=hours), seed=seed, **shares)
        generated = list(events.generate(traffic))
        for batch in kinesis.batches(each.entry for each in generated):
            kinesis.put_batch(self.settings.events_stream, batch)
        self.records += len(generated)
        self.malformed += sum(each.kind == "malformed" for each in generated)
        self.truth |= {
            each.event_uuid: events.hour_of(each.created_at) for each in generated if each.kind in ("event", "late")
        }

    def put_event(self, event_uuid: str, created_at: float, **more: Any) -> None:
        """Put one event."""
        event = {"event_uuid": event_uuid, "event_name": "account:created", "created_at": created_at} | more
        kinesis.put_batch(self.settings.events_stream, [kinesis.Entry(event_uuid, json.dumps(event).encode())])

    def ingest(self, run: str) -> list[dict[str, Any]]:
        """One run of events_ingest but for its gate; the late hours."""
        steps.drain(run)
        steps.publish_batch(run)
        return steps.find_late_hours(run, lambda dag_id, date: (dag_id, date) in self.owned, lambda: self.now)

    def process(self, run: str, hour: datetime) -> dict[str, Any]:
        """One run of events_hourly but for its crawl and gate."""
        steps.register_partition(run, hour)
        steps.dedup(run)
        return steps.publish_hour(run, lambda: self.now)

    def rebuild(self, run: str) -> dict[str, Any]:
        """One run of events_rebuild but for its gate."""
        rebuild.dedup_day(run, self.day, lambda: self.now)
        return rebuild.publish_day(run, lambda: self.now)

    def process_late(self, late: list[dict[str, Any]]) -> None:
        """The runs that an ingest requests."""
        for each in late:
            self.process(each["trigger_run_id"], storage.parse_hour(each["conf"]["hour"]))

    def curated(self, hour: datetime) -> list[dict[str, Any]]:
        """Rows of an hour as a reader of the catalog sees them."""
        rows: list[dict[str, Any]] = storage.read_hour(hour).to_pylist()
        return rows

    def ingested(self) -> list[tuple[str, str]]:
        """(shard, sequence number) of everything in raw and in quarantine; an object is read again when it changed."""
        bucket = self.settings.lake_bucket
        found: list[tuple[str, str]] = []
        for file in s3.list_objects(bucket, storage.RAW_PREFIX) + s3.list_objects(bucket, "quarantine/events/"):
            if file not in self.read:
                self.read[file] = self._sequence_numbers(file.key)
            found += self.read[file]
        return found

    def _sequence_numbers(self, key: str) -> list[tuple[str, str]]:
        if key.endswith(".jsonl"):
            rows = s3.read_json_lines(self.settings.lake_bucket, key)
            return [tuple(row["source"].split("/")[-2:]) for row in rows]
        body = io.BytesIO(s3.read_object(self.settings.lake_bucket, key).body)
        table = pq.read_table(body, columns=["shard_id", "sequence_number"])
        return list(zip(*table.to_pydict().values(), strict=True))

    def assert_each_record_ingested_once(self) -> None:
        """Every record of the stream is one row of raw or one line of quarantine."""
        found = self.ingested()
        assert len(found) == len(set(found)), "a record was ingested twice"
        assert len(found) == self.records

    def assert_each_event_curated_once(self) -> None:
        """Every distinct valid event is in its hour once, as a reader of the catalog sees it."""
        for hour in sorted(set(self.truth.values())):
            expected = sorted(uuid for uuid, at in self.truth.items() if at == hour)
            assert sorted(row["event_uuid"] for row in self.curated(hour)) == expected, hour
