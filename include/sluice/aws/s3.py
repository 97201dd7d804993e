"""Objects of S3: small ones in and out whole, files of any size side by side, and complete listings."""

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
"""Keys in one request to delete, at the most."""


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
    """There is no object under that key."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__(f"s3://{bucket}/{key} does not exist")


@contextmanager
def naming_what_is_missing(bucket: str, key: str) -> Iterator[None]:
    """Turn the answer of S3 that there is no such object into an error that names it.

    Raises:
        StagingExpired: there is none, and the key is one of staging.
        ObjectMissing: there is none.
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
    """The object under a key as it is now; None where there is none."""
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
    """Write the whole object, replacing what was there (one atomic PUT); returns its s3:// address."""
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
    # Half of a surrogate pair, as a broken key may hold, has no UTF-8; its escape of Python is that of JSON.
    return write_object(bucket, key, body.encode(errors="backslashreplace"), "application/x-ndjson")


def read_json_lines(bucket: str, key: str) -> list[dict[str, Any]]:
    """Rows of a JSON Lines object that we wrote ourselves.

    Raises:
        ObjectMissing, StagingExpired: see `read_object`.
    """
    # Not splitlines(): a JSON string may hold U+2028 and its kin unescaped.
    return [json.loads(line) for line in read_object(bucket, key).body.decode().split("\n") if line]


def download_file(bucket: str, key: str, path: Path) -> None:
    """Fetch one object, a large one in parts side by side.

    Raises:
        ObjectMissing, StagingExpired: see `read_object`.
    """
    with naming_what_is_missing(bucket, key):
        client("s3").download_file(bucket, key, str(path), Config=TRANSFER)


def download_files(bucket: str, keys: Sequence[str], folder: Path) -> list[Path]:
    """Fetch objects side by side; each is named by its place in `keys`, so that two never share a name.

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
    """Store local files under their keys, side by side; a large one in parts."""
    in_parallel(lambda file: client("s3").upload_file(str(file[0]), bucket, file[1], Config=TRANSFER), files)


def copy_objects(bucket: str, keys: Iterable[tuple[str, str]]) -> None:
    """Copy objects within the bucket, from key to key, side by side, without their bytes coming here.

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
