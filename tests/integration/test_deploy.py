"""After a deploy the services say what the templates say, property by property; deploying again changes nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from embedded_aws import FaultInjection, free_port, use_settings
from sluice import cli
from sluice.aws import glue, sessions, sqs
from sluice.aws.account import AwsUnavailable, account_id
from sluice.aws.tables.definitions import create_missing, load
from sluice.deployment import DeployError, deploy, repair
from sluice.deployment.template import load_template
from sluice.pipelines.events.storage import EVENTS, RAW_TABLE
from sluice.settings import Settings

WRITES = ("Create", "Delete", "Execute", "Put", "PUT", "Set", "Update", "Subscribe", "Tag")
BUCKET = """
Parameters:
  LakeBucket: {Type: String}
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Properties: {BucketName: !Ref LakeBucket}
"""


def arn(settings: Settings, service: str, name: str) -> str:
    return f"arn:aws:{service}:{settings.aws_region}:{settings.aws_account_id}:{name}"


def tls_only(action: str, *resources: str) -> dict[str, Any]:
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": list(resources) if len(resources) > 1 else resources[0],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def queue(name: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    sqs = sessions.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    answer: Any = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    attributes: dict[str, Any] = dict(answer)
    documents = {key: json.loads(attributes[key]) for key in attributes if key.endswith("Policy")}
    return url, attributes | documents, sqs.list_queue_tags(QueueUrl=url)["Tags"]


def own_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not key.startswith("aws:")}


OWN_TAGS = {"project": "sluice", "environment": "test"}


def test_a_bucket_is_what_its_template_says(dockerhub_deployed: Settings) -> None:
    s3 = sessions.client("s3")
    for bucket in (dockerhub_deployed.lake_bucket, dockerhub_deployed.landing_bucket):
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        (encryption,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert encryption["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
        ownership = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
        assert ownership == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        }
        bucket_arn = f"arn:aws:s3:::{bucket}"
        policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
        assert policy["Statement"] == [tls_only("s3:*", bucket_arn, f"{bucket_arn}/*")]
        tags = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
        assert own_tags({tag["Key"]: tag["Value"] for tag in tags}) == OWN_TAGS


def test_each_zone_of_the_lake_is_kept_as_long_as_the_contract_says(dockerhub_deployed: Settings) -> None:
    s3 = sessions.client("s3")
    versions = {
        "ID": "versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    zones = {"raw": 365, "staging": 7, "quarantine": 90, "quality": 90}
    expected = [
        {"ID": zone, "Status": "Enabled", "Filter": {"Prefix": f"{zone}/"}, "Expiration": {"Days": days}}
        for zone, days in zones.items()
    ]
    assert s3.get_bucket_lifecycle_configuration(Bucket=dockerhub_deployed.lake_bucket)["Rules"] == [
        *expected,
        versions,
    ]
    assert s3.get_bucket_lifecycle_configuration(Bucket=dockerhub_deployed.landing_bucket)["Rules"] == [versions]


def test_the_lake_announces_raw_keys_of_dockerhub_and_no_others(dockerhub_deployed: Settings) -> None:
    s3 = sessions.client("s3")
    notifications = s3.get_bucket_notification_configuration(Bucket=dockerhub_deployed.lake_bucket)
    (topic,) = notifications["TopicConfigurations"]
    assert topic["TopicArn"] == arn(dockerhub_deployed, "sns", "sluice-test-dockerhub-raw")
    assert topic["Events"] == ["s3:ObjectCreated:*"]
    rules = {rule["Name"].lower(): rule["Value"] for rule in topic["Filter"]["Key"]["FilterRules"]}
    assert rules == {"prefix": "raw/dockerhub/", "suffix": ".json"}
    assert "QueueConfigurations" not in notifications
    assert "TopicConfigurations" not in s3.get_bucket_notification_configuration(
        Bucket=dockerhub_deployed.landing_bucket
    )


def test_the_topic_takes_messages_of_the_lake_bucket_alone(dockerhub_deployed: Settings) -> None:
    sns = sessions.client("sns")
    topic_arn = arn(dockerhub_deployed, "sns", "sluice-test-dockerhub-raw")
    attributes = sns.get_topic_attributes(TopicArn=topic_arn)["Attributes"]
    assert json.loads(attributes["Policy"])["Statement"] == [
        {
            "Sid": "LakeBucketPublishes",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": topic_arn,
            "Condition": {
                "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{dockerhub_deployed.lake_bucket}"},
                "StringEquals": {"aws:SourceAccount": dockerhub_deployed.aws_account_id},
            },
        },
        tls_only("sns:Publish", topic_arn),
    ]
    assert "KmsMasterKeyId" not in attributes
    tags = sns.list_tags_for_resource(ResourceArn=topic_arn)["Tags"]
    assert own_tags({tag["Key"]: tag["Value"] for tag in tags}) == OWN_TAGS
    (subscription,) = sns.list_subscriptions_by_topic(TopicArn=topic_arn)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == (
        "sqs",
        arn(dockerhub_deployed, "sqs", "sluice-test-dockerhub-raw"),
    )
    found = sns.get_subscription_attributes(SubscriptionArn=subscription["SubscriptionArn"])["Attributes"]
    assert found["RawMessageDelivery"] == "false"


def test_the_queue_hands_poison_to_its_dead_letter_queue(dockerhub_deployed: Settings) -> None:
    queue_arn = arn(dockerhub_deployed, "sqs", "sluice-test-dockerhub-raw")
    dead_letters_arn = f"{queue_arn}-dead-letters"
    _, attributes, tags = queue("sluice-test-dockerhub-raw")
    assert {name: attributes[name] for name in ("VisibilityTimeout", "MessageRetentionPeriod")} == {
        "VisibilityTimeout": "300",
        "MessageRetentionPeriod": str(4 * 24 * 3600),
    }
    assert attributes["ReceiveMessageWaitTimeSeconds"] == "20"
    assert attributes["SqsManagedSseEnabled"] == "true"
    assert attributes["RedrivePolicy"] == {"deadLetterTargetArn": dead_letters_arn, "maxReceiveCount": 10}
    assert attributes["Policy"]["Statement"] == [
        {
            "Sid": "RawTopicSends",
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": arn(dockerhub_deployed, "sns", "sluice-test-dockerhub-raw")}},
        },
        tls_only("sqs:*", queue_arn),
    ]
    assert own_tags(tags) == OWN_TAGS

    _, attributes, tags = queue("sluice-test-dockerhub-raw-dead-letters")
    assert attributes["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    assert attributes["SqsManagedSseEnabled"] == "true"
    assert attributes["RedriveAllowPolicy"] == {"redrivePermission": "byQueue", "sourceQueueArns": [queue_arn]}
    assert attributes["Policy"]["Statement"] == [tls_only("sqs:*", dead_letters_arn)]
    assert "RedrivePolicy" not in attributes
    assert own_tags(tags) == OWN_TAGS


def test_the_table_forgets_old_items_and_can_be_restored(dockerhub_deployed: Settings) -> None:
    dynamodb = sessions.client("dynamodb")
    table = dynamodb.describe_table(TableName=dockerhub_deployed.dockerhub_table)["Table"]
    assert table["KeySchema"] == [
        {"AttributeName": "PK", "KeyType": "HASH"},
        {"AttributeName": "SK", "KeyType": "RANGE"},
    ]
    assert {(item["AttributeName"], item["AttributeType"]) for item in table["AttributeDefinitions"]} == {
        ("PK", "S"),
        ("SK", "S"),
    }
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSEDescription"]["Status"] == "ENABLED"
    time_to_live = dynamodb.describe_time_to_live(TableName=dockerhub_deployed.dockerhub_table)["TimeToLiveDescription"]
    assert time_to_live == {"TimeToLiveStatus": "ENABLED", "AttributeName": "TTL"}
    backups = dynamodb.describe_continuous_backups(TableName=dockerhub_deployed.dockerhub_table)[
        "ContinuousBackupsDescription"
    ]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    tags = dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"]
    assert own_tags({tag["Key"]: tag["Value"] for tag in tags}) == OWN_TAGS


def test_no_template_has_a_resource_that_these_tests_do_not_read_back() -> None:
    types = {
        resource["Type"]
        for name in deploy.STACKS
        for resource in load_template((deploy.TEMPLATES / f"{name}.yaml").read_text())["Resources"].values()
        # Firehose and its Lambda are for AWS only: the emulator has nothing to read back.
        if resource.get("Condition") != "HasFirehose"
    }
    assert types == {
        "AWS::S3::Bucket",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::SNS::Subscription",
        "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy",
        "AWS::DynamoDB::Table",
        # Read back in tests/integration/events/test_infra.py.
        "AWS::Kinesis::Stream",
        "AWS::Glue::Database",
        "AWS::Glue::Table",
        "AWS::Glue::Crawler",
        "AWS::Glue::Job",
        "AWS::IAM::Role",
        # Read back in tests/integration/platform/test_infra.py.
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::KMS::Key",
        "AWS::KMS::Alias",
    }


def test_an_object_in_the_lake_arrives_in_the_queue_through_the_topic(dockerhub_deployed: Settings) -> None:
    s3, sqs = sessions.client("s3"), sessions.client("sqs")
    key = "raw/dockerhub/namespace=a/name=b c/year=2026/month=11/day=21/2026_11_21_000000.json"
    for ignored in ("raw/dockerhub/a.txt", "raw/events/a.json", "curated/dockerhub/a.json"):
        s3.put_object(Bucket=dockerhub_deployed.lake_bucket, Key=ignored, Body=b"{}")
    s3.put_object(Bucket=dockerhub_deployed.lake_bucket, Key=key, Body=b"{}")
    url, _, _ = queue("sluice-test-dockerhub-raw")
    events: list[dict[str, Any]] = []
    while not any("Records" in event for event in events):
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20).get("Messages", [])
        assert messages, f"the key did not arrive within 20 s, only {events}"
        for message in messages:
            envelope = json.loads(message["Body"])
            assert envelope["TopicArn"] == arn(dockerhub_deployed, "sns", "sluice-test-dockerhub-raw")
            events.append(json.loads(envelope["Message"]))
    assert [event for event in events if "Records" not in event] == []
    (record,) = [record for event in events for record in event.get("Records", [])]
    assert record["s3"]["bucket"]["name"] == dockerhub_deployed.lake_bucket
    assert record["s3"]["object"]["key"] == key.replace("=", "%3D").replace(" ", "+")


def test_a_deploy_removes_test_events_of_s3_which_would_start_a_dag(deployed: Settings) -> None:
    queues = [deployed.dockerhub_queue, deployed.accommodations_queue, deployed.datasets_queue]
    assert [sqs.queue_counts(name) for name in queues] == [(0, 0)] * 3

    sessions.client("s3").put_object(Bucket=deployed.landing_bucket, Key="datasets/a.csv", Body=b"")
    url = sqs.queue_url(deployed.datasets_queue)
    sessions.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps({"Event": "s3:TestEvent"}))
    assert sqs.queue_counts(deployed.datasets_queue) == (2, 0)
    deploy.discard_test_events(deployed)
    assert sqs.queue_counts(deployed.datasets_queue) == (1, 0)
    (message,) = sqs.drain(url, 10).messages
    assert "datasets/a.csv" in message.body


def test_a_second_deploy_changes_nothing_and_writes_nothing(
    dockerhub_deployed: Settings, account_faults: FaultInjection
) -> None:
    # Other tests change things in this account.
    deploy.deploy(dockerhub_deployed)
    before = account_faults.requests()
    assert not any(stack.changes for stack in deploy.deploy(dockerhub_deployed))
    written = [name for _, name in account_faults.requests() - before if name.startswith(WRITES)]
    assert sorted(set(written)) == ["CreateChangeSet", "DeleteChangeSet"]


def test_two_deploys_at_once_end_in_one(settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(deploy.deploy, [settings, settings]))
    changed = [stack.stack_name for result in results for stack in result if stack.changes]
    assert sorted(changed) == sorted([*(f"sluice-test-{name}" for name in deploy.STACKS), "tables"])


def test_a_property_that_someone_changed_is_restored(dockerhub_deployed: Settings) -> None:
    sessions.client("s3").delete_bucket_lifecycle(Bucket=dockerhub_deployed.lake_bucket)
    changes = {stack.stack_name: stack.changes for stack in deploy.deploy(dockerhub_deployed) if stack.changes}
    assert changes == {"sluice-test-lake": ("Restore Lake.LifecycleConfiguration",)}


def test_a_property_that_does_not_stick_is_an_error(
    dockerhub_deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = sessions.client("s3")
    s3.delete_bucket_lifecycle(Bucket=dockerhub_deployed.lake_bucket)
    with monkeypatch.context() as patch:
        patch.setattr(s3, "put_bucket_lifecycle_configuration", lambda **_: None)
        with pytest.raises(repair.RepairError, match=r"Lake\.LifecycleConfiguration should be .* is None"):
            deploy.deploy(dockerhub_deployed, stacks=("lake",))
    # Other tests have this account as well.
    deploy.deploy(dockerhub_deployed, stacks=("lake",))


def test_a_change_of_a_template_is_the_only_thing_deployed(deployed: Settings, tmp_path: Path) -> None:
    for name in deploy.STACKS:
        text = (deploy.TEMPLATES / f"{name}.yaml").read_text()
        (tmp_path / f"{name}.yaml").write_text(text.replace("VisibilityTimeout: 300", "VisibilityTimeout: 301"))
    (dockerhub,) = [stack for stack in deploy.deploy(deployed, tmp_path, ("dockerhub", "lake")) if stack.changes]
    assert "Modify RawQueue" in dockerhub.changes
    # What refers to the queue may count as modified, what does not may not.
    assert not {change for change in dockerhub.changes if change.endswith(("Table", "Topic", "DeadLetterQueue"))}
    assert queue("sluice-test-dockerhub-raw")[1]["VisibilityTimeout"] == "301"


def test_a_deploy_that_changes_the_raw_table_keeps_columns_of_events(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions.client("s3").create_bucket(Bucket=settings.lake_bucket)
    deploy.deploy(settings, stacks=("events",))
    create_missing(settings, [EVENTS])
    database, base = settings.glue_database, glue.table_columns(settings.glue_database, RAW_TABLE)
    glue.add_columns(database, RAW_TABLE, {"user_id": "bigint", "country": "string"})
    from pyiceberg.types import LongType

    with load(settings, EVENTS.name).update_schema() as schema:
        schema.add_column("user_id", LongType())
    text = (deploy.TEMPLATES / "events.yaml").read_text()

    def change(description: str) -> list[str]:
        changed = text.replace("Events as received, duplicates included", description)
        (tmp_path / "events.yaml").write_text(changed)
        return [each for stack in deploy.deploy(settings, tmp_path, ("events",)) for each in stack.changes]

    assert "Restore column country of raw_events" in change("Events as received")
    assert glue.table_columns(database, RAW_TABLE) == base | {"user_id": "bigint", "country": "string"}
    # Killed before it restored them: what was published has the columns too.
    with monkeypatch.context() as killed:
        killed.setattr(deploy, "add_columns", lambda *_: [])
        change("Events")
    assert glue.table_columns(database, RAW_TABLE) == base
    assert change("Events") == ["Restore column user_id of raw_events"]
    assert glue.table_columns(database, RAW_TABLE) == base | {"user_id": "bigint"}


def test_a_failed_stack_names_the_resource_and_deploys_after_a_correction(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "bucket.yaml").write_text(BUCKET)
    other = sessions.client_of("s3", settings.model_copy(update={"aws_account_id": "999999999999"}))
    other.create_bucket(Bucket=settings.lake_bucket)
    for _ in range(2):
        with pytest.raises(DeployError) as raised:
            deploy.deploy(settings, tmp_path, ("bucket",))
        message = str(raised.value)
        assert "sluice-test-bucket failed (ROLLBACK_COMPLETE)" in message
        assert f"Bucket: Resource of type 'AWS::S3::Bucket' with identifier '{settings.lake_bucket}' already" in message
        assert "setting in .env" in message

    other.delete_bucket(Bucket=settings.lake_bucket)
    (stack,) = deploy.deploy(settings, tmp_path, ("bucket",))
    assert stack.changes == ("Add Bucket", "Restore Bucket.Tags")


def test_a_resource_that_fails_while_it_is_made_is_named_with_its_reason(settings: Settings) -> None:
    with pytest.raises(DeployError) as raised:
        deploy.deploy(settings, stacks=("lake",))
    assert "  Lake: " in str(raised.value)
    assert "sluice-test-dockerhub-raw" in str(raised.value)


def test_an_embedded_aws_that_does_not_run_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopped = use_settings(monkeypatch, home=tmp_path, aws_port=free_port())
    with pytest.raises(AwsUnavailable, match="sluice aws start"):
        deploy.deploy(stopped)
    result = CliRunner().invoke(cli.main, ["deploy"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: Could not connect to the endpoint URL")


def real_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **variables: str) -> Settings:
    """Settings for a real account, in an environment that holds nothing but these variables of boto3."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return use_settings(monkeypatch, target="aws", environment="test")


