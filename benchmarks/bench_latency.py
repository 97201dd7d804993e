"""Time from an arrival to its publication, relative to a Dag of three empty tasks with the same doorbell.

Arrivals are a raw object of Docker Hub, a partner's file, a CSV and a diagnostic. Runs the whole stack (scheduler,
triggerer, PostgreSQL, embedded AWS) on ports and in a home of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BASELINE_DAG = """
from airflow.sdk import Asset, AssetWatcher, dag, task
from sluice_airflow.defaults import START, TASK_DEFAULTS
from sluice_airflow.doorbell import QueueDepthTrigger

TRIGGER = QueueDepthTrigger("sluice-baseline", "baseline", silence_seconds=1)
BELL = Asset("sqs://sluice-baseline", watchers=[AssetWatcher(name="baseline", trigger=TRIGGER)])


@dag(schedule=[BELL], start_date=START, catchup=False, max_active_runs=1, default_args=TASK_DEFAULTS)
def baseline():
    @task
    def drain() -> list[str]:
        from sluice.aws import sqs

        url = sqs.queue_url("sluice-baseline")
        messages = sqs.drain(url, 10).messages
        sqs.delete(url, [each.receipt_handle for each in messages])
        return [each.body for each in messages]

    @task
    def nothing() -> None:
        pass

    @task
    def note(names: list[str]) -> None:
        from sluice.aws.sessions import client

        for name in names:
            client("dynamodb").put_item(TableName="dockerhub_stats", Item={"PK": {"S": name}, "SK": {"S": "baseline"}})

    names = drain()
    names >> nothing() >> note(names)


