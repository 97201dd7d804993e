"""Objects of S3: read and write small ones, transfer files of any size in parallel, and list completely."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from sluice.aws.sessions import client, error_code
from sluice.aws.threads import THREADS, in_parallel
from sluice.errors import SluiceError
from sluice.lake import STAGING_PREFIX, StagingExpired

TRANSFER = TransferConfig(
    multipart_threshold=32 * 1024 * 1024, multipart_chunksize=16 * 1024 * 1024, max_concurrency=THREADS
)
DELETE_KEYS = 1000
"""Maximum number of keys in one delete request."""


class StoredObject(NamedTuple):
    """One object as it was read: its bytes and when S3 stored them (UTC, whole seconds)."""

    body: bytes
    last_modified: datetime


class ListedObject(NamedTuple):
    """One object of a listing: key, ETag and bytes."""

    key: str
    etag: str
    size_bytes: int


class FoundObject(NamedTuple):
    """An object as it is now: bytes, and when S3 stored it (UTC, whole seconds)."""

    size_bytes: int
    last_modified: datetime


class DeleteFailed(SluiceError):
    """S3 refused to delete some objects."""


class ObjectMissing(LookupError):
    """No object has that key."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(f"s3://{bucket}/{key} does not exist")


@contextmanager
def naming_what_is_missing(bucket: str, key: str) -> Iterator[None]:
    """Translate the not-found error of S3 into an error that names the object.

    Raises:
        StagingExpired: the object does not exist, and its key is in staging.
        ObjectMissing: the object does not exist.
    """
    try:
        yield
    except ClientError as error:
        # HEAD has no body, so its code is the status.
        if error_code(error) not in ("NoSuchKey", "404"):
            raise
        raise (StagingExpired if key.startswith(STAGING_PREFIX) else ObjectMissing)(bucket, key) from None


def read_object(bucket: str, key: str) -> StoredObject:
    """The whole object.

    Raises:
        ObjectMissing: no such key, or it was deleted.
        StagingExpired: the same, of a key of staging.
    """
    with naming_what_is_missing(bucket, key):
        answer = client("s3").get_object(Bucket=bucket, Key=key)
    return StoredObject(answer["Body"].read(), answer["LastModified"])


def object_exists(bucket: str, key: str) -> bool:
    """Whether the key holds an object now."""
    return find_object(bucket, key) is not None


def find_object(bucket: str, key: str) -> FoundObject | None:
    """Current size and time of an object; None if it does not exist."""
    try:
        found = client("s3").head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    return FoundObject(int(found["ContentLength"]), found["LastModified"])


def read_head(bucket: str, key: str, size_bytes: int) -> bytes:
    """The first bytes of an object that is not empty."""
    return client("s3").get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{size_bytes - 1}")["Body"].read()


def write_object(bucket: str, key: str, body: bytes, content_type: str = "application/json") -> str:
    """Write or replace an object (one atomic PUT); returns its s3:// address."""
    client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
    return f"s3://{bucket}/{key}"


def list_keys(bucket: str, prefix: str) -> Iterator[str]:
    """Every key below the prefix, in order, following continuation tokens."""
    for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            yield entry["Key"]


def list_objects(bucket: str, prefix: str) -> list[ListedObject]:
    """Objects below a prefix by key, following continuation tokens."""
    pages = client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [
        ListedObject(entry["Key"], entry["ETag"].strip('"'), entry["Size"])
        for page in pages
        for entry in page.get("Contents", [])
    ]


def list_folders(bucket: str, prefix: str) -> Iterator[str]:
    """Every common prefix one `/` below the prefix (which ends in `/`), following continuation tokens."""
    for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        for entry in page.get("CommonPrefixes", []):
            yield entry["Prefix"]


def write_json_lines(bucket: str, key: str, rows: Iterable[dict[str, Any]]) -> str:
    """Write rows as JSON Lines (UTF-8, one row a line); returns the s3:// address."""
    body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # A lone surrogate, as in a malformed key, has no UTF-8 encoding; Python's escape of it equals that of JSON.
    return write_object(bucket, key, body.encode(errors="backslashreplace"), "application/x-ndjson")


def read_json_lines(bucket: str, key: str) -> list[dict[str, Any]]:
    """Rows of a JSON Lines object that this project wrote.

    Raises:
        ObjectMissing, StagingExpired: see `read_object`.
    """
    # Not splitlines(): a JSON string may hold U+2028 and similar line separators unescaped.
    return [json.loads(line) for line in read_object(bucket, key).body.decode().split("\n") if line]


def download_file(bucket: str, key: str, path: Path) -> None:
    """Fetch one object, a large one in parallel parts.

    Raises:
        ObjectMissing, StagingExpired: see `read_object`.
    """
    with naming_what_is_missing(bucket, key):
        client("s3").download_file(bucket, key, str(path), Config=TRANSFER)


def download_files(bucket: str, keys: Sequence[str], folder: Path) -> list[Path]:
    """Fetch objects in parallel; each file is named by its index in `keys`, so that names are unique.

    Raises:
        ObjectMissing, StagingExpired: see `read_object`.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(place: tuple[int, str]) -> Path:
        index, key = place
        path = folder / f"{index:06d}-{key.rsplit('/', 1)[-1]}"
        download_file(bucket, key, path)
        return path

    return in_parallel(fetch, enumerate(keys))


def upload_files(bucket: str, files: Iterable[tuple[Path, str]]) -> None:
    """Upload local files to their keys in parallel; a large one in parts."""
    in_parallel(lambda file: client("s3").upload_file(str(file[0]), bucket, file[1], Config=TRANSFER), files)


def copy_objects(bucket: str, keys: Iterable[tuple[str, str]]) -> None:
    """Copy objects within the bucket, from key to key, in parallel (server-side copy).

    Raises:
        ObjectMissing, StagingExpired: see `read_object`.
    """

    def copy(pair: tuple[str, str]) -> None:
        source, target = pair
        with naming_what_is_missing(bucket, source):
            client("s3").copy_object(Bucket=bucket, CopySource={"Bucket": bucket, "Key": source}, Key=target)

    in_parallel(copy, keys)


def delete_objects(bucket: str, keys: Sequence[str]) -> None:
    """Delete objects, a thousand to a request.

    Raises:
        DeleteFailed: S3 refused some of them.
    """
    for start in range(0, len(keys), DELETE_KEYS):
        answer = client("s3").delete_objects(
            Bucket=bucket,
            Delete={"Objects": [{"Key": key} for key in keys[start : start + DELETE_KEYS]], "Quiet": True},
        )
        if answer.get("Errors"):
            first = answer["Errors"][0]
            raise DeleteFailed(f"s3://{bucket}/{first.get('Key')} was not deleted: {first.get('Message')}")
