"""The Dags of dockerhub end to end, in this process, against the emulator and the stand-in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from copy import copy
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from dockerhub_account import WORKED_EXAMPLE, WORKED_MONTHS, WORKED_RESULT, DockerHubAccount
from sluice.aws.sessions import client
from sluice.lake import run_slug
from sluice.pipelines.dockerhub import expectations, steps
from sluice.settings import Settings
from sluice_airflow.gates import GateOperator, ReportLink
from sluice_dev.dockerhub import DockerHubStandIn, history_of

RunDag = Callable[..., Any]


@pytest.fixture
def hub() -> Iterator[DockerHubStandIn]:
    with DockerHubStandIn(retry_after_seconds=0) as stand_in:
        yield stand_in


@pytest.fixture
def watch(account: DockerHubAccount, configure: Callable[..., Settings], hub: DockerHubStandIn) -> Callable[..., None]:
    """Watch repositories of the stand-in."""

    def these(*repositories: str) -> None:
        configure(
            dockerhub_url=hub.url,
            dockerhub_repositories=",".join(repositories),
            dockerhub_attempts=2,
            dockerhub_retry_max_seconds=0.05,
        )

    return these


def states(run: Any) -> dict[str, str]:
    return {each.task_id: str(each.state) for each in run.get_task_instances()}


def returned(run: Any, task_id: str) -> Any:
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def impossible() -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="star_count", max_value=-1)]


def test_a_pull_and_then_an_aggregation_leave_the_items_of_the_contract(
    account: DockerHubAccount, run_dag: RunDag, watch: Callable[..., None]
) -> None:
    watch("localstack/localstack")
    assert run_dag("dockerhub_pull").state == "success"
    aggregated = run_dag("dockerhub_aggregate")
    assert aggregated.state == "success"
    assert returned(aggregated, "publish_aggregates") == {
        "records_in": 1,
        "published": 1,
        "duplicates": 0,
        "quarantined": 0,
    }
    answer = history_of("localstack/localstack")[0]
    counts = (answer["star_count"], answer["pull_count"], answer["last_updated"])
    assert account.shown() == {
        "latest": answer["last_updated"],
        "pushes": {answer["last_updated"]: counts},
        "months": {answer["last_updated"][:7]: [{"star_count": counts[0], "pull_count": counts[1]}]},
    }
    assert account.unfinished() == 0
    slug = run_slug(aggregated.run_id)
    assert account.keys(f"quality/dockerhub/aggregate/{slug}") == [
        f"quality/dockerhub/aggregate/{slug}.html",
        f"quality/dockerhub/aggregate/{slug}.json",
    ]


def test_the_worked_example_of_the_contract_through_airflow(account: DockerHubAccount, run_dag: RunDag) -> None:
    for each in WORKED_EXAMPLE:
        account.put(*each)
    assert run_dag("dockerhub_aggregate").state == "success"
    assert account.shown() == WORKED_RESULT


def test_repositories_that_fail_are_quarantined_and_do_not_fail_the_run(
    account: DockerHubAccount, run_dag: RunDag, watch: Callable[..., None]
) -> None:
    watch("missing/gone", "faulty/html", "faulty/server-error", "library/redis")
    run = run_dag("dockerhub_pull")
    assert run.state == "success"
    tally = {"records_in": 4, "published": 1, "duplicates": 0, "quarantined": 3}
    assert tally.items() <= returned(run, "publish_answers").items()
    reasons = sorted(account.quarantined(run_slug(run.run_id), "fetch").values())
    assert reasons == ["not_found", "not_json", "server_error"]


def test_an_empty_queue_skips_the_rest_of_the_run(account: DockerHubAccount, run_dag: RunDag) -> None:
    run = run_dag("dockerhub_aggregate")
    assert run.state == "success"
    assert states(run) == {"collect": "success", "check_objects": "skipped", "publish_aggregates": "skipped"}
    assert account.keys("") == []


def test_a_run_of_messages_that_name_no_object_deletes_them(account: DockerHubAccount, run_dag: RunDag) -> None:
    account.send('{"Service": "Amazon S3", "Event": "s3:TestEvent"}')
    assert run_dag("dockerhub_aggregate").state == "success"
    assert account.unfinished() == 0


def test_a_failed_gate_of_a_pull_fails_at_once_and_publishes_nothing(
    account: DockerHubAccount,
    run_dag: RunDag,
    watch: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sluice_airflow")
    watch("library/redis")
    monkeypatch.setattr(expectations, "pull_expectations", impossible)
    run = run_dag("dockerhub_pull")
    assert run.state == "failed"
    assert states(run) == {"fetch": "success", "check_answers": "failed", "publish_answers": "upstream_failed"}
    gate = run.get_task_instance("check_answers")
    assert (gate.try_number, gate.max_tries) == (1, 2), "there were tries left"
    logged = "".join(capfd.readouterr())
    assert "gate dockerhub/pull failed 1 of 1 expectations" in logged
    assert "expect_column_values_to_be_between(column=star_count, max_value=-1" in logged
    group_end, what, look_at, run_again = (
        each.getMessage()
        for each in caplog.records
        if each.name == "sluice_airflow.alerts" and each.funcName == "_log_last_lines"
    )
    assert group_end == "::endgroup::"
    assert what.startswith("what: gate dockerhub/pull failed 1 of 1 expectations")
    assert look_at.startswith("look at: s3://")
    assert look_at.endswith(f"/quality/dockerhub/pull/{run_slug(run.run_id)}.html")
    assert run_again.startswith("run again: sluice airflow tasks clear dockerhub_pull --task-regex check_answers ")
    assert account.keys("raw/") == []
    assert account.history() == []
    assert len(account.keys("staging/")) == 1
    # A browser that follows a link sends these, and no Origin.
    navigation = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}
    page = httpx.get(gate.xcom_pull(task_ids="check_answers", key=ReportLink().xcom_key), headers=navigation)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert 'Gate dockerhub/pull: <span class="failed">failed</span>' in page.text


def test_a_failed_gate_of_an_aggregation_keeps_the_messages(
    account: DockerHubAccount, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.put(*WORKED_EXAMPLE[0])
    with monkeypatch.context() as spoilt:
        spoilt.setattr(expectations, "aggregate_expectations", impossible)
        failed = run_dag("dockerhub_aggregate")
    assert failed.state == "failed"
    assert failed.get_task_instance("check_objects").try_number == 1
    assert (account.items(), account.unfinished()) == ({}, 1)
    account.redeliver(run_slug(failed.run_id))
    assert run_dag("dockerhub_aggregate").state == "success"
    assert (len(account.items()), account.unfinished()) == (3, 0)


def test_a_docker_hub_out_of_reach_is_tried_again_later(
    account: DockerHubAccount, dags: dict[str, Any], configure: Callable[..., Settings], hub: DockerHubStandIn
) -> None:
    policy = dags["dockerhub_pull"].get_task("fetch").retry_policy
    for error in (steps.SourceUnreachable("no network"), ConnectionError(), TimeoutError()):
        assert policy.evaluate(error, 1, 2).action.value == "default"


@pytest.mark.parametrize("rebuild", [True, False])
def test_the_rebuild_parameter_reads_raw_and_not_the_queue(
    account: DockerHubAccount, run_dag: RunDag, rebuild: bool
) -> None:
    account.silence()
    for each in WORKED_EXAMPLE:
        account.put(*each)
    account.send('{"Event": "s3:TestEvent"}')
    run = run_dag("dockerhub_aggregate", run_conf={"rebuild": rebuild})
    assert run.state == "success"
    assert account.unfinished() == (1 if rebuild else 0)
    assert returned(run, "publish_aggregates")["published"] == (5 if rebuild else 0)
    if rebuild:
        assert account.shown() == WORKED_RESULT


def test_a_rebuild_of_a_past_month_is_the_run_of_its_logical_date(account: DockerHubAccount, run_dag: RunDag) -> None:
    keys = [account.put(*each) for each in WORKED_EXAMPLE]
    run_dag("dockerhub_aggregate")
    client("s3").delete_object(Bucket=account.settings.lake_bucket, Key=keys[3])
    october = run_dag("dockerhub_rebuild", logical_date=datetime(2023, 10, 1, tzinfo=UTC))
    assert returned(october, "publish_aggregates")["records_in"] == 1
    assert reports_of(october) <= {f"s3://{account.settings.lake_bucket}/{key}" for key in account.keys("quality/")}
    assert account.shown()["months"] == WORKED_MONTHS
    september = run_dag("dockerhub_rebuild", logical_date=datetime(2023, 9, 1, tzinfo=UTC))
    assert returned(september, "publish_aggregates")["records_in"] == 3
    assert account.shown()["months"] == WORKED_MONTHS | {"2023-09": [{"star_count": 200, "pull_count": 180_000_000}]}


def reports_of(run: Any) -> set[str]:
    """The reports that the asset events of a run name."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == run.run_id)).all()
        assert events
        return {str(event.extra["report"]) for event in events}


