"""Cost of orchestration in addition to the work: tasks, backfills and idling, in CPU seconds of all processes.

Two stacks run one after the other, in a home and on ports of their own: Airflow alone with a Dag of empty tasks, which
is the baseline, and this project. CPU seconds are counted in the process of each task (`benchmarks/task_cpu`), and over
all processes of the stack net of what they take while nothing runs.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from sluice.settings import Settings
    from sluice_dev.stack.lifecycle import Stack

HERE = Path(__file__).parent
FIRST_DAY = datetime(2024, 4, 1, tzinfo=UTC)
HOURS = 24
BASELINE_RUNS = 24
PROCESSES = 2
DUPLICATES_PCT = 8

ENVIRONMENT = {
    "SLUICE_AWS_PORT": "4667",
    "SLUICE_WEB_PORT": "8667",
    # Nothing but the Dags that are measured has work.
    "SLUICE_DOCKERHUB_PULL_SCHEDULE": "0 0 1 1 *",
}
FLOOR = {
    "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "baseline_dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(HERE / "baseline_dags" / "no_plugins"),
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
}


@dataclass(frozen=True)
class Cost:
    """What a number of runs cost.

    Attributes:
        seconds: from the command to the end of the last run.
        task_cpu_seconds: in the process of each task, by its id.
        cpu_seconds: in all processes of the stack, net of idling.
    """

    seconds: float
    task_cpu_seconds: dict[str, list[float]]
    cpu_seconds: float

    @property
    def tasks(self) -> int:
        """How many tasks had a process."""
        return sum(len(each) for each in self.task_cpu_seconds.values())

    @property
    def mean_task_cpu_seconds(self) -> float:
        """CPU seconds of a task in its process."""
        return statistics.fmean(one for each in self.task_cpu_seconds.values() for one in each)


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds of processes, of what they started, and of what of that has ended."""
    total = 0.0
    for process in processes:
        for each in (process, *process.children(recursive=True)):
            try:
                total += sum(each.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
    return total


class RunningStack:
    """A stack of the benchmark's own."""

    def __init__(self, settings: Settings, stack: Stack, record: Path) -> None:
        from sluice.environment import web_url
        from sluice_dev.stack import airflow
        from sluice_dev.stack.airflow_api import AirflowApi

        self.settings, self.record = settings, record
        self._stack = stack
        self.api = AirflowApi(web_url(settings), airflow.USER, airflow.password(settings))

    def cpu_seconds_by_service(self) -> dict[str, float]:
        """Of every process of the stack so far."""
        from sluice_dev.emulator import server
        from sluice_dev.stack import postgres

        found = {name: [psutil.Process(each.process.pid)] for name, each in self._stack.services.items()}
        found["PostgreSQL"] = postgres.processes(self.settings)[:1]
        found["embedded AWS"] = server.processes(self.settings)[:1]
        return {name: cpu_seconds(processes) for name, processes in found.items()}

    def idle_cores(self, seconds: float) -> dict[str, float]:
        """Cores that each service takes while no run is under way."""
        while self.api.runs(self.api.dags(), ["queued", "running"]):
            time.sleep(0.5)
        before, started = self.cpu_seconds_by_service(), time.monotonic()
        time.sleep(seconds)
        after, taken = self.cpu_seconds_by_service(), time.monotonic() - started
        return {name: (after[name] - before[name]) / taken for name in after}

    def backfill(self, dag_id: str, first: datetime, last: datetime) -> None:
        """Make a backfill of a Dag, as a person does."""
        dates = ("--from-date", first.isoformat(), "--to-date", last.isoformat())
        command = [sys.executable, "-m", "sluice", "airflow", "backfill", "create", "--dag-id", dag_id, *dates]
        subprocess.run(command, check=True, capture_output=True)

    def cost(self, start: Callable[[], Any], dag_id: str, runs: int, run_id_prefix: str) -> Cost:
        """What it costs until a number of runs more of a Dag have ended, of those whose id has a prefix.

        Raises:
            RuntimeError: a run failed.
        """
        idle = sum(self.idle_cores(10).values())
        self.record.write_text("")
        before, started = sum(self.cpu_seconds_by_service().values()), time.monotonic()
        wanted = self._ended(dag_id, run_id_prefix) + runs
        start()
        while self._ended(dag_id, run_id_prefix) < wanted:
            if failed := self.api.runs([dag_id], ["failed"]):
                raise RuntimeError(f"failed: {failed}")
            time.sleep(0.5)
        seconds = time.monotonic() - started
        used = sum(self.cpu_seconds_by_service().values()) - before - idle * seconds
        tasks: dict[str, list[float]] = {}
        for line in map(json.loads, self.record.read_text().splitlines()):
            if line["dag"] == dag_id and line["run"].startswith(run_id_prefix):
                tasks.setdefault(line["task"], []).append(line["cpu_seconds"])
        return Cost(seconds, tasks, used)

    def _ended(self, dag_id: str, run_id_prefix: str) -> int:
        return sum(run.run_id.startswith(run_id_prefix) for run in self.api.runs([dag_id], ["success"]))


@contextmanager
def running(console: Console, variables: dict[str, str]) -> Iterator[RunningStack]:
    """A stack in the home of this benchmark, with more variables for the services of Airflow."""
    from sluice.settings import load_settings
    from sluice_dev.stack import lifecycle

    settings = load_settings()
    record = settings.home / "tasks.jsonl"
    measured = {"PYTHONPATH": str(HERE / "task_cpu"), "SLUICE_BENCH_TASK_CPU": str(record)}
    with ExitStack() as undo:
        started = lifecycle.start(settings, console, undo, extra_environment=lambda: measured | variables)
        yield RunningStack(settings, started, record)


def fill(days: int, events: int, folder: Path) -> None:
    """Write raw files of some days as events_ingest would: so many events an hour in four files, some of them twice."""
    import duckdb

    from sluice.aws import s3
    from sluice.pipelines.events import storage
    from sluice.settings import load_settings

    files = []
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for hour in (FIRST_DAY + n * storage.HOUR for n in range(days * HOURS)):
            for part in range(4):
                path = folder / f"{storage.hour_text(hour)}-{part}.parquet"
                connection.execute(
                    f"""
                    COPY (
                        SELECT
                            concat_ws('-', md5[1:8], md5[9:12], '4' || md5[14:16], '8' || md5[18:20], md5[21:32])
                                AS event_uuid,
                            'account:created' AS event_name,
                            {hour.timestamp()} + k * 3600.0 / {events} AS created_at,
                            strftime(make_timestamp(floor(created_at)::BIGINT * 1000000), '%Y-%m-%dT%H:%M:%SZ')
                                AS created_datetime,
                            'account' AS event_type, '' AS event_subtype, 'created' AS event_action,
                            make_timestamp(floor(created_at)::BIGINT * 1000000) AT TIME ZONE 'UTC' AS arrived_at,
                            'shardId-000000000000' AS shard_id,
                            (({int(hour.timestamp())}::BIGINT * 1000000) + n)::VARCHAR AS sequence_number,
                            NULL::VARCHAR AS rescued_data,
                            (hash(n) % 100000)::BIGINT AS user_id
                        FROM (
                            SELECT n, k, md5('{storage.hour_text(hour)}' || k) AS md5
                            FROM (
                                SELECT n, CASE WHEN n % 100 < {DUPLICATES_PCT} THEN n - n % 100 + 50 ELSE n END AS k
                                FROM range({events * part // 4}, {events * (part + 1) // 4}) AS numbers (n)
                            )
                        )
                    ) TO '{path}' (FORMAT parquet)
                    """
                )
                files.append((path, f"{storage.RAW_PREFIX}{storage.hour_partition(hour)}{part:05d}.parquet"))
    s3.upload_files(load_settings().lake_bucket, files)


def bare_hour(hour: datetime) -> float:
    """The steps of an hour as its tasks call them; CPU seconds of this process."""
    from sluice.pipelines.events import steps

    run, started = f"bare-{hour:%Y-%m-%dT%H}", time.process_time()
    steps.register_partition(run, hour)
    steps.dedup(run)
    steps.check_hour(run)
    steps.publish_hour(run)
    return time.process_time() - started


def bare(day: datetime, emulator: Callable[[], float]) -> Cost:
    """The steps of a day's hours in processes that have imported what they need."""
    hours = [day + timedelta(hours=n) for n in range(HOURS)]
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(bare_hour, [day - timedelta(days=1)] * PROCESSES))
        before, started = emulator(), time.monotonic()
        used = sum(pool.map(bare_hour, hours))
        return Cost(time.monotonic() - started, {}, used + emulator() - before)


