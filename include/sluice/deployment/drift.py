"""Resources of a stack that no longer exist.

CloudFormation compares templates, not the template with the account: resources deleted by hand stay deleted, and an
update reports no changes. This module looks up each resource of a stack in its service, and makes a template without
the missing ones, so that CloudFormation removes them from the stack and creates them again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from sluice.aws.sessions import NOT_FOUND, client_of, error_code
from sluice.aws.threads import in_parallel
from sluice.deployment.template import resolve
from sluice.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

Properties = dict[str, Any]


PLACEHOLDER = {"Nothing": {"Type": "AWS::CloudFormation::WaitConditionHandle"}}
"""Placeholder in a template whose resources are all missing, as a template needs at least one resource."""


@dataclass(frozen=True)
class ResourceType:
    """How to look up resources of one type.

    Attributes:
        service: the client to call.
        exists: whether a resource exists, by its physical id and its properties; an error code of `NOT_FOUND` is False.
        part_of: property that names the parent resource, without which it cannot exist.
        arn: ARN by the resource's name, as the text of a `Fn::Sub`; where templates use it.
        holds_data: whether data that a template cannot restore are deleted with it.
    """

    service: str
    exists: Callable[[Any, str, Properties], bool]
    part_of: str = ""
    arn: str = ""
    holds_data: bool = False


@dataclass(frozen=True)
class StackResource:
    """A resource that exists according to CloudFormation."""

    logical_id: str
    type: str
    physical_id: str
    properties: Properties = field(hash=False)

    @property
    def kind(self) -> ResourceType | None:
        """How to look it up; None for a type that `infra/` does not have."""
        return TYPES.get(self.type)

    @property
    def name(self) -> str:
        """Its name: the physical id, or the last part of an ARN or a URL."""
        is_long = self.physical_id.startswith(("arn:", "http:", "https:"))
        return re.split(r"[/:]", self.physical_id)[-1] if is_long else self.physical_id


def stack_resources(
    cloudformation: CloudFormationClient, stack_name: str, template: dict[str, Any]
) -> list[StackResource]:
    """The resources of a stack according to CloudFormation; parts of others come last.

    Args:
        cloudformation: its client.
        stack_name: an existing stack.
        template: the template that it was deployed with.
    """
    (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
    values = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack_name)
    listed = {
        each["LogicalResourceId"]: each
        for page in pages
        for each in page["StackResourceSummaries"]
        if each["ResourceStatus"] != "DELETE_COMPLETE" and each["LogicalResourceId"] in template["Resources"]
    }
    values |= {name: each.get("PhysicalResourceId", "") for name, each in listed.items()}
    resources = [
        StackResource(
            name,
            each["ResourceType"],
            each.get("PhysicalResourceId", ""),
            resolve(template["Resources"][name].get("Properties", {}), values),
        )
        for name, each in listed.items()
    ]
    return sorted(resources, key=lambda resource: bool(resource.kind and resource.kind.part_of))


def cancel_key_deletions(settings: Settings, resources: list[StackResource]) -> list[str]:
    """Cancel the scheduled deletion of KMS keys, which still exist; returns their logical ids."""
    kms = client_of("kms", settings)
    kept = []
    for resource in resources:
        if resource.type != "AWS::KMS::Key":
            continue
        try:
            state = kms.describe_key(KeyId=resource.physical_id)["KeyMetadata"]["KeyState"]
        except ClientError as error:
            if error_code(error) in NOT_FOUND:
                continue
            raise
        if state == "PendingDeletion":
            kms.cancel_key_deletion(KeyId=resource.physical_id)
            kms.enable_key(KeyId=resource.physical_id)
            kept.append(resource.logical_id)
    return kept


def missing_resources(
    settings: Settings, resources: list[StackResource], template: dict[str, Any]
) -> list[StackResource]:
    """The resources of a stack that do not exist any more, and their parts.

    Raises:
        ClientError: a service returns another error than not found.
    """
    found = in_parallel(lambda resource: _exists(settings, resource), resources)
    missing = {resource.logical_id for resource, exists in zip(resources, found, strict=True) if not exists}
    for resource in resources:
        if resource.kind and resource.kind.part_of:
            whole = template["Resources"][resource.logical_id]["Properties"][resource.kind.part_of]
            if _references(whole) & missing:
                missing.add(resource.logical_id)
    return [resource for resource in resources if resource.logical_id in missing]


def _exists(settings: Settings, resource: StackResource) -> bool:
    if resource.kind is None:
        return True
    client = client_of(resource.kind.service, settings)
    try:
        return resource.kind.exists(client, resource.physical_id, resource.properties)
    except ClientError as error:
        if error_code(error) in NOT_FOUND:
            return False
        raise


def _references(node: Any) -> set[str]:
    """Logical ids that a part of a template refers to."""
    if isinstance(node, list):
        return {name for item in node for name in _references(item)}
    if not isinstance(node, dict):
        return set()
    if isinstance(node.get("Ref"), str):
        return {node["Ref"]}
    return {name for value in node.values() for name in _references(value)}


def template_without(template: dict[str, Any], missing: list[StackResource]) -> dict[str, Any]:
    """A template without these resources, with references to them replaced by their names and ARNs.

    So other resources do not change: a queue keeps the ARN of a dead-letter queue that is temporarily missing.

    Raises:
        KeyError: an attribute of a missing resource is used whose value is unknown.
    """
    gone = {resource.logical_id: resource for resource in missing}
    left = {name: resource for name, resource in template["Resources"].items() if name not in gone}
    rest: dict[str, Any] = _name_literally({**template, "Resources": left or PLACEHOLDER}, gone)
    for resource in rest["Resources"].values():
        dependencies = resource.get("DependsOn", [])
        if isinstance(dependencies, str):
            dependencies = [dependencies]
        resource.pop("DependsOn", None)
        if kept := [name for name in dependencies if name not in gone]:
            resource["DependsOn"] = kept
    return rest


def _name_literally(node: Any, gone: dict[str, StackResource]) -> Any:
    if isinstance(node, list):
        return [_name_literally(item, gone) for item in node]
    if not isinstance(node, dict):
        return node
    match node:
        case {"Ref": name} if name in gone:
            return gone[name].physical_id
        case {"Fn::GetAtt": str(text)} if text.partition(".")[0] in gone:
            return {"Fn::Sub": _attribute(text.partition(".")[0], text.partition(".")[2], gone)}
        case {"Fn::GetAtt": [str(name), str(attribute)]} if name in gone:
            return {"Fn::Sub": _attribute(name, attribute, gone)}
        case {"Fn::Sub": str(text)}:
            return {"Fn::Sub": re.sub(r"\$\{(\w+)(?:\.(\w+))?\}", lambda found: _in_text(found, gone), text)}
    return {key: _name_literally(value, gone) for key, value in node.items()}


def _in_text(found: re.Match[str], gone: dict[str, StackResource]) -> str:
    name, attribute = found.groups()
    if name not in gone:
        return found[0]
    return _attribute(name, attribute, gone) if attribute else gone[name].physical_id


def _attribute(name: str, attribute: str, gone: dict[str, StackResource]) -> str:
    resource = gone[name]
    if attribute != "Arn" or not (resource.kind and resource.kind.arn):
        raise KeyError(f"{attribute} of {resource.type} ({name}) is not known")
    return resource.kind.arn.replace("{name}", resource.name)


def _account_arn(service: str, prefix: str = "") -> str:
    return f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{prefix}{{name}}"


def _answers(operation: str, parameter: str) -> Callable[[Any, str, Properties], bool]:
    """A function that raises an error of AWS unless an operation finds a physical id."""

    def exists(client: Any, physical_id: str, _properties: Properties) -> bool:
        getattr(client, operation)(**{parameter: physical_id})
        return True

    return exists


def _queue(client: Any, url: str, _properties: Properties) -> bool:
    client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return True


def _queue_policy(client: Any, _physical_id: str, properties: Properties) -> bool:
    answers = (client.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]) for url in properties["Queues"])
    return all(answer.get("Attributes", {}).get("Policy") for answer in answers)


def _bucket_policy(client: Any, _physical_id: str, properties: Properties) -> bool:
    return bool(client.get_bucket_policy(Bucket=properties["Bucket"])["Policy"])


def _topic_policy(client: Any, _physical_id: str, properties: Properties) -> bool:
    policies = [client.get_topic_attributes(TopicArn=arn)["Attributes"].get("Policy") for arn in properties["Topics"]]
    # A topic without its policy has the default policy of AWS.
    return all(policy and "__default_policy_ID" not in policy for policy in policies)


def _subscription(client: Any, arn: str, _properties: Properties) -> bool:
    # A subscription that is not confirmed may have no ARN.
    return not arn.startswith("arn:") or bool(client.get_subscription_attributes(SubscriptionArn=arn))


def _table(client: Any, name: str, _properties: Properties) -> bool:
    return bool(client.describe_table(TableName=name)["Table"]["TableStatus"] != "DELETING")


def _stream(client: Any, name: str, _properties: Properties) -> bool:
    status = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"]
    return bool(status != "DELETING")


def _glue_table(client: Any, name: str, properties: Properties) -> bool:
    client.get_table(DatabaseName=properties["DatabaseName"], Name=properties["TableInput"].get("Name", name))
    return True


def _alarm(client: Any, name: str, _properties: Properties) -> bool:
    return bool(client.describe_alarms(AlarmNames=[name])["MetricAlarms"])


def _log_group(client: Any, name: str, _properties: Properties) -> bool:
    groups = client.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return any(group["logGroupName"] == name for group in groups)


TYPES = {
    "AWS::CloudWatch::Alarm": ResourceType("cloudwatch", _alarm),
    "AWS::CloudWatch::Dashboard": ResourceType("cloudwatch", _answers("get_dashboard", "DashboardName")),
    "AWS::DynamoDB::Table": ResourceType("dynamodb", _table, arn=_account_arn("dynamodb", "table/"), holds_data=True),
    "AWS::Glue::Crawler": ResourceType("glue", _answers("get_crawler", "Name")),
    "AWS::Glue::Database": ResourceType("glue", _answers("get_database", "Name"), holds_data=True),
    "AWS::Glue::Job": ResourceType("glue", _answers("get_job", "JobName")),
    "AWS::Glue::Table": ResourceType("glue", _glue_table, part_of="DatabaseName", holds_data=True),
    "AWS::IAM::Role": ResourceType(
        "iam",
        _answers("get_role", "RoleName"),
        arn="arn:${AWS::Partition}:iam::${AWS::AccountId}:role/{name}",
    ),
    "AWS::KMS::Alias": ResourceType("kms", _answers("describe_key", "KeyId"), part_of="TargetKeyId"),
    "AWS::KMS::Key": ResourceType("kms", _answers("describe_key", "KeyId"), arn=_account_arn("kms", "key/")),
    "AWS::Kinesis::Stream": ResourceType("kinesis", _stream, arn=_account_arn("kinesis", "stream/"), holds_data=True),
    "AWS::KinesisFirehose::DeliveryStream": ResourceType(
        "firehose", _answers("describe_delivery_stream", "DeliveryStreamName")
    ),
    "AWS::Lambda::Function": ResourceType(
        "lambda", _answers("get_function", "FunctionName"), arn=_account_arn("lambda", "function:")
    ),
    "AWS::Logs::LogGroup": ResourceType("logs", _log_group, arn=_account_arn("logs", "log-group:") + ":*"),
    "AWS::S3::Bucket": ResourceType(
        "s3", _answers("head_bucket", "Bucket"), arn="arn:${AWS::Partition}:s3:::{name}", holds_data=True
    ),
    "AWS::S3::BucketPolicy": ResourceType("s3", _bucket_policy, part_of="Bucket"),
    "AWS::SNS::Subscription": ResourceType("sns", _subscription, part_of="TopicArn"),
    "AWS::SNS::Topic": ResourceType("sns", _answers("get_topic_attributes", "TopicArn")),
    "AWS::SNS::TopicPolicy": ResourceType("sns", _topic_policy, part_of="Topics"),
    "AWS::SQS::Queue": ResourceType("sqs", _queue, arn=_account_arn("sqs"), holds_data=True),
    "AWS::SQS::QueuePolicy": ResourceType("sqs", _queue_policy, part_of="Queues"),
}
"""Every type of `infra/`; resources of other types are assumed to exist."""
