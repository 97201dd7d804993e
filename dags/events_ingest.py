"""Drain the event stream into raw parquet by the hour in which each event was created.

## What it does

Reads every shard of the stream from its checkpoint, parents before children, transforms the records with one SQL file,
and stages parquet by hour, and rejected records with their reason. Additional fields go into columns, including new
ones; values that no column holds exactly stay as received in the column `rescued_data`. After the gate the batch is
announced in the checkpoint table, its files are copied to `raw/`, their hours are marked as dirty, and the checkpoints
move last. Hours that are over and were published before are processed again: `events_hourly` gets a run
`late__<hour>__<this run>` for each, whose note and `conf` say why. An hour is not requested while a run of
`events_hourly`, or of `events_rebuild` for its day, is queued or running. Without new records, gate and publication are
skipped.

## Triggered by

The schedule, every 5 minutes. A run reads the records in the stream, so missed runs are not made up.

## Parameters

None; the maximum number of records of a run is the setting `SLUICE_EVENTS_MAX_RECORDS`.

## Reads and writes

* reads the Kinesis stream `SLUICE_EVENTS_STREAM`
* writes `raw/events/year=/month=/day=/hour=/<shard>-<first>-<last>.parquet`, `quarantine/events/<shard>/`,
  `quality/events/ingest/`, new columns of the Glue table `raw_events`, the DynamoDB tables
  `SLUICE_EVENTS_CHECKPOINT_TABLE` and `SLUICE_EVENTS_HOURS_TABLE`

## Running it again

Files are named by the records in them. A batch that was announced and not committed is drained again by the next run up
to exactly the same records, and overwrites its files. Of two concurrent runs, one fails with a message.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronTriggerTimetable, dag

from sluice_airflow.alerts import after_failed_run
from sluice_airflow.assets import assets
from sluice_airflow.defaults import NO_BACKFILL, START, TASK_DEFAULTS
from sluice_airflow.gates import GateOperator
from sluice_airflow.skipping import return_and_skip
from sluice_airflow.tasks import task

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk.types import RuntimeTaskInstanceProtocol

ASSETS = assets("events")


@dag(
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    tags=["events", "ingest"],
    doc_md=__doc__,
)
def events_ingest() -> None:
    @task
    def drain(run_id: str, ti: RuntimeTaskInstanceProtocol) -> object:
        """Read every shard from its checkpoint, transform the records, stage the results."""
        from sluice.pipelines.events import steps

        counts = steps.drain(run_id)
        return counts if counts["shards"] else return_and_skip(ti, counts, ["check_batch", "publish_batch"])

    @task(inlets=[ASSETS["event_stream"]], outlets=[ASSETS["raw_events"]])
    def publish_batch(run_id: str) -> object:
        """Announce the batch, write quarantine and raw files, move the checkpoints last."""
        from sluice.pipelines.events import steps

        return steps.publish_batch(run_id)

    @task(trigger_rule="none_failed")
    def find_late_hours(run_id: str, ti: RuntimeTaskInstanceProtocol) -> list[dict[str, Any]]:
        """Hours that are over and dirty, without those of queued or running runs."""
        from sluice.pipelines.events import steps

        def has_run(dag_id: str, logical_date: datetime) -> bool:
            return ti.get_dr_count(dag_id, logical_dates=[logical_date], states=["queued", "running"]) > 0

        return steps.find_late_hours(run_id, has_run)

    check_batch = GateOperator(
        task_id="check_batch",
        gate="events/ingest",
        expectations="Every record accounted for, required columns not null, created_at inside its hour.",
        check="sluice.pipelines.events.steps.check_batch",
    )
    late_hours = find_late_hours()
    drain() >> check_batch >> publish_batch() >> late_hours
    TriggerDagRunOperator.partial(
        task_id="process_late_hour",
        trigger_dag_id="events_hourly",
        logical_date=None,
        # A retry finds the run that it triggered before.
        skip_when_already_exists=True,
    ).expand_kwargs(late_hours)


events_ingest()
