"""Aggregate CSV files by dp when they are uploaded, and publish each as one parquet file.

## What it does

Drains the queue that is notified of every `.csv` below `datasets/` of the landing bucket, or takes the one file that
`source` names. Rows that do not parse go to quarantine with their line number and a reason, the others are aggregated
by dp. After the gate each file becomes `curated/datasets/<file name>.parquet` in one conditional request. The messages
are deleted last. A file that is unchanged since it was published is skipped. A file that is not such a CSV goes to
quarantine, and the other files are published; if it is that of `source`, the run fails with the reason.

## Triggered by

The arrival of a file (S3 event -> SQS, seen by a doorbell on the depth of the queue); every 30 minutes as a fallback; a
person with a `source`. A run with an empty queue is skipped.

## Parameters

* `source` (default none): the file to process instead of the queue: an `s3://` address below `datasets/` of the landing
  bucket, such a key, or an https URL. Example:
  `airflow dags trigger datasets_aggregate --conf '{"source": "datasets/sales.csv"}'`. A URL may hold a signature after
  `?`: it is kept in the run's `conf` and nowhere else. Control characters, backslashes and `.` or `..` as a part of the
  path are refused, in a URL also when they are percent-encoded. The host of a URL, and of each redirect, must have
  public addresses only, unless `SLUICE_DATASETS_URL_ALLOW_PRIVATE` is set; proxies of the environment are not used.
* `force` (default false): also process files that are unchanged; with `source`, also one whose name belongs to another.

## Reads and writes

* reads the queue `sluice-<environment>-datasets` and `datasets/` of the landing bucket, or an https URL
* writes `curated/datasets/<file name without extension>.parquet`, `quarantine/datasets/<run>/`,
  `quality/datasets/aggregate/`

## Running it again

The same version of a file gives the same bytes, and is skipped when it is published already. An older version that
arrives late never replaces a newer one. Two sources of one file name: the first keeps it, the other one is quarantined.
Messages of a failed run are delivered again when their visibility timeout ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, Param, dag

from sluice.settings import load_settings
from sluice_airflow import forms
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.assets import assets
from sluice_airflow.defaults import NO_BACKFILL, START, TASK_DEFAULTS
from sluice_airflow.doorbell import doorbell
from sluice_airflow.gates import GateOperator
from sluice_airflow.tasks import task

if TYPE_CHECKING:
    from airflow.sdk.types import DagRunProtocol

ASSETS = assets("datasets")
QUEUE = load_settings().datasets_queue
NEW_FILES = doorbell(QUEUE, "datasets_aggregate", "datasets")


def _asked(conf: dict[str, Any] | None) -> tuple[str | None, bool]:
    """`source` and `force` of a run; not those of an earlier run in the same process, which `params` may have."""
    asked = conf or {}
    return asked.get("source"), bool(asked.get("force"))


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("*/30 * * * *", timezone="UTC"), assets=[NEW_FILES]),
    start_date=START,
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "source": Param(
            None,
            type=["null", "string"],
            format=forms.DATASET_SOURCE,
            title="Source",
            examples=[
                "datasets/sales.csv",
                f"s3://{load_settings().landing_bucket}/datasets/sales.csv",
                "https://data.example.org/sales.csv",
            ],
            description="file to process instead of the queue: s3:// address or key below datasets/, or https URL",
        ),
        "force": Param(
            False,
            type="boolean",
            title="Unchanged files too",
            section="Reprocessing",
            description="also process files that are unchanged",
        ),
    },
    tags=["datasets", "aggregate"],
    doc_md=__doc__,
)
def datasets_aggregate() -> None:
    @task.short_circuit
    def collect(run_id: str, dag_run: DagRunProtocol) -> object:
        """Drain the queue, or use the given source; stage the list of files."""
        from sluice.pipelines.datasets import steps

        source, _ = _asked(dag_run.conf)
        return steps.collect(run_id, source)

    @task
    def aggregate(run_id: str, dag_run: DagRunProtocol) -> object:
        """Validate and aggregate each file that is not published already; stage it, quarantine rejected rows."""
        from sluice.pipelines.datasets import steps

        source, force = _asked(dag_run.conf)
        return steps.aggregate(run_id, source, force=force)

    @task(inlets=[ASSETS["dataset_files"]], outlets=[ASSETS["datasets"]])
    def publish(collected: dict[str, int], run_id: str, dag_run: DagRunProtocol) -> object:
        """Publish each file in one conditional request, then delete the messages."""
        from sluice.pipelines.datasets import steps

        source, force = _asked(dag_run.conf)
        return steps.publish(run_id, collected, source, force=force)

    check = GateOperator(
        task_id="check",
        gate="datasets/aggregate",
        expectations="Every row accounted for, min <= max, percentages between 0 and 1, each dp once.",
        check="sluice.pipelines.datasets.steps.check",
    )
    collected = collect()
    collected >> aggregate() >> check >> publish(collected)


datasets_aggregate()
