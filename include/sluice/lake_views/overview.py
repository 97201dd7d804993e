"""The overview: problems, and a row for each pipeline with its freshness, its last 24 hours and its queues."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sluice.aws.threads import in_parallel
from sluice.core.pipeline import Dag, Pipeline
from sluice.core.tally import COUNTS
from sluice.monitoring import history
from sluice.monitoring.history import GateRecord, RunRecord
from sluice.monitoring.observation import Observation, look
from sluice.monitoring.pipelines import pipelines
from sluice.monitoring.problems import Problem, find_problems, overdue, state_of
from sluice.monitoring.runs import LastRun
from sluice.settings import Settings

HOURS = 24
RUNS_READ = 1000
"""Maximum number of newest runs of a Dag that are counted."""

SEVERITY = (history.PASSED, history.WARNED, history.FAILED)
"""Outcomes of a gate, the worst last."""

ORDER = ("failing", "missing", "stale", "dead-letters", "queue-age", "stream-lag", "first run", "ok", "never ran")
"""States from the worst to the best."""


def readable_pipelines(settings: Settings, dag_ids: Container[str]) -> tuple[Pipeline, ...]:
    """The pipelines with those of their Dags that a user may read; a pipeline without any is omitted."""
    kept = (
        replace(pipeline, dags=tuple(dag for dag in pipeline.dags if dag.dag_id in dag_ids))
        for pipeline in pipelines(settings)
    )
    return tuple(pipeline for pipeline in kept if pipeline.dags)


def read_overview(settings: Settings, dag_ids: Container[str], now: datetime, web_url: str) -> dict[str, Any]:
    """State of everything as plain values: times in ISO 8601 (UTC), durations in seconds.

    Args:
        settings: the settings of this process.
        dag_ids: Dags that the user may read.
        now: the time (UTC).
        web_url: address of Airflow's web UI.

    Raises:
        ResourceMissing: the platform's stack is not deployed.
    """
    watched = readable_pipelines(settings, dag_ids)
    dags = [dag.dag_id for pipeline in watched for dag in pipeline.dags]
    since = first_hour(now)
    read_runs = partial(history.read_runs_of, settings.runs_table, since=since, limit=RUNS_READ)
    asked: list[Callable[[], Any]] = [
        partial(look, settings, watched, now),
        partial(history.read_newest_gates, settings.runs_table),
        *(partial(read_runs, dag_id) for dag_id in dags),
    ]
    seen, gates, *runs = in_parallel(lambda ask: ask(), asked)
    problems = find_problems(watched, seen, web_url)
    return {
        "target": target(settings),
        "at": now.isoformat(),
        "problems": [problem_document(problem) for problem in problems],
        "pipelines": [
            pipeline_document(pipeline, seen, problems, dict(zip(dags, runs, strict=True)), gates)
            for pipeline in watched
        ],
    }


def read_verdict(settings: Settings, dag_ids: Container[str], now: datetime, web_url: str) -> dict[str, Any]:
    """Problems of the pipelines that a user may read, and where the data is."""
    watched = readable_pipelines(settings, dag_ids)
    problems = find_problems(watched, look(settings, watched, now), web_url)
    return {"target": target(settings), "problems": [problem_document(problem) for problem in problems]}


def target(settings: Settings) -> dict[str, str]:
    """Where the data is: `kind`, `account` (of the embedded AWS only), `region` and `environment`."""
    return {
        "kind": settings.target,
        "account": settings.aws_account_id if settings.target == "embedded" else "",
        "region": settings.aws_region,
        "environment": settings.environment,
    }


def problem_document(problem: Problem) -> dict[str, str]:
    """A problem as plain values."""
    return {
        "key": problem.key,
        "kind": problem.kind,
        "pipeline": problem.pipeline,
        "dag": problem.dag_id,
        "task": problem.task_id,
        "run": problem.run_id,
        "title": problem.title,
        "what": problem.what,
        "where": problem.where,
        "again": problem.again,
    }


def pipeline_document(
    pipeline: Pipeline,
    seen: Observation,
    problems: Sequence[Problem],
    runs: Mapping[str, Sequence[RunRecord]],
    gates: Iterable[GateRecord],
) -> dict[str, Any]:
    """One pipeline as plain values; unknown counts are None."""
    dags = [dag_document(dag, seen, problems) for dag in pipeline.dags]
    states = sorted((each["state"] for each in dags), key=ORDER.index)
    # Dags that are only started by hand may never have run, which does not affect the state of their pipeline.
    known = [state for state in states if state != "never ran"]
    tables = dict.fromkeys(table for dag in pipeline.dags for table in dag.tables)
    ages = {table: seen.freshness_seconds(pipeline.dags, table) for table in tables}
    queues = {queue: seen.queues[queue] for queue in pipeline.queues}
    lags = {stream.name: seen.lags[stream.name] for dag in pipeline.dags for stream in dag.streams}
    own = [gate for gate in gates if gate.gate.startswith(f"{pipeline.name}/")]
    # A gate that warned must not be hidden by another one that passed later.
    worst = max(own, key=lambda gate: (SEVERITY.index(gate.outcome), gate.at), default=None)
    return {
        "pipeline": pipeline.name,
        "state": known[0] if known else "never ran",
        "dags": dags,
        "tables": [{"table": table, "freshness_seconds": age} for table, age in ages.items()],
        "queues": [
            {
                "queue": queue,
                "waiting": state.depth,
                "in_flight": state.in_flight,
                "dead_letters": state.dead_letters,
                "age_seconds": state.age_seconds,
            }
            for queue, state in queues.items()
        ],
        "streams": [{"stream": stream, "lag_seconds": lag} for stream, lag in lags.items()],
        "waiting": sum(state.depth or 0 for state in queues.values()) if queues else None,
        "dead_letters": sum(state.dead_letters or 0 for state in queues.values()) if queues else None,
        "hours": hours_document(pipeline, seen.at, runs),
        "gate": gate_document(worst) if worst else None,
    }


def dag_document(dag: Dag, seen: Observation, problems: Sequence[Problem]) -> dict[str, Any]:
    """One Dag as plain values."""
    last = seen.runs.dags.get(dag.dag_id, LastRun())
    running = seen.runs.running.get(dag.dag_id)
    due = due_by(dag, last.success_at or seen.runs.created_at)
    return {
        "dag": dag.dag_id,
        "state": state_of(dag, seen, problems),
        "schedule": dag.schedule,
        "last_success_at": last.success_at.isoformat() if last.success_at else None,
        "last_run": last.success_run,
        "due_by": due.isoformat() if due else None,
        "is_overdue": overdue(dag, seen) is not None,
        # A run that ends with a skipped task is recorded as running until the next one begins.
        "running": running.run_id if running and running.run_id != last.success_run else None,
    }


def due_by(dag: Dag, success_at: datetime) -> datetime | None:
    """When a Dag becomes stale if no run succeeds after the last one (UTC); None without a schedule."""
    if dag.schedule is None:
        return None
    from croniter import croniter

    following: datetime = croniter(dag.schedule, success_at.astimezone(UTC)).get_next(datetime)
    return following + timedelta(seconds=dag.deadline_seconds)


def gate_document(gate: GateRecord) -> dict[str, str]:
    """The result of a gate as plain values."""
    return {
        "gate": gate.gate,
        "outcome": gate.outcome,
        "at": gate.at.isoformat(),
        "dag": gate.dag_id,
        "task": gate.task_id,
        "run": gate.run_id,
        "report": gate.report,
        "message": gate.message,
    }


def first_hour(now: datetime) -> datetime:
    """Start of the first of the last 24 hours that are shown; the last one is the current hour (UTC)."""
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)


def hours_document(pipeline: Pipeline, now: datetime, runs: Mapping[str, Sequence[RunRecord]]) -> dict[str, Any]:
    """Counts of the last 24 hours by Dag and hour, by the time at which a run counted, and how many runs failed.

    Not summed up over the Dags: what one publishes the next one takes in, and an hour that is processed again is
    counted again. Of each Dag, `records_in` is the sum of the other three, as it is of each of its runs.
    """
    start = first_hour(now)
    dags = [{"dag": dag.dag_id} | counts_by_hour(runs.get(dag.dag_id, ()), start) for dag in pipeline.dags]
    failed = sum(run.outcome == history.FAILED for dag in pipeline.dags for run in runs.get(dag.dag_id, ()))
    return {
        "start": start.isoformat(),
        "dags": [each for each in dags if any(each["records_in"])],
        "failed": failed,
    }


def counts_by_hour(runs: Iterable[RunRecord], start: datetime) -> dict[str, Any]:
    """Name of a count -> its sum in each of the 24 hours from `start` on."""
    found = {count: [0] * HOURS for count in COUNTS}
    for run in runs:
        hour = int((run.at - start).total_seconds() // 3600)
        if run.tally and 0 <= hour < HOURS:
            for count in COUNTS:
                found[count][hour] += run.tally[count]
    return found
