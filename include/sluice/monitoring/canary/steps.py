"""What the Dag `platform_canary` calls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sluice.aws import kinesis, s3, sqs
from sluice.aws.sns import topic_arn
from sluice.core.run import utc_now
from sluice.errors import TerminalError
from sluice.monitoring import metrics
from sluice.monitoring.canary import cleanup, records, state
from sluice.monitoring.canary.checks import find_difference
from sluice.monitoring.canary.records import DAGS, NAME, PARTNER_FILE, Observed
from sluice.monitoring.runs import CanaryResult
from sluice.pipelines.accommodations import storage as accommodations_storage
from sluice.settings import load_settings

log = logging.getLogger(__name__)

LATE = timedelta(days=7)
"""So long after a canary `clean_up_late` looks for what was published late."""


class CanaryFailed(TerminalError):
    """A pipeline did not publish the canary's record, or not as it was sent; the message names each."""


def prepare(run_id: str, clock: Callable[[], datetime] = utc_now) -> dict[str, dict[str, str]]:
    """Remove what earlier canaries left, and decide what this one sends.

    Returns:
        What is sent, by pipeline (`records.records`), with the addresses of queue and topics for `modules`.

    Raises:
        ResourceMissing: nothing is deployed.
    """
    settings, now = load_settings(), clock()
    # Before anything is written: where this run is killed, the next one knows since when to look.
    since = state.open_canary(settings.runs_table, now)
    cleanup.clean_up(settings, {"dag": "platform_canary", "run": run_id}, since, now)
    sent = records.records(now)
    sent["modules"] |= {
        "queue_url": sqs.queue_url(settings.canary_queue),
        "message_topic": topic_arn(settings.recv_message_queue),
        "diagnostic_topic": topic_arn(settings.weekly_diagnostic_queue),
    }
    return sent


def put_event(sent: Mapping[str, str]) -> None:
    """Put the event into the stream.

    Raises:
        ResourceMissing: no such stream.
        PutFailed: see `sluice.aws.kinesis`.
    """
    kinesis.put_batch(load_settings().events_stream, [kinesis.Entry(sent["uuid"], sent["body"].encode())])


def require_ready(pipeline: str) -> None:
    """Nothing is sent to a pipeline that cannot publish it.

    Raises:
        PriorityListError: there is no priority list, without which no partner's file is published.
    """
    if pipeline == "accommodations":
        accommodations_storage.read_lists(load_settings().accommodations_priority_table)


def put_partner_file(sent: Mapping[str, str]) -> str:
    """Drop the partner's file; the key of its item in the ledger once it is published."""
    settings = load_settings()
    s3.write_object(settings.landing_bucket, PARTNER_FILE, sent["body"].encode(), "application/x-ndjson")
    file = accommodations_storage.find_file(settings.landing_bucket, PARTNER_FILE)
    if file is None:
        raise CanaryFailed(f"s3://{settings.landing_bucket}/{PARTNER_FILE} was deleted while the canary ran")
    return accommodations_storage.ledger_key(file.source)


def verify(
    run_id: str,
    sent: Mapping[str, Mapping[str, str]] | None,
    observed: Mapping[str, Observed],
    clock: Callable[[], datetime] = utc_now,
) -> dict[str, float]:
    """Compare what each pipeline published with what was sent, note the results, and send the latencies.

    Args:
        run_id: the run.
        sent: what `prepare` returned; None where it failed.
        observed: what the Dag saw of each pipeline.
        clock: tells the time (UTC).

    Returns:
        Pipeline -> latency in seconds.

    Raises:
        CanaryFailed: naming each pipeline that failed, with what to do.
    """
    if sent is None:
        raise CanaryFailed("nothing was sent: task prepare failed, and its log says why")
    settings, now = load_settings(), clock()
    latencies: dict[str, float] = {}
    failures: list[str] = []
    points = []
    for pipeline in DAGS:
        seen = observed[pipeline]
        failure = records.sentence(pipeline, seen, settings.canary_timeout_seconds)
        failure = failure or find_difference(settings, pipeline, sent[pipeline], seen.messages)
        latency = None if failure else seen.latency_seconds
        state.record_canary(settings.runs_table, pipeline, CanaryResult(run_id, now, latency, failure))
        if failure:
            failures.append(f"{pipeline}: {failure}")
        elif latency is not None:
            latencies[pipeline] = latency
            points.append(metrics.point(settings, "CanaryLatency", latency, now, Pipeline=pipeline))
    metrics.send(points)
    log.info("latencies: %s", records.summary(latencies))
    if failures:
        raise CanaryFailed(". ".join(failures))
    return latencies


def delete_partner_file() -> None:
    """Delete the partner's file: a run of accommodations_consolidate that begins after this cannot publish it."""
    s3.delete_objects(load_settings().landing_bucket, [PARTNER_FILE])


def clean_up(run_id: str, observed: Mapping[str, Observed], clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Remove all records of canaries, also those of earlier ones that were killed.

    Where a pipeline may publish its record after this, the time of the first canary stays noted, so that the next
    canary and `clean_up_late` look from there.

    Args:
        run_id: the run.
        observed: what the Dag saw of each pipeline.
        clock: tells the time (UTC).

    Returns:
        Pipeline -> number of records.

    Raises:
        TableBusy: see `sluice.aws.tables.commits`.
    """
    settings, now = load_settings(), clock()
    since = state.open_canary(settings.runs_table, now)
    removed = cleanup.clean_up(settings, {"dag": "platform_canary", "run": run_id}, since, now)
    late = [pipeline for pipeline, seen in observed.items() if seen.may_come_late]
    if late:
        log.warning("%s may publish the record later; platform_maintain removes it then", ", ".join(late))
    else:
        state.close_canary(settings.runs_table, now)
    return removed


def clean_up_late(run_id: str, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Remove what pipelines published after the cleanup of their canary, for `LATE` after it began.

    Args:
        run_id: the run of platform_maintain.
        clock: tells the time (UTC).

    Returns:
        Pipeline -> number of records; {} where nothing can be left, or a canary may be running.

    Raises:
        TableBusy: see `sluice.aws.tables.commits`.
    """
    settings, now = load_settings(), clock()
    found = state.find_open_canary(settings.runs_table)
    # Events are waited for twice.
    if not found or now - found.seen_at < timedelta(hours=1, seconds=2 * settings.canary_timeout_seconds):
        return {}
    removed = cleanup.clean_up(settings, {"dag": "platform_maintain", "run": run_id}, found.since, now)
    if now - found.seen_at > LATE:
        state.close_canary(settings.runs_table, found.seen_at)
    return removed


def withdrawal() -> dict[str, list[str]]:
    """`conf` of the run of accommodations_consolidate that takes the canary out of the catalogue."""
    return {"withdraw": [NAME]}