def emulated_real_account(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings for a real account, for which the emulator answers."""
    real = real_account(
        monkeypatch,
        tmp_path,
        AWS_ENDPOINT_URL=str(settings.endpoint_url),
        AWS_ACCESS_KEY_ID=settings.aws_account_id,
        AWS_SECRET_ACCESS_KEY="secret",
    )
    monkeypatch.setattr(deploy, "POLL_SECONDS", 0.05)
    return real.model_copy(update={"lake_bucket": settings.lake_bucket, "landing_bucket": settings.landing_bucket})


def test_a_real_account_needs_credentials_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = real_account(monkeypatch, tmp_path)
    with pytest.raises(AwsUnavailable, match=r"Unable to locate credentials.*AWS_PROFILE"):
        deploy.deploy(settings)


def test_a_real_account_gets_the_same_stacks_and_no_repair(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = emulated_real_account(settings, monkeypatch, tmp_path)
    assert account_id(real) == settings.aws_account_id
    changes = [change for stack in deploy.deploy(real) for change in stack.changes]
    assert "Add Table" in changes
    assert not [change for change in changes if change.startswith("Restore")]
    assert not any(stack.changes for stack in deploy.deploy(real))


class TableOptimizers:
    """What the emulator lacks: the table optimizers of Glue, answered in this process for the clients of `settings`."""

    def __init__(self, *settings: Settings) -> None:
        self.held: dict[tuple[str, str], dict[str, Any]] = {}
        for each in settings:
            events = sessions.client_of("glue", each).meta.events
            for operation in ("Get", "Create", "Update", "Delete"):
                events.register(f"before-call.glue.{operation}TableOptimizer", self.answer)

    def answer(self, model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        asked = json.loads(params["body"])
        name = (asked["TableName"], asked["Type"])
        if (name in self.held) == (model.name == "CreateTableOptimizer"):
            code = "AlreadyExistsException" if name in self.held else "EntityNotFoundException"
            return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": str(name)}}
        if model.name == "GetTableOptimizer":
            return SimpleNamespace(status_code=200), {"TableOptimizer": {"configuration": self.held[name]}}
        self.held.pop(name, None)
        if model.name != "DeleteTableOptimizer":
            self.held[name] = asked["TableOptimizerConfiguration"]
        return SimpleNamespace(status_code=200), {}


def test_glue_maintains_the_tables_of_an_account_until_airflow_does_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sessions.client("s3").create_bucket(Bucket=settings.lake_bucket)
    sessions.client("glue").create_database(DatabaseInput={"Name": settings.glue_database})
    airflow = emulated_real_account(settings, monkeypatch, tmp_path)
    monkeypatch.setattr(deploy, "STACKS", ("platform",))
    monkeypatch.setattr(deploy, "iceberg_tables", lambda _: [EVENTS])
    glue = airflow.model_copy(update={"table_maintenance": "glue"})
    longer = glue.model_copy(update={"table_retention_hours": 100})
    optimizers = TableOptimizers(airflow, glue, longer)
    iam = boto3.client("iam", **sessions.connection_arguments(settings))

    def changes(of: Settings) -> list[str]:
        (platform, _, optimizer_changes) = deploy.deploy(of, stacks=("platform",))
        return [*(each for each in platform.changes if "Optimizer" in each), *optimizer_changes.changes]

    three = ("compaction of events", "retention of events", "orphan_file_deletion of events")
    assert changes(glue) == ["Add TableOptimizerRole", *(f"Add {each}" for each in three)]
    role = iam.get_role(RoleName="sluice-test-table-optimizer")["Role"]["Arn"]
    assert {each["roleArn"] for each in optimizers.held.values()} == {role}
    assert changes(glue) == []
    assert changes(longer) == ["Modify retention of events", "Modify orphan_file_deletion of events"]
    # Killed in between: the next deploy continues. The emulator's stack keeps the role, as no other property changes.
    del optimizers.held["events", "compaction"]
    assert changes(airflow) == [f"Remove {each}" for each in three[1:]]
    assert (optimizers.held, changes(airflow)) == ({}, [])


def test_the_command_says_what_changed(settings: Settings) -> None:
    first = CliRunner().invoke(cli.main, ["deploy"])
    assert first.exit_code == 0, first.output
    assert "RawQueue" in first.output
    second = CliRunner().invoke(cli.main, ["deploy"])
    names = [*(f"sluice-test-{name}" for name in deploy.STACKS), "tables"]
    assert second.output.split() == [word for name in names for word in (name, "unchanged")]
