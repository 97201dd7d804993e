from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sluice.deployment.deploy import iceberg_tables
from sluice.deployment.template import load_template
from sluice.lake_views.places import ZONES, OutsideTheLake, expires_at, pipeline_of, zone_of
from sluice.settings import PROJECT_ROOT, load_settings

STORED = datetime(2026, 11, 1, tzinfo=UTC)


def test_the_retention_of_zones_is_that_of_the_lifecycle_rules() -> None:
    template = load_template((PROJECT_ROOT / "infra" / "lake.yaml").read_text())
    rules = {
        rule["Prefix"]: rule["ExpirationInDays"]
        for resource in template["Resources"].values()
        for rule in resource.get("Properties", {}).get("LifecycleConfiguration", {}).get("Rules", [])
        if "Prefix" in rule
    }
    assert {zone: days for zone, days in ZONES.items() if days} == rules


@pytest.mark.parametrize(
    "key",
    ["", "../raw/x", "raw/../../etc", "raw//x", "raw/./x", "/raw/x", "rawx/y", "landing/x", "quality/..", "raw/a/.."],
)
def test_no_key_leads_out_of_the_zones(key: str) -> None:
    with pytest.raises(OutsideTheLake):
        zone_of(key)


@pytest.mark.parametrize(
    ("key", "pipeline"),
    [
        ("raw/", ""),
        ("raw/events/year=2026/", "events"),
        ("curated/accommodations_current/data/x.parquet", "accommodations"),
        ("curated/events/", "events"),
        ("quality/datasets/aggregate/run.json", "datasets"),
    ],
)
def test_every_key_belongs_to_the_pipeline_whose_readers_may_see_it(key: str, pipeline: str) -> None:
    assert pipeline_of(load_settings(), key) == pipeline


def test_a_key_of_no_pipeline_is_never_shown() -> None:
    with pytest.raises(OutsideTheLake):
        pipeline_of(load_settings(), "curated/of-another-team/x")


def test_every_table_has_a_pipeline() -> None:
    assert all(pipeline_of(load_settings(), table.prefix) for table in iceberg_tables(load_settings()))


def test_an_object_expires_with_its_zone() -> None:
    assert expires_at("staging/events/x", STORED) == datetime(2026, 11, 8, tzinfo=UTC)
    assert expires_at("curated/events/x", STORED) is None
