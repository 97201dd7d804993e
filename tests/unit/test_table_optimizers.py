"""Table optimizers of Glue: each table gets three with our retention, and loses them when Airflow maintains it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from sluice.aws.sessions import client_of
from sluice.aws.tables import optimizers
from sluice.pipelines.events.storage import EVENTS
from sluice.settings import Settings

ACCOUNT = "123456789012"
SETTINGS = Settings(
    _env_file=None, target="aws", table_maintenance="glue", aws_region="eu-central-1", table_retention_hours=42
)
AIRFLOW = SETTINGS.model_copy(update={"table_maintenance": "airflow"})
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sluice-dev-table-optimizer"
WORKS = {"roleArn": ROLE, "enabled": True}
WANTED: dict[str, dict[str, Any]] = {
    "compaction": WORKS
    | {"compactionConfiguration": {"icebergConfiguration": {"strategy": "binpack", "minInputFiles": 10}}},
    "retention": WORKS
    | {
        "retentionConfiguration": {
            "icebergConfiguration": {
                "snapshotRetentionPeriodInDays": 2,
                "numberOfSnapshotsToRetain": 1,
                "cleanExpiredFiles": True,
            }
        }
    },
    "orphan_file_deletion": WORKS
    | {
        "orphanFileDeletionConfiguration": {
            "icebergConfiguration": {
                "orphanFileRetentionPeriodInDays": 2,
                "location": "s3://sluice-lake/curated/events",
            }
        }
    },
}


@pytest.fixture
def glue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """Glue with the responses of a test; refuses every other request."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    client_of.cache_clear()
    # Clients are kept by settings, and these differ in who maintains the tables only.
    client_of._made["glue", AIRFLOW, False, False] = client_of("glue", SETTINGS)
    with Stubber(client_of("glue", SETTINGS)) as stub:
        yield stub
        stub.assert_no_pending_responses()
    client_of.cache_clear()


def names(kind: str) -> dict[str, str]:
    return {"CatalogId": ACCOUNT, "DatabaseName": "sluice", "TableName": "events", "Type": kind}


def has(glue: Stubber, kind: str, configuration: dict[str, Any] | None) -> None:
    """The next look at an optimizer finds this configuration, or none."""
    if configuration is None:
        glue.add_client_error("get_table_optimizer", "EntityNotFoundException", expected_params=names(kind))
    else:
        answer = {"TableOptimizer": {"type": kind, "configuration": configuration}}
        glue.add_response("get_table_optimizer", answer, names(kind))


def as_glue_keeps(kind: str) -> dict[str, Any]:
    """A configuration with the defaults that Glue adds."""
    added = {"deleteFileThreshold": 1} if kind == "compaction" else {"runRateInHours": 24}
    (name,) = set(WANTED[kind]) - set(WORKS)
    return WORKS | {name: {"icebergConfiguration": WANTED[kind][name]["icebergConfiguration"] | added}}


def test_a_table_without_optimizers_gets_all_three(glue: Stubber) -> None:
    for kind, configuration in WANTED.items():
        has(glue, kind, None)
        glue.add_response("create_table_optimizer", {}, {**names(kind), "TableOptimizerConfiguration": configuration})
    assert optimizers.create_wanted(SETTINGS, [EVENTS], ACCOUNT) == [
        "Add compaction of events",
        "Add retention of events",
        "Add orphan_file_deletion of events",
    ]


def test_optimizers_that_are_as_wanted_are_left_alone(glue: Stubber) -> None:
    for kind in WANTED:
        has(glue, kind, as_glue_keeps(kind))
    assert optimizers.create_wanted(SETTINGS, [EVENTS], ACCOUNT) == []


