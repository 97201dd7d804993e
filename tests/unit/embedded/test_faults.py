"""A request is recognized as its operation of boto3, without which rules and counts would be wrong."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Any, cast
from urllib.parse import urlsplit

import boto3
import httpx
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from sluice_dev.emulator.asgi import Message, Receive, Scope, Send, read_body, replay, respond
from sluice_dev.emulator.faults import FAULTS_PATH, REQUESTS_PATH, Armed, Call, Faults, Rule, broken_off, identify

ACCOUNT = "123456789012"
OBJECT = {"Bucket": "b", "Key": "k/x"}
UPLOAD = {**OBJECT, "UploadId": "u"}


class Sent(Exception):
    """Carries a request out of boto3 instead of sending it."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        self.request = request


@cache
def client_of(service: Any) -> Any:
    client = boto3.session.Session().client(
        service,
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id=ACCOUNT,
        aws_secret_access_key="x",
        config=Config(s3={"addressing_style": "path"}),
    )

    def carry_out(request: AWSPreparedRequest, **_: object) -> None:
        raise Sent(request)

    client.meta.events.register("before-send", carry_out)
    return client


def signed(service: Any, method: str, arguments: dict[str, Any]) -> AWSPreparedRequest:
    client = client_of(service)
    with pytest.raises(Sent) as sent:
        getattr(client, method)(**arguments)
    return sent.value.request


def scope_of(request: AWSPreparedRequest) -> dict[str, Any]:
    url = urlsplit(str(request.url))
    # botocore holds signed values as bytes.
    headers = [
        (name.lower().encode(), value if isinstance(value, bytes) else str(value).encode())
        for name, value in request.headers.items()
    ]
    return {"method": request.method, "path": url.path, "query_string": url.query.encode(), "headers": headers}


@pytest.mark.parametrize(
    ("service", "method", "arguments", "operation"),
    [
        ("dynamodb", "get_item", {"TableName": "ttt", "Key": {"PK": {"S": "a"}}}, "GetItem"),
        ("dynamodb", "transact_write_items", {"TransactItems": [{}]}, "TransactWriteItems"),
        ("kinesis", "put_records", {"StreamName": "s", "Records": [{"Data": b"", "PartitionKey": "p"}]}, "PutRecords"),
        ("glue", "get_table", {"DatabaseName": "d", "Name": "n"}, "GetTable"),
        ("sqs", "receive_message", {"QueueUrl": "http://127.0.0.1:1/1/q"}, "ReceiveMessage"),
        ("sns", "publish", {"TopicArn": "arn", "Message": "m"}, "Publish"),
        ("sts", "get_caller_identity", {}, "GetCallerIdentity"),
        ("cloudformation", "describe_stacks", {}, "DescribeStacks"),
        ("s3", "list_buckets", {}, "ListBuckets"),
        ("s3", "create_bucket", {"Bucket": "b"}, "CreateBucket"),
        ("s3", "delete_bucket", {"Bucket": "b"}, "DeleteBucket"),
        ("s3", "head_bucket", {"Bucket": "b"}, "HeadBucket"),
        ("s3", "list_objects", {"Bucket": "b"}, "ListObjects"),
        ("s3", "list_objects_v2", {"Bucket": "b", "Prefix": "policy/"}, "ListObjectsV2"),
        ("s3", "list_object_versions", {"Bucket": "b"}, "ListObjectVersions"),
        ("s3", "list_multipart_uploads", {"Bucket": "b"}, "ListMultipartUploads"),
        ("s3", "delete_objects", {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}]}}, "DeleteObjects"),
        ("s3", "get_bucket_policy", {"Bucket": "b"}, "GET policy"),
        ("s3", "put_object", {**OBJECT, "Body": b"x"}, "PutObject"),
        ("s3", "get_object", {**OBJECT, "Range": "bytes=0-1"}, "GetObject"),
        ("s3", "head_object", OBJECT, "HeadObject"),
        ("s3", "delete_object", OBJECT, "DeleteObject"),
        ("s3", "copy_object", {**OBJECT, "CopySource": "b/y"}, "CopyObject"),
        ("s3", "create_multipart_upload", OBJECT, "CreateMultipartUpload"),
        ("s3", "upload_part", {**UPLOAD, "PartNumber": 1, "Body": b"x"}, "UploadPart"),
        ("s3", "upload_part_copy", {**UPLOAD, "PartNumber": 1, "CopySource": "b/y"}, "UploadPartCopy"),
        ("s3", "list_parts", UPLOAD, "ListParts"),
        ("s3", "complete_multipart_upload", UPLOAD, "CompleteMultipartUpload"),
        ("s3", "abort_multipart_upload", UPLOAD, "AbortMultipartUpload"),
        ("s3", "get_object_tagging", OBJECT, "GetObjectTagging"),
    ],
)
def test_a_request_of_boto3_is_recognised(service: str, method: str, arguments: dict[str, Any], operation: str) -> None:
    request = signed(service, method, arguments)
    body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
    form = body if "Action=" in body.decode("latin-1") else b""
    assert identify(scope_of(request), form) == Call(service, operation, ACCOUNT)


