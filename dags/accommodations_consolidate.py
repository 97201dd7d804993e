"""Consolidate partners' catalogues: for each accommodation the record of the partner with the highest priority.

## What it does

Receives messages about partners' files, reads the current version of each file once, validates every line, and keeps
for each accommodation the record of the highest-priority partner, of a partner its newest. The result is packed into
files of at most 500,000 bytes, and merged into the current catalogue of all files ever seen. After the gate the batch
is announced, its files are copied, two Iceberg tables get one snapshot each (first the candidates, the newest record of
each partner, then the catalogue derived from them), and the messages are deleted last. The message of a file that
cannot be read stays in the queue and becomes a dead letter after ten receives (`sluice dead-letters`).

## Triggered by

The arrival of a file (S3 event -> SQS, seen by a doorbell on the depth of the queue); every 30 minutes as a fallback,
which also detects changes of the priority list or the blocked partners, or a rollback of a table, and computes the
current catalogue anew from the candidates. A run without work is skipped.

## Parameters

* `withdraw` (default none): accommodations whose records of all partners are removed from the catalogue, until a
  partner sends them again. Example:
  `airflow dags trigger accommodations_consolidate --conf '{"withdraw": ["A-17"]}'`

The maximum number of messages of a run is the setting `SLUICE_ACCOMMODATIONS_MAX_MESSAGES`, and the lists are
maintained by `sluice partners set-priority`, `block`, `unblock` and `show`.

## Reads and writes

* reads the queue `sluice-<environment>-accommodations`, `accommodations/` of the landing bucket, the DynamoDB table
  `SLUICE_ACCOMMODATIONS_PRIORITY_TABLE`
* writes `curated/accommodations/year=/month=/day=/output_object-<MICROSECOND>.jsonl`, the Iceberg tables
  `accommodations_candidates` and `accommodations_current`, `quarantine/accommodations/<run>/`,
  `quality/accommodations/consolidate/`, the DynamoDB table `SLUICE_ACCOMMODATIONS_LEDGER_TABLE`

## Running it again

The next run completes an announced batch, under the same names. A published file is in the ledger, so a further event
of it counts as a duplicate. Messages of a failed run are delivered again when their visibility timeout ends.
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
            description="ids of accommodations whose records are removed from the catalogue, one a line, such as A-17",
        )
    },
    tags=["accommodations", "aggregate"],
    doc_md=__doc__,
)
def accommodations_consolidate() -> None:
    @task.short_circuit
    def collect(run_id: str, dag_run: DagRunProtocol) -> object:
        """Complete the announced batch of a crashed run, receive messages, look up their files."""
        from sluice.pipelines.accommodations import steps

        # From the conf of the run: `params` may be those of an earlier run in the same process.
        return steps.collect(run_id, (dag_run.conf or {}).get("withdraw") or ())

    @task
    def consolidate(run_id: str) -> object:
        """Read the files, apply the rule, merge the current catalogue, stage the results."""
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
        expectations="Each record and event accounted for, each accommodation once, no blocked or unlisted partner.",
        check="sluice.pipelines.accommodations.steps.check_outputs",
    )
    collect() >> consolidate() >> check_outputs >> publish()


accommodations_consolidate()
