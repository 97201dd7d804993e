"""Wait for a CSV file that has not arrived yet, then let `datasets_aggregate` publish it.

## What it does

Waits until the file exists in the landing bucket, for at most `wait_minutes`, then triggers `datasets_aggregate` with
the file as its `source`. It waits in the triggerer, so it occupies no worker, and files that arrive meanwhile are
published as usual. If the file does not arrive in time, the run fails with a message, and sends an alert.

## Triggered by

A person: `airflow dags trigger datasets_await --conf '{"source": "datasets/sales.csv", "wait_minutes": 60}'`.

## Parameters

* `source`: the file, an `s3://` address below `datasets/` of the landing bucket or such a key.
* `wait_minutes` (default 60): how long to wait, from a minute to a day.

## Reads and writes

* reads whether the object exists; writes nothing

## Running it again

Waits again. Every attempt of its task triggers the same run. The arrival of a file starts `datasets_aggregate` too; a
file that is published already is unchanged and skipped.
"""

from __future__ import annotations

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag

from sluice.settings import load_settings
from sluice_airflow import forms
from sluice_airflow.alerts import after_failed_run
from sluice_airflow.defaults import START, TASK_DEFAULTS
from sluice_airflow.sensors import DatasetSensor


@dag(
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=16,
    default_args=TASK_DEFAULTS,
    on_failure_callback=after_failed_run,
    params={
        "source": Param(
            type="string",
            format=forms.DATASET_KEY,
            title="Source",
            examples=["datasets/sales.csv", f"s3://{load_settings().landing_bucket}/datasets/sales.csv"],
            description="file to wait for: s3:// address or key below datasets/",
        ),
        "wait_minutes": Param(
            60,
            type="integer",
            minimum=1,
            maximum=1440,
            title="Minutes to wait",
            description="minutes until the run fails, at most 1440",
        ),
    },
    tags=["datasets", "ingest"],
    doc_md=__doc__,
)
def datasets_await() -> None:
    wait = DatasetSensor(
        task_id="wait",
        source="{{ params.source }}",
        wait_minutes="{{ params.wait_minutes }}",
        doc_md="Wait in the triggerer until the file exists, `wait_minutes` at most.",
    )
    aggregate = TriggerDagRunOperator(
        task_id="aggregate",
        trigger_dag_id="datasets_aggregate",
        trigger_run_id="awaited__{{ run_id }}",
        conf={"source": "{{ params.source }}"},
        logical_date=None,
        # A retry finds the run that it triggered before.
        skip_when_already_exists=True,
        doc_md="Have the file published by `datasets_aggregate`.",
    )
    wait >> aggregate


datasets_await()
