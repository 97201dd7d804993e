"""One function a task: what the Dags of this pipeline call. Each can be run again and leaves the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sluice import lake
from sluice.aws import s3, sqs
from sluice.aws.threads import in_parallel
from sluice.core.notifications import announced_objects
from sluice.core.quality.gate import run_gate
from sluice.core.quarantine import RejectedRecord, Rejection, write_quarantine
from sluice.core.staging import publish_once
from sluice.core.tally import Tally
from sluice.errors import TerminalError
from sluice.pipelines.dockerhub import PIPELINE, expectations, source, storage
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
    epoch_microseconds,
    group_by_repository,
    key_of_version,
    latest_push,
    partition_key,
)
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The time of day, for what is written; never for which data is read."""
    return datetime.now(UTC)


class SourceUnreachable(ConnectionError):
    """Not one repository could be asked."""


class NoMonth(TerminalError):
    """Nothing says which month a run is for."""


# dockerhub_pull: fetch -> check_answers -> publish_answers


def fetch(run: str, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Ask for every repository and stage the good answers; the others go to quarantine.

    Args:
        run: the run as a part of a key.
        clock: tells the time (UTC); asked once all answers are in, so that none is from its future.

    Returns:
        `records_in` (repositories asked for) and `quarantined`.

    Raises:
        SourceUnreachable: not one request reached Docker Hub.
    """
    settings = load_settings()
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
            f"{settings.dockerhub_url}: none of {len(answers)} repositories could be asked ({answers[0].detail});"
            " check the network, a proxy, or SLUICE_DOCKERHUB_URL"
        )
    accepted, rejections = _parse_answers(answers, clock())
    write_quarantine(settings.lake_bucket, PIPELINE, run, "fetch", rejections)
    s3.write_json_lines(settings.lake_bucket, _staged_answers(run), accepted)
    return {"records_in": len(answers), "quarantined": len(rejections)}


def _staged_answers(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "answers.jsonl")


def _parse_answers(
    answers: Sequence[source.Answer], observed_at: datetime
) -> tuple[list[dict[str, Any]], list[Rejection]]:
    """Rows to stage (the whole answer beside its fields), and what was rejected."""
    accepted: list[dict[str, Any]] = []
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
        accepted.append(
            {
                **_stats_row(stats),
                "asked_name": answer.repository.name,
                "asked_namespace": answer.repository.namespace,
                "observed_at": observed_at.isoformat(),
                "observed_at_us": epoch_microseconds(observed_at),
                "body": body,
            }
        )
    return accepted, rejections


def _stats_row(stats: Stats) -> dict[str, Any]:
    """Fields that docs/pipelines.md names, and the time of the push as a number."""
    row: dict[str, Any] = {field: getattr(stats, field) for field in FIELDS}
    return row | {"last_updated_us": epoch_microseconds(stats.last_updated_at)}


def check_answers(run: str) -> dict[str, Any]:
    """The gate of a pull: reads staging, also asks the table for the last pull counts.

    Raises:
        GateFailed: nothing of this run may be published.
    """
    settings = load_settings()
    rows = s3.read_json_lines(settings.lake_bucket, _staged_answers(run))
    keys = [partition_key(_stats_of(row)) for row in rows]
    last_seen = storage.read_last_pull_counts(settings.dockerhub_table, dict.fromkeys(keys))
    rows = [{**row, "last_pull_count": last_seen.get(key)} for row, key in zip(rows, keys, strict=True)]
    return run_gate(
        f"{PIPELINE}/pull",
        run,
        rows,
        expectations.PULL_COLUMNS,
        expectations.pull_expectations,
        settings.lake_bucket,
    )


def _stats_of(row: dict[str, Any]) -> Stats:
    fields = {field: row[field] for field in FIELDS}
    return Stats(
        **fields, last_updated_at=datetime.fromtimestamp(0, UTC) + timedelta(microseconds=row["last_updated_us"])
    )


def publish_answers(run: str, fetched: dict[str, int]) -> dict[str, Any]:
    """History first, then the raw objects, whose arrival triggers the aggregation.

    Returns:
        The tally of the run, and `snapshots`: the id of the history's snapshot that holds its rows.
    """
    settings = load_settings()
    rows = s3.read_json_lines(settings.lake_bucket, _staged_answers(run))
    return publish_once(
        settings.lake_bucket,
        *(PIPELINE, run, "publish_answers"),
        [fetched, rows],
        lambda: _publish_answers(settings, run, rows, fetched),
    )


def _publish_answers(
    settings: Settings, run: str, rows: Sequence[dict[str, Any]], fetched: dict[str, int]
) -> dict[str, Any]:
    observations = [(_stats_of(row), row["body"]) for row in rows]
    snapshots = {}
    if rows:
        observed_at = datetime.fromisoformat(rows[0]["observed_at"])
        commit = storage.append_history(run, observed_at, [stats for stats, _ in observations])
        snapshots[storage.HISTORY.name] = commit.snapshot_id
    in_parallel(
        lambda one: s3.write_object(settings.lake_bucket, raw_key(one[0]), one[1].encode()),
        observations,
    )
    tally = Tally(fetched["records_in"], published=len(rows), quarantined=fetched["quarantined"]).checked(run)
    return tally | {"snapshots": snapshots}


# dockerhub_aggregate: collect -> check_objects -> publish_aggregates


def collect(run: str, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Drain the work queue, read the objects it names, and stage both; the messages stay until all is written.

    Args:
        run: the run as a part of a key.
        clock: tells the time (UTC); a push after it is in the future.

    Returns:
        `messages`, `records_in` (object events), `duplicates` (events of an object named twice), `quarantined` and
        `is_drained` (no message was left in the queue); an empty dict when no message waited.
    """
    settings = load_settings()
    messages, is_drained = sqs.drain(sqs.queue_url(settings.dockerhub_queue), settings.drain_max_messages)
    if not messages:
        return {}
    s3.write_json_lines(
        settings.lake_bucket, _staged_messages(run), [{"receipt_handle": each.receipt_handle} for each in messages]
    )
    announced, rejections = announced_objects(messages, settings.dockerhub_queue, settings.lake_bucket)
    keys = [each.key for each in announced]
    records_in = len(keys) + len(rejections)
    counts = _stage_objects(run, settings, keys, rejections, records_in, clock())
    return {"messages": len(messages), "is_drained": is_drained} | counts


def collect_all(run: str, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Stage every object of `raw/dockerhub/`, for a rebuild; same answer as `collect`, without messages."""
    settings = load_settings()
    return _collect_keys(run, settings, s3.list_keys(settings.lake_bucket, RAW_PREFIX), clock())


def collect_month(run: str, month: datetime | None, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Stage the objects of one month of `raw/dockerhub/`, for a rebuild of a past range.

    Raises:
        NoMonth: the run has no logical date, by which it would be for a month.
    """
    if month is None:
        raise NoMonth(
            "this run has no logical date, so it is for no month: run"
            " `sluice airflow dags trigger dockerhub_rebuild --logical-date 2023-09-01` with a date in the month"
        )
    settings = load_settings()
    return _collect_keys(run, settings, storage.list_month(settings.lake_bucket, month.year, month.month), clock())


def _collect_keys(run: str, settings: Settings, listed: Iterable[str], now: datetime) -> dict[str, int]:
    keys = [key for key in listed if key.endswith(".json")]
    if not keys:
        return {}
    return {"messages": 0} | _stage_objects(run, settings, keys, [], len(keys), now)


def _staged_messages(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "messages.jsonl")


def _staged_objects(run: str) -> str:
    return lake.staging_key(PIPELINE, run, "objects.jsonl")


def _stage_objects(
    run: str, settings: Settings, keys: Sequence[str], rejections: list[Rejection], records_in: int, now: datetime
) -> dict[str, int]:
    """Read each object once; stage what it says, quarantine what cannot be used."""
    distinct = list(dict.fromkeys(keys))
    accepted: list[dict[str, Any]] = []
    for found in in_parallel(lambda key: _read_raw(settings.lake_bucket, key, now), distinct):
        if isinstance(found, Rejection):
            log.warning(found)
            rejections.append(found)
        else:
            accepted.append(found | {"read_at_us": epoch_microseconds(now)})
    write_quarantine(settings.lake_bucket, PIPELINE, run, "collect", rejections)
    s3.write_json_lines(settings.lake_bucket, _staged_objects(run), accepted)
    return {
        "records_in": records_in,
        "duplicates": len(keys) - len(distinct),
        "quarantined": len(rejections),
    }


def _read_raw(bucket: str, key: str, now: datetime) -> dict[str, Any] | Rejection:
    """One raw object as a row to stage, or why it cannot be used."""
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
    return {
        "key": key,
        "file_name": raw.file_name,
        "year_month": raw.year_month,
        "last_modified": stored.last_modified.isoformat(),
        **_stats_row(stats),
    }


def check_objects(run: str) -> dict[str, Any]:
    """The gate of an aggregation: reads staging.

    Raises:
        GateFailed: nothing reaches the table, and the messages come back.
    """
    settings = load_settings()
    return run_gate(
        f"{PIPELINE}/aggregate",
        run,
        s3.read_json_lines(settings.lake_bucket, _staged_objects(run)),
        expectations.AGGREGATE_COLUMNS,
        expectations.aggregate_expectations,
        settings.lake_bucket,
    )


def publish_aggregates(
    run: str, collected: dict[str, int], *, rebuild: bool = False, clock: Callable[[], datetime] = utc_now
) -> dict[str, int]:
    """Write the items of every repository of the batch, then delete the messages that told of them.

    Args:
        run: the run as a part of a key.
        collected: what `collect`, `collect_all` or `collect_month` returned.
        rebuild: also replace what months and pushes show of an object that is no longer there.
        clock: tells the time of writing (UTC), from which TTL counts.

    Returns:
        The tally of the run.
    """
    settings = load_settings()
    rows = s3.read_json_lines(settings.lake_bucket, _staged_objects(run))
    messages = s3.read_json_lines(settings.lake_bucket, _staged_messages(run)) if collected["messages"] else []
    handles = [row["receipt_handle"] for row in messages]
    return publish_once(
        settings.lake_bucket,
        *(PIPELINE, run, "publish_aggregates"),
        [collected, rows, handles],
        lambda: _publish_aggregates(settings, run, rows, handles, collected, rebuild=rebuild, clock=clock),
    )


def _publish_aggregates(
    settings: Settings,
    run: str,
    rows: Sequence[dict[str, Any]],
    handles: Sequence[str],
    collected: dict[str, int],
    *,
    rebuild: bool,
    clock: Callable[[], datetime],
) -> dict[str, int]:
    groups = group_by_repository(_raw_object(row) for row in rows)
    in_parallel(lambda group: _write_repository(settings, *group, now=clock(), rebuild=rebuild), list(groups.items()))
    tally = Tally(
        collected["records_in"],
        published=len(rows),
        duplicates=collected["duplicates"],
        quarantined=collected["quarantined"],
    ).checked(run)
    if handles:
        sqs.delete(sqs.queue_url(settings.dockerhub_queue), handles)
    return tally


def _raw_object(row: dict[str, Any]) -> RawObject:
    return RawObject(
        key=row["key"],
        file_name=row["file_name"],
        year_month=row["year_month"],
        last_modified=datetime.fromisoformat(row["last_modified"]),
        stats=_stats_of(row),
    )


def _write_repository(
    settings: Settings, pk: str, objects: Sequence[RawObject], *, now: datetime, rebuild: bool
) -> None:
    """All items of one repository, in an order that bears a kill anywhere and a second writer beside it.

    The months are decided first and copied from one place; the marker moves to a push that is there already; the last
    copy is read after the marker moved, so that of two writers the later one to look sees what both have done.
    """
    table = settings.dockerhub_table

    def is_gone(source_version: str) -> bool:
        return not s3.object_exists(settings.lake_bucket, key_of_version(source_version))

    for winner in decide_months(objects).values():
        state = storage.record_month(table, winner)
        decided = state.months[winner.year_month]["source_version"]
        if rebuild and decided != winner.source_version and is_gone(decided):
            state = storage.record_month(table, winner, replacing=decided)
    for sort_key, shown in decide_pushes(objects).items():
        greater = storage.write_push(table, shown, now)
        if rebuild and greater and is_gone(greater):
            storage.write_push(table, shown, now, replacing=greater)
        storage.write_months(table, pk, sort_key, state)
    storage.move_marker(table, latest_push(objects), now)
    last_updated, state = storage.read_marker_and_months(table, pk)
    storage.write_months(table, pk, f"#timestamp#{last_updated}", state)
