"""Callbacks of every task: record its end in the table of runs, send metrics, and send an alert after a failure.

The logic is in `sluice.monitoring.steps`; this module passes the context of Airflow. No callback fails a successful
task or hides the error of a failed one: if AWS does not answer, that is a warning in the task's log.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from sluice.core.tally import COUNTS
from sluice.errors import SluiceError
from sluice.lake import StagingExpired

if TYPE_CHECKING:
    from airflow.sdk import Context

    from sluice.monitoring.runs import Failure

log = logging.getLogger(__name__)

REPORT = re.compile(r"s3://[^/\s]+/(?:quality|quarantine)/[^\s,;)'\"]+")

QUERY_OF_URL = re.compile(r"(https?://[^\s\"?]*)\?[^\s\"]*")

KILLED = "its process was killed, ran out of memory, or lost its machine"


RETURNED = "sluice_returned"
"""Key of the result of a task in its context; missing if it ended otherwise, or has another `post_execute`."""


def keep_returned(context: Context, returned: Any) -> None:
    """Keep the result of a task for its callbacks, which would otherwise request it from the API server."""
    cast("dict[str, Any]", context)[RETURNED] = returned


def before_task(context: Context) -> None:
    """Record that a run has begun, with its first task: `on_execute_callback` of every task."""
    if context["task"].upstream_task_ids:
        return
    ti = context["ti"]

    def note() -> None:
        from sluice.monitoring import steps

        steps.run_started(ti.dag_id, ti.run_id, _started_at(context) or datetime.now(UTC))

    _without_harm(note, "the start of this run was not recorded")


def _started_at(context: Context) -> datetime | None:
    # The dag processor, which calls this for a killed task, has fewer attributes of both.
    return getattr(context.get("dag_run"), "start_date", None) or getattr(context["ti"], "start_date", None)


def after_success(context: Context) -> None:
    """Record the success of a task: `on_success_callback` of every task.

    Airflow has recorded the success before: if the process is killed in between, the record is missing until the next
    run. `post_execute` would be called before, but not for a task that skips the rest of its run.
    """
    if RETURNED in context:
        _note_success(context, cast("dict[str, Any]", context)[RETURNED])
        return
    ti = context["ti"]
    mapped: dict[str, Any] = {"map_indexes": ti.map_index} if ti.map_index is not None and ti.map_index >= 0 else {}
    _note_success(context, ti.xcom_pull(task_ids=ti.task_id, **mapped))


def after_skip(context: Context) -> None:
    """Record that a task without work was skipped, as a success: `on_skipped_callback` of every task."""
    _note_success(context, None)


def _note_success(context: Context, result: Any) -> None:
    ti, at = context["ti"], datetime.now(UTC)
    log.info(key_figures(context, result, at))

    def note() -> None:
        from sluice.monitoring import steps

        started_at = _started_at(context) or at
        steps.task_succeeded(
            ti.dag_id,
            ti.task_id,
            ti.run_id,
            partition=partition_of(context),
            started_at=started_at,
            at=at,
            result=result,
            ends_run=ends_run(context, result),
        )

    _without_harm(note, "the success of this task was not recorded")


def after_failure(context: Context) -> None:
    """Send an alert for a task that failed after its last retry: `on_failure_callback` of every task."""
    ti, error = context["ti"], _raised(context)
    said = _typed(error) if isinstance(error, BaseException) else str(error or KILLED)

    def tell() -> None:
        from sluice.monitoring import steps

        failure = _failure(context, ti.dag_id, ti.task_id, ti.run_id, said, ti.log_url)
        started_at = _started_at(context) or failure.at
        if report := getattr(error, "report", ""):
            steps.gate_failed(failure, report, started_at)
        steps.task_failed(failure, started_at)

    _without_harm(tell, "no alert was sent for this failed task")
    _log_last_lines(context)


def after_retry(context: Context) -> None:
    """End the log of a failed attempt that Airflow retries: `on_retry_callback` of every task; sends no alert."""
    _log_last_lines(context)


def _log_last_lines(context: Context) -> None:
    # Callbacks run in the group "Post Execute" of the log, which the web UI folds: end it, so that these lines show.
    log.info("::endgroup::")
    for line in last_lines(context):
        log.error("%s", line)


def last_lines(context: Context) -> list[str]:
    """The end of a failed task's log: what failed, the report or quarantine to look at, how to run it again."""
    ti, error = context["ti"], _raised(context)
    message = str(error or KILLED).strip()
    # Messages of this project are sentences; those of other libraries are often unclear without their type.
    what = (
        message
        if (isinstance(error, SluiceError) and message) or not isinstance(error, BaseException)
        else _typed(error)
    )
    reports = REPORT.findall(message)
    return [
        f"what: {what.strip().splitlines()[0].rstrip(':')}",
        f"look at: {reports[-1].rstrip('.:') if reports else ti.log_url}",
        f"run again: {run_again(context, ti.dag_id, ti.task_id)}",
    ]


