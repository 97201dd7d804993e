"""Declaration of a pipeline, read by deployment, monitoring, the command line, the demo and the documentation.

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
    """A Dag with its schedule, deadline, queues and tables.

    Attributes:
        dag_id: the Dag.
        schedule: its cron expression (UTC), for an event-driven Dag the fallback schedule: a run without work also
            proves that the Dag works. None if it is only started by hand: then it cannot be stale.
        deadline_seconds: how long after a time of its schedule a run must have succeeded.
        tables: curated tables that it publishes to.
        queues: work queues that it drains; each has a dead-letter queue `<name>-dead-letters`.
        streams: streams that it reads.
        partitioned: each run processes its own hour or month, so a later run does not repair a failed one.
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

        # The next whole second: croniter returns times before its start, and `moment` itself counts.
        start = now.astimezone(UTC).replace(microsecond=0) - timedelta(seconds=self.deadline_seconds - 1)
        due: datetime = croniter(self.schedule, start).get_prev(datetime)
        return due


@dataclass(frozen=True)
class Notification:
    """S3 notification: objects of a bucket for which S3 sends messages to a work queue.

    Attributes:
        bucket: `lake` or `landing`.
        prefix: of the keys.
        suffix: of the keys; "" for all.
        queue: the work queue that receives the messages; S3 sends a test event to it when this is deployed.
        topic: the SNS topic in between; "" if S3 sends to the queue directly.
    """

    bucket: Literal["lake", "landing"]
    prefix: str
    suffix: str
    queue: str
    topic: str = ""


@dataclass(frozen=True)
class Asset:
    """An Airflow asset that a Dag reads or publishes.

    Attributes:
        name: of the asset, the same in every environment.
        uri: its address.
        format: `http`, `json`, `csv`, `parquet`, `iceberg`, `dynamodb`, `kinesis` or `sns`.
        description: in one line.
        gate: name of its gate, as in the key of the reports; "" for none.
    """

    name: str
    uri: str
    format: str
    description: str
    gate: str = ""


@dataclass(frozen=True)
class Explanation:
    """Functions that describe a dead letter of a queue.

    Attributes:
        about: body and time of sending (milliseconds since 1970) -> subject of the message; raises `RejectedRecord` if
            it cannot be parsed. None: it is a notification of S3, and names objects.
        unreadable: a file with the first bytes of an existing object -> why the pipeline cannot read it; "" if it can.
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
        explanations: work queue -> description of its dead letters, if its messages are not only notifications of S3.
        expired_staging: patterns of keys below `staging/<name>/`, and the command that replaces a task whose staging
            has expired; the first match counts.
        keep_columns: settings -> (table, column -> Glue type) of columns that the pipeline added to a Glue table of its
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
