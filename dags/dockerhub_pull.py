"""Pull the statistics of each watched repository from Docker Hub, and store the responses.

## What it does

Requests every repository in `SLUICE_DOCKERHUB_REPOSITORIES`, stages the accepted responses, and publishes them once
they passed the gate: one row each in the table `dockerhub_history`, and the whole response as a raw object. A response
that is missing, late, malformed or of another repository goes to quarantine with its reason; the others are published.

## Triggered by

The schedule `SLUICE_DOCKERHUB_PULL_SCHEDULE`, every 5 minutes by default. It cannot observe the past, so missed runs
are not made up.

## Parameters

None; the repositories are a setting.

## Reads and writes

* reads `GET {SLUICE_DOCKERHUB_URL}/v2/repositories/{namespace}/{name}/`
* writes `raw/dockerhub/namespace=/name=/year=/month=/day=/YYYY_MM_DD_HHMMSS.json`, which triggers `dockerhub_aggregate`
* appends to the Iceberg table `dockerhub_history`; writes `quarantine/dockerhub/<run>/` and `quality/dockerhub/pull/`

## Running it again

A retry overwrites its own staging, history file and raw objects. A cleared run sends new requests, which are a new
observation.
"""

from __future__ import annotations

from airflow.sdk import CronTriggerTimetable, dag

from sluice.settings import load_settings
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.assets import assets
from sluice_airflow.defaults import NO_BACKFILL, START, TASK_DEFAULTS
from sluice_airflow.gates import GateOperator
from sluice_airflow.tasks import task

ASSETS = assets("dockerhub")


@dag(
    schedule=CronTriggerTimetable(load_settings().dockerhub_pull_schedule, timezone="UTC"),
    start_date=START,
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    tags=["dockerhub", "ingest"],
    doc_md=__doc__,
)
def dockerhub_pull() -> None:
    @task
    def fetch(run_id: str) -> object:
        """Request every repository; stage the accepted responses, quarantine the others."""
        from sluice.pipelines.dockerhub import steps

        return steps.fetch(run_id)

    @task(inlets=[ASSETS["docker_hub"]], outlets=[ASSETS["dockerhub_history"], ASSETS["raw_dockerhub"]])
    def publish_answers(fetched: dict[str, int], run_id: str) -> object:
        """Publish history rows first, then the raw objects."""
        from sluice.pipelines.dockerhub import steps

        return steps.publish_answers(run_id, fetched)

    check_answers = GateOperator(
        task_id="check_answers",
        gate="dockerhub/pull",
        expectations="Fields, types, counts, the requested repository, no push from the future.",
        check="sluice.pipelines.dockerhub.steps.check_answers",
    )
    fetched = fetch()
    fetched >> check_answers >> publish_answers(fetched)


dockerhub_pull()
