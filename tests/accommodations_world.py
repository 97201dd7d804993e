"""The accommodations pipeline in an account of its own, as its tests see it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from embedded_aws import deploy_one_stack
from queue_messages import notification, unfinished
from sluice.aws import s3, sqs
from sluice.aws.sessions import client
from sluice.aws.tables import definitions, reading
from sluice.core.run import Run
from sluice.pipelines.accommodations import catalogue, steps, storage
from sluice.pipelines.accommodations.batch import COLLECTED, Collected
from sluice.pipelines.accommodations.records import PartnerFile, by_age, usable_partners
from sluice.pipelines.accommodations.transform import Consolidated, consolidate_batch, consolidation, read_files
from sluice.settings import Settings

PRIORITY = ["A", "T", "D", "Q", "B", "C", "X", "E", "U", "P", "Q"]
TABLES = (catalogue.CANDIDATES, catalogue.CURRENT)

NAMES = ("accommodation_name", "accommodation_address", "accommodation_geocodes", "accommodation_city")


def a_record(accommodation_id: object, partner: object, name: str = "Hotel", **more: Any) -> dict[str, Any]:
    """A record of a partner."""
    data = dict.fromkeys(NAMES, "") | {"accommodation_name": name}
    return {"partner_name": partner, "accommodation_id": accommodation_id, "accommodation_data": data} | more


def json_lines(records: Iterable[Any]) -> bytes:
    """Records as a partner writes them."""
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records).encode()


def consolidate_texts(
    text: str | bytes, folder: Path, priority: Sequence[str] = PRIORITY
) -> tuple[list[str], Consolidated]:
    """Lines of the output files made from one file, and what was counted."""
    body = text if isinstance(text, bytes) else text.encode()
    return consolidate_bodies([(body, datetime(2026, 11, 21, tzinfo=UTC))], priority, [], folder)


def consolidate_bodies(
    bodies: Sequence[tuple[bytes, datetime]], priority: Sequence[str], blocked: Sequence[str], folder: Path
) -> tuple[list[str], Consolidated]:
    """Lines of the output files made from files and their times, in order, and what was counted."""
    files = [
        PartnerFile("landing", f"accommodations/{index}", "v", at, len(body)) for index, (body, at) in enumerate(bodies)
    ]
    with consolidation(folder / "work", 256) as connection:
        numbered = {}
        for number, file in enumerate(by_age(files)):
            path = folder / f"file-{number}"
            path.write_bytes(bodies[int(file.key.rpartition("/")[2])][0])
            numbered[number] = (file, path)
        read_files(connection, folder / "work", numbered)
        result = consolidate_batch(connection, usable_partners(priority, blocked), blocked, folder / "out")
    lines = b"".join(path.read_bytes() for path in result.outputs).decode().split("\n")
    return lines[:-1], result


def published_by(outputs: dict[str, bytes]) -> list[tuple[str, str]]:
    """(accommodation, partner) of every line of these output files, in order."""
    lines = [json.loads(line) for body in outputs.values() for line in body.decode().split("\n") if line]
    return [(line["accommodation_id"], line["partner_name"]) for line in lines]


class World:
    """The pipeline in an account of its own: what a test does to it and sees of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    @staticmethod
    def deploy(settings: Settings) -> None:
        """Create the infrastructure of the pipeline: template, plain buckets, and tables of the lake."""
        s3_client = client("s3")
        for bucket in (settings.lake_bucket, settings.landing_bucket):
            s3_client.create_bucket(Bucket=bucket)
            s3_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        client("glue").create_database(DatabaseInput={"Name": settings.glue_database})
        deploy_one_stack(settings, "accommodations")
        definitions.create_missing(settings, TABLES)

    def empty(self) -> None:
        """Take out what a test left, and set the priority list of the worked example."""
        settings = self.settings
        for bucket in (settings.lake_bucket, settings.landing_bucket):
            s3.delete_objects(bucket, [each.key for each in s3.list_objects(bucket, "")])
        for table, key in (
            (settings.accommodations_ledger_table, "PK"),
            (settings.accommodations_priority_table, "contentType"),
        ):
            for item in client("dynamodb").scan(TableName=table)["Items"]:
                client("dynamodb").delete_item(TableName=table, Key={key: item[key]})
        for definition in TABLES:
            client("glue").delete_table(DatabaseName=settings.glue_database, Name=definition.name)
        definitions.create_missing(settings, TABLES)
        for url in (self.queue_url, self.dead_letters_url):
            client("sqs").purge_queue(QueueUrl=url)
        self.prioritise(PRIORITY)

    @property
    def queue_url(self) -> str:
        return sqs.queue_url(self.settings.accommodations_queue)

    @property
    def dead_letters_url(self) -> str:
        return sqs.queue_url(self.settings.accommodations_queue + sqs.DEAD_LETTERS)

    def prioritise(self, names: Sequence[str]) -> None:
        """Make this the priority list."""
        table = self.settings.accommodations_priority_table
        storage.write_list(table, "PriorityList", names, storage.read_list(table, "PriorityList"))

    def block(self, names: Sequence[str]) -> None:
        """Make these the blocked partners."""
        table = self.settings.accommodations_priority_table
        storage.write_list(table, "BlockedList", names, storage.read_list(table, "BlockedList"))

    def put(self, name: str, body: bytes | Iterable[Any]) -> str:
        """Put a partner's file without a notification; returns its key."""
        key = f"accommodations/year=2026/month=11/day=21/{name}"
        content = body if isinstance(body, bytes) else json_lines(body)
        client("s3").put_object(Bucket=self.settings.landing_bucket, Key=key, Body=content)
        return key

    def event(self, *keys: str) -> str:
        """A message body as it comes from S3."""
        return notification(self.settings.landing_bucket, *keys)

    def send(self, *bodies: str) -> None:
        """Send messages to the queue."""
        for body in bodies:
            client("sqs").send_message(QueueUrl=self.queue_url, MessageBody=body)

    def drop(self, name: str, body: bytes | Iterable[Any]) -> str:
        """Upload a file as a partner; the queue is notified."""
        key = self.put(name, body)
        self.send(self.event(key))
        return key

    def consolidate(self, run: str = "run") -> dict[str, int]:
        """One run of accommodations_consolidate but for its gate; the tally, empty when there was nothing to do."""
        if not self.step("collect", run):
            return {}
        self.step("consolidate", run)
        published = self.step("publish", run)
        self.snapshots: dict[str, str | None] = published.pop("snapshots", {})
        counts: dict[str, int] = published
        return counts

    def step(self, name: str, run: str = "run") -> Any:
        """One task of accommodations_consolidate."""
        return getattr(steps, name)(run, *([self.clock] if name == "publish" else []))

    def clock(self) -> datetime:
        """A second later each time that it is asked."""
        self.now += timedelta(seconds=1)
        return self.now

    def redeliver(self, run: str = "run") -> None:
        """What SQS does when the visibility timeout of a run's messages ends."""
        Run.of("accommodations", run).load(COLLECTED, Collected).receipts.hold_back(0)

    def unfinished(self, which: str = "") -> int:
        """Messages that are not deleted, received or not; `which` is "" or `sqs.DEAD_LETTERS`."""
        return unfinished(self.settings.accommodations_queue + which)

    def keys(self, prefix: str) -> list[str]:
        """Keys of the lake below a prefix."""
        return list(s3.list_keys(self.settings.lake_bucket, prefix))

    def read(self, key: str) -> bytes:
        """An object of the lake."""
        return s3.read_object(self.settings.lake_bucket, key).body

    def outputs(self) -> dict[str, bytes]:
        """Key -> content of every output file."""
        return {key: self.read(key) for key in self.keys("curated/accommodations/")}

    def published(self) -> list[tuple[str, str]]:
        """(accommodation, partner) of every line of every output file, in order."""
        return published_by(self.outputs())

    def quarantined(self) -> list[tuple[str, str]]:
        """(source without its version, reason) of every rejected record and event."""
        rows: list[Any] = []
        for key in self.keys("quarantine/accommodations/"):
            rows += s3.read_json_lines(self.settings.lake_bucket, key)
        return sorted(
            (row["source"].rsplit("/", 1)[-1].partition("?")[0] + row["source"].partition("#")[2], row["reason"])
            for row in rows
        )

    def current(self, as_of: int | None = None) -> dict[str, tuple[str, str]]:
        """accommodation -> (partner, name) as a reader of the table sees it, now or as of a snapshot."""
        rows: list[dict[str, str]] = reading.read(catalogue.CURRENT.name, as_of=as_of).to_pylist()
        found = {
            row["accommodation_id"]: (
                row["partner_name"],
                json.loads(row["accommodation_data"]).get("accommodation_name", ""),
            )
            for row in rows
        }
        assert len(found) == len(rows), "an accommodation is there twice"
        return found
