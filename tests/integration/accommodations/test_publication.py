"""Publications of a batch that meet a lost answer, another worker, or tables that someone rolled back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from accommodations_world import a_record
from embedded_aws import FaultInjection
from sluice.aws import dynamodb
from sluice.aws.tables import commits, reading
from sluice.aws.tables.definitions import TableDefinition
from sluice.lake import StagingExpired
from sluice.pipelines.accommodations import catalogue, publication, steps, storage


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


def test_the_next_run_completes_a_batch_abandoned_between_its_commits(
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


def test_a_catalogue_without_a_usable_partner_is_computed_only_once(world: Any) -> None:
    world.prioritise(["Z"])
    world.drop("a.jsonl", [a_record("1", "A")])
    world.consolidate("one")
    world.prioritise(["Y"])
    world.consolidate("listed")
    assert world.consolidate("next") == {}
    world.prioritise(["A"])
    world.consolidate("again")
    assert world.current() == {"1": ("A", "Hotel")}


def test_names_of_outputs_are_not_reused_while_the_clock_stands_still(world: Any) -> None:
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
