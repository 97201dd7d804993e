"""Consolidate partners' catalogues: of each accommodation the record of the partner that comes first.

## What it does

Takes messages about partners' files, reads each file once as it is now, judges every line, and keeps for each
accommodation the record of the highest-priority partner, of a partner its newest. The result is packed into files of at
most 500,000 bytes, and merged into the current catalogue of all files ever seen. After the gate the batch is announced,
its files are copied, two Iceberg tables get one snapshot each (first the candidates, the newest record of each partner,
then the catalogue that follows from them), and the messages are deleted last. The message of a file that cannot be read
stays in the queue and is a dead letter after ten receives (`sluice dead-letters`).

## Triggered by

The arrival of a file (S3 event -> SQS, seen by a doorbell on the depth of the queue); every 30 minutes as a safety net,
which also notices that the priority list or the blocked partners changed, or that a table was rolled back, and computes
the current catalogue anew from the candidates. A run that finds nothing to do skips.

## Parameters

* `withdraw` (default none): accommodations whose records of all partners are taken out of the catalogue, until a
  partner sends them again. Example:
  `airflow dags trigger accommodations_consolidate --conf '{"withdraw": ["A-17"]}'`

How many messages a run takes is the setting `SLUICE_ACCOMMODATIONS_MAX_MESSAGES`, and the lists are maintained by
`sluice partners set-priority`, `block`, `unblock` and `show`.

## Reads and writes

* reads the queue `sluice-<environment>-accommodations`, `accommodations/` of the landing bucket, the DynamoDB table
  `SLUICE_ACCOMMODATIONS_PRIORITY_TABLE`
* writes `curated/accommodations/year=/month=/day=/output_object-<MICROSECOND>.jsonl`, the Iceberg tables
  `accommodations_candidates` and `accommodations_current`, `quarantine/accommodations/<run>/`,
  `quality/accommodations/consolidate/`, the DynamoDB table `SLUICE_ACCOMMODATIONS_LEDGER_TABLE`

## Running it again

A batch that was announced is published to its end by the next run, under the same names. A file that was published is
in the ledger, so its event counts as a duplicate whenever it comes again. Messages of a failed run come back when
their visibility timeout ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, dag

from sluice.settings import load_settings
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.assets import assets
from sluice_airflow.defaults import NO_BACKFILL, START, TASK_DEFAULTS
from sluice_airflow.doorbell import doorbell
from sluice_airflow.gates import GateOperator
from sluice_airflow.tasks import task

if TYPE_CHECKING:
    from airflow.sdk.types import DagRunProtocol

ASSETS = assets("accommodations")
QUEUE = load_settings().accommodations_queue
NEW_PARTNER_FILES = doorbell(QUEUE, "accommodations_consolidate", "accommodations")


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/30 * * * *", timezone="UTC"), assets=[NEW_PARTNER_FILES]
    ),
    start_date=START,
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "withdraw": Param(
            [],
            type="array",
            items={"type": "string", "minLength": 1},
            title="Withdraw",
            description="ids of accommodations whose records are taken out of the catalogue, one a line, such as A-17",
        )
    },
    tags=["accommodations", "aggregate"],
    doc_md=__doc__,
)
def accommodations_consolidate() -> None:
    @task.short_circuit
    def collect(run_id: str, dag_run: DagRunProtocol) -> object:
        """Finish the batch that a crashed run had announced, take messages, find out which files they are about."""
        from sluice.pipelines.accommodations import steps

        # Of its conf: `params` keep those of the run before where runs share a process.
        return steps.collect(run_id, (dag_run.conf or {}).get("withdraw") or ())

    @task
    def consolidate(run_id: str) -> object:
        """Read the files, apply the rule, merge the current catalogue, stage all of it."""
        from sluice.pipelines.accommodations import steps

        return steps.consolidate(run_id)

    @task(
        inlets=[ASSETS["partner_files"]],
        outlets=[ASSETS["accommodations"], ASSETS["accommodations_candidates"], ASSETS["accommodations_current"]],
    )
    def publish(run_id: str) -> object:
        """Announce the batch, write its files, commit its tables, delete the messages last."""
        from sluice.pipelines.accommodations import steps

        return steps.publish(run_id)

    check_outputs = GateOperator(
        task_id="check_outputs",
        gate="accommodations/consolidate",
        expectations="Each record and event accounted for, each accommodation once, no partner that may not be used.",
        check="sluice.pipelines.accommodations.steps.check_outputs",
    )
    collect() >> consolidate() >> check_outputs >> publish()


accommodations_consolidate()
