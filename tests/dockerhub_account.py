"""Fixtures of tests that run the dockerhub pipeline: an account with all stacks, and ways to put in and look.

Listed in `pytest_plugins` of tests/conftest.py.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from embedded_aws import FaultInjection, use_settings
from queue_messages import notification, unfinished
from sluice import lake
from sluice.aws import s3, sqs
from sluice.aws.sessions import client
from sluice.aws.tables import definitions, reading
from sluice.core.run import Run
from sluice.deployment.deploy import deploy
from sluice.pipelines.dockerhub import steps
from sluice.pipelines.dockerhub.batch import Collected
from sluice.pipelines.dockerhub.records import Stats, parse_raw_key
from sluice.pipelines.dockerhub.storage import HISTORY
from sluice.pipelines.dockerhub.transform import RawObject
from sluice.settings import Settings, load_settings

WORKED_EXAMPLE = (
    # file name, stars, pulls, its own last_updated
    ("2023_09_14_150000", 198, 178_900_000, "2023-09-14T15:00:00Z"),
    ("2023_09_15_150550", 198, 179_000_000, "2023-09-15T15:05:50Z"),
    ("2023_09_15_154316", 200, 180_000_000, "2023-09-15T15:43:16Z"),
    ("2023_09_15_200000", 201, 180_000_050, "2023-09-15T15:43:16Z"),
    ("2023_10_30_154316", 230, 185_000_000, "2023-10-30T15:43:16Z"),
)
"""The objects of the worked example of the contract."""

WORKED_MONTHS = {
    "2023-09": [{"star_count": 201, "pull_count": 180_000_050}],
    "2023-10": [{"star_count": 230, "pull_count": 185_000_000}],
}
"""What they give."""


def key_of(file_name: str, name: str = "localstack") -> str:
    """The raw key with this file name."""
    day = datetime.strptime(file_name, "%Y_%m_%d_%H%M%S").replace(tzinfo=UTC)
    return f"raw/dockerhub/namespace=localstack/name={name}/{lake.day_partition(day)}/{file_name}.json"


def answer(star_count: int, pull_count: int, last_updated: str, name: str = "localstack") -> bytes:
    """An answer of Docker Hub."""
    return json.dumps(
        {
            "user": "localstack",
            "name": name,
            "namespace": "localstack",
            "star_count": star_count,
            "pull_count": pull_count,
            "last_updated": last_updated,
        }
    ).encode()


def an_object(
    file_name: str, star_count: int, pull_count: int, last_updated: str, name: str = "localstack"
) -> RawObject:
    """A raw object as a run has read it."""
    stats = Stats(
        "localstack", name, "localstack", star_count, pull_count, last_updated, datetime.fromisoformat(last_updated)
    )
    key = key_of(file_name, name)
    return RawObject(key, file_name, parse_raw_key(key).year_month, datetime(2026, 11, 21, 12, tzinfo=UTC), stats)


def plain(value: Mapping[str, Any]) -> Any:
    """A value of DynamoDB's JSON as plain Python."""
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return int(content)
        case "M":
            return {name: plain(each) for name, each in content.items()}
        case "L":
            return [plain(each) for each in content]
    return content


