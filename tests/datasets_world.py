"""The datasets pipeline in an account of its own, as its tests see it."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from embedded_aws import deploy_one_stack
from queue_messages import notification, unfinished
from sluice.aws import s3, sqs
from sluice.aws.sessions import client
from sluice.core.run import Run
from sluice.pipelines.datasets import steps
from sluice.pipelines.datasets.batch import Collected
from sluice.settings import Settings

HEADER = "id,class,memory,percentage,ratio,fob,dp,recovered"

KEY = "datasets/x.csv"
OUTPUT = "curated/datasets/x.parquet"


def csv_of(*rows: str) -> bytes:
    """A file with the header and these rows."""
    return "\n".join([HEADER, *rows, ""]).encode()


def row(
    *,
    memory: object = 1,
    percentage: object = 0.5,
    ratio: object = 2.0,
    dp: object = "a",
    recovered: object = 0,
    record_id: object = "i",
) -> str:
    """One row of a file."""
    return f"{record_id},c,{memory},{percentage},{ratio},f,{dp},{recovered}"


def expected(rows: list[tuple[str, int, float, float]]) -> list[dict[str, Any]]:
    """What rows of (dp, memory, percentage, ratio) must give, without any of the code under test."""
    found = []
    for dp in sorted({each[0] for each in rows}):
        memory, percentage, ratio = zip(*[each[1:] for each in rows if each[0] == dp], strict=True)
        found.append(
            {
                "dp": dp,
                "memory_min": min(memory),
                "memory_max": max(memory),
                "memory_count": len(memory),
                "percentage_max": max(percentage),
                "percentage_avg": math.fsum(percentage) / len(percentage),
                "ratio_max": max(ratio),
            }
        )
    return found


class World:
    """The pipeline in an account of its own: what a test does to it and sees of it."""

    def __init__(self, settings: Settings) -> None:
        for bucket in (settings.lake_bucket, settings.landing_bucket):
            client("s3").create_bucket(Bucket=bucket)
            client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        deploy_one_stack(settings, "datasets")
        self.settings = settings
        self.queue_url = sqs.queue_url(settings.datasets_queue)

    def put(self, body: bytes, key: str = KEY) -> None:
        """Drop a file off, without a message."""
        s3.write_object(self.settings.landing_bucket, key, body, "text/csv")

    def announce(self, *keys: str) -> None:
        """Send the message that S3 sends of these keys."""
        self.send(notification(self.settings.landing_bucket, *keys))

    def send(self, body: str) -> None:
        """Send a message to the work queue."""
        client("sqs").send_message(QueueUrl=self.queue_url, MessageBody=body)

    def drop(self, body: bytes, key: str = KEY) -> None:
        """Upload a file, with a notification of the queue."""
        self.put(body, key)
        self.announce(key)

    def run(self, run: str = "run", source: str | None = None, *, force: bool = False) -> dict[str, int]:
        """One run of the Dag but for its gate; the tally, or nothing when the queue was empty."""
        collected = steps.collect(run, source)
        if not collected:
            return {}
        steps.aggregate(run, source, force=force)
        return steps.publish(run, collected, source, force=force)

    def rows(self, key: str = OUTPUT) -> list[dict[str, Any]]:
        """Rows of a published file."""
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(self.body(key))).to_pylist()
        return rows

    def body(self, key: str = OUTPUT) -> bytes:
        """Bytes of an object of the lake."""
        return s3.read_object(self.settings.lake_bucket, key).body

    def keys(self, prefix: str = "curated/") -> list[str]:
        """Keys of the lake below a prefix."""
        return list(s3.list_keys(self.settings.lake_bucket, prefix))

    def quarantined(self, run: str = "run") -> list[dict[str, str]]:
        """Everything that a run rejected, in the order of its keys."""
        bucket = self.settings.lake_bucket
        found: list[dict[str, str]] = []
        for key in self.keys(f"quarantine/datasets/{run}/"):
            found += s3.read_json_lines(bucket, key)
        return found

    def address(self, key: str = KEY) -> str:
        """The address of a key of the landing bucket."""
        return f"s3://{self.settings.landing_bucket}/{key}"

    def unfinished(self) -> int:
        """Messages that are not deleted, received or not."""
        return unfinished(self.settings.datasets_queue)

    def redeliver(self, run: str = "run") -> None:
        """What SQS does when the visibility timeout of a run's messages ends."""
        receipts = Run.of("datasets", run).load(steps.COLLECTED, Collected).receipts
        assert receipts
        receipts.hold_back(0)


def write(folder: Path, body: bytes) -> Path:
    """A file of these bytes."""
    path = folder / "source.csv"
    path.write_bytes(body)
    return path
