"""Alerts are sent once, with what to do, and closed when the problem is over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dockerhub_account import DockerHubAccount
from embedded_aws import FaultInjection
from platform_world import WEB_URL, Watch
from sluice.aws import sqs
from sluice.aws.sessions import client
from sluice.core.tally import COUNTS
from sluice.monitoring import alerts, runs, steps
from sluice.monitoring.problems import at_text
from sluice.monitoring.runs import Failure

PULL_DEADLINE = timedelta(minutes=10)
"""Of dockerhub_pull, which runs every 5 minutes."""


@pytest.fixture
def watch(account: DockerHubAccount) -> Watch:
    return Watch(account.settings)


def failed(watch: Watch, dag_id: str, task_id: str, partition: str = "", run_id: str = "run-1") -> bool:
    """A task fails for good; whether a message was sent."""
    return steps.task_failed(
        Failure(
            dag_id, task_id, partition, run_id, watch.now, watch.now, 1, "ValueError: no", f"{WEB_URL}/log", "again"
        )
    )


def succeeded(watch: Watch, dag_id: str, task_id: str, partition: str = "") -> None:
    steps.task_succeeded(
        dag_id,
        task_id,
        "run-2",
        partition=partition,
        started_at=watch.now,
        at=watch.now,
        result=None,
        ends_run=False,
    )


# Stale


def test_a_stopped_pipeline_raises_an_alert_at_its_deadline_and_not_before(watch: Watch) -> None:
    watch.ran("dockerhub_pull")
    last, missed = watch.now, watch.now.replace(minute=5)
    told = missed + PULL_DEADLINE
    watch.now = told - timedelta(seconds=1)
    watch.all_ran("dockerhub_pull")
    assert watch.look("before")["problems"] == 0, "a run may take its time"
    watch.now = told
    assert watch.look("after") == {"problems": 1, "announced": 1, "over": 0}
    ((subject, text),) = watch.mail()
    assert subject == "[sluice-test] dockerhub_pull is stale"
    assert "Pipeline:      dockerhub\n" in text
    assert "Dag:           dockerhub_pull\n" in text
    assert f"its run of {at_text(missed)} should have succeeded by {at_text(told)}" in text
    assert f"the last one ended {at_text(last)}" in text
    assert f"Where to look: {WEB_URL}/dags/dockerhub_pull\n" in text
    assert "sluice airflow dags trigger dockerhub_pull" in text
    assert watch.metric("StaleDags", Pipeline="dockerhub")[-1] == 1.0


def test_a_run_that_found_nothing_to_do_is_a_sign_of_life(watch: Watch) -> None:
    watch.all_ran()
    watch.now += timedelta(minutes=40)
    watch.all_ran("dockerhub_aggregate")
    watch.ran("dockerhub_aggregate")
    assert watch.look() == {"problems": 0, "announced": 0, "over": 0}
    assert watch.read().dags["dockerhub_aggregate"].tally == {}


def test_an_alert_is_sent_once_repeated_while_it_lasts_and_closed(watch: Watch) -> None:
    watch.all_ran("dockerhub_pull")
    assert watch.look("one")["announced"] == 1
    assert steps.send_alerts("one", lambda: watch.now)["announced"] == 0, "a retry"
    watch.now += timedelta(minutes=5)
    watch.all_ran("dockerhub_pull")
    assert watch.look("two")["announced"] == 0, "the next run"
    assert watch.subjects() == ["[sluice-test] dockerhub_pull is stale"]
    watch.now += timedelta(hours=watch.settings.alert_repeat_hours)
    watch.all_ran("dockerhub_pull")
    assert watch.look("three")["announced"] == 1, "it still lasts"
    assert watch.subjects() == ["[sluice-test] dockerhub_pull is stale"]
    watch.now += timedelta(minutes=5)
    watch.all_ran()
    assert watch.look("four") == {"problems": 0, "announced": 0, "over": 1}
    assert watch.look("five")["over"] == 0
    assert watch.subjects() == ["[sluice-test] over: dockerhub_pull is stale"]
    watch.now += timedelta(minutes=20)
    watch.all_ran("dockerhub_pull")
    assert watch.look("six")["announced"] == 1, "it is news when it comes again"


def test_the_retry_sends_only_the_alert_that_could_not_be_sent(watch: Watch, account_faults: FaultInjection) -> None:
    watch.all_ran("dockerhub_pull")
    watch.look("one")
    failed(watch, "dockerhub_rebuild", "collect_month")
    watch.now += timedelta(hours=1)
    watch.all_ran("dockerhub_pull", "dockerhub_aggregate")
    steps.observe("two", WEB_URL, lambda: watch.now)
    account_faults.inject("error", service="sns", operation="Publish")
    with pytest.raises(ClientError):
        steps.send_alerts("two", lambda: watch.now)
    account_faults.clear()
    steps.send_alerts("two", lambda: watch.now)
    assert watch.subjects() == [
        "[sluice-test] dockerhub_aggregate is stale",
        "[sluice-test] dockerhub_pull is stale",
        "[sluice-test] dockerhub_rebuild.collect_month failed",
    ]


def test_after_a_kill_while_sending_a_later_run_sends_the_alert(watch: Watch) -> None:
    watch.all_ran("dockerhub_pull")
    never = timedelta(days=1)
    assert alerts.claim_alert(watch.table, "stale/dockerhub_pull", "s", watch.now, repeat_after=never, dead_after=never)
    assert watch.look("one")["announced"] == 0, "another one is about to"
    watch.now += timedelta(minutes=5)
    watch.all_ran("dockerhub_pull")
    assert watch.look("two")["announced"] == 1
    assert watch.subjects() == ["[sluice-test] dockerhub_pull is stale"]


def test_of_concurrent_senders_exactly_one_sends_the_alert(watch: Watch) -> None:
    watch.all_ran("dockerhub_pull")
    steps.observe("run", WEB_URL, lambda: watch.now)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: steps.send_alerts("run", lambda: watch.now), range(8)))
    assert sum(result["announced"] for result in results) == 1
    assert len(watch.mail()) == 1


def test_that_the_watch_itself_was_away_is_no_news_when_it_is_back(watch: Watch) -> None:
    watch.all_ran("platform_watch")
    assert watch.look()["problems"] == 0


# Failures


def test_a_task_that_keeps_failing_sends_one_alert_until_it_succeeds(watch: Watch) -> None:
    watch.all_ran()
    assert failed(watch, "dockerhub_pull", "fetch", run_id="run-1")
    watch.now += timedelta(minutes=5)
    assert not failed(watch, "dockerhub_pull", "fetch", run_id="run-2"), "its alert was sent"
    assert failed(watch, "dockerhub_pull", "check_answers"), "another task is news"
    (check, fetch) = watch.read().failures
    assert (fetch.count, fetch.run_id, fetch.at - fetch.since) == (2, "run-2", timedelta(minutes=5))
    assert check.count == 1
    watch.now += timedelta(minutes=5)
    succeeded(watch, "dockerhub_pull", "fetch")
    succeeded(watch, "dockerhub_pull", "check_answers")
    assert watch.read().failures == ()
    watch.all_ran()
    watch.now += timedelta(seconds=1)
    assert watch.look()["over"] == 2
    assert watch.subjects() == [
        "[sluice-test] dockerhub_pull.check_answers failed",
        "[sluice-test] dockerhub_pull.fetch failed",
        "[sluice-test] over: dockerhub_pull.check_answers failed",
        "[sluice-test] over: dockerhub_pull.fetch failed",
    ]
    assert failed(watch, "dockerhub_pull", "fetch"), "it is news when it comes again"


def test_each_failed_hour_is_reported_and_only_its_own_success_clears_it(watch: Watch) -> None:
    assert failed(watch, "events_hourly", "dedup", "2030-03-05T10:00+00:00")
    assert failed(watch, "events_hourly", "dedup", "2030-03-05T11:00+00:00")
    succeeded(watch, "events_hourly", "dedup", "2030-03-05T11:00+00:00")
    (left,) = watch.read().failures
    assert left.partition == "2030-03-05T10:00+00:00"


def test_a_run_that_failed_without_a_task_is_cleared_by_a_later_success(watch: Watch) -> None:
    failure = Failure("dockerhub_pull", "", "", "run-1", watch.now, watch.now, 1, "killed", f"{WEB_URL}/run", "again")
    assert steps.run_failed(failure)
    assert not steps.run_failed(failure)
    steps.task_succeeded(
        "dockerhub_pull",
        "publish_answers",
        "run-2",
        partition="",
        started_at=watch.now,
        at=watch.now,
        result=None,
        ends_run=True,
    )
    assert watch.read().failures == ()


def test_a_failing_dag_is_reported_as_failing_and_not_also_as_stale(watch: Watch) -> None:
    watch.all_ran("dockerhub_pull")
    failed(watch, "dockerhub_pull", "fetch")
    assert watch.look() == {"problems": 1, "announced": 0, "over": 0}
    assert watch.subjects() == ["[sluice-test] dockerhub_pull.fetch failed"]


def test_a_failure_after_the_observation_is_not_closed(watch: Watch) -> None:
    watch.all_ran()
    steps.observe("run", WEB_URL, lambda: watch.now)
    watch.now += timedelta(seconds=1)
    failed(watch, "dockerhub_pull", "fetch")
    assert steps.send_alerts("run", lambda: watch.now)["over"] == 0


def test_a_failure_without_a_later_success_expires_after_a_week(watch: Watch) -> None:
    failed(watch, "events_hourly", "dedup", "2030-03-05T10:00+00:00")
    watch.now += timedelta(days=6)
    assert len(watch.read().failures) == 1
    watch.now += timedelta(days=2)
    assert watch.read().failures == ()


def test_a_run_is_recorded_as_running_until_it_succeeds_or_fails(watch: Watch) -> None:
    def running() -> list[str]:
        return sorted(each.run_id for each in watch.read().running.values())

    steps.run_started("dockerhub_pull", "run-1", watch.now)
    steps.run_started("events_hourly", "run-9", watch.now)
    assert running() == ["run-1", "run-9"]
    failed(watch, "dockerhub_pull", "fetch", run_id="run-1")
    assert running() == ["run-9"]
    steps.run_started("events_hourly", "run-10", watch.now + timedelta(seconds=1))
    runs.record_end(watch.table, "events_hourly", "run-9")
    assert running() == ["run-10"], "an earlier run that ends is not the one that works"
    watch.now += timedelta(hours=7)
    assert running() == [], "it was killed"


# Queues and streams


def test_the_alert_of_dead_letters_has_the_command_to_redrive_them(watch: Watch) -> None:
    watch.all_ran()
    dead = f"{watch.settings.dockerhub_queue}-dead-letters"
    for _ in range(3):
        client("sqs").send_message(QueueUrl=sqs.queue_url(dead), MessageBody="{}")
    watch.look("one")
    ((subject, text),) = watch.mail()
    assert subject == "[sluice-test] dockerhub_aggregate has dead letters"
    assert f"3 messages are in {dead}" in text
    assert "Where to look: sluice dead-letters list dockerhub\n" in text
    assert "Run again:     sluice dead-letters redrive dockerhub --no-dry-run\n" in text
    assert watch.metric("DeadLetters", Pipeline="dockerhub") == [3.0]
    assert sqs.queue_depth(sqs.queue_url(dead)) == 3, "listing removes none"
    client("sqs").purge_queue(QueueUrl=sqs.queue_url(dead))
    watch.now += timedelta(minutes=1)
    watch.look("two")
    assert watch.subjects() == ["[sluice-test] over: dockerhub_aggregate has dead letters"]


def test_only_a_queue_that_is_never_drained_raises_an_alert(watch: Watch, account: DockerHubAccount) -> None:
    watch.all_ran()
    watch.look("empty")
    account.send("{}")
    watch.now += timedelta(minutes=31)
    watch.all_ran("dockerhub_aggregate")
    watch.ran("dockerhub_aggregate", at=watch.now - timedelta(minutes=1))
    assert watch.look("busy")["problems"] == 0, "a run has drained it since, and another message came"
    watch.now += timedelta(minutes=30)
    watch.all_ran("dockerhub_aggregate")
    watch.ran("dockerhub_aggregate", at=watch.now, is_drained=False)
    watch.look("stuck")
    assert "[sluice-test] dockerhub_aggregate does not drain its queue" in watch.subjects()
    assert watch.metric("QueueAge", Pipeline="dockerhub")[-1] == 31 * 60 + 5
    assert watch.metric("QueueDepth", Pipeline="dockerhub", Queue=watch.settings.dockerhub_queue)[-1] == 1.0


@pytest.mark.parametrize("is_drained", [True, False])
def test_only_a_run_that_emptied_its_queue_and_succeeded_makes_it_young(watch: Watch, is_drained: bool) -> None:
    began = watch.now
    dag_id, result = "dockerhub_aggregate", {"messages": 1, "is_drained": is_drained}

    def succeed(task_id: str, result: object, *, ends_run: bool) -> None:
        at = began + timedelta(seconds=9)
        steps.task_succeeded(
            dag_id, task_id, "run", partition="", started_at=began, at=at, result=result, ends_run=ends_run
        )

    steps.run_started(dag_id, "run", began)
    succeed("collect", result, ends_run=False)
    assert dag_id not in watch.read().dags
    succeed("publish_aggregates", dict.fromkeys(COUNTS, 0), ends_run=True)
    assert watch.read().dags[dag_id].drained_at == (began if is_drained else None)


def test_a_missing_queue_is_reported_and_does_not_stop_other_checks(watch: Watch) -> None:
    watch.all_ran()
    name = f"{watch.settings.dockerhub_queue}-dead-letters"
    url = sqs.queue_url(name)
    attributes = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    tags = client("sqs").list_queue_tags(QueueUrl=url)["Tags"]
    client("sqs").delete_queue(QueueUrl=url)
    try:
        watch.look()
        ((subject, text),) = watch.mail()
    finally:
        kept: Any = {name: attributes[name] for name in ("MessageRetentionPeriod", "RedriveAllowPolicy", "Policy")}
        client("sqs").create_queue(QueueName=name, Attributes=kept | {"SqsManagedSseEnabled": "true"}, tags=tags)
    assert subject == "[sluice-test] dockerhub_aggregate lacks its queue"
    assert f"{name} does not exist" in text
    assert "sluice deploy" in text


# Metrics


def test_the_counts_of_a_run_and_the_age_of_what_it_published_are_metrics(watch: Watch) -> None:
    watch.all_ran()
    tally = {"records_in": 10, "published": 7, "duplicates": 2, "quarantined": 1}
    steps.task_succeeded(
        "dockerhub_pull",
        "publish_answers",
        "run-1",
        partition="",
        started_at=watch.now,
        at=watch.now,
        result=tally,
        ends_run=True,
    )
    of_run = {"Pipeline": "dockerhub", "Dag": "dockerhub_pull"}
    found = {name: watch.metric(name, **of_run) for name in ("RecordsIn", "Published", "Duplicates", "Quarantined")}
    assert found == {"RecordsIn": [10.0], "Published": [7.0], "Duplicates": [2.0], "Quarantined": [1.0]}
    watch.now += timedelta(minutes=4)
    watch.look()
    assert watch.metric("Freshness", Pipeline="dockerhub", Table="dockerhub_history") == [240.0]
    assert watch.metric("WatchRuns", Pipeline="platform") == [1.0]


def test_what_published_nothing_makes_no_table_fresh(watch: Watch) -> None:
    watch.ran("dockerhub_pull", records_in=3, published=2, duplicates=1)
    published_at = watch.now
    watch.now += timedelta(minutes=5)
    watch.ran("dockerhub_pull", records_in=1, quarantined=1)
    last = watch.read().dags["dockerhub_pull"]
    assert (last.published_at, last.success_at) == (published_at, watch.now)


def test_a_metric_that_cannot_be_sent_is_a_warning(
    watch: Watch, account_faults: FaultInjection, caplog: pytest.LogCaptureFixture
) -> None:
    account_faults.inject("error", service="monitoring")
    account_faults.inject("error", service="cloudwatch")
    watch.all_ran()
    assert watch.look()["problems"] == 0
    assert "metrics WatchRuns were not sent" in caplog.text


# The table


def test_an_older_run_does_not_overwrite_the_items_of_a_newer_one(watch: Watch) -> None:
    newer = watch.now
    watch.ran("dockerhub_pull", at=newer, records_in=1, published=1)
    watch.ran("dockerhub_pull", at=newer - timedelta(microseconds=1), records_in=2, published=2)
    watch.ran("dockerhub_pull", at=newer - timedelta(hours=1))
    last = watch.read().dags["dockerhub_pull"]
    assert (last.success_at, last.tally["records_in"], last.published_at) == (newer, 1, newer)


def test_a_success_that_is_older_than_the_failure_does_not_clear_it(watch: Watch) -> None:
    failed(watch, "dockerhub_pull", "fetch")
    watch.now -= timedelta(minutes=1)
    succeeded(watch, "dockerhub_pull", "fetch")
    assert len(watch.read().failures) == 1


def test_times_of_the_table_are_compared_in_utc(watch: Watch) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    watch.ran("dockerhub_pull", at=watch.now)
    watch.ran("dockerhub_pull", at=(watch.now - timedelta(hours=1)).astimezone(india))
    assert watch.read().dags["dockerhub_pull"].success_at == watch.now


def test_the_alarm_of_a_silent_watch_is_sent_to_the_topic_of_alerts(watch: Watch) -> None:
    name = f"{watch.settings.resource_prefix}-watch-silent"
    for state in ("OK", "ALARM"):
        client("cloudwatch").set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
    assert f'ALARM: "{name}" in us-east-1' in watch.alarms()
