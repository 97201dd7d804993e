"""Each record is an event; those of a group are in adjacent hours, those of a range in a day."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any, ClassVar
from uuid import UUID

import pyarrow.parquet as pq

from events_world import HOUR, World
from promises.subject import RANGE, Promise, Subject, Views
from sluice.aws import kinesis
from sluice.aws.tables import reading
from sluice.core.checkpoints import BatchTaken
from sluice.pipelines.events import storage

UNFINISHED_AFTER = timedelta(hours=13)
"""Time after which a requested hour is requested again."""


def uuid_of(number: int) -> str:
    return str(UUID(int=number, version=4))


def number_of(event_uuid: str) -> int:
    return UUID(event_uuid).int & 0xFFFF


class _Events(Subject):
    hours = 2

    @cached_property
    def world(self) -> World:
        return World(self.settings)

    def deploy(self) -> None:
        self.sent: Counter[int] = Counter()
        self.ingests = 0
        assert self.world

    def send(self, number: int, *, bad: bool = False) -> None:
        if bad:
            kinesis.put_batch(self.settings.events_stream, [kinesis.Entry(f"{number}", f"no event {number}".encode())])
        self.send_again(number)

    def send_again(self, number: int) -> None:
        at = self.first_hour(number) + timedelta(hours=number % self.hours, seconds=number)
        self.world.put_event(uuid_of(number), at.timestamp())
        self.sent[number] += 1

    def send_late(self, number: int) -> Callable[[], None]:
        return partial(self.send, number)

    def first_hour(self, number: int) -> datetime:
        """The first hour of the range of a record: so far from others that their runs do not read it."""
        return HOUR + timedelta(days=number // RANGE)

    def curated(self) -> list[int]:
        """Numbers of the events that a reader sees."""
        rows = reading.read(storage.EVENTS.name, columns=("event_uuid",))
        return sorted(number_of(each) for each in rows["event_uuid"].to_pylist())

    def ingest(self) -> list[dict[str, Any]]:
        """A run of events_ingest; returns the hours that it requests."""
        self.ingests += 1
        self.world.now = self.clock()
        return self.world.ingest(f"ingest-{self.ingests}")

    def process_late(self) -> int:
        """The next ingest, and the runs that it requests; returns their number."""
        self.now += UNFINISHED_AFTER
        late = self.ingest()
        self.world.process_late(late)
        return len(late)


class EventsIngest(_Events):
    dag_id = "events_ingest"
    steps = ("drain", "check_batch", "publish_batch", "find_late_hours")
    gate = "check_batch"
    publishes = tally_of = "publish_batch"
    yields = (BatchTaken,)
    batch_tally: ClassVar = {"records_in": 4, "published": 3, "duplicates": 0, "quarantined": 1}
    fewest_writes = 10
    exceptions: ClassVar = {
        Promise.DUPLICATES: "raw/events keeps what the stream delivers; events_hourly and events_rebuild deduplicate it"
    }

    def arguments(self, run: str) -> dict[str, Any]:
        return super().arguments(run) | {"has_run": lambda *_: False}

    def published(self) -> Views:
        files = self.read_objects(storage.RAW_PREFIX).values()
        found = [pq.read_table(io.BytesIO(body), columns=["event_uuid"])["event_uuid"].to_pylist() for body in files]
        return {"raw_events": sorted(number_of(each) for uuids in found for each in uuids)}

    def expected(self, numbers: Iterable[int]) -> Views:
        return {"raw_events": sorted(Counter({number: self.sent[number] for number in numbers}).elements())}

    def settle(self) -> None:
        self.process_late()
        assert self.curated() == sorted(self.delivered)


class EventsHourly(_Events):
    dag_id = "events_hourly"
    steps: ClassVar[tuple[str, ...]] = ("register_partition", "dedup", "check_hour", "publish_hour")
    gate = "check_hour"
    publishes = tally_of = "publish_hour"
    whole = ("events",)
    # What events_ingest quarantined is not in raw/.
    batch_tally: ClassVar = {"records_in": 3, "published": 2, "duplicates": 1, "quarantined": 0}
    fewest_writes = 8
    hours = 1

    def send(self, number: int, *, bad: bool = False) -> None:
        super().send(number, bad=bad)
        self.ingest()

    def send_again(self, number: int) -> None:
        super().send_again(number)
        self.ingest()

    def arguments(self, run: str) -> dict[str, Any]:
        start = self.first_hour(self.last_sent())
        return super().arguments(run) | {"hour": start, "day": start.replace(hour=0)}

    def next_run(self, run: str) -> dict[str, int]:  # noqa: ARG002
        return {"records_in": self.process_late()}

    def published(self) -> Views:
        return {"events": self.curated()}

    def expected(self, numbers: Iterable[int]) -> Views:
        return {"events": sorted(numbers)}


class EventsRebuild(EventsHourly):
    dag_id = "events_rebuild"
    modules = ("rebuild",)
    steps = ("dedup_day", "check_day", "publish_day")
    gate = "check_day"
    publishes = tally_of = "publish_day"
    hours = 2

    @classmethod
    def settings_changed(cls) -> dict[str, object]:
        # The process that is killed must not fork: its children would continue for a moment.
        return {"events_rebuild_processes": 1}


SUBJECTS = (EventsIngest, EventsHourly, EventsRebuild)
