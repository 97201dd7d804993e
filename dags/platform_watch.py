"""Check all pipelines every 5 minutes, and send alerts about stale, stuck or failing ones.

## What it does

Reads the last run of every Dag, the depth of every queue and dead-letter queue and how long the streams have waited,
sends the CloudWatch metrics that AWS does not have (freshness of each curated table, age of queues, lag of streams,
stale Dags), and publishes one message to the topic of alerts when a problem begins, every
`SLUICE_ALERT_REPEAT_HOURS` while it lasts, and when it is over. `sluice status` shows the same at any time.

## Triggered by

The schedule, every 5 minutes. It checks the current state, so missed runs are not made up. If no run succeeds for 15
minutes, the alarm `sluice-<environment>-watch-silent` of CloudWatch is raised.

## Parameters

None. The checked pipelines are in `include/sluice/monitoring/pipelines.py`.

## Reads and writes

* reads the DynamoDB table `SLUICE_RUNS_TABLE`, which every task writes to, attributes of queues, heads of streams
* writes that table, metrics of the namespace `Sluice`, messages to the topic `sluice-<environment>-alerts`

## Running it again

Sent alerts are recorded in the table: a retry sends only the others.
"""

from __future__ import annotations

from airflow.sdk import CronTriggerTimetable, dag

from sluice_airflow.alerts import after_failed_run
from sluice_airflow.defaults import NO_BACKFILL, START, TASK_DEFAULTS
from sluice_airflow.tasks import task


@dag(
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    # Highest priority when slots are scarce.
    default_args=TASK_DEFAULTS | {"priority_weight": 100},
    on_failure_callback=after_failed_run,
    tags=["platform", "maintenance"],
    doc_md=__doc__,
)
def platform_watch() -> None:
    @task
    def observe(run_id: str) -> object:
        """Observe runs, queues and streams; send metrics, stage problems."""
        from airflow.sdk.configuration import conf

        from sluice.monitoring import steps

        return steps.observe(run_id, conf.get("api", "base_url", fallback="http://localhost:8080"))

    @task
    def announce(run_id: str) -> object:
        """Send alerts for problems that are new, lasting, or over."""
        from sluice.monitoring import steps

        return steps.send_alerts(run_id)

    observe() >> announce()


platform_watch()
