"""The doorbell starts its Dag when messages wait, and receives none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string

from dockerhub_account import DockerHubAccount
from embedded_aws import FaultInjection
from sluice.aws import sqs
from sluice.aws.sessions import client
from sluice.environment import aws_connection
from sluice.monitoring import runs
from sluice.monitoring.pipelines import pipelines
from sluice.settings import load_settings
from sluice_airflow import doorbell
from sluice_airflow.doorbell import QueueDepthTrigger

DAG_ID = "dockerhub_aggregate"
POLL_SECONDS = 10.0
SILENCE_SECONDS = 60.0
SILENCE_MAX_SECONDS = 300.0


class Looks:
    """Time that passes only between two polls of the trigger; each test defines what happens there."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.between: list[Callable[[], object]] = []

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
    name = account.settings.dockerhub_queue
    return QueueDepthTrigger(name, DAG_ID, POLL_SECONDS, SILENCE_SECONDS, SILENCE_MAX_SECONDS)


def rings(trigger: QueueDepthTrigger, looks: Looks, *between: Callable[[], object]) -> list[tuple[float, int]]:
    """When it rang (seconds since its first poll) and for how many messages, with these events between its polls."""
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


def processed(account: DockerHubAccount, messages: int) -> None:
    """A run of the Dag takes messages, processes them, and notes it."""
    taken = sqs.drain(account.queue_url, messages).messages
    sqs.delete(account.queue_url, [each.receipt_handle for each in taken])
    tally = {"records_in": messages, "published": messages, "duplicates": 0, "quarantined": 0}
    now = datetime.now(UTC)
    runs.record_success(account.settings.runs_table, DAG_ID, "run", started_at=now, at=now, tally=tally)


def nothing() -> None:
    """Nothing happens between two polls."""


def test_it_is_silent_while_the_queue_is_empty(trigger: QueueDepthTrigger, looks: Looks) -> None:
    assert rings(trigger, looks, *[nothing] * 20) == []


