from __future__ import annotations

import re
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import lake
from sluice.deployment.deploy import TEMPLATES
from sluice.deployment.template import load_template

RUN_ID = r"[A-Za-z0-9_.~:+-]+"
"""What Airflow allows as a run id (core.allowed_run_id_pattern)."""


@pytest.mark.parametrize(
    ("run_id", "slug"),
    [
        ("manual__2026-11-21T02:13:00+00:00", "manual__2026-11-21T02-13-00_00-00"),
        ("scheduled__2026-11-21T02:13:00.123456+00:00", "scheduled__2026-11-21T02-13-00.123456_00-00"),
        ("my run/of ü", "my-run-of--"),
    ],
)
def test_a_run_id_is_one_readable_part_of_a_key(run_id: str, slug: str) -> None:
    assert lake.run_slug(run_id) == slug


@given(st.from_regex(RUN_ID, fullmatch=True) | st.text(min_size=1))
def test_a_run_id_never_needs_encoding_or_opens_a_folder(run_id: str) -> None:
    slug = lake.run_slug(run_id)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", slug)
    assert lake.run_slug(slug) == slug


def test_keys_are_those_of_the_zones() -> None:
    assert lake.staging_key("dockerhub", "run", "answers.jsonl") == "staging/dockerhub/run/answers.jsonl"
    assert lake.quarantine_key("dockerhub", "run", "fetch") == "quarantine/dockerhub/run/fetch.jsonl"
    assert lake.quality_key("dockerhub/pull", "run", "html") == "quality/dockerhub/pull/run.html"


def test_parts_of_a_partition_are_zero_padded() -> None:
    assert lake.day_partition(date(2024, 4, 7)) == "year=2024/month=04/day=07"
    assert lake.day_partition(datetime(987, 12, 31, 23, tzinfo=UTC)) == "year=0987/month=12/day=31"


@given(st.dates(), st.dates())
def test_partitions_sort_as_their_days(one: date, other: date) -> None:
    assert (lake.day_partition(one) < lake.day_partition(other)) == (one < other)


def test_staging_is_kept_as_long_as_the_lifecycle_rule_of_the_lake_says() -> None:
    template = load_template((TEMPLATES / "lake.yaml").read_text())
    rules = template["Resources"]["Lake"]["Properties"]["LifecycleConfiguration"]["Rules"]
    (rule,) = [each for each in rules if each.get("Prefix") == lake.STAGING_PREFIX]
    assert rule["ExpirationInDays"] == lake.STAGING_DAYS
