"""A worker that is killed between any two of its writes: the next run leaves every event in its hour exactly once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from sluice.aws.tables import reading
from sluice.pipelines.events import dirty_hours

pytestmark = pytest.mark.timeout(600)


def test_ingest_killed_at_any_write_loses_and_doubles_no_record(
    world: Any, run_until_write: Callable[..., bool]
) -> None:
    for write in count(1):
        world.put(40, seed=write, duplicates=0.1, malformed=0.1)
        lived = run_until_write(write, world.ingest_steps, f"killed-{write}")
        world.ingest(f"next-{write}")
        world.assert_each_record_ingested_once()
        if lived:
            break
    assert write > 15, "an ingest has more writes than this: the test does not kill it at each"
    world.now += timedelta(hours=2)
    world.process_late(world.ingest("last"))
    world.assert_each_event_curated_once()


def test_hourly_killed_at_any_write_leaves_whole_snapshots_and_is_finished_by_the_next_run(
    world: Any, run_until_write: Callable[..., bool]
) -> None:
    hour = world.hour
    world.put(20, seed=0, duplicates=0.2)
    world.process_late(world.ingest("first"))
    unrecorded = 0
    for write in count(1):
        before = len(world.truth)
        world.put(20, seed=write, duplicates=0.2)
        late = world.ingest(f"late-{write}")
        assert [each["conf"]["hour"] for each in late] == [hour.isoformat()]
        lived = run_until_write(write, world.hourly_steps, late[0]["trigger_run_id"], hour)
        rows = world.curated(hour)
        assert len(rows) in (before, len(world.truth)), "a reader saw a part of an hour"
        # No one clears the run that was killed; the next ingest finds the hour unfinished and asks for it again.
        world.now += timedelta(hours=13)
        again = world.ingest(f"next-{write}")
        assert not (lived and again)
        # The hour is published before the last write, which records it in staging.
        unrecorded += not lived and not again
        assert unrecorded <= 3, "runs have a few writes more or less, but only one after the publication"
        world.process_late(again)
        world.assert_each_event_curated_once()
        assert (
            dirty_hours.read_dirty_hour(world.settings.events_hours_table, world.settings.events_stream, hour) is None
        )
        if lived:
            break
    for snapshot in reading.history("events"):
        reading.read("events", as_of=snapshot.snapshot_id)
    assert write > 8, "an hour has more writes than this: the test does not kill it at each"
