"""Finds problems in an observation, with what to do; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sluice.aws.sqs import DEAD_LETTERS
from sluice.core.pipeline import Dag, Pipeline, Stream
from sluice.monitoring.observation import Observation, QueueState
from sluice.monitoring.pipelines import QUEUE_AGE_MAX_SECONDS, STREAM_LAG_MAX_SECONDS
from sluice.monitoring.runs import Failure, failure_name


@dataclass(frozen=True)
class Problem:
    """A problem that a person must resolve.

    Attributes:
        key: stable identifier while it lasts, such as `stale/dockerhub_pull`.
        pipeline: its pipeline.
        dag_id: its Dag.
        title: short description.
        what: what happened.
        where: where to look.
        again: what to do then, if possible a command.
        task_id: the failed task, if any.
        run_id: the failed run, if any.
    """

    key: str
    pipeline: str
    dag_id: str
    title: str
    what: str
    where: str
    again: str
    task_id: str = ""
    run_id: str = ""

    @property
    def kind(self) -> str:
        """`stale`, `failing`, `dead-letters`, `queue-age`, `stream-lag` or `missing`."""
        return self.key.partition("/")[0]


def find_problems(watched: Sequence[Pipeline], seen: Observation, web_url: str) -> list[Problem]:
    """All problems, pipeline by pipeline.

    Args:
        watched: the pipelines.
        seen: their observed state.
        web_url: address of Airflow's web UI.
    """
    return [
        problem
        for pipeline in watched
        for dag in pipeline.dags
        for problem in _of_dag(pipeline.name, dag, seen, f"{web_url.rstrip('/')}/dags/{dag.dag_id}")
    ]


def state_of(dag: Dag, seen: Observation, problems: Sequence[Problem]) -> str:
    """`failing`, `stale`, another kind of problem, `first run` while that works, `never ran`, or `ok`."""
    kinds = [problem.kind for problem in problems if problem.dag_id == dag.dag_id]
    if kinds:
        return kinds[0]
    last = seen.runs.dags.get(dag.dag_id)
    if last and last.success_at:
        return "ok"
    return "first run" if dag.dag_id in seen.runs.running else "never ran"


def _of_dag(pipeline: str, dag: Dag, seen: Observation, page: str) -> Iterator[Problem]:
    failures = [failure for failure in seen.runs.failures if failure.dag_id == dag.dag_id]
    for failure in failures:
        yield failing(pipeline, failure)
    due = overdue(dag, seen)
    # The failures of a Dag are reported already.
    if due and not any(failure.at >= due for failure in failures):
        yield _stale(pipeline, dag, seen, due, page)
    for queue in dag.queues:
        yield from _of_queue(pipeline, dag, queue, seen, page)
    for stream in dag.streams:
        yield from _of_stream(pipeline, dag, stream, seen.lags[stream.name], page)


def overdue(dag: Dag, seen: Observation) -> datetime | None:
    """The scheduled time for which a run should have succeeded by now, but none did; None if there is none.

    A Dag that never ran is measured from the deployment of the table of runs.
    """
    due = dag.due(seen.at)
    last = seen.runs.dags.get(dag.dag_id)
    alive = (last and last.success_at) or seen.runs.created_at
    return due if due and alive < due else None


def failing(pipeline: str, failure: Failure) -> Problem:
    """The problem of a failed task."""
    times = "" if failure.count == 1 else f" ({failure.count} times since {at_text(failure.since)})"
    return Problem(
        "failing/" + failure_name(failure.dag_id, failure.task_id, failure.partition),
        pipeline,
        failure.dag_id,
        f"{'.'.join(part for part in (failure.dag_id, failure.task_id) if part)} failed",
        f"failed at {at_text(failure.at)}{times}: {failure.message}",
        failure.log_url,
        failure.again,
        failure.task_id,
        failure.run_id,
    )


def _stale(pipeline: str, dag: Dag, seen: Observation, due: datetime, page: str) -> Problem:
    last, running = seen.runs.dags.get(dag.dag_id), seen.runs.running.get(dag.dag_id)
    deadline = at_text(due + timedelta(seconds=dag.deadline_seconds))
    since = f"the last one ended {at_text(last.success_at)}" if last and last.success_at else "none ever has"
    question = "Is the Dag paused, does the scheduler run, does a run hang?"
    if running:
        question = f"Run {running.run_id} has been running since {at_text(running.started_at)}."
    return Problem(
        f"stale/{dag.dag_id}",
        pipeline,
        dag.dag_id,
        f"{dag.dag_id} is stale",
        f"its run of {at_text(due)} should have succeeded by {deadline}, and no run has: {since}. {question}",
        page,
        f"sluice airflow dags unpause {dag.dag_id}; {_again(dag, seen)}" if not running else _again(dag, seen),
    )


def _again(dag: Dag, seen: Observation) -> str:
    """The command that starts a run, or shows the run in progress, for which another would only wait."""
    command = "list-runs" if dag.dag_id in seen.runs.running else "trigger"
    return f"sluice airflow dags {command} {dag.dag_id}"


def _of_queue(pipeline: str, dag: Dag, queue: str, seen: Observation, page: str) -> Iterator[Problem]:
    state = seen.queues[queue]
    missing = [
        name for name, count in ((queue, state.depth), (queue + DEAD_LETTERS, state.dead_letters)) if count is None
    ]
    if missing:
        yield _missing(pipeline, dag, f"queue {' and '.join(missing)}", queue)
    if state.dead_letters:
        yield Problem(
            f"dead-letters/{queue}",
            pipeline,
            dag.dag_id,
            f"{dag.dag_id} has dead letters",
            f"{state.dead_letters} messages are in {queue + DEAD_LETTERS}: each failed every time that it was received",
            f"sluice dead-letters list {pipeline}",
            f"sluice dead-letters redrive {pipeline} --no-dry-run",
        )
    if state.age_seconds > QUEUE_AGE_MAX_SECONDS:
        yield Problem(
            f"queue-age/{queue}",
            pipeline,
            dag.dag_id,
            f"{dag.dag_id} does not drain its queue",
            f"{(state.depth or 0) + state.in_flight} messages are in {queue}, and it has not been empty for"
            f" {duration_text(state.age_seconds)}{trend_text(state)}",
            page,
            _again(dag, seen),
        )


def _of_stream(pipeline: str, dag: Dag, stream: Stream, lag_seconds: float | None, page: str) -> Iterator[Problem]:
    if lag_seconds is None:
        yield _missing(pipeline, dag, f"stream {stream.name}", stream.name)
    elif lag_seconds > STREAM_LAG_MAX_SECONDS:
        yield Problem(
            f"stream-lag/{stream.name}",
            pipeline,
            dag.dag_id,
            f"{dag.dag_id} lags behind its stream",
            f"the oldest record of {stream.name} that was not read has waited for {duration_text(lag_seconds)};"
            " it is lost when the stream's retention ends",
            page,
            f"sluice airflow dags trigger {dag.dag_id}",
        )


def _missing(pipeline: str, dag: Dag, what: str, name: str) -> Problem:
    return Problem(
        f"missing/{name}",
        pipeline,
        dag.dag_id,
        f"{dag.dag_id} lacks its {what.partition(' ')[0]}",
        f"{what} does not exist",
        "infra/",
        "sluice deploy",
    )


def trend_text(state: QueueState) -> str:
    """Change of a backlog as the end of a sentence: `, shrinking by 120 a minute, gone in 5 min`; "" if unknown."""
    growth = state.growth_per_minute
    if growth is None:
        return ""
    if growth >= 0:
        return f", growing by {growth:,.0f} a minute" if growth else ", as many as some minutes ago"
    return f", shrinking by {-growth:,.0f} a minute, gone in {duration_text(state.gone_in_seconds or 0)}"


def at_text(at: datetime) -> str:
    """A time in readable form: `2026-11-21 14:05:00 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def duration_text(seconds: float) -> str:
    """A duration with its two greatest units: `3 d 4 h`, `5 min 2 s`."""
    parts: list[str] = []
    left = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
