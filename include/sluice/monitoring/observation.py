"""Observation of all runs, queues and streams, with concurrent requests to AWS only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sluice.aws import kinesis, sqs
from sluice.aws.sessions import ResourceMissing
from sluice.aws.threads import in_parallel
from sluice.core.checkpoints import Checkpoint, read_checkpoints
from sluice.core.pipeline import Dag, Pipeline, Stream
from sluice.monitoring.runs import Depth, Runs, read_runs
from sluice.settings import Settings


@dataclass(frozen=True)
class QueueState:
    """A work queue and its dead-letter queue.

    Attributes:
        depth: waiting messages; None if the queue does not exist.
        in_flight: messages that were received and not deleted.
        dead_letters: messages in the dead-letter queue; None if that queue does not exist.
        age_seconds: upper bound of the age of the oldest message; 0 for an empty queue.
        growth_per_minute: change of the depth since an earlier observation; None without one.
    """

    depth: int | None
    in_flight: int
    dead_letters: int | None
    age_seconds: float = 0.0
    growth_per_minute: float | None = None

    @property
    def gone_in_seconds(self) -> float | None:
        """Time until a backlog is empty at its current rate; None if it does not shrink, or is unknown."""
        if not self.growth_per_minute or self.growth_per_minute >= 0:
            return None
        return 60 * ((self.depth or 0) + self.in_flight) / -self.growth_per_minute


TREND_SECONDS = 60
"""Minimum age of an earlier observation for a trend."""


@dataclass(frozen=True)
class Observation:
    """State at one time.

    Attributes:
        at: when (UTC).
        runs: the table of runs.
        queues: queue -> its state.
        lags: stream -> age of its oldest unread record, seconds; None if the stream does not exist.
    """

    at: datetime
    runs: Runs
    queues: dict[str, QueueState]
    lags: dict[str, float | None]

    def freshness_seconds(self, dags: Iterable[Dag], table: str) -> float | None:
        """Seconds since a Dag last published a record to a curated table; None if never."""
        last = [self.runs.dags.get(dag.dag_id) for dag in dags if table in dag.tables]
        times = [each.published_at for each in last if each and each.published_at]
        return max(0.0, (self.at - max(times)).total_seconds()) if times else None


def look(settings: Settings, watched: Sequence[Pipeline], now: datetime) -> Observation:
    """Observe every Dag, queue and stream of the pipelines.

    Raises:
        ResourceMissing: the platform's stack is not deployed.
    """
    dags = [dag for pipeline in watched for dag in pipeline.dags]
    queues = [queue for dag in dags for queue in dag.queues]
    streams = [stream for dag in dags for stream in dag.streams]
    # The table first: if nothing is deployed, its error is raised.
    asked: list[Callable[[], Any]] = [
        partial(read_runs, settings.runs_table, now),
        *(partial(_counts, name) for queue in queues for name in (queue, queue + sqs.DEAD_LETTERS)),
        *(partial(stream_lag_seconds, stream, now) for stream in streams),
    ]
    runs, *answers = in_parallel(lambda ask: ask(), asked)
    counts, lags = answers[: 2 * len(queues)], answers[2 * len(queues) :]
    states = {
        queue: _state(queue, counts[2 * place], counts[2 * place + 1], runs, dags, now)
        for place, queue in enumerate(queues)
    }
    return Observation(now, runs, states, dict(zip((stream.name for stream in streams), lags, strict=True)))


def _state(
    queue: str,
    counts: tuple[int, int] | None,
    dead: tuple[int, int] | None,
    runs: Runs,
    dags: Iterable[Dag],
    now: datetime,
) -> QueueState:
    dead_letters = sum(dead) if dead else None
    if counts is None:
        return QueueState(None, 0, dead_letters)
    age_seconds = max(0.0, (now - _last_empty(runs, dags, queue)).total_seconds()) if sum(counts) else 0.0
    growth = growth_per_minute(sum(counts), now, runs.depths.get(queue, ()))
    return QueueState(*counts, dead_letters, age_seconds, growth)


def growth_per_minute(messages: int, now: datetime, earlier: Iterable[Depth]) -> float | None:
    """Change of the depth per minute since the latest observation that is old enough."""
    for depth in earlier:
        seconds = (now - depth.at).total_seconds()
        if seconds >= TREND_SECONDS:
            return 60 * (messages - depth.messages) / seconds
    return None


def _counts(queue: str) -> tuple[int, int] | None:
    try:
        return sqs.queue_counts(queue)
    except ResourceMissing:
        return None


def _last_empty(runs: Runs, dags: Iterable[Dag], queue: str) -> datetime:
    """A time before the arrival of all current messages of the queue.

    The queue was observed empty then, or a successful run that emptied it began. SQS reports the age of its oldest
    message to CloudWatch only, and receiving a message to read its age would count as a receive.
    """
    times = [runs.empty_at.get(queue, runs.created_at)]
    for dag in dags:
        last = runs.dags.get(dag.dag_id)
        if queue in dag.queues and last and last.drained_at:
            times.append(last.drained_at)
    return max(times)


def stream_lag_seconds(stream: Stream, now: datetime) -> float | None:
    """Age in seconds of the oldest record after the checkpoints of a stream; None if the stream does not exist."""
    try:
        shards = kinesis.list_shards(stream.name)
    except ResourceMissing:
        return None
    checkpoints = read_checkpoints(stream)
    found = [(shard.shard_id, checkpoints.get(shard.shard_id, Checkpoint())) for shard in shards]
    waiting = in_parallel(
        lambda shard: kinesis.waiting_seconds(stream.name, shard[0], after=shard[1].sequence_number, now=now),
        [shard for shard in found if not shard[1].closed],
    )
    return max(waiting, default=0.0)
