"""One function a task: what the Dags of this pipeline call. Each is idempotent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from sluice.aws import sqs
from sluice.core.notifications import object_keys
from sluice.core.quality.gate import GateResult, run_gate
from sluice.core.run import Run, utc_now
from sluice.core.scratch import scratch_folder
from sluice.core.staging import Summary, publish_once
from sluice.core.work_queue import WorkQueue
from sluice.pipelines.accommodations import PIPELINE, expectations, publication, storage
from sluice.pipelines.accommodations.batch import BATCH, COLLECTED, Batch, Collected
from sluice.pipelines.accommodations.catalogue import read_tables
from sluice.pipelines.accommodations.consolidation import consolidate_files, find_files
from sluice.pipelines.accommodations.current import digest_lists
from sluice.pipelines.accommodations.records import LANDING_PREFIX, by_age
from sluice.settings import load_settings

log = logging.getLogger(__name__)


# accommodations_consolidate: collect -> consolidate -> check_outputs -> publish


def collect(run_id: str, withdraw: Sequence[str] = ()) -> dict[str, int]:
    """Complete the announced batch of a crashed run, then receive messages and look up the files that they name.

    The lists are read before the first message is received, so that missing lists do not increase receive counts.

    Args:
        run_id: of the run.
        withdraw: accommodations to remove from the catalogue; the run then has work even if no message waits.

    Returns:
        `messages`, `events_in`, `files` (to be read), `duplicate_events` and `quarantined_events`; an empty dict when
        no message waited and the catalogue is up to date.

    Raises:
        PriorityListError: the lists are missing or invalid; no message was received.
    """
    run, settings = Run.of(PIPELINE, run_id), load_settings()
    table = settings.accommodations_ledger_table
    queue = WorkQueue(settings.accommodations_queue, object_keys(settings.landing_bucket, LANDING_PREFIX))
    found = storage.read_catalogue(table)
    if found.announced:
        log.warning("run %s crashed during its publication, which is completed now", found.announced.run)
        publication.finish(settings, found.announced)
        found = storage.read_catalogue(table)
    if not withdraw and not found.number and not sqs.queue_depth(sqs.queue_url(queue.name)):
        return {}
    lists = storage.read_lists(settings.accommodations_priority_table)
    batch = queue.receive(settings.accommodations_max_messages)
    if not batch and not withdraw and not read_tables(digest_lists(*lists)).is_outdated(found):
        return {}
    wanted, deleted = find_files(settings, batch.received)
    published = storage.find_published(table, wanted)
    files = by_age([file for file in wanted if file not in published])
    collected = Collected(
        number=found.number,
        withdraw=sorted(set(withdraw)),
        receipts=batch.receipts,
        events=[(each.message.message_id, each.record) for each in batch.received],
        files=files,
        rejections=batch.rejections + deleted,
        events_in=len(batch.received) + len(batch.rejections),
        duplicate_events=len(batch.received) - len(deleted) - len(files),
    )
    run.save(COLLECTED, collected)
    counts = {
        "messages": len(batch),
        "events_in": collected.events_in,
        "files": len(files),
        "duplicate_events": collected.duplicate_events,
        "quarantined_events": len(collected.rejections),
        "is_drained": batch.is_drained,
    }
    log.info("collected %s", counts)
    return counts


def consolidate(run_id: str) -> dict[str, int]:
    """Apply the rule to the files of the batch, merge them into the current catalogue, and stage both.

    Args:
        run_id: of the run, after `collect`.

    Returns:
        The counts of records: `records_in`, `published`, `duplicates`, `unlisted`, `blocked`, `quarantined`; and
        `outputs` and `unreadable` (files).

    Raises:
        PriorityListError: see `collect`.
    """
    run = Run.of(PIPELINE, run_id)
    with scratch_folder("accommodations-consolidate") as folder:
        batch = consolidate_files(run, folder)
    run.save(BATCH, batch)
    log.info("consolidated %s", batch.record_counts)
    return batch.record_counts


def check_outputs(run_id: str) -> GateResult:
    """The gate of a batch: reads its staged measures.

    Raises:
        GateFailed: nothing is published, and the messages are delivered again.
    """
    run = Run.of(PIPELINE, run_id)
    measures = run.load(BATCH, Batch).measures
    return run_gate(run, "consolidate", [measures], expectations.BATCH_COLUMNS, expectations.batch_expectations)


def publish(run_id: str, clock: Callable[[], datetime] = utc_now) -> Summary:
    """Announce the batch, write its files, commit its tables, record its files in the ledger, delete the messages last.

    Args:
        run_id: of the run, after `consolidate` and its gate.
        clock: returns the time (UTC), which names the output files.

    Returns:
        The tally of the run; records of unlisted or blocked partners are included in its duplicates, and also counted
        as `unlisted` and `blocked`; and `snapshots`: name of a changed table -> id of its snapshot.

    Raises:
        BatchTaken: another run published since this one began; the messages are delivered again.
        TablesChanged: see `publication.finish`.
    """
    run = Run.of(PIPELINE, run_id, clock)
    batch = run.load(BATCH, Batch)
    return publish_once(run, publication.TASK, batch.collected, lambda: _publish(run, batch))


def _publish(run: Run, batch: Batch) -> Summary:
    settings = load_settings()
    if batch.sources or batch.catalogue.is_outdated or batch.catalogue.candidates:
        announced = storage.announce_batch(
            settings.accommodations_ledger_table, run.slug, batch.base, len(batch.outputs), run.clock()
        )
        if announced:
            return publication.finish(settings, announced)
    else:
        publication.finish_events(run, batch)
    return publication.tally_of(batch)
