"""A missing resource of any service is named, with the command that creates it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner

from sluice import cli
from sluice.aws import dynamodb, kinesis, s3, sessions, sns, sqs
from sluice.aws.sessions import client
from sluice.monitoring import alerts, steps
from sluice.settings import Settings

CALLS: dict[str, Callable[[Settings], Any]] = {
    "SQS queue {0.dockerhub_queue}": lambda its: client("sqs").get_queue_url(QueueName=its.dockerhub_queue),
    "SNS topic {0.success_rate_topic}": lambda its: sns.publish_batch(sns.topic_arn(its.success_rate_topic), ["a"]),
    "SNS topic {0.alerts_topic}": lambda its: alerts.publish(its, "subject", "body"),
    "DynamoDB table {0.runs_table}": lambda _: steps.observe("run", "http://airflow.test"),
    "DynamoDB table {0.dockerhub_table}": lambda its: dynamodb.get_items(its.dockerhub_table, [{"PK": "a"}]),
    "DynamoDB table {0.modules_message_table}": lambda its: dynamodb.put_items(
        its.modules_message_table, [{"moduleId": "a"}]
    ),
    "DynamoDB table {0.events_checkpoint_table}": lambda its: dynamodb.transact(
        [dynamodb.Delete(its.events_checkpoint_table, {"a": "a"})]
    ),
    "Kinesis stream {0.events_stream}": lambda its: kinesis.list_shards(its.events_stream),
    "S3 bucket {0.lake_bucket}": lambda its: s3.write_object(its.lake_bucket, "key", b""),
    "S3 bucket {0.landing_bucket}": lambda its: list(s3.list_keys(its.landing_bucket, "")),
}


@pytest.mark.parametrize("what", CALLS)
def test_what_is_not_there_is_one_sentence_with_its_way_out(what: str, settings: Settings) -> None:
    with pytest.raises(sessions.ResourceMissing) as raised:
        CALLS[what](settings)
    said, _, variable = str(raised.value).partition(", or set ")
    assert said == f"{what.format(settings)} does not exist: run `sluice deploy`"
    assert variable.startswith("SLUICE_")


def test_what_is_missing_is_still_caught_by_its_code(settings: Settings) -> None:
    with pytest.raises(ClientError) as raised:
        client("dynamodb").describe_table(TableName="none")
    assert sessions.error_code(raised.value) == "ResourceNotFoundException"
    with pytest.raises(sessions.ResourceMissing):
        sqs.queue_url("none")


def test_a_missing_shard_is_no_missing_stream(deployed: Settings) -> None:
    with pytest.raises(ClientError) as raised:
        client("kinesis").get_shard_iterator(
            StreamName=deployed.events_stream, ShardId="shardId-000000000099", ShardIteratorType="LATEST"
        )
    assert not isinstance(raised.value, sessions.ResourceMissing)


def test_status_names_a_table_that_was_deleted(deployed: Settings) -> None:
    client("dynamodb").delete_table(TableName=deployed.events_checkpoint_table)
    result = CliRunner().invoke(cli.main, ["status"])
    assert result.exit_code == 1
    assert result.output == (
        f"Error: DynamoDB table {deployed.events_checkpoint_table} does not exist: run `sluice deploy`,"
        " or set SLUICE_EVENTS_CHECKPOINT_TABLE\n"
    )
