"""`sluice status` says at a glance what is wrong, and its exit code says so to a script."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from click.testing import CliRunner, Result

from dockerhub_account import DockerHubAccount
from embedded_aws import FaultInjection, free_port, use_settings
from events_world import World
from platform_world import Watch
from sluice import cli
from sluice.aws import sessions, sqs
from sluice.aws.sessions import client
from sluice.cli import status as status_cli
from sluice.core.pipeline import Stream
from sluice.lake import StagingExpired
from sluice.monitoring import observation, runs, steps
from sluice.monitoring.canary.state import record_canary
from sluice.monitoring.pipelines import instead_of_expired, pipelines
from sluice.monitoring.runs import CanaryResult, Failure
from sluice.settings import Settings


@pytest.fixture
def watch(account: DockerHubAccount, monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch(account.settings)
    monkeypatch.setattr(status_cli, "utc_now", lambda: watch.now)
    return watch


def status(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["status", *arguments])


def rows(result: Result) -> dict[str, list[str]]:
    """Dag id -> words of its row in the table."""
    table = result.output.partition("what: ")[0].splitlines()
    return {line.split()[0]: line.split() for line in reversed(table) if line.strip()}


def test_where_all_is_well_it_says_so_with_exit_code_0(watch: Watch) -> None:
    watch.all_ran()
    watch.ran("dockerhub_pull", records_in=1500, published=1200, quarantined=300)
    watch.now += timedelta(minutes=2)
    result = status()
    assert result.exit_code == 0, result.output
    assert "Nothing is wrong." in result.output
    found = rows(result)
    assert found["dockerhub_pull"][1:] == ["ok", "2", "min", "1,500", "1,200", "300", "2", "min"]
    assert {dag.dag_id for pipeline in pipelines(watch.settings) for dag in pipeline.dags} <= set(found)


def test_the_last_canary_has_a_line_and_its_sentences_in_json(watch: Watch) -> None:
    watch.all_ran()
    assert "canary" not in status().output.replace("platform_canary", "")
    for pipeline, latency, failure in (("dockerhub", 8.2, ""), ("modules", None, "modules_diagnostics is paused")):
        record_canary(watch.table, pipeline, CanaryResult("run", watch.now, latency, failure))
    watch.now += timedelta(minutes=2)
    assert "canary: dockerhub 8 s, modules failed; 2 min ago" in status().output
    found = json.loads(status("--json").output)["canary"]
    assert (found["dockerhub"]["latency_seconds"], found["dockerhub"]["failure"]) == (8.2, None)
    assert found["modules"]["failure"] == "modules_diagnostics is paused"


def test_a_pipeline_that_stopped_is_named_with_exit_code_1_and_what_to_do(watch: Watch) -> None:
    watch.all_ran()
    watch.now += timedelta(minutes=14)
    watch.all_ran("dockerhub_pull")
    result = status()
    assert result.exit_code == 1
    assert rows(result)["dockerhub_pull"][1] == "stale"
    assert "dockerhub_pull is stale" in result.output
    assert "run again: sluice airflow dags unpause dockerhub_pull; sluice airflow dags trigger dockerhub_pull\n" in (
        result.output
    )


def test_dead_letters_are_wrong(watch: Watch) -> None:
    watch.all_ran()
    dead = sqs.queue_url(f"{watch.settings.dockerhub_queue}-dead-letters")
    client("sqs").send_message(QueueUrl=dead, MessageBody="{}")
    result = status()
    assert result.exit_code == 1
    assert rows(result)[watch.settings.dockerhub_queue] == [watch.settings.dockerhub_queue, "0", "0", "1"]


def test_json_has_the_same_for_a_script(watch: Watch, account: DockerHubAccount) -> None:
    watch.all_ran("dockerhub_pull")
    watch.ran("dockerhub_pull", at=watch.now - timedelta(hours=1), records_in=3, published=2, duplicates=1)
    account.send("{}")
    result = status("--json")
    assert result.exit_code == 1
    document: dict[str, Any] = json.loads(result.output)
    assert (document["environment"], document["ok"], document["at"]) == ("test", False, watch.now.isoformat())
    (problem,) = document["problems"]
    assert (problem["key"], problem["dag"], problem["task"]) == ("stale/dockerhub_pull", "dockerhub_pull", None)
    assert [name for name in problem if not problem[name]] == ["task", "run"]
    found = {dag["dag"]: dag for pipeline in document["pipelines"] for dag in pipeline["dags"]}
    assert {each["pipeline"]: each["ok"] for each in document["pipelines"]}["events"] is True
    pull = found["dockerhub_pull"]
    assert pull["freshness_seconds"] == {"dockerhub_history": 3600.0}
    assert (pull["records_in"], pull["published"], pull["duplicates"], pull["quarantined"]) == (3, 2, 1, 0)
    assert found["dockerhub_aggregate"]["queues"][watch.settings.dockerhub_queue]["depth"] == 1
    assert found["events_ingest"]["stream_lag_seconds"] == {watch.settings.events_stream: 0.0}


def test_what_never_ran_is_said_to_be_so_and_is_not_wrong_yet(watch: Watch) -> None:
    watch.now = watch.read().created_at
    result = status()
    assert result.exit_code == 0, result.output
    assert rows(result)["events_hourly"][1:3] == ["never", "ran"]
    watch.now += timedelta(hours=2)
    assert status().exit_code == 1


def test_a_first_run_that_works_is_shown_and_no_other_is_advised(watch: Watch) -> None:
    watch.all_ran("dockerhub_pull")
    steps.run_started("dockerhub_pull", "run-1", watch.now)
    watch.now = watch.read().created_at
    steps.run_started("dockerhub_pull", "run-1", watch.now)
    assert rows(status())["dockerhub_pull"][1:3] == ["first", "run"]
    watch.now += timedelta(minutes=20)
    found = status("--json")
    (problem,) = [each for each in json.loads(found.output)["problems"] if each["dag"] == "dockerhub_pull"]
    assert "Run run-1 has been running since" in problem["what"]
    assert problem["run_again"] == "sluice airflow dags list-runs dockerhub_pull"


def test_a_backlog_is_shown_with_its_trend_and_when_it_will_be_gone(watch: Watch, account: DockerHubAccount) -> None:
    watch.all_ran()
    account.send(*["{}"] * 30)
    watch.look()
    assert "a minute" not in status().output, "a trend over no time"
    messages = sqs.drain(account.queue_url, 10).messages
    sqs.delete(account.queue_url, [each.receipt_handle for each in messages])
    watch.now += timedelta(minutes=2)
    assert "shrinking by 5 a minute, gone in 4 min" in status().output
    document = json.loads(status("--json").output)
    queues = {
        name: queue for each in document["pipelines"] for dag in each["dags"] for name, queue in dag["queues"].items()
    }
    found = queues[watch.settings.dockerhub_queue]
    assert (found["growth_per_minute"], found["gone_in_seconds"]) == (-5.0, 240.0)
    account.send(*["{}"] * 20)
    assert "growing by 5 a minute" in status().output


def test_no_number_is_cut_in_80_columns(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    watch.all_ran()
    watch.ran("accommodations_consolidate", records_in=123_456_789, published=100_000_000, quarantined=23_456_789)
    real = observation.look

    def crowded(*arguments: Any) -> observation.Observation:
        seen = real(*arguments)
        crowd = observation.QueueState(123_456_789, 12_345_678, 1_234_567, 0.0, -1_234.0)
        return replace(seen, queues=dict.fromkeys(seen.queues, crowd))

    monkeypatch.setattr(status_cli, "look", crowded)
    monkeypatch.setattr("sluice.core.console.console", lambda: Console(width=80))
    said = status().output
    for number in ("123,456,789", "100,000,000", "23,456,789", "12,345,678", "1,234,567"):
        assert number in said
    assert all(f"\n {dag.dag_id} " in said for each in pipelines(watch.settings) for dag in each.dags), "no name is cut"
    assert "Too narrow for: quarantined" in said
    table = said.partition("has dead letters")[0].splitlines()[:-1]
    assert max(len(line.rstrip()) for line in table) <= 80


def test_an_aws_that_is_too_slow_is_one_clear_line(
    watch: Watch, account_faults: FaultInjection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_cli, "ANSWER_SECONDS", 0.2)
    account_faults.inject("latency", service="sts", latency_seconds=1)
    result = status()
    assert result.exit_code == 1
    endpoint = watch.settings.endpoint_url
    assert result.output == f"Error: {endpoint} did not answer within 0.2 s; try again, or check its log.\n"
    account_faults.clear()
    monkeypatch.setattr(status_cli, "ANSWER_SECONDS", 5)
    monkeypatch.setattr(
        sessions, "HASTY", sessions.HASTY.merge(Config(read_timeout=0.2, retries={"total_max_attempts": 1}))
    )
    sessions.client_of.cache_clear()
    account_faults.inject("latency", service="sqs", latency_seconds=1)
    result = status()
    assert result.exit_code == 1
    assert result.output.startswith("Error: AWS did not answer: Read timeout on endpoint URL")
    assert len(result.output.splitlines()) == 1


def test_a_failed_task_is_wrong_until_it_succeeds(watch: Watch) -> None:
    watch.all_ran()
    steps.task_failed(
        Failure("dockerhub_pull", "fetch", "", "run-1", watch.now, watch.now, 1, "[boom] no", "http://log", "again")
    )
    result = status()
    assert result.exit_code == 1
    assert rows(result)["dockerhub_pull"][1] == "failing"
    assert "[boom] no" in result.output, "what looks like markup is text"


def test_it_asks_for_little(watch: Watch, account_faults: FaultInjection) -> None:
    watch.all_ran()
    before = account_faults.requests()
    assert status().exit_code == 0
    asked = account_faults.requests() - before
    queues = sum(len(dag.queues) for pipeline in pipelines(watch.settings) for dag in pipeline.dags)
    assert asked["dynamodb", "Scan"] == 0, "the history of runs is in the same table"
    assert asked["dynamodb", "Query"] <= len(runs.KINDS) + 1, "one for each kind, one for the checkpoints"
    assert asked["sqs", "GetQueueAttributes"] == 2 * queues
    assert not [name for service, name in asked if name.startswith(("Receive", "Put", "Update", "Publish", "Send"))]


def test_an_aws_that_does_not_answer_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_settings(monkeypatch, home=tmp_path, aws_port=free_port())
    result = status()
    assert result.exit_code == 1
    assert result.output.startswith("Error: Could not connect to the endpoint URL")
    assert "Run `sluice aws start`." in result.output
    assert len(result.output.splitlines()) == 1


def test_an_aws_in_which_nothing_is_deployed_is_one_clear_line(settings: Settings) -> None:
    result = status()
    assert result.exit_code == 1
    assert result.output == (
        "Error: DynamoDB table pipeline_runs does not exist: run `sluice deploy`, or set SLUICE_RUNS_TABLE\n"
    )


def test_the_lag_of_a_stream_is_the_age_of_its_oldest_unread_record(settings: Settings) -> None:
    world = World(settings)
    stream = Stream(settings.events_stream, settings.events_checkpoint_table)

    def lag(minutes: int) -> float | None:
        return observation.stream_lag_seconds(stream, datetime.now(UTC) + timedelta(minutes=minutes))

    assert lag(60) == 0.0
    world.put(40, seed=1)
    waiting = lag(60)
    assert waiting is not None
    assert 3600 <= waiting < 3700
    world.ingest("run-1")
    assert lag(60) == 0.0
    world.put(1, seed=2)
    assert lag(60)
    gone = Stream("gone", settings.events_checkpoint_table)
    assert observation.stream_lag_seconds(gone, datetime.now(UTC)) is None


def test_status_and_watch_name_a_deleted_resource_from_cold_clients(deployed: Settings) -> None:
    for name in (deployed.dockerhub_queue, f"{deployed.datasets_queue}-dead-letters"):
        client("sqs").delete_queue(QueueUrl=sqs.queue_url(name))
    client("kinesis").delete_stream(StreamName=deployed.events_stream)
    expected = {
        "dockerhub_aggregate lacks its queue",
        "datasets_aggregate lacks its queue",
        "events_ingest lacks its stream",
    }
    sessions.client_of.cache_clear()
    result = status("--json")
    assert result.exit_code == 1, result.output
    assert {problem["title"] for problem in json.loads(result.stdout)["problems"]} == expected
    sessions.client_of.cache_clear()
    assert steps.observe("run", "http://airflow.test")["problems"] == len(expected)


def test_a_watch_whose_staging_expired_names_its_command(watch: Watch) -> None:
    with pytest.raises(StagingExpired) as raised:
        steps.send_alerts("run", lambda: watch.now)
    assert "dags trigger platform_watch" in instead_of_expired(watch.settings, raised.value.key)
