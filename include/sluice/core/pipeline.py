"""What a pipeline declares: deployment, monitoring, the command line, the demo and the documentation follow from it.

Each package below `sluice.pipelines` has a module `pipeline` with a function `pipeline(settings) -> Pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sluice.aws.tables.definitions import TableDefinition
    from sluice.settings import Settings


@dataclass(frozen=True)
class Stream:
    """A Kinesis stream and the table of its checkpoints."""

    name: str
    checkpoint_table: str


@dataclass(frozen=True)
class Dag:
    """What is expected of one Dag.

    Attributes:
        dag_id: the Dag.
        schedule: its cron expression (UTC), for an event-driven Dag that of its safety net: a run that finds nothing to
            do shows that it works as well. None where only a person starts it: then it cannot be stale.
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
class Notification:
    """Objects of a bucket that S3 announces to a work queue.

    Attributes:
        bucket: `lake` or `landing`.
        prefix: of the keys.
        suffix: of the keys; "" for all.
        queue: the work queue that gets the message in the end; S3 sends a test event to it when this is deployed.
        topic: the SNS topic in between; "" where S3 sends to the queue itself.
    """

    bucket: Literal["lake", "landing"]
    prefix: str
    suffix: str
    queue: str
    topic: str = ""


@dataclass(frozen=True)
class Asset:
    """Something that a Dag reads or publishes, as Airflow's asset graph shows it.

    Attributes:
        name: of the asset, the same in every environment.
        uri: its address.
        format: `http`, `json`, `csv`, `parquet`, `iceberg`, `dynamodb`, `kinesis` or `sns`.
        description: in one line.
        gate: the gate that passes what is published, as in the key of its reports; "" where there is none.
    """

    name: str
    uri: str
    format: str
    description: str
    gate: str = ""


@dataclass(frozen=True)
class Explanation:
    """How a dead letter of a queue is explained.

    Attributes:
        about: body and time of sending (milliseconds since 1970) -> what the message is about; raises `RejectedRecord`
            where it cannot be parsed. None: it is a notification of S3, and names objects.
        unreadable: a file with the first bytes of an object that exists -> why the pipeline cannot read it; "" where it
            can.
    """

    about: Callable[[str, int], str] | None = None
    unreadable: Callable[[Path], str] | None = None


@dataclass(frozen=True)
class Pipeline:
    """One pipeline.

    Attributes:
        name: of its package, its template `infra/<name>.yaml`, and in keys of the lake.
        dags: its Dags.
        notifications: S3 notifications that feed its queues.
        assets: what its Dags read and publish, in the order of the flow.
        tables: makes the definitions of its Iceberg tables, which a deployment creates.
        explanations: work queue -> how its dead letters are explained, where that is not an object of S3 alone.
        expired_staging: patterns of keys below `staging/<name>/`, and what to run instead of a task whose staging has
            expired; the first match counts.
        keep_columns: settings -> (table, column -> Glue type) of what the pipeline added to a Glue table of its
            template, which a deployment must not drop.
    """

    name: str
    dags: tuple[Dag, ...] = ()
    notifications: tuple[Notification, ...] = ()
    assets: tuple[Asset, ...] = ()
    tables: Callable[[], tuple[TableDefinition, ...]] = tuple
    explanations: Mapping[str, Explanation] = field(default_factory=dict)
    expired_staging: tuple[tuple[str, str], ...] = ()
    keep_columns: Callable[[Settings], tuple[str, dict[str, str]]] | None = None

    @property
    def queues(self) -> tuple[str, ...]:
        """Its work queues; each has a dead-letter queue `<name>-dead-letters`."""
        return tuple(queue for dag in self.dags for queue in dag.queues)
