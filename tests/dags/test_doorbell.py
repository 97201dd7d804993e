"""The doorbell rings when work waits, and leaves the work to the Dag."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string

from dockerhub_account import DockerHubAccount
from sluice import sqs
from sluice.aws import client
from sluice.environment import aws_connection
from sluice_airflow import doorbell
from sluice_airflow.doorbell import QueueDepthTrigger

POLL_SECONDS = 10.0
RING_AGAIN_SECONDS = 60.0


class Looks:
    """Time that passes only between two looks of the trigger; each test says what happens there."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.between: list[Callable[[], None]] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if not self.between:
            raise StopLooking
        self.between.pop(0)()


class StopLooking(Exception):
    """The test has seen enough."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks = Looks()
    monkeypatch.setattr(doorbell, "time", looks)
    monkeypatch.setattr(doorbell, "asyncio", looks)
    return looks


@pytest.fixture
def trigger(account: DockerHubAccount, monkeypatch: pytest.MonkeyPatch) -> QueueDepthTrigger:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(account.settings))
    return QueueDepthTrigger(
        account.settings.dockerhub_queue, poll_seconds=POLL_SECONDS, ring_again_seconds=RING_AGAIN_SECONDS
    )


def rings(trigger: QueueDepthTrigger, looks: Looks, *between: Callable[[], None]) -> list[tuple[float, int]]:
    """When it rang (seconds since its first look) and for how many messages, while this happened between its looks."""
    looks.between = list(between)
    start = looks.now
    heard: list[tuple[float, int]] = []

    async def listen() -> None:
        events: AsyncIterator[Any] = trigger.run()
        async for event in events:
            assert event.payload["queue"] == trigger.queue_name
            heard.append((looks.now - start, event.payload["depth"]))

    with pytest.raises(StopLooking):
        asyncio.run(listen())
    return heard


def nothing() -> None:
    """Nothing happens between two looks."""


def test_it_is_silent_while_the_queue_is_empty(trigger: QueueDepthTrigger, looks: Looks) -> None:
    assert rings(trigger, looks, *[nothing] * 20) == []


def test_it_rings_once_when_a_message_is_there_and_then_waits_for_the_dag(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    heard = rings(trigger, looks, nothing, lambda: account.send("a", "b"), nothing, nothing, lambda: account.send("c"))
    assert heard == [(20.0, 2)]


def test_a_message_that_was_there_before_it_started_is_heard_of_at_once(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    account.send("a")
    assert rings(trigger, looks) == [(0.0, 1)]


def test_it_rings_anew_for_what_comes_after_the_queue_was_drained(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    heard = rings(
        trigger,
        looks,
        lambda: account.send("a"),
        lambda: sqs.drain(account.queue_url, 10),  # type: ignore[arg-type, return-value]
        lambda: account.send("b"),
    )
    assert heard == [(10.0, 1), (30.0, 1)]


def test_it_rings_again_for_messages_that_no_run_has_taken(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    account.send("a")
    assert rings(trigger, looks, *[nothing] * 13) == [(0.0, 1), (60.0, 1), (120.0, 1)]


def test_it_never_receives_so_the_dag_gets_each_message_at_its_first_delivery(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    account.send("a")
    rings(trigger, looks, *[nothing] * 30)
    assert account.waiting() == 1
    answer = client("sqs").receive_message(
        QueueUrl=account.queue_url, MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )
    assert answer["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "1"


def test_a_queue_that_is_not_there_is_an_error_that_the_triggerer_sees(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    trigger.queue_name = "no-such-queue"

    async def listen() -> None:
        await anext(trigger.run())

    with pytest.raises(Exception, match=r"NonExistentQueue|QueueDoesNotExist"):
        asyncio.run(listen())


def test_it_rings_only_when_so_many_wait_as_it_was_told(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    trigger.ring_depth = 3

    def send_one() -> None:
        account.send("one")

    heard = rings(trigger, looks, send_one, send_one, send_one)
    assert heard[0] == (3 * POLL_SECONDS, 3)


def test_the_triggerer_can_make_it_anew_from_what_it_stored() -> None:
    path, arguments = QueueDepthTrigger("queue", 2.0, 40.0, "other", 7).serialize()
    again = import_string(path)(**arguments)
    assert type(again) is QueueDepthTrigger
    assert again.serialize() == (path, arguments)
    assert (again.queue_name, again.poll_seconds, again.ring_again_seconds) == ("queue", 2.0, 40.0)
    assert (again.aws_conn_id, again.ring_depth) == ("other", 7)


def test_the_dag_watches_the_queue_that_the_bucket_fills(dags: dict[str, Any], account: DockerHubAccount) -> None:
    from airflow.models.dagrun import DagRun  # noqa: F401 - the models must know of each other first

    (asset,) = dags["dockerhub_aggregate"].timetable.asset_condition.objects
    (watcher,) = asset.watchers
    assert watcher.trigger.queue_name == "sluice-dev-dockerhub-raw"
