"""Every property of infra/modules.yaml, read back from the services after a deploy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice.aws import sessions, sqs
from sluice.deployment.deploy import deploy
from sluice.settings import Settings

TOPICS = ("recv_message", "weekly_diagnostic", "success_rate")
QUEUES = ("recv_message", "weekly_diagnostic")


@pytest.fixture
def deployed(dockerhub_deployed: Settings) -> Settings:
    """Read only, so one deployment of all stacks serves every test."""
    return dockerhub_deployed


def arn(settings: Settings, service: str, name: str) -> str:
    return f"arn:aws:{service}:{settings.aws_region}:{settings.aws_account_id}:sluice-test-{name}"


def tls_only(action: str, resource: str) -> dict[str, Any]:
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": resource,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def attributes_of(name: str) -> dict[str, Any]:
    url = sessions.client("sqs").get_queue_url(QueueName=f"sluice-test-{name}")["QueueUrl"]
    answer: Any = sessions.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    found: dict[str, Any] = dict(answer)
    return found | {key: json.loads(found[key]) for key in found if key.endswith("Policy")}


def test_topics_are_encrypted_and_open_to_this_account_over_tls_alone(deployed: Settings) -> None:
    for name in TOPICS:
        topic_arn = arn(deployed, "sns", name)
        attributes = sessions.client("sns").get_topic_attributes(TopicArn=topic_arn)["Attributes"]
        assert attributes["KmsMasterKeyId"] == "alias/aws/sns"
        assert json.loads(attributes["Policy"])["Statement"] == [
            {
                "Sid": "AccountUses",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{deployed.aws_account_id}:root"},
                "Action": ["sns:Publish", "sns:Subscribe", "sns:GetTopicAttributes"],
                "Resource": topic_arn,
            },
            tls_only("sns:Publish", topic_arn),
        ]


def test_a_topic_hands_its_messages_to_the_queue_of_its_name_in_envelopes(deployed: Settings) -> None:
    for name in QUEUES:
        (subscription,) = sessions.client("sns").list_subscriptions_by_topic(TopicArn=arn(deployed, "sns", name))[
            "Subscriptions"
        ]
        assert (subscription["Protocol"], subscription["Endpoint"]) == ("sqs", arn(deployed, "sqs", name))
        found = sessions.client("sns").get_subscription_attributes(SubscriptionArn=subscription["SubscriptionArn"])
        assert found["Attributes"]["RawMessageDelivery"] == "false"


def test_of_the_success_rates_the_queue_of_the_canary_gets_its_own(deployed: Settings) -> None:
    topic = arn(deployed, "sns", "success_rate")
    (subscription,) = sessions.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("sqs", arn(deployed, "sqs", "canary"))
    assert attributes_of("canary")["Policy"]["Statement"][1] == tls_only("sqs:*", arn(deployed, "sqs", "canary"))
    for module in ("real", "sluice-canary"):
        sessions.client("sns").publish(TopicArn=topic, Message=json.dumps({"moduleid": module, "success_rate": 1}))
    (message,) = sqs.drain(sqs.queue_url(deployed.canary_queue), 10).messages
    assert json.loads(message.body)["moduleid"] == "sluice-canary"


def test_queues_are_encrypted_and_hand_poison_to_their_dead_letter_queues(deployed: Settings) -> None:
    for name in QUEUES:
        queue_arn = arn(deployed, "sqs", name)
        attributes = attributes_of(name)
        assert attributes["SqsManagedSseEnabled"] == "true"
        assert (attributes["VisibilityTimeout"], attributes["ReceiveMessageWaitTimeSeconds"]) == ("900", "20")
        assert attributes["MessageRetentionPeriod"] == str(4 * 24 * 3600)
        assert attributes["RedrivePolicy"] == {
            "deadLetterTargetArn": f"{queue_arn}-dead-letters",
            "maxReceiveCount": 10,
        }
        assert attributes["Policy"]["Statement"] == [
            {
                "Sid": "TopicSends",
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": arn(deployed, "sns", name)}},
            },
            tls_only("sqs:*", queue_arn),
        ]
        dead_letters = attributes_of(f"{name}-dead-letters")
        assert dead_letters["SqsManagedSseEnabled"] == "true"
        assert dead_letters["MessageRetentionPeriod"] == str(14 * 24 * 3600)
        assert dead_letters["RedriveAllowPolicy"] == {"redrivePermission": "byQueue", "sourceQueueArns": [queue_arn]}
        assert dead_letters["Policy"]["Statement"] == [tls_only("sqs:*", f"{queue_arn}-dead-letters")]
        assert "RedrivePolicy" not in dead_letters


def test_tables_are_encrypted_streamed_and_can_be_restored(deployed: Settings) -> None:
    dynamodb = sessions.client("dynamodb")
    assert (deployed.modules_message_table, deployed.modules_diagnostic_table) == ("message_recv", "weekly_diagnostic")
    for name in ("message_recv", "weekly_diagnostic"):
        table = dynamodb.describe_table(TableName=name)["Table"]
        assert table["KeySchema"] == [
            {"AttributeName": "moduleId", "KeyType": "HASH"},
            {"AttributeName": "timestamp", "KeyType": "RANGE"},
        ]
        assert {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]} == {
            "moduleId": "S",
            "timestamp": "N",
        }
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        assert table["SSEDescription"]["Status"] == "ENABLED"
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_a_second_deploy_changes_nothing(deployed: Settings) -> None:
    assert [stack.changes for stack in deploy(deployed, stacks=("modules",))] == [()]
