"""Publications of an hour in a table that has many hours: one Iceberg commit each, and how one of them is read.

The baseline writes the same rows as one object and sends one conditional update of a table to Glue: the minimum of any
publication in this catalog.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks.contest import Contestant, Stopwatch, run_contest
from sluice.aws.tables.definitions import Column, TableDefinition

if TYPE_CHECKING:
    import pyarrow as pa

HOURS = 1_000
QUICK_HOURS = 20
PUBLICATIONS = 10
ROWS = 100
START = datetime(2024, 1, 1, tzinfo=UTC)
PORT = "4669"
MEASURED = TableDefinition(
    "measured",
    "Rows of a benchmark",
    (Column("at", "timestamptz", "when (UTC)"), Column("value", "long", "a number")),
    partition_column="at",
    partition_by="hour",
)


def run(console: Console, *, quick: bool, rounds: int) -> None:
    """Start an emulator, fill a table, run the contest, and print its table."""
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    os.environ |= {"SLUICE_HOME": str(home), "SLUICE_AWS_PORT": os.environ.get("SLUICE_AWS_PORT", PORT)}
    from sluice.settings import load_settings
    from sluice_dev.emulator import server

    hours = QUICK_HOURS if quick else HOURS
    contestants = [
        Contestant("sluice: commits", ["benchmarks.bench_tables", "publish"]),
        Contestant("baseline: an object and a request", ["benchmarks.bench_tables", "put_and_update"]),
        Contestant("sluice: read an hour", ["benchmarks.bench_tables", "read"]),
    ]
    try:
        with console.status("starting the embedded AWS and filling the table"):
            server.start(load_settings())
            fill(hours)
        run_contest(f"{PUBLICATIONS} publications in a table of {hours:,} hours", contestants, rounds, console)
    finally:
        server.stop(load_settings())
        shutil.rmtree(home, ignore_errors=True)
    commits, *_ = contestants
    if commits.runs:
        console.print(f"A publication takes {commits.median_seconds / PUBLICATIONS:.2f} s (aim: below 0.5 s).")


def rows_of(hour: datetime) -> pa.Table:
    """Rows of one hour."""
    import pyarrow as pa

    at = pa.array([hour + timedelta(seconds=n) for n in range(ROWS)], pa.timestamp("us", tz="UTC"))
    return pa.table({"at": at, "value": pa.array(range(ROWS), pa.int64())})


def stage(number: int) -> tuple[str, str]:
    """Stage the rows of an hour; condition on them, and their key."""
    from sluice.aws import s3
    from sluice.aws.tables.row_commits import parquet_bytes
    from sluice.settings import load_settings

    hour = START + timedelta(hours=number)
    key = f"staging/bench/{number}-{os.getpid()}.parquet"
    s3.write_object(load_settings().lake_bucket, key, parquet_bytes(rows_of(hour)))
    return f"at >= '{hour.isoformat()}' and at < '{(hour + timedelta(hours=1)).isoformat()}'", key


def fill(hours: int) -> None:
    """Create the table and publish all hours by one commit."""
    from sluice.aws.sessions import client
    from sluice.aws.tables import commits
    from sluice.aws.tables.definitions import create_missing
    from sluice.aws.threads import in_parallel
    from sluice.settings import load_settings

    settings = load_settings()
    client("s3").create_bucket(Bucket=settings.lake_bucket)
    client("glue").create_database(DatabaseInput={"Name": settings.glue_database})
    create_missing(settings, [MEASURED])
    staged = [key for _, key in in_parallel(stage, range(hours))]
    commits.replace(MEASURED.name, "at is not null", staged, content="filled", expected=[], summary={"run": "fill"})


def publish() -> None:
    """Replace hours, one after the other, as events_hourly does."""

    from sluice.aws.tables import commits

    staged = [stage(number) for number in range(PUBLICATIONS)]
    with Stopwatch() as watch:
        for where, key in staged:
            expected = commits.live_files(MEASURED.name, where)
            content = f"run-{os.getpid()}"
            commits.replace(MEASURED.name, where, [key], content=content, expected=expected, summary={"run": "bench"})
            watch.rows += ROWS


def put_and_update() -> None:
    """Put the same rows, and update an entry of the catalog on condition."""
    from sluice.aws import s3
    from sluice.aws.sessions import client
    from sluice.aws.tables.row_commits import parquet_bytes
    from sluice.settings import load_settings

    settings = load_settings()
    glue = client("glue")
    table: Any = {"Name": f"baseline-{os.getpid()}", "Parameters": {}}
    glue.create_table(DatabaseName=settings.glue_database, TableInput=table)
    bodies = [parquet_bytes(rows_of(START + timedelta(hours=number))) for number in range(PUBLICATIONS)]
    with Stopwatch() as watch:
        for number, body in enumerate(bodies):
            found = glue.get_table(DatabaseName=settings.glue_database, Name=table["Name"])["Table"]
            s3.write_object(settings.lake_bucket, f"staging/baseline/{os.getpid()}-{number}.parquet", body)
            glue.update_table(
                DatabaseName=settings.glue_database, TableInput=table, VersionId=found.get("VersionId", "0")
            )
            watch.rows += ROWS


def read() -> None:
    """Read hours, one after the other."""

    from sluice.aws.tables import reading

    with Stopwatch() as watch:
        for number in range(PUBLICATIONS):
            where = reading.partition_filter(MEASURED.name, (START + timedelta(hours=number)).isoformat())
            watch.rows += reading.read(MEASURED.name, where=where).num_rows


if __name__ == "__main__":
    {"publish": publish, "put_and_update": put_and_update, "read": read}[sys.argv[1]]()
