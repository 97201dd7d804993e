"""A run is killed before each of its writes: its retry and the next run lose nothing and publish nothing twice."""

from __future__ import annotations

import contextlib
from itertools import count

import pytest

from killed_worker import KilledWorker
from promises import keeps
from promises.subject import RANGE, Promise, Subject


@keeps(Promise.KILLS)
@pytest.mark.timeout(600)
def test_a_run_killed_before_any_write_loses_and_doubles_nothing(subject: Subject, killed_worker: KilledWorker) -> None:
    for write in count(1):
        before = subject.expected(subject.delivered)
        # Two of a group one after the other, and a range for every two, so that runs do not grow.
        subject.deliver(RANGE * (write // 2) + 2 + write % 2, bad=True)
        after = subject.expected(subject.delivered)
        killed, following = f"killed-{write}", f"next-{write}"
        lived = killed_worker.run(subject, killed, write)
        seen = subject.published()
        for view in subject.whole:
            assert seen[view] in (before[view], after[view]), f"write {write}: a reader saw a part of a run"
        assert seen == after or subject.unfinished() or not subject.queues, f"write {write}: the messages are gone"
        subject.redeliver()
        # The task of the killed run is retried before the next run, or too late.
        if write % 2 or subject.reads_anew:
            subject.retry(killed)
            subject.redeliver()
            subject.next_run(following)
        else:
            subject.next_run(following)
            assert subject.published() == after, f"write {write}: the next run has not completed it"
            subject.redeliver()
            with contextlib.suppress(*subject.yields):
                subject.retry(killed)
        subject.redeliver()
        assert subject.published() == subject.expected(subject.delivered), f"write {write}"
        assert subject.unfinished() == 0, f"write {write}"
        rejected = {(row["source"], row["record"]) for row in subject.quarantined()}
        assert len(rejected) == subject.bad_records, f"write {write}"
        if lived:
            break
    assert write > subject.fewest_writes, "a run has more writes than this: the test does not kill it at each"
    subject.settle()
