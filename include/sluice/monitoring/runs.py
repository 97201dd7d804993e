"""The table of runs: the last success of every Dag, failing tasks, open alerts, and when queues were empty.

One small DynamoDB table (infra/platform.yaml), partition key `kind`, sort key `name`. It works on any target and needs
no database of Airflow. Runs write to it directly; an older run never overwrites the items of a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sluice.aws import dynamodb
from sluice.aws.sessions import client
from sluice.aws.threads import in_parallel

FORGOTTEN_AFTER = timedelta(days=7)
"""Retention of a failure without a later success; Airflow still has it afterwards."""

HANGING_AFTER = timedelta(hours=6)
"""Maximum duration of a run: an older one without an end was killed."""

MESSAGE_MAX_CHARACTERS = 4000

KINDS = ("dag", "failure", "alert", "queue", "running", "depth", "canary")
"""Partition keys that `read_runs` reads."""


def time_text(at: datetime) -> str:
    """ISO 8601 in UTC, always with microseconds, so that texts sort by time."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class LastRun:
    """State of a Dag's runs.

    Attributes:
        success_at: end of the last run that succeeded, with or without records.
        success_run: its run id.
        started_at: when that run began.
        tally: counts of the last run with records.
        tally_at: end of that run.
        published_at: end of the last run that published a record.
        drained_at: start of the last run that emptied its queues and succeeded.
    """

    success_at: datetime | None = None
    success_run: str = ""
    started_at: datetime | None = None
    tally: dict[str, int] = field(default_factory=dict)
    tally_at: datetime | None = None
    published_at: datetime | None = None
    drained_at: datetime | None = None


@dataclass(frozen=True)
class Failure:
    """A task that failed for good and has not succeeded since.

    Attributes:
        dag_id: the Dag.
        task_id: the task; "" for a run that failed without an error of a task.
        partition: hour or month of a run of a partitioned Dag, else "".
        run_id: the run that failed last.
        since: the first failure since the last success.
        at: the last one.
        count: number of failures.
        message: the error.
        log_url: its log in the web UI.
        again: command that runs it again.
    """

    dag_id: str
    task_id: str
    partition: str
    run_id: str
    since: datetime
    at: datetime
    count: int
    message: str
    log_url: str
    again: str


@dataclass(frozen=True)
class Alert:
    """An open alert.

    Attributes:
        subject: of the message.
        opened_at: when it was first sent.
        announced_at: when it was last claimed or sent.
        sent: False while a message is being sent.
    """

    subject: str
    opened_at: datetime
    announced_at: datetime
    sent: bool


@dataclass(frozen=True)
class Running:
    """A run in progress: its id, and its start (UTC)."""

    run_id: str
    started_at: datetime


@dataclass(frozen=True)
class Depth:
    """Messages in a queue at a time (UTC), including those in flight."""

    at: datetime
    messages: int


@dataclass(frozen=True)
class CanaryResult:
    """Result of the last canary for a pipeline.

    Attributes:
        run_id: the run of platform_canary.
        at: when it ended (UTC).
        latency_seconds: from sending to publication of its record; None if it failed.
        failure: why it failed and what to do; "" for success.
    """

    run_id: str
    at: datetime
    latency_seconds: float | None
    failure: str


@dataclass(frozen=True)
class Runs:
    """Content of the table.

    Attributes:
        created_at: when the table was created; the deadline of a Dag that never ran starts there.
        dags: dag id -> its last run.
        failures: failing tasks.
        alerts: key -> open alert.
        empty_at: queue -> when it was last observed empty.
        running: dag id -> its last started run, if it has not ended.
        depths: queue -> earlier depths, the latest first.
        canary: pipeline -> result of the last canary.
    """

    created_at: datetime
    dags: dict[str, LastRun]
    failures: tuple[Failure, ...]
    alerts: dict[str, Alert]
    empty_at: dict[str, datetime]
    running: dict[str, Running] = field(default_factory=dict)
    depths: dict[str, tuple[Depth, ...]] = field(default_factory=dict)
    canary: dict[str, CanaryResult] = field(default_factory=dict)


def record_start(table: str, dag_id: str, run_id: str, started_at: datetime) -> None:
    """Record that a run has begun; replaces the record of an earlier run of the Dag."""
    values = {":at": time_text(started_at), ":run": run_id}
    update_unless_older(table, "running", dag_id, "SET started_at = :at, run_id = :run", "started_at", values)


