"""One function a task: what `modules_diagnostics` calls. Each is idempotent."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from sluice.aws import sns, sqs
from sluice.aws.threads import in_parallel
from sluice.core.quality.gate import GateResult, run_gate
from sluice.core.quarantine import Rejection
from sluice.core.run import Run, utc_now
from sluice.core.staging import Summary, publish_once
from sluice.core.tally import Tally
from sluice.core.work_queue import Batch, Received, WorkQueue
from sluice.errors import TerminalError
from sluice.pipelines.modules import PIPELINE, expectations, storage
from sluice.pipelines.modules.batch import Collected, Outcome, StagedDiagnostic, StagedVerdict
from sluice.pipelines.modules.records import MessageKey, ReceivedDiagnostic, parse_diagnostic, parse_message
from sluice.pipelines.modules.transform import RULE_VERSION, Verdict, find_due, judge, rate_message
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)

HOLD_SECONDS = 30
"""Visibility timeout of a diagnostic whose messages were not all received."""

GATE = "rates"

COLLECTED, VERDICTS = "collected.json", "verdicts.json"


class RatesOutdated(TerminalError):
    """Another run judged the same diagnostics concurrently."""


# modules_diagnostics: collect -> store -> compute_rates -> check_rates -> publish_rates


def collect(run_id: str, *, rebuild: bool = False) -> dict[str, int]:
    """Drain both queues and stage their content; all messages stay in their queues.

    A diagnostic is judged by the messages that were queued before it. So messages are drained first. Diagnostics are
    drained only if no message remains (because of the limits of a drain) and none is in flight (of a crashed run, until
    its visibility timeout ends); then further messages are drained until a long poll returns none.

    Args:
        run_id: of the run.
        rebuild: the run has work even if no message waits.

    Returns:
        `records_in`, `messages` (distinct), `diagnostics` (distinct), `duplicates`, `quarantined`
        and `is_drained` (both queues are empty); an empty dict if no message can be processed yet.

    Raises:
        ResourceMissing: nothing is deployed.
    """
    run = Run.of(PIPELINE, run_id)
    messages, diagnostics = _receive(load_settings())
    if not messages and not diagnostics and not rebuild:
        return {}
    distinct = list(dict.fromkeys(messages.records))
    latest = _latest_versions(diagnostics.received)
    rejections = messages.rejections + diagnostics.rejections
    queue = diagnostics.receipts.queue
    staged = [StagedDiagnostic(each, sqs.address(queue, message), message.body) for message, each in latest]
    run.save(COLLECTED, Collected(messages.receipts, diagnostics.receipts, distinct, staged))
    run.quarantine("collect", rejections)
    for reason, records in Counter(each.reason for each in rejections).items():
        log.warning("%d records quarantined as %s", records, reason)
    counts = {
        "records_in": len(messages) + len(diagnostics),
        "messages": len(distinct),
        "diagnostics": len(latest),
        "duplicates": len(messages.received) - len(distinct) + len(diagnostics.received) - len(latest),
        "quarantined": len(rejections),
        "is_drained": messages.is_drained and diagnostics.is_drained,
    }
    log.info("collected %s", counts)
    return counts


def _receive(settings: Settings) -> tuple[Batch[MessageKey], Batch[ReceivedDiagnostic]]:
    """Messages, and the diagnostics whose messages are all stored or in the batch."""
    limit = settings.modules_max_messages
    message_queue = WorkQueue(settings.recv_message_queue, lambda message: [parse_message(message.body)])
    diagnostic_queue = WorkQueue(
        settings.weekly_diagnostic_queue, lambda message: [parse_diagnostic(message.body, message.sent_at_ms)]
    )
    waiting, in_flight = sqs.queue_counts(message_queue.name)
    reported, _ = sqs.queue_counts(diagnostic_queue.name)
    messages = message_queue.receive(limit) if waiting else message_queue.nothing(is_drained=True)
    if not reported:
        return messages, diagnostic_queue.nothing(is_drained=True)
    held_back = diagnostic_queue.nothing(is_drained=False)
    # Checked before any diagnostic is received, as each receive counts towards the dead-letter limit.
    if in_flight or not messages.is_drained:
        left = "more messages wait before them" if not messages.is_drained else f"{in_flight} messages are in flight"
        log.info("%d diagnostics wait: %s", reported, left)
        return messages, held_back
    diagnostics = diagnostic_queue.receive(limit)
    if diagnostics:
        messages = messages.followed_by(message_queue.receive(limit - len(messages), until_empty=True))
        if not messages.is_drained or sqs.queue_counts(message_queue.name)[1] > len(messages):
            log.info("%d diagnostics delayed: not all messages before them were received", len(diagnostics))
            diagnostics.receipts.hold_back(HOLD_SECONDS)
            return messages, held_back
    return messages, diagnostics


def _latest_versions(reported: Iterable[Received[ReceivedDiagnostic]]) -> list[Received[ReceivedDiagnostic]]:
    """The diagnostic of the greatest version of each (module, timestamp)."""
    latest: dict[tuple[str, int], Received[ReceivedDiagnostic]] = {}
    for each in reported:
        key = (each.record.module_id, each.record.timestamp)
        if key not in latest or latest[key].record.version < each.record.version:
            latest[key] = each
    return list(latest.values())


def store(run_id: str) -> None:
    """Write the messages and the diagnostics of the batch, then delete the messages.

    The diagnostics stay in their queue until their rates are published.

    Raises:
        ItemsRefused: DynamoDB is throttled for long; everything stays in the queues.
    """
    settings = load_settings()
    collected = Run.of(PIPELINE, run_id).load(COLLECTED, Collected)
    storage.write_messages(settings.modules_message_table, collected.messages)
    collected.message_receipts.delete()
    in_parallel(
        lambda each: storage.write_diagnostic(settings.modules_diagnostic_table, each.diagnostic),
        collected.diagnostics,
    )


def compute_rates(run_id: str, *, rebuild: bool = False) -> dict[str, int]:
    """Judge the due diagnostics of every module in the batch, and stage the verdicts.

    A diagnostic of the batch that is not due is a duplicate, or was replaced by a newer one.

    Args:
        run_id: of the run.
        rebuild: judge diagnostics again that an older version of the rule judged, of all modules; scans the table.

    Returns:
        Number of diagnostics by outcome: `published`, `rejected`, `unchanged`, `duplicate`.
    """
    run, settings = Run.of(PIPELINE, run_id), load_settings()
    batch = {each.key: each for each in run.load(COLLECTED, Collected).diagnostics}
    modules = {module_id for module_id, _ in batch}
    if rebuild:
        known = storage.read_all_diagnostics(settings.modules_diagnostic_table)
        modules |= {each.module_id for each in known if each.judged and each.judged.rule_version < RULE_VERSION}
    staged: list[StagedVerdict] = []
    for verdict in (
        each
        for some in in_parallel(lambda one: _judge_module(settings, one, rebuild), sorted(modules))
        for each in some
    ):
        diagnostic = verdict.due.diagnostic
        received = batch.pop((diagnostic.module_id, diagnostic.timestamp), None)
        staged.append(_staged_verdict(settings, verdict, received))
    staged += [StagedVerdict(Outcome.DUPLICATE, True, *key) for key in batch]
    run.save(VERDICTS, staged)
    outcomes = Counter(each.outcome for each in staged)
    log.info("%d modules: %s", len(modules), {str(outcome): count for outcome, count in outcomes.items()})
    return {str(outcome): count for outcome, count in outcomes.items()}


def _judge_module(settings: Settings, module_id: str, rebuild: bool) -> list[Verdict]:
    verdicts: list[Verdict] = []
    known = storage.read_diagnostics(settings.modules_diagnostic_table, module_id)
    for due in find_due(known, rebuild=rebuild):
        after, before = due.reset, 0
        if verdicts and verdicts[-1].judgement.reset == due.reset:
            # Count on from the previous diagnostic: the messages between many due diagnostics are counted once.
            after, before = verdicts[-1].due.diagnostic.timestamp, verdicts[-1].judgement.received
        until = due.diagnostic.timestamp
        received = before + storage.count_messages(settings.modules_message_table, module_id, after, until)
        verdicts.append(judge(due, received))
    return verdicts


def _staged_verdict(settings: Settings, verdict: Verdict, received: StagedDiagnostic | None) -> StagedVerdict:
    diagnostic = verdict.due.diagnostic
    outcome = (Outcome.REJECTED if verdict.reason else Outcome.PUBLISHED) if verdict.is_news else Outcome.UNCHANGED
    rejection = None
    if outcome is Outcome.REJECTED:
        if received:
            source, record = received.source, received.record
        else:
            source = f"dynamodb://{settings.modules_diagnostic_table}/{diagnostic.module_id}/{diagnostic.timestamp}"
            record = json.dumps(
                {
                    "moduleId": diagnostic.module_id,
                    "timestamp": diagnostic.timestamp,
                    "attempts": diagnostic.attempts,
                }
            )
        rejection = Rejection(source, str(verdict.reason), record, verdict.detail)
    place = (diagnostic.module_id, diagnostic.timestamp)
    return StagedVerdict(outcome, received is not None, *place, diagnostic.judged, verdict.judgement, rejection)


def check_rates(run_id: str) -> GateResult:
    """The gate of the rates: reads staging.

    Raises:
        GateFailed: no rate of this run is published, and its diagnostics are delivered again.
    """
    run = Run.of(PIPELINE, run_id)
    diagnostics = run.load(COLLECTED, Collected).diagnostics
    verdicts = run.load(VERDICTS, list[StagedVerdict])
    if not diagnostics and not verdicts:
        return {"gate": f"{PIPELINE}/{GATE}", "rows": 0}
    published = [each.judgement for each in verdicts if each.outcome is Outcome.PUBLISHED]
    rates = [each.success_rate for each in published if each and each.success_rate is not None]
    measures = {
        "diagnostics": len(diagnostics),
        "accounted": sum(each.in_batch for each in verdicts),
        "rate_min": min(rates, default=None),
        "rate_max": max(rates, default=None),
    }
    return run_gate(run, GATE, [measures], expectations.RATE_COLUMNS, expectations.rate_expectations)


def publish_rates(run_id: str, counts: dict[str, int], clock: Callable[[], datetime] = utc_now) -> Summary:
    """Publish new rates, record the judgements, and delete the diagnostics from their queue last.

    Rows of the table are appended first, as a diagnostic with a recorded judgement is not due again. A judgement is
    recorded after its publication: a crash in between republishes at most one batch (10) of the same rates.

    Args:
        run_id: of the run.
        counts: what `collect` returned.
        clock: returns the time (UTC) of the publication.

    Returns:
        The tally of the run, `rates`: number of published rates, including those of earlier diagnostics, and
        `snapshots`: the id of the snapshot of the table with them.

    Raises:
        PublishFailed: SNS refused rates; see `sluice.aws.sns`.
        RatesOutdated: another run judged some of the diagnostics concurrently; they are delivered and judged again.
        TableBusy: see `sluice.aws.tables.commits`.
    """
    run = Run.of(PIPELINE, run_id, clock)
    collected = run.load(COLLECTED, Collected)
    verdicts = run.load(VERDICTS, list[StagedVerdict])
    return publish_once(
        run,
        "publish_rates",
        [counts, verdicts, collected],
        lambda: _publish_verdicts(run, verdicts, collected, counts),
    )


def _publish_verdicts(
    run: Run, verdicts: Sequence[StagedVerdict], collected: Collected, counts: dict[str, int]
) -> Summary:
    settings = load_settings()
    run.quarantine("publish_rates", [each.rejection for each in verdicts if each.rejection])
    outdated, snapshots = _publish(settings, run, verdicts)
    if outdated:
        raise RatesOutdated(
            f"table {settings.modules_diagnostic_table}: another run judged {len(outdated)} of {len(verdicts)}"
            f" diagnostics concurrently, such as {outdated[0]}; the diagnostics are delivered again when"
            " their visibility timeout ends, and the next run judges them again"
        )
    mine = Counter(each.outcome for each in verdicts if each.in_batch)
    tally = Tally(
        counts["records_in"],
        published=counts["messages"] + mine[Outcome.PUBLISHED],
        duplicates=counts["duplicates"] + mine[Outcome.DUPLICATE] + mine[Outcome.UNCHANGED],
        quarantined=counts["quarantined"] + mine[Outcome.REJECTED],
    ).checked(run.slug)
    collected.diagnostic_receipts.delete()
    rates = sum(each.outcome is Outcome.PUBLISHED for each in verdicts)
    return tally | {"rates": rates} | {"snapshots": snapshots}


def _publish(
    settings: Settings, run: Run, staged: Sequence[StagedVerdict]
) -> tuple[list[tuple[str, int]], dict[str, str | None]]:
    """Publish and record what earlier attempts of this run did not; returns keys judged by another run, and snapshot
    ids."""
    table = settings.modules_diagnostic_table
    noted = storage.read_judgements(table, [(each.module_id, each.timestamp) for each in staged if each.judgement])
    outdated: list[tuple[str, int]] = []
    silent: list[Verdict] = []
    news: list[Verdict] = []
    for each in staged:
        verdict = each.verdict
        key = (each.module_id, each.timestamp)
        if verdict is None or noted.get(key) == verdict.judgement:
            continue
        if noted.get(key) != each.judged:
            outdated.append(key)
        else:
            (news if each.outcome is Outcome.PUBLISHED else silent).append(verdict)
    at = run.clock()
    snapshots = {storage.RATES.name: storage.append_rates(run.slug, at, news).snapshot_id} if news else {}
    arn = sns.topic_arn(settings.success_rate_topic) if news else ""
    batches = [news[start : start + sns.BATCH_SIZE] for start in range(0, len(news), sns.BATCH_SIZE)]
    found = in_parallel(lambda batch: _publish_batch(table, arn, batch, run.slug, at), batches)
    found += in_parallel(lambda verdict: _note(table, [verdict], run.slug, at), silent)
    return outdated + [key for some in found for key in some], snapshots


def _publish_batch(table: str, arn: str, batch: Sequence[Verdict], run: str, at: datetime) -> list[tuple[str, int]]:
    bodies = []
    for verdict in batch:
        rate = verdict.judgement.success_rate
        assert rate is not None
        bodies.append(rate_message(verdict.due.diagnostic.module_id, verdict.due.diagnostic.timestamp, rate))
    sns.publish_batch(arn, bodies)
    outdated = _note(table, batch, run, at)
    for key in outdated:
        # Two runs published, in unknown order: the diagnostic is due again.
        storage.forget_judgement(table, *key)
    return outdated


def _note(table: str, verdicts: Iterable[Verdict], run: str, at: datetime) -> list[tuple[str, int]]:
    return [
        (verdict.due.diagnostic.module_id, verdict.due.diagnostic.timestamp)
        for verdict in verdicts
        if storage.write_judgement(table, verdict.due, verdict.judgement, run, at) != verdict.judgement
    ]
