"""S3 event notifications received from a queue, directly from S3 or through SNS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from sluice.aws.sqs import Message
from sluice.core import strict_json
from sluice.core.quarantine import RejectedRecord, printable

BAD_NOTIFICATION = "bad_notification"
TEST_EVENT = "s3:TestEvent"

KEY_BYTES_MAX = 1024
"""A key of S3, in UTF-8 (Amazon S3 user guide, "Naming Amazon S3 objects")."""


@dataclass(frozen=True)
class ObjectCreated:
    """One created object, its key decoded."""

    bucket: str
    key: str


def object_keys(bucket: str, prefix: str = "") -> Callable[[Message], list[str | RejectedRecord]]:
    """How a pipeline reads its messages: the keys of the created objects, decoded; parse function of a `WorkQueue`.

    Args:
        bucket: of the objects.
        prefix: of their keys. An object elsewhere is rejected; the other objects of the message are not.
    """

    def key_of(created: ObjectCreated) -> str | RejectedRecord:
        if created.bucket == bucket and created.key.startswith(prefix):
            return created.key
        detail = f"message names s3://{created.bucket}/{created.key}, which is not below s3://{bucket}/{prefix}"
        return RejectedRecord(BAD_NOTIFICATION, detail)

    return lambda message: [key_of(each) for each in parse_notification(message.body)]


def parse_notification(body: str) -> list[ObjectCreated]:
    """Objects named by one message body.

    S3 URL-encodes keys, a message may hold several records, and `s3:TestEvent` (sent once when a notification is
    configured) holds none. SNS wraps the event in an envelope unless raw delivery is on. Records of other events than
    `ObjectCreated` are ignored. (Amazon S3 user guide, "Event message structure"; Amazon SNS developer guide, "Raw
    message delivery".)

    Raises:
        RejectedRecord: reason `bad_notification`; the body is not an S3 notification.
    """
    document = _event(body)
    if document.get("Event") == TEST_EVENT:
        return []
    records = document.get("Records")
    if not isinstance(records, list):
        raise RejectedRecord(BAD_NOTIFICATION, "message has neither Records nor Event s3:TestEvent")
    return [_created(record) for record in records if _event_name(record).startswith("ObjectCreated:")]


def is_test_event(body: str) -> bool:
    """Whether a message body is the test event that S3 sends when a notification is configured."""
    try:
        return _event(body).get("Event") == TEST_EVENT
    except RejectedRecord:
        return False


def _event(body: str) -> dict[str, Any]:
    document = _load(body)
    if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
        document = _load(document["Message"])
    return document


def _load(text: str) -> dict[str, Any]:
    try:
        document = strict_json.parse(text)
    except RejectedRecord as rejected:
        raise RejectedRecord(BAD_NOTIFICATION, f"message cannot be read: {rejected.detail}") from None
    if not isinstance(document, dict):
        raise RejectedRecord(BAD_NOTIFICATION, "message is not a JSON object")
    return document


def _event_name(record: Any) -> str:
    if not isinstance(record, dict) or not isinstance(record.get("eventName"), str):
        raise RejectedRecord(BAD_NOTIFICATION, "record has no eventName")
    # S3 sends `ObjectCreated:Put`; the notification configuration spells it `s3:ObjectCreated:Put`.
    return str(record["eventName"]).removeprefix("s3:")


def _created(record: dict[str, Any]) -> ObjectCreated:
    try:
        bucket, key = record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
    except (KeyError, TypeError):
        raise RejectedRecord(BAD_NOTIFICATION, "record lacks s3.bucket.name or s3.object.key") from None
    if not isinstance(bucket, str) or not isinstance(key, str):
        raise RejectedRecord(BAD_NOTIFICATION, "s3.bucket.name and s3.object.key must be text")
    if printable(bucket + key) != bucket + key:
        raise RejectedRecord(BAD_NOTIFICATION, f"no object can be at s3://{bucket}/{key}: lone surrogate")
    try:
        decoded = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise RejectedRecord(
            BAD_NOTIFICATION, f"no object can be at s3://{bucket}/{key}: not UTF-8 once decoded"
        ) from None
    if not 1 <= len(decoded.encode()) <= KEY_BYTES_MAX:
        raise RejectedRecord(
            BAD_NOTIFICATION, f"no object can be at s3://{bucket}/{key}: a key has 1 to {KEY_BYTES_MAX} bytes"
        )
    return ObjectCreated(bucket, decoded)