def record_drain(table: str, dag_id: str, run_id: str) -> None:
    """Record that a run in progress has emptied its queues."""
    values = {":run": run_id, ":yes": True}
    update_item(table, "running", dag_id, "SET is_drained = :yes", "run_id = :run", values)


def record_end(table: str, dag_id: str, run_id: str) -> bool:
    """Remove the record of a run in progress after its success or failure; idempotent.

    Returns:
        Whether it had emptied its queues; False if its end was recorded before.
    """
    own = dynamodb.Delete(table, item_key("running", dag_id), condition="run_id = :run", values={":run": run_id})
    ended = dynamodb.write(own, hasty=True)
    return ended.is_written and "is_drained" in ended.item


def record_success(
    table: str,
    dag_id: str,
    run_id: str,
    *,
    started_at: datetime,
    at: datetime,
    tally: Mapping[str, int] | None,
    is_drained: bool = False,
) -> bool:
    """Record the success of a run.

    Args:
        table: the DynamoDB table.
        dag_id: the Dag.
        run_id: the run.
        started_at: when it began (UTC).
        at: when it ended (UTC).
        tally: its counts; None without records or counts.
        is_drained: whether it emptied its queues: messages in them now arrived after its start.

    Returns:
        False if a later one was recorded already.
    """
    values: dict[str, Any] = {
        ":at": time_text(at),
        ":run": run_id,
        ":started": time_text(started_at),
    }
    update = "SET success_at = :at, success_run = :run, started_at = :started"
    if tally is not None:
        update += ", tally = :tally, tally_at = :at"
        values[":tally"] = {name: int(count) for name, count in tally.items()}
        if tally.get("published"):
            update += ", published_at = :at"
    if is_drained:
        update += ", drained_at = :started"
    return update_unless_older(table, "dag", dag_id, update, "success_at", values)


def record_failure(table: str, failure: Failure) -> bool:
    """Record that a task failed after its last retry; keeps `since` and increments `count` of an earlier failure.

    Returns:
        False if a later failure was recorded already.
    """
    values = {
        ":at": time_text(failure.at),
        ":since": time_text(failure.since),
        ":dag": failure.dag_id,
        ":task": failure.task_id,
        ":partition": failure.partition,
        ":run": failure.run_id,
        ":message": failure.message[:MESSAGE_MAX_CHARACTERS],
        ":log": failure.log_url,
        ":again": failure.again,
        ":one": 1,
    }
    update = (
        "SET #at = :at, since = if_not_exists(since, :since), dag_id = :dag, task_id = :task, #partition = :partition,"
        " run_id = :run, #message = :message, log_url = :log, again = :again ADD failed :one"
    )
    name = failure_name(failure.dag_id, failure.task_id, failure.partition)
    return update_unless_older(
        table, "failure", name, update, "#at", values, {"#partition": "partition", "#message": "message", "#at": "at"}
    )


def failure_name(dag_id: str, task_id: str, partition: str) -> str:
    """Sort key of a failure: `dag/task`, or `dag/task/partition`."""
    return "/".join(part for part in (dag_id, task_id, partition) if part)


def clear_failures(table: str, dag_id: str, names: Container[str], at: datetime) -> None:
    """Delete failures before `at` of tasks that succeeded; usually there are none, which takes one request.

    Args:
        table: the DynamoDB table.
        dag_id: the Dag.
        names: names (`failure_name`) of the tasks that succeeded, of that Dag.
        at: the time (UTC).
    """
    condition, values = "attribute_not_exists(#at) OR #at <= :at", {":at": time_text(at)}
    for item in dynamodb.query_items(
        table,
        "#kind = :kind AND begins_with(#name, :dag)",
        {":kind": "failure", ":dag": dag_id},
        {"#kind": "kind", "#name": "name"},
        hasty=True,
    ):
        if item["name"] in names:
            key = item_key("failure", item["name"])
            older = dynamodb.Delete(table, key, condition=condition, values=values, names={"#at": "at"})
            dynamodb.write(older, hasty=True)


def record_empty(table: str, queue: str, at: datetime) -> None:
    """Record that a queue was observed empty."""
    update_unless_older(table, "queue", queue, "SET empty_at = :at", "empty_at", {":at": time_text(at)})


