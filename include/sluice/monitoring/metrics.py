"""CloudWatch metrics of runs and of the watch, in one namespace.

Dimensions: `Environment` and `Pipeline`, and if a pipeline has several also `Dag`, `Queue` or `Table`. A metric that
cannot be sent is logged and does not fail the run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sluice.aws.sessions import hasty_client
from sluice.settings import Settings

log = logging.getLogger(__name__)

NAMESPACE = "Sluice"
BATCH_POINTS = 1000
"""Maximum number of points of one PutMetricData."""

RUN_METRICS = {
    "records_in": "RecordsIn",
    "published": "Published",
    "duplicates": "Duplicates",
    "quarantined": "Quarantined",
}
"""Counts of a tally and their metrics."""

UNITS = {
    **dict.fromkeys(RUN_METRICS.values(), "Count"),
    **dict.fromkeys(("FailedTasks", "StaleDags", "QueueDepth", "DeadLetters", "WatchRuns"), "Count"),
    **dict.fromkeys(("QueueAge", "StreamLag", "Freshness", "CanaryLatency"), "Seconds"),
}
"""Every metric of the namespace."""


def point(settings: Settings, name: str, value: float, at: datetime, **dimensions: str) -> dict[str, Any]:
    """One point of a metric; `dimensions` in addition to the environment, such as `Pipeline="events",
    Table="events"`."""
    return {
        "MetricName": name,
        "Dimensions": [
            {"Name": key, "Value": each} for key, each in {"Environment": settings.environment, **dimensions}.items()
        ],
        "Timestamp": at,
        "Value": float(value),
        "Unit": UNITS[name],
    }


def run_points(
    settings: Settings, pipeline: str, dag_id: str, tally: Mapping[str, int], at: datetime
) -> list[dict[str, Any]]:
    """The counts of one run."""
    return [
        point(settings, metric, tally[name], at, Pipeline=pipeline, Dag=dag_id) for name, metric in RUN_METRICS.items()
    ]


def send(points: Iterable[dict[str, Any]]) -> bool:
    """Send points; returns False and logs a warning if CloudWatch refuses them."""
    waiting = list(points)
    try:
        for start in range(0, len(waiting), BATCH_POINTS):
            hasty_client("cloudwatch").put_metric_data(
                Namespace=NAMESPACE, MetricData=waiting[start : start + BATCH_POINTS]
            )
    except (BotoCoreError, ClientError) as error:
        names = ", ".join(sorted({each["MetricName"] for each in waiting}))
        log.warning("metrics %s were not sent: %s", names, error)
        return False
    return True
