"""A worker that is killed between any two of its writes: the next run leaves every record published exactly once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from accommodations_world import a_record, published_by
from embedded_aws import FaultInjection
from sluice.aws import dynamodb
from sluice.aws.sessions import client
from sluice.aws.tables import commits, reading
from sluice.aws.tables.definitions import TableDefinition
from sluice.lake import StagingExpired
from sluice.pipelines.accommodations import catalogue, publication, steps, storage

pytestmark = pytest.mark.timeout(600)


KILLS_IN_ONE_LAKE = 8
"""So few that the runs read few files and snapshots of those before them."""


def test_consolidate_killed_at_any_write_loses_and_doubles_nothing(
    world: Any, run_until_write: Callable[[int, str], bool]
) -> None:
    published: list[tuple[str, str]] = []
    for write in count(1):
        number = f"{write:03d}"
        world.drop(f"{number}-a.jsonl", [a_record(number, "A", number), a_record("same", "T", number), {"bad": write}])
        world.drop(f"{number}-t.jsonl", [a_record(number, "T")])
        published += [(number, "A"), ("same", "T")]
        shown = world.current()
        lived = run_until_write(write, f"killed-{number}")
        before = world.outputs()
        assert world.current() in (shown, shown | {number: ("A", number), "same": ("T", number)})
        redeliver_all(world, f"killed-{number}")
        world.consolidate(f"next-{number}")
        after = world.outputs()
        assert {key: after[key] for key in before} == before, "what a reader saw has changed"
        assert sorted(published_by(after)) == sorted(published)
        assert world.current() == {name: ("A", name) for name, _ in published if name != "same"} | {
            "same": ("T", number)
        }
        assert len(world.quarantined()) == len(published) // 2
        redeliver_all(world, f"next-{number}")
        assert world.unfinished() == 0
        assert storage.read_catalogue(world.settings.accommodations_ledger_table).announced is None
        if lived or write % KILLS_IN_ONE_LAKE == 0:
            snapshots = reading.history(catalogue.CURRENT.name)
            assert len(snapshots) == len(reading.history(catalogue.CANDIDATES.name)) >= len(published) // 2
            for snapshot in snapshots:
                assert world.current(snapshot.snapshot_id)["same"][0] == "T", "readers of older snapshots can go on"
            world.empty()
            published.clear()
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
    steps.collect("slow")
    world.drop("b.jsonl", [a_record("2", "A")])
    steps.consolidate("slow")
    assert world.consolidate("quick")["published"] == 1
    with pytest.raises(storage.BatchTaken, match="its messages come back"):
        steps.publish("slow", world.clock)
    world.redeliver("slow")
    assert world.consolidate("again")["published"] == 1
    assert world.published() == [("2", "A"), ("1", "A")]
    assert sorted(world.current()) == ["1", "2"]


def test_two_that_publish_one_batch_at_once_end_in_the_same(world: Any) -> None:
    world.drop("a.jsonl", [a_record("1", "A"), {"bad": 1}])
    steps.collect("run")
    steps.consolidate("run")
    table = world.settings.accommodations_ledger_table
    announced = storage.announce_batch(table, "run", 0, 1, world.clock())
    assert announced
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda run: steps.publish(run, world.clock), ["run", "run"]))
    assert world.published() == [("1", "A")]
    assert len(world.quarantined()) == 1
    assert world.unfinished() == 0
    assert steps.publish("run", world.clock)["published"] == 1
    assert len(world.outputs()) == 1


def staged(world: Any, run: str, *records: Any) -> None:
    """A batch of a run that is about to be published."""
    world.drop(f"{run}.jsonl", records)
    world.step("collect", run)
    world.step("consolidate", run)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("kind", ["drop", "throttle"])
def test_a_commit_whose_answer_is_lost_or_refused_publishes_once(
    world: Any, faults: FaultInjection, kind: str, nth: int
) -> None:
    world.drop("before.jsonl", [a_record("1", "A", "old"), a_record("2", "A")])
    world.consolidate("before")
    staged(world, "run", a_record("1", "A", "new"))
    faults.inject(kind, service="glue", operation="UpdateTable", every=nth, times=1)
    assert world.step("publish", "run")["published"] == 1
    assert faults.injected() == 1
    assert world.current() == {"1": ("A", "new"), "2": ("A", "Hotel")}
    assert [len(reading.history(each.name)) for each in (catalogue.CANDIDATES, catalogue.CURRENT)] == [2, 2]
    assert world.consolidate("next") == {}


def test_a_batch_given_up_between_its_commits_is_in_the_catalogue_after_the_next_run(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop("before.jsonl", [a_record("1", "A", "old")])
    world.consolidate("before")
    staged(world, "lost", a_record("1", "A", "new"), a_record("2", "A"))
    replace = commits.replace

    def only_candidates(name: str, *args: Any, **more: Any) -> Any:
        if name == catalogue.CURRENT.name:
            raise InterruptedError
        return replace(name, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(commits, "replace", only_candidates)
        with pytest.raises(InterruptedError):
            world.step("publish", "lost")
    assert world.current() == {"1": ("A", "old")}
    table = world.settings.accommodations_ledger_table
    dynamodb.write(dynamodb.Update(table, storage.CATALOGUE, "REMOVE announced"))
    world.consolidate("next")
    assert world.current() == {"1": ("A", "new"), "2": ("A", "Hotel")}
    assert world.consolidate("after") == {}


@pytest.mark.parametrize("table", [catalogue.CANDIDATES, catalogue.CURRENT])
def test_a_table_rolled_back_while_a_batch_waits_is_merged_with_it_again(world: Any, table: TableDefinition) -> None:
    for number in (1, 2):
        world.drop(f"{number}.jsonl", [a_record(str(number), "A")])
        world.consolidate(f"before-{number}")
    staged(world, "run", a_record("3", "A"))
    reading.roll_back(table.name, reading.history(table.name)[1].snapshot_id)
    for _ in range(2):
        with pytest.raises(publication.TablesChanged, match="clear task consolidate of run run"):
            world.step("publish", "run")
    with pytest.raises(publication.TablesChanged) as raised:
        world.step("collect", "next")
    # Of the run that waits, not of the one that failed: no command of Airflow clears a task of a run without a date.
    assert raised.value.instead.startswith("in the web UI, clear task consolidate of run run of ")
    world.step("consolidate", "run")
    world.step("publish", "run")
    kept = ["1", "3"] if table is catalogue.CANDIDATES else ["1", "2", "3"]
    assert sorted(world.current()) == kept
    assert world.published() == [("1", "A"), ("2", "A"), ("3", "A")]
    assert world.consolidate("next") == {}


def test_a_catalogue_that_was_rolled_back_follows_its_candidates_again(world: Any) -> None:
    for number in (1, 2):
        world.drop(f"{number}.jsonl", [a_record(str(number), "A")])
        world.consolidate(f"before-{number}")
    reading.roll_back(catalogue.CURRENT.name, reading.history(catalogue.CURRENT.name)[1].snapshot_id)
    assert sorted(world.current()) == ["1"]
    world.consolidate("next")
    assert sorted(world.current()) == ["1", "2"]
    assert world.consolidate("after") == {}


def test_a_catalogue_without_a_usable_partner_is_not_computed_again_and_again(world: Any) -> None:
    world.prioritise(["Z"])
    world.drop("a.jsonl", [a_record("1", "A")])
    world.consolidate("one")
    world.prioritise(["Y"])
    world.consolidate("listed")
    assert world.consolidate("next") == {}
    world.prioritise(["A"])
    world.consolidate("again")
    assert world.current() == {"1": ("A", "Hotel")}


def test_names_of_outputs_are_never_used_again_where_the_clock_stands_still(world: Any) -> None:
    now = world.now
    for number in range(3):
        world.drop(f"{number}.jsonl", [a_record(str(number), "A")])
        run = f"run-{number}"
        steps.collect(run)
        steps.consolidate(run)
        steps.publish(run, lambda: now)
    assert len(world.outputs()) == 3
    assert world.published() == [("0", "A"), ("1", "A"), ("2", "A")]


def test_an_announced_batch_whose_staging_is_gone_says_what_to_do(world: Any) -> None:
    storage.announce_batch(world.settings.accommodations_ledger_table, "lost", 0, 1, world.now)
    with pytest.raises(StagingExpired, match="remove attribute `announced`"):
        world.consolidate()
