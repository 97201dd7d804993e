"""Files and listings as large as they come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from embedded_aws import FaultInjection
from sluice.aws import s3
from sluice.aws.sessions import client
from sluice.settings import Settings

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _bucket(settings: Settings) -> None:
    client("s3").create_bucket(Bucket=settings.lake_bucket)


def test_a_large_file_goes_up_in_parts_and_comes_back_the_same(
    settings: Settings, tmp_path: Path, faults: FaultInjection
) -> None:
    made = tmp_path / "large"
    made.write_bytes(os.urandom(40 * MIB))
    before = faults.requests()
    s3.upload_files(settings.lake_bucket, [(made, "staging/events/large")])
    assert (faults.requests() - before)["s3", "UploadPart"] == 3
    s3.copy_objects(settings.lake_bucket, [("staging/events/large", "staging/events/copy")])
    (found,) = s3.download_files(settings.lake_bucket, ["staging/events/copy"], tmp_path / "back")
    assert found.read_bytes() == made.read_bytes()


def test_more_objects_than_one_list_or_delete_request_are_all_processed(settings: Settings, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    bucket = settings.lake_bucket
    s3.upload_files(bucket, [(empty, f"staging/events/many/{number:04d}") for number in range(1005)])
    listed = s3.list_objects(bucket, "staging/events/many/")
    assert [each.key[-4:] for each in listed] == [f"{number:04d}" for number in range(1005)]
    s3.delete_objects(bucket, [each.key for each in listed])
    assert s3.list_objects(bucket, "staging/events/many/") == []


def test_files_of_one_name_in_two_folders_are_fetched_side_by_side(settings: Settings, tmp_path: Path) -> None:
    bucket = settings.lake_bucket
    for folder in ("a", "b"):
        (tmp_path / folder).write_text(folder)
        s3.upload_files(bucket, [(tmp_path / folder, f"staging/events/{folder}/part.parquet")])
    keys = ["staging/events/b/part.parquet", "staging/events/a/part.parquet"]
    assert [path.read_text() for path in s3.download_files(bucket, keys, tmp_path / "back")] == ["b", "a"]
