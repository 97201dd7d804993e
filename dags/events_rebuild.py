"""Publish past days of events again from their raw files: one run a day for its 24 hours, one commit a day.

## What it does

Does for every hour of a day what `events_hourly` does for one, by the same rules and with the same rows, in few tasks:
registers the raw files, keeps the earliest row of each event in parallel processes, and replaces in one commit the
hours whose rows changed. An hour that another run published meanwhile is skipped, and the next ingest requests it
again. The day must be over. With `SLUICE_EVENTS_ENGINE=glue` the run fails with the command of a backfill of
`events_hourly`.

## Triggered by

A person, for ranges of days; it has no schedule:
`airflow backfill create --dag-id events_rebuild --from-date 2024-04-01 --to-date 2024-04-30`.
`airflow dags test events_rebuild 2024-04-07` makes one day.

## Parameters

* `day` (default none): the day to process, ISO 8601, where it is not the logical date.
  Example: `airflow dags trigger events_rebuild --conf '{"day": "2024-04-07"}'`

## Reads and writes

* reads `raw/events/year=/month=/day=/` of the day and of `SLUICE_EVENTS_DEDUP_WINDOW_HOURS` before it
* writes partitions of the Glue table `raw_events`, the day in the Iceberg table `events`,
  `quality/events/hourly/`, the DynamoDB table `SLUICE_EVENTS_HOURS_TABLE`

## Running it again

The same raw files give the same rows, and publishing them again changes nothing. Days may be processed in any order,
concurrently, and concurrently with `events_hourly`. After a kill of a run its hours are still dirty, and a later ingest
requests them again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import Param, dag

from sluice_airflow import forms
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.assets import assets
from sluice_airflow.defaults import START, TASK_DEFAULTS
from sluice_airflow.gates import GateOperator
from sluice_airflow.tasks import task
from sluice_airflow.timetable import BackfillTimetable

if TYPE_CHECKING:
    from airflow.sdk.types import DagRunProtocol

ASSETS = assets("events")


@dag(
    schedule=BackfillTimetable("0 0 * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=2,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            allOf=[{"format": forms.EVENTS_DAY}],
            title="Day",
            description="day to process, if not the logical date, such as 2024-04-07",
        )
    },
    tags=["events", "rebuild"],
    doc_md=__doc__,
)
def events_rebuild() -> None:
    # For all hours of a day, each of which has half an hour in events_hourly.
    @task(execution_timeout=timedelta(hours=12))
    def dedup_day(run_id: str, dag_run: DagRunProtocol) -> object:
        """Register the raw files of each hour, keep the earliest row of each event, stage few large files."""
        from sluice.pipelines.events import rebuild

        return rebuild.dedup_day(run_id, rebuild.day_to_process(dag_run.logical_date, dag_run.conf))

    @task(inlets=[ASSETS["raw_events"]], outlets=[ASSETS["events"]])
    def publish_day(run_id: str) -> object:
        """Replace the hours of the day in the table `events` in one commit."""
        from sluice.pipelines.events import rebuild

        return rebuild.publish_day(run_id)

    check_day = GateOperator(
        task_id="check_day",
        gate="events/hourly",
        expectations="In each hour: uuids unique, columns not null, created_at inside it, raw = curated + duplicates.",
        check="sluice.pipelines.events.rebuild.check_day",
    )
    dedup_day() >> check_day >> publish_day()


events_rebuild()
