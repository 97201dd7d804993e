"""One function a task: what `modules_diagnostics` calls. Each can be run again and leaves the same."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sluice import lake
from sluice.aws import s3, sns, sqs
from sluice.aws.threads import THREADS, in_parallel
from sluice.core.quality.gate import run_gate
from sluice.core.quarantine import RejectedRecord, Rejection, write_quarantine
from sluice.core.staging import publish_once
from sluice.core.tally import Tally
from sluice.errors import TerminalError
from sluice.pipelines.modules import PIPELINE, expectations, storage
from sluice.pipelines.modules.records import MessageKey, ReceivedDiagnostic, parse_diagnostic, parse_message
from sluice.pipelines.modules.transform import (
    RULE_VERSION,
    Diagnostic,
    Due,
    Judgement,
    Verdict,
    find_due,
    judge,
    publication,
)
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)

Record = TypeVar("Record")

LONG_POLL_SECONDS = 1
HOLD_SECONDS = 30
"""How long a diagnostic is held back whose messages are not all in hand."""

GATE = f"{PIPELINE}/rates"


class RatesOutdated(TerminalError):
    """Another run judged the same diagnostics meanwhile."""


# modules_diagnostics: collect -> store -> compute_rates -> check_rates -> publish_rates


def utc_now() -> datetime:
    """The time of day, for what is written; never for which data is read."""
    return datetime.now(UTC)


def collect(run: str, *, rebuild: bool = False) -> dict[str, int]:
    """Drain both queues and stage what they hold; all messages stay in their queues.

    A diagnostic is judged by the messages that were queued before it. So messages are drained first; only when none
    is left behind (by the limits of a drain) and none is in flight (of a run that crashed, until its visibility timeout
    ends) are diagnostics drained, and then the messages that came meanwhile, until a long poll finds no more.

    Args:
        run: the run as a part of a key.
        rebuild: the run has something to do also where nothing waits.

    Returns:
        `records_in`, `messages` (distinct), `diagnostics` (distinct), `duplicates`, `quarantined`
        and `is_drained` (both queues are empty now); an empty dict when nothing waited that can be used now.

    Raises:
        ResourceMissing: nothing is deployed.
    """
    settings = load_settings()
    messages, diagnostics, is_drained = _drain(settings)
    if not messages and not diagnostics and not rebuild:
        return {}
    queues = (settings.recv_message_queue, settings.weekly_diagnostic_queue)
    found, rejections = _parse(messages, queues[0], lambda message: parse_message(message.body))
    reported, more = _parse(diagnostics, queues[1], lambda message: parse_diagnostic(message.body, message.sent_at_ms))
    rejections += more
    distinct = list(dict.fromkeys(message for _, message in found))
    latest = _latest_versions(reported)
    _stage(run, "messages", [message._asdict() for message in distinct])
    _stage(
        run,
        "diagnostics",
        [
            diagnostic._asdict() | {"source": _address(queues[1], message), "record": message.body}
            for message, diagnostic in latest
        ],
    )
    _stage(run, "message_handles", [{"receipt_handle": each.receipt_handle} for each in messages])
    _stage(run, "diagnostic_handles", [{"receipt_handle": each.receipt_handle} for each in diagnostics])
    write_quarantine(settings.lake_bucket, PIPELINE, run, "collect", rejections)
    for reason, records in Counter(each.reason for each in rejections).items():
        log.warning("%d records quarantined as %s", records, reason)
    counts = {
        "records_in": len(messages) + len(diagnostics),
        "messages": len(distinct),
        "diagnostics": len(latest),
        "duplicates": len(found) - len(distinct) + len(reported) - len(latest),
        "quarantined": len(rejections),
        "is_drained": is_drained,
    }
    log.info("collected %s", counts)
    return counts


def _drain(settings: Settings) -> tuple[list[sqs.Message], list[sqs.Message], bool]:
    """Messages, the diagnostics whose messages are all stored or among them, and whether both queues are empty now."""
    limit = settings.modules_max_messages
    waiting, in_flight = sqs.queue_counts(settings.recv_message_queue)
    reported, _ = sqs.queue_counts(settings.weekly_diagnostic_queue)
    messages_url = sqs.queue_url(settings.recv_message_queue)
    messages, is_empty = sqs.Drained([], is_empty=True)
    if waiting:
        messages, is_empty = sqs.drain(messages_url, limit, LONG_POLL_SECONDS, receivers=THREADS)
    if not reported:
        return messages, [], is_empty
    # Looked at before any diagnostic is received: each receive brings it nearer to the dead letters.
    if in_flight or not is_empty:
        left = "more messages wait before them" if not is_empty else f"{in_flight} messages are in flight"
        log.info("%d diagnostics wait: %s", reported, left)
        return messages, [], False
    diagnostics_url = sqs.queue_url(settings.weekly_diagnostic_queue)
    diagnostics, no_diagnostic_left = sqs.drain(diagnostics_url, limit, LONG_POLL_SECONDS, receivers=THREADS)
    if diagnostics:
        room = limit - len(messages)
        more, is_empty = sqs.drain(messages_url, room, LONG_POLL_SECONDS, receivers=THREADS, until_empty=True)
        messages += more
        if not is_empty or sqs.queue_counts(settings.recv_message_queue)[1] > len(messages):
            log.info("%d diagnostics held back: not all messages before them are in hand", len(diagnostics))
            sqs.hold_back(diagnostics_url, [each.receipt_handle for each in diagnostics], HOLD_SECONDS)
            return messages, [], False
    return messages, diagnostics, is_empty and no_diagnostic_left


def _parse(
    messages: Sequence[sqs.Message], queue: str, parse: Callable[[sqs.Message], Record]
) -> tuple[list[tuple[sqs.Message, Record]], list[Rejection]]:
    found: list[tuple[sqs.Message, Record]] = []
    rejections: list[Rejection] = []
    for message in messages:
        try:
            found.append((message, parse(message)))
        except RejectedRecord as rejected:
            rejections.append(Rejection(_address(queue, message), rejected.reason, message.body, rejected.detail))
    return found, rejections


def _address(queue: str, message: sqs.Message) -> str:
    return f"sqs://{queue}/{message.message_id}"


def _latest_versions(
    reported: Iterable[tuple[sqs.Message, ReceivedDiagnostic]],
) -> list[tuple[sqs.Message, ReceivedDiagnostic]]:
    """Of each (module, timestamp) the diagnostic of the greatest version."""
    latest: dict[tuple[str, int], tuple[sqs.Message, ReceivedDiagnostic]] = {}
    for message, diagnostic in reported:
        key = (diagnostic.module_id, diagnostic.timestamp)
        if key not in latest or latest[key][1].version < diagnostic.version:
            latest[key] = (message, diagnostic)
    return list(latest.values())


def _stage(run: str, name: str, rows: Iterable[dict[str, Any]]) -> None:
    s3.write_json_lines(load_settings().lake_bucket, lake.staging_key(PIPELINE, run, f"{name}.jsonl"), rows)


def _staged(run: str, name: str) -> list[dict[str, Any]]:
    return s3.read_json_lines(load_settings().lake_bucket, lake.staging_key(PIPELINE, run, f"{name}.jsonl"))


def store(run: str) -> None:
    """Write the messages and the diagnostics of the batch, then delete the messages, which are durable now.

    The diagnostics stay in their queue until their rates are published.

    Raises:
        ItemsRefused: DynamoDB is throttled for long; everything stays in the queues.
    """
    settings = load_settings()
    storage.write_messages(settings.modules_message_table, [MessageKey(**row) for row in _staged(run, "messages")])
    _delete(settings.recv_message_queue, _staged(run, "message_handles"))
    in_parallel(
        lambda row: storage.write_diagnostic(
            settings.modules_diagnostic_table,
            ReceivedDiagnostic(**{name: row[name] for name in ReceivedDiagnostic._fields}),
        ),
        _staged(run, "diagnostics"),
    )


def _delete(queue: str, rows: Sequence[dict[str, Any]]) -> None:
    handles = [row["receipt_handle"] for row in rows]
    if handles:
        sqs.delete(sqs.queue_url(queue), handles)


def compute_rates(run: str, *, rebuild: bool = False) -> dict[str, int]:
    """Judge what is due of every module that the batch has a diagnostic of, and stage the verdicts.

    A diagnostic of the batch that is not due was judged before: it is a duplicate, or a newer one took its place.

    Args:
        run: the run as a part of a key.
        rebuild: judge again what an older version of the rule judged, of all modules; scans the table of diagnostics.

    Returns:
        How many there are of each outcome: `published`, `rejected`, `unchanged`, `duplicate`.
    """
    settings = load_settings()
    batch = {(row["module_id"], row["timestamp"]): row for row in _staged(run, "diagnostics")}
    modules = {module_id for module_id, _ in batch}
    if rebuild:
        known = storage.read_all_diagnostics(settings.modules_diagnostic_table)
        modules |= {each.module_id for each in known if each.judged and each.judged.rule_version < RULE_VERSION}
    rows: list[dict[str, Any]] = []
    for verdict in (
        each
        for some in in_parallel(lambda one: _judge_module(settings, one, rebuild), sorted(modules))
        for each in some
    ):
        diagnostic = verdict.due.diagnostic
        received = batch.pop((diagnostic.module_id, diagnostic.timestamp), None)
        rows.append(_verdict_row(settings, verdict, received))
    rows += [{"outcome": "duplicate", "in_batch": True, "module_id": each[0], "timestamp": each[1]} for each in batch]
    _stage(run, "verdicts", rows)
    outcomes = Counter(row["outcome"] for row in rows)
    log.info("%d modules: %s", len(modules), dict(outcomes))
    return dict(outcomes)


def _judge_module(settings: Settings, module_id: str, rebuild: bool) -> list[Verdict]:
    verdicts: list[Verdict] = []
    known = storage.read_diagnostics(settings.modules_diagnostic_table, module_id)
    for due in find_due(known, rebuild=rebuild):
        after, before = due.reset, 0
        if verdicts and verdicts[-1].judgement.reset == due.reset:
            # Counted on from the diagnostic before it: a module that was long silent costs its messages once.
            after, before = verdicts[-1].due.diagnostic.timestamp, verdicts[-1].judgement.received
        until = due.diagnostic.timestamp
        received = before + storage.count_messages(settings.modules_message_table, module_id, after, until)
        verdicts.append(judge(due, received))
    return verdicts


def _verdict_row(settings: Settings, verdict: Verdict, received: dict[str, Any] | None) -> dict[str, Any]:
    diagnostic = verdict.due.diagnostic
    row = {
        "outcome": ("rejected" if verdict.reason else "published") if verdict.is_news else "unchanged",
        "in_batch": received is not None,
        "module_id": diagnostic.module_id,
        "timestamp": diagnostic.timestamp,
        "judged": diagnostic.judged._asdict() if diagnostic.judged else None,
        "judgement": verdict.judgement._asdict(),
    }
    if row["outcome"] == "rejected":
        if received is None:
            record = json.dumps(
                {
                    "moduleId": diagnostic.module_id,
                    "timestamp": diagnostic.timestamp,
                    "attempts": diagnostic.attempts,
                }
            )
            address = f"dynamodb://{settings.modules_diagnostic_table}/{diagnostic.module_id}/{diagnostic.timestamp}"
            received = {"source": address, "record": record}
        rejection = Rejection(received["source"], str(verdict.reason), received["record"], verdict.detail)
        row["rejection"] = vars(rejection)
    return row


def check_rates(run: str) -> dict[str, Any]:
    """The gate of the rates: reads staging.

    Raises:
        GateFailed: no rate of this run is published, and its diagnostics come back.
    """
    settings = load_settings()
    diagnostics = _staged(run, "diagnostics")
    rows = _staged(run, "verdicts")
    if not diagnostics and not rows:
        return {"gate": GATE, "rows": 0}
    rates = [row["judgement"]["success_rate"] for row in rows if row["outcome"] == "published"]
    measures = {
        "diagnostics": len(diagnostics),
        "accounted": sum(row["in_batch"] for row in rows),
        "rate_min": min(rates, default=None),
        "rate_max": max(rates, default=None),
    }
    return run_gate(
        GATE, run, [measures], expectations.RATE_COLUMNS, expectations.rate_expectations, settings.lake_bucket
    )


def publish_rates(run: str, collected: dict[str, int], clock: Callable[[], datetime] = utc_now) -> dict[str, Any]:
    """Publish what is new, note it with each diagnostic, and delete the diagnostics from their queue last.

    Rates are rows of the table first, as a rate that is noted is not looked at again. A note follows its publication: a
    run that dies between the two publishes up to ten rates again, each the same as before.

    Args:
        run: the run as a part of a key.
        collected: what `collect` returned.
        clock: tells the time (UTC) of the publication.

    Returns:
        The tally of the run, `rates`: what it published, those of earlier diagnostics included, and `snapshots`: the id
        of the table's snapshot that holds them.

    Raises:
        PublishFailed: SNS refused rates; see `sluice.aws.sns`.
        RatesOutdated: another run judged some of the diagnostics meanwhile; they come back and are judged again.
        TableBusy: see `sluice.aws.tables.commits`.
    """
    settings = load_settings()
    rows = _staged(run, "verdicts")
    handles = _staged(run, "diagnostic_handles")
    return publish_once(
        settings.lake_bucket,
        *(PIPELINE, run, "publish_rates"),
        [collected, rows, handles, _staged(run, "message_handles")],
        lambda: _publish_verdicts(settings, run, rows, handles, collected, clock()),
    )


def _publish_verdicts(
    settings: Settings,
    run: str,
    rows: Sequence[dict[str, Any]],
    handles: Sequence[dict[str, Any]],
    collected: dict[str, int],
    now: datetime,
) -> dict[str, Any]:
    rejections = [Rejection(**row["rejection"]) for row in rows if row["outcome"] == "rejected"]
    write_quarantine(settings.lake_bucket, PIPELINE, run, "publish_rates", rejections)
    outdated, snapshots = _publish(settings, run, [row for row in rows if row["outcome"] != "duplicate"], now)
    if outdated:
        raise RatesOutdated(
            f"table {settings.modules_diagnostic_table}: another run judged {len(outdated)} of {len(rows)} diagnostics"
            f" while this one did, such as {outdated[0]}; the diagnostics come back to their queue when their"
            " visibility timeout ends, and the next run judges them again"
        )
    mine = Counter(row["outcome"] for row in rows if row["in_batch"])
    tally = Tally(
        collected["records_in"],
        published=collected["messages"] + mine["published"],
        duplicates=collected["duplicates"] + mine["duplicate"] + mine["unchanged"],
        quarantined=collected["quarantined"] + mine["rejected"],
    ).checked(run)
    _delete(settings.weekly_diagnostic_queue, handles)
    return tally | {"rates": sum(row["outcome"] == "published" for row in rows), "snapshots": snapshots}


def _publish(
    settings: Settings, run: str, rows: Sequence[dict[str, Any]], now: datetime
) -> tuple[list[tuple[str, int]], dict[str, str | None]]:
    """Publish and note what no earlier try of this run did; keys of what another run judged meanwhile, snapshot ids."""
    table = settings.modules_diagnostic_table
    noted = storage.read_judgements(table, [(row["module_id"], row["timestamp"]) for row in rows])
    outdated: list[tuple[str, int]] = []
    silent: list[Verdict] = []
    news: list[Verdict] = []
    for row in rows:
        verdict = _verdict(row)
        diagnostic = verdict.due.diagnostic
        key = (diagnostic.module_id, diagnostic.timestamp)
        if noted.get(key) == verdict.judgement:
            continue
        if noted.get(key) != diagnostic.judged:
            outdated.append(key)
        else:
            (news if row["outcome"] == "published" else silent).append(verdict)
    snapshots = {storage.RATES.name: storage.append_rates(run, now, news).snapshot_id} if news else {}
    arn = sns.topic_arn(settings.success_rate_topic) if news else ""
    batches = [news[start : start + sns.BATCH_SIZE] for start in range(0, len(news), sns.BATCH_SIZE)]
    found = in_parallel(lambda batch: _publish_batch(table, arn, batch), batches)
    found += in_parallel(lambda verdict: _note(table, [verdict]), silent)
    return outdated + [key for some in found for key in some], snapshots


def _verdict(row: dict[str, Any]) -> Verdict:
    judged = Judgement(**row["judged"]) if row["judged"] else None
    judgement = Judgement(**row["judgement"])
    diagnostic = Diagnostic(row["module_id"], row["timestamp"], judgement.attempts, judged)
    return Verdict(Due(diagnostic, judgement.reset), judgement)


def _publish_batch(table: str, arn: str, batch: Sequence[Verdict]) -> list[tuple[str, int]]:
    bodies = []
    for verdict in batch:
        rate = verdict.judgement.success_rate
        assert rate is not None
        bodies.append(publication(verdict.due.diagnostic.module_id, verdict.due.diagnostic.timestamp, rate))
    sns.publish_batch(arn, bodies)
    outdated = _note(table, batch)
    for key in outdated:
        # Two runs published, and nobody knows which rate came last: it is due again.
        storage.forget_judgement(table, *key)
    return outdated


def _note(table: str, verdicts: Iterable[Verdict]) -> list[tuple[str, int]]:
    return [
        (verdict.due.diagnostic.module_id, verdict.due.diagnostic.timestamp)
        for verdict in verdicts
        if storage.write_judgement(table, verdict.due, verdict.judgement) != verdict.judgement
    ]
