"""What the asset graph of Airflow shows: each pipeline from its source to its tables, and what each publication was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dockerhub_account import DockerHubAccount
from sluice.aws.tables import reading
from sluice.deployment.deploy import iceberg_tables
from sluice.lake_views.lineage import READER, Flow, paths
from sluice.monitoring.pipelines import pipelines
from sluice.settings import PROJECT_ROOT, load_settings
from sluice_dev.dockerhub import DockerHubStandIn

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG


def assets_of(dag: DAG, kind: str) -> list[Any]:
    return [asset for task in dag.tasks for asset in getattr(task, kind)]


def assets_in(condition: Any) -> list[Any]:
    """Assets of a condition, at any depth of `and` and `or`."""
    parts = getattr(condition, "objects", None)
    return [condition] if parts is None else [asset for part in parts for asset in assets_in(part)]


def test_every_published_table_is_the_outlet_of_a_task_and_is_described(dags: dict[str, DAG]) -> None:
    published = {asset.name: asset for dag in dags.values() for asset in assets_of(dag, "outlets")}
    for table in iceberg_tables(load_settings()):
        asset = published[table.name]
        assert asset.uri == f"s3://{load_settings().lake_bucket}/{table.prefix.rstrip('/')}"
        assert asset.extra["format"] == "iceberg"
        assert asset.extra["description"]


def test_each_pipeline_reads_an_asset_and_publishes_one_of_its_own_group(dags: dict[str, DAG]) -> None:
    for pipeline in pipelines(load_settings()):
        if pipeline.name == "platform":
            continue
        own = [dags[each.dag_id] for each in pipeline.dags]
        read = [asset for dag in own for asset in assets_of(dag, "inlets")]
        published = [asset for dag in own for asset in assets_of(dag, "outlets")]
        assert {asset.group for asset in (*read, *published)} == {pipeline.name}
        assert {asset.name for asset in read} - {asset.name for asset in published}, "it has no source"
        assert {asset.name for asset in published} - {asset.name for asset in read}, "it has no end"


def test_every_published_asset_can_be_followed_back_to_a_source(dags: dict[str, DAG]) -> None:
    """As the graph of Airflow is made: from the inlets of a task to the outlets of the same task."""
    made_from: dict[str, set[str]] = {}
    for task in (task for dag in dags.values() for task in dag.tasks):
        for published in task.outlets:
            made_from.setdefault(published.name, set()).update(each.name for each in task.inlets)
    assert made_from["events"] == {"raw_events"}
    assert made_from["raw_events"] == {"event_stream"}
    assert all(made_from.values())


def test_the_lineage_of_the_lake_has_every_asset_queue_and_stream(dags: dict[str, DAG]) -> None:
    def names(dag: DAG, kind: str) -> frozenset[str]:
        return frozenset(asset.name for asset in assets_of(dag, kind))

    flows = {dag_id: Flow(names(dag, "inlets"), names(dag, "outlets")) for dag_id, dag in dags.items()}
    found = paths(load_settings(), flows)
    for pipeline in pipelines(load_settings()):
        ways = found.get(pipeline.name, [])
        streams = {stream.name for dag in pipeline.dags for stream in dag.streams}
        wanted = {asset.name for asset in pipeline.assets} | set(pipeline.queues) | streams
        assert wanted <= {node.name for way in ways for node in way}
        begins = {way[0].name for way in ways}
        assert all(way[-1].kind == READER or way[-1].name in begins for way in ways), "a way ends at readers"


def test_the_asset_of_a_work_queue_has_its_pipeline_and_the_dag_it_starts(dags: dict[str, DAG]) -> None:
    for pipeline in pipelines(load_settings()):
        for dag in (each for each in pipeline.dags if each.queues):
            queues = assets_in(dags[dag.dag_id].timetable.asset_condition)
            assert {asset.name for asset in queues} == set(dag.queues)
            assert {asset.group for asset in queues} == {pipeline.name}
            assert all(f"starts {dag.dag_id} when " in asset.extra["description"] for asset in queues)


def test_the_report_of_an_asset_event_is_that_of_the_gate_before_it(dags: dict[str, DAG]) -> None:
    from sluice_airflow.gates import GateOperator

    for dag in dags.values():
        for task in dag.tasks:
            gates = {before.gate for before in task.upstream_list if isinstance(before, GateOperator)}
            assert {asset.extra["gate"] for asset in task.outlets} <= gates, task.task_id


def test_every_declared_asset_is_used(dags: dict[str, DAG]) -> None:
    declared = {asset.name for pipeline in pipelines(load_settings()) for asset in pipeline.assets}
    used = {each.name for dag in dags.values() for kind in ("inlets", "outlets") for each in assets_of(dag, kind)}
    assert declared == used


@pytest.fixture
def hub(account: DockerHubAccount, configure: Callable[..., Any]) -> Any:
    with DockerHubStandIn() as stand_in:
        configure(dockerhub_url=stand_in.url, dockerhub_repositories="library/redis,faulty/html", dockerhub_attempts=1)
        yield stand_in


@pytest.fixture
def downstream(dags: dict[str, DAG]) -> Iterator[None]:
    """A Dag of another team, in a bundle of its own, known to the scheduler and not paused."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    bag = DagBag(str(Path(__file__).with_name("downstream.py")))
    assert list(bag.dags) == ["downstream"]
    with create_session() as session:
        session.merge(DagBundleModel(name="downstream"))
    sync_bag_to_db(bag, "downstream", None)
    mine = update(DagModel).where(DagModel.dag_id == "downstream")
    with create_session() as session:
        session.execute(mine.values(is_paused=False))
    yield
    with create_session() as session:
        session.execute(mine.values(is_paused=True, is_stale=True))


@pytest.mark.usefixtures("downstream")
def test_an_asset_event_has_the_publication_and_triggers_a_foreign_dag(
    account: DockerHubAccount, hub: Any, run_dag: Callable[..., DagRun]
) -> None:
    from airflow.models.asset import AssetDagRunQueue, AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    run = run_dag("dockerhub_pull")
    assert run.state == "success"
    with create_session() as session:
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == run.run_id)).all()
        found = {event.asset.name: event.extra for event in events}
        due = session.scalars(select(AssetDagRunQueue.target_dag_id)).all()
    assert due == ["downstream"]
    assert set(found) == {"dockerhub_history", "raw_dockerhub"}
    extra = found["dockerhub_history"]
    assert extra["snapshot"] == str(reading.history("dockerhub_history")[0].snapshot_id)
    assert "snapshot" not in found["raw_dockerhub"], "it is no table"
    assert (extra["records_in"], extra["published"], extra["quarantined"]) == (2, 1, 1)
    keys = account.keys("")
    assert extra["report"].removeprefix(f"s3://{account.settings.lake_bucket}/") in keys
    assert any(
        key.startswith(extra["quarantine"].removeprefix(f"s3://{account.settings.lake_bucket}/")) for key in keys
    )


def test_the_dag_in_the_documentation_is_the_one_that_was_tried() -> None:
    _, _, tried = Path(__file__).with_name("downstream.py").read_text().partition("import annotations\n\n")
    assert tried in (PROJECT_ROOT / "docs" / "architecture.md").read_text()
