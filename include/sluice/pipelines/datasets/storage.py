"""Reads and writes of the pipeline in S3: sources in the landing bucket, outputs and their metadata."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from sluice.aws import s3
from sluice.aws.s3 import ObjectMissing
from sluice.aws.sessions import client, error_code
from sluice.core.scratch import scratch_folder
from sluice.errors import TerminalError
from sluice.pipelines.datasets.records import OUTPUT_PREFIX, Source
from sluice.settings import Settings, load_settings

HEADS_AT_ONCE = 8
"""Number of outputs whose metadata are read concurrently."""


class NoDataset(TerminalError):
    """No dataset of that name is published."""


@dataclass(frozen=True)
class Version:
    """One version of a source.

    Attributes:
        etag: identifies the content; of S3 without quotes, of a URL as `sluice.pipelines.datasets.source` says.
        version_id: of a versioned bucket; empty elsewhere.
    """

    etag: str
    version_id: str = ""


@dataclass(frozen=True)
class Published:
    """An output and its source, from its metadata.

    Attributes:
        etag: ETag of the output itself.
        source: encoded address of the source that owns it; empty if this pipeline did not write it.
        version: the version of the source.
        records: rows of the source.
    """

    etag: str
    source: str
    version: Version
    records: int


def output_metadata(source: Source, version: Version, records: int | None = None) -> dict[str, str]:
    """Metadata about the source, for the S3 object; without `records`, for the parquet file.

    It is in the parquet file as well, so that outputs of two versions have different ETags even if their rows are
    equal.
    """
    found = {"source": source.encoded_address, "source-etag": version.etag, "source-version": version.version_id}
    return found if records is None else found | {"records": str(records)}


def read_published(bucket: str, key: str) -> Published | None:
    """The published output with its source; None if it does not exist."""
    head = _head(bucket, key)
    return head and _published_of(head)


def _published_of(head: Any) -> Published:
    metadata = head["Metadata"]
    version = Version(metadata.get("source-etag", ""), metadata.get("source-version", ""))
    return Published(head["ETag"].strip('"'), metadata.get("source", ""), version, int(metadata.get("records", 0)))


def read_version(bucket: str, key: str) -> Version | None:
    """The current version of a source; None if it does not exist."""
    head = _head(bucket, key)
    return head and Version(head["ETag"].strip('"'), head.get("VersionId", ""))


def _head(bucket: str, key: str) -> Any:
    try:
        return client("s3").head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise


def download_version(bucket: str, key: str, version: Version, path: Path) -> None:
    """Fetch one version of a source, in parallel parts.

    Raises:
        ObjectMissing: it was deleted, or replaced in a bucket without versions.
    """
    pinned = {"VersionId": version.version_id} if version.version_id else {}
    try:
        client("s3").download_file(bucket, key, str(path), ExtraArgs=pinned, Config=s3.TRANSFER)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 412):
            raise ObjectMissing(bucket, key) from None
        raise
    # All parts must be of one version.
    if not pinned and read_version(bucket, key) != version:
        raise ObjectMissing(bucket, key)


def replace_output(bucket: str, key: str, path: Path, metadata: dict[str, str], expected_etag: str | None) -> bool:
    """Publish a file in one request, on condition that the output is still the expected one (None: it does not exist).

    Returns:
        Whether it was published; else nothing has changed.
    """
    condition: Any = {"IfMatch": f'"{expected_etag}"'} if expected_etag else {"IfNoneMatch": "*"}
    try:
        with path.open("rb") as body:
            client("s3").put_object(
                Bucket=bucket,
                Key=key,
                Body=body,
                ContentType="application/vnd.apache.parquet",
                Metadata=metadata,
                **condition,
            )
    except ClientError as error:
        # 412 another one exists, 409 another one is being written, 404 the expected one was deleted.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 409, 412) and not _is_no_bucket(error):
            return False
        raise
    return True


def _is_no_bucket(error: ClientError) -> bool:
    return error_code(error) == "NoSuchBucket"


def download_output(bucket: str, key: str, path: Path) -> None:
    """Fetch a staged or published parquet file."""
    s3.download_file(bucket, key, path)


def read_output(name: str) -> tuple[list[dict[str, Any]], Published]:
    """The rows of a published dataset and its source, for display.

    Raises:
        NoDataset: no dataset has that name.
    """
    import pyarrow.parquet as pq

    settings = load_settings()
    key = f"{OUTPUT_PREFIX}{name.removesuffix('.parquet')}.parquet"
    published = read_published(settings.lake_bucket, key)
    if published is None:
        raise NoDataset(f"s3://{settings.lake_bucket}/{key} does not exist; {_known_names(settings)}")
    with scratch_folder("datasets-read") as folder:
        path = folder / "output.parquet"
        download_output(settings.lake_bucket, key, path)
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows, published


def list_outputs() -> list[dict[str, Any]]:
    """Every published dataset, by name: `name`, `rows` (of its source), `source`, `published_at`, `version`."""
    settings = load_settings()
    keys = list(s3.list_keys(settings.lake_bucket, OUTPUT_PREFIX))
    with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
        heads = pool.map(lambda key: _head(settings.lake_bucket, key), keys)
        found = [(_name_of(key), head, _published_of(head)) for key, head in zip(keys, heads, strict=True) if head]
    return [
        {
            "name": name,
            "rows": published.records,
            "source": unquote(published.source),
            "published_at": head["LastModified"],
            "version": published.version.version_id or published.version.etag,
        }
        for name, head, published in found
    ]


def _name_of(key: str) -> str:
    return key.removeprefix(OUTPUT_PREFIX).removesuffix(".parquet")


def _known_names(settings: Settings) -> str:
    names = [_name_of(key) for key in s3.list_keys(settings.lake_bucket, OUTPUT_PREFIX)]
    if not names:
        return "no dataset is published yet"
    return f"published are {', '.join(names[:20])}" + (" and others" if len(names) > 20 else "")
