"""A task that ends tasks after it which have nothing to do: they are skipped without a process."""

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
        returned: for XCom; what is raised takes the place of what is returned.
        task_ids: tasks to skip.

    Raises:
        DownstreamTasksSkipped: how Airflow hears of it.
    """
    ti.xcom_push(BaseXCom.XCOM_RETURN_KEY, returned)
    raise DownstreamTasksSkipped(tasks=list(task_ids))
