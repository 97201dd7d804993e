"""Every property of infra/platform.yaml, read back from the services after a deploy."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from sluice.aws import sessions
from sluice.deployment.deploy import TEMPLATES, deploy
from sluice.deployment.template import load_template, resolve
from sluice.settings import Settings


def arn(settings: Settings, service: str, name: str) -> str:
    return f"arn:aws:{service}:{settings.aws_region}:{settings.aws_account_id}:{name}"


@pytest.fixture
def platform(settings: Settings) -> Settings:
    """Settings of an account that has this stack."""
    deploy(settings, stacks=("platform",))
    return settings


def test_the_platform_is_what_its_template_says(platform: Settings) -> None:
    the_table_can_be_restored(platform)
    the_topic_is_encrypted_with_a_key_that_alarms_may_use(platform)
    the_alarms_are_those_of_the_template(platform)
    the_dashboard_is_that_of_the_environment(platform)
    nobody_is_subscribed(platform)
    assert not any(stack.changes for stack in deploy(platform, stacks=("platform",)))


def the_table_can_be_restored(settings: Settings) -> None:
    dynamodb = sessions.client("dynamodb")
    table = dynamodb.describe_table(TableName=settings.runs_table)["Table"]
    assert table["KeySchema"] == [
        {"AttributeName": "kind", "KeyType": "HASH"},
        {"AttributeName": "name", "KeyType": "RANGE"},
    ]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSEDescription"]["Status"] == "ENABLED"
    backups = dynamodb.describe_continuous_backups(TableName=settings.runs_table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def the_topic_is_encrypted_with_a_key_that_alarms_may_use(settings: Settings) -> None:
    topic_arn = arn(settings, "sns", "sluice-test-alerts")
    attributes = sessions.client("sns").get_topic_attributes(TopicArn=topic_arn)["Attributes"]
    assert attributes["KmsMasterKeyId"] == "alias/sluice-test-alerts"
    publishes, tls_only = json.loads(attributes["Policy"])["Statement"]
    assert (publishes["Principal"], publishes["Action"]) == ({"Service": "cloudwatch.amazonaws.com"}, "sns:Publish")
    assert publishes["Condition"] == {
        "ArnLike": {"aws:SourceArn": arn(settings, "cloudwatch", "alarm:sluice-test-*")},
        "StringEquals": {"aws:SourceAccount": settings.aws_account_id},
    }
    assert (tls_only["Effect"], tls_only["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    kms: Any = boto3.client("kms", **sessions.connection_arguments(settings))
    key = kms.describe_key(KeyId="alias/sluice-test-alerts")["KeyMetadata"]["KeyId"]
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    owner, alarms = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])["Statement"]
    assert owner["Principal"] == {"AWS": f"arn:aws:iam::{settings.aws_account_id}:root"}
    assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert alarms["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    assert alarms["Condition"] == {"StringEquals": {"aws:SourceAccount": settings.aws_account_id}}


def the_alarms_are_those_of_the_template(settings: Settings) -> None:
    resources = load_template((TEMPLATES / "platform.yaml").read_text())["Resources"]
    wanted = {}
    for resource in resources.values():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            properties = resolve(resource["Properties"], {"Environment": "test"})
            wanted[properties["AlarmName"]] = properties
    pages = sessions.client("cloudwatch").get_paginator("describe_alarms").paginate()
    found = {alarm["AlarmName"]: alarm for page in pages for alarm in page["MetricAlarms"]}
    assert set(found) == set(wanted)
    actions = ("AlarmActions", "OKActions")
    for name, properties in wanted.items():
        plain = {key: value for key, value in properties.items() if key not in actions}
        assert {key: found[name][key] for key in plain} == plain
        topics = [arn(settings, "sns", "sluice-test-alerts")] if "AlarmActions" in properties else []
        assert [found[name][key] for key in actions] == [topics, topics]


def the_dashboard_is_that_of_the_environment(settings: Settings) -> None:
    body = json.loads(sessions.client("cloudwatch").get_dashboard(DashboardName="sluice-test")["DashboardBody"])
    alarms, *metrics = body["widgets"]
    assert arn(settings, "cloudwatch", "alarm:sluice-test-watch-silent") in alarms["properties"]["alarms"]
    for widget in metrics:
        ((search,),) = widget["properties"]["metrics"]
        assert 'Environment="test"' in search["expression"]
        assert widget["properties"]["region"] == settings.aws_region


def nobody_is_subscribed(settings: Settings) -> None:
    topic_arn = arn(settings, "sns", "sluice-test-alerts")
    assert sessions.client("sns").list_subscriptions_by_topic(TopicArn=topic_arn)["Subscriptions"] == []


def test_an_address_of_the_settings_gets_the_alerts_by_email(settings: Settings) -> None:
    named = settings.model_copy(update={"alert_email": "on-call@example.com"})
    deploy(named, stacks=("platform",))
    topic_arn = arn(settings, "sns", "sluice-test-alerts")
    (subscription,) = sessions.client("sns").list_subscriptions_by_topic(TopicArn=topic_arn)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "on-call@example.com")
