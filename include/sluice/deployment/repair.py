"""Apply properties of the template that the emulator's CloudFormation drops, and verify each.

MiniStack 1.5.33 returns CREATE_COMPLETE and silently omits lifecycle rules and stack tags of buckets, the time to live,
point-in-time recovery and encryption of tables, and the encryption of streams and topics. The values come from the
template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from sluice.aws.sessions import client_of, error_code
from sluice.deployment import DeployError
from sluice.deployment.template import load_template, resolve
from sluice.settings import Settings

Properties = dict[str, Any]


class RepairError(DeployError):
    """The emulator drops a property even if it is applied directly; the message names it."""


@dataclass(frozen=True)
class Setting:
    """One property of a deployed resource, in the shape of its service's API."""

    name: str
    wanted: object
    read: Callable[[], object]
    apply: Callable[[], object]


def repair(
    settings: Settings, stack_name: str, template: str, parameters: dict[str, str], tags: dict[str, str]
) -> list[str]:
    """Apply every dropped property of a deployed stack; `Restore Lake.LifecycleConfiguration` for each one missing.

    Raises:
        RepairError: a property reads back differently after it was applied.
    """
    resources = load_template(template)["Resources"]
    repaired = []
    for logical_id, resource in resources.items():
        find_settings = _SETTINGS.get(resource["Type"])
        if find_settings is None:
            continue
        properties = resolve(resource.get("Properties", {}), parameters)
        for setting in find_settings(settings, properties, tags):
            if setting.read() == setting.wanted:
                continue
            setting.apply()
            found = setting.read()
            if found != setting.wanted:
                raise RepairError(
                    f"{stack_name}: {logical_id}.{setting.name} should be {setting.wanted} and is {found}. "
                    "The emulator drops it: use MiniStack 1.5.33, or change the template."
                )
            repaired.append(f"Restore {logical_id}.{setting.name}")
    return repaired


def _bucket_settings(settings: Settings, properties: Properties, tags: dict[str, str]) -> Iterator[Setting]:
    s3 = client_of("s3", settings)
    bucket = properties["BucketName"]
    rules = [lifecycle_rule(rule) for rule in properties.get("LifecycleConfiguration", {}).get("Rules", [])]

    def read_rules() -> object:
        return _unless(
            "NoSuchLifecycleConfiguration", lambda: s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        )

    def read_tags() -> object:
        found = _unless("NoSuchTagSet", lambda: s3.get_bucket_tagging(Bucket=bucket)["TagSet"])
        return {tag["Key"]: tag["Value"] for tag in found or []}

    if rules:
        yield Setting(
            "LifecycleConfiguration",
            rules,
            read_rules,
            lambda: s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules}),
        )
    tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
    yield Setting("Tags", tags, read_tags, lambda: s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tag_set}))


def lifecycle_rule(rule: Properties) -> dict[str, Any]:
    """A lifecycle rule of a template in the shape of the S3 API.

    Raises:
        KeyError: the rule has a property that is not translated here.
    """
    translated: dict[str, Any] = {"Filter": {"Prefix": rule.get("Prefix", "")}}
    for name, value in rule.items():
        match name:
            case "Prefix":
                pass
            case "Id":
                translated["ID"] = value
            case "ExpirationInDays":
                translated["Expiration"] = {"Days": value}
            case "ExpiredObjectDeleteMarker":
                translated["Expiration"] = {"ExpiredObjectDeleteMarker": value}
            case "Status" | "NoncurrentVersionExpiration" | "AbortIncompleteMultipartUpload":
                translated[name] = value
            case _:
                raise KeyError(f"{name} of a lifecycle rule is not supported by the repair of the embedded AWS")
    return translated


def _table_settings(settings: Settings, properties: Properties, _tags: dict[str, str]) -> Iterator[Setting]:
    dynamodb = client_of("dynamodb", settings)
    table = properties["TableName"]
    time_to_live = properties.get("TimeToLiveSpecification", {"Enabled": False})
    recovery = properties.get("PointInTimeRecoverySpecification", {"PointInTimeRecoveryEnabled": False})
    encrypted = properties.get("SSESpecification", {}).get("SSEEnabled", False)

    def read_time_to_live() -> object:
        found = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        attribute = {"AttributeName": found["AttributeName"]} if "AttributeName" in found else {}
        return attribute | {"Enabled": found["TimeToLiveStatus"] == "ENABLED"}

    def read_recovery() -> object:
        found = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
        return {
            "PointInTimeRecoveryEnabled": found["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
            == "ENABLED"
        }

    def read_encrypted() -> object:
        return dynamodb.describe_table(TableName=table)["Table"].get("SSEDescription", {}).get("Status") == "ENABLED"

    yield Setting(
        "TimeToLiveSpecification",
        time_to_live,
        read_time_to_live,
        lambda: dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=time_to_live),
    )
    yield Setting(
        "PointInTimeRecoverySpecification",
        recovery,
        read_recovery,
        lambda: dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=recovery),
    )
    yield Setting(
        "SSESpecification",
        encrypted,
        read_encrypted,
        lambda: dynamodb.update_table(TableName=table, SSESpecification={"Enabled": encrypted}),
    )


def _stream_settings(settings: Settings, properties: Properties, _tags: dict[str, str]) -> Iterator[Setting]:
    kinesis = client_of("kinesis", settings)
    stream = properties["Name"]
    encryption = properties.get("StreamEncryption", {"EncryptionType": "NONE"})

    def read_encryption() -> object:
        found = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
        return {name: found[name] for name in ("EncryptionType", "KeyId") if name in found}

    yield Setting(
        "StreamEncryption",
        encryption,
        read_encryption,
        lambda: kinesis.start_stream_encryption(StreamName=stream, **encryption),
    )


def _topic_settings(settings: Settings, properties: Properties, _tags: dict[str, str]) -> Iterator[Setting]:
    sns = client_of("sns", settings)
    topic = f"arn:aws:sns:{settings.aws_region}:{settings.aws_account_id}:{properties['TopicName']}"
    key = properties.get("KmsMasterKeyId")
    yield Setting(
        "KmsMasterKeyId",
        key,
        lambda: sns.get_topic_attributes(TopicArn=topic)["Attributes"].get("KmsMasterKeyId"),
        lambda: sns.set_topic_attributes(TopicArn=topic, AttributeName="KmsMasterKeyId", AttributeValue=key),
    )


def _unless(code: str, read: Callable[[], Any]) -> Any:
    """The result of `read`, or None for this error code, which means that nothing is configured."""
    try:
        return read()
    except ClientError as error:
        if error_code(error) == code:
            return None
        raise


_SETTINGS: dict[str, Callable[[Settings, Properties, dict[str, str]], Iterator[Setting]]] = {
    "AWS::S3::Bucket": _bucket_settings,
    "AWS::DynamoDB::Table": _table_settings,
    "AWS::Kinesis::Stream": _stream_settings,
    "AWS::SNS::Topic": _topic_settings,
}
