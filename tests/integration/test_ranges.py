"""A version of a large object is downloaded whole: the emulator alone answers each range of it with all of it."""

from __future__ import annotations

import io
import random

import pytest
from boto3.s3.transfer import TransferConfig

from sluice.aws.sessions import client
from sluice.settings import Settings

BODY = random.Random(1).randbytes(200_000)


@pytest.fixture
def version(settings: Settings) -> str:
    """The older of two versions of an object, that with the body."""
    s3, bucket = client("s3"), settings.lake_bucket
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="a", Body=BODY)["VersionId"]
    s3.put_object(Bucket=bucket, Key="a", Body=b"newer")
    return first


def test_a_version_that_is_downloaded_in_ranges_is_whole(settings: Settings, version: str) -> None:
    config = TransferConfig(multipart_threshold=50_000, multipart_chunksize=30_000, max_concurrency=4)
    client("s3").download_fileobj(
        settings.lake_bucket, "a", found := io.BytesIO(), ExtraArgs={"VersionId": version}, Config=config
    )
    assert found.getvalue() == BODY


@pytest.mark.parametrize(
    ("asked", "first", "last"), [("100-199", 100, 199), ("199990-", 199_990, 199_999), ("-5", 199_995, 199_999)]
)
def test_a_range_of_a_version_is_that_range(
    settings: Settings, version: str, asked: str, first: int, last: int
) -> None:
    answer = client("s3").get_object(Bucket=settings.lake_bucket, Key="a", VersionId=version, Range=f"bytes={asked}")
    assert answer["Body"].read() == BODY[first : last + 1]
    assert answer["ContentRange"] == f"bytes {first}-{last}/200000"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
