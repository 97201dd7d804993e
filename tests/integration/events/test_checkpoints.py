"""Checkpoints move by all shards of a batch or by none, and only from where the batch was drained."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.core import checkpoints
from sluice.core.checkpoints import Checkpoint, ShardBatch
from sluice.core.pipeline import Stream
from sluice.pipelines.events.pipeline import event_stream


@pytest.fixture
def stream(world: Any) -> Stream:
    return event_stream(world.settings)


def batch(shard: str, after: str | None, last: str | None, *, closed: bool = False) -> ShardBatch:
    return ShardBatch(shard, after, last, last, records=1, closed=closed)


def test_a_batch_is_pending_from_its_announcement_to_its_commit(stream: Stream) -> None:
    shards = [batch("one", None, "5")]
    assert checkpoints.announce_batch(stream, "run", shards)
    assert checkpoints.read_checkpoints(stream) == {"one": Checkpoint(None, "5", pending_run="run")}
    checkpoints.commit_batch(stream, "run", shards)
    assert checkpoints.read_checkpoints(stream) == {"one": Checkpoint("5", published_by="run")}
    assert not checkpoints.announce_batch(stream, "run", shards), "a retry finds it published"


def test_a_shard_that_ended_without_a_record_is_closed(stream: Stream) -> None:
    shards = [batch("new", None, None, closed=True), batch("old", None, "5", closed=True)]
    checkpoints.announce_batch(stream, "run", shards)
    checkpoints.commit_batch(stream, "run", shards)
    found = checkpoints.read_checkpoints(stream)
    assert found["new"] == Checkpoint(None, closed=True, published_by="run")
    assert found["old"] == Checkpoint("5", closed=True, published_by="run")


def test_one_shard_that_moved_keeps_all_of_the_batch_from_being_announced(stream: Stream) -> None:
    checkpoints.announce_batch(stream, "first", [batch("one", None, "5")])
    checkpoints.commit_batch(stream, "first", [batch("one", None, "5")])
    with pytest.raises(checkpoints.BatchTaken):
        checkpoints.announce_batch(stream, "second", [batch("one", None, "7"), batch("two", None, "8")])
    assert set(checkpoints.read_checkpoints(stream)) == {"one"}


def test_another_batch_cannot_be_announced_over_one_that_is_pending(stream: Stream) -> None:
    checkpoints.announce_batch(stream, "first", [batch("one", None, "5")])
    with pytest.raises(checkpoints.BatchTaken):
        checkpoints.announce_batch(stream, "second", [batch("one", None, "7")])
    assert checkpoints.announce_batch(stream, "next", [batch("one", None, "5")]), "the same batch is taken over"


def test_of_two_runs_with_the_same_batch_one_commits_and_the_other_says_so(stream: Stream) -> None:
    shards = [batch("one", None, "5")]
    checkpoints.announce_batch(stream, "first", shards)
    checkpoints.announce_batch(stream, "second", shards)
    checkpoints.commit_batch(stream, "first", shards)
    with pytest.raises(checkpoints.BatchTaken, match="moved by another run while second"):
        checkpoints.commit_batch(stream, "second", shards)


def test_a_stream_of_more_shards_than_a_transaction_takes(stream: Stream) -> None:
    shards = [batch(f"shard-{number:03d}", None, "5") for number in range(230)]
    checkpoints.announce_batch(stream, "run", shards)
    checkpoints.commit_batch(stream, "run", shards)
    found = checkpoints.read_checkpoints(stream)
    assert len(found) == 230
    assert set(found.values()) == {Checkpoint("5", published_by="run")}
