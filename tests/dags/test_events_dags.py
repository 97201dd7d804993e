"""The Dags of events end to end, in this process, against the emulator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from events_world import World
from sluice.core.tally import COUNTS
from sluice.environment import aws_connection
from sluice.pipelines.events import expectations, storage
from sluice.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import DAG

RunDag = Callable[..., Any]


@pytest.fixture
def world(settings: Settings) -> World:
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


class Asked(NamedTuple):
    """A run that another one triggered, as the web page shows it."""

    run_id: str
    conf: dict[str, str]
    note: str
    logical_date: datetime | None


def asked_for(conf_hour: str) -> list[Asked]:
    """Runs of events_hourly that were triggered for an hour."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        runs = session.scalars(select(DagRun).where(DagRun.dag_id == "events_hourly")).all()
        wanted = [each for each in runs if (each.conf or {}).get("hour") == conf_hour]
        return [Asked(each.run_id, each.conf or {}, each.note, each.logical_date) for each in wanted]


def impossible() -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="rows", max_value=-1)]


def test_events_go_through_both_dags_into_their_hours_once(world: World, run: RunDag) -> None:
    world.put(400, seed=1, duplicates=0.1, malformed=0.1)
    ingested = run("events_ingest")
    assert ingested.state == "success"
    assert returned(ingested, "publish_batch")["quarantined"] == world.malformed
    world.assert_each_record_ingested_once()
    hourly = run("events_hourly", logical_date=world.hour)
    assert hourly.state == "success"
    tally = returned(hourly, "publish_hour")
    assert tally["records_in"] == tally["published"] + tally["duplicates"] + tally["quarantined"]
    assert tally["published"] == len(world.truth)
    world.assert_each_event_curated_once()


def test_a_run_without_records_skips_its_gate_and_counts_as_a_success(world: World, run: RunDag) -> None:
    idle = run("events_ingest")
    assert idle.state == "success"
    never_started = [idle.get_task_instance(task_id) for task_id in ("check_batch", "publish_batch")]
    assert [(str(each.state), each.try_number) for each in never_started] == [("skipped", 0)] * 2
    assert states(idle)["find_late_hours"] == "success"
    assert returned(idle, "drain") | dict.fromkeys(COUNTS, 0) == returned(idle, "drain"), "the tally of a run"


def test_late_events_ask_for_their_hour_in_a_run_that_says_why(world: World, run: RunDag) -> None:
    hour = world.hour - timedelta(days=400)
    world.put(50, seed=1, start=hour)
    ingest = run("events_ingest")
    assert states(ingest)["process_late_hour"] == "success"
    (triggered,) = asked_for(hour.isoformat())
    assert triggered.run_id.startswith("late__2023-03-04T17__")
    assert triggered.logical_date is None
    assert triggered.note == triggered.conf["reason"]
    assert triggered.note.startswith("events of hour 2023-03-04T17 arrived in ")
    processed = run("events_hourly", run_conf=triggered.conf)
    assert processed.state == "success"
    world.assert_each_event_curated_once()
    assert states(run("events_ingest"))["process_late_hour"] == "skipped", "nothing is late any more"


def test_an_hour_that_waits_in_a_backfill_gets_no_run_of_its_own(world: World, run: RunDag) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    hour = world.hour - timedelta(days=500)
    with create_session() as session:
        run_id = f"backfill__{hour.isoformat()}"
        about: dict[str, Any] = {"dag_id": "events_hourly", "run_id": run_id, "run_type": "backfill", "state": "queued"}
        session.add(DagRun(**about, logical_date=hour, data_interval=(hour, hour), run_after=hour))
    world.put(50, seed=1, start=hour)
    assert states(run("events_ingest"))["process_late_hour"] == "skipped"
    with create_session() as session:
        session.query(DagRun).filter_by(run_id=run_id).delete()
    assert states(run("events_ingest"))["process_late_hour"] == "success", "nothing else does the hour any more"


def test_a_day_is_rebuilt_in_three_tasks_and_then_nothing_is_late(world: World, run: RunDag) -> None:
    start = world.hour - timedelta(days=600)
    world.put(120, seed=1, start=start, hours=3, duplicates=0.1)
    assert run("events_ingest").state == "success"
    day = run("events_rebuild", logical_date=start.replace(hour=0))
    assert states(day) == dict.fromkeys(("dedup_day", "check_day", "publish_day"), "success")
    assert returned(day, "publish_day")["published"] == len(world.truth)
    world.assert_each_event_curated_once()
    assert states(run("events_ingest"))["process_late_hour"] == "skipped"


def test_an_hour_without_events_is_processed_as_nothing_without_a_crawl(world: World, run: RunDag) -> None:
    empty = run("events_hourly", logical_date=world.hour)
    assert empty.state == "success"
    assert states(empty)["crawl"] == "skipped"
    assert returned(empty, "publish_hour")["records_in"] == 0


def test_a_failed_gate_of_an_hour_leaves_readers_the_version_before(
    world: World, run: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(50, seed=1)
    assert run("events_ingest").state == "success"
    assert run("events_hourly", logical_date=world.hour).state == "success"
    before = world.curated(world.hour)
    world.put(50, seed=2)
    assert run("events_ingest").state == "success"
    monkeypatch.setattr(expectations, "hourly_expectations", impossible)
    failed = run("events_hourly", logical_date=world.hour)
    assert failed.state == "failed"
    assert states(failed)["publish_hour"] == "upstream_failed"
    assert world.curated(world.hour) == before


def test_a_failed_gate_of_a_batch_leaves_the_records_to_the_next_run(
    world: World, run: RunDag, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(50, seed=1)
    with monkeypatch.context() as spoilt:
        spoilt.setattr(expectations, "batch_expectations", impossible)
        failed = run("events_ingest")
    assert failed.state == "failed"
    assert states(failed)["publish_batch"] == "upstream_failed"
    assert world.ingested() == []
    assert run("events_ingest").state == "success"
    world.assert_each_record_ingested_once()


def test_an_hour_that_is_done_again_is_registered_without_a_crawl(world: World, run: RunDag) -> None:
    world.put(50, seed=1)
    run("events_ingest")
    again = run("events_hourly", run_conf={"hour": world.hour.isoformat()})
    assert again.state == "success"
    crawl = again.get_task_instance("crawl")
    assert (str(crawl.state), crawl.try_number) == ("skipped", 0), "no process was started to skip it"
    assert returned(again, "dedup")["rows"] == len(world.truth)
    assert storage.read_hour(world.hour).num_rows == len(world.truth)


def test_the_crawl_adds_the_partition_to_the_raw_table_and_no_second_table(world: World, run: RunDag) -> None:
    from sluice.aws.sessions import client

    world.put(50, seed=1)
    run("events_ingest")
    assert states(run("events_hourly", logical_date=world.hour))["crawl"] == "success"
    database = world.settings.glue_database
    values = storage.partition_values(world.hour)
    found = client("glue").get_partition(DatabaseName=database, TableName=storage.RAW_TABLE, PartitionValues=values)
    assert found["Partition"]["StorageDescriptor"]["Location"] == (
        f"s3://{world.settings.lake_bucket}/raw/events/year=2024/month=04/day=07/hour=17/"
    )
    tables = client("glue").get_tables(DatabaseName=database)["TableList"]
    assert sorted(table["Name"] for table in tables) == [storage.EVENTS.name, storage.RAW_TABLE]
    assert storage.read_hour(world.hour).num_rows == len(world.truth)