def run(console: Console, *, quick: bool, rounds: int) -> None:  # noqa: ARG001 each part runs many tasks once
    """Print the cost of orchestration, each measure with its baseline."""
    days, events_an_hour = (1, 500) if quick else (30, 10_000)
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    os.environ |= ENVIRONMENT | {"SLUICE_HOME": str(home)}
    from sluice.deployment.deploy import deploy
    from sluice.settings import load_settings
    from sluice_dev.emulator import server
    from sluice_dev.stack import postgres

    load_settings.cache_clear()
    settings = load_settings()
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, home, ignore_errors=True)
        undo.callback(server.stop, settings)
        undo.callback(postgres.stop, settings)
        with running(console, FLOOR) as stack:
            baseline_idle = stack.idle_cores(10 if quick else 60)
            stack.cost(lambda: stack.api.trigger("empty"), "empty", 1, "manual__")
            runs = 2 if quick else BASELINE_RUNS
            baseline = stack.cost(lambda: [stack.api.trigger("empty") for _ in range(runs)], "empty", runs, "manual__")
        console.print(f"raw files of {days + 3} days")
        server.start(settings)
        deploy(settings)
        (home / "raw").mkdir()
        fill(days + 3, events_an_hour, home / "raw")
        with running(console, {}) as stack:
            idle = stack.idle_cores(10 if quick else 60)
            day = FIRST_DAY + timedelta(days=1)
            end = timedelta(hours=HOURS - 1)
            hourly = stack.cost(
                lambda: stack.backfill("events_hourly", day, day + end), "events_hourly", HOURS, "backfill__"
            )
            work = bare(day + timedelta(days=1), lambda: stack.cpu_seconds_by_service()["embedded AWS"])
            first = day + timedelta(days=2)
            last = first + timedelta(days=days - 1)
            rebuild = stack.cost(
                lambda: stack.backfill("events_rebuild", first, last), "events_rebuild", days, "backfill__"
            )
    _print_tasks(console, baseline, hourly, work)
    _print_backfills(console, days, events_an_hour, hourly, rebuild, work)
    _print_idle(console, baseline_idle, idle)


