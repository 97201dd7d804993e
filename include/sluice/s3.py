"""Objects of S3: whole small objects in and out, and complete listings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from sluice.aws import client


class StoredObject(NamedTuple):
    """One object as it was read: its bytes and when S3 stored them (UTC, whole seconds)."""

    body: bytes
    last_modified: datetime


class ObjectMissing(LookupError):
    """There is no object under that key."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(f"s3://{bucket}/{key} does not exist")


def read_object(bucket: str, key: str) -> StoredObject:
    """The whole object.

    Raises:
        ObjectMissing: no such key, or it was deleted.
    """
    try:
        answer = client("s3").get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            raise ObjectMissing(bucket, key) from None
        raise
    return StoredObject(answer["Body"].read(), answer["LastModified"])


def object_exists(bucket: str, key: str) -> bool:
    """Whether the key holds an object now."""
    try:
        client("s3").head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def write_object(bucket: str, key: str, body: bytes, content_type: str = "application/json") -> str:
    """Write the whole object, replacing what was there (one atomic PUT); returns its s3:// address."""
    client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
    return f"s3://{bucket}/{key}"


def list_keys(bucket: str, prefix: str) -> Iterator[str]:
    """Every key below the prefix, in order, following continuation tokens."""
    for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            yield entry["Key"]


def list_folders(bucket: str, prefix: str) -> Iterator[str]:
    """Every common prefix one `/` below the prefix (which ends in `/`), following continuation tokens."""
    for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        for entry in page.get("CommonPrefixes", []):
            yield entry["Prefix"]


def write_json_lines(bucket: str, key: str, rows: Iterable[dict[str, Any]]) -> str:
    """Write rows as JSON Lines (UTF-8, one row a line); returns the s3:// address."""
    body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # Half of a surrogate pair, as a broken key may hold, has no UTF-8; its escape of Python is that of JSON.
    return write_object(bucket, key, body.encode(errors="backslashreplace"), "application/x-ndjson")


def read_json_lines(bucket: str, key: str) -> list[dict[str, Any]]:
    """Rows of a JSON Lines object that we wrote ourselves.

    Raises:
        ObjectMissing: no such key.
    """
    # Not splitlines(): a JSON string may hold U+2028 and its kin unescaped.
    return [json.loads(line) for line in read_object(bucket, key).body.decode().split("\n") if line]
