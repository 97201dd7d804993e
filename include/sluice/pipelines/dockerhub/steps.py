"""One function a task: what the Dags of this pipeline call. Each is idempotent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from sluice.aws import s3
from sluice.aws.threads import in_parallel
from sluice.core.notifications import object_keys
from sluice.core.quality.gate import GateResult, run_gate
from sluice.core.quarantine import RejectedRecord, Rejection
from sluice.core.run import Run, epoch_microseconds, utc_now
from sluice.core.staging import Summary, publish_once
from sluice.core.tally import Tally
from sluice.core.work_queue import Receipts, WorkQueue
from sluice.errors import TerminalError
from sluice.pipelines.dockerhub import PIPELINE, expectations, source, storage
from sluice.pipelines.dockerhub.batch import Answers, Collected, StagedAnswer
from sluice.pipelines.dockerhub.records import (
    FIELDS,
    RAW_PREFIX,
    Reason,
    Repository,
    Stats,
    parse_answer,
    parse_raw_key,
    raw_key,
)
from sluice.pipelines.dockerhub.transform import (
    RawObject,
    decide_months,
    decide_pushes,
    group_by_repository,
    key_of_version,
    latest_push,
    partition_key,
)
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)


ANSWERS, COLLECTED = "answers.json", "collected.json"


class SourceUnreachable(ConnectionError):
    """No request reached Docker Hub."""


class NoMonth(TerminalError):
    """The run has no month."""


# dockerhub_pull: fetch -> check_answers -> publish_answers


def fetch(run_id: str, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Request every repository and stage the accepted responses; the others go to quarantine.

    Args:
        run_id: of the run.
        clock: returns the time (UTC); read after all responses, so that none is later.

    Returns:
        `records_in` (requested repositories) and `quarantined`.

    Raises:
        SourceUnreachable: no request reached Docker Hub.
    """
    run, settings = Run.of(PIPELINE, run_id, clock), load_settings()
    repositories = [Repository.parse(each) for each in settings.dockerhub_repositories]
    answers = source.fetch_all(
        repositories,
        url=settings.dockerhub_url,
        concurrency=settings.dockerhub_concurrency,
        timeout_seconds=settings.dockerhub_timeout_seconds,
        attempts=settings.dockerhub_attempts,
        retry_max_seconds=settings.dockerhub_retry_max_seconds,
    )
    if source.all_unreachable(answers):
        raise SourceUnreachable(
            f"{settings.dockerhub_url}: none of {len(answers)} repositories could be requested ({answers[0].detail});"
            " check the network, a proxy, or SLUICE_DOCKERHUB_URL"
        )
    observed_at = run.clock()
    accepted, rejections = _parse_answers(answers, observed_at)
    run.quarantine("fetch", rejections)
    run.save(ANSWERS, Answers(observed_at, accepted))
    return {"records_in": len(answers), "quarantined": len(rejections)}


def _parse_answers(
    answers: Sequence[source.Answer], observed_at: datetime
) -> tuple[list[StagedAnswer], list[Rejection]]:
    """Responses to stage (with the whole body), and rejections."""
    accepted: list[StagedAnswer] = []
    rejections: list[Rejection] = []
    for answer in answers:
        body = answer.body.decode("utf-8", "replace")
        try:
            if answer.reason is not None:
                raise RejectedRecord(answer.reason, answer.detail)
            stats = parse_answer(answer.body, now=observed_at, expected=answer.repository)
        except RejectedRecord as rejected:
            rejections.append(Rejection(answer.url, rejected.reason, body, rejected.detail))
            log.warning(rejections[-1])
            continue
        accepted.append(StagedAnswer(stats, answer.repository, body))
    return accepted, rejections


def check_answers(run_id: str) -> GateResult:
    """The gate of a pull: reads staging, and the last pull counts from the table.

    Raises:
        GateFailed: nothing of this run is published.
    """
    run, settings = Run.of(PIPELINE, run_id), load_settings()
    staged = run.load(ANSWERS, Answers)
    keys = [partition_key(each.stats) for each in staged.answers]
    last_seen = storage.read_last_pull_counts(settings.dockerhub_table, dict.fromkeys(keys))
    rows = [
        {
            **_stats_row(each.stats),
            "asked_name": each.asked.name,
            "asked_namespace": each.asked.namespace,
            "observed_at_us": epoch_microseconds(staged.observed_at),
            "last_pull_count": last_seen.get(key),
        }
        for each, key in zip(staged.answers, keys, strict=True)
    ]
    return run_gate(run, "pull", rows, expectations.PULL_COLUMNS, expectations.pull_expectations)


