"""Alerts: one message to the topic when a problem begins, again while it lasts, and when it is over."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta

from sluice.aws import dynamodb
from sluice.aws.sessions import hasty_client
from sluice.aws.sns import topic_arn
from sluice.monitoring import runs
from sluice.monitoring.problems import Problem, at_text
from sluice.monitoring.runs import Alert
from sluice.settings import Settings

log = logging.getLogger(__name__)

SUBJECT_MAX_CHARACTERS = 100
"""SNS accepts a subject of fewer than a hundred characters of ASCII, in one line (API reference, Publish)."""

CLAIM_DEAD_AFTER = timedelta(minutes=1)
"""Lease time of a claim: a sender that has not sent its message by then has crashed."""


def send_alert(settings: Settings, problem: Problem, now: datetime) -> bool:
    """Send the alert of a problem, unless it was sent already and is not due for repetition.

    Of concurrent callers exactly one sends. If it crashes while sending, the alert is sent again a minute later:
    at-least-once.

    Returns:
        Whether a message was sent.
    """
    subject = subject_of(settings, problem.title)
    repeat_after = timedelta(hours=settings.alert_repeat_hours)
    if not claim_alert(
        settings.runs_table, problem.key, subject, now, repeat_after=repeat_after, dead_after=CLAIM_DEAD_AFTER
    ):
        return False
    sent = False
    try:
        publish(settings, subject, body_of(settings, problem, now))
        sent = True
    finally:
        end_claim(settings.runs_table, problem.key, sent=sent)
    return True


def close_alert(settings: Settings, key: str, alert: Alert, now: datetime) -> None:
    """Send a message that an alert is over, and delete the alert."""
    if alert.sent:
        subject = subject_of(settings, f"over: {alert.subject.partition('] ')[2]}")
        body = f"The first alert was sent at {at_text(alert.opened_at)}; the problem was over at {at_text(now)}.\n"
        publish(settings, subject, f"{subject}\n\n{body}")
    dynamodb.write(dynamodb.Delete(settings.runs_table, runs.item_key("alert", key)))


def claim_alert(
    table: str, key: str, subject: str, at: datetime, *, repeat_after: timedelta, dead_after: timedelta
) -> bool:
    """Acquire the lease to send an alert; of concurrent callers exactly one succeeds.

    Args:
        table: the DynamoDB table.
        key: key of the problem.
        subject: of the message.
        at: the time (UTC).
        repeat_after: time after which a sent alert is due again.
        dead_after: time after which an unsent claim expires.

    Returns:
        Whether the caller must send it now.
    """
    return runs.update_item(
        table,
        *("alert", key),
        "SET subject = :subject, announced_at = :at, opened_at = if_not_exists(opened_at, :at), sent = :no",
        "attribute_not_exists(announced_at) OR (sent = :yes AND announced_at <= :repeat)"
        " OR (sent = :no AND announced_at <= :dead)",
        {
            ":subject": subject,
            ":at": runs.time_text(at),
            ":yes": True,
            ":no": False,
            ":repeat": runs.time_text(at - repeat_after),
            ":dead": runs.time_text(at - dead_after),
        },
    )


def end_claim(table: str, key: str, *, sent: bool) -> None:
    """Record that a claimed alert was sent, or release the claim after a failure, so that the next caller tries
    again."""
    update, values = ("SET sent = :yes", {":yes": True}) if sent else ("REMOVE announced_at", {})
    runs.update_item(table, "alert", key, update, "sent = :no", values | {":no": False})


def subject_of(settings: Settings, title: str) -> str:
    """Subject such as `[sluice-dev] dockerhub_pull is stale`, within the limits of SNS."""
    text = re.sub(r"[^ -~]+", " ", f"[{settings.resource_prefix}] {title}")
    return text if len(text) < SUBJECT_MAX_CHARACTERS else text[: SUBJECT_MAX_CHARACTERS - 4] + "..."


def body_of(settings: Settings, problem: Problem, now: datetime) -> str:
    """Text of the message: Dag, task, problem, where to look, and how to run it again."""
    lines = {
        "Pipeline": problem.pipeline,
        "Dag": problem.dag_id,
        "Task": problem.task_id,
        "Run": problem.run_id,
        "What": problem.what,
        "Where to look": problem.where,
        "Run again": problem.again,
        "Seen": at_text(now),
    }
    text = "".join(f"{name + ':':<15}{value}\n" for name, value in lines.items() if value)
    return (
        f"{problem.title} ({settings.resource_prefix})\n\n{text}\nAll pipelines: sluice status."
        f" This alert is repeated every {settings.alert_repeat_hours} hours while the problem lasts.\n"
    )


def publish(settings: Settings, subject: str, body: str) -> None:
    """Publish one message to the topic of alerts."""
    hasty_client("sns").publish(TopicArn=topic_arn(settings.alerts_topic), Subject=subject, Message=body)
    log.info("alert sent: %s", subject)
