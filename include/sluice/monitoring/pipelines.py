"""All pipelines for monitoring: the declared ones, and the platform."""

from __future__ import annotations

import re

from sluice import pipelines as packages
from sluice.core.pipeline import Dag, Pipeline
from sluice.lake import STAGING_PREFIX
from sluice.settings import Settings

QUEUE_AGE_MAX_SECONDS = 1800
"""Age of a message that raises an alert: a work queue is normally drained within seconds."""

STREAM_LAG_MAX_SECONDS = 1800
"""Age of a record in a stream that raises an alert; streams are read every few minutes."""

WATCH_DAG = "platform_watch"


def pipelines(settings: Settings) -> tuple[Pipeline, ...]:
    """Every pipeline of this environment, the platform last."""
    return (*packages.declared(settings), platform(settings))


def platform(settings: Settings) -> Pipeline:
    """The platform with its Dags."""
    return Pipeline(
        "platform",
        dags=(
            Dag(WATCH_DAG, "*/5 * * * *", deadline_seconds=600),
            Dag("platform_maintain", "0 3 * * *", deadline_seconds=3600),
            Dag("platform_redrive", None),
            Dag(
                "platform_canary",
                settings.canary_schedule or None,
                deadline_seconds=2 * settings.canary_timeout_seconds + 600 if settings.canary_schedule else 0,
            ),
        ),
        expired_staging=(("", "run `sluice airflow dags trigger platform_watch`"),),
    )


def find_dag(settings: Settings, dag_id: str) -> tuple[str, Dag]:
    """The pipeline of a Dag, and its declaration; an empty declaration if no pipeline declares it."""
    for pipeline in pipelines(settings):
        for dag in pipeline.dags:
            if dag.dag_id == dag_id:
                return pipeline.name, dag
    return dag_id.partition("_")[0], Dag(dag_id, None)


def instead_of_expired(settings: Settings, key: str) -> str:
    """The command that replaces a task whose staged object has expired.

    Args:
        settings: the settings of this process.
        key: of the missing object, below `staging/`.
    """
    name, _, rest = key.removeprefix(STAGING_PREFIX).partition("/")
    for pipeline in pipelines(settings):
        for pattern, instead in pipeline.expired_staging if pipeline.name == name else ():
            if re.match(pattern, rest):
                return instead
    return "trigger the Dag again"
