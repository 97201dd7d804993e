"""A day's hours while all that publishes them runs at once: every change published once, nothing lost."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from sluice.aws.tables import reading
from sluice.core.run import Run
from sluice.pipelines.events import dirty_hours, hourly, rebuild, steps, storage
from sluice.pipelines.events import hours as published_hours
from sluice.settings import load_settings

HOURS = 4
WAVES = 3
EVENTS_A_WAVE = 6
REBUILDS = 2


class Airflow:
    """Runs of the Dags of events, as their tasks would do them; `has_run` counts those with a logical date."""

    def __init__(self, now: datetime) -> None:
        self._lock = threading.Lock()
        self._owned: Counter[tuple[str, datetime]] = Counter()
        self._now, self._ticks = now, count()

    def now(self) -> datetime:
        """Later each time."""
        return self._now + timedelta(microseconds=next(self._ticks))

    def has_run(self, dag_id: str, date: datetime) -> bool:
        with self._lock:
            return self._owned[(dag_id, date)] > 0

    def queue(self, dag_id: str, date: datetime) -> None:
        with self._lock:
            self._owned[(dag_id, date)] += 1

    def _end(self, dag_id: str, date: datetime) -> None:
        with self._lock:
            self._owned[(dag_id, date)] -= 1

    def ingest(self, run: str) -> list[dict[str, Any]]:
        steps.drain(run)
        steps.check_batch(run)
        steps.publish_batch(run)
        return steps.find_late_hours(run, self.has_run, self.now)

    def hourly(self, run: str, hour: datetime) -> int:
        steps.register_partition(run, hour)
        steps.dedup(run)
        steps.check_hour(run)
        published = steps.publish_hour(run, self.now)["published"]
        assert isinstance(published, int)
        return published

    def backfill_hour(self, run: str, hour: datetime) -> None:
        self.hourly(run, hour)
        self._end("events_hourly", hour)

    def late(self, asked: dict[str, Any]) -> None:
        self.hourly(asked["trigger_run_id"], storage.parse_hour(asked["conf"]["hour"]))

    def rebuild(self, run: str, day: datetime) -> None:
        """Without a logical date, so that late hours are requested concurrently."""
        rebuild.dedup_day(run, day, self.now)
        rebuild.check_day(run)
        rebuild.publish_day(run, self.now)


def put_wave(world: Any, hours: list[datetime], wave: int) -> None:
    """Some events into every hour, the first of them twice."""
    for hour in hours:
        for number in range(EVENTS_A_WAVE):
            uuid = str(UUID(int=wave * 1000 + hour.hour * 10 + number, version=4))
            for second in (number, number + 100)[: 2 if number == 0 else 1]:
                world.put_event(uuid, hour.timestamp() + second)
                world.records += 1
            world.truth[uuid] = hour


def test_backfills_schedule_and_late_events_publish_each_change_once(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process must not be forked while other threads of it work.
    monkeypatch.setenv("SLUICE_EVENTS_REBUILD_PROCESSES", "1")
    load_settings.cache_clear()
    day = world.day
    hours = [day + timedelta(hours=24 - HOURS + n) for n in range(HOURS)]
    airflow = Airflow(day + timedelta(days=1, minutes=30))
    for hour in hours:
        airflow.queue("events_hourly", hour)
    put_wave(world, hours, 0)
    assert airflow.ingest("ingest-0") == [], "every hour waits in a backfill"

    def late_events() -> None:
        for wave in range(1, WAVES):
            put_wave(world, hours, wave)
            asked = airflow.ingest(f"ingest-{wave}")
            list(late_runs.map(airflow.late, asked))

    def rebuilds() -> None:
        for number in range(REBUILDS):
            airflow.rebuild(f"rebuild-{number}", day)

    with ThreadPoolExecutor(6) as pool, ThreadPoolExecutor(2) as late_runs:
        runs = [pool.submit(airflow.backfill_hour, f"backfill-{hour.hour}", hour) for hour in hours[:-1]]
        runs.append(pool.submit(airflow.backfill_hour, "scheduled", hours[-1]))
        runs += [pool.submit(late_events), pool.submit(rebuilds)]
        for run in runs:
            run.result()
    for number in count():
        if not (asked := airflow.ingest(f"last-{number}")):
            break
        for each in asked:
            airflow.late(each)

    world.assert_each_record_ingested_once()
    world.assert_each_event_curated_once()
    table, stream = world.settings.events_hours_table, world.settings.events_stream
    for hour in hours:
        noted, raw = published_hours.read_hour(table, stream, hour), storage.list_raw(world.settings.lake_bucket, hour)
        assert noted is not None
        assert (noted.rows, noted.raw_files) == (WAVES * EVENTS_A_WAVE, len(raw))
        assert dirty_hours.read_dirty_hour(table, stream, hour) is None
    before: dict[datetime, set[str]] = {hour: set() for hour in hours}
    for snapshot in reversed(reading.history("events")):
        rows = reading.read("events", as_of=snapshot.snapshot_id, columns=("event_uuid",)).to_pydict()["event_uuid"]
        assert len(rows) == len(set(rows))
        now = {hour: {uuid for uuid in rows if world.truth[uuid] == hour} for hour in hours}
        assert all(before[hour] <= now[hour] for hour in hours), "an older view took the place of a newer one"
        assert now != before, "the same rows were published again"
        before = now


def test_a_slow_run_does_not_note_fewer_rows_than_the_table_has(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run finds its rows published already, and notes that only after another run published more of them."""
    airflow, hour = Airflow(world.day + timedelta(days=1)), world.hour
    put_wave(world, [hour], 0)
    airflow.ingest("first")
    for run in ("slow", "same"):
        steps.register_partition(run, hour)
        steps.dedup(run)
        steps.check_hour(run)
    steps.publish_hour("same", airflow.now)
    commit = hourly._commit

    def publish_more_before_it_is_noted(dag_id: str, run: str, prepared: Any) -> Any:
        outcome = commit(dag_id, run, prepared)
        if run == Run.of("events", "slow").slug:
            put_wave(world, [hour], 1)
            airflow.ingest("second")
            airflow.hourly("late", hour)
        return outcome

    early = airflow.now()
    later = count()
    monkeypatch.setattr(hourly, "_commit", publish_more_before_it_is_noted)
    steps.publish_hour("slow", lambda: early + timedelta(hours=1, microseconds=next(later)))
    noted = published_hours.read_hour(world.settings.events_hours_table, world.settings.events_stream, hour)
    assert noted is not None
    raw = storage.list_raw(world.settings.lake_bucket, hour)
    assert (noted.run, noted.rows, noted.raw_files) == (Run.of("events", "late").slug, 2 * EVENTS_A_WAVE, len(raw))
    world.assert_each_event_curated_once()
