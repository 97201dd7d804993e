"""Files and listings as large as they come."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from embedded_aws import FaultInjection
from sluice.events import storage

MIB = 1024 * 1024


def test_a_large_file_goes_up_in_parts_and_comes_back_the_same(
    world: Any, tmp_path: Path, faults: FaultInjection
) -> None:
    made = tmp_path / "large"
    made.write_bytes(os.urandom(40 * MIB))
    before = faults.requests()
    storage.upload(world.settings.lake_bucket, [(made, "staging/events/large")])
    assert (faults.requests() - before)["s3", "UploadPart"] == 3
    storage.copy(world.settings.lake_bucket, [("staging/events/large", "staging/events/copy")])
    (found,) = storage.download(world.settings.lake_bucket, ["staging/events/copy"], tmp_path / "back")
    assert found.read_bytes() == made.read_bytes()


def test_more_objects_than_a_listing_or_a_delete_takes_are_all_seen_and_all_deleted(world: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    bucket = world.settings.lake_bucket
    storage.upload(bucket, [(empty, f"staging/events/many/{number:04d}") for number in range(1005)])
    listed = storage.list_files(bucket, "staging/events/many/")
    assert [each.key[-4:] for each in listed] == [f"{number:04d}" for number in range(1005)]
    storage.delete(bucket, [each.key for each in listed])
    assert storage.list_files(bucket, "staging/events/many/") == []


def test_files_of_one_name_in_two_folders_are_fetched_side_by_side(world: Any, tmp_path: Path) -> None:
    bucket = world.settings.lake_bucket
    for folder in ("a", "b"):
        (tmp_path / folder).write_text(folder)
        storage.upload(bucket, [(tmp_path / folder, f"staging/events/{folder}/part.parquet")])
    keys = ["staging/events/b/part.parquet", "staging/events/a/part.parquet"]
    assert [path.read_text() for path in storage.download(bucket, keys, tmp_path / "back")] == ["b", "a"]
