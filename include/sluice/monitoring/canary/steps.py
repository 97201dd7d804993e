"""Functions of the Dag `platform_canary`."""

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
"""Time after a canary during which `clean_up_late` removes late records."""


class CanaryFailed(TerminalError):
    """A pipeline did not publish the canary's record, or another value; the message names each."""


def prepare(run_id: str, clock: Callable[[], datetime] = utc_now) -> dict[str, dict[str, str]]:
    """Remove records of earlier canaries, and prepare those of this one.

    Returns:
        The records to send, by pipeline (`records.records`), with the addresses of queue and topics for `modules`.

    Raises:
        ResourceMissing: nothing is deployed.
    """
    settings, now = load_settings(), clock()
    # Before the first write: after a crash of this run, the next one reads since when records may exist.
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
    """Check that the pipeline can publish the record before it is sent.

    Raises:
        PriorityListError: there is no priority list, without which no partner's file is published.
    """
    if pipeline == "accommodations":
        accommodations_storage.read_lists(load_settings().accommodations_priority_table)


def put_partner_file(sent: Mapping[str, str]) -> str:
    """Upload the partner's file; returns the key of its future item in the ledger."""
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
    """Compare published with sent records, record the results, and send the latencies as metrics.

    Args:
        run_id: the run.
        sent: result of `prepare`; None if it failed.
        observed: observed state of each pipeline.
        clock: returns the time (UTC).

    Returns:
        Pipeline -> latency in seconds.

    Raises:
        CanaryFailed: naming each pipeline that failed, with what to do.
    """
    if sent is None:
        raise CanaryFailed("no record was sent: task prepare failed, see its log")
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
    """Delete the partner's file, so that later runs of accommodations_consolidate cannot publish it."""
    s3.delete_objects(load_settings().landing_bucket, [PARTNER_FILE])


def clean_up(run_id: str, observed: Mapping[str, Observed], clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Remove all records of canaries, also those of earlier ones that were killed.

    If a pipeline may still publish its record, the time of the first canary stays recorded for the next canary and
    `clean_up_late`.

    Args:
        run_id: the run.
        observed: observed state of each pipeline.
        clock: returns the time (UTC).

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
    """Remove records that pipelines published after the cleanup of their canary, until `LATE` after its start.

    Args:
        run_id: the run of platform_maintain.
        clock: returns the time (UTC).

    Returns:
        Pipeline -> number of records; {} if none can exist, or a canary may be running.

    Raises:
        TableBusy: see `sluice.aws.tables.commits`.
    """
    settings, now = load_settings(), clock()
    found = state.find_open_canary(settings.runs_table)
    # The Dag waits for events twice.
    if not found or now - found.seen_at < timedelta(hours=1, seconds=2 * settings.canary_timeout_seconds):
        return {}
    removed = cleanup.clean_up(settings, {"dag": "platform_maintain", "run": run_id}, found.since, now)
    if now - found.seen_at > LATE:
        state.close_canary(settings.runs_table, found.seen_at)
    return removed


def withdrawal() -> dict[str, list[str]]:
    """`conf` of the run of accommodations_consolidate that removes the canary from the catalogue."""
    return {"withdraw": [NAME]}
