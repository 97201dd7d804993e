"""The modules pipeline in an account of its own, as its tests see it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from embedded_aws import deploy_one_stack
from sluice.aws import s3, sns, sqs
from sluice.aws.sessions import client
from sluice.aws.tables import definitions, reading
from sluice.aws.threads import in_parallel
from sluice.pipelines.modules import steps, storage
from sluice.pipelines.modules.records import MessageKey
from sluice.settings import Settings
from sluice_dev.samples.modules import Fleet, generate

Rate = tuple[str, int, float]


class World:
    """The pipeline in an account of its own: what a test does to it and sees of it."""

    def __init__(self, settings: Settings) -> None:
        client("s3").create_bucket(Bucket=settings.lake_bucket)
        deploy_one_stack(settings, "modules")
        client("glue").create_database(DatabaseInput={"Name": settings.glue_database})
        definitions.create_missing(settings, [storage.RATES])
        self.settings = settings
        self.messages_arn = sns.topic_arn(settings.recv_message_queue)
        self.diagnostics_arn = sns.topic_arn(settings.weekly_diagnostic_queue)
        self.messages_url = sqs.queue_url(settings.recv_message_queue)
        self.diagnostics_url = sqs.queue_url(settings.weekly_diagnostic_queue)
        self.inbox = client("sqs").create_queue(QueueName="inbox")["QueueUrl"]
        client("sns").subscribe(
            TopicArn=sns.topic_arn(settings.success_rate_topic),
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:{settings.aws_region}:{settings.aws_account_id}:inbox",
            Attributes={"RawMessageDelivery": "true"},
        )
        self.received: dict[str, list[str]] = {}
        self.snapshots: dict[str, str | None] = {}
        self._remember_received()

    def publish(self, arn: str, bodies: Sequence[str]) -> None:
        """Publish bodies on a topic, in their order."""
        for start in range(0, len(bodies), sns.BATCH_SIZE):
            sns.publish_batch(arn, bodies[start : start + sns.BATCH_SIZE])

    def message(self, module_id: str, *timestamps: int) -> None:
        """Let a module send messages."""
        self.publish(self.messages_arn, [json.dumps({"moduleId": module_id, "timestamp": each}) for each in timestamps])

    def diagnostic(self, module_id: str, timestamp: int, attempts: int) -> None:
        """Let a module send a diagnostic."""
        body = json.dumps({"moduleid": module_id, "timestamp": timestamp, "attempts": attempts})
        self.publish(self.diagnostics_arn, [body])

    def store_messages(self, module_id: str, timestamps: Iterable[int]) -> None:
        """Put messages into the table, as a run did before."""
        storage.write_messages(
            self.settings.modules_message_table, [MessageKey(module_id, each) for each in timestamps]
        )

    def send_fleet(self, fleet: Fleet) -> dict[tuple[str, int], float]:
        """Let a fleet send its weeks; the true rate of each diagnostic."""
        rates: dict[tuple[str, int], float] = {}
        for week in generate(fleet):
            self.publish(self.messages_arn, [each.body for each in week.messages])
            self.publish(self.diagnostics_arn, [each.body for each in week.diagnostics])
            rates |= week.rates
        return rates

    def run(self, run: str, *, rebuild: bool = False) -> dict[str, int]:
        """One run of modules_diagnostics but for its gate; its counts, or nothing when the queues were empty."""
        collected = steps.collect(run, rebuild=rebuild)
        if not collected:
            return {}
        steps.store(run)
        steps.compute_rates(run, rebuild=rebuild)
        published = steps.publish_rates(run, collected)
        snapshots = published["snapshots"]
        assert isinstance(snapshots, dict)
        self.snapshots = snapshots
        return {name: count for name, count in published.items() if isinstance(count, int)}

    def rate_rows(self) -> list[dict[str, Any]]:
        """Rows of the table of rates, in the order of their publication."""
        return reading.read(storage.RATES.name).sort_by("published_at").to_pylist()  # type: ignore[no-any-return]

    def _remember_received(self) -> None:
        """Keep the handle of every received message, also of a run that crashes."""
        receive = client("sqs").receive_message

        def remember(**asked: Any) -> Any:
            answer = receive(**asked)
            for message in answer.get("Messages", []):
                self.received.setdefault(asked["QueueUrl"], []).append(message["ReceiptHandle"])
            return answer

        client("sqs").receive_message = remember  # type: ignore[method-assign]

    def redeliver(self) -> None:
        """What SQS does when the visibility timeout of all that runs have received ends."""
        for url in (self.messages_url, self.diagnostics_url):
            sqs.hold_back(url, self.received.pop(url, []), 0)

    def unfinished(self) -> tuple[int, int]:
        """Messages and diagnostics that are not deleted, received or not."""
        names = (self.settings.recv_message_queue, self.settings.weekly_diagnostic_queue)
        messages, diagnostics = (sum(sqs.queue_counts(name)) for name in names)
        return messages, diagnostics

    def published(self) -> list[Rate]:
        """Rates that a subscriber received since the last call."""
        heard = sqs.drain(self.inbox, 100_000, wait_seconds=0).messages
        sqs.delete(self.inbox, [each.receipt_handle for each in heard])
        documents = [json.loads(each.body) for each in heard]
        assert all(list(each) == ["moduleid", "timestamp", "success_rate"] for each in documents)
        return [(each["moduleid"], each["timestamp"], each["success_rate"]) for each in documents]

    def rates(self) -> dict[tuple[str, int], float]:
        """(module, timestamp) -> rate that the table says was published."""
        return {
            (each.module_id, each.timestamp): each.judged.success_rate
            for each in storage.read_all_diagnostics(self.settings.modules_diagnostic_table)
            if each.judged and each.judged.success_rate is not None
        }

    def stored(self) -> set[tuple[str, int]]:
        """Messages in the table."""
        pages = client("dynamodb").get_paginator("scan").paginate(TableName=self.settings.modules_message_table)
        return {(item["moduleId"]["S"], int(item["timestamp"]["N"])) for page in pages for item in page["Items"]}

    def quarantined(self, run: str, step: str = "collect") -> list[dict[str, Any]]:
        """What a step of a run rejected."""
        key = f"quarantine/modules/{run}/{step}.jsonl"
        if not s3.object_exists(self.settings.lake_bucket, key):
            return []
        return s3.read_json_lines(self.settings.lake_bucket, key)


def send_raw(url: str, bodies: Sequence[str]) -> None:
    """Put bodies into a queue as raw delivery does, some at a time."""

    def send(start: int) -> None:
        entries: Any = [
            {"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies[start : start + 10])
        ]
        client("sqs").send_message_batch(QueueUrl=url, Entries=entries)

    in_parallel(send, range(0, len(bodies), 10))
