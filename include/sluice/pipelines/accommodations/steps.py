"""One function a task: what the Dags of this pipeline call. Each can be run again and leaves the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sluice.aws import s3, sqs
from sluice.core.notifications import announced_objects
from sluice.core.quality.gate import run_gate
from sluice.core.scratch import scratch_folder
from sluice.core.staging import publish_once
from sluice.pipelines.accommodations import PIPELINE, expectations, publication, storage
from sluice.pipelines.accommodations.batch import (
    batch_key,
    collected_key,
    consolidate_files,
    find_files,
    quarantine_events,
)
from sluice.pipelines.accommodations.catalogue import read_tables
from sluice.pipelines.accommodations.current import digest_lists
from sluice.pipelines.accommodations.records import LANDING_PREFIX, by_age
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The time of day, for names; never for which data is read."""
    return datetime.now(UTC)


# accommodations_consolidate: collect -> consolidate -> check_outputs -> publish


def collect(run: str, withdraw: Sequence[str] = ()) -> dict[str, int]:
    """Publish what a run that died had announced, then take messages and find out which files they are about.

    The lists are read before the first message is received: without them no receive count is burnt.

    Args:
        run: the run as a part of a key.
        withdraw: accommodations whose records are taken out of the catalogue; the run has something to do then also
            where no message waits.

    Returns:
        `messages`, `events_in`, `files` (to be read), `duplicate_events` and `quarantined_events`; an empty dict when
        no message waited and the catalogue is what follows from candidates and lists.

    Raises:
        PriorityListError: nothing can be decided; all messages are where they were.
    """
    settings = load_settings()
    table = settings.accommodations_ledger_table
    url = sqs.queue_url(settings.accommodations_queue)
    found = storage.read_catalogue(table)
    if found.announced:
        log.warning("run %s died while it published: publishing it to its end", found.announced.run)
        publication.finish(settings, found.announced)
        found = storage.read_catalogue(table)
    if not withdraw and not found.number and not sqs.queue_depth(url):
        return {}
    lists = storage.read_lists(settings.partner_priority_table)
    messages, is_drained = sqs.drain(url, settings.batch_size)
    if not messages and not withdraw and not read_tables(digest_lists(*lists)).is_outdated(found):
        return {}
    events, rejections = announced_objects(
        messages, settings.accommodations_queue, settings.landing_bucket, LANDING_PREFIX
    )
    wanted, deleted = find_files(settings, events)
    rejections += deleted
    published = storage.find_published(table, wanted)
    files = by_age([file for file in wanted if file not in published])
    counts = {
        "messages": len(messages),
        "events_in": len(events) + len(rejections) - len(deleted),
        "files": len(files),
        "duplicate_events": len(events) - len(deleted) - len(files),
        "quarantined_events": len(rejections),
        "is_drained": is_drained,
    }
    collected = {
        # Makes the batch one of its own where only the catalogue is outdated and there is no message.
        "number": found.number,
        "withdraw": sorted(set(withdraw)),
        "messages": {each.message_id: each.receipt_handle for each in messages},
        "events": [[each.message_id, each.key] for each in events],
        "files": [
            [file.bucket, file.key, file.version_id, file.modified_at.isoformat(), file.size_bytes] for file in files
        ],
        "quarantine": quarantine_events(settings, run, rejections),
        "counts": counts,
    }
    s3.write_object(settings.lake_bucket, collected_key(run), json.dumps(collected).encode())
    log.info("collected %s", counts)
    return counts


def consolidate(run: str) -> dict[str, int]:
    """Apply the rule to the files of the batch, merge them into the current catalogue, and stage both.

    Args:
        run: the run as a part of a key, after `collect`.

    Returns:
        The counts of records: `records_in`, `published`, `duplicates`, `unlisted`, `blocked`, `quarantined`; and
        `outputs` and `unreadable` (files).

    Raises:
        PriorityListError: see `collect`.
    """
    settings = load_settings()
    with scratch_folder("accommodations-consolidate") as folder:
        batch = consolidate_files(settings, run, folder)
    s3.write_object(settings.lake_bucket, batch_key(run), json.dumps(batch).encode())
    counts = {name: batch["measures"][name] for name in (*expectations.RECORD_COUNTS, "outputs", "unreadable")}
    log.info("consolidated %s", counts)
    return counts


def check_outputs(run: str) -> dict[str, Any]:
    """The gate of a batch: reads the measures of what is staged.

    Raises:
        GateFailed: nothing of this run may be published, and the messages come back.
    """
    settings = load_settings()
    batch = json.loads(s3.read_object(settings.lake_bucket, batch_key(run)).body)
    return run_gate(
        f"{PIPELINE}/consolidate",
        run,
        [batch["measures"]],
        expectations.BATCH_COLUMNS,
        expectations.batch_expectations,
        settings.lake_bucket,
    )


def publish(run: str, clock: Callable[[], datetime] = utc_now) -> dict[str, Any]:
    """Announce the batch, write its files, commit its tables, note what was published, delete the messages last.

    Args:
        run: the run as a part of a key, after `consolidate` and its gate.
        clock: tells the time (UTC), which names the output files.

    Returns:
        The tally of the run; records of partners on no list or blocked count as duplicates there, and by themselves as
        `unlisted` and `blocked`; and `snapshots`: name of a table that changed -> id of its snapshot.

    Raises:
        BatchTaken: another run published since this one began; the messages come back.
        TablesChanged: see `publication.finish`.
    """
    settings = load_settings()
    batch = json.loads(s3.read_object(settings.lake_bucket, batch_key(run)).body)
    return publish_once(
        settings.lake_bucket,
        PIPELINE,
        run,
        "publish",
        batch["collected"],
        lambda: _publish(settings, run, batch, clock),
    )


def _publish(settings: Settings, run: str, batch: dict[str, Any], clock: Callable[[], datetime]) -> dict[str, Any]:
    catalogue = batch["catalogue"]
    if batch["sources"] or catalogue["is_outdated"] or catalogue["candidates"]:
        announcement = storage.announce(
            settings.accommodations_ledger_table, run, batch["base"], len(batch["outputs"]), clock()
        )
        if announcement:
            return publication.finish(settings, announcement)
    else:
        publication.finish_events(settings, batch)
    return publication.tally_of(run, batch["measures"])
