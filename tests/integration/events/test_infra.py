"""Every property of infra/events.yaml, read back from the services after a deploy."""

from __future__ import annotations

from importlib.metadata import version

import boto3
import pytest

from sluice.aws import sessions
from sluice.settings import Settings

COLUMNS = {
    "event_uuid": "string",
    "event_name": "string",
    "created_at": "double",
    "created_datetime": "string",
    "event_type": "string",
    "event_subtype": "string",
    "event_action": "string",
    "arrived_at": "timestamp",
    "shard_id": "string",
    "sequence_number": "string",
    "rescued_data": "string",
}


@pytest.fixture
def deployed(dockerhub_deployed: Settings) -> Settings:
    """Read only, so one deployment of all stacks serves every test."""
    return dockerhub_deployed


def test_the_stream_has_four_encrypted_shards_and_keeps_two_days(deployed: Settings) -> None:
    stream = sessions.client("kinesis").describe_stream_summary(StreamName=deployed.events_stream)[
        "StreamDescriptionSummary"
    ]

    assert stream["OpenShardCount"] == 4
    assert stream["RetentionPeriodHours"] == 48
    assert (stream["EncryptionType"], stream["KeyId"]) == ("KMS", "alias/aws/kinesis")


@pytest.mark.parametrize(
    ("setting", "key"), [("events_checkpoint_table", ["stream", "shard_id"]), ("events_hours_table", ["state", "hour"])]
)
def test_checkpoints_and_hours_can_be_restored(deployed: Settings, setting: str, key: list[str]) -> None:
    dynamodb, name = sessions.client("dynamodb"), getattr(deployed, setting)
    table = dynamodb.describe_table(TableName=name)["Table"]

    assert table["KeySchema"] == [
        {"AttributeName": key[0], "KeyType": "HASH"},
        {"AttributeName": key[1], "KeyType": "RANGE"},
    ]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSEDescription"]["Status"] == "ENABLED"
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_the_raw_table_is_parquet_partitioned_by_the_hour(deployed: Settings) -> None:
    for name, prefix in (("raw_events", "raw/events/"),):
        table = sessions.client("glue").get_table(DatabaseName=deployed.glue_database, Name=name)["Table"]

        assert [key["Name"] for key in table["PartitionKeys"]] == ["year", "month", "day", "hour"]
        assert {key["Type"] for key in table["PartitionKeys"]} == {"string"}
        storage = table["StorageDescriptor"]
        assert storage["Location"] == f"s3://{deployed.lake_bucket}/{prefix}"
        assert {column["Name"]: column["Type"] for column in storage["Columns"]} == COLUMNS
        assert storage["SerdeInfo"]["SerializationLibrary"].endswith("ParquetHiveSerDe")
        assert storage["InputFormat"].endswith("MapredParquetInputFormat")
        assert storage["OutputFormat"].endswith("MapredParquetOutputFormat")
        assert table["Parameters"] == {"classification": "parquet", "EXTERNAL": "TRUE"}
        assert table["TableType"] == "EXTERNAL_TABLE"


def test_the_crawler_only_logs_changes_of_the_raw_table(deployed: Settings) -> None:
    crawler = sessions.client("glue").get_crawler(Name=f"{deployed.resource_prefix}-events")["Crawler"]

    assert crawler["Targets"]["CatalogTargets"] == [{"DatabaseName": deployed.glue_database, "Tables": ["raw_events"]}]
    assert crawler["SchemaChangePolicy"] == {"UpdateBehavior": "LOG", "DeleteBehavior": "LOG"}
    assert crawler["RecrawlPolicy"] == {"RecrawlBehavior": "CRAWL_EVERYTHING"}
    assert "CombineCompatibleSchemas" in crawler["Configuration"]
    assert "InheritFromTable" in crawler["Configuration"]


def test_the_spark_job_leaves_retries_to_airflow(deployed: Settings) -> None:
    job = sessions.client("glue").get_job(JobName=f"{deployed.resource_prefix}-events-dedup")["Job"]

    assert (job["GlueVersion"], job["WorkerType"], job["NumberOfWorkers"]) == ("5.1", "G.1X", 4)
    assert (job["MaxRetries"], job["Timeout"]) == (0, 60)
    assert job["Command"]["ScriptLocation"] == f"s3://{deployed.lake_bucket}/code/events/spark_job.py"
    arguments = job["DefaultArguments"]
    wheel = f"s3://{deployed.lake_bucket}/code/sluice-{version('sluice')}-py3-none-any.whl"
    assert arguments["--additional-python-modules"] == f"{wheel},sqlglot>=27"
    assert arguments["--python-modules-installer-option"] == "--no-deps"


def test_crawler_and_job_reach_nothing_but_the_events_of_this_lake(deployed: Settings) -> None:
    iam = boto3.client("iam", **sessions.connection_arguments(deployed))
    for role, policy in (("crawler", "read-raw-events"), ("job", "dedup-events")):
        name = f"{deployed.resource_prefix}-events-{role}"
        trusted = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
        assert [each["Principal"] for each in trusted] == [{"Service": "glue.amazonaws.com"}]
        statements = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]["Statement"]
        resources = [each["Resource"] for each in statements]
        flat = [one for each in resources for one in ([each] if isinstance(each, str) else each)]
        assert flat
        assert all(one.startswith(f"arn:aws:s3:::{deployed.lake_bucket}") for one in flat)
