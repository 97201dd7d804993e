"""A worker crashes between any two of its writes: the next run leaves every message stored and every rate right."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import botocore.client
import pytest

from modules_world import World
from sluice.aws import sns
from sluice.pipelines.modules.records import parse_message
from sluice_dev.samples.modules import Fleet, generate

READS = ("Get", "List", "Head", "Describe", "Query", "Scan", "BatchGet")
"""All else leaves something behind; to receive a message does."""


class Killed(BaseException):
    """The worker is gone; no code of it gets to handle this, and no thread of it writes any more."""


@pytest.fixture
def lives_beyond(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Run a function in a worker that is killed just before its Nth write to AWS; whether it lived to the end."""

    def run(write: int, work: Callable[[], object]) -> bool:
        lock = threading.Lock()
        writes = 0
        base: Any = botocore.client.BaseClient
        call = base._make_api_call

        def counted(self: Any, operation_name: str, api_params: Any) -> Any:
            nonlocal writes
            if not operation_name.startswith(READS):
                with lock:
                    writes += 1
                    if writes >= write:
                        raise Killed
            return call(self, operation_name, api_params)

        with monkeypatch.context() as dying:
            dying.setattr(botocore.client.BaseClient, "_make_api_call", counted)
            try:
                work()
            except Killed:
                return False
        return True

    return run


def test_a_run_killed_at_any_write_loses_no_message_and_publishes_no_wrong_rate(
    world: World, lives_beyond: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sns, "BATCH_SIZE", 2)
    truth: dict[tuple[str, int], float] = {}
    heard: Counter[tuple[str, int, float]] = Counter()
    messages: set[tuple[str, int]] = set()
    unrecorded = 0
    for write in count(1):
        (week,) = generate(Fleet(modules=3, weeks=1, attempts=4, duplicates=0.1, malformed=0.1, seed=write))
        world.publish(world.messages_arn, [each.body for each in week.messages])
        world.publish(world.diagnostics_arn, [each.body for each in week.diagnostics])
        truth |= week.rates
        messages |= {parse_message(each.body) for each in week.messages if each.kind != "malformed"}
        lived = lives_beyond(write, lambda write=write: world.run(f"killed-{write}"))
        world.redeliver()
        again = bool(world.run(f"next-{write}"))
        assert not (lived and again)
        # All is published and deleted before the last write, which records it in staging.
        unrecorded += not lived and not again
        assert unrecorded <= 3, "runs have a few writes more or less, but only one after the publication"
        assert world.unfinished() == (0, 0)
        heard.update(world.published())
        assert world.rates() == truth
        assert {(module_id, timestamp): rate for module_id, timestamp, rate in heard} == truth
        assert len(heard) == len(truth), "two rates of one diagnostic were published"
        if lived:
            break
    assert write > 20, "a run has more writes than this: the test does not kill it at each"
    assert world.stored() == messages
    rows = Counter((row["module"], int(row["timestamp"]), row["success_rate"]) for row in world.rate_rows())
    assert rows.keys() == heard.keys(), "each published rate is a row"
    assert max(rows.values()) == 2, "again by the run that took over"
    # Only what was published and not noted comes again: two batches of two, each killed before one of two notes.
    assert max(heard.values()) == 2
    assert sum(heard.values()) - len(heard) <= 8


def test_a_step_that_is_tried_again_after_it_was_killed_publishes_what_is_left(
    world: World, lives_beyond: Callable[..., bool]
) -> None:
    from sluice.pipelines.modules import steps

    truth = world.send_fleet(Fleet(modules=25, weeks=1, duplicates=0, seed=8))
    collected = steps.collect("run")
    steps.store("run")
    steps.compute_rates("run")
    assert not lives_beyond(20, lambda: steps.publish_rates("run", collected))
    assert steps.publish_rates("run", collected)["rates"] == 25
    heard = world.published()
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in heard} == truth
    # What was noted was not published again.
    assert len(heard) < 2 * 25
    assert world.unfinished() == (0, 0)
