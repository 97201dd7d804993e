"""Dead letters of a pipeline: list them with their errors, and redrive them to the work queues."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sluice.aws import s3, sqs
from sluice.aws.sessions import ResourceMissing
from sluice.aws.threads import in_parallel
from sluice.core.notifications import parse_notification
from sluice.core.pipeline import Explanation, Pipeline
from sluice.core.quarantine import RejectedRecord, printable
from sluice.core.run import utc_now
from sluice.core.scratch import scratch_folder
from sluice.errors import TerminalError
from sluice.monitoring.pipelines import pipelines
from sluice.monitoring.runs import Failure, read_runs
from sluice.settings import Settings

log = logging.getLogger(__name__)

BODY_SHOWN_CHARACTERS = 200
HEAD_BYTES = 4096
"""Bytes of an object that are read to find out why it cannot be processed."""


class NoDeadLetters(TerminalError):
    """The pipeline does not exist, or has no queue."""


@dataclass(frozen=True)
class Letter:
    """A dead letter and its diagnosis.

    Attributes:
        queue: the dead-letter queue.
        message_id: its id there.
        first_sent_at: when it was first sent to the work queue (UTC).
        receive_count: how often it was received, including listings.
        about: the objects that it names, or its record.
        exists: whether all objects that it names exist; None if it names none.
        reason: why it failed; "" if unknown.
    """

    queue: str
    message_id: str
    first_sent_at: datetime
    receive_count: int
    about: str
    exists: bool | None
    reason: str


def list_letters(settings: Settings, name: str, max_messages: int) -> list[Letter]:
    """The dead letters of a pipeline, the oldest of each queue first; they stay in their queues.

    Args:
        settings: the settings of this process.
        name: the pipeline.
        max_messages: maximum number of each queue.

    Raises:
        NoDeadLetters: the pipeline does not exist, or has no queue.
        ResourceMissing: a dead-letter queue does not exist.
    """
    pipeline = find_pipeline(settings, name)
    failures = _failures(settings)
    found: list[Letter] = []
    for dag in pipeline.dags:
        dag_failures = [each for each in failures if each.dag_id == dag.dag_id]
        for queue in dag.queues:
            if not sum(sqs.queue_counts(queue + sqs.DEAD_LETTERS)):
                continue
            letters = sqs.look_at_dead_letters(sqs.queue_url(queue + sqs.DEAD_LETTERS), max_messages)
            explanation = pipeline.explanations.get(queue, Explanation())
            found += in_parallel(partial(_describe, explanation, queue, dag_failures), letters)
    return found


def log_letters(settings: Settings, name: str, max_messages: int) -> dict[str, int]:
    """Log the result of `list_letters`; returns dead-letter queue -> number of listed messages."""
    found = list_letters(settings, name, max_messages)
    for each in found:
        log.info("%s in %s: %s. Reason: %s", each.message_id, each.queue, each.about, each.reason or "unknown")
    return dict(Counter(each.queue for each in found))


def redrive(settings: Settings, name: str, max_messages: int, *, dry_run: bool) -> dict[str, dict[str, int]]:
    """Send the dead letters of a pipeline back to its work queues, for its next run.

    Args:
        settings: the settings of this process.
        name: the pipeline.
        max_messages: maximum number of each queue.
        dry_run: only count.

    Returns:
        Work queue -> `waiting` (dead letters before), `redriven` and `refused` (by SQS: they stay dead letters).

    Raises:
        NoDeadLetters: the pipeline does not exist, or has no queue.
        ResourceMissing: a queue does not exist.
    """
    done: dict[str, dict[str, int]] = {}
    for queue in find_pipeline(settings, name).queues:
        waiting = sum(sqs.queue_counts(queue + sqs.DEAD_LETTERS))
        moved, refused = 0, 0
        if waiting and not dry_run:
            source_url, target_url = sqs.queue_url(queue + sqs.DEAD_LETTERS), sqs.queue_url(queue)
            moved, refused = sqs.redrive(source_url, target_url, max_messages)
        done[queue] = {"waiting": waiting, "redriven": moved, "refused": refused}
        log.info("%s: %s%s", queue, done[queue], ", a dry run" if dry_run else "")
    return done


def find_pipeline(settings: Settings, name: str) -> Pipeline:
    """The pipeline of that name.

    Raises:
        NoDeadLetters: it does not exist, or has no queue.
    """
    having = {pipeline.name: pipeline for pipeline in pipelines(settings) if pipeline.queues}
    if name not in having:
        raise NoDeadLetters(f"{name!r} is not a pipeline with a queue; those are {', '.join(having)}")
    return having[name]


def _failures(settings: Settings) -> tuple[Failure, ...]:
    try:
        return read_runs(settings.runs_table, utc_now()).failures
    except ResourceMissing:
        return ()


def _describe(explanation: Explanation, queue: str, failures: list[Failure], letter: sqs.DeadLetter) -> Letter:
    exists: bool | None = None
    about = letter.body[:BODY_SHOWN_CHARACTERS]
    try:
        if explanation.about:
            about = explanation.about(letter.body, letter.sent_at_ms)
        else:
            about, exists = _objects_of(letter.body)
        reason = "an object was deleted" if exists is False else _last_failure(failures)
        if exists and explanation.unreadable:
            reason = _why_unreadable(letter.body, explanation.unreadable) or reason
    except RejectedRecord as rejected:
        reason = f"{rejected.reason}: {rejected.detail}"
    sent_at = datetime.fromtimestamp(letter.sent_at_ms / 1000, UTC)
    known = (_one_line(about), exists, _one_line(reason))
    return Letter(queue + sqs.DEAD_LETTERS, letter.message_id, sent_at, letter.receive_count, *known)


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in printable(text))


def _objects_of(body: str) -> tuple[str, bool | None]:
    """The objects of a notification with their current state, and whether all exist."""
    created = parse_notification(body)
    found = [s3.find_object(each.bucket, each.key) for each in created]
    lines = [
        f"s3://{each.bucket}/{each.key}"
        + (f", {now.size_bytes} bytes of {now.last_modified:%Y-%m-%dT%H:%M:%SZ}" if now else ", deleted")
        for each, now in zip(created, found, strict=True)
    ]
    return "; ".join(lines) or "s3:TestEvent", all(found) if found else None


def _why_unreadable(body: str, unreadable: Callable[[Path], str]) -> str:
    """Why an object of a notification cannot be read, if its first bytes show it; else ""."""
    for each in parse_notification(body):
        with scratch_folder("dead-letters") as folder:
            path = folder / "head"
            path.write_bytes(s3.read_head(each.bucket, each.key, HEAD_BYTES))
            if why := unreadable(path):
                return why
    return ""


def _last_failure(failures: list[Failure]) -> str:
    """The error of the last failed run of its Dag; "" if none has failed since the last success."""
    if not failures:
        return ""
    last = max(failures, key=lambda each: each.at)
    return f"{last.dag_id}.{last.task_id} failed at {last.at:%Y-%m-%dT%H:%M:%SZ}: {last.message}"
