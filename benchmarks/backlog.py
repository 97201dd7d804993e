"""How usable the stack on a laptop is while backlogs wait: time to first results, and how long `sluice status` takes.

Fills the queues through S3 and the topics as producers do, starts the whole stack on ports and in a home of its own,
and stops all of it at the end. Run by `python -m benchmarks.backlog --scale 0.1`; with a scale of 1 it takes a while to
fill the queues.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from benchmarks import end_on_sigterm

RAW_OBJECTS, PARTNER_FILES, CSV_FILES, MESSAGES = 20_000, 2_000, 500, 100_000
FIRST_RESULT_MAX_SECONDS = 120
STATUS_MAX_SECONDS = 5
DAGS = {
    "dockerhub": "dockerhub_aggregate",
    "accommodations": "accommodations_consolidate",
    "datasets": "datasets_aggregate",
    "modules": "modules_diagnostics",
}


def fill(scale: float) -> dict[str, int]:
    """Put the backlog into the queues through S3 events and SNS; how many messages each pipeline has."""
    from sluice.aws import s3, sns
    from sluice.aws.threads import in_parallel
    from sluice.pipelines.accommodations import storage
    from sluice.settings import load_settings

    settings = load_settings()
    storage.write_list(settings.accommodations_priority_table, "PriorityList", ["A", "B"], None)
    counts = {
        name: max(10, int(scale * count))
        for name, count in zip(DAGS, (RAW_OBJECTS, PARTNER_FILES, CSV_FILES, MESSAGES), strict=True)
    }

    def raw_object(number: int) -> None:
        pushed = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=number)
        image = f"image-{number % 50}"
        body = {"user": "bench", "name": image, "namespace": "bench", "star_count": 1, "pull_count": number}
        key = f"raw/dockerhub/namespace=bench/name={image}/year={pushed:%Y}/month={pushed:%m}/day={pushed:%d}/"
        text = json.dumps(body | {"last_updated": f"{pushed:%Y-%m-%dT%H:%M:%SZ}"})
        s3.write_object(settings.lake_bucket, f"{key}{pushed:%Y_%m_%d_%H%M%S}.json", text.encode())

    def partner_file(number: int) -> None:
        data = dict.fromkeys((f"accommodation_{name}" for name in ("name", "address", "geocodes", "city")), "x")
        record = {"partner_name": "AB"[number % 2], "accommodation_id": str(number // 2), "accommodation_data": data}
        key = f"accommodations/year=2026/month=11/day=21/{number}.jsonl"
        s3.write_object(settings.landing_bucket, key, json.dumps(record).encode() + b"\n")

    def csv_file(number: int) -> None:
        text = f"id,class,memory,percentage,ratio,fob,dp,recovered\n{number},c,1,0.5,2.0,f,a,0\n"
        s3.write_object(settings.landing_bucket, f"datasets/{quote(f'file-{number}')}.csv", text.encode())

    arn = sns.topic_arn(settings.recv_message_queue)

    def messages(start: int) -> None:
        numbers = range(start, min(start + sns.BATCH_SIZE, counts["modules"]))
        sns.publish_batch(arn, [json.dumps({"moduleId": f"m{each % 100}", "timestamp": each + 1}) for each in numbers])

    in_parallel(raw_object, range(counts["dockerhub"]))
    in_parallel(partner_file, range(counts["accommodations"]))
    in_parallel(csv_file, range(counts["datasets"]))
    in_parallel(messages, range(0, counts["modules"], sns.BATCH_SIZE))
    return counts


def status_seconds() -> float:
    """How long `sluice status` takes, the start of its process included."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "sluice", "status", "--json"], capture_output=True, check=False)
    return time.monotonic() - started


def watch(seconds: float, console: Console) -> tuple[dict[str, float], list[float]]:
    """Time to the first result of each pipeline, and what `sluice status` took meanwhile, for so many seconds."""
    from sluice.core.run import utc_now
    from sluice.monitoring.runs import read_runs
    from sluice.settings import load_settings

    started, first, latencies = time.monotonic(), dict[str, float](), list[float]()
    while time.monotonic() - started < seconds:
        latencies.append(status_seconds())
        noted = read_runs(load_settings().runs_table, utc_now()).dags
        for name, dag_id in DAGS.items():
            if name not in first and dag_id in noted and noted[dag_id].published_at:
                first[name] = time.monotonic() - started
        console.print(f"{time.monotonic() - started:4.0f} s: status {latencies[-1]:.1f} s, first results {first}")
        time.sleep(2)
    return first, latencies


@click.command()
@click.option("--scale", default=1.0, show_default=True, help="Share of the full backlog.")
@click.option("--seconds", default=300.0, show_default=True, help="How long to watch.")
def main(scale: float, seconds: float) -> None:
    """Measure the stack under a backlog."""
    console = Console(width=110)
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    ports = {"SLUICE_AWS_PORT": "4668", "SLUICE_WEB_PORT": "8668"}
    os.environ |= {name: os.environ.get(name, port) for name, port in ports.items()}
    os.environ |= {"SLUICE_HOME": str(home), "SLUICE_DOCKERHUB_PULL_SCHEDULE": "0 0 1 1 *"}
    from sluice.deployment.deploy import deploy
    from sluice.settings import load_settings
    from sluice_dev.emulator import server
    from sluice_dev.stack import lifecycle

    settings = load_settings()
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, home, ignore_errors=True)
        undo.callback(server.stop, settings)
        server.start(settings)
        deploy(settings)
        started = time.monotonic()
        counts = fill(scale)
        console.print(f"filled in {time.monotonic() - started:.0f} s: {counts}")
        before = status_seconds()
        lifecycle.start(settings, console, undo)
        first, latencies = watch(seconds, console)
    table = Table("pipeline", "messages", "first result after s", title=f"backlog, scale {scale}")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}", f"{first[name]:.0f}" if name in first else f"not within {seconds:.0f}")
    console.print(table)
    latencies.sort()
    console.print(
        f"sluice status: {before:.1f} s before the stack ran, then median {latencies[len(latencies) // 2]:.1f} s,"
        f" longest {latencies[-1]:.1f} s, of {len(latencies)}"
    )
    if len(first) < len(DAGS) or max(first.values()) > FIRST_RESULT_MAX_SECONDS or latencies[-1] > STATUS_MAX_SECONDS:
        raise click.ClickException(
            f"wanted: a first result within {FIRST_RESULT_MAX_SECONDS} s, status within {STATUS_MAX_SECONDS} s"
        )


if __name__ == "__main__":
    end_on_sigterm()
    main()