class DockerHubAccount:
    """One account in which the pipeline is deployed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def queue_url(self) -> str:
        """URL of the work queue."""
        return sqs.queue_url(self.settings.dockerhub_queue)

    def put(self, file_name: str, star_count: int, pull_count: int, last_updated: str, name: str = "localstack") -> str:
        """Put one raw object, with a notification of the queue; returns its key."""
        key = key_of(file_name, name)
        s3.write_object(self.settings.lake_bucket, key, answer(star_count, pull_count, last_updated, name))
        return key

    def notification(self, *keys: str) -> str:
        """A message body as it comes from S3 through SNS."""
        return json.dumps({"Type": "Notification", "Message": notification(self.settings.lake_bucket, *keys)})

    def send(self, *bodies: str) -> None:
        """Send messages to the work queue."""
        for start in range(0, len(bodies), 10):
            entries: Any = [
                {"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies[start : start + 10])
            ]
            client("sqs").send_message_batch(QueueUrl=self.queue_url, Entries=entries)

    def silence(self) -> None:
        """Remove the notifications of the bucket."""
        client("s3").put_bucket_notification_configuration(
            Bucket=self.settings.lake_bucket, NotificationConfiguration={}
        )

    def waiting(self) -> int:
        """Messages that can be received."""
        return sqs.queue_depth(self.queue_url)

    def unfinished(self) -> int:
        """Messages that are not deleted, received or not."""
        return unfinished(self.settings.dockerhub_queue)

    def aggregate(self, run: str = "run", rebuild: bool = False) -> dict[str, int]:
        """One run of dockerhub_aggregate; the tally, or nothing when the queue was empty."""
        collected = (steps.collect_all if rebuild else steps.collect)(run)
        if not collected:
            return {}
        steps.check_objects(run)
        return steps.publish_aggregates(run, collected, rebuild=rebuild)

    def redeliver(self, run: str = "run") -> None:
        """What SQS does when the visibility timeout of a run's messages ends."""
        receipts = Run.of("dockerhub", run).load(steps.COLLECTED, Collected).receipts
        assert receipts
        receipts.hold_back(0)

    def keys(self, prefix: str) -> list[str]:
        """Keys of the lake below a prefix, without the files of the history, which `history` reads."""
        keys = s3.list_keys(self.settings.lake_bucket, prefix)
        return [key for key in keys if not key.startswith(HISTORY.prefix)]

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Rows of a JSON Lines object of the lake."""
        return s3.read_json_lines(self.settings.lake_bucket, key)

    def history(self) -> list[dict[str, Any]]:
        """Rows of the history, in the order of time."""
        rows: list[dict[str, Any]] = reading.read(HISTORY.name).sort_by([("observed_at", "ascending")]).to_pylist()
        return rows

    def quarantined(self, run: str = "run", step: str = "collect") -> dict[str, str]:
        """Source -> reason of what a step of a run rejected."""
        return {row["source"]: row["reason"] for row in self.rows(f"quarantine/dockerhub/{run}/{step}.jsonl")}

    def items(self, name: str = "localstack") -> dict[str, dict[str, Any]]:
        """Sort key -> item of one repository, as plain Python."""
        pk = f"#user#localstack#name#{name}#namespace#localstack"
        found = client("dynamodb").query(
            TableName=self.settings.dockerhub_table,
            KeyConditionExpression="PK = :pk",
            ExpressionAttributeValues={":pk": {"S": pk}},
            ConsistentRead=True,
        )["Items"]
        items = [{column: plain(value) for column, value in item.items()} for item in found]
        return {item["SK"]: item for item in items}

    def shown(self, name: str = "localstack") -> dict[str, Any]:
        """What the items of a repository say, without when and how often they were written.

        `latest` is the push that the marker points at; only its months are those of now.
        """
        items = self.items(name)
        latest = items["#latest_version"]["last_updated"]
        pushes = {
            sort_key.removeprefix("#timestamp#"): (item["star_count"], item["pull_count"], item["last_updated"])
            for sort_key, item in items.items()
            if sort_key.startswith("#timestamp#")
        }
        months = items[f"#timestamp#{latest}"]["aggregated_metrics_by_year_month"]
        return {"latest": latest, "pushes": pushes, "months": months}


WORKED_RESULT = {
    "latest": "2023-10-30T15:43:16Z",
    "pushes": {
        "2023-09-14T15:00:00Z": (198, 178_900_000, "2023-09-14T15:00:00Z"),
        "2023-09-15T15:05:50Z": (198, 179_000_000, "2023-09-15T15:05:50Z"),
        "2023-09-15T15:43:16Z": (201, 180_000_050, "2023-09-15T15:43:16Z"),
        "2023-10-30T15:43:16Z": (230, 185_000_000, "2023-10-30T15:43:16Z"),
    },
    "months": WORKED_MONTHS,
}
"""`shown()` of the worked example."""


@pytest.fixture(scope="session")
def dockerhub_settings(embedded_server: Settings) -> dict[str, Any]:
    """Settings of an account with all stacks, deployed once: that takes longer than most tests."""
    number = f"{random.SystemRandom().randrange(10**12):012}"
    values: dict[str, Any] = {
        "target": "embedded",
        "environment": "test",
        "home": embedded_server.home,
        "aws_port": embedded_server.aws_port,
        "aws_account_id": number,
        "lake_bucket": f"lake-{number}",
        "landing_bucket": f"landing-{number}",
    }
    deploy(Settings(_env_file=None, **values))
    return values


@pytest.fixture
def dockerhub_deployed(dockerhub_settings: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of that account, those of `load_settings()` until the test ends; nothing is in it."""
    settings = use_settings(monkeypatch, **dockerhub_settings)
    empty(settings)
    return settings


def empty(settings: Settings) -> None:
    """Empty the lake, the queue and the table, and restore the notifications of the bucket."""
    bucket, table = settings.lake_bucket, settings.dockerhub_table
    for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket):
        found: Any = [{"Key": each["Key"]} for each in page.get("Contents", [])]
        if found:
            client("s3").delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
    client("glue").delete_table(DatabaseName=settings.glue_database, Name=HISTORY.name)
    definitions.create_missing(settings, [HISTORY])
    for items in client("dynamodb").get_paginator("scan").paginate(TableName=table):
        requests: Any = [{"DeleteRequest": {"Key": {"PK": each["PK"], "SK": each["SK"]}}} for each in items["Items"]]
        for start in range(0, len(requests), 25):
            client("dynamodb").batch_write_item(RequestItems={table: requests[start : start + 25]})
    name = settings.dockerhub_queue
    url = sqs.queue_url(name)
    topic = client("sns").create_topic(Name=name)["TopicArn"]
    rules: Any = [{"Name": "prefix", "Value": "raw/dockerhub/"}, {"Name": "suffix", "Value": ".json"}]
    client("s3").put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "TopicConfigurations": [
                {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}
            ]
        },
    )
    # Last, since a new notification announces itself with s3:TestEvent.
    client("sqs").purge_queue(QueueUrl=url)


@pytest.fixture
def account(dockerhub_deployed: Settings) -> DockerHubAccount:
    """The account, empty."""
    return DockerHubAccount(dockerhub_deployed)


@pytest.fixture
def account_faults(account: DockerHubAccount) -> Iterator[FaultInjection]:
    """Faults and request counts of the account."""
    assert account.settings.endpoint_url
    injection = FaultInjection(account.settings.endpoint_url, account.settings.aws_account_id)
    yield injection
    injection.clear()


@pytest.fixture
def configure(account: DockerHubAccount, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Change settings of this process: `configure(dockerhub_url=hub.url)`."""

    def change(**values: object) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"SLUICE_{name.upper()}", str(value))
        load_settings.cache_clear()
        return load_settings()

    return change