def _stats_row(stats: Stats) -> dict[str, object]:
    """Fields that docs/pipelines.md names, and the time of the push as a number."""
    row: dict[str, object] = {field: getattr(stats, field) for field in FIELDS}
    return row | {"last_updated_us": epoch_microseconds(stats.last_updated_at)}


def publish_answers(run_id: str, fetched: dict[str, int]) -> Summary:
    """Publish the history first, then the raw objects, whose arrival triggers the aggregation.

    Returns:
        The tally of the run, and `snapshots`: the id of the snapshot of the history with its rows.
    """
    run = Run.of(PIPELINE, run_id)
    staged = run.load(ANSWERS, Answers)
    return publish_once(run, "publish_answers", [fetched, staged], lambda: _publish_answers(run, staged, fetched))


def _publish_answers(run: Run, staged: Answers, fetched: dict[str, int]) -> Summary:
    snapshots = {}
    if staged.answers:
        commit = storage.append_history(run.slug, staged.observed_at, [each.stats for each in staged.answers])
        snapshots[storage.HISTORY.name] = commit.snapshot_id
    in_parallel(lambda each: s3.write_object(run.bucket, raw_key(each.stats), each.body.encode()), staged.answers)
    tally = Tally(fetched["records_in"], published=len(staged.answers), quarantined=fetched["quarantined"])
    return tally.checked(run.slug) | {"snapshots": snapshots}


# dockerhub_aggregate: collect -> check_objects -> publish_aggregates