baseline()
"""


DAGS = ("dockerhub_aggregate", "accommodations_consolidate", "datasets_aggregate", "modules_diagnostics")
ARRIVALS = 20
TIMEOUT_SECONDS = 120

Arrive = Callable[[int], Callable[[], Any]]
"""Sends the arrival of a number; returns a function that checks whether it is published."""


def run(console: Console, *, quick: bool, rounds: int) -> None:  # noqa: ARG001 each arrival is a round
    """Print seconds from each kind of arrival to its publication."""
    seconds = measure(1 if quick else ARRIVALS, console)
    baseline = statistics.median(seconds["empty Dag (baseline)"])
    table = Table("from arrival to publication", "median s", "min s", "max s", "x baseline", title="latency")
    for name, each in seconds.items():
        middle = statistics.median(each)
        table.add_row(name, f"{middle:.2f}", f"{min(each):.2f}", f"{max(each):.2f}", f"{middle / baseline:.2f}")
    console.print(table)


def measure(arrivals: int, console: Console) -> dict[str, list[float]]:
    """Seconds from each arrival to its publication, by kind."""
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    os.environ |= {"SLUICE_HOME": str(home), "SLUICE_AWS_PORT": "4666", "SLUICE_WEB_PORT": "8666"}
    from sluice.deployment.deploy import deploy
    from sluice.settings import PROJECT_ROOT, load_settings
    from sluice_dev.emulator import server
    from sluice_dev.stack import lifecycle

    load_settings.cache_clear()
    settings = load_settings()
    dags = home / "dags"
    dags.mkdir()
    for dag_id in DAGS:
        shutil.copy(PROJECT_ROOT / "dags" / f"{dag_id}.py", dags)
    (dags / "baseline.py").write_text(BASELINE_DAG)
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, home, ignore_errors=True)
        undo.callback(server.stop, settings)
        server.start(settings)
        deploy(settings)
        kinds = _kinds()
        lifecycle.start(settings, console, undo, extra_environment=lambda: {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)})
        for arrive in kinds.values():
            _wait(arrive, arrivals)
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(arrivals):
            console.print(f"arrival {number + 1} of {arrivals}", end="\r")
            for name, arrive in kinds.items():
                # Not in step with the poll of the doorbell.
                time.sleep(0.137 * (number % 7))
                seconds[name].append(_wait(arrive, number))
        return seconds


def _wait(arrive: Arrive, number: int) -> float:
    started = time.monotonic()
    is_published = arrive(number)
    while time.monotonic() - started < TIMEOUT_SECONDS:
        if is_published():
            return time.monotonic() - started
        time.sleep(0.02)
    raise TimeoutError(f"nothing was published of {arrive.__name__} {number} within {TIMEOUT_SECONDS} s")


def _kinds() -> dict[str, Arrive]:
    from sluice.aws import sns
    from sluice.aws.sessions import client
    from sluice.pipelines.accommodations import storage as accommodations
    from sluice.settings import load_settings

    settings, s3, dynamodb = load_settings(), client("s3"), client("dynamodb")
    baseline_queue = client("sqs").create_queue(QueueName="sluice-baseline")["QueueUrl"]
    accommodations.write_list(settings.accommodations_priority_table, "PriorityList", ["bench"], None)

    def has_item(table: str, key: Any, attribute: str) -> Callable[[], bool]:
        return lambda: attribute in dynamodb.get_item(TableName=table, Key=key).get("Item", {})

    def has_more(prefix: str) -> Callable[[], bool]:
        def keys() -> int:
            return int(s3.list_objects_v2(Bucket=settings.lake_bucket, Prefix=prefix)["KeyCount"])

        before = keys()
        return lambda: keys() > before

    def empty_dag(number: int) -> Callable[[], bool]:
        client("sqs").send_message(QueueUrl=baseline_queue, MessageBody=f"n{number}")
        return has_item(settings.dockerhub_table, {"PK": {"S": f"n{number}"}, "SK": {"S": "baseline"}}, "PK")

    def raw_object(number: int) -> Callable[[], bool]:
        pushed = f"2024-01-{number + 1:02d}T10:00:00Z"
        body = {"user": "bench", "name": "latency", "namespace": "bench", "star_count": 1, "pull_count": number}
        key = f"raw/dockerhub/namespace=bench/name=latency/year=2024/month=01/day={number + 1:02d}/"
        s3.put_object(
            Bucket=settings.lake_bucket,
            Key=f"{key}2024_01_{number + 1:02d}_100000.json",
            Body=json.dumps(body | {"last_updated": pushed}).encode(),
        )
        item = {"PK": {"S": "#user#bench#name#latency#namespace#bench"}, "SK": {"S": f"#timestamp#{pushed}"}}
        return has_item(settings.dockerhub_table, item, "PK")

    def partner_file(number: int) -> Callable[[], bool]:
        data = {"accommodation_name": "n", "accommodation_address": "a", "accommodation_geocodes": "g"}
        data["accommodation_city"] = f"city {number}"
        record = {"partner_name": "bench", "accommodation_id": str(number), "accommodation_data": data}
        is_published = has_more("curated/accommodations/")
        key = f"accommodations/year=2024/month=01/day=01/bench-{number}.jsonl"
        s3.put_object(Bucket=settings.landing_bucket, Key=key, Body=json.dumps(record).encode())
        return is_published

    def dataset(number: int) -> Callable[[], bool]:
        rows = f"id,class,memory,percentage,ratio,fob,dp,recovered\n{number},c,1,0.5,0.5,f,d,1\n"
        is_published = has_more(f"curated/datasets/bench-{number}.parquet")
        s3.put_object(Bucket=settings.landing_bucket, Key=f"datasets/bench-{number}.csv", Body=rows.encode())
        return is_published

    def diagnostic(number: int) -> Callable[[], bool]:
        message = {"moduleId": f"bench-{number}", "timestamp": 1_700_000_000_000}
        sns.publish_batch(sns.topic_arn(settings.recv_message_queue), [json.dumps(message)])
        due = message | {"timestamp": 1_700_000_000_001, "attempts": 1}
        sns.publish_batch(sns.topic_arn(settings.weekly_diagnostic_queue), [json.dumps(due)])
        key = {"moduleId": {"S": f"bench-{number}"}, "timestamp": {"N": "1700000000001"}}
        return has_item(settings.modules_diagnostic_table, key, "success_rate")

    return {
        "empty Dag (baseline)": empty_dag,
        "raw object to item": raw_object,
        "partner's file to output": partner_file,
        "CSV to parquet": dataset,
        "diagnostic to rate": diagnostic,
    }