def _raised(context: Context) -> BaseException | str | None:
    """The error of a task; a terminal error of any AWS client with what to do."""
    from sluice.aws.sessions import as_terminal

    error: Any = context.get("exception")
    return (as_terminal(error) or error) if isinstance(error, BaseException) else error


def _typed(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def after_failed_run(context: Context) -> None:
    """Send an alert for a run that failed without an alert of its tasks: `on_failure_callback` of every Dag.

    Airflow calls no callback for a task whose process is killed in its last attempt. The dag processor calls this one
    for every failed run; if a task has sent an alert, it sends none.
    """
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    said = f"the run failed ({context.get('reason')}), and no task reported an error. Perhaps {KILLED}"

    def tell() -> None:
        from airflow.sdk.configuration import conf

        from sluice.monitoring import steps

        web_url = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")
        page = f"{web_url}/dags/{dag_id}/runs/{quote(run_id)}"
        steps.run_failed(_failure(context, dag_id, "", run_id, said, page))

    _without_harm(tell, "no alert was sent for this failed run")


def _failure(context: Context, dag_id: str, task_id: str, run_id: str, said: str, log_url: str) -> Failure:
    from sluice.monitoring.runs import Failure

    at = datetime.now(UTC)
    return Failure(
        dag_id,
        task_id,
        partition_of(context),
        run_id,
        since=at,
        at=at,
        count=1,
        message=said,
        log_url=log_url,
        again=run_again(context, dag_id, task_id),
    )


def _without_harm(work: Any, lost: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        work()
    except (BotoCoreError, ClientError, SluiceError) as error:
        log.warning("%s: %s", lost, error)


def key_figures(context: Context, result: Any, at: datetime) -> str:
    """One line a task: `key_figures dag=events_ingest task=drain run=... seconds=1.204 records_in=400 rows=380`."""
    ti = context["ti"]
    figures: dict[str, Any] = {"dag": ti.dag_id, "task": ti.task_id, "run": ti.run_id}
    if ti.start_date:
        figures["seconds"] = f"{(at - ti.start_date).total_seconds():.3f}"
    if isinstance(result, Mapping):
        # Those of a tally first, in their order, as XCom does not keep it.
        names = sorted(result, key=lambda name: COUNTS.index(name) if name in COUNTS else len(COUNTS))
        figures |= {name: result[name] for name in names if isinstance(result[name], int | float)}
    elif isinstance(result, list):
        figures["items"] = len(result)
    return "key_figures " + " ".join(f"{name}={value}" for name, value in figures.items())


def partition_of(context: Context) -> str:
    """Partition of a run of a partitioned Dag: `hour` or `day` of its conf, else its logical date; no minutes.

    A time without offset is UTC, as for the pipelines.
    """
    run = context.get("dag_run")
    conf = getattr(run, "conf", None) or {}
    asked = conf.get("hour") or conf.get("day")
    logical_date = getattr(run, "logical_date", None)
    try:
        moment = datetime.fromisoformat(str(asked)) if asked else logical_date
    except ValueError:
        return str(asked)
    if moment is None:
        return ""
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")


def ends_run(context: Context, result: Any) -> bool:
    """Whether the run ends with this task: it is a last one, or the tasks after it are skipped.

    Airflow calls no callbacks for tasks that it skips: those after a task that skips the rest of its run, and those
    mapped over an empty list.
    """
    task: Any = context["task"]
    if not task.downstream_task_ids:
        return True
    if hasattr(task, "ignore_downstream_trigger_rules"):
        return not result
    return result == [] and all(after.is_mapped for after in task.downstream_list)


def run_again(context: Context, dag_id: str, task_id: str) -> str:
    """The command that runs a failed task and those after it again, or the whole run without a task.

    A run with a logical date is cleared. A run without one (started by an event) cannot be found by date: its messages
    are delivered again when their visibility timeout ends, to a new run. The error of a task that cannot run again
    names the replacing command.
    """
    error = context.get("exception")
    instead: str = getattr(error, "instead", "")
    if isinstance(error, StagingExpired) and not instead:
        from sluice.monitoring.pipelines import instead_of_expired
        from sluice.settings import load_settings

        instead = instead_of_expired(load_settings(), error.key)
    if instead:
        return instead
    run = context.get("dag_run")
    logical_date, conf = getattr(run, "logical_date", None), getattr(run, "conf", None)
    if logical_date is None:
        # The query of an address may hold a secret, and this is sent by e-mail.
        given = ["--conf", QUERY_OF_URL.sub(r"\1?...", json.dumps(conf))] if conf else []
        return shlex.join(["sluice", "airflow", "dags", "trigger", dag_id, *given])
    moment = logical_date.astimezone(UTC).isoformat()
    dates = ["--start-date", moment, "--end-date", moment]
    # Airflow treats it as a part of the task's name, and matches nothing with ^ and $ around it.
    task = ["--task-regex", task_id, "--downstream"] if task_id else []
    return shlex.join(["sluice", "airflow", "tasks", "clear", dag_id, *task, *dates, "--yes"])
