"""From the PUT of a raw object to its item in DynamoDB, beside a Dag of three empty tasks behind the same doorbell.

Runs the whole stack (scheduler, triggerer, PostgreSQL, embedded AWS) on ports and in a home of its own.
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

from rich.console import Console
from rich.table import Table

from benchmarks import end_on_sigterm

FLOOR_DAG = """
from airflow.sdk import Asset, AssetWatcher, dag, task
from sluice_airflow.defaults import START, TASK_DEFAULTS
from sluice_airflow.doorbell import QueueDepthTrigger

TRIGGER = QueueDepthTrigger("sluice-floor", "floor", silence_seconds=1)
BELL = Asset("sqs://sluice-floor", watchers=[AssetWatcher(name="floor", trigger=TRIGGER)])


@dag(schedule=[BELL], start_date=START, catchup=False, max_active_runs=1, default_args=TASK_DEFAULTS)
def floor():
    @task
    def drain() -> list[str]:
        from sluice import sqs

        url = sqs.queue_url("sluice-floor")
        messages = sqs.drain(url, 10).messages
        sqs.delete(url, [each.receipt_handle for each in messages])
        return [each.body for each in messages]

    @task
    def nothing() -> None:
        pass

    @task
    def note(names: list[str]) -> None:
        from sluice.aws import client

        for name in names:
            client("dynamodb").put_item(TableName="dockerhub_stats", Item={"PK": {"S": name}, "SK": {"S": "floor"}})

    names = drain()
    names >> nothing() >> note(names)


floor()
"""


def measure(objects: int = 20, console: Console | None = None) -> dict[str, list[float]]:
    """Seconds from PUT to item, for each object, of `dockerhub_aggregate` and of the empty Dag."""
    console = console or Console()
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    os.environ |= {"SLUICE_HOME": str(home), "SLUICE_AWS_PORT": "4666", "SLUICE_WEB_PORT": "8666"}
    from sluice.aws import client
    from sluice.deploy import deploy
    from sluice.embedded import server, stack
    from sluice.settings import PROJECT_ROOT, load_settings

    settings = load_settings()
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(PROJECT_ROOT / "dags" / "dockerhub_aggregate.py", dags)
    (dags / "floor.py").write_text(FLOOR_DAG)
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, home, ignore_errors=True)
        undo.callback(server.stop, settings)
        server.start(settings)
        deploy(settings)
        queue = client("sqs").create_queue(QueueName="sluice-floor")["QueueUrl"]
        stack.start(settings, console, undo, extra_environment=lambda: {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)})

        def put_raw(number: int) -> dict[str, object]:
            pushed = f"2024-01-{number + 1:02d}T10:00:00Z"
            body = {"user": "bench", "name": "latency", "namespace": "bench", "star_count": 1, "pull_count": number}
            key = f"raw/dockerhub/namespace=bench/name=latency/year=2024/month=01/day={number + 1:02d}/"
            client("s3").put_object(
                Bucket=settings.lake_bucket,
                Key=f"{key}2024_01_{number + 1:02d}_100000.json",
                Body=json.dumps(body | {"last_updated": pushed}).encode(),
            )
            return {"PK": {"S": "#user#bench#name#latency#namespace#bench"}, "SK": {"S": f"#timestamp#{pushed}"}}

        def ring_floor(number: int) -> dict[str, object]:
            client("sqs").send_message(QueueUrl=queue, MessageBody=f"n{number}")
            return {"PK": {"S": f"n{number}"}, "SK": {"S": "floor"}}

        def wait_for(put: Callable[[int], dict[str, object]], number: int) -> float:
            started = time.monotonic()
            key = put(number)
            while time.monotonic() - started < 120:
                if "Item" in client("dynamodb").get_item(TableName=settings.dockerhub_table, Key=key):  # type: ignore[arg-type]
                    return time.monotonic() - started
                time.sleep(0.02)
            raise TimeoutError(f"no item for {key} after 120 s; see {settings.home / 'logs'}")

        for warm_up in (put_raw, ring_floor):
            wait_for(warm_up, objects)
        seconds: dict[str, list[float]] = {"dockerhub_aggregate": [], "empty Dag (floor)": []}
        for number in range(objects):
            console.print(f"object {number + 1} of {objects}", end="\r")
            for name, put in (("dockerhub_aggregate", put_raw), ("empty Dag (floor)", ring_floor)):
                # Not in step with the poll of the doorbell.
                time.sleep(0.137 * (number % 7))
                seconds[name].append(wait_for(put, number))
        return seconds


def main() -> None:
    console = Console()
    seconds = measure(console=console)
    floor = statistics.median(seconds["empty Dag (floor)"])
    table = Table("from PUT to item", "median s", "min s", "max s", "x floor", title="event latency, 20 objects")
    for name, each in seconds.items():
        middle = statistics.median(each)
        table.add_row(name, f"{middle:.2f}", f"{min(each):.2f}", f"{max(each):.2f}", f"{middle / floor:.2f}")
    console.print(table)


if __name__ == "__main__":
    end_on_sigterm()
    main()
