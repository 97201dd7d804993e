"""Tell people: one message to the topic when something begins, again while it lasts, and when it is over."""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta

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
    if not runs.claim_alert(
        settings.runs_table, problem.key, subject, now, repeat_after=repeat_after, dead_after=CLAIM_DEAD_AFTER
    ):
        return False
    sent = False
    try:
        publish(settings, subject, body_of(settings, problem, now))
        sent = True
    finally:
        runs.settle_alert(settings.runs_table, problem.key, sent=sent)
    return True


def announce_end(settings: Settings, key: str, alert: Alert, now: datetime) -> None:
    """Say that what was announced is over, and forget it."""
    if alert.sent:
        subject = subject_of(settings, f"over: {alert.subject.partition('] ')[2]}")
        body = f"It began to be announced at {at_text(alert.opened_at)} and was no longer so at {at_text(now)}.\n"
        publish(settings, subject, f"{subject}\n\n{body}")
    runs.forget(settings.runs_table, "alert", key)


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