def _print_tasks(console: Console, baseline: Cost, hourly: Cost, work: Cost) -> None:
    table = Table("CPU seconds a task", "in its process", "all processes", title="a task in a backfill")
    baseline_all = baseline.cpu_seconds / baseline.tasks
    table.add_row("empty, Airflow alone (baseline)", f"{baseline.mean_task_cpu_seconds:.3f}", f"{baseline_all:.3f}")
    table.add_row("events_hourly", f"{hourly.mean_task_cpu_seconds:.3f}", f"{hourly.cpu_seconds / hourly.tasks:.3f}")
    for task, each in hourly.task_cpu_seconds.items():
        table.add_row(f"  {task}", f"{statistics.fmean(each):.3f}", "")
    beside = (hourly.cpu_seconds - work.cpu_seconds) / hourly.tasks
    table.add_row("events_hourly without its work", "", f"{beside:.3f} ({beside / baseline_all:.2f}x)")
    console.print(table)


def _print_backfills(console: Console, days: int, events_an_hour: int, hourly: Cost, rebuild: Cost, work: Cost) -> None:
    title = f"{events_an_hour:,} events an hour, {PROCESSES} processes for the work"
    table = Table("for a day of 24 hours", "seconds", "x work", "CPU seconds", "x work", title=title)
    for name, cost, of_days in (
        ("the steps in bare processes (work)", work, 1),
        ("backfill of events_hourly", hourly, 1),
        (f"backfill of events_rebuild, mean of {days} days", rebuild, days),
    ):
        seconds, used = cost.seconds / of_days, cost.cpu_seconds / of_days
        table.add_row(
            *(name, f"{seconds:.1f}", f"{seconds / work.seconds:.2f}"),
            *(f"{used:.1f}", f"{used / work.cpu_seconds:.2f}"),
        )
    console.print(table)


def _print_idle(console: Console, baseline: dict[str, float], ours: dict[str, float]) -> None:
    table = Table("while nothing runs", "% of a core", "Airflow alone", title="idle stack")
    for name, cores in ours.items():
        table.add_row(name, f"{100 * cores:.1f}", f"{100 * baseline[name]:.1f}")
    table.add_row("all", f"{100 * sum(ours.values()):.1f}", f"{100 * sum(baseline.values()):.1f}")
    console.print(table)
