"""The Dag of datasets end to end, in this process, against the emulator."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor

from datasets_world import World, csv_of, row
from sluice.environment import aws_connection
from sluice.lake import run_slug
from sluice.pipelines.datasets import expectations
from sluice.pipelines.datasets.records import BadSource
from sluice.settings import Settings
from sluice_airflow.sensors import DatasetMissing, DatasetSensor

if TYPE_CHECKING:
    from airflow.sdk import DAG

RunDag = Callable[..., Any]

TALLY = {"records_in": 3, "published": 2, "duplicates": 0, "quarantined": 1}
BODY = csv_of(row(memory=3), row(memory=40000), row(memory=5, percentage=0.25))


@pytest.fixture
def world(settings: Settings) -> World:
    return World(settings)


@pytest.fixture
def run(dags: dict[str, DAG], world: World, monkeypatch: pytest.MonkeyPatch) -> RunDag:
    """Run the Dag against the world, as `airflow dags test` does."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(world.settings))
    return lambda **conf: dags["datasets_aggregate"].test(run_conf=conf)


def states(dag_run: Any) -> dict[str, str]:
    return {each.task_id: str(each.state) for each in dag_run.get_task_instances()}


def returned(dag_run: Any, task_id: str) -> Any:
    return dag_run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def asked_by(dag_run: Any) -> Any:
    """The conf of the run that a run of datasets_await triggered."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalars(select(DagRun.conf).where(DagRun.run_id == f"awaited__{dag_run.run_id}")).one()


def impossible() -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="accepted", max_value=-1)]


def test_an_uploaded_file_becomes_a_dataset_and_its_bad_row_is_quarantined(world: World, run: RunDag) -> None:
    world.drop(BODY)
    done = run()
    assert done.state == "success"
    assert returned(done, "publish") == TALLY
    assert [(each["memory_min"], each["memory_max"], each["percentage_avg"]) for each in world.rows()] == [
        (3, 5, 0.375)
    ]
    (rejected,) = world.quarantined(run_slug(done.run_id))
    assert (rejected["source"], rejected["reason"]) == (f"{world.address()} line 3", "memory_out_of_range")
    assert world.unfinished() == 0
    assert returned(done, "check")["report"].endswith(f"quality/datasets/aggregate/{run_slug(done.run_id)}.html")


def test_an_empty_queue_skips_the_rest_of_the_run(world: World, run: RunDag) -> None:
    done = run()
    assert done.state == "success"
    assert states(done) == {"collect": "success", "aggregate": "skipped", "check": "skipped", "publish": "skipped"}
    assert world.keys("") == []


def test_a_failed_gate_publishes_nothing_and_keeps_the_messages(
    world: World, run: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.drop(BODY)
    with monkeypatch.context() as spoilt:
        spoilt.setattr(expectations, "dataset_expectations", impossible)
        failed = run()
    assert states(failed) == {
        "collect": "success",
        "aggregate": "success",
        "check": "failed",
        "publish": "upstream_failed",
    }
    assert (world.keys(), world.unfinished()) == ([], 1)
    world.redeliver(run_slug(failed.run_id))
    assert returned(run(), "publish") == TALLY
    assert world.unfinished() == 0


def test_a_given_source_is_processed_once_and_again_only_if_forced(world: World, run: RunDag) -> None:
    world.put(BODY, "datasets/a b/ü+%.csv")
    given = run(source="datasets/a b/ü+%.csv")
    assert returned(given, "publish") == TALLY
    assert world.keys() == ["curated/datasets/ü+%.parquet"]
    again = run(source="datasets/a b/ü+%.csv")
    assert returned(again, "publish") == {"records_in": 3, "published": 0, "duplicates": 3, "quarantined": 0}
    forced = run(source="datasets/a b/ü+%.csv", force=True)
    assert returned(forced, "publish") == TALLY


def test_a_source_that_is_no_dataset_fails_at_once_and_says_why(
    world: World, run: RunDag, capfd: pytest.CaptureFixture[str]
) -> None:
    world.put(b"\xff\xfei\0d\0", "datasets/utf16.csv")
    failed = run(source="datasets/utf16.csv")
    assert states(failed)["aggregate"] == "failed"
    assert "UTF-16 or UTF-32: save it as UTF-8" in "".join(capfd.readouterr())


def test_a_file_that_is_waited_for_is_published_when_it_arrives(
    world: World, dags: dict[str, DAG], run: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []

    def arrive_after_the_first_look(sensor: DatasetSensor, context: Any) -> bool:
        looks.append(bool(S3KeySensor.poke(sensor, context)))
        world.put(BODY, "datasets/a b/late.csv")
        return looks[-1]

    monkeypatch.setattr(DatasetSensor, "poke", arrive_after_the_first_look)
    waited = dags["datasets_await"].test(run_conf={"source": "datasets/a b/late.csv", "wait_minutes": 1})
    assert waited.state == "success"
    assert looks == [False]
    assert asked_by(waited) == {"source": "datasets/a b/late.csv"}
    assert returned(run(**asked_by(waited)), "publish") == TALLY


def test_a_file_that_does_not_arrive_in_time_is_named_with_a_way_out(world: World, dags: dict[str, DAG]) -> None:
    sensor: Any = copy(dags["datasets_await"].get_task("wait"))
    context = {"params": {"source": f"s3://{world.settings.landing_bucket}/datasets/never.csv", "wait_minutes": 5}}
    sensor.render_template_fields(context)
    assert (sensor.timeout, sensor.deferrable) == (300, True)
    with pytest.raises(DatasetMissing) as missing:
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert str(missing.value).startswith(
        f"s3://{world.settings.landing_bucket}/datasets/never.csv did not arrive within 5 min: "
    )
    assert "`sluice airflow dags trigger datasets_await --conf '{" in str(missing.value)


def test_runs_of_the_queue_and_of_a_source_have_no_sensor(dags: dict[str, DAG]) -> None:
    assert set(dags["datasets_aggregate"].task_ids) == {"collect", "aggregate", "check", "publish"}


@pytest.mark.parametrize("source", ["datasets/", "datasets/a/", "http://host/x.csv", "s3://elsewhere/datasets/x.csv"])
def test_what_names_no_source_is_refused_by_the_form_and_by_the_step(
    world: World, dags: dict[str, Any], source: str
) -> None:
    for dag_id in ("datasets_aggregate", "datasets_await"):
        with pytest.raises(BadSource, match="source "):
            dags[dag_id].params.get_param("source").resolve(source)
    collect = dags["datasets_aggregate"].get_task("collect").python_callable
    with pytest.raises(BadSource, match="source "):
        collect(run_id="r", dag_run=SimpleNamespace(conf={"source": source}))
