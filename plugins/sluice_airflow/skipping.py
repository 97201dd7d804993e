"""Lets a task skip later tasks without work, without starting a process for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseXCom
from airflow.sdk.exceptions import DownstreamTasksSkipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk.types import RuntimeTaskInstanceProtocol


def return_and_skip(ti: RuntimeTaskInstanceProtocol, returned: dict[str, Any], task_ids: Sequence[str]) -> NoReturn:
    """Let a task succeed with what it returns, and skip tasks after it.

    Args:
        ti: the task that runs.
        returned: result for XCom, as the exception replaces the return value.
        task_ids: tasks to skip.

    Raises:
        DownstreamTasksSkipped: makes Airflow skip the tasks.
    """
    ti.xcom_push(BaseXCom.XCOM_RETURN_KEY, returned)
    raise DownstreamTasksSkipped(tasks=list(task_ids))
