"""Send messages about partners' files that could not be read back to the queue, once the files were mended.

## What it does

Looks at the dead letters and logs which files they are about, with size and time of each as it is now. Unless it is a
dry run, each message is sent to the work queue again and only then deleted here, and `accommodations_consolidate` takes
it from there.

## Triggered by

A person, when the dead-letter queue of `accommodations_consolidate` is not empty.

## Parameters

* `dry_run` (default true): only look. Example:
  `airflow dags trigger accommodations_redrive --conf '{"dry_run": false}'`
* `max_messages` (default 1000): how many to send back at the most.

## Reads and writes

* reads the queue `sluice-<environment>-accommodations-dead-letters` and the headers of the files
* writes the queue `sluice-<environment>-accommodations`

## Running it again

Sends back what is there. A run that dies between sending and deleting leaves a message in both queues; its file is
published once all the same.
"""

from __future__ import annotations

from airflow.sdk import Param, dag, task

from sluice_airflow.alerts import after_failed_run
from sluice_airflow.defaults import START, TASK_DEFAULTS


@dag(
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "dry_run": Param(True, type="boolean", description="only look at the dead letters"),
        "max_messages": Param(1000, type="integer", minimum=1, maximum=100_000, description="how many at the most"),
    },
    tags=["accommodations", "redrive"],
    doc_md=__doc__,
)
def accommodations_redrive():
    @task
    def inspect(params: dict) -> dict:
        """What waits, and whether its files are there."""
        from sluice.accommodations import steps

        return steps.inspect(params["max_messages"])

    @task
    def redrive(params: dict) -> dict[str, int]:
        """Send the messages back, unless it is a dry run."""
        from sluice.accommodations import steps

        return steps.redrive(params["max_messages"], dry_run=params["dry_run"])

    inspect() >> redrive()


accommodations_redrive()
