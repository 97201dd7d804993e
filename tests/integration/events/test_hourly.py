"""From raw to curated: each event once, an hour whole or as it was, and no late event forgotten."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedded_aws import FaultInjection
from sluice.aws import glue, s3
from sluice.aws.tables import definitions, reading
from sluice.core.quality import GateFailed
from sluice.core.run import Run
from sluice.lake_views.runs import snapshots_of_run
from sluice.pipelines.events import steps, storage
from sluice.pipelines.events.batch import HourOutput
from sluice.pipelines.events.hourly import RawDataGone


def uuid_of(number: int) -> str:
    return str(UUID(int=number, version=4))


def snapshots() -> list[definitions.Snapshot]:
    return reading.history(storage.EVENTS.name)


def test_the_truth_of_the_producer_is_what_readers_of_the_catalog_see(world: Any) -> None:
    world.put(2000, seed=3, hours=3, duplicates=0.1, late=0.05, malformed=0.02)
    late = world.ingest("ingest")
    asked = [storage.parse_hour(each["conf"]["hour"]) for each in late]
    assert set(world.truth.values()) <= set(asked)
    world.process_late(late)
    world.assert_each_event_curated_once()


def test_hours_processed_side_by_side_and_in_any_order_give_the_same(world: Any) -> None:
    world.put(1500, seed=4, hours=4, duplicates=0.2)
    late = world.ingest("ingest")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: world.process_late([each]), reversed(late)))
    world.assert_each_event_curated_once()


def test_the_gate_lets_a_good_hour_pass_and_stops_one_with_a_uuid_twice(world: Any) -> None:
    world.put(100, seed=1, duplicates=0.2)
    world.ingest("ingest")
    steps.register_partition("run", world.hour)
    steps.dedup("run")
    assert steps.check_hour("run")["rows"] == 1
    run = Run.of("events", "run")
    output = run.load(steps.OUTPUT, HourOutput)
    output.measures.counts["distinct_uuids"] -= 1
    run.save(steps.OUTPUT, output)
    with pytest.raises(GateFailed, match="distinct_uuids"):
        steps.check_hour("run")
    assert world.curated(world.hour) == []


def test_a_late_event_has_its_hour_processed_again_and_says_why(world: Any) -> None:
    world.put(50, seed=1)
    world.process_late(world.ingest("first"))
    world.put_event(uuid_of(7), world.hour.timestamp() + 30)
    (asked,) = world.ingest("second")
    assert asked["trigger_run_id"] == "late__2024-04-07T17__second"
    assert asked["conf"]["reason"] == "events of hour 2024-04-07T17 arrived in second: 1" == asked["note"]
    assert world.ingest("third") == [], "the hour was requested already"
    world.process_late([asked])
    assert uuid_of(7) in {row["event_uuid"] for row in world.curated(world.hour)}
    assert world.ingest("fourth") == []


@pytest.mark.parametrize("dag_id", ["events_hourly", "events_rebuild"])
def test_an_hour_that_a_backfill_has_before_it_is_not_asked_for_too(dag_id: str, world: Any) -> None:
    world.put(50, seed=1)
    date = world.hour if dag_id == "events_hourly" else world.hour.replace(hour=0)
    world.owned = {(dag_id, date)}
    assert world.ingest("first") == []
    world.owned = set()
    (asked,) = world.ingest("second")
    assert asked["conf"]["hour"] == world.hour.isoformat(), "that run failed, and the hour is still to be done"


def test_the_hour_that_runs_and_the_one_whose_schedule_is_due_are_not_late(world: Any) -> None:
    world.put(50, seed=1)
    world.now = world.hour + timedelta(minutes=59)
    assert world.ingest("while it runs") == []
    world.now = world.hour + timedelta(minutes=65)
    assert world.ingest("its schedule is due") == []
    world.now = world.hour + timedelta(minutes=120)
    assert [each["conf"]["hour"] for each in world.ingest("overdue")] == [world.hour.isoformat()]


def test_a_late_event_takes_its_duplicate_out_of_the_next_hour(world: Any) -> None:
    later = world.hour + timedelta(hours=1)
    world.put_event(uuid_of(1), later.timestamp() + 10)
    world.put_event(uuid_of(2), later.timestamp() + 20)
    world.process_late(world.ingest("first"))
    assert len(world.curated(later)) == 2
    world.put_event(uuid_of(1), world.hour.timestamp() + 3590)
    late = world.ingest("second")
    assert [each["conf"]["hour"] for each in late] == [world.hour.isoformat(), later.isoformat()]
    assert "perhaps duplicated here" in late[1]["conf"]["reason"]
    world.process_late(late)
    assert [row["event_uuid"] for row in world.curated(world.hour)] == [uuid_of(1)]
    assert [row["event_uuid"] for row in world.curated(later)] == [uuid_of(2)]


def test_an_hour_of_which_nothing_is_left_reads_as_empty(world: Any) -> None:
    later = world.hour + timedelta(hours=1)
    world.put_event(uuid_of(1), later.timestamp())
    world.process_late(world.ingest("first"))
    world.put_event(uuid_of(1), later.timestamp() - 1)
    world.process_late(world.ingest("second"))
    assert world.curated(later) == []


def test_a_late_event_gets_into_an_hour_that_was_published_empty(world: Any) -> None:
    assert world.process("scheduled", world.hour) == {
        "records_in": 0,
        "published": 0,
        "duplicates": 0,
        "quarantined": 0,
        "snapshots": {"events": None},
    }
    assert snapshots() == []
    world.put_event(uuid_of(1), world.hour.timestamp())
    world.now = world.hour + timedelta(minutes=61)
    world.process_late(world.ingest("late"))
    assert len(world.curated(world.hour)) == 1


def test_the_same_rows_again_are_not_published_again(world: Any) -> None:
    world.put(200, seed=1, duplicates=0.2)
    world.process_late(world.ingest("ingest"))
    before = snapshots()
    again = world.process("again", world.hour)
    assert snapshots() == before
    assert again["snapshots"] == {"events": str(before[0].snapshot_id)}


def test_a_snapshot_says_what_it_was_made_from_and_can_be_read_later(world: Any) -> None:
    world.put(40, seed=1, duplicates=0.2)
    world.process_late(world.ingest("first"))
    (first,) = snapshots()
    rows = world.curated(world.hour)
    assert first.summary["sluice.run"] == "late__2024-04-07T17__first"
    assert first.summary["sluice.dag"] == "events_hourly"
    assert first.summary["sluice.hour"] == "2024-04-07T17"
    assert int(first.summary["sluice.raw-files"]) == len(storage.list_raw(world.settings.lake_bucket, world.hour))
    assert int(first.summary["sluice.rows"]) == len(rows) == int(first.summary["added-records"])
    of_run = partial(snapshots_of_run, world.settings, "events", run_id="late__2024-04-07T17__first")
    assert [each["snapshot"] for each in of_run(dag_id="events_hourly")] == [str(first.snapshot_id)]
    assert of_run(dag_id="events_ingest") == [], "a run of another Dag with the same id"
    world.put_event(uuid_of(7), world.hour.timestamp())
    world.process_late(world.ingest("second"))
    assert reading.read("events", as_of=first.snapshot_id).num_rows == len(rows)
    assert len(world.curated(world.hour)) == len(rows) + 1


def test_readers_see_one_whole_snapshot_while_others_are_published(world: Any) -> None:
    """Each snapshot holds one event more than the one before: any other number of events is not whole."""
    publications = 6
    world.put_event(uuid_of(0), world.hour.timestamp())
    world.ingest("ingest")
    world.process("publish-0", world.hour)
    (first,) = storage.list_raw(world.settings.lake_bucket, world.hour)
    table = pq.read_table(io.BytesIO(s3.read_object(world.settings.lake_bucket, first.key).body))
    (row,) = table.to_pylist()

    def arrive(number: int) -> None:
        """One more raw file, as an ingest would leave it."""
        file = io.BytesIO()
        added = row | {"event_uuid": uuid_of(number), "sequence_number": str(number)}
        pq.write_table(pa.Table.from_pylist([added], table.schema), file)
        s3.write_object(world.settings.lake_bucket, f"{first.key[:-8]}-{number}.parquet", file.getvalue())

    done = threading.Event()
    seen: list[set[int]] = []

    def read() -> None:
        while not done.is_set():
            rows = world.curated(world.hour)
            seen.append({UUID(row["event_uuid"]).int for row in rows})
            assert len(rows) == len(seen[-1])

    expected = [{UUID(uuid_of(number)).int for number in range(size)} for size in range(1, publications + 2)]
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(1, publications + 1):
                arrive(number)
                world.process(f"publish-{number}", world.hour)
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert all(uuids in expected for uuids in seen)
    assert len({len(uuids) for uuids in seen}) > 2, "the readers hardly read while it was published"
    assert len(world.curated(world.hour)) == publications + 1


def test_an_hour_whose_raw_files_expired_is_left_as_it_is(world: Any) -> None:
    world.put(40, seed=1)
    world.process_late(world.ingest("first"))
    keys = [file.key for file in storage.list_raw(world.settings.lake_bucket, world.hour)]
    s3.delete_objects(world.settings.lake_bucket, keys[:1])
    with pytest.raises(RawDataGone, match=r"published from 4 raw files and only 3 are left"):
        steps.register_partition("again", world.hour)
    world.assert_each_event_curated_once()


@pytest.mark.parametrize("operation", ["UpdateItem", "PutItem", "UpdateTable", "DeleteItem", "CopyObject"])
def test_an_answer_that_gets_lost_does_not_fail_a_publish(world: Any, faults: FaultInjection, operation: str) -> None:
    world.put(40, seed=1)
    world.ingest("ingest")
    steps.register_partition("run", world.hour)
    steps.dedup("run")
    faults.inject("drop", operation=operation, every=1, times=1)
    steps.publish_hour("run", lambda: world.now)
    assert faults.injected() == 1
    faults.clear()
    world.assert_each_event_curated_once()
    assert len(snapshots()) == 1
    assert world.ingest("next") == []


def test_a_file_that_is_no_parquet_names_itself(world: Any) -> None:
    key = f"{storage.RAW_PREFIX}{storage.hour_partition(world.hour)}stray.parquet"
    s3.write_object(world.settings.lake_bucket, key, b"not parquet at all")
    with pytest.raises(glue.CatalogError, match=r"stray\.parquet is not a parquet file"):
        steps.register_partition("run", world.hour)


def test_a_run_without_an_hour_says_how_to_give_one() -> None:
    with pytest.raises(steps.NoHour, match="--conf"):
        steps.hour_to_process(None, None)
    with pytest.raises(steps.NoHour, match="seventeen"):
        steps.hour_to_process(None, {"hour": "seventeen"})


def test_the_hour_that_was_asked_for_comes_before_the_logical_date(world: Any) -> None:
    asked = {"hour": "2024-04-07T23:12:00+05:30"}
    assert steps.hour_to_process(datetime.fromisoformat("2026-01-01T00:00:00+00:00"), asked) == world.hour
    assert steps.hour_to_process(world.hour, {"hour": None}) == world.hour


def test_more_late_hours_than_one_run_asks_for_wait_for_the_next(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LATE_HOURS_MAX", 2)
    world.put(60, seed=1, hours=3)
    first, second = world.ingest("first"), world.ingest("second")
    assert [each["conf"]["hour"][11:13] for each in [*first, *second]] == ["17", "18", "19"]