def record_depth(table: str, queue: str, depth: Depth, earlier: Sequence[Depth]) -> None:
    """Record the depth of a queue, together with the latest earlier one."""
    seen = [{"at": time_text(each.at), "messages": each.messages} for each in (depth, *earlier[:1])]
    values = {":at": time_text(depth.at), ":seen": seen}
    update_unless_older(table, "depth", queue, "SET seen_at = :at, seen = :seen", "seen_at", values)


def read_runs(table: str, now: datetime) -> Runs:
    """The table without the history (consistent read): a few items for each Dag.

    Raises:
        ResourceMissing: it is not deployed.
    """
    asked: list[Callable[[], Any]] = [partial(_created_at, table), *(partial(_items_of, table, kind) for kind in KINDS)]
    created_at, *answers = in_parallel(lambda ask: ask(), asked)
    found: dict[str, dict[str, dynamodb.Item]] = dict(zip(KINDS, answers, strict=True))
    failures = [_failure(item) for _, item in sorted(found["failure"].items())]
    return Runs(
        created_at,
        {name: _last_run(item) for name, item in found["dag"].items()},
        tuple(each for each in failures if each.at + FORGOTTEN_AFTER > now),
        {name: _alert(item) for name, item in found["alert"].items()},
        {name: datetime.fromisoformat(item["empty_at"]) for name, item in found["queue"].items()},
        {
            name: Running(item["run_id"], started_at)
            for name, item in found["running"].items()
            if (started_at := datetime.fromisoformat(item["started_at"])) + HANGING_AFTER > now
        },
        {
            name: tuple(Depth(datetime.fromisoformat(each["at"]), each["messages"]) for each in item["seen"])
            for name, item in found["depth"].items()
        },
        {name: _canary_result(item) for name, item in found["canary"].items()},
    )


def _created_at(table: str) -> datetime:
    return client("dynamodb").describe_table(TableName=table)["Table"]["CreationDateTime"].astimezone(UTC)


def _items_of(table: str, kind: str) -> dict[str, dynamodb.Item]:
    items = dynamodb.query_items(table, "#kind = :kind", {":kind": kind}, {"#kind": "kind"})
    return {item["name"]: item for item in items}


def _time(item: dynamodb.Item, name: str) -> datetime | None:
    return datetime.fromisoformat(item[name]) if name in item else None


def _last_run(item: dynamodb.Item) -> LastRun:
    return LastRun(
        _time(item, "success_at"),
        item["success_run"],
        _time(item, "started_at"),
        item.get("tally", {}),
        _time(item, "tally_at"),
        _time(item, "published_at"),
        _time(item, "drained_at"),
    )


def _canary_result(item: dynamodb.Item) -> CanaryResult:
    latency = float(item["latency_seconds"]) if "latency_seconds" in item else None
    at = datetime.fromisoformat(item["ended_at"])
    return CanaryResult(item["run_id"], at, latency, item.get("failure", ""))


def _failure(item: dynamodb.Item) -> Failure:
    texts = {name: item[name] for name in ("dag_id", "task_id", "partition", "run_id", "message")}
    return Failure(
        **texts,
        log_url=item["log_url"],
        again=item["again"],
        since=datetime.fromisoformat(item["since"]),
        at=datetime.fromisoformat(item["at"]),
        count=item["failed"],
    )


def _alert(item: dynamodb.Item) -> Alert:
    opened_at = datetime.fromisoformat(item["opened_at"])
    return Alert(item["subject"], opened_at, _time(item, "announced_at") or opened_at, item["sent"])


def item_key(kind: str, name: str) -> dynamodb.Item:
    """Key of an item of the table."""
    return {"kind": kind, "name": name}


def update_unless_older(
    table: str,
    kind: str,
    name: str,
    update: str,
    time_name: str,
    values: dict[str, Any],
    names: dict[str, str] | None = None,
) -> bool:
    """Update an item unless its `time_name` is later; returns False then. `:at` is the time of this update."""
    condition = f"attribute_not_exists({time_name}) OR {time_name} <= :at"
    return update_item(table, kind, name, update, condition, values, names)


def update_item(
    table: str,
    kind: str,
    name: str,
    update: str,
    condition: str,
    values: dict[str, Any],
    names: dict[str, str] | None = None,
) -> bool:
    """Update an item on a condition; returns False if it fails."""
    what = dynamodb.Update(table, item_key(kind, name), update, condition=condition, values=values, names=names or {})
    return dynamodb.write(what, hasty=True).is_written