def collect(run_id: str, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Drain the work queue, read the objects that it names, and stage both; the messages stay until all is written.

    Args:
        run_id: of the run.
        clock: returns the time (UTC); a later push is in the future.

    Returns:
        `messages`, `records_in` (object events), `duplicates` (further events of an object), `quarantined` and
        `is_drained` (the queue was empty at the end); an empty dict when no message waited.
    """
    run, settings = Run.of(PIPELINE, run_id, clock), load_settings()
    queue = WorkQueue(settings.dockerhub_queue, object_keys(settings.lake_bucket))
    batch = queue.receive(settings.dockerhub_max_messages)
    if not batch:
        return {}
    counts = _stage_objects(run, batch.records, batch.rejections, batch.receipts)
    return {"messages": len(batch), "is_drained": batch.is_drained} | counts


def collect_all(run_id: str, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Stage every object of `raw/dockerhub/`, for a rebuild; returns the same as `collect`, without messages."""
    run = Run.of(PIPELINE, run_id, clock)
    return _collect_keys(run, s3.list_keys(run.bucket, RAW_PREFIX))


def collect_month(run_id: str, month: datetime | None, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Stage the objects of one month of `raw/dockerhub/`, for a rebuild of a past range.

    Raises:
        NoMonth: the run has no logical date, which would define its month.
    """
    if month is None:
        raise NoMonth(
            "this run has no logical date, which defines its month: run"
            " `sluice airflow dags trigger dockerhub_rebuild --logical-date 2023-09-01` with a date in the month"
        )
    run = Run.of(PIPELINE, run_id, clock)
    return _collect_keys(run, storage.list_month(run.bucket, month.year, month.month))


def _collect_keys(run: Run, listed: Iterable[str]) -> dict[str, int]:
    keys = [key for key in listed if key.endswith(".json")]
    if not keys:
        return {}
    return {"messages": 0} | _stage_objects(run, keys)


def _stage_objects(
    run: Run, keys: Sequence[str], rejections: Sequence[Rejection] = (), receipts: Receipts | None = None
) -> dict[str, int]:
    """Read each object once; stage its content, or quarantine it."""
    now = run.clock()
    distinct = list(dict.fromkeys(keys))
    accepted: list[RawObject] = []
    unusable: list[Rejection] = []
    for found in in_parallel(lambda key: _read_raw(run.bucket, key, now), distinct):
        if isinstance(found, Rejection):
            log.warning(found)
            unusable.append(found)
        else:
            accepted.append(found)
    run.quarantine("collect", [*rejections, *unusable])
    run.save(COLLECTED, Collected(receipts, now, accepted))
    return {
        "records_in": len(keys) + len(rejections),
        "duplicates": len(keys) - len(distinct),
        "quarantined": len(rejections) + len(unusable),
    }


def _read_raw(bucket: str, key: str, now: datetime) -> RawObject | Rejection:
    """One raw object, or its rejection."""
    body = ""
    try:
        raw = parse_raw_key(key)
        stored = s3.read_object(bucket, key)
        body = stored.body.decode("utf-8", "replace")
        stats = parse_answer(stored.body, now=now, expected=Repository(raw.namespace, raw.name))
    except RejectedRecord as rejected:
        return Rejection(f"s3://{bucket}/{key}", rejected.reason, body, rejected.detail)
    except s3.ObjectMissing:
        return Rejection(f"s3://{bucket}/{key}", Reason.OBJECT_MISSING, body, "deleted before it was read")
    return RawObject(key, raw.file_name, raw.year_month, stored.last_modified, stats)


def check_objects(run_id: str) -> GateResult:
    """The gate of an aggregation: reads staging.

    Raises:
        GateFailed: nothing is written to the table, and the messages are delivered again.
    """
    run = Run.of(PIPELINE, run_id)
    collected = run.load(COLLECTED, Collected)
    read_at_us = epoch_microseconds(collected.read_at)
    rows = [
        _stats_row(each.stats) | {"key": each.key, "year_month": each.year_month, "read_at_us": read_at_us}
        for each in collected.objects
    ]
    return run_gate(run, "aggregate", rows, expectations.AGGREGATE_COLUMNS, expectations.aggregate_expectations)


def publish_aggregates(
    run_id: str, counts: dict[str, int], *, rebuild: bool = False, clock: Callable[[], datetime] = utc_now
) -> dict[str, int]:
    """Write the items of every repository of the batch, then delete the messages.

    Args:
        run_id: of the run.
        counts: what `collect`, `collect_all` or `collect_month` returned.
        rebuild: also replace months and pushes whose winning object was deleted.
        clock: returns the time of writing (UTC), from which TTL counts.

    Returns:
        The tally of the run.
    """
    run, settings = Run.of(PIPELINE, run_id, clock), load_settings()
    collected = run.load(COLLECTED, Collected)

    def publish() -> dict[str, int]:
        groups = group_by_repository(collected.objects)
        in_parallel(
            lambda group: _write_repository(settings, *group, now=run.clock(), rebuild=rebuild), list(groups.items())
        )
        tally = Tally(
            counts["records_in"],
            published=len(collected.objects),
            duplicates=counts["duplicates"],
            quarantined=counts["quarantined"],
        ).checked(run.slug)
        if collected.receipts:
            collected.receipts.delete()
        return tally

    return publish_once(run, "publish_aggregates", [counts, collected], publish)


def _write_repository(
    settings: Settings, pk: str, objects: Sequence[RawObject], *, now: datetime, rebuild: bool
) -> None:
    """Write all items of one repository, in an order that tolerates a crash at any point and a concurrent writer.

    The monthly state is updated first and copied to the pushes; the marker moves only to an existing push; the last
    copy is read after the marker moved, so that of two writers the later reader sees the changes of both.
    """
    table = settings.dockerhub_table

    def is_gone(source_version: str) -> bool:
        return not s3.object_exists(settings.lake_bucket, key_of_version(source_version))

    for winner in decide_months(objects).values():
        state = storage.record_month(table, winner)
        decided = state.months[winner.year_month]["source_version"]
        if rebuild and decided != winner.source_version and is_gone(decided):
            state = storage.record_month(table, winner, replacing=decided)
    for sort_key, winner in decide_pushes(objects).items():
        greater = storage.write_push(table, winner, now)
        if rebuild and greater and is_gone(greater):
            storage.write_push(table, winner, now, replacing=greater)
        storage.write_months(table, pk, sort_key, state)
    storage.move_marker(table, latest_push(objects), now)
    last_updated, state = storage.read_marker_and_months(table, pk)
    storage.write_months(table, pk, f"#timestamp#{last_updated}", state)
