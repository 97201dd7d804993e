"""A day of events published again from its raw files, concurrently with other publications of its hours."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sluice.aws import s3
from sluice.aws.tables import reading
from sluice.core.quality import GateFailed
from sluice.core.run import Run
from sluice.pipelines.events import dirty_hours, rebuild, storage
from sluice.pipelines.events.batch import PreparedHour
from sluice.pipelines.events.hourly import RawDataGone
from sluice.settings import load_settings

pytestmark = pytest.mark.timeout(600)


def snapshots() -> list[Any]:
    return list(reading.history("events"))


def uuid_of(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def hours_of_a_day(world: Any, hours: int = 3, **more: Any) -> None:
    world.put(90, seed=1, hours=hours, duplicates=0.2, malformed=0.1, **more)
    world.now = world.hour + timedelta(hours=hours + 10)


def test_a_day_is_published_by_one_commit_with_every_event_once(world: Any) -> None:
    hours_of_a_day(world)
    world.ingest("first")
    tally = world.rebuild("run")
    world.assert_each_event_curated_once()
    (snapshot,) = snapshots()
    assert tally["published"] == len(world.truth)
    assert tally["snapshots"] == {"events": str(snapshot.snapshot_id)}
    assert (snapshot.summary["sluice.dag"], snapshot.summary["sluice.rows"]) == (
        "events_rebuild",
        str(len(world.truth)),
    )
    assert world.ingest("second") == [], "no hour of the day is late any more"


def test_a_day_that_its_hours_published_already_changes_nothing(world: Any) -> None:
    hours_of_a_day(world)
    world.process_late(world.ingest("first"))
    before = snapshots()
    assert world.rebuild("run")["published"] == len(world.truth)
    assert snapshots() == before
    # And the other way round: a run of an hour does not change rows of a rebuild.
    world.process("hour", world.hour)
    assert snapshots() == before


def test_only_the_hour_that_late_events_came_for_is_replaced(world: Any) -> None:
    hours_of_a_day(world)
    world.process_late(world.ingest("first"))
    world.put_event(uuid_of(1), (world.hour + timedelta(hours=1)).timestamp() + 5)
    world.ingest("second")
    world.rebuild("run")
    assert uuid_of(1) in {row["event_uuid"] for row in world.curated(world.hour + timedelta(hours=1))}
    assert snapshots()[0].summary["added-data-files"] == "1"


def test_an_hour_published_meanwhile_stays_and_is_processed_again(world: Any) -> None:
    hours_of_a_day(world)
    world.ingest("first")
    rebuild.dedup_day("day", world.day, lambda: world.now)
    world.put_event(uuid_of(1), world.hour.timestamp() + 5)
    world.ingest("second")
    world.process("hour", world.hour)
    tally = rebuild.publish_day("day", lambda: world.now)
    others = sum(hour != world.hour for hour in world.truth.values())
    assert tally["published"] == others, "what the other run published is not counted"
    assert uuid_of(1) in {row["event_uuid"] for row in world.curated(world.hour)}, "the newer publication was lost"
    asked = {each["conf"]["hour"]: each for each in world.ingest("third")}
    assert "at the same time" in asked[world.hour.isoformat()]["note"]
    world.process_late(list(asked.values()))
    assert world.curated(world.hour + timedelta(hours=1)), "the other hours of the day were published"
    assert uuid_of(1) in {row["event_uuid"] for row in world.curated(world.hour)}


def test_events_that_come_while_a_day_is_rebuilt_leave_their_hour_marked(world: Any) -> None:
    hours_of_a_day(world)
    world.ingest("first")
    rebuild.dedup_day("day", world.day, lambda: world.now)
    world.put_event(uuid_of(1), world.hour.timestamp() + 5)
    world.ingest("second")
    rebuild.publish_day("day", lambda: world.now)
    table, stream = world.settings.events_hours_table, world.settings.events_stream
    assert dirty_hours.read_dirty_hour(table, stream, world.hour) is not None
    assert dirty_hours.read_dirty_hour(table, stream, world.hour + timedelta(hours=2)) is None
    world.now += timedelta(hours=13)
    world.process_late(world.ingest("third"))
    assert uuid_of(1) in {row["event_uuid"] for row in world.curated(world.hour)}


def test_a_day_that_is_not_over_is_refused(world: Any) -> None:
    world.now = world.day + timedelta(hours=23, minutes=59)
    with pytest.raises(rebuild.NoDay, match=r"2024-04-07 is not over: its hours are published by events_hourly"):
        rebuild.dedup_day("run", world.day, lambda: world.now)


def test_a_day_of_an_engine_outside_the_worker_names_the_other_dag(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_EVENTS_ENGINE", "glue")
    load_settings.cache_clear()
    with pytest.raises(rebuild.OtherEngine, match=r"--dag-id events_hourly --from-date 2024-04-07T00:00"):
        rebuild.dedup_day("run", world.day, lambda: world.now)


def test_a_day_without_events_publishes_nothing(world: Any) -> None:
    assert rebuild.dedup_day("run", world.day, lambda: world.now)["hours"] == 0
    assert rebuild.check_day("run") == {"gate": "events/hourly", "rows": 0}
    assert rebuild.publish_day("run")["records_in"] == 0
    assert snapshots() == []


def test_a_gate_that_fails_names_the_hour(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hours_of_a_day(world)
    world.ingest("first")
    rebuild.dedup_day("run", world.day, lambda: world.now)
    run = Run.of("events", "run")
    prepared = run.load(rebuild.PREPARED, list[PreparedHour])
    prepared[1].output.measures.counts["outside_hour"] = 3
    run.save(rebuild.PREPARED, prepared)
    with pytest.raises(GateFailed, match=r"hours: 2024-04-07T18$") as failed:
        rebuild.check_day("run")
    assert failed.value.report.startswith("s3://")


def test_a_day_whose_raw_files_are_gone_is_refused_whole(world: Any) -> None:
    hours_of_a_day(world)
    world.process_late(world.ingest("first"))
    first, *_ = storage.list_raw(world.settings.lake_bucket, world.hour)
    s3.delete_objects(world.settings.lake_bucket, [first.key])
    with pytest.raises(RawDataGone, match="2024-04-07T17 was published from"):
        rebuild.dedup_day("run", world.day, lambda: world.now)


def test_the_day_of_a_run_is_that_of_its_conf_or_its_date(world: Any) -> None:
    assert rebuild.day_to_process(world.hour, None) == world.day
    assert rebuild.day_to_process(None, {"day": "2024-04-07"}) == world.day
    with pytest.raises(rebuild.NoDay, match="write it like 2024-04-07"):
        rebuild.day_to_process(None, {"day": "soon"})
    with pytest.raises(rebuild.NoDay, match="--conf"):
        rebuild.day_to_process(None, {})
