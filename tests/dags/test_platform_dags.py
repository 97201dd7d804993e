"""Records and alerts of runs, and the Dag that sends alerts, against the emulator."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from accommodations_world import World as AccommodationsWorld
from accommodations_world import a_record
from dockerhub_account import WORKED_EXAMPLE, DockerHubAccount
from platform_world import Watch
from sluice.aws import kinesis, sqs
from sluice.aws.sessions import client
from sluice.aws.tables import definitions, maintenance, reading
from sluice.deployment.deploy import deploy
from sluice.errors import SluiceError
from sluice.lake import StagingExpired, run_slug
from sluice.monitoring.canary.steps import CanaryFailed
from sluice.monitoring.pipelines import WATCH_DAG, pipelines
from sluice.pipelines.dockerhub import expectations
from sluice.pipelines.events import steps, storage
from sluice.settings import load_settings
from sluice_airflow import alerts
from sluice_airflow.canary import require_withdrawn

RunDag = Callable[..., Any]


@pytest.fixture
def watch(account: DockerHubAccount) -> Watch:
    watch = Watch(account.settings)
    watch.now = datetime.now(UTC) + timedelta(minutes=1)
    return watch


def impossible() -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="star_count", max_value=-1)]


def test_the_table_of_the_watch_lists_every_dag_with_its_schedule(dags: dict[str, Any]) -> None:
    listed = {dag.dag_id: dag for pipeline in pipelines(load_settings()) for dag in pipeline.dags}
    assert sorted(listed) == sorted(dags)
    for dag_id, dag in dags.items():
        timetable = getattr(dag.timetable, "timetable", dag.timetable)
        # Timetables of the SDK have the expression by name, those of the core (and ours, which extends one) do not.
        expression = getattr(timetable, "expression", None) or getattr(timetable, "_expression", None)
        # A Dag that only backfills make runs of is never due.
        assert listed[dag_id].schedule == (None if type(timetable).__name__ == "BackfillTimetable" else expression), (
            dag_id
        )
        assert (listed[dag_id].deadline_seconds > 0) == (listed[dag_id].schedule is not None), dag_id


def test_a_dag_is_listed_in_the_pipeline_of_its_tag(dags: dict[str, Any]) -> None:
    for pipeline in pipelines(load_settings()):
        for dag in pipeline.dags:
            assert pipeline.name in dags[dag.dag_id].tags


def test_the_canary_withdraws_before_it_looks_for_its_line_in_output_files(dags: dict[str, Any]) -> None:
    """A run of the pipeline that fetched its file before it was deleted ends before `withdraw` does."""
    canary = dags["platform_canary"]
    withdraw, clean_up = (canary.get_task(f"cleanup.{name}") for name in ("withdraw", "clean_up"))
    assert "cleanup.delete_file" in withdraw.upstream_task_ids
    assert "cleanup.withdraw" in clean_up.upstream_task_ids
    assert dags["accommodations_consolidate"].max_active_runs == 1


def test_a_canary_that_finds_a_fault_fails_its_run(dags: dict[str, Any]) -> None:
    """Airflow ignores a task where a teardown follows that can fail the run."""
    verify = dags["platform_canary"].get_task("verify")
    assert [task.task_id for task in verify.downstream_list if task.on_failure_fail_dagrun] == []
    assert dags["platform_canary"].get_task("cleanup.clean_up").on_failure_fail_dagrun


def test_a_failed_withdrawal_fails_the_canary_and_a_skipped_one_does_not() -> None:
    def end_with(state: str) -> None:
        states = {"verify": "failed", "cleanup.withdraw": state, "cleanup.clean_up": "running"}
        ti = SimpleNamespace(dag_id="platform_canary", run_id="run", get_task_states=lambda **_: {"run": states})
        require_withdrawn(cast("Any", {"ti": ti}))

    end_with("skipped")
    end_with("success")
    with pytest.raises(CanaryFailed, match=r"^task cleanup\.withdraw of platform_canary failed"):
        end_with("failed")


def test_a_task_that_will_be_retried_sends_no_alert(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        for task in dag.tasks:
            for callbacks, name in (
                (task.on_retry_callback, "after_retry"),
                (task.on_failure_callback, "after_failure"),
            ):
                # A mapped task has it as it was given.
                given = callbacks if isinstance(callbacks, list) else [callbacks]
                assert [each.__name__ for each in given] == [name], task.task_id


def test_a_run_records_counts_in_table_metrics_and_one_line_for_each_task(
    watch: Watch, account: DockerHubAccount, run_dag: RunDag, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sluice_airflow")
    for each in WORKED_EXAMPLE:
        account.put(*each)
    run = run_dag("dockerhub_aggregate")
    assert run.state == "success"
    last = watch.read().dags["dockerhub_aggregate"]
    assert last.tally == {"records_in": 5, "published": 5, "duplicates": 0, "quarantined": 0}
    assert last.success_run == run.run_id
    assert last.success_at == last.tally_at == last.published_at
    assert watch.metric("Published", Pipeline="dockerhub", Dag="dockerhub_aggregate")[-1] == 5.0
    lines = [line for line in caplog.messages if line.startswith("key_figures ")]
    assert [line.split()[2] for line in lines] == ["task=collect", "task=check_objects", "task=publish_aggregates"]
    assert lines[-1].startswith(
        f"key_figures dag=dockerhub_aggregate task=publish_aggregates run={run.run_id} seconds="
    )
    assert lines[-1].endswith(" records_in=5 published=5 duplicates=0 quarantined=0")
    assert watch.mail() == []


def test_a_run_that_finds_nothing_to_do_is_noted_as_alive(watch: Watch, run_dag: RunDag) -> None:
    run = run_dag("dockerhub_aggregate")
    last = watch.read().dags["dockerhub_aggregate"]
    assert last.success_run == run.run_id
    assert (last.tally, last.published_at) == ({}, None)


@pytest.mark.parametrize(("hours", "is_over"), [([], True), ([{"conf": {}}], False)])
def test_a_run_ends_with_the_task_that_finds_nothing_to_map_over(
    dags: dict[str, Any], hours: list[Any], is_over: bool
) -> None:
    task = dags["events_ingest"].get_task("find_late_hours")
    assert alerts.ends_run(cast("Any", {"task": task}), hours) is is_over


def test_a_missing_priority_list_fails_at_once_and_its_alert_has_a_command(
    watch: Watch, account: DockerHubAccount, run_dag: RunDag
) -> None:
    partners = AccommodationsWorld(account.settings)
    partners.put("a.jsonl", [a_record("1", "A")])
    run = run_dag("accommodations_consolidate")
    assert_failed_in_its_first_try(run, "collect")
    ((subject, text),) = watch.mail()
    assert subject == "[sluice-test] accommodations_consolidate.collect failed"
    assert "PriorityListError: the priority list is missing" in text
    assert "`sluice partners set-priority NAME ...`" in text
    assert partners.unfinished() == 1


def test_a_missing_crawler_fails_at_once_and_the_alert_names_its_command(
    watch: Watch, account: DockerHubAccount, run_dag: RunDag
) -> None:
    # Of the account that tests share, the objects were deleted: those of the table as well.
    client("glue").delete_table(DatabaseName=account.settings.glue_database, Name=storage.EVENTS.name)
    definitions.create_missing(account.settings, [storage.EVENTS])
    hour = datetime(2024, 4, 7, 17, tzinfo=UTC)
    event = {"event_uuid": str(UUID(int=1, version=4)), "event_name": "account:created", "created_at": hour.timestamp()}
    kinesis.put_batch(account.settings.events_stream, [kinesis.Entry("1", json.dumps(event).encode())])
    steps.drain("ingest")
    steps.publish_batch("ingest")
    client("glue").delete_crawler(Name=f"{account.settings.resource_prefix}-events")
    try:
        run = run_dag("events_hourly", logical_date=hour)
    finally:
        # Other tests have this account as well.
        deploy(account.settings, stacks=("events",))
    assert_failed_in_its_first_try(run, "crawl")
    ((_, text),) = watch.mail()
    assert "RequestRefused: Glue crawler does not exist (" in text
    assert "run `sluice deploy`" in text


def assert_failed_in_its_first_try(run: Any, task_id: str) -> None:
    failed = run.get_task_instance(task_id)
    assert (str(failed.state), failed.try_number) == ("failed", 1)


def test_a_failed_run_is_not_a_success_and_its_alert_is_complete(
    watch: Watch, account: DockerHubAccount, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.put(*WORKED_EXAMPLE[0])
    with monkeypatch.context() as spoilt:
        spoilt.setattr(expectations, "aggregate_expectations", impossible)
        run = run_dag("dockerhub_aggregate")
    assert run.state == "failed"
    assert "dockerhub_aggregate" not in watch.read().dags
    ((subject, text),) = watch.mail()
    assert subject == "[sluice-test] dockerhub_aggregate.check_objects failed"
    assert "Pipeline:      dockerhub\nDag:           dockerhub_aggregate\nTask:          check_objects\n" in text
    assert f"Run:           {run.run_id}\n" in text
    assert "GateFailed: gate dockerhub/aggregate failed 1 of 1 expectations" in text
    assert "report: s3://" in text
    assert "/dags/dockerhub_aggregate/runs/" in text
    assert "/tasks/check_objects?try_number=1" in text
    assert "Run again:     sluice airflow tasks clear dockerhub_aggregate --task-regex check_objects" in text
    assert watch.metric("FailedTasks", Pipeline="dockerhub")[-1] == 1.0


def test_the_result_of_a_task_is_recorded_without_the_api_server(
    watch: Watch, account: DockerHubAccount, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull, pulled = RuntimeTaskInstance.xcom_pull, []

    def noted_pull(ti: RuntimeTaskInstance, *arguments: Any, **named: Any) -> Any:
        pulled.append((ti.task_id, named.get("task_ids")))
        return pull(ti, *arguments, **named)

    monkeypatch.setattr(RuntimeTaskInstance, "xcom_pull", noted_pull)
    account.put(*WORKED_EXAMPLE[0])
    assert run_dag("dockerhub_aggregate").state == "success"
    assert watch.read().dags["dockerhub_aggregate"].tally["records_in"] == 1
    assert [task_id for task_id, of in pulled if of == task_id] == []


def test_a_failure_of_a_run_without_a_date_is_run_again_by_a_new_run(
    watch: Watch, account: DockerHubAccount, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.put(*WORKED_EXAMPLE[0])
    monkeypatch.setattr(expectations, "aggregate_expectations", impossible)
    run_dag("dockerhub_aggregate", logical_date=None, run_conf={"rebuild": True})
    ((_, text),) = watch.mail()
    assert "Run again:     sluice airflow dags trigger dockerhub_aggregate --conf '{\"rebuild\": true}'\n" in text


def test_a_failure_whose_alert_cannot_be_sent_keeps_its_error(
    watch: Watch,
    account: DockerHubAccount,
    run_dag: RunDag,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    account.put(*WORKED_EXAMPLE[0])
    monkeypatch.setattr(expectations, "aggregate_expectations", impossible)
    monkeypatch.setenv("SLUICE_RUNS_TABLE", "not_deployed")
    load_settings.cache_clear()
    run = run_dag("dockerhub_aggregate")
    assert run.state == "failed"
    assert run.get_task_instance("collect").state == "success", "a success that cannot be noted is one"
    assert "gate dockerhub/aggregate failed 1 of 1 expectations" in "".join(capfd.readouterr())
    assert "no alert was sent for this failed task" in caplog.text
    assert "the success of this task was not recorded" in caplog.text


def test_the_watch_sends_alerts_and_its_heartbeat(watch: Watch, run_dag: RunDag) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    watch.all_ran(WATCH_DAG, at=due)
    client("dynamodb").delete_item(TableName=watch.table, Key={"kind": {"S": "dag"}, "name": {"S": "dockerhub_pull"}})
    watch.ran("dockerhub_pull", at=datetime.now(UTC) - timedelta(hours=1))
    run = run_dag(WATCH_DAG)
    assert run.state == "success"
    assert watch.subjects() == ["[sluice-test] dockerhub_pull is stale"]
    assert watch.metric("WatchRuns", Pipeline="platform")[-1] == 1.0
    assert watch.read().dags[WATCH_DAG].success_run == run.run_id
    again = run_dag(WATCH_DAG)
    assert again.get_task_instance("announce").xcom_pull(task_ids="announce")["announced"] == 0
    assert watch.mail() == []


def test_the_alert_of_a_pipeline_that_succeeds_again_is_closed(
    watch: Watch, account: DockerHubAccount, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.put(*WORKED_EXAMPLE[0])
    with monkeypatch.context() as spoilt:
        spoilt.setattr(expectations, "aggregate_expectations", impossible)
        failed = run_dag("dockerhub_aggregate", run_conf={"rebuild": False})
    assert watch.subjects() == ["[sluice-test] dockerhub_aggregate.check_objects failed"]
    account.redeliver(run_slug(failed.run_id))
    assert run_dag("dockerhub_aggregate", run_conf={"rebuild": False}).state == "success"
    watch.all_ran(WATCH_DAG, at=datetime.now(UTC) + timedelta(hours=1))
    run_dag(WATCH_DAG)
    assert watch.subjects() == ["[sluice-test] over: dockerhub_aggregate.check_objects failed"]


def test_dead_letters_are_only_looked_at_unless_asked_for(
    watch: Watch, account: DockerHubAccount, run_dag: RunDag
) -> None:
    queue = account.settings.dockerhub_queue
    client("sqs").send_message(QueueUrl=sqs.queue_url(queue + sqs.DEAD_LETTERS), MessageBody="{}")

    def returned(task_id: str, **conf: object) -> Any:
        run = run_dag("platform_redrive", run_conf={"pipeline": "dockerhub", **conf})
        assert run.state == "success"
        return run.get_task_instance(task_id).xcom_pull(task_ids=task_id)

    assert returned("inspect") == {queue + sqs.DEAD_LETTERS: 1}
    assert returned("redrive") == {queue: {"waiting": 1, "redriven": 0, "refused": 0}}
    assert returned("redrive", dry_run=False) == {queue: {"waiting": 1, "redriven": 1, "refused": 0}}
    assert sum(sqs.queue_counts(queue)) == 1


def context_of(logical_date: datetime | None = None, conf: dict[str, Any] | None = None, **more: Any) -> Any:
    """What a callback is given of a run, without one."""
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="run-1", log_url="http://airflow/log", start_date=None)
    run = SimpleNamespace(logical_date=logical_date, conf=conf, start_date=None)
    return {"ti": ti, "dag_run": run, **more}


@pytest.mark.parametrize(
    ("error", "what", "look_at"),
    [
        (
            SluiceError("gate a/b failed 1 of 2:\n  stars\nreport: s3://b/quality/a/b/run.html"),
            "gate a/b failed 1 of 2",
            "s3://b/quality/a/b/run.html",
        ),
        (
            SluiceError("x.csv: no header; see s3://b/quarantine/d/run.jsonl."),
            "x.csv: no header; see s3://b/quarantine/d/run.jsonl.",
            "s3://b/quarantine/d/run.jsonl",
        ),
        (SluiceError("s3://b/raw/x is no file"), "s3://b/raw/x is no file", "http://airflow/log"),
        (KeyError("a"), "KeyError: 'a'", "http://airflow/log"),
        (None, alerts.KILLED, "http://airflow/log"),
        (ValueError(), "ValueError:", "http://airflow/log"),
    ],
)
def test_the_last_lines_name_the_failure_where_to_look_and_the_command(
    error: Exception | None, what: str, look_at: str
) -> None:
    assert alerts.last_lines(context_of(exception=error)) == [
        f"what: {what.rstrip(':')}",
        f"look at: {look_at}",
        "run again: sluice airflow dags trigger d",
    ]


def test_a_task_that_cannot_run_again_names_what_does_its_work() -> None:
    error = StagingExpired("lake", "staging/dockerhub/run/objects.jsonl")
    instead = """run `sluice airflow dags trigger dockerhub_aggregate --conf '{"rebuild": true}'`"""
    assert alerts.last_lines(context_of(exception=error))[-1] == f"run again: {instead}"
    # As the alert and `sluice status` print it.
    assert alerts.run_again(context_of(exception=error), "d", "t") == instead


def test_a_retried_attempt_ends_its_log_the_same_way_and_sends_no_alert(
    watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sluice_airflow")
    context = context_of(exception=SluiceError("no"))
    alerts.after_retry(context)
    assert caplog.messages == ["::endgroup::", *alerts.last_lines(context)]
    assert watch.mail() == []


def test_a_secret_in_an_address_does_not_go_out_by_email() -> None:
    conf = {"source": "https://example.com/sales.csv?X-Amz-Signature=abc&X=1", "force": True}
    command = alerts.run_again(context_of(conf=conf), "d", "t")
    assert command == (
        """sluice airflow dags trigger d --conf '{"source": "https://example.com/sales.csv?...", "force": true}'"""
    )


@pytest.mark.parametrize(
    ("conf", "partition"),
    [
        (None, "2026-11-21T10:00+00:00"),
        ({"hour": "2024-04-07T19:00:00+02:00"}, "2024-04-07T17:00+00:00"),
        ({"hour": "2024-04-07T17:42"}, "2024-04-07T17:00+00:00"),
        ({"day": "2024-04-07"}, "2024-04-07T00:00+00:00"),
        ({"hour": "yesterday"}, "yesterday"),
    ],
)
def test_a_run_processes_the_hour_of_its_conf_else_of_its_logical_date(
    conf: dict[str, Any] | None, partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert alerts.partition_of(context_of(datetime(2026, 11, 21, 10, 42, tzinfo=UTC), conf)) == partition
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_killed_task_is_reported_by_the_dag_processor(watch: Watch) -> None:
    context = context_of()
    del context["dag_run"]
    alerts.after_failure(context)
    ((subject, text),) = watch.mail()
    assert subject == "[sluice-test] d.t failed"
    assert "its process was killed" in text


def test_a_task_killed_in_its_last_attempt_is_reported_by_its_dag(watch: Watch) -> None:
    # Airflow calls nothing for such a task; and knows no more of the run where it cannot name a task.
    context: Any = {"dag": SimpleNamespace(dag_id="events_hourly"), "run_id": "manual__1+1", "reason": "task_failure"}
    alerts.after_failed_run(context)
    alerts.after_failed_run(context)
    ((subject, text),) = watch.mail()
    assert subject == "[sluice-test] events_hourly failed"
    assert "the run failed (task_failure), and no task reported an error" in text
    assert "/dags/events_hourly/runs/manual__1%2B1\n" in text
    assert "Run again:     sluice airflow dags trigger events_hourly\n" in text
    assert "Task:" not in text


def test_every_dag_reports_a_run_that_failed_without_a_task(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        assert dag.on_failure_callback is alerts.after_failed_run


def test_tables_are_maintained_by_the_dag_or_left_to_glue(
    account: DockerHubAccount, run_dag: RunDag, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)

    def states() -> set[tuple[str, str]]:
        run = run_dag("platform_maintain")
        assert run.state == "success"
        return {(ti.task_id, ti.state) for ti in run.get_task_instances()}

    # What it does to a table is in tests/integration/tables/test_maintenance.py.
    maintained: list[str] = []

    def maintain(name: str, *_: Any, **__: Any) -> maintenance.Maintained:
        maintained.append(name)
        return maintenance.Maintained(name, 0, 0, 0, 0)

    monkeypatch.setattr(maintenance, "maintain", maintain)
    monkeypatch.setattr(reading, "names", lambda: ["events", "visits"])
    assert states() == {("list_tables", "success"), ("maintain", "success"), ("clean_up_canary", "success")}
    assert sorted(maintained) == ["events", "visits"]
    assert "set SLUICE_TABLE_MAINTENANCE=airflow" not in caplog.text
    given = account.settings.model_copy(update={"table_maintenance": "glue"})
    monkeypatch.setattr("sluice.settings.load_settings", lambda: given)
    assert states() == {("list_tables", "success"), ("maintain", "skipped"), ("clean_up_canary", "success")}
    assert len(maintained) == 2
    assert "set SLUICE_TABLE_MAINTENANCE=airflow and run `sluice deploy`" in caplog.text
