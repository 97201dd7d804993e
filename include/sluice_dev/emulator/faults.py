"""Fault injection for tests: the emulator never throttles and never fails, AWS does both.

Only in a server started with fault injection (`start(settings, faults=True)`). Rules are kept in the process:

* `PUT /_sluice/faults` with a JSON list of rules replaces them, `DELETE` removes them, `GET` answers them with counts.
* `GET /_sluice/requests` counts requests by service, operation and account, `DELETE` resets the counts.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from sluice_dev.emulator.asgi import App, Message, Receive, Scope, Send, header, read_body, replay, respond

FAULTS_PATH = "/_sluice/faults"
REQUESTS_PATH = "/_sluice/requests"

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d{8}/[^/]+/([^/]+)/aws4_request")
_FORM = "application/x-www-form-urlencoded"


class Call(NamedTuple):
    """Target of a request: SigV4 service name (`dynamodb`), API operation (`PutItem`), access key."""

    service: str
    operation: str
    account: str


class Rule(BaseModel):
    """One fault. None matches everything; every third matching call fails with `every=3`, at most `times`.

    * `throttle`, `error`: the service's own throttling error, or its 5xx; nothing is done.
    * `latency`: the answer comes `latency_seconds` late.
    * `unprocessed`: DynamoDB answers a batch with all of its items unprocessed; nothing is done.
    * `drop`: the call is executed, but its response is truncated, as by a broken connection.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Literal["throttle", "error", "latency", "drop", "unprocessed"]
    service: str | None = None
    operation: str | None = None
    account: str | None = None
    every: int = Field(1, ge=1)
    times: int | None = Field(None, ge=1)
    latency_seconds: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        if self.kind == "unprocessed" and (self.service, self.operation) not in _UNPROCESSED:
            raise ValueError("unprocessed needs service dynamodb and operation BatchGetItem or BatchWriteItem")
        return self


_UNPROCESSED: dict[tuple[str | None, str | None], tuple[str, dict[str, Any]]] = {
    ("dynamodb", "BatchGetItem"): ("UnprocessedKeys", {"Responses": {}}),
    ("dynamodb", "BatchWriteItem"): ("UnprocessedItems", {}),
}
"""Batch operation -> member of its response with unprocessed entries, and the other members."""

RULES = TypeAdapter(list[Rule])


@dataclass
class Armed:
    """A rule and its counters."""

    rule: Rule
    matched: int = 0
    injected: int = 0

    def strikes(self, call: Call) -> bool:
        """Whether this call fails; counts it."""
        rule = self.rule
        wanted = (rule.service, rule.operation, rule.account)
        if any(want is not None and want != have for want, have in zip(wanted, call, strict=True)):
            return False
        self.matched += 1
        if self.matched % rule.every or (rule.times is not None and self.injected >= rule.times):
            return False
        self.injected += 1
        return True


class Faults:
    """The app behind the rules."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.armed: list[Armed] = []
        self.requests: Counter[Call] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the request, apply the first matching rule, and pass it on."""
        if scope["type"] != "http" or scope["path"].startswith("/_ministack/"):
            await self.app(scope, receive, send)
            return
        if scope["path"] in (FAULTS_PATH, REQUESTS_PATH):
            await self.control(scope, receive, send)
            return
        body = b""
        if header(scope, "content-type").startswith(_FORM):
            # The query protocol names its operation in the body.
            body = await read_body(receive)
            receive = replay(body, receive)
        call = identify(scope, body)
        self.requests[call] += 1
        rule = next((armed.rule for armed in self.armed if armed.strikes(call)), None)
        if rule is None:
            await self.app(scope, receive, send)
        elif rule.kind == "latency":
            await asyncio.sleep(rule.latency_seconds)
            await self.app(scope, receive, send)
        elif rule.kind == "drop":
            await self.app(scope, receive, broken_off(send))
        elif rule.kind == "unprocessed":
            name, answer = _UNPROCESSED[call.service, call.operation]
            left = json.loads(await read_body(receive))["RequestItems"]
            await respond(send, 200, json.dumps(answer | {name: left}).encode(), header(scope, "content-type"))
        else:
            # Read to its end: a client that is still sending sees a reset instead of the answer.
            await read_body(receive)
            status, failed, content_type = failure(rule.kind, call, header(scope, "content-type"))
            await respond(send, status, failed, content_type)

    async def control(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the two paths of this module."""
        method = scope["method"]
        if scope["path"] == REQUESTS_PATH:
            if method == "DELETE":
                self.requests.clear()
            counts = [call._asdict() | {"count": count} for call, count in sorted(self.requests.items())]
            await respond(send, 200, json.dumps(counts).encode())
            return
        if method == "DELETE":
            self.armed = []
        elif method == "PUT":
            try:
                self.armed = [Armed(rule) for rule in RULES.validate_json(await read_body(receive))]
            except ValidationError as error:
                await respond(send, 400, str(error).encode(), "text/plain; charset=utf-8")
                return
        rules = [
            armed.rule.model_dump() | {"matched": armed.matched, "injected": armed.injected} for armed in self.armed
        ]
        await respond(send, 200, json.dumps(rules).encode())


def broken_off(send: Send) -> Send:
    """A send that announces one more byte than it sends, so that the server closes the connection."""

    async def send_less(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(
                {"type": "http.response.start", "status": message["status"], "headers": [(b"content-length", b"1")]}
            )
        elif not message.get("more_body", False):
            await send({"type": "http.response.body", "body": b""})

    return send_less


def identify(scope: Scope, form: bytes) -> Call:
    """The operation of a request, from its signature's scope, target header, form body, path and query."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    signed = _CREDENTIAL.search(
        header(scope, "authorization") or f"Credential={query.get('X-Amz-Credential', [''])[0]}"
    )
    account, service = signed.groups() if signed else ("", "")
    if target := header(scope, "x-amz-target"):
        return Call(service, target.rpartition(".")[2], account)
    action = query.get("Action") or parse_qs(form.decode("latin-1")).get("Action")
    if action:
        return Call(service, action[0], account)
    if service == "s3":
        return Call(service, s3_operation(scope, query.keys()), account)
    return Call(service, f"{scope['method']} {scope['path']}", account)


