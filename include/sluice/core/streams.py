"""Consume a Kinesis stream in batches: every shard is read from its checkpoint, and the checkpoints move last."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from sluice.aws import kinesis
from sluice.aws.kinesis import Budget, Shard, StreamRecord
from sluice.aws.threads import THREADS
from sluice.core import checkpoints
from sluice.core.checkpoints import Checkpoint, ShardBatch
from sluice.core.pipeline import Stream

log = logging.getLogger(__name__)

Take = Callable[[str, Iterator[StreamRecord]], None]
"""Takes all records of one shard, in their order. Called in a thread for each shard."""


def drain_shards(stream: Stream, max_records: int, take: Take) -> list[ShardBatch]:
    """Drain the shards concurrently, but parents before their children.

    A batch that was announced and not committed is drained again up to exactly the same records.

    Args:
        stream: the stream.
        max_records: of all shards together, of which each reads a page at least, or an equal share if that is smaller;
            a batch that is drained again does not count.
        take: called with each shard that is read, even if it has no record.

    Returns:
        The records read of each shard whose checkpoint moves; empty if none does.

    Raises:
        ResourceMissing: the stream or its table of checkpoints is missing.
        IteratorsExpire: see `sluice.aws.kinesis`.
    """
    found = checkpoints.read_checkpoints(stream)
    budget = kinesis.Budget(max_records)
    waiting = {shard.shard_id: shard for shard in kinesis.list_shards(stream.name)}
    finished = {shard_id for shard_id, each in found.items() if each.closed}
    batch: list[ShardBatch] = []

    def checkpoint_of(shard: Shard) -> Checkpoint:
        return found.get(shard.shard_id, Checkpoint())

    def drain_one(shard: Shard) -> ShardBatch:
        return _drain_shard(stream, shard.shard_id, checkpoint_of(shard), budget, take)

    for shard_id in finished:
        waiting.pop(shard_id, None)
    with ThreadPoolExecutor(THREADS) as pool:
        while ready := [shard for shard in waiting.values() if finished.issuperset(shard.parents)]:
            budget.expect(sum(not checkpoint_of(shard).pending_until for shard in ready))
            for drained in pool.map(drain_one, ready):
                del waiting[drained.shard_id]
                if drained.closed:
                    finished.add(drained.shard_id)
                if drained.closed or drained.last != drained.after:
                    batch.append(drained)
    return batch


def _drain_shard(stream: Stream, shard_id: str, checkpoint: Checkpoint, budget: Budget, take: Take) -> ShardBatch:
    until = checkpoint.pending_until
    numbers: list[str] = []
    count = 0
    closed = False

    def records() -> Iterator[StreamRecord]:
        nonlocal count, closed
        for page in kinesis.read_pages(
            stream.name, shard_id, after=checkpoint.sequence_number, until=until, budget=None if until else budget
        ):
            closed = page.closed
            for each in page.records:
                # The first and the last are wanted.
                numbers[1:] = [each.sequence_number]
                count += 1
                yield each

    take(shard_id, records())
    last = numbers[-1] if numbers else checkpoint.sequence_number
    if until is not None and last != until:
        log.warning(
            "RECORDS MAY BE LOST: stream %s, %s was to be read up to %s again, but ends at %s;"
            " they have left the stream before their batch was published",
            *(stream.name, shard_id, until, last),
        )
        last = until
    return ShardBatch(shard_id, checkpoint.sequence_number, numbers[0] if numbers else None, last, count, closed)


def publish_batch(stream: Stream, run: str, batch: Sequence[ShardBatch], write: Callable[[], None]) -> None:
    """Announce a batch, write its output, and move the checkpoints last.

    After a crash at any point, a later run drains the same records again.

    Args:
        stream: the stream.
        run: the run as a part of a key.
        batch: what was read of each shard.
        write: writes the output of the batch durably; must be idempotent, also across runs. Not called if this run has
            published the batch before.

    Raises:
        BatchTaken: another run took records of the batch.
    """
    if batch and checkpoints.announce_batch(stream, run, batch):
        write()
        checkpoints.commit_batch(stream, run, batch)
