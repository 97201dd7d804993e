"""infra/accommodations.yaml and the notification of the landing bucket, read back from the services after a deploy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accommodations_world import World, a_record, json_lines
from embedded_aws import use_settings
from sluice.aws import s3, sqs
from sluice.aws.sessions import client
from sluice.pipelines.accommodations import steps, storage
from sluice.settings import Settings


def attributes(name: str) -> dict[str, str]:
    answer: Any = client("sqs").get_queue_attributes(QueueUrl=sqs.queue_url(name), AttributeNames=["All"])["Attributes"]
    found: dict[str, str] = dict(answer)
    return found


def test_an_uploaded_file_of_any_name_notifies_the_queue_and_nothing_else(deployed: Settings) -> None:
    bucket = deployed.landing_bucket
    storage.write_list(deployed.accommodations_priority_table, "PriorityList", ["A"], None)
    day = "accommodations/year=2026/month=11/day=21"
    for key in (f"{day}/a b/x+y%20é.jsonl", f"{day}/array", "elsewhere/x.jsonl"):
        s3.write_object(bucket, key, json_lines([a_record(key, "A")]))
    assert steps.collect("run")["files"] == 2
    assert steps.consolidate("run")["published"] == 2


def test_the_queue_is_that_of_the_contract(world: World) -> None:
    queue = attributes(world.settings.accommodations_queue)
    dead = attributes(f"{world.settings.accommodations_queue}-dead-letters")
    assert (queue["ReceiveMessageWaitTimeSeconds"], queue["VisibilityTimeout"]) == ("20", "450")
    assert json.loads(queue["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 10}
    assert int(dead["MessageRetentionPeriod"]) > int(queue["MessageRetentionPeriod"])
    assert json.loads(dead["RedriveAllowPolicy"])["sourceQueueArns"] == [queue["QueueArn"]]
    assert {queue["SqsManagedSseEnabled"], dead["SqsManagedSseEnabled"]} == {"true"}
    allow, deny = json.loads(queue["Policy"])["Statement"]
    assert allow["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allow["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{world.settings.landing_bucket}"},
        "StringEquals": {"aws:SourceAccount": world.settings.aws_account_id},
    }
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


@pytest.mark.parametrize(
    ("billing", "mode", "units"), [("provisioned", "PROVISIONED", (5, 2)), ("on_demand", "PAY_PER_REQUEST", None)]
)
def test_the_priority_table_is_paid_as_the_setting_says(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, billing: str, mode: str, units: tuple[int, int] | None
) -> None:
    values = settings.model_dump(include=settings.model_fields_set)
    World.deploy(use_settings(monkeypatch, **values, accommodations_priority_billing=billing))
    table = client("dynamodb").describe_table(TableName=settings.accommodations_priority_table)["Table"]
    assert table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED") == mode
    capacity = table["ProvisionedThroughput"]
    assert units in (None, (capacity["ReadCapacityUnits"], capacity["WriteCapacityUnits"]))
