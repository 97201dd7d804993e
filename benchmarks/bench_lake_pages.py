"""Pages of the Lake: time of the API for each, and its requests to AWS, with the data of a demo and with much more.

The application runs in this process, with its time limits, but without the permission checks of Airflow. The baseline
sends the same requests to AWS concurrently from eight threads of plain boto3, and ignores the responses.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.table import Table

from sluice.settings import PROJECT_ROOT

if TYPE_CHECKING:
    import pyarrow as pa
    from starlette.testclient import TestClient

    from sluice.settings import Settings

PORT = "4671"
ROWS = 100
"""Events of an hour, and rejected records of a file."""

THREADS = 8
GATES = {
    "accommodations/consolidate": "accommodations_consolidate",
    "datasets/aggregate": "datasets_aggregate",
    "dockerhub/pull": "dockerhub_pull",
    "events/hourly": "events_hourly",
    "modules/rates": "modules_diagnostics",
}
"""Gate -> its Dag."""

QUARANTINED = ("accommodations", "datasets", "events", "modules")


@dataclass(frozen=True)
class Size:
    """What a lake holds, and the time that a page of it may take."""

    name: str
    hours: int
    reports: int
    rejected: int
    goal_seconds: float


DEMO = Size("the size of a demo", hours=5, reports=50, rejected=800, goal_seconds=1)
LARGE = Size("a large lake", hours=1_000, reports=10_000, rejected=100_000, goal_seconds=2)


def run(console: Console, *, quick: bool, rounds: int) -> None:
    """Fill an embedded lake of each size, and print the times of its pages."""
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    os.environ |= {"SLUICE_HOME": str(home), "SLUICE_AWS_PORT": os.environ.get("SLUICE_AWS_PORT", PORT)}
    from sluice.deployment.deploy import deploy
    from sluice.settings import load_settings
    from sluice_dev.emulator import server

    load_settings.cache_clear()
    settings = load_settings()
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, home, ignore_errors=True)
        undo.callback(server.stop, settings)
        with console.status("starting the embedded AWS and an empty Airflow"):
            # With faults, of which none is injected, it counts requests.
            server.start(settings, faults=True)
            deploy(settings)
            asking = undo.enter_context(application(settings))
        for size in (DEMO,) if quick else (DEMO, LARGE):
            with console.status(f"filling {size.name}"):
                fill(settings, size)
            console.print(measured(settings, size, asking, rounds))


@contextmanager
def application(settings: Settings) -> Iterator[TestClient]:
    """The routes of the Lake for a user who may read all Dags, with an empty metadata database."""
    from sluice.environment import airflow_environment

    database = f"sqlite:///{settings.home}/airflow.db"
    os.environ |= airflow_environment(settings, database, "a secret of benchmarks, long enough to sign")
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    sys.path.append(str(PROJECT_ROOT / "plugins"))
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    from airflow.api_fastapi.core_api.security import get_user
    from starlette.testclient import TestClient

    from sluice.monitoring.pipelines import pipelines
    from sluice_airflow.lake import app

    made = app.make_app()
    of_routes = [each for route in app.api.routes for each in getattr(route, "dependencies", ())]
    required = [*app.api.dependencies, *of_routes]
    made.dependency_overrides |= {each.dependency: lambda: None for each in required if each.dependency}
    every = {dag.dag_id for pipeline in pipelines(settings) for dag in pipeline.dags}
    made.dependency_overrides[app.readable_dags] = lambda: every
    made.dependency_overrides[get_user] = lambda: SimpleNamespace(get_name=lambda: "reader")
    app.may_release = lambda *_: False  # type: ignore[assignment]
    with TestClient(made) as asking:
        yield asking


def fill(settings: Settings, size: Size) -> None:
    """Publish hours, reports and rejected records; a larger size holds those of a smaller one."""
    from sluice.aws.tables import commits
    from sluice.aws.threads import in_parallel
    from sluice.pipelines.events import storage

    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [now - timedelta(hours=number + 1) for number in range(size.hours)]
    staged = list(in_parallel(stage_hour, hours))
    where = storage.rows_between(hours[-1], now)
    expected = commits.live_files(storage.EVENTS.name, where)
    summary = {"run": "scheduled__bench", "dag": "events_hourly"}
    commits.replace(storage.EVENTS.name, where, staged, content=size.name, expected=expected, summary=summary)
    note_runs(settings, hours)
    note_gates(settings, now, size.reports // len(GATES))
    files = range(size.rejected // ROWS // len(QUARANTINED))
    list(in_parallel(reject, [(name, number) for name in QUARANTINED for number in files]))


def stage_hour(hour: datetime) -> str:
    """Stage the events of an hour; their key."""
    from sluice.aws import s3
    from sluice.aws.tables.row_commits import parquet_bytes
    from sluice.settings import load_settings

    key = f"staging/events/bench/{hour:%Y%m%dT%H}.parquet"
    s3.write_object(load_settings().lake_bucket, key, parquet_bytes(events_of(hour)))
    return key


def events_of(hour: datetime) -> pa.Table:
    """Events of one hour, in the columns of the table."""
    import pyarrow as pa

    at = pa.array([hour + timedelta(seconds=number) for number in range(ROWS)], pa.timestamp("us", tz="UTC"))
    texts = {name: pa.array([name] * ROWS) for name in ("event_subtype", "event_action", "shard_id", "sequence_number")}
    return pa.table(
        {
            "event_uuid": pa.array([f"{hour:%Y%m%dT%H}-{number}" for number in range(ROWS)]),
            "event_name": pa.array([f"type-{number % 5}:done" for number in range(ROWS)]),
            "created_at": pa.array([hour.timestamp() + number for number in range(ROWS)]),
            "created_datetime": at,
            "event_type": pa.array([f"type-{number % 5}" for number in range(ROWS)]),
            "arrived_at": at,
            **texts,
            "rescued_data": pa.nulls(ROWS, pa.string()),
        }
    )


def note_runs(settings: Settings, hours: list[datetime]) -> None:
    """Note a run of `events_hourly` for each hour, and twelve of `events_ingest` for each of the last 24."""
    from sluice.aws import dynamodb

    tally = {"records_in": ROWS, "published": ROWS, "duplicates": 0, "quarantined": 0}

    def item(dag_id: str, at: datetime, partition: str) -> dict[str, Any]:
        name = f"{at.isoformat(timespec='microseconds')}/scheduled__{at.isoformat()}"
        about = {"at": at.isoformat(timespec="microseconds"), "outcome": "succeeded", "partition": partition}
        expires = int((at + timedelta(days=90)).timestamp())
        return {"kind": f"history/{dag_id}", "name": name, "tally": tally, "expires_at": expires, **about}

    hourly = [item("events_hourly", hour + timedelta(hours=1), hour.isoformat(timespec="minutes")) for hour in hours]
    ingests = [hours[0] - timedelta(minutes=5 * number) for number in range(min(288, 12 * len(hours)))]
    dynamodb.put_items(settings.runs_table, hourly + [item("events_ingest", at, "") for at in ingests])


def note_gates(settings: Settings, now: datetime, runs: int) -> None:
    """Store the report of many runs of each gate, and note their results."""
    from sluice import lake
    from sluice.aws import dynamodb, s3
    from sluice.aws.threads import in_parallel
    from sluice.core.quality.gate import run_gate
    from sluice.core.run import Run
    from sluice.monitoring import history

    def expectations() -> list[Any]:
        from great_expectations import expectations as gx

        return [
            gx.ExpectColumnValuesToBeBetween(column="records_in", min_value=0),
            gx.ExpectColumnValuesToBeBetween(column="published", min_value=1, severity="warning"),
        ]

    bucket = settings.lake_bucket
    run_gate(
        Run.of("events", "bench"),
        "hourly",
        [{"records_in": 1, "published": 0}],
        ["records_in", "published"],
        expectations,
    )
    stored = {end: lake.quality_key("events/hourly", "bench", end) for end in ("json", "html")}
    bodies = {end: s3.read_object(bucket, key).body for end, key in stored.items()}
    items, keys = [], []
    for gate, dag_id in GATES.items():
        for number in range(runs):
            run_id = f"scheduled__{number:05}"
            at = now - timedelta(minutes=5 * number)
            report = f"s3://{bucket}/{lake.quality_key(gate, run_id, 'html')}"
            record = history.GateRecord(gate, dag_id, "check", run_id, at, at, "warned", report)
            keys += [(lake.quality_key(gate, run_id, end), bodies[end]) for end in bodies]
            items.append(gate_item(record, f"gate/{gate}", f"{at.isoformat(timespec='microseconds')}/{run_id}"))
            if number == 0:
                items.append(gate_item(record, "gate", gate))
    list(in_parallel(lambda each: s3.write_object(bucket, *each), keys))
    dynamodb.put_items(settings.runs_table, items)


def gate_item(record: Any, kind: str, name: str) -> dict[str, Any]:
    """An item of the table of runs, as `sluice.monitoring.history` writes it."""
    times = {"at": record.at.isoformat(timespec="microseconds")}
    times["started_at"] = times["at"]
    about = {each: getattr(record, each) for each in ("outcome", "dag_id", "task_id", "run_id", "report", "message")}
    return {"kind": kind, "name": name, "expires_at": int(record.at.timestamp()) + 90 * 86400, **times, **about}


def reject(each: tuple[str, int]) -> None:
    """Put a file of rejected records into quarantine."""
    from sluice.core.quarantine import Rejection
    from sluice.core.run import Run

    pipeline, number = each
    rejections = [
        Rejection(f"s3://bench/{number}/{line}", "not_json", '{"event_uuid": "x", ' * 10, "Expecting value: line 1")
        for line in range(ROWS)
    ]
    Run.of(pipeline, f"scheduled__{number:05}").quarantine("files", rejections)


PAGES = {
    "overview": "overview",
    "home": "verdict",
    "lineage": "lineage",
    "tables": "tables",
    "table": "tables/events",
    "table: rows": "tables/events/rows",
    "table: charts": "tables/events/charts",
    "quality": "quality",
    "gate": "quality/events/hourly",
    "quarantine": "quarantine",
    "quarantine of one": "quarantine?pipeline=datasets",
    "folder": "files?prefix=quality/events/hourly/",
    "file": "files/preview?key=quality/events/hourly/scheduled__00001.json",
    "tab of a Dag": "dags/events_hourly",
    "tab of a run": "dags/events_hourly?run=scheduled__00001",
}
"""Page -> the address of its data."""


def measured(settings: Settings, size: Size, asking: TestClient, rounds: int) -> Table:
    """Median and greatest time of each page, its requests, and the baseline."""
    about = f"{size.hours:,} hours, {size.reports:,} reports, {size.rejected:,} rejected records"
    table = Table("page", "median s", "max s", "requests", "baseline s", "x baseline", title=f"lake: {about}")
    slowest = 0.0
    for name, path in PAGES.items():
        get = page_getter(asking, path)
        # The first one imports and makes clients.
        get()
        before = requests(settings)
        with recorded() as calls:
            get()
        count = requests(settings) - before
        seconds = [timed(get) for _ in range(rounds)]
        replay = replayer(calls)
        replay()
        baseline = statistics.median(timed(replay) for _ in range(rounds))
        middle = statistics.median(seconds)
        slowest = max(slowest, middle)
        times = (f"{middle:.2f}", f"{max(seconds):.2f}", str(count), f"{baseline:.2f}")
        table.add_row(name, *times, f"{middle / max(baseline, 0.001):.1f}")
    verdict = "reached" if slowest < size.goal_seconds else "missed"
    table.caption = f"goal: each page below {size.goal_seconds:g} s; {verdict}, the slowest takes {slowest:.2f} s"
    return table


def page_getter(asking: TestClient, path: str) -> Callable[[], None]:
    """Requests a page; raises an error if it fails."""

    def get() -> None:
        answer = asking.get(f"/api/{path}")
        if not answer.is_success:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:500]}")

    return get


def timed(what: Callable[[], None]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def requests(settings: Settings) -> int:
    """Requests that the embedded AWS answered so far."""
    counts = httpx.get(f"{settings.endpoint_url}/_sluice/requests", trust_env=False).raise_for_status().json()
    return sum(each["count"] for each in counts)


@contextmanager
def recorded() -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    """Calls of AWS while the block runs: service, operation, arguments. PyIceberg reads S3 without boto3."""
    from botocore.client import BaseClient
    from pyiceberg.io.pyarrow import PyArrowFileIO

    calls: list[tuple[str, str, dict[str, Any]]] = []
    call, new_input = BaseClient._make_api_call, PyArrowFileIO.new_input

    def noted_call(self: Any, operation: str, arguments: dict[str, Any]) -> Any:
        calls.append((self.meta.service_model.service_name, operation, arguments))
        return call(self, operation, arguments)

    def noted_input(self: Any, location: str) -> Any:
        address = urlsplit(location)
        calls.append(("s3", "GetObject", {"Bucket": address.netloc, "Key": address.path.lstrip("/")}))
        return new_input(self, location)

    BaseClient._make_api_call, PyArrowFileIO.new_input = noted_call, noted_input  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        BaseClient._make_api_call, PyArrowFileIO.new_input = call, new_input  # type: ignore[method-assign]


def replayer(calls: list[tuple[str, str, dict[str, Any]]]) -> Callable[[], None]:
    """Makes the same calls, and reads the objects whole."""
    from concurrent.futures import ThreadPoolExecutor

    from sluice.aws.sessions import client

    clients = {service: client(service) for service, _, _ in calls}

    def make(call: tuple[str, str, dict[str, Any]]) -> None:
        service, operation, arguments = call
        answer = clients[service]._make_api_call(operation, arguments)
        if body := answer.get("Body"):
            body.read()

    def replay() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(make, calls))

    return replay
