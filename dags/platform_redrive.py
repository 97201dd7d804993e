"""Send the dead letters of a pipeline back to its queues, once the cause of their failure is fixed.

## What it does

Lists the dead letters of one pipeline and logs the subject of each, whether the objects that it names exist, and the
error, if known. Unless it is a dry run, each message is sent to its work queue again and only then deleted from the
dead letters; the next run of the pipeline receives it. Attributes and the time when it was first sent are kept.
`sluice dead-letters list` and `redrive` do the same from a shell.

## Triggered by

A person, when a dead-letter queue is not empty (reported by `sluice status` and an alert).

## Parameters

* `pipeline`: whose dead letters.
* `max_messages` (default 1000): maximum number of each queue.
* `dry_run` (default true): only list. Example:
  `airflow dags trigger platform_redrive --conf '{"pipeline": "modules", "dry_run": false}'`

## Reads and writes

* reads the queues `<queue>-dead-letters` of the pipeline, and the headers of the objects that messages name
* writes the work queues of the pipeline

## Running it again

Sends the remaining messages. After a kill between sending and deleting, a message is in both queues; every pipeline
processes a message delivered twice once.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag

from sluice.monitoring.pipelines import pipelines
from sluice.settings import load_settings
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.defaults import START, TASK_DEFAULTS
from sluice_airflow.tasks import task

PIPELINES = [pipeline.name for pipeline in pipelines(load_settings()) if pipeline.queues]


@dag(
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "pipeline": Param(
            type="string",
            enum=PIPELINES,
            title="Pipeline",
            description="whose dead letters",
        ),
        "max_messages": Param(
            1000,
            type="integer",
            minimum=1,
            maximum=100_000,
            title="Messages at most",
            description="of each queue",
        ),
        "dry_run": Param(True, type="boolean", title="Dry run", description="only list the dead letters"),
    },
    tags=["platform", "redrive"],
    doc_md=__doc__,
)
def platform_redrive() -> None:
    @task
    def inspect(params: dict[str, Any]) -> object:
        """Log the subject of each dead letter; returns the number of each queue."""
        from sluice.monitoring import dead_letters

        return dead_letters.log_letters(load_settings(), params["pipeline"], params["max_messages"])

    @task
    def redrive(params: dict[str, Any]) -> object:
        """Send the messages back, unless it is a dry run."""
        from sluice.monitoring import dead_letters

        dry_run = params["dry_run"]
        return dead_letters.redrive(load_settings(), params["pipeline"], params["max_messages"], dry_run=dry_run)

    inspect() >> redrive()


platform_redrive()
