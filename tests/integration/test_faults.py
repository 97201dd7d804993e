"""For boto3 faults look like those of AWS: its retries handle them, and other accounts are not affected."""

from __future__ import annotations

from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError

from embedded_aws import FaultInjection
from sluice.aws import sessions
from sluice.settings import Settings

ITEM = {"PK": {"S": "a"}, "SK": {"S": "b"}}


def one_try(service: Any, settings: Settings, read_timeout_seconds: float = 10) -> Any:
    """A client that never tries again."""
    config = sessions.EMBEDDED_CLIENT_CONFIG.merge(
        Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=read_timeout_seconds)
    )
    return boto3.session.Session().client(service, config=config, **sessions.connection_arguments(settings))


@pytest.mark.parametrize("kind", ["throttle", "error", "drop"])
def test_boto3_gets_over_a_fault_of_a_table(
    dockerhub_deployed: Settings, account_faults: FaultInjection, kind: str
) -> None:
    account_faults.inject(kind, service="dynamodb", operation="PutItem", times=1)
    answer = sessions.client("dynamodb").put_item(TableName=dockerhub_deployed.dockerhub_table, Item=ITEM)
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert account_faults.injected() == 1
    assert sessions.client("dynamodb").get_item(TableName=dockerhub_deployed.dockerhub_table, Key=ITEM)["Item"] == ITEM


@pytest.mark.parametrize("kind", ["throttle", "error", "drop"])
def test_boto3_gets_over_a_fault_of_an_upload(
    dockerhub_deployed: Settings, account_faults: FaultInjection, kind: str
) -> None:
    body = b"x" * 200_000
    account_faults.inject(kind, service="s3", operation="PutObject", times=1)
    answer = sessions.client("s3").put_object(Bucket=dockerhub_deployed.lake_bucket, Key="raw/a", Body=body)
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert sessions.client("s3").get_object(Bucket=dockerhub_deployed.lake_bucket, Key="raw/a")["Body"].read() == body


@pytest.mark.parametrize(
    ("service", "operation"), [("sqs", "list_queues"), ("sns", "list_topics"), ("kinesis", "list_streams")]
)
@pytest.mark.parametrize("kind", ["throttle", "error", "drop"])
def test_boto3_gets_over_a_fault_of_a_list(
    settings: Settings, faults: FaultInjection, kind: str, service: Any, operation: str
) -> None:
    faults.inject(kind, service=service, times=1)
    client: Any = sessions.client(service)
    assert getattr(client, operation)()["ResponseMetadata"]["RetryAttempts"] == 1


@pytest.mark.parametrize(
    ("service", "operation", "code", "status"),
    [
        ("dynamodb", "list_tables", "ProvisionedThroughputExceededException", 400),
        ("kinesis", "list_streams", "ProvisionedThroughputExceededException", 400),
        ("sqs", "list_queues", "RequestThrottled", 403),
        ("s3", "list_buckets", "SlowDown", 503),
        ("sns", "list_topics", "Throttling", 400),
        ("glue", "get_databases", "ThrottlingException", 400),
    ],
)
def test_throttling_that_does_not_end_is_the_error_of_its_service(
    settings: Settings, faults: FaultInjection, service: str, operation: str, code: str, status: int
) -> None:
    faults.inject("throttle", service=service)
    with pytest.raises(ClientError) as raised:
        getattr(one_try(service, settings), operation)()
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_a_dropped_answer_leaves_the_call_done(dockerhub_deployed: Settings, account_faults: FaultInjection) -> None:
    account_faults.inject("drop", service="dynamodb", operation="PutItem")
    with pytest.raises(ConnectionClosedError):
        one_try("dynamodb", dockerhub_deployed).put_item(TableName=dockerhub_deployed.dockerhub_table, Item=ITEM)
    assert sessions.client("dynamodb").get_item(TableName=dockerhub_deployed.dockerhub_table, Key=ITEM)["Item"] == ITEM


