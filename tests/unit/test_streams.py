"""Which shards a run drains, and in which order: a child only after all that its parents ever had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sluice.aws import kinesis
from sluice.aws.kinesis import Page, Shard, StreamRecord
from sluice.core import checkpoints, pipeline, streams
from sluice.core.checkpoints import Checkpoint, ShardBatch

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Stream:
    """A resharded stream: closed parents, open children, and the order in which they were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shards: dict[str, tuple[str, ...]], closed: set[str]) -> None:
        self.shards = [Shard(name, parents) for name, parents in shards.items()]
        self.closed = closed
        self.checkpoints: dict[str, Checkpoint] = {}
        self.read: list[str] = []
        self.lock = threading.Lock()
        monkeypatch.setattr(kinesis, "list_shards", lambda _: self.shards)
        monkeypatch.setattr(kinesis, "read_pages", self.read_pages)
        monkeypatch.setattr(checkpoints, "read_checkpoints", lambda *_: self.checkpoints)

    def read_pages(self, _: str, shard_id: str, **__: Any) -> Iterator[Page]:
        with self.lock:
            self.read.append(shard_id)
        yield Page([StreamRecord("7", NOW, b"{}")], closed=shard_id in self.closed)

    def drain(self) -> list[ShardBatch]:
        self.taken: dict[str, list[bytes]] = {}

        def take(shard_id: str, records: Iterator[StreamRecord]) -> None:
            self.taken[shard_id] = [each.data for each in records]

        batch = streams.drain_shards(pipeline.Stream("stream", "checkpoints"), 100, take)
        assert set(self.taken) == set(self.read)
        return batch


def shards_of(batch: list[ShardBatch]) -> set[str]:
    return {each.shard_id for each in batch}


def test_parents_are_drained_before_their_children(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = {"merged": ("left", "right"), "left": ("old",), "right": (), "old": ()}
    stream = Stream(monkeypatch, shards, closed={"old", "left", "right"})
    assert shards_of(stream.drain()) == {"merged", "left", "right", "old"}
    order = stream.read
    assert order.index("old") < order.index("left") < order.index("merged")
    assert order.index("right") < order.index("merged")


def test_a_child_waits_for_a_parent_that_is_not_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(monkeypatch, {"child": ("parent",), "parent": (), "other": ()}, closed=set())
    assert shards_of(stream.drain()) == {"parent", "other"}


def test_a_shard_that_was_drained_to_its_end_is_never_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(monkeypatch, {"child": ("parent",), "parent": ()}, closed=set())
    stream.checkpoints = {"parent": Checkpoint("7", closed=True)}
    assert shards_of(stream.drain()) == {"child"}
    assert stream.read == ["child"]


def test_a_batch_trimmed_before_its_publication_warns_and_continues(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream(monkeypatch, {"shard": ()}, closed=set())
    stream.checkpoints = {"shard": Checkpoint("1", pending_until="99")}
    (batch,) = stream.drain()
    assert (batch.first, batch.last) == ("7", "99")
    assert "RECORDS MAY BE LOST" in caplog.text


def test_a_batch_is_announced_written_and_committed_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    announced = iter([True, False])

    def announce(*_: Any) -> bool:
        done.append("announce")
        return next(announced)

    monkeypatch.setattr(checkpoints, "announce_batch", announce)
    monkeypatch.setattr(checkpoints, "commit_batch", lambda *_: done.append("commit"))
    stream, batch = pipeline.Stream("stream", "checkpoints"), [ShardBatch("shard", None, "1", "1", 1, closed=False)]
    for _ in range(2):
        streams.publish_batch(stream, "run", batch, lambda: done.append("write"))
    assert done == ["announce", "write", "commit", "announce"], "a retry after the commit writes nothing again"
    streams.publish_batch(stream, "run", [], lambda: done.append("write"))
    assert len(done) == 4
