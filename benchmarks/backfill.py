"""A backfill of 24 hours of events through Airflow, beside the same steps in four bare processes.

The difference is orchestration: starting tasks, imports in each of them, heartbeats, the scheduler.
Run by `python -m benchmarks.backfill`; takes some minutes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import end_on_sigterm

EVENTS = 1_000_000
CHUNK_EVENTS = 100_000
"""The emulator slows down with a longer backlog."""

HOURS = 24
PROCESSES = 4


def fill(day: datetime, console: Console) -> None:
    """Put a day of events through the stream into raw/."""
    from sluice.events import steps
    from sluice.events.produce import produce

    chunks = EVENTS // CHUNK_EVENTS
    for index in range(chunks):
        console.print(f"raw data: {index + 1} of {chunks}", end="\r")
        produce(
            rate=CHUNK_EVENTS,
            seconds=1,
            duplicates=0.08,
            seed=index,
            start=day + timedelta(hours=HOURS * index / chunks),
            until=day + timedelta(hours=HOURS * (index + 1) / chunks),
            paced=False,
        )
        run = f"fill-{index}"
        steps.drain(run)
        steps.check_batch(run)
        steps.publish_batch(run)


def process_hour(hour: datetime) -> int:
    """The steps of events_hourly, as its tasks call them; events published."""
    from sluice.events import steps

    run = f"bare-{hour:%Y-%m-%dT%H}"
    steps.register_partition(run, hour)
    steps.dedup(run)
    steps.check_hour(run)
    return steps.publish_hour(run, hour)["published"]


def backfill_seconds(day: datetime, url: str) -> float:
    """Seconds from `airflow backfill create` until its last run has ended.

    Raises:
        RuntimeError: a run failed.
    """
    import subprocess
    import sys

    import psycopg2

    last = day + timedelta(hours=HOURS - 1)
    dates = ("--from-date", day.isoformat(), "--to-date", last.isoformat())
    command = ("airflow", "backfill", "create", "--dag-id", "events_hourly", *dates)
    subprocess.run([sys.executable, "-m", "sluice", *command], check=True, capture_output=True)
    started = time.monotonic()
    with psycopg2.connect(url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while True:
            cursor.execute("SELECT state, count(*) FROM dag_run WHERE run_type = 'backfill' GROUP BY state")
            states = dict(cursor.fetchall())
            if states.get("failed"):
                raise RuntimeError(f"backfill: {states}")
            if states.get("success") == HOURS:
                return time.monotonic() - started
            time.sleep(0.2)


def main() -> None:
    console = Console()
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    os.environ |= {
        "SLUICE_HOME": str(home),
        "SLUICE_AWS_PORT": "4667",
        "SLUICE_WEB_PORT": "8667",
        "SLUICE_DOCKERHUB_PULL_SCHEDULE": "0 0 1 1 *",
    }
    from sluice.deploy import deploy
    from sluice.embedded import postgres, server, stack
    from sluice.settings import load_settings

    settings = load_settings()
    day = (datetime.now(UTC) - timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, home, ignore_errors=True)
        undo.callback(server.stop, settings)
        server.start(settings)
        deploy(settings)
        fill(day, console)
        running = stack.start(settings, console, undo)
        orchestrated = backfill_seconds(day, postgres.start(settings))
        running.stop()
        started = time.monotonic()
        with ProcessPoolExecutor(PROCESSES) as pool:
            published = sum(pool.map(process_hour, [day + timedelta(hours=hour) for hour in range(HOURS)]))
        bare = time.monotonic() - started
    table = Table("24 hours of events", "seconds", "x bare", title=f"{published:,} events published of {EVENTS:,}")
    table.add_row("airflow backfill, LocalExecutor", f"{orchestrated:.1f}", f"{orchestrated / bare:.2f}")
    table.add_row("the same steps in 4 bare processes", f"{bare:.1f}", "1.00")
    console.print(table)
    console.print(f"share that is not work: {100 * (1 - bare / orchestrated):.0f} %")


if __name__ == "__main__":
    end_on_sigterm()
    main()
