"""Runs that the scheduler creates in addition to manual ones, with Dags from the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from dateutil.relativedelta import relativedelta

if TYPE_CHECKING:
    from airflow.sdk import DAG

THIS_HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
THIS_MONTH = THIS_HOUR.replace(day=1, hour=0)
HOUR, MONTH = timedelta(hours=1), relativedelta(months=1)


def as_scheduler_reads(dag: DAG) -> Any:
    """A Dag written to the database's form and read back."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


@pytest.mark.parametrize(
    ("dag_id", "latest", "period"),
    [("events_hourly", THIS_HOUR - HOUR, HOUR), ("dockerhub_rebuild", THIS_MONTH - MONTH, MONTH)],
)
def test_after_a_run_by_hand_the_scheduler_creates_the_next_one(
    dag_id: str, latest: datetime, period: Any, dags: dict[str, DAG]
) -> None:
    import pendulum
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    dag = as_scheduler_reads(dags[dag_id])
    interval = dag.timetable.infer_manual_data_interval(run_after=pendulum.instance(latest))
    by_hand = DagRun(dag_id=dag_id, run_id="manual", logical_date=latest, data_interval=interval, run_after=latest)
    model = DagModel(dag_id=dag_id)
    model.calculate_dagrun_date_fields(dag=dag, reference_run=by_hand)
    assert model.next_dagrun == latest + period
    assert model.next_dagrun_create_after == latest + 2 * period
    assert (interval.start, interval.end) == (latest, latest + period)


def test_a_run_by_hand_amid_an_hour_has_the_last_full_hour(dags: dict[str, DAG]) -> None:
    import pendulum

    timetable = as_scheduler_reads(dags["events_hourly"]).timetable
    interval = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2024, 4, 7, 17, 30))
    assert (interval.start.hour, interval.end.hour) == (16, 17)


@pytest.mark.parametrize(
    ("dag_id", "until", "dates"),
    [
        ("events_hourly", (2024, 4, 7, 19), ["2024-04-07T17:00", "2024-04-07T18:00", "2024-04-07T19:00"]),
        ("dockerhub_rebuild", (2024, 5, 31), ["2024-05-01T00:00"]),
        ("events_rebuild", (2024, 4, 9), ["2024-04-08T00:00", "2024-04-09T00:00"]),
    ],
)
def test_a_backfill_makes_the_periods_that_start_in_its_range(
    dag_id: str, until: tuple[int, int, int], dates: list[str], dags: dict[str, DAG]
) -> None:
    import pendulum

    dag = as_scheduler_reads(dags[dag_id])
    infos = dag.iter_dagrun_infos_between(pendulum.datetime(2024, 4, 7, 17), pendulum.datetime(*until))
    assert [info.logical_date.strftime("%Y-%m-%dT%H:%M") for info in infos] == dates


def test_the_scheduler_makes_no_run_of_a_dag_for_backfills_only(dags: dict[str, DAG]) -> None:
    from airflow.models.dag import DagModel

    dag = as_scheduler_reads(dags["events_rebuild"])
    model = DagModel(dag_id="events_rebuild")
    model.calculate_dagrun_date_fields(dag=dag, reference_run=None)
    assert model.next_dagrun is None
    assert model.next_dagrun_create_after is None
