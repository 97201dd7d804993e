"""The one table of all pipelines: what the watch looks at. A pipeline gets its senses by being listed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sluice.settings import Settings

QUEUE_AGE_MAX_SECONDS = 1800
"""A message that waits longer than this is an alert: a work queue is drained seconds after its bell rings."""

STREAM_LAG_MAX_SECONDS = 1800
"""A record that waits longer than this in a stream is an alert; streams are drained every few minutes."""

WATCH_DAG = "platform_watch"


@dataclass(frozen=True)
class Stream:
    """A Kinesis stream and the table of its checkpoints."""

    name: str
    checkpoint_table: str


@dataclass(frozen=True)
class WatchedDag:
    """What is expected of one Dag.

    Attributes:
        dag_id: the Dag.
        schedule: its cron expression (UTC), for an event-driven Dag that of its safety net: a run that finds nothing to
            do is a sign of life as well. None where only a person starts it: then it cannot be stale.
        deadline_seconds: how long after a time of its schedule a run must have succeeded.
        tables: curated tables that it publishes to.
        queues: work queues that it drains; each has a dead-letter queue `<name>-dead-letters`.
        streams: streams that it drains.
        partitioned: each run owns its hour or month, and a later run does not make up for one that failed.
    """

    dag_id: str
    schedule: str | None
    deadline_seconds: int = 0
    tables: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    streams: tuple[Stream, ...] = ()
    partitioned: bool = False

    def due(self, now: datetime) -> datetime | None:
        """The latest time of the schedule (UTC) whose deadline has passed; None without a schedule."""
        if self.schedule is None:
            return None
        from croniter import croniter

        # The next whole second: croniter looks for a time before its start, and the very moment counts.
        start = now.astimezone(UTC).replace(microsecond=0) - timedelta(seconds=self.deadline_seconds - 1)
        due: datetime = croniter(self.schedule, start).get_prev(datetime)
        return due


@dataclass(frozen=True)
class Pipeline:
    """One pipeline and its Dags."""

    name: str
    dags: tuple[WatchedDag, ...] = field(default=())

    @property
    def queues(self) -> tuple[str, ...]:
        """Its work queues; each has a dead-letter queue `<name>-dead-letters`."""
        return tuple(queue for dag in self.dags for queue in dag.queues)


def pipelines(settings: Settings) -> tuple[Pipeline, ...]:
    """Every pipeline of this environment."""
    return (
        Pipeline(
            "dockerhub",
            (
                WatchedDag(
                    "dockerhub_pull",
                    settings.dockerhub_pull_schedule,
                    deadline_seconds=600,
                    tables=("dockerhub_history",),
                ),
                WatchedDag(
                    "dockerhub_aggregate",
                    "*/30 * * * *",
                    deadline_seconds=900,
                    tables=(settings.dockerhub_table,),
                    queues=(settings.dockerhub_queue,),
                ),
                WatchedDag("dockerhub_rebuild", "0 0 1 * *", deadline_seconds=6 * 3600, partitioned=True),
            ),
        ),
        Pipeline(
            "events",
            (
                WatchedDag(
                    "events_ingest",
                    "*/5 * * * *",
                    deadline_seconds=900,
                    streams=(Stream(settings.event_stream, settings.events_checkpoint_table),),
                ),
                WatchedDag("events_hourly", "0 * * * *", deadline_seconds=1800, tables=("events",), partitioned=True),
                WatchedDag("events_rebuild", None, partitioned=True),
            ),
        ),
        Pipeline(
            "modules",
            (
                WatchedDag(
                    "modules_diagnostics",
                    "*/5 * * * *",
                    deadline_seconds=900,
                    tables=(settings.modules_message_table,),
                    queues=(settings.recv_message_queue, settings.weekly_diagnostic_queue),
                ),
            ),
        ),
        Pipeline(
            "accommodations",
            (
                WatchedDag(
                    "accommodations_consolidate",
                    "*/30 * * * *",
                    deadline_seconds=900,
                    tables=("accommodations", "accommodations_current"),
                    queues=(settings.accommodations_queue,),
                ),
            ),
        ),
        Pipeline(
            "datasets",
            (
                WatchedDag(
                    "datasets_aggregate",
                    "*/30 * * * *",
                    deadline_seconds=900,
                    tables=("datasets",),
                    queues=(settings.datasets_queue,),
                ),
                WatchedDag("datasets_await", None),
            ),
        ),
        Pipeline(
            "platform",
            (
                WatchedDag(WATCH_DAG, "*/5 * * * *", deadline_seconds=600),
                WatchedDag("platform_maintain", "0 3 * * *", deadline_seconds=3600),
                WatchedDag("platform_redrive", None),
                WatchedDag(
                    "platform_canary",
                    settings.canary_schedule or None,
                    deadline_seconds=2 * settings.canary_timeout_seconds + 600 if settings.canary_schedule else 0,
                ),
            ),
        ),
    )


def find_dag(settings: Settings, dag_id: str) -> tuple[str, WatchedDag]:
    """The name of the pipeline of a Dag, and what is expected of it; nothing of one that is not in the table."""
    for pipeline in pipelines(settings):
        for dag in pipeline.dags:
            if dag.dag_id == dag_id:
                return pipeline.name, dag
    return dag_id.partition("_")[0], WatchedDag(dag_id, None)