def test_it_rings_once_when_a_message_is_there_and_then_waits_for_the_dag(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    heard = rings(trigger, looks, nothing, lambda: account.send("a", "b"), nothing, nothing, lambda: account.send("c"))
    assert heard == [(20.0, 2)]


def test_it_rings_at_once_for_a_message_from_before_its_start(
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
        lambda: processed(account, 10),
        lambda: account.send("b"),
    )
    assert heard == [(10.0, 1), (30.0, 1)]


def test_it_rings_less_and_less_often_for_messages_that_no_run_processes(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    account.send("a")
    heard = rings(trigger, looks, *[nothing] * 130)
    assert [at for at, _ in heard] == [0.0, 60.0, 180.0, 420.0, 720.0, 1020.0]


def test_it_rings_at_once_for_the_rest_of_a_run_then_at_its_first_pace(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    account.send("a", "b", "c")
    between: list[Callable[[], None]] = [nothing] * 50
    between[20] = lambda: processed(account, 1)
    heard = rings(trigger, looks, *between)
    # Nothing happens after the second ring, at 60; a run takes one message before the look at 210.
    assert heard[:5] == [(0.0, 3), (60.0, 3), (180.0, 3), (210.0, 2), (270.0, 2)]


def test_it_is_patient_no_longer_once_the_queue_was_seen_empty(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    account.send("a")
    between: list[Callable[[], object]] = [nothing] * 60
    between[30] = partial(client("sqs").purge_queue, QueueUrl=account.queue_url)
    between[42] = lambda: account.send("b")
    heard = rings(trigger, looks, *between)
    # It looked at 420, when its silence was over, saw nothing, and the next message came before the look at 430.
    assert [at for at, _ in heard] == [0.0, 60.0, 180.0, 430.0, 490.0]


def test_it_does_not_ask_a_long_queue_for_its_depth_while_a_run_drains_it(
    account: DockerHubAccount, account_faults: FaultInjection, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    account.send("a")
    before = account_faults.requests()
    rings(trigger, looks, *[nothing] * 5)
    assert (account_faults.requests() - before)["sqs", "GetQueueAttributes"] == 1


def test_it_rings_where_there_is_no_table_of_runs(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    trigger.runs_table = "not_deployed"
    account.send("a")
    assert rings(trigger, looks, *[nothing] * 8) == [(0.0, 1), (60.0, 1)]


def test_it_never_receives_so_the_dag_gets_the_first_delivery(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks
) -> None:
    account.send("a")
    rings(trigger, looks, *[nothing] * 30)
    assert account.waiting() == 1
    answer = client("sqs").receive_message(
        QueueUrl=account.queue_url, MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )
    assert answer["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "1"


def test_it_continues_when_a_deleted_queue_exists_again(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks, capfd: pytest.CaptureFixture[str]
) -> None:
    trigger.queue_name = "comes-and-goes"

    def make() -> None:
        url = client("sqs").create_queue(QueueName=trigger.queue_name)["QueueUrl"]
        client("sqs").send_message(QueueUrl=url, MessageBody="a")

    def delete() -> None:
        client("sqs").delete_queue(QueueUrl=sqs.queue_url(trigger.queue_name))

    heard = rings(trigger, looks, nothing, nothing, make, *[nothing] * 10, delete, *[nothing] * 10, make, nothing)
    delete()
    # Polls while it is missing: at 0, 20, 60, then every minute; the one at 120 finds it.
    assert heard == [(120.0, 1), (180.0, 1), (heard[-1][0], 1)]
    said = "".join(capfd.readouterr())
    assert said.count("queue comes-and-goes cannot be polled (QueueDoesNotExist)") == 2, "once each time"
    assert said.count("comes-and-goes answers again") == 2


def test_a_poll_during_an_outage_of_aws_delays_the_next_one_little(
    account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = trigger._look

    async def patient_look(*arguments: Any) -> int | None:
        looks.now += 15
        return await look(*arguments)

    monkeypatch.setattr(trigger, "_look", patient_look)
    assert rings(trigger, looks, lambda: account.send("a")) == [(15.0 + doorbell.LOOK_PAUSE_MAX_SECONDS + 15.0, 1)]


def test_it_rings_only_at_its_ring_depth(account: DockerHubAccount, trigger: QueueDepthTrigger, looks: Looks) -> None:
    trigger.ring_depth = 3

    def send_one() -> None:
        account.send("one")

    heard = rings(trigger, looks, send_one, send_one, send_one)
    assert heard[0] == (3 * POLL_SECONDS, 3)


def test_the_triggerer_can_make_it_anew_from_what_it_stored() -> None:
    path, arguments = QueueDepthTrigger("queue", "dag", 2.0, 40.0, 90.0, "other", 7, "runs").serialize()
    again = import_string(path)(**arguments)
    assert type(again) is QueueDepthTrigger
    assert again.serialize() == (path, arguments)
    assert (again.queue_name, again.dag_id, again.poll_seconds) == ("queue", "dag", 2.0)
    assert (again.silence_seconds, again.silence_max_seconds, again.ring_depth) == (40.0, 90.0, 7)
    assert (again.aws_conn_id, again.runs_table) == ("other", "runs")


def test_each_bell_rings_for_the_dag_that_drains_its_queue(dags: dict[str, Any]) -> None:
    from airflow.models.dagrun import DagRun  # noqa: F401 - the models must know of each other first

    found = {}
    for dag_id, dag in dags.items():
        for asset in getattr(getattr(dag.timetable, "asset_condition", None), "objects", ()):
            for watcher in asset.watchers:
                assert watcher.trigger.dag_id == dag_id
                found[watcher.trigger.queue_name] = dag_id
    expected = {queue: dag.dag_id for each in pipelines(load_settings()) for dag in each.dags for queue in dag.queues}
    assert found == expected
