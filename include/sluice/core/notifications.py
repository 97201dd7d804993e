"""S3 event notifications as they arrive in a queue, straight from S3 or through SNS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from sluice.aws.sqs import Message
from sluice.core import strict_json
from sluice.core.quarantine import RejectedRecord, Rejection, printable

BAD_NOTIFICATION = "bad_notification"
TEST_EVENT = "s3:TestEvent"

KEY_BYTES_MAX = 1024
"""A key of S3, in UTF-8 (Amazon S3 user guide, "Naming Amazon S3 objects")."""


@dataclass(frozen=True)
class ObjectCreated:
    """One created object, its key decoded."""

    bucket: str
    key: str


@dataclass(frozen=True)
class Announced:
    """The key of a created object, and the message that told of it."""

    message_id: str
    key: str


def announced_objects(
    messages: Iterable[Message], queue: str, bucket: str, prefix: str = ""
) -> tuple[list[Announced], list[Rejection]]:
    """The objects of a pipeline that messages tell of, and what is no notification or tells of anything else.

    Args:
        messages: as they were received.
        queue: name of their queue, for the quarantine.
        bucket: of the objects.
        prefix: of their keys.
    """
    found: list[Announced] = []
    rejections: list[Rejection] = []
    for message in messages:
        address = f"sqs://{queue}/{message.message_id}"
        try:
            created = parse_notification(message.body)
        except RejectedRecord as rejected:
            rejections.append(Rejection(address, rejected.reason, message.body, rejected.detail))
            continue
        for each in created:
            if each.bucket == bucket and each.key.startswith(prefix):
                found.append(Announced(message.message_id, each.key))
            else:
                detail = f"message tells of s3://{each.bucket}/{each.key}, which is not below s3://{bucket}/{prefix}"
                rejections.append(Rejection(address, BAD_NOTIFICATION, message.body, detail))
    return found, rejections


def parse_notification(body: str) -> list[ObjectCreated]:
    """Objects named by one message body.

    S3 URL-encodes keys, a message may hold several records, and `s3:TestEvent` (sent once when a notification is
    configured) holds none. SNS wraps the event in an envelope unless raw delivery is on. Records of other events than
    `ObjectCreated` are passed over.
    (Amazon S3 user guide, "Event message structure"; Amazon SNS developer guide, "Raw message delivery".)

    Raises:
        RejectedRecord: reason `bad_notification`; the body is no S3 notification.
    """
    document = _event(body)
    if document.get("Event") == TEST_EVENT:
        return []
    records = document.get("Records")
    if not isinstance(records, list):
        raise RejectedRecord(BAD_NOTIFICATION, "message has neither Records nor Event s3:TestEvent")
    return [_created(record) for record in records if _event_name(record).startswith("ObjectCreated:")]


def is_test_event(body: str) -> bool:
    """Whether a message body is what S3 sends once when a notification is configured."""
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
        raise RejectedRecord(BAD_NOTIFICATION, "message is no JSON object")
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
        raise RejectedRecord(BAD_NOTIFICATION, f"no object is at s3://{bucket}/{key}: half of a surrogate pair")
    try:
        decoded = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise RejectedRecord(BAD_NOTIFICATION, f"no object is at s3://{bucket}/{key}: not UTF-8 once decoded") from None
    if not 1 <= len(decoded.encode()) <= KEY_BYTES_MAX:
        raise RejectedRecord(
            BAD_NOTIFICATION, f"no object is at s3://{bucket}/{key}: a key has 1 to {KEY_BYTES_MAX} bytes"
        )
    return ObjectCreated(bucket, decoded)
