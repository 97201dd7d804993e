"""A worker that is killed between any two of its writes: the next run leaves every record published exactly once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from accommodations_world import a_record
from sluice.accommodations import steps, storage
from sluice.aws import client
from sluice.lake import StagingExpired

pytestmark = pytest.mark.timeout(600)


def test_consolidate_killed_at_any_write_loses_and_doubles_nothing(
    world: Any, run_until_write: Callable[[int, str], bool]
) -> None:
    published: list[tuple[str, str]] = []
    for write in count(1):
        number = f"{write:03d}"
        world.drop(f"{number}-a.jsonl", [a_record(number, "A", number), a_record("same", "T", number), {"bad": write}])
        world.drop(f"{number}-t.jsonl", [a_record(number, "T")])
        published += [(number, "A"), ("same", "T")]
        shown = world.current() if write > 1 else {}
        lived = run_until_write(write, f"killed-{number}")
        before = world.outputs()
        if write > 1:
            assert world.current() in (shown, shown | {number: ("A", number), "same": ("T", number)})
        redeliver_all(world, f"killed-{number}")
        world.consolidate(f"next-{number}")
        after = world.outputs()
        assert {key: after[key] for key in before} == before, "what a reader saw has changed"
        assert sorted(world.published()) == sorted(published)
        assert world.current() == {name: ("A", name) for name, _ in published if name != "same"} | {
            "same": ("T", number)
        }
        assert len(world.quarantined()) == write
        redeliver_all(world, f"next-{number}")
        assert world.unfinished() == 0
        assert storage.read_catalogue(world.settings.accommodations_ledger_table).announced is None
        if lived:
            break
    assert write > 15, "a run has more writes than this: the test does not kill it at each"


def redeliver_all(world: Any, run: str) -> None:
    """Let the messages of a run come again, also where it died before it wrote down which they are."""
    if world.keys(f"staging/accommodations/{run}/collected.json"):
        world.redeliver(run)
    elif run.startswith("killed"):
        client("sqs").purge_queue(QueueUrl=world.queue_url)
        prefix = "accommodations/year=2026/month=11/day=21/"
        world.send(*(world.event(f"{prefix}{run[-3:]}-{partner}.jsonl") for partner in "at"))


def test_a_run_that_yields_to_another_loses_nothing(world: Any) -> None:
    world.drop("a.jsonl", [a_record("1", "A")])
    steps.collect("slow", world.clock)
    world.drop("b.jsonl", [a_record("2", "A")])
    steps.consolidate("slow", world.clock)
    assert world.consolidate("quick")["published"] == 1
    with pytest.raises(storage.BatchTaken, match="its messages come back"):
        steps.publish("slow", world.clock)
    world.redeliver("slow")
    assert world.consolidate("again")["published"] == 1
    assert world.published() == [("2", "A"), ("1", "A")]
    assert sorted(world.current()) == ["1", "2"]


def test_two_that_publish_one_batch_at_once_end_in_the_same(world: Any) -> None:
    world.drop("a.jsonl", [a_record("1", "A"), {"bad": 1}])
    steps.collect("run", world.clock)
    steps.consolidate("run", world.clock)
    table = world.settings.accommodations_ledger_table
    announcement = storage.announce(table, "run", 0, 1, world.clock())
    assert announcement
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda run: steps.publish(run, world.clock), ["run", "run"]))
    assert world.published() == [("1", "A")]
    assert len(world.quarantined()) == 1
    assert world.unfinished() == 0
    assert steps.publish("run", world.clock)["published"] == 1
    assert len(world.outputs()) == 1


def test_names_of_outputs_are_never_used_again_where_the_clock_stands_still(world: Any) -> None:
    now = world.now
    for number in range(3):
        world.drop(f"{number}.jsonl", [a_record(str(number), "A")])
        run = f"run-{number}"
        for step in world.consolidate_steps:
            getattr(steps, step)(run, lambda: now)
    assert len(world.outputs()) == 3
    assert world.published() == [("0", "A"), ("1", "A"), ("2", "A")]


def test_an_announced_batch_whose_staging_is_gone_says_what_to_do(world: Any) -> None:
    storage.announce(world.settings.accommodations_ledger_table, "lost", 0, 1, world.now)
    with pytest.raises(StagingExpired, match="remove attribute `announced`"):
        world.consolidate()
