"""Functions of the Dag `platform_watch`, and the callbacks of every task of every Dag."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sluice.core.pipeline import Pipeline
from sluice.core.run import Run, utc_now
from sluice.core.tally import COUNTS
from sluice.monitoring import PIPELINE, alerts, history, metrics, runs
from sluice.monitoring.history import GateRecord, RunRecord
from sluice.monitoring.observation import Observation, look
from sluice.monitoring.pipelines import WATCH_DAG, find_dag, pipelines
from sluice.monitoring.problems import Problem, failing, find_problems
from sluice.monitoring.runs import Failure
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)


# Every task: run_started, task_succeeded, task_failed


def run_started(dag_id: str, run_id: str, started_at: datetime) -> None:
    """Record that a run has begun; called by its first task."""
    runs.record_start(load_settings().runs_table, dag_id, run_id, started_at)


def task_succeeded(
    dag_id: str,
    task_id: str,
    run_id: str,
    *,
    partition: str,
    started_at: datetime,
    at: datetime,
    result: object,
    ends_run: bool,
) -> None:
    """Record the success of a task: clears its failure, and if it ends the run records the success of the run.

    Args:
        dag_id: the Dag.
        task_id: the task.
        run_id: the run.
        partition: hour or month of the run; used for partitioned Dags only.
        started_at: when the run began (UTC).
        at: the time (UTC).
        result: result of the task; a tally has the counts of the run.
        ends_run: whether it is the last task of the run.
    """
    settings = load_settings()
    pipeline, dag = find_dag(settings, dag_id)
    tally = tally_of(result)
    # A failed run of a partitioned Dag without a partition is repaired by any other run.
    partitions = (partition, "") if dag.partitioned else ("",)
    tasks = (task_id, "") if ends_run else (task_id,)
    made_up = {runs.failure_name(dag_id, of_task, each) for of_task in tasks for each in partitions}
    runs.clear_failures(settings.runs_table, dag_id, made_up, at)
    if isinstance(result, Mapping) and result.get("is_drained"):
        runs.record_drain(settings.runs_table, dag_id, run_id)
    is_drained = ends_run and runs.record_end(settings.runs_table, dag_id, run_id)
    if tally or ends_run:
        runs.record_success(
            settings.runs_table, dag_id, run_id, started_at=started_at, at=at, tally=tally, is_drained=is_drained
        )
    if tally:
        of_partition = partition if dag.partitioned else ""
        history.record_run(
            settings.runs_table,
            RunRecord(dag_id, run_id, started_at, at, history.SUCCEEDED, tally, of_partition),
        )
        metrics.send(metrics.run_points(settings, pipeline, dag_id, tally, at))
    if found := gate_of(result):
        gate, outcome, report, warnings = found
        record = GateRecord(gate, dag_id, task_id, run_id, started_at, at, outcome, report, warnings)
        history.record_gate(settings.runs_table, record)


def tally_of(result: object) -> dict[str, int] | None:
    """The tally in the result of a task; None for another result."""
    if not isinstance(result, Mapping) or not all(name in result for name in COUNTS):
        return None
    return {name: result[name] for name in COUNTS}


def gate_of(result: object) -> tuple[str, str, str, str] | None:
    """Gate, outcome, report and warnings of the result of a gate; None for another result."""
    if not isinstance(result, Mapping) or not result.get("gate") or not result.get("report"):
        return None
    warnings = "\n".join(result.get("warnings", []))
    return result["gate"], history.WARNED if warnings else history.PASSED, result["report"], warnings


def gate_failed(failure: Failure, report: str, started_at: datetime) -> None:
    """Record that a gate failed, with the error of its task and the address of the report (s3://)."""
    gate = report.partition("/quality/")[2].rpartition("/")[0]
    of_task = (failure.dag_id, failure.task_id, failure.run_id)
    record = GateRecord(gate, *of_task, started_at, failure.at, history.FAILED, report, failure.message)
    history.record_gate(load_settings().runs_table, record)


def task_failed(failure: Failure, started_at: datetime | None = None) -> bool:
    """Record that a task failed after its last retry, and send an alert.

    Args:
        failure: the failure.
        started_at: when its run began (UTC); None if unknown.

    Returns:
        Whether a message was sent: not while the same task keeps failing.
    """
    settings = load_settings()
    pipeline, dag = find_dag(settings, failure.dag_id)
    if not dag.partitioned:
        failure = replace(failure, partition="")
    metrics.send([metrics.point(settings, "FailedTasks", 1, failure.at, Pipeline=pipeline)])
    runs.record_end(settings.runs_table, failure.dag_id, failure.run_id)
    runs.record_failure(settings.runs_table, failure)
    record = RunRecord(
        failure.dag_id,
        failure.run_id,
        started_at or failure.at,
        failure.at,
        history.FAILED,
        partition=failure.partition,
    )
    history.record_run(settings.runs_table, record)
    return alerts.send_alert(settings, failing(pipeline, failure), failure.at)


def run_failed(failure: Failure) -> bool:
    """Send an alert for a failed run, unless one of its tasks has reported its failure.

    Args:
        failure: the failure, without a task.

    Returns:
        Whether a message was sent.
    """
    known = runs.read_runs(load_settings().runs_table, failure.at).failures
    if any((each.dag_id, each.run_id) == (failure.dag_id, failure.run_id) for each in known):
        return False
    return task_failed(failure)


# platform_watch: observe -> announce (send_alerts)

FOUND = "problems.json"


@dataclass(frozen=True)
class Found:
    """Result of `observe`: its time (UTC), and the problems."""

    at: datetime
    problems: list[Problem]


def observe(
    run_id: str, web_url: str, clock: Callable[[], datetime] = utc_now, watched: Sequence[Pipeline] | None = None
) -> dict[str, int]:
    """Observe all pipelines, send the metrics that AWS does not have, and stage the problems.

    Args:
        run_id: of the run.
        web_url: address of Airflow's web UI, for the messages.
        clock: returns the time (UTC).
        watched: the pipelines; None for all.

    Returns:
        Numbers of `dags`, `queues`, `streams` and `problems`.

    Raises:
        ResourceMissing: the platform's stack is not deployed.
    """
    settings = load_settings()
    watched = pipelines(settings) if watched is None else watched
    seen = look(settings, watched, clock())
    # Staleness of the watch itself is reported by its alarm, and ends with this run.
    problems = [each for each in find_problems(watched, seen, web_url) if each.key != f"stale/{WATCH_DAG}"]
    for queue, state in seen.queues.items():
        if state.depth is not None:
            depth = runs.Depth(seen.at, state.depth + state.in_flight)
            runs.record_depth(settings.runs_table, queue, depth, seen.runs.depths.get(queue, ()))
        if state.depth == 0 and not state.in_flight:
            runs.record_empty(settings.runs_table, queue, seen.at)
    metrics.send(points_of(settings, watched, seen, problems))
    Run.of(PIPELINE, run_id).save(FOUND, Found(seen.at, problems))
    dags = sum(len(pipeline.dags) for pipeline in watched)
    return {"dags": dags, "queues": len(seen.queues), "streams": len(seen.lags), "problems": len(problems)}


def send_alerts(run_id: str, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Send alerts for new and lasting problems, and close those that are over.

    A retry sends only alerts that the attempt before did not send. The heartbeat metric of the watch is sent last:
    without it, an alarm of CloudWatch is raised.

    Args:
        run_id: of the run, after `observe`.
        clock: returns the time (UTC).

    Returns:
        Numbers of `problems`, `announced` (alerts sent) and `over` (alerts closed).
    """
    settings = load_settings()
    found = Run.of(PIPELINE, run_id).load(FOUND, Found)
    now = clock()
    announced = sum(alerts.send_alert(settings, problem, now) for problem in found.problems)
    lasting = {problem.key for problem in found.problems}
    over = 0
    for key, alert in sorted(runs.read_runs(settings.runs_table, now).alerts.items()):
        # The observation does not include alerts that tasks sent after it.
        if key not in lasting and alert.announced_at < found.at:
            alerts.close_alert(settings, key, alert, now)
            over += 1
    metrics.send([metrics.point(settings, "WatchRuns", 1, now, Pipeline=PIPELINE)])
    return {"problems": len(found.problems), "announced": announced, "over": over}


def points_of(
    settings: Settings, watched: Sequence[Pipeline], seen: Observation, problems: Sequence[Problem]
) -> list[dict[str, Any]]:
    """The metrics of one observation: by pipeline for the alarms, by queue and table for the dashboard."""
    found: list[dict[str, Any]] = []

    def add(name: str, value: float, **dimensions: str) -> None:
        found.append(metrics.point(settings, name, value, seen.at, **dimensions))

    for pipeline in watched:
        stale = [each for each in problems if each.pipeline == pipeline.name and each.kind == "stale"]
        add("StaleDags", len(stale), Pipeline=pipeline.name)
        queues = {queue: seen.queues[queue] for dag in pipeline.dags for queue in dag.queues}
        for queue, state in queues.items():
            add("QueueDepth", state.depth or 0, Pipeline=pipeline.name, Queue=queue)
            add("QueueAge", state.age_seconds, Pipeline=pipeline.name, Queue=queue)
            add("DeadLetters", state.dead_letters or 0, Pipeline=pipeline.name, Queue=queue)
        if queues:
            add("QueueAge", max(state.age_seconds for state in queues.values()), Pipeline=pipeline.name)
            add("DeadLetters", sum(state.dead_letters or 0 for state in queues.values()), Pipeline=pipeline.name)
        lags = [seen.lags[stream.name] for dag in pipeline.dags for stream in dag.streams]
        known = [lag for lag in lags if lag is not None]
        if known:
            add("StreamLag", max(known), Pipeline=pipeline.name)
        for table, seconds in _freshness(pipeline, seen):
            add("Freshness", seconds, Pipeline=pipeline.name, Table=table)
    return found


def _freshness(pipeline: Pipeline, seen: Observation) -> Iterator[tuple[str, float]]:
    for table in dict.fromkeys(table for dag in pipeline.dags for table in dag.tables):
        seconds = seen.freshness_seconds(pipeline.dags, table)
        if seconds is not None:
            yield table, seconds
