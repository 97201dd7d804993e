"""Arguments that every Dag and task of this project starts from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

from sluice.errors import TerminalError
from sluice_airflow.alerts import after_failure, after_retry, after_skip, after_success, before_task

START = datetime(2013, 1, 1, tzinfo=UTC)
"""Before any data that the lake may hold, so that every past partition can be backfilled: Docker Hub began in 2014, and
there are images that nobody has pushed since. Airflow runs no task before its start date."""

TASK_DEFAULTS: dict[str, Any] = {
    "owner": "sluice",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(minutes=30),
    "retry_policy": ExceptionRetryPolicy(
        rules=[RetryRule(TerminalError, RetryAction.FAIL, reason="another try would fail in the same way")]
    ),
    "on_execute_callback": before_task,
    "on_success_callback": after_success,
    "on_skipped_callback": after_skip,
    "on_failure_callback": after_failure,
    "on_retry_callback": after_retry,
}