def test_only_an_optimizer_that_differs_is_changed(glue: Stubber) -> None:
    has(glue, "compaction", as_glue_keeps("compaction") | {"enabled": False})
    glue.add_response(
        "update_table_optimizer", {}, {**names("compaction"), "TableOptimizerConfiguration": WANTED["compaction"]}
    )
    other = as_glue_keeps("retention")
    other["retentionConfiguration"]["icebergConfiguration"]["snapshotRetentionPeriodInDays"] = 1
    has(glue, "retention", other)
    glue.add_response(
        "update_table_optimizer", {}, {**names("retention"), "TableOptimizerConfiguration": WANTED["retention"]}
    )
    has(glue, "orphan_file_deletion", as_glue_keeps("orphan_file_deletion"))
    assert optimizers.create_wanted(SETTINGS, [EVENTS], ACCOUNT) == [
        "Modify compaction of events",
        "Modify retention of events",
    ]


@pytest.mark.parametrize(("hours", "snapshots", "orphans"), [(1, 1, 1), (18, 1, 1), (19, 1, 2), (24, 1, 2), (25, 2, 2)])
def test_hours_become_whole_days_and_never_fewer(hours: int, snapshots: int, orphans: int) -> None:
    found = optimizers.configurations(SETTINGS.model_copy(update={"table_retention_hours": hours}), EVENTS, ROLE)
    retention = found["retention"]["retentionConfiguration"]["icebergConfiguration"]
    assert retention["snapshotRetentionPeriodInDays"] == snapshots
    deletion = found["orphan_file_deletion"]["orphanFileDeletionConfiguration"]["icebergConfiguration"]
    assert deletion["orphanFileRetentionPeriodInDays"] == orphans


def test_a_role_that_glue_cannot_use_yet_is_an_error_with_the_way_out(glue: Stubber) -> None:
    has(glue, "compaction", None)
    glue.add_client_error("create_table_optimizer", "InvalidInputException", "Glue cannot assume the role")
    with pytest.raises(optimizers.OptimizerError, match=r"compaction of events: .*cannot assume.* Deploy again"):
        optimizers.create_wanted(SETTINGS, [EVENTS], ACCOUNT)


def test_ours_are_removed_and_those_of_others_stay(glue: Stubber) -> None:
    has(glue, "compaction", as_glue_keeps("compaction"))
    glue.add_response("delete_table_optimizer", {}, names("compaction"))
    has(glue, "retention", as_glue_keeps("retention") | {"roleArn": f"{ROLE}-of-another"})
    has(glue, "orphan_file_deletion", None)
    with Stubber(client_of("cloudformation", AIRFLOW)) as cloudformation:
        detail = {
            "LogicalResourceId": "TableOptimizerRole",
            "ResourceType": "AWS::IAM::Role",
            "LastUpdatedTimestamp": 0,
            "ResourceStatus": "CREATE_COMPLETE",
        }
        cloudformation.add_response(
            "describe_stack_resource",
            {"StackResourceDetail": detail},
            {"StackName": "sluice-dev-platform", "LogicalResourceId": "TableOptimizerRole"},
        )
        assert optimizers.remove_unwanted(AIRFLOW, [EVENTS], ACCOUNT) == ["Remove compaction of events"]


def test_an_account_that_never_had_optimizers_is_not_asked_for_them(glue: Stubber) -> None:
    with Stubber(client_of("cloudformation", AIRFLOW)) as cloudformation:
        cloudformation.add_client_error("describe_stack_resource", "ValidationError", "does not exist")
        assert optimizers.remove_unwanted(AIRFLOW, [EVENTS], ACCOUNT) == []


def test_each_setting_leaves_what_is_the_others(glue: Stubber) -> None:
    assert optimizers.create_wanted(AIRFLOW, [EVENTS], ACCOUNT) == []
    assert optimizers.remove_unwanted(SETTINGS, [EVENTS], ACCOUNT) == []
    embedded = AIRFLOW.model_copy(update={"target": "embedded"})
    assert optimizers.remove_unwanted(embedded, [EVENTS], ACCOUNT) == []