def test_a_presigned_url_is_recognised() -> None:
    s3 = boto3.session.Session().client(
        "s3", region_name="us-east-1", endpoint_url="http://127.0.0.1:1", aws_access_key_id=ACCOUNT,
        aws_secret_access_key="x", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )  # fmt: skip
    url = urlsplit(s3.generate_presigned_url("get_object", OBJECT))
    scope = {"method": "GET", "path": url.path, "query_string": url.query.encode(), "headers": []}
    assert identify(scope, b"") == Call("s3", "GetObject", ACCOUNT)


def test_an_unsigned_request_has_no_account() -> None:
    scope = {"method": "GET", "path": "/x", "query_string": b"", "headers": []}
    assert identify(scope, b"") == Call("", "GET /x", "")


@given(st.integers(1, 6), st.none() | st.integers(1, 6), st.integers(0, 40))
def test_a_rule_strikes_every_nth_matching_call_and_then_stops(every: int, times: int | None, calls: int) -> None:
    armed = Armed(Rule(kind="error", service="sqs", every=every, times=times))
    call = Call("sqs", "SendMessage", ACCOUNT)
    struck = [number for number in range(1, calls + 1) if armed.strikes(call)]
    assert not armed.strikes(Call("sns", "Publish", ACCOUNT))
    assert struck == list(range(every, calls + 1, every))[:times]
    assert (armed.matched, armed.injected) == (calls, len(struck))


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=5))
def test_a_body_that_was_read_can_be_read_again(chunks: list[bytes]) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": position < len(chunks) - 1}
        for position, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def read_twice() -> tuple[bytes, bytes, Message]:
        body = await read_body(receive)
        again = replay(body, receive)
        return body, await read_body(again), await again()

    assert asyncio.run(read_twice()) == (b"".join(chunks), b"".join(chunks), {"type": "http.disconnect"})


async def _table(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for the emulator: answers with what it was sent."""
    await respond(send, 200, await read_body(receive))


def ask_all(*requests: tuple[str, str, dict[str, str], bytes]) -> list[httpx.Response]:
    """Answers of one process to several requests (method, path, headers, body), in their order."""

    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=cast("Any", Faults(_table)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
            return [
                await client.request(method, path, headers=headers, content=body)
                for method, path, headers, body in requests
            ]

    return asyncio.run(send())


def headers_of(service: str, **more: str) -> dict[str, str]:
    scope = f"AWS4-HMAC-SHA256 Credential={ACCOUNT}/20261121/us-east-1/{service}/aws4_request, SignedHeaders=host"
    return {"Authorization": scope, **more}


JSON = {"X-Amz-Target": "DynamoDB_20120810.GetItem", "Content-Type": "application/x-amz-json-1.0"}
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.mark.parametrize(
    ("kind", "service", "headers", "body", "status", "code"),
    [
        ("throttle", "dynamodb", JSON, b"{}", 400, "#ProvisionedThroughputExceededException"),
        ("throttle", "glue", JSON, b"{}", 400, "#ThrottlingException"),
        ("throttle", "s3", {}, b"", 503, "<Error><Code>SlowDown</Code>"),
        ("throttle", "sns", FORM, b"Action=Publish", 400, "<Code>Throttling</Code>"),
        ("error", "dynamodb", JSON, b"{}", 500, "#InternalServerError"),
        ("error", "s3", {}, b"", 500, "<Error><Code>InternalError</Code>"),
        ("error", "sns", FORM, b"Action=Publish", 500, "<Code>InternalFailure</Code>"),
    ],
)
def test_a_fault_speaks_the_protocol_of_its_request(
    kind: str, service: str, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    rule = json.dumps([{"kind": kind, "service": service}]).encode()
    _, answer = ask_all(("PUT", FAULTS_PATH, {}, rule), ("POST", "/b/k", headers_of(service, **headers), body))
    assert answer.status_code == status
    assert code in answer.text


def test_a_form_that_was_read_for_its_operation_reaches_the_emulator_whole() -> None:
    answer, counts = ask_all(
        ("POST", "/", headers_of("sns", **FORM), b"Action=Publish&Message=m"), ("GET", REQUESTS_PATH, {}, b"")
    )
    assert answer.content == b"Action=Publish&Message=m"
    assert counts.json() == [{"service": "sns", "operation": "Publish", "account": ACCOUNT, "count": 1}]


def test_rules_and_counts_can_be_read_and_taken_back() -> None:
    rule = json.dumps([{"kind": "latency", "latency_seconds": 0}]).encode()
    request = ("POST", "/b/k", headers_of("s3"), b"")
    refused, _, slow, rules, cleared, _, counts = ask_all(
        ("PUT", FAULTS_PATH, {}, b'[{"kind": "latency", "every": 0}]'),
        ("PUT", FAULTS_PATH, {}, rule),
        request,
        ("GET", FAULTS_PATH, {}, b""),
        ("DELETE", FAULTS_PATH, {}, b""),
        ("DELETE", REQUESTS_PATH, {}, b""),
        ("GET", REQUESTS_PATH, {}, b""),
    )
    assert refused.status_code == 400
    assert "every" in refused.text
    assert slow.status_code == 200
    assert [(found["matched"], found["injected"]) for found in rules.json()] == [(1, 1)]
    assert cleared.json() == []
    assert counts.json() == []


def test_a_broken_off_answer_is_shorter_than_it_promises() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(respond(broken_off(send), 200, b"whole"))
    promised = int(dict(sent[0]["headers"])[b"content-length"])
    assert sum(len(message.get("body", b"")) for message in sent) < promised
