"""Look at all pipelines every 5 minutes, and tell people what is stale, stuck or failing.

## What it does

Reads the last run of every Dag, the depth of every queue and dead-letter queue and how long the streams have waited,
sends the CloudWatch metrics that AWS does not have (freshness of each curated table, age of queues, lag of streams,
stale Dags), and publishes one message to the topic of alerts when something begins, every
`SLUICE_ALERT_REPEAT_HOURS` while it lasts, and when it is over. `sluice status` shows the same at any time.

## Triggered by

The schedule, every 5 minutes. It looks at what is now, so it never catches up. Where it does not come to its end for 15
minutes, the alarm `sluice-<environment>-watch-silent` of CloudWatch tells.

## Parameters

None. What it looks at is one table, `include/sluice/monitoring/pipelines.py`.

## Reads and writes

* reads the DynamoDB table `SLUICE_RUNS_TABLE`, which every task writes to, attributes of queues, heads of streams
* writes that table, metrics of the namespace `Sluice`, messages to the topic `sluice-<environment>-alerts`

## Running it again

What was announced is kept in the table: a retry sends only what the try before it did not.
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
    # Where slots are scarce, the look at all pipelines comes first.
    default_args=TASK_DEFAULTS | {"priority_weight": 100},
    on_failure_callback=after_failed_run,
    tags=["platform", "maintenance"],
    doc_md=__doc__,
)
def platform_watch() -> None:
    @task
    def observe(run_id: str) -> object:
        """Look at runs, queues and streams; send metrics, stage what is wrong."""
        from airflow.sdk.configuration import conf

        from sluice.monitoring import steps

        return steps.observe(run_id, conf.get("api", "base_url", fallback="http://localhost:8080"))

    @task
    def announce(run_id: str) -> object:
        """Tell people what is new, what still lasts, and what is over."""
        from sluice.monitoring import steps

        return steps.send_alerts(run_id)

    observe() >> announce()


platform_watch()
