"""Monitoring in an account, as its tests see it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from sluice.aws import sqs
from sluice.aws.sessions import client
from sluice.monitoring import runs, steps
from sluice.monitoring.pipelines import pipelines
from sluice.monitoring.runs import Runs
from sluice.settings import Settings

DAYS = count()
WEB_URL = "http://airflow.test"


class Watch:
    """An account with all stacks, and a mailbox that receives every alert; without runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.table = settings.runs_table
        self._forget_everything()
        self.inbox = client("sqs").create_queue(QueueName="inbox")["QueueUrl"]
        queue_arn = f"arn:aws:sqs:{settings.aws_region}:{settings.aws_account_id}:inbox"
        client("sns").subscribe(
            TopicArn=self.topic_arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "false"}
        )
        queues = [queue for pipeline in pipelines(settings) for dag in pipeline.dags for queue in dag.queues]
        for name in ("inbox", *queues, *(f"{queue}-dead-letters" for queue in queues)):
            client("sqs").purge_queue(QueueUrl=sqs.queue_url(name))
        # A day of its own, since metrics cannot be deleted, and after the table was made.
        self.now = datetime(2030, 1, 1, 12, 2, tzinfo=UTC) + timedelta(days=next(DAYS))

    @property
    def topic_arn(self) -> str:
        """ARN of the topic of alerts."""
        return f"arn:aws:sns:{self.settings.aws_region}:{self.settings.aws_account_id}:{self.settings.alerts_topic}"

    def _forget_everything(self) -> None:
        for page in client("dynamodb").get_paginator("scan").paginate(TableName=self.table):
            for item in page["Items"]:
                client("dynamodb").delete_item(TableName=self.table, Key={"kind": item["kind"], "name": item["name"]})

    def read(self) -> Runs:
        """The table of runs."""
        return runs.read_runs(self.table, self.now)

    def all_ran(self, *but: str, at: datetime | None = None) -> None:
        """Let every Dag have succeeded just now, but for some."""
        for pipeline in pipelines(self.settings):
            for dag in pipeline.dags:
                if dag.dag_id not in but:
                    self.ran(dag.dag_id, at=at)

    def ran(self, dag_id: str, *, at: datetime | None = None, is_drained: bool = True, **tally: int) -> None:
        """Let a Dag have succeeded, and emptied its queues."""
        at = at or self.now
        counts = {"records_in": 0, "published": 0, "duplicates": 0, "quarantined": 0} | tally if tally else None
        started_at = at - timedelta(seconds=5)
        runs.record_success(
            self.table, dag_id, f"run-{at:%H%M}", started_at=started_at, at=at, tally=counts, is_drained=is_drained
        )

    def look(self, run: str = "run") -> dict[str, int]:
        """One run of platform_watch."""
        steps.observe(run, WEB_URL, lambda: self.now)
        return steps.send_alerts(run, lambda: self.now)

    def mail(self) -> list[tuple[str, str]]:
        """Subject and text of every alert since the last look into the mailbox, but for those of CloudWatch."""
        return [(subject, text) for subject, text in self._received() if subject.startswith("[sluice-")]

    def alarms(self) -> list[str]:
        """Subjects of what CloudWatch sent since the last look into the mailbox."""
        return [subject for subject, _ in self._received() if not subject.startswith("[sluice-")]

    def _received(self) -> list[tuple[str, str]]:
        messages = sqs.drain(self.inbox, 100).messages
        sqs.delete(self.inbox, [message.receipt_handle for message in messages])
        found: list[dict[str, Any]] = [json.loads(message.body) for message in messages]
        return [(each["Subject"], each["Message"]) for each in found]

    def subjects(self) -> list[str]:
        """Subjects of every alert since the last look, sorted."""
        return sorted(subject for subject, _ in self.mail())

    def metric(self, name: str, **dimensions: str) -> list[float]:
        """Values of a metric in the hour around now, the oldest first."""
        answer = client("cloudwatch").get_metric_statistics(
            Namespace="Sluice",
            MetricName=name,
            Dimensions=[
                {"Name": key, "Value": value}
                for key, value in {"Environment": self.settings.environment, **dimensions}.items()
            ],
            StartTime=self.now - timedelta(minutes=30),
            EndTime=self.now + timedelta(minutes=30),
            Period=60,
            Statistics=["Maximum"],
        )
        return [each["Maximum"] for each in sorted(answer["Datapoints"], key=lambda each: each["Timestamp"])]
