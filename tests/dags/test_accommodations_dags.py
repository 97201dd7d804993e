"""The Dags of accommodations end to end, in this process, against the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from accommodations_world import PRIORITY, World, a_record
from sluice.environment import aws_connection
from sluice.pipelines.accommodations import expectations
from sluice.settings import Settings
from sluice_dev.samples import accommodations

if TYPE_CHECKING:
    from airflow.sdk import DAG

RunDag = Callable[..., Any]


@pytest.fixture
def world(settings: Settings) -> World:
    World.deploy(settings)
    return World(settings)


@pytest.fixture
def run(dags: dict[str, DAG], world: World, monkeypatch: pytest.MonkeyPatch) -> RunDag:
    """Run a Dag against the world, as `airflow dags test` does."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(world.settings))
    return lambda dag_id, **arguments: dags[dag_id].test(**arguments)


def states(dag_run: Any) -> dict[str, str]:
    return {each.task_id: str(each.state) for each in dag_run.get_task_instances()}


def returned(dag_run: Any, task_id: str) -> Any:
    return dag_run.get_task_instance(task_id).xcom_pull(task_ids=task_id)


def test_partners_files_become_what_the_producer_says_must_come_out(world: World, run: RunDag) -> None:
    made = accommodations.produce(accommodations.Catalogues(accommodations=120, malformed=0.1, file_records=60, seed=5))
    for key in landing_keys(world):
        world.send(world.event(key))
    runs = 0
    while (done := run("accommodations_consolidate")) and returned(done, "publish"):
        assert done.state == "success"
        runs += 1
    assert runs == -(-made.counts["files"] // world.settings.accommodations_max_messages)
    assert set(states(done).values()) == {"success", "skipped"}
    assert world.current() == made.truth
    assert len(world.quarantined()) == made.counts["malformed"] > 0


def landing_keys(world: World) -> list[str]:
    from sluice.aws import s3

    return list(s3.list_keys(world.settings.landing_bucket, "accommodations/"))


def test_a_failed_gate_publishes_nothing_and_its_message_comes_back(
    world: World, run: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible() -> list[Any]:
        from great_expectations import expectations as gxe

        return [gxe.ExpectColumnValuesToBeBetween(column="published", max_value=-1)]

    world.prioritise(PRIORITY)
    world.drop("a.jsonl", [a_record("1", "A")])
    with monkeypatch.context() as patch:
        patch.setattr(expectations, "batch_expectations", impossible)
        failed = run("accommodations_consolidate")
    assert states(failed)["check_outputs"] == "failed"
    assert (world.outputs(), world.unfinished()) == ({}, 1)
    from sluice.lake import run_slug

    world.redeliver(run_slug(failed.run_id))
    assert returned(run("accommodations_consolidate"), "publish")["published"] == 1
