"""The Dag of modules end to end, in this process, against the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from modules_world import World
from sluice.aws import s3
from sluice.environment import aws_connection
from sluice.lake import run_slug
from sluice.pipelines.modules import expectations, storage
from sluice.settings import Settings
from sluice_dev.samples.modules import Fleet

if TYPE_CHECKING:
    from airflow.sdk import DAG


@pytest.fixture
def world(settings: Settings) -> World:
    return World(settings)


@pytest.fixture
def run(dags: dict[str, DAG], world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Run the Dag against the world, as `airflow dags test` does."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(world.settings))
    return lambda: dags["modules_diagnostics"].test()


def states(dag_run: Any) -> dict[str, str]:
    return {each.task_id: str(each.state) for each in dag_run.get_task_instances()}


def returned(dag_run: Any, task_id: str) -> Any:
    return dag_run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def impossible() -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="rate_max", max_value=-1)]


def test_a_fleet_goes_through_the_dag_and_every_rate_is_the_true_one(world: World, run: Callable[[], Any]) -> None:
    truth = world.send_fleet(Fleet(modules=15, weeks=2, resets=0.3, duplicates=0.2, malformed=0.1, seed=2))
    finished = run()
    assert finished.state == "success"
    assert set(states(finished).values()) == {"success"}
    tally = returned(finished, "publish_rates")
    assert tally["records_in"] == tally["published"] + tally["duplicates"] + tally["quarantined"]
    assert (tally["rates"], tally["quarantined"] > 0) == (len(truth), True)
    published = world.published()
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in published} == truth
    assert len(published) == len(truth)
    assert world.unfinished() == (0, 0)
    slug = run_slug(finished.run_id)
    assert [*s3.list_keys(world.settings.lake_bucket, f"quality/modules/rates/{slug}")] == [
        f"quality/modules/rates/{slug}.html",
        f"quality/modules/rates/{slug}.json",
    ]


def test_messages_without_a_diagnostic_are_stored_and_need_no_gate(world: World, run: Callable[[], Any]) -> None:
    world.message("a", 1, 2)
    finished = run()
    assert finished.state == "success"
    assert returned(finished, "check_rates") == {"gate": "modules/rates", "rows": 0}
    gate = finished.get_task_instance("check_rates")
    assert not gate.xcom_pull(task_ids="check_rates", key="_link_ReportLink"), "a button would lead nowhere"
    assert returned(finished, "publish_rates")["published"] == 2
    assert world.stored() == {("a", 1), ("a", 2)}


def test_empty_queues_skip_the_rest_of_the_run(world: World, run: Callable[[], Any]) -> None:
    finished = run()
    assert finished.state == "success"
    skipped = dict.fromkeys(("store", "compute_rates", "check_rates", "publish_rates"), "skipped")
    assert states(finished) == {"collect": "success"} | skipped
    kept = [key for key in s3.list_keys(world.settings.lake_bucket, "") if not key.startswith(storage.RATES.prefix)]
    assert kept == []


def test_a_failed_gate_publishes_nothing_and_the_next_run_does(
    world: World, run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    world.message("a", 1)
    world.diagnostic("a", 10, 4)
    with monkeypatch.context() as spoilt:
        spoilt.setattr(expectations, "rate_expectations", impossible)
        failed = run()
    assert failed.state == "failed"
    assert states(failed)["check_rates"] == "failed"
    assert states(failed)["publish_rates"] == "upstream_failed"
    assert "gate modules/rates failed 1 of 1 expectations" in "".join(capfd.readouterr())
    assert world.published() == []
    assert world.unfinished() == (0, 1)
    world.redeliver()
    assert run().state == "success"
    assert world.published() == [("a", 10, 25.0)]


def test_a_diagnostic_rings_at_once_and_messages_when_there_are_many(dags: dict[str, DAG]) -> None:
    from airflow.models.dagrun import DagRun  # noqa: F401 - the models must know of each other first

    timetable: Any = dags["modules_diagnostics"].timetable
    # Any of the two, not both.
    assert type(timetable.asset_condition).__name__ == "AssetAny"
    watched = {
        trigger.queue_name: trigger.ring_depth
        for asset in timetable.asset_condition.objects
        for trigger in (watcher.trigger for watcher in asset.watchers)
    }
    assert watched == {"sluice-dev-weekly_diagnostic": 1, "sluice-dev-recv_message": 1000}
