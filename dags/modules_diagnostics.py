"""Store messages and diagnostics of modules, and publish the success rate of each weekly diagnostic.

## What it does

Drains the queue of diagnostics, then that of messages; stores both in DynamoDB; judges every diagnostic that is due:
counts the messages of its module since the last reset, and after the gate publishes `100 * received / attempts`. A
diagnostic that arrives late, or a correction, may change the reset of later ones: they are judged again, and published
if their rate changed. Malformed diagnostics, and those with no attempts or with more messages than attempts, go to
quarantine.

## Triggered by

The arrival of a diagnostic, or of a thousand messages (a doorbell on the depth of each queue); every 5 minutes for
fewer. A run with both queues empty is skipped.

## Parameters

* `rebuild` (default false): also judge diagnostics of all modules again that an older version of the rule judged.
  Example: `airflow dags trigger modules_diagnostics --conf '{"rebuild": true}'`

The maximum number of messages of a run is the setting `SLUICE_MODULES_MAX_MESSAGES`.

## Reads and writes

* reads the queues `sluice-<environment>-recv_message` and `sluice-<environment>-weekly_diagnostic`
* writes the DynamoDB tables `message_recv` and `weekly_diagnostic`, the Iceberg table `module_success_rates` (a row for
  each published rate), the SNS topic `sluice-<environment>-success_rate`,
  `quarantine/modules/<run>/`, `quality/modules/rates/`

## Running it again

Messages and diagnostics are items under their own key, and the published rate is stored with the diagnostic: delivered
twice, it is published once. Messages are deleted once they are stored, diagnostics once their rates are published.
While messages of a crashed run are in flight, diagnostics wait.
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

ASSETS = assets("modules")
DIAGNOSTICS = load_settings().weekly_diagnostic_queue
MESSAGES = load_settings().recv_message_queue
DAG_ID = "modules_diagnostics"
NEW_DIAGNOSTICS = doorbell(DIAGNOSTICS, DAG_ID, "modules")
MANY_MESSAGES = doorbell(MESSAGES, DAG_ID, "modules", ring_depth=1000)


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/5 * * * *", timezone="UTC"), assets=NEW_DIAGNOSTICS | MANY_MESSAGES
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
            description="judge diagnostics again that an older version of the rule judged",
        )
    },
    tags=["modules", "aggregate"],
    doc_md=__doc__,
)
def modules_diagnostics() -> None:
    @task.short_circuit
    def collect(run_id: str, params: dict[str, Any]) -> object:
        """Drain diagnostics, then the messages before them; stage both."""
        from sluice.pipelines.modules import steps

        return steps.collect(run_id, rebuild=params["rebuild"])

    @task
    def store(run_id: str) -> None:
        """Write both to their tables, then delete the messages."""
        from sluice.pipelines.modules import steps

        steps.store(run_id)

    @task
    def compute_rates(run_id: str, params: dict[str, Any]) -> object:
        """Count the messages of every diagnostic that is due."""
        from sluice.pipelines.modules import steps

        return steps.compute_rates(run_id, rebuild=params["rebuild"])

    @task(
        inlets=[ASSETS["recv_message"], ASSETS["weekly_diagnostic"]],
        outlets=[ASSETS["module_success_rates"], ASSETS["success_rate"]],
    )
    def publish_rates(collected: dict[str, int], run_id: str) -> object:
        """Append new rates to their table, publish and record them, then delete the diagnostics."""
        from sluice.pipelines.modules import steps

        return steps.publish_rates(run_id, collected)

    check_rates = GateOperator(
        task_id="check_rates",
        gate="modules/rates",
        expectations="Every diagnostic accounted for, rates between 0 and 100.",
        check="sluice.pipelines.modules.steps.check_rates",
    )
    collected = collect()
    collected >> store() >> compute_rates() >> check_rates >> publish_rates(collected)


modules_diagnostics()
