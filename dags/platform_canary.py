"""Send one record through each pipeline, and compare it with the published one: proves a deployment end to end.

## What it does

Sends a record with a reserved name (`sluice-canary`) to each pipeline: an object of Docker Hub, an event, a message and
a diagnostic of a module, a partner's file, a CSV. Waits until the pipelines have published them, compares published
with sent records, stores the latency of each (metric `CanaryLatency`, `sluice status`), and removes all of them again.
If a record differs, or is not published within `SLUICE_CANARY_TIMEOUT_SECONDS`, the run fails with a message that names
the pipeline; no record is sent to a pipeline whose Dag is paused. `sluice verify` runs it and prints a line for each
pipeline. Which records are written where, and why they cannot be confused with real data: docs/decisions/0033.

## Triggered by

A person, by `sluice verify`; and the schedule `SLUICE_CANARY_SCHEDULE`, if it is set.

## Parameters

None.

## Reads and writes

* writes `raw/dockerhub/namespace=sluice-canary/`, the Kinesis stream `SLUICE_EVENTS_STREAM`, the topics
  `sluice-<environment>-recv_message` and `weekly_diagnostic`, `accommodations/` and `datasets/` of the landing bucket
* reads the DynamoDB tables `dockerhub_stats`, `SLUICE_EVENTS_HOURS_TABLE` and
  `SLUICE_ACCOMMODATIONS_LEDGER_TABLE`, the Iceberg tables `events` and `accommodations_current`, the queue
  `sluice-<environment>-canary`, `curated/datasets/sluice-canary.parquet`
* triggers `events_ingest`, which then triggers `events_hourly`; and `accommodations_consolidate`, which removes the
  canary from the catalogue
* writes the DynamoDB table `SLUICE_RUNS_TABLE`

## Running it again

Removes records of earlier runs first, also those of a killed run. Two runs are never active at once. Records that a
pipeline publishes after the timeout are removed by the next run, or by `platform_maintain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.s3 import S3CreateObjectOperator
from airflow.providers.amazon.aws.operators.sns import SnsPublishOperator
from airflow.providers.amazon.aws.sensors.dynamodb import DynamoDBValueSensor
from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.amazon.aws.sensors.sqs import SqsSensor
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task_group

from sluice.monitoring.canary import records, steps
from sluice.pipelines.dockerhub.transform import MARKER_SK
from sluice.pipelines.events import storage
from sluice.settings import load_settings
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.canary import note_time, observe, require_withdrawn, skip_unless_ready
from sluice_airflow.defaults import NO_BACKFILL, START, TASK_DEFAULTS
from sluice_airflow.tasks import task

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

SETTINGS = load_settings()
SCHEDULE = CronTriggerTimetable(SETTINGS.canary_schedule, timezone="UTC") if SETTINGS.canary_schedule else None

PUT: dict[str, Any] = {"pre_execute": skip_unless_ready, "post_execute": note_time}
SENSOR: dict[str, Any] = {
    # The triggerer waits for all of them, so that no slot of a worker is occupied meanwhile.
    "deferrable": True,
    "poke_interval": 1,
    "timeout": SETTINGS.canary_timeout_seconds,
    # One alert: only `verify` fails.
    "soft_fail": True,
    "post_execute": note_time,
}


def sent(pipeline: str, name: str) -> str:
    """Template of a value in the result of the task `prepare`."""
    return f"{{{{ ti.xcom_pull(task_ids='prepare')['{pipeline}']['{name}'] }}}}"


@dag(
    schedule=SCHEDULE,
    start_date=START,
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    tags=["platform", "maintenance"],
    doc_md=__doc__,
)
def platform_canary() -> None:
    @task
    def prepare(run_id: str) -> object:
        """Remove records of earlier canaries; prepare those of this one."""
        return steps.prepare(run_id)

    @task_group
    def dockerhub() -> None:
        """An object of Docker Hub becomes an item."""
        put = S3CreateObjectOperator(
            task_id="put",
            s3_bucket=SETTINGS.lake_bucket,
            s3_key=sent("dockerhub", "key"),
            data=sent("dockerhub", "body"),
            replace=True,
            **PUT,
        )
        item = DynamoDBValueSensor(
            task_id="item",
            table_name=SETTINGS.dockerhub_table,
            partition_key_name="PK",
            partition_key_value=records.REPOSITORY_KEY,
            sort_key_name="SK",
            sort_key_value=MARKER_SK,
            attribute_name="last_updated",
            attribute_value=sent("dockerhub", "last_updated"),
            **SENSOR,
        )
        put >> item

    @task_group
    def events() -> None:
        """An event becomes a row of a raw file, then of the table `events`."""

        @task(**PUT)
        def put(ti: RuntimeTaskInstanceProtocol) -> None:
            """Put the event into the stream."""
            steps.put_event(ti.xcom_pull(task_ids="prepare")["events"])

        # Its schedule would start a run only within five minutes.
        ingest = TriggerDagRunOperator(
            task_id="ingest",
            trigger_dag_id="events_ingest",
            logical_date=None,
            note="requested by {{ dag.dag_id }} {{ run_id }}",
        )
        raw = S3KeySensor(
            task_id="raw",
            bucket_name=SETTINGS.lake_bucket,
            bucket_key=f"{storage.RAW_PREFIX}{storage.hour_partition(records.EVENT_HOUR)}*.parquet",
            wildcard_match=True,
            **SENSOR,
        )
        # The item that events_hourly writes once it has published the hour.
        hour = DynamoDBValueSensor(
            task_id="hour",
            table_name=SETTINGS.events_hours_table,
            partition_key_name="state",
            partition_key_value=f"{SETTINGS.events_stream}#published",
            sort_key_name="hour",
            sort_key_value=storage.hour_text(records.EVENT_HOUR),
            attribute_name="hour",
            attribute_value=storage.hour_text(records.EVENT_HOUR),
            **SENSOR,
        )
        put() >> ingest >> raw >> hour

    @task_group
    def modules() -> None:
        """A message and a diagnostic become a success rate."""
        put = SnsPublishOperator(
            task_id="put", target_arn=sent("modules", "message_topic"), message=sent("modules", "message"), **PUT
        )
        diagnostic = SnsPublishOperator(
            task_id="diagnostic",
            target_arn=sent("modules", "diagnostic_topic"),
            message=sent("modules", "diagnostic"),
        )
        rate = SqsSensor(task_id="rate", sqs_queue=sent("modules", "queue_url"), **SENSOR)
        put >> diagnostic >> rate

    @task_group
    def accommodations() -> None:
        """A partner's file becomes a record of the catalogue."""

        @task(**PUT)
        def put(ti: RuntimeTaskInstanceProtocol) -> str:
            """Upload the partner's file; returns the key of its item in the ledger of published files."""
            return steps.put_partner_file(ti.xcom_pull(task_ids="prepare")["accommodations"])

        # Any, as the sensor renders it: its type is text.
        ledger_key: Any = put()
        published = DynamoDBValueSensor(
            task_id="published",
            table_name=SETTINGS.accommodations_ledger_table,
            partition_key_name="PK",
            partition_key_value=ledger_key,
            attribute_name="PK",
            attribute_value=ledger_key,
            **SENSOR,
        )
        ledger_key >> published

    @task_group
    def datasets() -> None:
        """A CSV becomes a parquet file."""
        put = S3CreateObjectOperator(
            task_id="put",
            s3_bucket=SETTINGS.landing_bucket,
            s3_key=records.DATASET_FILE,
            data=sent("datasets", "body"),
            replace=True,
            **PUT,
        )
        output = S3KeySensor(
            task_id="output", bucket_name=SETTINGS.lake_bucket, bucket_key=records.DATASET_OUTPUT, **SENSOR
        )
        put >> output

    @task(trigger_rule="all_done")
    def verify(run_id: str, ti: RuntimeTaskInstanceProtocol) -> object:
        """Compare published with sent records; record results and latencies."""
        return steps.verify(run_id, ti.xcom_pull(task_ids="prepare"), observe(get_current_context()))

    @task_group
    def cleanup(prepared: Any) -> None:
        """Runs also after failures of tasks after `prepare`, and fails the run if it fails."""

        @task
        def delete_file() -> None:
            """Delete the partner's file, so that no later run of accommodations_consolidate publishes it."""
            steps.delete_partner_file()

        # By a run of the Dag that is the only writer of the catalogue, after the run that may publish the file.
        withdraw = TriggerDagRunOperator(
            task_id="withdraw",
            pre_execute=skip_unless_ready,
            trigger_dag_id="accommodations_consolidate",
            logical_date=None,
            conf=steps.withdrawal(),
            note="requested by {{ dag.dag_id }} {{ run_id }}",
            wait_for_completion=True,
            deferrable=True,
            poke_interval=1,
        ).as_teardown(setups=prepared)

        @task
        def clean_up(run_id: str) -> object:
            """Remove the records of all canaries from files and tables."""
            context = get_current_context()
            removed = steps.clean_up(run_id, observe(context))
            require_withdrawn(context)
            return removed

        # The state of the run is that of `verify` and `clean_up`.
        deleted = delete_file().as_teardown(setups=prepared)
        cleaned = clean_up().as_teardown(setups=prepared, on_failure_fail_dagrun=True)
        deleted >> withdraw >> cleaned

    prepared = prepare().as_setup()
    pipelines = [dockerhub(), events(), modules(), accommodations(), datasets()]
    prepared >> pipelines >> verify() >> cleanup(prepared)


platform_canary()
