"""Tell people: one message to the topic when something begins, again while it lasts, and when it is over."""

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
"""SNS takes a subject of fewer than a hundred characters of ASCII, in one line (API reference, Publish)."""

CLAIM_DEAD_AFTER = timedelta(minutes=1)
"""Who has not sent a message in this time after saying that he would is dead."""


def announce(settings: Settings, problem: Problem, now: datetime) -> bool:
    """Send the message of a problem, unless that was done and it is too early to say it again.

    Of several who announce the same thing at once, one sends. Where one is killed while it sends, the message is sent
    again a minute later: rather twice than never.

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
        settle_alert(settings.runs_table, problem.key, sent=sent)
    return True


def announce_end(settings: Settings, key: str, alert: Alert, now: datetime) -> None:
    """Say that what was announced is over, and forget it."""
    if alert.sent:
        subject = subject_of(settings, f"over: {alert.subject.partition('] ')[2]}")
        body = f"It began to be announced at {at_text(alert.opened_at)} and was no longer so at {at_text(now)}.\n"
        publish(settings, subject, f"{subject}\n\n{body}")
    dynamodb.write(dynamodb.Delete(settings.runs_table, runs.item_key("alert", key)))


def claim_alert(
    table: str, key: str, subject: str, at: datetime, *, repeat_after: timedelta, dead_after: timedelta
) -> bool:
    """Take it on oneself to announce something; of several who see it, one gets it.

    Args:
        table: the DynamoDB table.
        key: what it is about.
        subject: of the message.
        at: the time (UTC).
        repeat_after: an alert that was sent is due again after this.
        dead_after: who claimed it and has not sent it in this time is dead.

    Returns:
        Whether it is to be sent now.
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


def settle_alert(table: str, key: str, *, sent: bool) -> None:
    """Note that a claimed alert was sent, or give it back where that failed, so that the next one tries."""
    update, values = ("SET sent = :yes", {":yes": True}) if sent else ("REMOVE announced_at", {})
    runs.update_item(table, "alert", key, update, "sent = :no", values | {":no": False})


def subject_of(settings: Settings, title: str) -> str:
    """`[sluice-dev] dockerhub_pull is stale`, as SNS takes it."""
    text = re.sub(r"[^ -~]+", " ", f"[{settings.resource_prefix}] {title}")
    return text if len(text) < SUBJECT_MAX_CHARACTERS else text[: SUBJECT_MAX_CHARACTERS - 4] + "..."


def body_of(settings: Settings, problem: Problem, now: datetime) -> str:
    """The message: which Dag, which task, what, where to look, how to run it again."""
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
        f" This is said again every {settings.alert_repeat_hours} hours while it lasts.\n"
    )


def publish(settings: Settings, subject: str, body: str) -> None:
    """Publish one message to the topic of alerts."""
    hasty_client("sns").publish(TopicArn=topic_arn(settings.alerts_topic), Subject=subject, Message=body)
    log.info("announced: %s", subject)
