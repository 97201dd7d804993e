"""What somebody deletes by hand is back after the next deploy, as its template says, and nothing else is touched."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sluice import cli
from sluice.aws import sessions, sqs
from sluice.deployment import deploy, drift, stacks
from sluice.deployment.template import load_template
from sluice.settings import Settings

DELETE: dict[str, Callable[[Any, drift.StackResource], object]] = {
    "AWS::CloudWatch::Alarm": lambda client, it: client.delete_alarms(AlarmNames=[it.name]),
    "AWS::CloudWatch::Dashboard": lambda client, it: client.delete_dashboards(DashboardNames=[it.name]),
    "AWS::DynamoDB::Table": lambda client, it: client.delete_table(TableName=it.name),
    "AWS::Glue::Crawler": lambda client, it: client.delete_crawler(Name=it.name),
    "AWS::Glue::Database": lambda client, it: client.delete_database(Name=it.name),
    "AWS::Glue::Job": lambda client, it: client.delete_job(JobName=it.name),
    "AWS::Glue::Table": lambda client, it: client.delete_table(
        DatabaseName=it.properties["DatabaseName"], Name=it.properties["TableInput"]["Name"]
    ),
    "AWS::IAM::Role": lambda client, it: delete_role(client, it.name),
    "AWS::KMS::Alias": lambda client, it: client.delete_alias(AliasName=it.properties["AliasName"]),
    "AWS::KMS::Key": lambda client, it: client.schedule_key_deletion(KeyId=it.physical_id, PendingWindowInDays=7),
    "AWS::Kinesis::Stream": lambda client, it: client.delete_stream(StreamName=it.name),
    "AWS::S3::Bucket": lambda client, it: delete_bucket(client, it.name),
    "AWS::S3::BucketPolicy": lambda client, it: client.delete_bucket_policy(Bucket=it.properties["Bucket"]),
    "AWS::SNS::Subscription": lambda client, it: client.unsubscribe(SubscriptionArn=it.physical_id),
    "AWS::SNS::Topic": lambda client, it: client.delete_topic(TopicArn=it.physical_id),
    "AWS::SNS::TopicPolicy": lambda client, it: client.set_topic_attributes(
        TopicArn=it.properties["Topics"][0], AttributeName="Policy", AttributeValue=""
    ),
    "AWS::SQS::Queue": lambda client, it: client.delete_queue(QueueUrl=it.physical_id),
    "AWS::SQS::QueuePolicy": lambda client, it: client.set_queue_attributes(
        QueueUrl=it.properties["Queues"][0], Attributes={"Policy": ""}
    ),
}

ONE_OF_MOST_TYPES = {
    "dockerhub": ["RawDeadLetterQueue", "RawSubscription"],
    "events": ["RawTable", "Crawler", "JobRole", "DedupJob"],
    "platform": ["AlertsKeyAlias", "WatchSilent", "Dashboard"],
    "modules": ["RecvMessageQueuePolicy", "RecvMessageTopicPolicy", "SuccessRateTopic"],
    "lake": ["LakePolicy"],
}
THEIR_PARTS = {"dockerhub": ["RawDeadLetterQueuePolicy"], "modules": ["CanarySubscription", "SuccessRateTopicPolicy"]}

READ_BACK = {
    "test_deploy.py": [
        "test_a_bucket_is_what_its_template_says",
        "test_each_zone_of_the_lake_is_kept_as_long_as_the_contract_says",
        "test_the_lake_announces_raw_keys_of_dockerhub_and_no_others",
        "test_the_topic_takes_messages_of_the_lake_bucket_alone",
        "test_the_queue_hands_poison_to_its_dead_letter_queue",
        "test_the_table_forgets_old_items_and_can_be_restored",
        "test_an_object_in_the_lake_arrives_in_the_queue_through_the_topic",
    ],
    "events/test_infra.py": ["test_*"],
    "modules/test_infra.py": ["test_*"],
    "platform/test_infra.py": ["the_*", "nobody_*"],
    "accommodations/test_infra.py": ["test_an_uploaded_file_of_any_name_notifies_the_queue_and_nothing_else"],
    "datasets/test_infra.py": ["test_only_an_upload_below_datasets_notifies_the_queue"],
}
"""Functions of other tests that read back the properties of what is deployed."""


def delete_bucket(client: Any, name: str) -> None:
    for each in client.list_object_versions(Bucket=name).get("Versions", []):
        client.delete_object(Bucket=name, Key=each["Key"], VersionId=each["VersionId"])
    client.delete_bucket(Bucket=name)


def delete_role(iam: Any, name: str) -> None:
    for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
    iam.delete_role(RoleName=name)


def resources_of(settings: Settings, stack: str) -> list[drift.StackResource]:
    template = load_template((deploy.TEMPLATES / f"{stack}.yaml").read_text())
    cloudformation = sessions.client("cloudformation")
    return drift.stack_resources(cloudformation, f"{settings.resource_prefix}-{stack}", template)


def delete(settings: Settings, resource: drift.StackResource) -> None:
    kind = drift.TYPES[resource.type]
    try:
        DELETE[resource.type](sessions.client_of(kind.service, settings), resource)
    except Exception as error:
        # A part goes with the whole that was deleted before it.
        if sessions.error_code(error) not in sessions.NOT_FOUND:
            raise


def changes(deployed: list[deploy.Deployed]) -> dict[str, list[str]]:
    """What was done to each stack, but for properties that the emulator drops from what it creates."""
    done = {stack.stack_name: sorted(each for each in stack.changes if "." not in each) for stack in deployed}
    return {name: stack_changes for name, stack_changes in done.items() if stack_changes}


def read_back(deployed: Settings) -> None:
    for file, patterns in READ_BACK.items():
        path = Path(__file__).parent / file
        spec = importlib.util.spec_from_file_location("_".join(("read_back", *Path(file).parts))[:-3], path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        names = [name for name in vars(module) if any(Path(name).match(pattern) for pattern in patterns)]
        readers = [getattr(module, name) for name in names]
        taking_settings = [
            each
            for each in readers
            if list(each.__annotations__)[:-1] in (["deployed"], ["dockerhub_deployed"], ["settings"])
        ]
        assert taking_settings, f"{file} has nothing of {patterns}"
        for each in taking_settings:
            if "email" not in each.__name__:
                each(deployed)


def test_what_was_deleted_by_hand_is_back_and_all_else_as_before(deployed: Settings) -> None:
    queue = sqs.queue_url(deployed.dockerhub_queue)
    sessions.client("sqs").send_message(QueueUrl=queue, MessageBody="kept")
    item = {"PK": {"S": "kept"}, "SK": {"S": "kept"}}
    sessions.client("dynamodb").put_item(TableName=deployed.dockerhub_table, Item=item)
    for stack, names in ONE_OF_MOST_TYPES.items():
        for resource in resources_of(deployed, stack):
            if resource.logical_id in names:
                delete(deployed, resource)

    restored = deploy.deploy(deployed)

    assert changes(restored) == {
        f"sluice-test-{stack}": sorted(f"Restore {name}" for name in [*names, *THEIR_PARTS.get(stack, [])])
        for stack, names in ONE_OF_MOST_TYPES.items()
    }
    assert changes(deploy.deploy(deployed)) == {}
    assert [message["Body"] for message in sessions.client("sqs").receive_message(QueueUrl=queue)["Messages"]] == [
        "kept"
    ]
    sessions.client("sqs").purge_queue(QueueUrl=queue)
    assert sessions.client("dynamodb").get_item(TableName=deployed.dockerhub_table, Key=item)["Item"] == item
    read_back(deployed)


def test_a_stack_is_back_after_all_of_it_was_deleted_by_hand(deployed: Settings) -> None:
    everything = {stack: resources_of(deployed, stack) for stack in deploy.STACKS}
    assert {resource.type for resources in everything.values() for resource in resources} == set(DELETE)
    for resources in everything.values():
        for resource in resources:
            delete(deployed, resource)

    said = CliRunner().invoke(cli.main, ["deploy"])

    assert said.exit_code == 0, said.output
    assert f"{deployed.dockerhub_table}" in said.output
    assert "docs/how-to/restore.md" in said.output
    for resources in everything.values():
        for resource in resources:
            assert resource.logical_id in said.output
    assert changes(deploy.deploy(deployed)) == {}
    read_back(deployed)


def test_a_deploy_killed_between_both_updates_is_completed_by_the_next(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy.deploy(settings, stacks=("datasets",))
    url = sqs.queue_url(settings.datasets_queue)
    sessions.client("sqs").delete_queue(QueueUrl=url)
    real = stacks.deploy_stack

    def killed(cloudformation: Any, name: str, template: str, *arguments: Any) -> list[str]:
        if '"Queue"' not in json.dumps(load_template(template)["Resources"]):
            real(cloudformation, name, template, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deploy, "deploy_stack", killed)
        with pytest.raises(KeyboardInterrupt):
            deploy.deploy(settings, stacks=("datasets",))

    (stack,) = deploy.deploy(settings, stacks=("datasets",))
    assert {"Add Queue", "Add QueuePolicy"} <= set(stack.changes)
    assert sqs.queue_counts(settings.datasets_queue) == (0, 0)
    assert changes(deploy.deploy(settings, stacks=("datasets",))) == {}


def test_a_missing_queue_does_not_keep_the_test_events_of_the_others(settings: Settings) -> None:
    for name in (settings.accommodations_queue, settings.datasets_queue):
        sessions.client("sqs").create_queue(QueueName=name)
    url = sqs.queue_url(settings.datasets_queue)
    sessions.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps({"Event": "s3:TestEvent"}))
    deploy.discard_test_events(settings)
    assert sqs.queue_counts(settings.datasets_queue) == (0, 0)
