"""infra/datasets.yaml and the notification of the landing bucket, read back from the services after a deploy."""

from __future__ import annotations

import json
from typing import Any

from datasets_world import World, csv_of, row
from sluice.aws import s3, sqs
from sluice.aws.sessions import client
from sluice.core.run import Run
from sluice.pipelines.datasets import steps
from sluice.pipelines.datasets.batch import Collected
from sluice.settings import Settings


def attributes(name: str) -> dict[str, str]:
    answer: Any = client("sqs").get_queue_attributes(QueueUrl=sqs.queue_url(name), AttributeNames=["All"])["Attributes"]
    found: dict[str, str] = dict(answer)
    return found


def test_only_an_upload_below_datasets_notifies_the_queue(deployed: Settings) -> None:
    bucket = deployed.landing_bucket
    for key in ("datasets/a b/x+y.csv", "datasets/notes.txt", "elsewhere/x.csv"):
        s3.write_object(bucket, key, csv_of(row()))
    assert steps.collect("run")["files"] == 1
    assert Run.of("datasets", "run").load(steps.COLLECTED, Collected).keys == ["datasets/a b/x+y.csv"]
    assert steps.aggregate("run")["aggregated"] == 1


def test_the_queue_gives_a_run_time_and_a_message_ten_tries(world: World) -> None:
    queue, dead = attributes(world.settings.datasets_queue), attributes(f"{world.settings.datasets_queue}-dead-letters")
    assert queue["VisibilityTimeout"] == "900"
    assert queue["ReceiveMessageWaitTimeSeconds"] == "20"
    assert json.loads(queue["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 10}
    assert int(dead["MessageRetentionPeriod"]) > int(queue["MessageRetentionPeriod"])
    assert json.loads(dead["RedriveAllowPolicy"])["sourceQueueArns"] == [queue["QueueArn"]]
    assert {queue["SqsManagedSseEnabled"], dead["SqsManagedSseEnabled"]} == {"true"}


def test_only_the_landing_bucket_of_this_account_may_send_and_only_by_tls(world: World) -> None:
    queue = attributes(world.settings.datasets_queue)
    allow, deny = json.loads(queue["Policy"])["Statement"]
    assert allow["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allow["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{world.settings.landing_bucket}"},
        "StringEquals": {"aws:SourceAccount": world.settings.aws_account_id},
    }
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
