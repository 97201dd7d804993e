"""Which shards a run drains, and in which order: a child only after all that its parents ever had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sluice.aws import kinesis
from sluice.aws.kinesis import Page, Shard, StreamRecord
from sluice.pipelines.events import checkpoints, ingest
from sluice.pipelines.events.checkpoints import Checkpoint
from sluice.settings import load_settings

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

    def drain(self, folder: Path) -> set[str]:
        return {batch.shard_id for batch in ingest.drain_shards(load_settings(), folder / "envelopes")}


def test_parents_are_drained_before_their_children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shards = {"merged": ("left", "right"), "left": ("old",), "right": (), "old": ()}
    stream = Stream(monkeypatch, shards, closed={"old", "left", "right"})
    assert stream.drain(tmp_path) == {"merged", "left", "right", "old"}
    order = stream.read
    assert order.index("old") < order.index("left") < order.index("merged")
    assert order.index("right") < order.index("merged")


def test_a_child_waits_for_a_parent_that_is_not_at_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stream = Stream(monkeypatch, {"child": ("parent",), "parent": (), "other": ()}, closed=set())
    assert stream.drain(tmp_path) == {"parent", "other"}


def test_a_shard_that_was_drained_to_its_end_is_never_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = Stream(monkeypatch, {"child": ("parent",), "parent": ()}, closed=set())
    stream.checkpoints = {"parent": Checkpoint("7", closed=True)}
    assert stream.drain(tmp_path) == {"child"}
    assert stream.read == ["child"]


def test_a_batch_that_left_the_stream_before_it_was_published_warns_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream(monkeypatch, {"shard": ()}, closed=set())
    stream.checkpoints = {"shard": Checkpoint("1", pending_until="99")}
    (batch,) = ingest.drain_shards(load_settings(), tmp_path / "envelopes")
    assert (batch.first, batch.last) == ("7", "99")
    assert "RECORDS MAY BE LOST" in caplog.text