def test_a_dropped_download_breaks_while_it_is_read(
    dockerhub_deployed: Settings, account_faults: FaultInjection
) -> None:
    s3 = sessions.client("s3")
    s3.put_object(Bucket=dockerhub_deployed.lake_bucket, Key="a", Body=b"body")
    account_faults.inject("drop", service="s3", operation="GetObject")
    body = s3.get_object(Bucket=dockerhub_deployed.lake_bucket, Key="a")["Body"]
    with pytest.raises(ResponseStreamingError):
        body.read()


def test_a_batch_may_be_left_undone_without_an_error(
    dockerhub_deployed: Settings, account_faults: FaultInjection
) -> None:
    table, dynamodb = dockerhub_deployed.dockerhub_table, sessions.client("dynamodb")
    puts: Any = {table: [{"PutRequest": {"Item": ITEM}}]}
    keys: Any = {table: {"Keys": [ITEM], "ConsistentRead": True}}
    for operation in ("BatchWriteItem", "BatchGetItem"):
        account_faults.inject("unprocessed", service="dynamodb", operation=operation, times=1)
    assert dynamodb.batch_write_item(RequestItems=puts)["UnprocessedItems"] == puts
    assert dynamodb.batch_write_item(RequestItems=puts)["UnprocessedItems"] == {}
    answer = dynamodb.batch_get_item(RequestItems=keys)
    assert (answer["Responses"], answer["UnprocessedKeys"]) == ({}, keys)
    assert dynamodb.batch_get_item(RequestItems=keys)["Responses"] == {table: [ITEM]}


def test_latency_runs_into_the_timeout_of_a_client(settings: Settings, faults: FaultInjection) -> None:
    faults.inject("latency", service="sqs", latency_seconds=5)
    with pytest.raises(ReadTimeoutError):
        one_try("sqs", settings, read_timeout_seconds=0.2).list_queues()


def test_every_second_call_fails_until_the_rule_is_used_up(settings: Settings, faults: FaultInjection) -> None:
    faults.inject("error", service="sqs", operation="ListQueues", every=2, times=2)
    client = one_try("sqs", settings)
    outcomes = []
    for _ in range(6):
        try:
            client.list_queues()
            outcomes.append("ok")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])
    assert outcomes == ["ok", "InternalFailure"] * 2 + ["ok", "ok"]


def test_another_account_sees_nothing_of_a_fault(settings: Settings, faults: FaultInjection) -> None:
    faults.inject("error", service="sqs")
    other = settings.model_copy(update={"aws_account_id": "999999999999"})
    assert one_try("sqs", other).list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_requests_are_counted_by_operation(dockerhub_deployed: Settings, account_faults: FaultInjection) -> None:
    s3, dynamodb = sessions.client("s3"), sessions.client("dynamodb")
    before = account_faults.requests()
    for number in range(3):
        s3.put_object(Bucket=dockerhub_deployed.lake_bucket, Key=f"a/{number}", Body=b"")
    s3.list_objects_v2(Bucket=dockerhub_deployed.lake_bucket, Prefix="a/")
    dynamodb.put_item(TableName=dockerhub_deployed.dockerhub_table, Item=ITEM)
    assert account_faults.requests() - before == {
        ("s3", "PutObject"): 3,
        ("s3", "ListObjectsV2"): 1,
        ("dynamodb", "PutItem"): 1,
    }


def test_a_rule_with_a_mistake_is_refused_by_name(settings: Settings, faults: FaultInjection) -> None:
    answer = httpx.put(f"{settings.endpoint_url}/_sluice/faults", json=[{"kind": "throttel"}], trust_env=False)
    assert answer.status_code == 400
    assert "throttel" in answer.text
    with pytest.raises(httpx.HTTPStatusError):
        faults.inject("unprocessed", service="dynamodb", operation="PutItem")
