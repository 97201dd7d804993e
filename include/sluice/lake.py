"""Zones of the lake bucket and the keys in them (docs/pipelines.md, Shared ground)."""

from __future__ import annotations

import re
from datetime import date, datetime

from sluice.errors import TerminalError

STAGING_PREFIX = "staging/"
STAGING_DAYS = 7
"""How long the lifecycle rule of the lake bucket keeps staging (infra/lake.yaml)."""

_LEFT_OVER = "; messages that no run processed are listed by `sluice dead-letters list {}`"
_INSTEAD = (
    ("accommodations/", "run `sluice airflow dags trigger accommodations_consolidate`" + _LEFT_OVER),
    (
        "datasets/",
        "run `sluice airflow dags trigger datasets_aggregate`, for a run with a source the same with"
        """ `--conf '{"source": "..."}'`""" + _LEFT_OVER,
    ),
    (
        "dockerhub/rebuild__",
        "run `sluice airflow backfill create --dag-id dockerhub_rebuild --reprocess-behavior completed"
        " --from-date YYYY-MM-01 --to-date YYYY-MM-01` with its month",
    ),
    ("dockerhub/[^/]+/answers", "run `sluice airflow dags trigger dockerhub_pull`, which asks Docker Hub again"),
    ("dockerhub/", """run `sluice airflow dags trigger dockerhub_aggregate --conf '{"rebuild": true}'`"""),
    ("events/[^/]+/ingest/", "run `sluice airflow dags trigger events_ingest`, which drains what is not published yet"),
    (
        "events/[^/]+/rebuild/",
        "run `sluice airflow backfill create --dag-id events_rebuild --reprocess-behavior completed"
        " --from-date YYYY-MM-DD --to-date YYYY-MM-DD` with its day (UTC)",
    ),
    (
        "events/",
        "run `sluice airflow backfill create --dag-id events_hourly --reprocess-behavior completed"
        " --from-date YYYY-MM-DDTHH:00 --to-date YYYY-MM-DDTHH:00` with its hour (UTC)",
    ),
    ("modules/", "run `sluice airflow dags trigger modules_diagnostics`" + _LEFT_OVER),
    ("platform/", "run `sluice airflow dags trigger platform_watch`"),
)
"""Pattern of a key below `staging/` -> what to run instead of the task that misses it; the first match counts."""


class StagingExpired(TerminalError):
    """A task needs an object of staging that is not there any more.

    Args:
        bucket: the lake bucket.
        key: of the missing object.
        instead: what to do, also kept as an attribute; by default what the pipeline of the key needs.
    """

    def __init__(self, bucket: str, key: str, instead: str = "") -> None:
        self.key = key
        self.instead = instead or _instead(key)
        super().__init__(
            f"s3://{bucket}/{key} does not exist: staging is kept for {STAGING_DAYS} days, what its run published"
            f" stays as it is, and this task cannot run again; instead, {self.instead}"
        )


def _instead(key: str) -> str:
    name = key.removeprefix(STAGING_PREFIX)
    pipeline = name.partition("/")[0]
    found = (text for pattern, text in _INSTEAD if re.match(pattern, name))
    return next(found, "trigger the Dag again").replace("{}", pipeline)


def run_slug(run_id: str) -> str:
    """A run id as one part of an S3 key: `manual__2026-11-21T02:13:00+00:00` -> `manual__2026-11-21T02-13-00_00-00`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", run_id.replace("+", "_"))


def staging_key(pipeline: str, run: str, name: str) -> str:
    """Key of one file of a run's work before its gate; kept `STAGING_DAYS`."""
    return f"{STAGING_PREFIX}{pipeline}/{run}/{name}"


def quarantine_key(pipeline: str, run: str, name: str) -> str:
    """Key of the records that one step of a run rejected; kept 90 days."""
    return f"quarantine/{pipeline}/{run}/{name}.jsonl"


def quality_key(gate: str, run: str, suffix: str) -> str:
    """Key of one gate's report on one run (`suffix` is `json` or `html`); kept 90 days."""
    return f"quality/{gate}/{run}.{suffix}"


def day_partition(day: date | datetime) -> str:
    """`year=YYYY/month=MM/day=DD`, zero-padded. A datetime must be in UTC already."""
    return f"year={day.year:04d}/month={day.month:02d}/day={day.day:02d}"
