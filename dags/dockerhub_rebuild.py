"""Rebuild the aggregates of whole past months from the raw objects.

## What it does

Reads every raw object of one month, of all repositories, and writes its items again under the same rules as
`dockerhub_aggregate`; a month whose winning object was deleted gets a new one.

## Triggered by

The first day of each month, for the month that ended: an audit that repairs what is missing. For any past range:
`airflow backfill create --dag-id dockerhub_rebuild --from-date 2023-09-01 --to-date 2023-10-31`.

## Parameters

None; the month is that of the run's logical date: `airflow dags trigger dockerhub_rebuild --logical-date 2023-09-01`.

## Reads and writes

* reads `raw/dockerhub/namespace=*/name=*/year=YYYY/month=MM/`
* writes the DynamoDB table `dockerhub_stats`, `quarantine/dockerhub/rebuild__<run>/`, `quality/dockerhub/aggregate/`

## Running it again

Gives the same items; safe concurrently with `dockerhub_aggregate` and with rebuilds of other months.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import dag

from sluice.lake import run_slug
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.assets import assets
from sluice_airflow.defaults import START, TASK_DEFAULTS
from sluice_airflow.gates import GateOperator
from sluice_airflow.tasks import task
from sluice_airflow.timetable import StartOfIntervalTimetable

if TYPE_CHECKING:
    from datetime import datetime


def _run_name(run_id: str) -> str:
    """Unlike that of a run of `dockerhub_aggregate`, which uses the same prefixes and may start at the same time."""
    return run_slug(f"rebuild__{run_id}")


ASSETS = assets("dockerhub")


@dag(
    schedule=StartOfIntervalTimetable("0 0 1 * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=4,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    tags=["dockerhub", "rebuild"],
    doc_md=__doc__,
)
def dockerhub_rebuild() -> None:
    @task.short_circuit
    def collect_month(run_id: str, logical_date: datetime | None = None) -> object:
        """List the raw objects of the month, read them, stage their content."""
        from sluice.pipelines.dockerhub import steps

        return steps.collect_month(_run_name(run_id), logical_date)

    @task(inlets=[ASSETS["raw_dockerhub"]], outlets=[ASSETS["dockerhub_stats"]])
    def publish_aggregates(collected: dict[str, int], run_id: str) -> object:
        """Write the items of the month again."""
        from sluice.pipelines.dockerhub import steps

        return steps.publish_aggregates(_run_name(run_id), collected, rebuild=True)

    check_objects = GateOperator(
        task_id="check_objects",
        gate="dockerhub/aggregate",
        expectations="Fields, types, counts, months, no push from the future.",
        check="sluice.pipelines.dockerhub.steps.check_objects",
        run="rebuild__{{ run_id }}",
    )
    collected = collect_month()
    collected >> check_objects >> publish_aggregates(collected)


dockerhub_rebuild()
