"""Maintain the Iceberg tables: merge small files, expire snapshots, delete orphan files.

## What it does

For each published table, one after the other: rewrites partitions that have many small files as one file each; expires
the snapshots that were replaced `SLUICE_TABLE_RETENTION_HOURS` ago; deletes orphan files older than that and 6 hours. A
snapshot in use by a reader stays readable for the retention. `sluice tables maintain` does the same from a shell.
It also removes records of `platform_canary` that a pipeline published after its timeout (docs/decisions/0033).

With `SLUICE_TABLE_MAINTENANCE=glue`, on an AWS account, the table optimizers of Glue do it instead, and a run of this
Dag only removes records of `platform_canary`.

## Triggered by

The schedule, every day at 03:00 UTC.

## Parameters

* `dry_run` (default false): only count. Example: `airflow dags trigger platform_maintain --conf '{"dry_run": true}'`

## Reads and writes

* reads and writes the Iceberg tables of the Glue database `SLUICE_GLUE_DATABASE`, and their files below `curated/`
* writes `staging/platform/<run>/`
* reads the DynamoDB table `SLUICE_RUNS_TABLE`; while it shows that records of a canary may exist, removes them from all
  pipelines

## Running it again

Completes the remaining work. A writer that publishes a partition while it is rewritten wins. Orphan files of a killed
run are deleted by a later one.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import CronTriggerTimetable, Param, dag

from sluice.lake import run_slug
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.defaults import NO_BACKFILL, START, TASK_DEFAULTS
from sluice_airflow.tasks import task

log = logging.getLogger(__name__)


@dag(
    schedule=CronTriggerTimetable("0 3 * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="only count what would be done",
        )
    },
    tags=["platform", "maintenance"],
    doc_md=__doc__,
)
def platform_maintain() -> None:
    @task.short_circuit
    def list_tables() -> list[str]:
        """Names of the published tables; none if Glue maintains them, which skips the rest."""
        from sluice.aws.tables import reading
        from sluice.aws.tables.optimizers import MAINTAINED_BY_GLUE
        from sluice.settings import load_settings

        if load_settings().table_maintenance == "glue":
            log.info(MAINTAINED_BY_GLUE)
            return []
        return reading.names()

    # One after the other: each holds a partition in memory while it rewrites it.
    @task(max_active_tis_per_dagrun=1)
    def maintain(table: str, run_id: str, params: dict[str, Any]) -> object:
        """Merge small files, expire snapshots, delete orphan files; returns the numbers."""
        from dataclasses import asdict
        from datetime import UTC, datetime

        from sluice.aws.tables import maintenance

        done = maintenance.maintain(table, run_slug(run_id), datetime.now(UTC), dry_run=params["dry_run"])
        return asdict(done)

    @task
    def clean_up_canary(run_id: str, params: dict[str, Any]) -> object:
        """Remove records that pipelines published after the cleanup of their canary; returns the numbers."""
        from sluice.monitoring.canary import steps

        return {} if params["dry_run"] else steps.clean_up_late(run_id)

    maintain.expand(table=list_tables())
    clean_up_canary()


platform_maintain()
