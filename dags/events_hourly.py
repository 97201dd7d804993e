"""Publish one hour of events: deduplicated, in few large files, in one atomic commit.

## What it does

Registers the hour's raw files in the Glue catalog, keeps the earliest row of each `event_uuid` that the hours before do
not have, and stages few large files. A crawl is started too, but not for late and backfilled hours, nor for an hour
without raw files: then it is skipped without a process. After the gate one commit replaces the rows of the hour in the
Iceberg table `events`. The snapshots before it can be read for `SLUICE_TABLE_RETENTION_HOURS`.

## Triggered by

The schedule, every hour for the hour that is over: the logical date is the start of the hour. `events_ingest`, for an
hour with late events; the note of such a run, its id and its `conf` have the reason.
`airflow dags test events_hourly 2024-04-07T17:00:00+00:00` makes that hour,
`airflow backfill create --dag-id events_hourly --from-date ... --to-date ...` any range.

## Parameters

* `hour` (default none): the hour to process, ISO 8601, where it is not the logical date.
  Example: `airflow dags trigger events_hourly --conf '{"hour": "2024-04-07T17:00:00+00:00"}'`
* `reason` (default none): why the hour is processed; shown with the run.

## Reads and writes

* reads `raw/events/year=/month=/day=/hour=/` of the hour and of `SLUICE_EVENTS_DEDUP_WINDOW_HOURS` before it
* writes partitions of the Glue table `raw_events`, the hour in the Iceberg table `events`,
  `quality/events/hourly/`, the DynamoDB table `SLUICE_EVENTS_HOURS_TABLE`

## Running it again

The same raw files give the same rows, and publishing them again changes nothing. Hours may be processed in any order
and concurrently. After a crash of a run its hour is still dirty, and the next ingest requests it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.amazon.aws.operators.glue_crawler import GlueCrawlerRunOperator
from airflow.sdk import Param, dag

from sluice.lake import run_slug, staging_key
from sluice.settings import load_settings
from sluice_airflow import forms
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.assets import assets
from sluice_airflow.defaults import START, TASK_DEFAULTS
from sluice_airflow.gates import GateOperator
from sluice_airflow.skipping import return_and_skip
from sluice_airflow.tasks import task
from sluice_airflow.timetable import StartOfIntervalTimetable

if TYPE_CHECKING:
    from airflow.sdk.types import DagRunProtocol, RuntimeTaskInstanceProtocol

ASSETS = assets("events")
JOB_MANIFEST = staging_key("events", "{{ run_slug(run_id) }}", "hourly/manifest.json")


def without_crawl(ti: RuntimeTaskInstanceProtocol, dag_run: DagRunProtocol, counts: dict[str, int]) -> dict[str, int]:
    """Return the result of the task, and skip the crawl if the hour needs none.

    AWS bills ten minutes for each crawl, and the files of a late or backfilled hour are registered one by one.
    """
    is_done_again = dag_run.run_type == "backfill" or (dag_run.conf or {}).get("hour")
    needs_crawl = counts["raw_files"] and not is_done_again
    return counts if needs_crawl else return_and_skip(ti, counts, ["crawl"])


@dag(
    schedule=StartOfIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=4,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "hour": Param(
            None,
            type=["null", "string"],
            # For the date picker of the form; Airflow itself does not check it.
            format="date-time",
            allOf=[{"format": forms.EVENTS_HOUR}],
            title="Hour",
            description="hour to process, if not the logical date, such as 2024-04-07T17:00:00+00:00",
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            title="Reason",
            section="Note for others",
            examples=["the raw files of this hour were repaired"],
            description="why the hour is processed",
        ),
    },
    user_defined_macros={"run_slug": run_slug, "settings": load_settings},
    tags=["events", "aggregate"],
    doc_md=__doc__,
)
def events_hourly() -> None:
    @task
    def register_partition(run_id: str, dag_run: DagRunProtocol, ti: RuntimeTaskInstanceProtocol) -> object:
        """Register columns and partition from the footers of the raw files; stage the list of files."""
        from sluice.pipelines.events import steps

        hour = steps.hour_to_process(dag_run.logical_date, dag_run.conf)
        return without_crawl(ti, dag_run, steps.register_partition(run_id, hour))

    @task
    def dedup(run_id: str, dag_run: DagRunProtocol, ti: RuntimeTaskInstanceProtocol) -> object:
        """Register the hour's raw files, keep the earliest row of each event, stage few large files."""
        from sluice.pipelines.events import steps

        hour = steps.hour_to_process(dag_run.logical_date, dag_run.conf)
        return without_crawl(ti, dag_run, steps.register_partition(run_id, hour) | steps.dedup(run_id))

    @task
    def collect_job_result(run_id: str) -> object:
        """Read the result of the Glue job in staging, and measure it."""
        from sluice.pipelines.events import steps

        return steps.dedup(run_id)

    # The run does not wait for it: a crawl takes minutes, and the files of this hour are registered from their footers.
    crawl = GlueCrawlerRunOperator(
        task_id="crawl",
        crawler_name="{{ settings().resource_prefix }}-events",
        fail_on_already_running=False,
        wait_for_completion=False,
    )

    # One at a time: concurrent commits to one table are retried, with growing pauses.
    @task(
        inlets=[ASSETS["raw_events"]], outlets=[ASSETS["events"]], max_active_tis_per_dag=1, trigger_rule="none_failed"
    )
    def publish_hour(run_id: str) -> object:
        """Replace the hour in the table `events` in one commit."""
        from sluice.pipelines.events import steps

        return steps.publish_hour(run_id)

    if load_settings().events_engine == "glue":
        from airflow.providers.amazon.aws.operators.glue import GlueJobOperator

        dedup_job = GlueJobOperator(
            task_id="dedup_job",
            job_name="{{ settings().resource_prefix }}-events-dedup",
            script_args={"--manifest": f"s3://{{{{ settings().lake_bucket }}}}/{JOB_MANIFEST}"},
        )
        registered, deduplicated = register_partition(), collect_job_result()
        registered >> dedup_job >> deduplicated
    else:
        registered = deduplicated = dedup()
    check_hour = GateOperator(
        task_id="check_hour",
        gate="events/hourly",
        expectations="Uuids unique, columns not null, created_at inside the hour, raw = curated + duplicates.",
        check="sluice.pipelines.events.steps.check_hour",
    )
    published = publish_hour()
    registered >> crawl >> published
    deduplicated >> check_hour >> published


events_hourly()
