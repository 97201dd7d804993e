"""Default arguments of every Dag and task of this project."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from sluice_airflow.alerts import after_failure, after_retry, after_skip, after_success, before_task, keep_returned
from sluice_airflow.assets import note_publication

if TYPE_CHECKING:
    from airflow.sdk import Context

START = datetime(2013, 1, 1, tzinfo=UTC)
"""Before any data of the lake, so that every past partition can be backfilled: Docker Hub began in 2014, and some
images were not pushed since. Airflow runs no task before its start date."""

NO_BACKFILL: Any = ("scheduled", "manual", "operator_triggered", "asset_triggered", "asset_materialization")
"""Types of runs of a Dag that processes current data, not a past interval: its trigger form offers no backfill."""


class RetryUnlessTerminal(RetryPolicy):
    """Retry a task, unless its error is terminal."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
        """Fail for a terminal error of any AWS client; otherwise apply the number of retries."""
        # Only a task that fails pays for boto3, not every one that reads its Dag file.
        from sluice.aws.sessions import as_terminal

        terminal = as_terminal(exception)
        return RetryDecision.fail("a retry would fail in the same way") if terminal else RetryDecision.default()


def after_work(context: Context, returned: Any = None) -> None:
    """Attach the publication to asset events, and keep the result for callbacks: `post_execute` of every task."""
    keep_returned(context, returned)
    note_publication(context, returned)


TASK_DEFAULTS: dict[str, Any] = {
    "owner": "sluice",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(minutes=30),
    "retry_policy": RetryUnlessTerminal(),
    "post_execute": after_work,
    "on_execute_callback": before_task,
    "on_success_callback": after_success,
    "on_skipped_callback": after_skip,
    "on_failure_callback": after_failure,
    "on_retry_callback": after_retry,
}
