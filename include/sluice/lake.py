"""Zones of the lake bucket and the keys in them (docs/pipelines.md)."""

from __future__ import annotations

import re
from datetime import date, datetime

from sluice.errors import TerminalError

STAGING_PREFIX = "staging/"
STAGING_DAYS = 7
"""How long the lifecycle rule of the lake bucket keeps staging (infra/lake.yaml)."""


class StagingExpired(TerminalError):
    """A task needs a staged object that does not exist any more, or that another version of the code saved.

    Args:
        bucket: the lake bucket.
        key: of the object, also kept as an attribute.
        instead: what to do, also kept as an attribute; "" for what the pipeline declares
            (`sluice.core.pipeline.Pipeline.expired_staging`), which the task's log and `sluice status` show.
        why: what is wrong with the object, also kept as an attribute.
    """

    def __init__(
        self,
        bucket: str,
        key: str,
        instead: str = "",
        why: str = f"does not exist: staging is kept for {STAGING_DAYS} days",
    ) -> None:
        self.key = key
        self.instead = instead
        self.why = why
        super().__init__(
            f"s3://{bucket}/{key} {why}, what its run published stays as it is, and this task cannot run again"
            + (f"; instead, {instead}" if instead else "")
        )


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