# Operation by method, in the order of the first query name that is present; "" is the plain request.
_OBJECT_OPERATIONS = {
    "GET": {
        "uploadId": "ListParts",
        "tagging": "GetObjectTagging",
        "attributes": "GetObjectAttributes",
        "": "GetObject",
    },
    "HEAD": {"": "HeadObject"},
    "PUT": {"partNumber": "UploadPart", "tagging": "PutObjectTagging", "": "PutObject"},
    "POST": {"uploads": "CreateMultipartUpload", "uploadId": "CompleteMultipartUpload", "": "PostObject"},
    "DELETE": {"uploadId": "AbortMultipartUpload", "tagging": "DeleteObjectTagging", "": "DeleteObject"},
}
_BUCKET_OPERATIONS = {
    "GET": {
        "list-type": "ListObjectsV2",
        "versions": "ListObjectVersions",
        "uploads": "ListMultipartUploads",
        "": "ListObjects",
    },
    "HEAD": {"": "HeadBucket"},
    "PUT": {"": "CreateBucket"},
    "POST": {"delete": "DeleteObjects", "": "PostObject"},
    "DELETE": {"": "DeleteBucket"},
}
_BUCKET_SETTINGS = (
    "accelerate", "acl", "cors", "encryption", "lifecycle", "location", "logging", "notification", "object-lock",
    "ownershipControls", "policy", "publicAccessBlock", "replication", "requestPayment", "tagging", "versioning",
)  # fmt: skip


def s3_operation(scope: Scope, query: Collection[str]) -> str:
    """API name of a path-style S3 request; a bucket's setting reads as method and name, such as `GET lifecycle`."""
    _, bucket, *key = scope["path"].split("/", 2)
    method = scope["method"]
    if not bucket:
        return "ListBuckets"
    if key and key[0]:
        if method == "PUT" and header(scope, "x-amz-copy-source"):
            return "UploadPartCopy" if "partNumber" in query else "CopyObject"
        table = _OBJECT_OPERATIONS
    else:
        setting = next((name for name in _BUCKET_SETTINGS if name in query), None)
        if setting:
            return f"{method} {setting}"
        table = _BUCKET_OPERATIONS
    operations = table.get(method, {"": method})
    return next(operation for name, operation in operations.items() if not name or name in query)


# Code and HTTP status of throttling of a service, if they differ from those of its protocol.
_THROTTLING = {
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "kinesis": ("ProvisionedThroughputExceededException", 400),
    "sqs": ("RequestThrottled", 403),
    "s3": ("SlowDown", 503),
}
_ERRORS = {"dynamodb": "InternalServerError", "s3": "InternalError"}


def failure(kind: Literal["throttle", "error"], call: Call, content_type: str) -> tuple[int, bytes, str]:
    """Status, body and content type of a service's throttling or internal error, in the protocol of the request."""
    is_json = content_type.startswith("application/x-amz-json")
    if kind == "throttle":
        code, status = _THROTTLING.get(call.service, ("ThrottlingException" if is_json else "Throttling", 400))
    else:
        code, status = _ERRORS.get(call.service, "InternalFailure"), 500
    message = f"Injected {kind} of {call.operation}."
    if is_json:
        body = {"__type": f"com.amazonaws.{call.service}#{code}", "message": message}
        return status, json.dumps(body).encode(), content_type
    details = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    request = "<RequestId>00000000-0000-0000-0000-000000000000</RequestId>"
    if call.service == "s3":
        xml = f"<Error>{details}{request}</Error>"
    else:
        xml = f"<ErrorResponse><Error><Type>Receiver</Type>{details}</Error>{request}</ErrorResponse>"
    return status, f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}'.encode(), "text/xml"
