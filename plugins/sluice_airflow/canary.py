"""Queries of `platform_canary` to Airflow: paused Dags, failed tasks of its run, and their end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from sluice.errors import SluiceError
from sluice.monitoring.canary import steps
from sluice.monitoring.canary.records import DAGS, Observed, paused_sentence
from sluice.monitoring.canary.steps import CanaryFailed

if TYPE_CHECKING:
    from airflow.sdk import Context

TASKS = {
    "dockerhub": ("put", "item"),
    "events": ("put", "ingest", "raw", "hour"),
    "modules": ("put", "diagnostic", "rate"),
    "accommodations": ("put", "published"),
    "datasets": ("put", "output"),
}
"""Tasks of each pipeline in order: the first sends its record, the last one waits for its publication."""


def skip_unless_ready(context: Context) -> None:
    """Skip a pipeline that cannot publish anything now, before anything is sent: `pre_execute` of `put` and `withdraw`.

    The reason is stored for `verify`, which fails with it, so that one alert is sent.

    Raises:
        AirflowSkipException: with the reason.
    """
    pipeline = context["task"].task_id.partition(".")[0]
    pipeline = pipeline if pipeline in DAGS else "accommodations"
    try:
        paused = _paused(context, pipeline)
        if paused:
            raise CanaryFailed(paused_sentence(paused))
        steps.require_ready(pipeline)
    except SluiceError as error:
        context["ti"].xcom_push("error", str(error))
        raise AirflowSkipException(str(error)) from None


def note_time(context: Context, _result: Any = None) -> None:
    """Record when a task ended: `post_execute` of tasks that send a record or wait for it."""
    context["ti"].xcom_push("at", datetime.now(UTC).isoformat())


def observe(context: Context) -> dict[str, Observed]:
    """The observed state of each pipeline after all of its tasks have ended."""
    ti, states = context["ti"], _states(context)

    def pulled(task_id: str, key: str) -> Any:
        return ti.xcom_pull(task_ids=task_id, key=key)

    def time_of(task_id: str) -> datetime | None:
        found = pulled(task_id, "at")
        return datetime.fromisoformat(found) if found else None

    found = {}
    for pipeline, names in TASKS.items():
        tasks = [f"{pipeline}.{name}" for name in names]
        failed = next((task_id for task_id in tasks if str(states.get(task_id)) != "success"), "")
        messages = pulled(tasks[-1], "messages") if pipeline == "modules" and not failed else None
        found[pipeline] = Observed(
            failed_task=failed,
            paused=_paused(context, pipeline) if failed else (),
            error=pulled(tasks[0], "error") or "" if failed == tasks[0] else "",
            sent_at=time_of(tasks[0]),
            arrived_at=time_of(tasks[-1]),
            messages=tuple(each["Body"] for each in messages or ()),
        )
    return found


def require_withdrawn(context: Context) -> None:
    """Fail the last task of a run if one of the cleanup tasks before it failed, which is not a leaf of the Dag.

    Raises:
        CanaryFailed: naming the task.
    """
    for task_id, state in _states(context).items():
        if task_id.startswith("cleanup.") and str(state) in ("failed", "upstream_failed"):
            raise CanaryFailed(f"task {task_id} of platform_canary failed, see its log; then run `sluice verify` again")


def _states(context: Context) -> dict[str, Any]:
    ti = context["ti"]
    states: dict[str, Any] = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    return states


def _paused(context: Context, pipeline: str) -> tuple[str, ...]:
    return tuple(dag_id for dag_id in DAGS[pipeline] if context["ti"].get_dag(dag_id).is_paused)
