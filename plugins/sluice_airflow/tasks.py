"""`task` of Airflow's SDK, typed as Airflow calls the decorated function.

The types of the SDK require all arguments of the function in a Dag, in their types. But Airflow passes those of the
context (`run_id`, `params`) by itself, and for an XComArg the result of the other task. Function bodies are fully
checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast, overload

from airflow.sdk import task as _task

if TYPE_CHECKING:
    from airflow.sdk import XComArg


class Task(Protocol):
    """A decorated function; called in a Dag, it becomes a task of it."""

    def __call__(self, *arguments: Any) -> XComArg:
        """The task, typed as its result."""

    def expand(self, **arguments: Any) -> XComArg:
        """A task for each item of what another one returns."""


class TaskDecorator(Protocol):
    """`@task` and similar decorators, bare or with arguments of the operator."""

    @overload
    def __call__(self, function: Callable[..., object], /) -> Task: ...

    @overload
    def __call__(self, **of_operator: Any) -> Callable[[Callable[..., object]], Task]: ...


class Decorators(TaskDecorator, Protocol):
    """What `task` offers of the SDK's decorators."""

    @property
    def short_circuit(self) -> TaskDecorator:
        """Skip the rest of the run if the function returns nothing."""


task = cast("Decorators", _task)
