"""Checkpoints of the shards of a stream, and the announced batch: recorded before its first write, committed last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sluice.aws import dynamodb
from sluice.core.pipeline import Stream
from sluice.errors import TerminalError


class BatchTaken(TerminalError):
    """Another run has published or announced records of this batch."""


@dataclass(frozen=True)
class Checkpoint:
    """Position in a shard up to which it was read.

    Attributes:
        sequence_number: of the last record that was published or quarantined; None before the first.
        pending_until: last record of an announced batch; until it is committed, the next run drains exactly that batch
            again.
        closed: the shard has no further records.
        published_by: run that moved the checkpoint here.
        pending_run: run that announced the batch last.
    """

    sequence_number: str | None = None
    pending_until: str | None = None
    closed: bool = False
    published_by: str | None = None
    pending_run: str | None = None


@dataclass(frozen=True)
class ShardBatch:
    """The records of one shard in a batch.

    Attributes:
        shard_id: the shard.
        after: the checkpoint it was read from.
        first: sequence number of the first record, None when there is none.
        last: sequence number that the checkpoint moves to, None when it does not move.
        records: number of records.
        closed: the shard ends here.
    """

    shard_id: str
    after: str | None
    first: str | None
    last: str | None
    records: int
    closed: bool

    @property
    def file_name(self) -> str:
        """Base name of all files written for this batch, without a suffix; the same for the same records."""
        return f"{self.shard_id}-{self.first}-{self.last}"


def _key(stream: Stream, shard_id: str) -> dynamodb.Item:
    return {"stream": stream.name, "shard_id": shard_id}


def read_checkpoints(stream: Stream) -> dict[str, Checkpoint]:
    """Shard id -> current checkpoint (consistent read)."""
    return {
        item["shard_id"]: Checkpoint(
            item.get("sequence_number"),
            item.get("pending_until"),
            item.get("closed", False),
            item.get("published_by"),
            item.get("pending_run"),
        )
        for item in dynamodb.query_items(
            stream.checkpoint_table, "#stream = :stream", {":stream": stream.name}, {"#stream": "stream"}
        )
    }


def announce_batch(stream: Stream, run: str, shards: Sequence[ShardBatch]) -> bool:
    """Record the end of a batch in each shard before any of its output is written; all shards or none.

    A later run drains exactly these records again, so that its files have the same names.

    Returns:
        False when the batch is published already: a retry of this very run.

    Raises:
        BatchTaken: another run has moved a checkpoint, or announced another batch, since this one was drained.
    """
    found = read_checkpoints(stream)
    if shards and all(_is_published(found.get(each.shard_id, Checkpoint()), each, run) for each in shards):
        return False
    writes: list[dynamodb.Update] = []
    for each in shards:
        values: dict[str, Any] = {":run": run}
        unchanged = "attribute_not_exists(sequence_number)"
        if each.after is not None:
            unchanged = "sequence_number = :after"
            values[":after"] = each.after
        update, free = "SET pending_run = :run", "attribute_not_exists(pending_until)"
        if each.last is not None and each.last != each.after:
            values[":last"] = each.last
            update += ", pending_until = :last"
            free = f"({free} OR pending_until = :last)"
        key, condition = _key(stream, each.shard_id), f"{unchanged} AND {free}"
        writes.append(dynamodb.Update(stream.checkpoint_table, key, update, condition=condition, values=values))
    if not dynamodb.transact(writes):
        # If the response is lost, the client retries and finds the batch already announced.
        found = read_checkpoints(stream)
        if any(found.get(each.shard_id, Checkpoint()).pending_run != run for each in shards):
            raise BatchTaken(
                f"batch of run {run} cannot be published: another run took records of stream {stream.name} that are in"
                " it; nothing is lost, the next run continues from the checkpoint"
            )
    return True


def commit_batch(stream: Stream, run: str, shards: Sequence[ShardBatch]) -> None:
    """Move the checkpoints once all output of the batch is durable; all shards or none.

    Raises:
        BatchTaken: another run has moved one of them.
    """
    writes: list[dynamodb.Update] = []
    for each in shards:
        values: dict[str, Any] = {":run": run}
        sets = ["published_by = :run"]
        condition = "attribute_not_exists(sequence_number)"
        if each.after is not None:
            condition = "sequence_number = :after"
            values[":after"] = each.after
        if each.last is not None and each.last != each.after:
            sets.append("sequence_number = :last")
            values[":last"] = each.last
            condition += " AND pending_until = :last"
        if each.closed:
            sets.append("closed = :closed")
            values[":closed"] = True
        update = f"SET {', '.join(sets)} REMOVE pending_until, pending_run"
        key = _key(stream, each.shard_id)
        writes.append(dynamodb.Update(stream.checkpoint_table, key, update, condition=condition, values=values))
    if not dynamodb.transact(writes):
        found = read_checkpoints(stream)
        if not all(_is_published(found.get(each.shard_id, Checkpoint()), each, run) for each in shards):
            raise BatchTaken(
                f"checkpoints of stream {stream.name} were moved by another run while {run} published;"
                " nothing is lost, the next run continues from the checkpoint"
            )


def _is_published(found: Checkpoint, batch: ShardBatch, run: str) -> bool:
    return found.published_by == run and found.sequence_number == batch.last and found.pending_until is None
