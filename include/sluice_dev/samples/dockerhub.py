"""The sample of `dockerhub`: pulls of the stand-in, or of Docker Hub itself."""

from __future__ import annotations

from datetime import datetime

from sluice_dev.samples.sample import Sample, Trigger

PULLS = 3
"""Each pull moves the stand-in's history one step on."""

REPOSITORIES = (
    "localstack/localstack,library/redis,library/postgres,apache/airflow,grafana/grafana,"
    "faulty/no-fraction,faulty/html,faulty/wrong-type,missing/gone"
)
"""What the demo watches; the last three cannot be read and show the quarantine."""

TALLY_TASKS = {"dockerhub_pull": "publish_answers", "dockerhub_aggregate": "publish_aggregates"}
ENVIRONMENT = {"SLUICE_DOCKERHUB_REPOSITORIES": REPOSITORIES}


def sample(now: datetime, *, live: bool) -> Sample:  # noqa: ARG001
    """Pulls of the stand-in, or of Docker Hub itself, and their aggregation."""
    stages = [[Trigger("dockerhub_pull")] * (1 if live else PULLS), [Trigger("dockerhub_aggregate")]]
    return Sample(stages, "sluice dockerhub show")
