"""Functions of the tasks of events_rebuild: prepare the hours of a day in parallel and publish them in one commit.

The rules are those of an hour (`hourly`): the same raw files give the same rows with both Dags.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import signal
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sluice.aws.tables import commits
from sluice.aws.threads import in_parallel
from sluice.core.quality import GateFailed
from sluice.core.quality.gate import GateResult, run_gate
from sluice.core.run import Run, utc_now
from sluice.core.scratch import scratch_folder
from sluice.core.staging import Summary, publish_once
from sluice.errors import TerminalError
from sluice.pipelines.events import PIPELINE, expectations, hourly, storage
from sluice.pipelines.events.batch import HourInputs, PreparedHour
from sluice.settings import Settings, load_settings

log = logging.getLogger(__name__)


class NoDay(TerminalError):
    """The run has no day, or its day is not over."""


class OtherEngine(TerminalError):
    """The configured engine runs outside of the worker."""


DAY = timedelta(days=1)
PREPARED = "rebuild/day.json"
ENGINE_MIN_MB = 128
PR_SET_PDEATHSIG = 1
"""Option of prctl(2)."""


def day_to_process(logical_date: datetime | None, conf: Mapping[str, Any] | None) -> datetime:
    """The start (UTC) of the day of a run: `day` of its conf, else the one of its logical date.

    Raises:
        NoDay: the run has neither, or `day` is not a date.
    """
    asked = (conf or {}).get("day")
    if asked is None and logical_date is None:
        raise NoDay('this run has no logical date: trigger it with --conf \'{"day": "2024-04-07"}\'')
    try:
        return storage.parse_hour(str(logical_date if asked is None else asked)).replace(hour=0)
    except ValueError as error:
        raise NoDay(f"day {asked!r} is not a date ({error}): write it like 2024-04-07") from None


def dedup_day(run_id: str, day: datetime, clock: Callable[[], datetime] = utc_now) -> dict[str, int]:
    """Register the raw files of a day's hours, deduplicate each hour and stage it; nothing is published.

    Args:
        run_id: of the run.
        day: its start (UTC).
        clock: returns the time (UTC): the day must be over.

    Returns:
        `hours` that have raw files, `raw_files`, and the sums of the counts of `dedup`.

    Raises:
        NoDay: the day is not over.
        OtherEngine: hours are deduplicated by a Glue job.
        RawDataGone: raw files of a published hour have expired; no hour of the day is published.
        ColumnConflict: a raw file disagrees with the table about a column's type.
    """
    settings = load_settings()
    if day + DAY > clock():
        raise NoDay(f"day {day:%Y-%m-%d} is not over: its hours are published by events_hourly")
    if settings.events_engine == "glue":
        raise OtherEngine(
            "SLUICE_EVENTS_ENGINE=glue: hours are too large for a worker, so run"
            f" `sluice airflow backfill create --dag-id events_hourly --from-date {day:%Y-%m-%dT00:00}"
            f" --to-date {day:%Y-%m-%dT23:00}`"
        )
    all_hours = [day + n * storage.HOUR for n in range(24)]
    files = commits.contents(storage.EVENTS.name, storage.rows_between(day, day + DAY)).files
    listed = in_parallel(
        lambda hour: hourly.list_inputs(settings, hour, files.get(storage.partition_of(hour), [])), all_hours
    )
    # An hour without raw files was not published: a published one has raw files, or raises RawDataGone.
    inputs = [each for each in listed if each.raw]
    run = Run.of(PIPELINE, run_id)
    prepared = _stage_hours(settings, run, inputs)
    run.save(PREPARED, prepared)
    counts = {name: sum(each.output.measures.counts[name] for each in prepared) for name in expectations.HOURLY_COUNTS}
    return {"hours": len(inputs), "raw_files": sum(len(each.raw) for each in inputs), **counts}


def _stage_hours(settings: Settings, run: Run, inputs: list[HourInputs]) -> list[PreparedHour]:
    processes = min(settings.events_rebuild_processes, len(inputs))
    if processes <= 1:
        return [_stage_hour(settings, run, each) for each in inputs]
    memory_limit_mb = max(ENGINE_MIN_MB, settings.events_memory_limit_mb // processes)
    shared = settings.model_copy(update={"events_memory_limit_mb": memory_limit_mb})
    # Forked, to avoid imports in each process; this process has no threads of an engine yet.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), end_with_parent) as pool:
        return list(pool.map(_stage_hour, *zip(*((shared, run, each) for each in inputs), strict=True)))


def end_with_parent() -> None:
    """Let Linux kill this process when its parent is killed: it would wait for work for ever."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _stage_hour(settings: Settings, run: Run, inputs: HourInputs) -> PreparedHour:
    hourly.register_raw(settings, inputs)
    # Unique for each attempt: a process of a killed attempt may still write when the next one has begun.
    attempt = replace(run, slug=f"{run.slug}/rebuild/{inputs.hour}-{uuid.uuid4().hex[:8]}")
    with scratch_folder("events-rebuild") as folder:
        result = hourly.run_dedup(settings, inputs, folder)
        return PreparedHour(inputs, hourly.stage_result(settings, attempt, inputs, result))


def check_day(run_id: str) -> GateResult:
    """The gate of a day: that of an hour, on the measures of each.

    Raises:
        GateFailed: nothing of this run is published; the message names the hours.
    """
    run = Run.of(PIPELINE, run_id)
    prepared = run.load(PREPARED, list[PreparedHour])
    if not prepared:
        return {"gate": f"{PIPELINE}/hourly", "rows": 0}
    rows = [{"hour": each.inputs.hour, **each.output.measures.row} for each in prepared]
    try:
        return run_gate(run, "hourly", rows, expectations.HOURLY_COLUMNS, expectations.hourly_expectations)
    except GateFailed as failed:
        broken = [each.inputs.hour for each in prepared if _is_broken(each.output.measures.counts)]
        raise GateFailed(f"{failed}\nhours: {', '.join(broken)}", report=failed.report) from None


def _is_broken(counts: dict[str, int]) -> bool:
    return (
        any(counts[name] for name in expectations.ROW_MEASURES)
        or counts["rows"] != counts["distinct_uuids"]
        or counts["records_in"] != counts["accounted"]
    )


def publish_day(run_id: str, clock: Callable[[], datetime] = utc_now) -> Summary:
    """Replace the hours of the day by the staged files in one commit; the rules are those of `publish_hour`.

    Args:
        run_id: of the run, after `dedup_day` and its gate.
        clock: returns the time (UTC) of the publication.

    Returns:
        The tally of the day, and `snapshots`.

    Raises:
        TableBusy: see `sluice.aws.tables.commits`.
    """
    run = Run.of(PIPELINE, run_id, clock)
    prepared = run.load(PREPARED, list[PreparedHour])
    return publish_once(run, "publish_day", prepared, lambda: hourly.publish("events_rebuild", run, prepared))
