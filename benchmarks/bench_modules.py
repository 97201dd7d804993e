"""Messages of modules drained and stored: from a full queue to items in DynamoDB and an empty queue.

The baseline makes the same requests with the same threads and nothing else: it is as fast as the emulator answers.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contest import Contestant, Stopwatch, run_contest

MESSAGES = 5_000
QUICK_MESSAGES = 300
PORT = "4668"


def run(console: Console, *, quick: bool, rounds: int) -> None:
    """Start an emulator, run the contest, and print its table."""
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    os.environ |= {"SLUICE_HOME": str(home), "SLUICE_AWS_PORT": os.environ.get("SLUICE_AWS_PORT", PORT)}
    from sluice.deployment.deploy import deploy
    from sluice.settings import load_settings
    from sluice_dev.emulator import server

    settings = load_settings()
    messages = QUICK_MESSAGES if quick else MESSAGES
    contestants = [contestant("sluice", messages), contestant("baseline: bare requests", messages, "<= 1.25")]
    try:
        with console.status("starting the embedded AWS"):
            server.start(settings)
            deploy(settings)
        run_contest(f"Drain and store {messages:,} messages of modules", contestants, rounds, console)
    finally:
        server.stop(settings)
        shutil.rmtree(home, ignore_errors=True)
    console.print(
        "Messages a second: "
        + ", ".join(f"{each.name} {messages / each.median_seconds:,.0f}" for each in contestants if each.runs)
    )


def contestant(name: str, messages: int, goal: str = "") -> Contestant:
    """A function of this module as a contestant."""
    function = "drain_and_store" if name == "sluice" else "bare_requests"
    return Contestant(name, ["benchmarks.bench_modules", function, str(messages)], goal)


def fill(messages: int) -> str:
    """Put messages into the queue, 1,000 modules in turn, and make the clients; URL of the queue."""
    from sluice.aws import sqs
    from sluice.aws.sessions import client
    from sluice.aws.threads import in_parallel
    from sluice.settings import load_settings

    url = sqs.queue_url(load_settings().recv_message_queue)

    def send(start: int) -> None:
        entries: Any = [
            {"Id": str(n), "MessageBody": json.dumps({"moduleId": f"module-{n % 1000:05d}", "timestamp": n})}
            for n in range(start, min(start + sqs.BATCH_SIZE, messages))
        ]
        client("sqs").send_message_batch(QueueUrl=url, Entries=entries)

    in_parallel(send, range(0, messages, sqs.BATCH_SIZE))
    client("dynamodb").describe_table(TableName=load_settings().modules_message_table)
    client("s3").list_buckets()
    return url


def drain_and_store(messages: int) -> None:
    from sluice.pipelines.modules import steps

    fill(messages)
    with Stopwatch() as watch:
        run = f"bench-{os.getpid()}"
        watch.rows = steps.collect(run)["messages"]
        steps.store(run)


def bare_requests(messages: int) -> None:
    from sluice.aws.sessions import client
    from sluice.aws.sqs import BATCH_SIZE
    from sluice.aws.threads import in_parallel
    from sluice.settings import load_settings

    url, table = fill(messages), load_settings().modules_message_table

    def receive(_: int) -> list[Any]:
        answer = client("sqs").receive_message(
            QueueUrl=url, MaxNumberOfMessages=BATCH_SIZE, MessageSystemAttributeNames=["SentTimestamp"]
        )
        return list(answer["Messages"])

    def put(items: list[Any]) -> None:
        client("dynamodb").batch_write_item(RequestItems={table: [{"PutRequest": {"Item": each}} for each in items]})

    def delete(batch: list[Any]) -> None:
        entries: Any = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(batch)]
        client("sqs").delete_message_batch(QueueUrl=url, Entries=entries)

    items: list[Any] = [
        {"moduleId": {"S": f"module-{n % 1000:05d}"}, "timestamp": {"N": str(n)}} for n in range(messages)
    ]
    with Stopwatch() as watch:
        batches = in_parallel(receive, range(messages // BATCH_SIZE))
        in_parallel(put, [items[start : start + 25] for start in range(0, messages, 25)])
        in_parallel(delete, batches)
        watch.rows = sum(map(len, batches))


def main(function: str, messages: str) -> None:
    """Run one contestant."""
    {"drain_and_store": drain_and_store, "bare_requests": bare_requests}[function](int(messages))


if __name__ == "__main__":
    main(*sys.argv[1:])
