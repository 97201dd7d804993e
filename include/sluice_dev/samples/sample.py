"""The sample of a pipeline for `sluice demo`: its data, the runs that process it, and what must be published.

The module `sluice_dev.samples.<pipeline>` has a function `sample(now, *, live) -> Sample`, a dictionary `TALLY_TASKS`
(the Dags of the demo, and the task of each that returns the tally of a run), and may have variables for the services
(`ENVIRONMENT`) and commands of `sluice produce` (`COMMANDS`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, NamedTuple

import click

from sluice import pipelines


class Trigger(NamedTuple):
    """A run to make: its Dag, its `conf`, and its logical date (None: a run without one)."""

    dag_id: str
    conf: dict[str, Any] | None = None
    logical_date: datetime | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """The data of one pipeline is where the pipeline takes it from.

    Attributes:
        stages: runs to trigger; each stage waits until the Dags of this pipeline are idle. The last one is repeated
            while that makes the messages in the work queues of its Dags fewer.
        look: a command that shows what was published.
        check: compares what was published with what was produced: (what it says, whether it is so); None where
            nothing is known beforehand.
    """

    stages: Sequence[Sequence[Trigger]]
    look: str
    check: Callable[[], tuple[str, bool]] | None = None

    @property
    def dag_ids(self) -> frozenset[str]:
        """The Dags of all stages."""
        return frozenset(trigger.dag_id for stage in self.stages for trigger in stage)


def modules() -> list[ModuleType]:
    """The module of each pipeline that has a sample."""
    found = (importlib.import_module(f"{__package__}.{name}") for name in pipelines.names())
    return [module for module in found if hasattr(module, "sample")]


def of_every_pipeline(*, live: bool) -> list[Sample]:
    """Put the data of every pipeline where it takes it from; `live` asks the real Docker Hub only once."""
    now = datetime.now(UTC)
    return [module.sample(now, live=live) for module in modules()]


def environment() -> dict[str, str]:
    """Variables of the services that the samples need."""
    return {name: value for module in modules() for name, value in getattr(module, "ENVIRONMENT", {}).items()}


def tally_tasks() -> dict[str, str]:
    """The Dags of the demo in the order of its table, and the task of each that returns the tally of a run."""
    return {dag_id: task for module in modules() for dag_id, task in module.TALLY_TASKS.items()}


def commands() -> list[click.Command]:
    """The commands of `sluice produce`."""
    return [command for module in modules() for command in getattr(module, "COMMANDS", ())]
