"""Every pipeline of this environment, as monitoring sees them: those that are declared, and the platform itself."""

from __future__ import annotations

import re

from sluice import pipelines as packages
from sluice.core.pipeline import Dag, Pipeline
from sluice.lake import STAGING_PREFIX
from sluice.settings import Settings

QUEUE_AGE_MAX_SECONDS = 1800
"""A message that waits longer than this is an alert: a work queue is drained seconds after a message came."""

STREAM_LAG_MAX_SECONDS = 1800
"""A record that waits longer than this in a stream is an alert; streams are drained every few minutes."""

WATCH_DAG = "platform_watch"


def pipelines(settings: Settings) -> tuple[Pipeline, ...]:
    """Every pipeline of this environment, the platform last."""
    return (*packages.declared(settings), platform(settings))


def platform(settings: Settings) -> Pipeline:
    """The Dags that look after the pipelines."""
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
    """The name of the pipeline of a Dag, and what is expected of it; nothing of one that no pipeline declares."""
    for pipeline in pipelines(settings):
        for dag in pipeline.dags:
            if dag.dag_id == dag_id:
                return pipeline.name, dag
    return dag_id.partition("_")[0], Dag(dag_id, None)


def instead_of_expired(settings: Settings, key: str) -> str:
    """What to run instead of a task whose object of staging has expired.

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
