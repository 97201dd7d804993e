"""Maintenance of tables: they become small, and no reader loses what it holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sluice.aws import s3
from sluice.aws.tables import commits, definitions, maintenance, reading
from sluice.settings import Settings
from tables_world import HOUR, START, VISITS, append, files, pages, publish, rows, where

RETENTION = timedelta(hours=24)
WRITING = timedelta(hours=maintenance.WRITE_HOURS)


def maintain(after: timedelta = timedelta(0), *, dry_run: bool = False) -> maintenance.Maintained:
    now = datetime.now(UTC) + after
    return maintenance.maintain("visits", "run", now, dry_run=dry_run)


def test_a_snapshot_expires_with_its_files_after_its_replacement(lake: Settings) -> None:
    first = publish(lake, START, "ab").snapshot
    assert first
    publish(lake, START, "cd")
    old = files(lake, "data")
    assert maintain() == maintenance.Maintained("visits", 0, 0, 0, 0)
    assert maintain(RETENTION - timedelta(minutes=1)).expired_snapshots == 0
    assert pages(as_of=first.snapshot_id) == "ab"
    assert maintain(RETENTION + timedelta(seconds=1)).expired_snapshots == 1
    with pytest.raises(reading.SnapshotMissing):
        pages(as_of=first.snapshot_id)
    assert files(lake, "data") == old, "a reader that began before the expiry still reads"
    done = maintain(RETENTION + WRITING + timedelta(seconds=1))
    assert done.deleted_files >= 2
    assert len(files(lake, "data")) == 1
    assert pages() == "cd"
    assert maintain(RETENTION + WRITING + timedelta(seconds=1)).deleted_files == 0


def test_a_snapshot_that_was_current_until_now_stays_however_old_it_is(lake: Settings) -> None:
    publish(lake, START, "ab")
    publish(lake, START, "cd")
    replaced = reading.history("visits")[0].committed_at
    assert maintenance.expire_snapshots("visits", replaced) == 0
    assert maintenance.expire_snapshots("visits", replaced + timedelta(milliseconds=1)) == 1


def test_a_dry_run_counts_and_changes_nothing(lake: Settings) -> None:
    for letter in "abcdefghijkl":
        append(rows(START, letter), START)
    publish(lake, START + HOUR, "x")
    publish(lake, START + HOUR, "y")
    before = files(lake, "data") | files(lake, "metadata")
    done = maintain(RETENTION + WRITING + timedelta(seconds=1), dry_run=True)
    assert (done.merged_files, done.expired_snapshots) == (12, 13)
    assert files(lake, "data") | files(lake, "metadata") == before
    assert pages() == "abcdefghijkly"


def test_many_small_files_become_one_with_the_same_rows(lake: Settings) -> None:
    for letter in "abcdefghij":
        append(rows(START, letter), START)
    publish(lake, START + HOUR, "xy")
    before = reading.read("visits").sort_by("page")
    assert maintain().merged_files == 10
    assert len(commits.live_files("visits", where(START))) == 1
    assert reading.read("visits").sort_by("page").equals(before)
    assert reading.history("visits")[0].summary["sluice.dag"] == "platform_maintain"
    assert maintain().merged_files == 0
    append(rows(START, "a"), START)
    assert pages() == "abcdefghijxy", "the row is known from the merged file"


def test_a_writer_that_replaces_a_partition_while_it_is_merged_wins(
    lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for letter in "abcdefghij":
        append(rows(START, letter), START)
    replace = commits.replace

    def beside(*arguments: object, **named: object) -> object:
        monkeypatch.setattr(commits, "replace", replace)
        append(rows(START, "k"), START)
        return replace(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(commits, "replace", beside)
    assert maintenance.merge_small_files("visits", "run") == 0
    assert pages() == "abcdefghijk"
    assert maintenance.merge_small_files("visits", "run") == 11
    assert pages() == "abcdefghijk"


def test_files_of_a_commit_under_way_and_files_of_others_are_left(lake: Settings) -> None:
    publish(lake, START, "ab")
    mine = f"{VISITS.prefix}data/orphan.parquet"
    other = f"{VISITS.prefix}year=2024/older-layout.parquet"
    for key in (mine, other):
        s3.write_object(lake.lake_bucket, key, b"x")
    maintain(WRITING)
    assert s3.object_exists(lake.lake_bucket, mine)
    assert maintain(RETENTION + WRITING + timedelta(seconds=1)).deleted_files >= 1
    assert not s3.object_exists(lake.lake_bucket, mine)
    assert s3.object_exists(lake.lake_bucket, other)
    assert pages() == "ab"
    assert definitions.load(lake, "visits").current_snapshot()
