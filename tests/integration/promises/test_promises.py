"""What every Dag that publishes promises: docs/guarantees.md. Kills of a run are in test_kills.py.

Records 2 and 3 compete; see `promises.subject`.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from account_contents import everything
from promises import keeps
from promises.subject import Promise, Subject
from sluice.aws import s3
from sluice.lake import StagingExpired
from sluice.monitoring.pipelines import instead_of_expired


@keeps(Promise.DUPLICATES)
def test_a_record_that_is_delivered_again_is_published_once(subject: Subject) -> None:
    subject.deliver(2, 3)
    subject.send_again(2)
    subject.run("first")
    assert subject.published() == subject.expected([2, 3])
    for number in (2, 3):
        subject.send_again(number)
    subject.next_run("again")
    assert subject.published() == subject.expected([2, 3])
    assert subject.unfinished() == 0
    subject.settle()


@keeps(Promise.LATE)
def test_an_older_record_that_arrives_late_takes_its_place(subject: Subject) -> None:
    arrive = subject.deliver_late(2)
    subject.deliver(3)
    subject.run("first")
    arrive()
    subject.next_run("late")
    assert subject.published() == subject.expected([2, 3])
    assert subject.unfinished() == 0
    subject.settle()


@keeps(Promise.POISON)
@pytest.mark.timeout(120)
def test_a_bad_record_is_quarantined_and_the_others_are_published(subject: Subject) -> None:
    subject.deliver(2, bad=True)
    subject.deliver(4)
    subject.send_again(2)
    assert subject.run("run", gated=True) == subject.batch_tally
    assert subject.published() == subject.expected([2, 4])
    (rejected,) = subject.quarantined()
    assert rejected["source"]
    assert rejected["reason"]
    assert rejected["record"]
    assert subject.unfinished() == 0


@keeps(Promise.RETRIES)
def test_a_task_that_runs_twice_changes_nothing_the_second_time(subject: Subject) -> None:
    subject.deliver(2, bad=True)
    subject.deliver(4)
    for name in subject.steps:
        now = subject.now
        returned = subject.step(name, "run")
        seen = everything()
        if name == subject.steps[0]:
            subject.redeliver()
        subject.now = now
        assert subject.step(name, "run") == returned
        assert everything() == seen, name
    assert subject.published() == subject.expected([2, 4])
    assert subject.unfinished() == 0


@keeps(Promise.CLEARS)
def test_cleared_tasks_of_a_published_run_change_nothing(subject: Subject) -> None:
    subject.deliver(2)
    subject.run("run")
    returned = subject.returned("run", subject.publishes)
    subject.deliver(3)
    subject.run("later")
    seen = everything()
    # The publication alone, as it is cleared most; the tasks from the second on; all.
    assert subject.step(subject.publishes, "run") == returned
    tasks = subject.steps[1 : subject.steps.index(subject.publishes) + 1]
    for name in tasks:
        subject.step(name, "run")
        assert everything() == seen, name
    subject.run("run")
    assert subject.published() == subject.expected([2, 3])
    seen = everything()

    bucket, prefix = subject.settings.lake_bucket, f"staging/{subject.pipeline}/{subject.run_name('run')}/"
    s3.delete_objects(bucket, list(s3.list_keys(bucket, prefix)))
    for name in tasks:
        with pytest.raises(StagingExpired) as raised:
            subject.step(name, "run")
        assert f"s3://{bucket}/{prefix}" in str(raised.value)
        assert subject.dag_id in (raised.value.instead or instead_of_expired(subject.settings, raised.value.key))
    assert everything() == seen


@keeps(Promise.TWO_RUNS)
def test_a_run_that_another_one_overtakes_neither_loses_nor_doubles(subject: Subject) -> None:
    subject.deliver(2)
    subject.start("slow")
    subject.redeliver()
    subject.deliver(3)
    subject.run("fast")
    newest = subject.published()
    with contextlib.suppress(*subject.yields):
        subject.finish("slow")
    seen = subject.published()
    assert all(seen[view] == newest[view] for view in subject.whole), "an older view took the place of a newer one"
    subject.redeliver()
    subject.next_run("next")
    assert subject.published() == subject.expected([2, 3])
    assert subject.unfinished() == 0
    subject.settle()


@keeps(Promise.TWO_RUNS)
def test_two_runs_that_publish_at_the_same_moment_end_as_one(subject: Subject) -> None:
    subject.deliver(2, 3)
    for run in ("one", "two"):
        subject.start(run)
        subject.redeliver()
    barrier = threading.Barrier(2)

    def finish(run: str) -> Any:
        barrier.wait()
        with contextlib.suppress(*subject.yields):
            return subject.finish(run)

    with ThreadPoolExecutor(2) as pool:
        assert any(pool.map(finish, ["one", "two"])), "each left the work to the other"
    subject.redeliver()
    subject.next_run("next")
    assert subject.published() == subject.expected([2, 3])
    assert subject.unfinished() == 0
    subject.settle()