def test_a_month_of_long_ago_without_objects_has_nothing_to_rebuild(account: DockerHubAccount, run_dag: RunDag) -> None:
    # Some images were not pushed since Docker Hub began.
    run = run_dag("dockerhub_rebuild", logical_date=datetime(2014, 6, 1, tzinfo=UTC))
    assert run.state == "success"
    assert states(run)["publish_aggregates"] == "skipped"


def test_a_rebuild_without_a_logical_date_says_how_to_give_one(
    account: DockerHubAccount, run_dag: RunDag, capfd: pytest.CaptureFixture[str]
) -> None:
    account.put(*WORKED_EXAMPLE[0])
    run = run_dag("dockerhub_rebuild", logical_date=None)
    assert states(run)["collect_month"] == "failed", "there is nothing to try again"
    assert "--logical-date" in "".join(capfd.readouterr())


def test_runs_of_two_dags_with_the_same_run_id_do_not_share_a_key(
    dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A scheduled run is called after its time, and at midnight of the first of a month three Dags have one.
    run_id = "scheduled__2026-12-01T00:00:00+00:00"
    seen: dict[str, set[str]] = {}
    for dag_id, task_ids in {
        "dockerhub_aggregate": ("collect", "check_objects", "publish_aggregates"),
        "dockerhub_rebuild": ("collect_month", "check_objects", "publish_aggregates"),
    }.items():
        runs = seen.setdefault(dag_id, set())
        for function in ("collect", "collect_month", "check_objects", "publish_aggregates"):
            monkeypatch.setattr(steps, function, lambda run, *_, runs=runs, **__: runs.add(run_slug(run)) or {})
        given = {
            "run_id": run_id,
            "params": {"rebuild": False},
            "collected": {},
            "logical_date": datetime(2026, 11, 1, tzinfo=UTC),
        }
        for task_id in task_ids:
            task = dags[dag_id].get_task(task_id)
            if isinstance(task, GateOperator):
                task = copy(task)
                task.render_template_fields({"run_id": run_id})
                task.execute({})
                continue
            function = task.python_callable
            code = function.__code__
            function(**{name: given[name] for name in code.co_varnames[: code.co_argcount]})
    assert [len(runs) for runs in seen.values()] == [1, 1], "the tasks of a run share its keys"
    assert not seen["dockerhub_aggregate"] & seen["dockerhub_rebuild"]
