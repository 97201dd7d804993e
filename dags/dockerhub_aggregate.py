"""Aggregate new raw objects by month into the single-table `dockerhub_stats`, as they arrive.

## What it does

Drains the queue that is notified of every object under `raw/dockerhub/`, reads each object once, and after the gate
writes its items: one for each push, the months of the repository (the object with the greatest file name decides a
month), and the marker of the latest push. The messages are deleted last. The cost of an object does not depend on the
number of objects.

## Triggered by

The arrival of an object (S3 event -> SNS -> SQS, seen by a doorbell on the depth of the queue); every 30 minutes as a
fallback. A run with an empty queue is skipped.

## Parameters

* `rebuild` (default false): read all of `raw/dockerhub/` instead of the queue, and repair months whose object was
  deleted. Example: `airflow dags trigger dockerhub_aggregate --conf '{"rebuild": true}'`. For a past range of months
  see `dockerhub_rebuild`.

## Reads and writes

* reads the queue `sluice-<environment>-dockerhub-raw` and `raw/dockerhub/`
* writes the DynamoDB table `dockerhub_stats`, `quarantine/dockerhub/<run>/`, `quality/dockerhub/aggregate/`

## Running it again

Every write is conditional on the stored item, so messages delivered twice, late or out of order give the same items.
Messages of a failed run are delivered again when their visibility timeout ends.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, dag

from sluice.settings import load_settings
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.assets import assets
from sluice_airflow.defaults import NO_BACKFILL, START, TASK_DEFAULTS
from sluice_airflow.doorbell import doorbell
from sluice_airflow.gates import GateOperator
from sluice_airflow.tasks import task

ASSETS = assets("dockerhub")
QUEUE = load_settings().dockerhub_queue
NEW_RAW_OBJECTS = doorbell(QUEUE, "dockerhub_aggregate", "dockerhub")


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/30 * * * *", timezone="UTC"), assets=[NEW_RAW_OBJECTS]
    ),
    start_date=START,
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "rebuild": Param(
            False,
            type="boolean",
            title="Rebuild",
            description="recompute all from raw/ instead of draining the queue",
        )
    },
    tags=["dockerhub", "aggregate"],
    doc_md=__doc__,
)
def dockerhub_aggregate() -> None:
    @task.short_circuit
    def collect(run_id: str, params: dict[str, Any]) -> object:
        """Drain the queue (or list raw/), read the objects, stage their content."""
        from sluice.pipelines.dockerhub import steps

        return (steps.collect_all if params["rebuild"] else steps.collect)(run_id)

    @task(inlets=[ASSETS["raw_dockerhub"]], outlets=[ASSETS["dockerhub_stats"]])
    def publish_aggregates(collected: dict[str, int], run_id: str, params: dict[str, Any]) -> object:
        """Write the items, then delete the messages."""
        from sluice.pipelines.dockerhub import steps

        return steps.publish_aggregates(run_id, collected, rebuild=params["rebuild"])

    check_objects = GateOperator(
        task_id="check_objects",
        gate="dockerhub/aggregate",
        expectations="Fields, types, counts, months, no push from the future.",
        check="sluice.pipelines.dockerhub.steps.check_objects",
    )
    collected = collect()
    collected >> check_objects >> publish_aggregates(collected)


dockerhub_aggregate()
