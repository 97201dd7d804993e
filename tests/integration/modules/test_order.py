"""A diagnostic is judged after all messages that were queued before it are stored, for any outcome of their run."""

from __future__ import annotations

import pytest

from embedded_aws import FaultInjection, use_settings
from modules_world import World, send_raw
from sluice.aws import sqs
from sluice.aws.sessions import client
from sluice.pipelines.modules import steps


def released(world: World, queue_url: str) -> None:
    """Let the messages that a crashed run received be delivered again."""
    world.redeliver()
    assert sqs.queue_depth(queue_url) > 0


def test_a_diagnostic_waits_while_messages_of_a_dead_run_are_in_flight(world: World) -> None:
    world.message("a", 1, 2)
    assert steps.collect("dies")["messages"] == 2
    world.diagnostic("a", 10, 4)
    for number in range(20):
        assert world.run(f"waits-{number}") == {}
    # It was not received meanwhile: each receive counts towards the dead-letter limit.
    assert sqs.queue_depth(world.diagnostics_url) == 1
    released(world, world.messages_url)
    assert world.run("next")["rates"] == 1
    assert world.published() == [("a", 10, 50.0)]


def test_other_messages_are_stored_while_a_diagnostic_waits(world: World) -> None:
    world.message("a", 1)
    steps.collect("dies")
    world.diagnostic("a", 10, 4)
    world.message("b", 1)
    assert world.run("waits") == {"records_in": 1, "published": 1, "duplicates": 0, "quarantined": 0, "rates": 0}
    assert world.stored() == {("b", 1)}


def test_the_limit_of_a_run_lets_no_diagnostic_overtake_its_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(world, monkeypatch, 20)
    world.message("a", *range(1, 51))
    world.diagnostic("a", 100, 100)
    for stored in (20, 40):
        assert world.run(f"run-{stored}")["rates"] == 0
        assert len(world.stored()) == stored
        assert sqs.queue_depth(world.diagnostics_url) == 1, "a diagnostic that must wait was received"
    assert world.run("last")["rates"] == 1
    assert world.published() == [("a", 100, 50.0)]


def limited(world: World, monkeypatch: pytest.MonkeyPatch, messages: int) -> None:
    values = world.settings.model_dump(
        include={"target", "environment", "home", "aws_port", "aws_account_id", "lake_bucket"}
    )
    world.settings = use_settings(monkeypatch, **values, modules_max_messages=messages)


def test_after_a_timed_out_drain_no_diagnostic_overtakes_its_messages(
    world: World, monkeypatch: pytest.MonkeyPatch, faults: FaultInjection
) -> None:
    world.message("a", *range(1, 31))
    world.diagnostic("a", 100, 60)
    faults.inject("latency", service="sqs", operation="ReceiveMessage", latency_seconds=0.1)
    with monkeypatch.context() as slow:
        slow.setattr(sqs, "DRAIN_MAX_SECONDS", 0.05)
        assert world.run("slow")["rates"] == 0
    assert 0 < len(world.stored()) < 30
    assert sqs.queue_depth(world.diagnostics_url) == 1, "a diagnostic that must wait was received"
    faults.clear()
    assert world.run("next")["rates"] == 1
    assert world.published() == [("a", 100, 50.0)]


@pytest.fixture
def when_drained(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What happens just after a queue was drained: queue URL -> a function."""
    then: dict[str, object] = {}
    drain = sqs.drain

    def drain_and_then(url: str, *arguments: object, **options: object) -> sqs.Drained:
        found = drain(url, *arguments, **options)  # type: ignore[arg-type]
        if callable(happens := then.pop(url, None)):
            happens()
        return found

    monkeypatch.setattr(sqs, "drain", drain_and_then)
    return then


def test_a_diagnostic_waits_while_a_concurrent_run_has_messages_in_flight(
    world: World, when_drained: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "HOLD_SECONDS", 0)
    world.message("a", 1)
    world.diagnostic("a", 10, 4)
    taken: list[sqs.Message] = []

    def come_and_are_taken() -> None:
        world.message("a", 2, 3)
        taken.extend(sqs.drain(world.messages_url, 2, wait_seconds=0).messages)

    when_drained[world.diagnostics_url] = come_and_are_taken
    assert world.run("held")["rates"] == 0
    assert len(taken) == 2
    assert world.published() == []
    sqs.hold_back(world.messages_url, [each.receipt_handle for each in taken], 0)
    assert world.run("next")["rates"] == 1
    assert world.published() == [("a", 10, 75.0)]


def test_a_diagnostic_waits_if_too_many_messages_arrive_meanwhile(
    world: World, when_drained: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "HOLD_SECONDS", 0)
    limited(world, monkeypatch, 20)
    world.message("a", 1)
    world.diagnostic("a", 100, 100)
    when_drained[world.diagnostics_url] = lambda: world.message("a", *range(2, 26))
    assert world.run("held")["rates"] == 0
    assert world.run("next")["rates"] == 1
    assert world.published() == [("a", 100, 25.0)]


def test_messages_that_arrive_while_diagnostics_drain_delay_nothing(
    world: World, when_drained: dict[str, object]
) -> None:
    world.message("a", 1)
    world.diagnostic("a", 10, 4)

    def come_meanwhile() -> None:
        world.message("a", 2)
        when_drained[world.messages_url] = lambda: world.message("a", 3)

    when_drained[world.diagnostics_url] = come_meanwhile
    assert world.run("run")["rates"] == 1
    assert world.published() == [("a", 10, 50.0)]


def test_more_diagnostics_than_a_run_takes_are_left_to_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(world, monkeypatch, 10)
    bodies = [f'{{"moduleId": "m{number}", "timestamp": 5, "attempts": 1}}' for number in range(25)]
    send_raw(world.diagnostics_url, bodies)
    assert [world.run(f"run-{number}")["rates"] for number in range(3)] == [10, 10, 5]
    assert len(world.published()) == 25


def test_a_drain_that_must_be_sure_ends_with_an_empty_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQS may count what it has only later: the count must not decide whether messages are left.
    world.message("a", 1, 2, 3)
    world.diagnostic("a", 10, 4)
    receive, asked = client("sqs").receive_message, 0

    def one_at_a_time(**arguments: object) -> object:
        nonlocal asked
        asked += 1
        return receive(**(arguments | {"MaxNumberOfMessages": 1}))  # type: ignore[arg-type]

    monkeypatch.setattr(client("sqs"), "receive_message", one_at_a_time)
    monkeypatch.setattr(sqs, "queue_depth", lambda _: 0)
    steps.collect("run")
    assert asked == 1 + 4
