"""Zones of the lake bucket and the keys in them (contract, Shared ground)."""

from __future__ import annotations

import re
from datetime import date, datetime


def run_slug(run_id: str) -> str:
    """A run id as one part of an S3 key: `manual__2026-11-21T02:13:00+00:00` -> `manual__2026-11-21T02-13-00_00-00`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", run_id.replace("+", "_"))


def staging_key(pipeline: str, run: str, name: str) -> str:
    """Key of one file of a run's work before its gate; kept 7 days."""
    return f"staging/{pipeline}/{run}/{name}"


def quarantine_key(pipeline: str, run: str, name: str) -> str:
    """Key of the records that one step of a run rejected; kept 90 days."""
    return f"quarantine/{pipeline}/{run}/{name}.jsonl"


def quality_key(gate: str, run: str, suffix: str) -> str:
    """Key of one gate's report on one run (`suffix` is `json` or `html`); kept 90 days."""
    return f"quality/{gate}/{run}.{suffix}"


def day_partition(day: date | datetime) -> str:
    """`year=YYYY/month=MM/day=DD`, zero-padded. A datetime must be in UTC already."""
    return f"year={day.year:04d}/month={day.month:02d}/day={day.day:02d}"
