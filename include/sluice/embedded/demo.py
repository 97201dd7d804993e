"""`sluice demo`: every pipeline once, on the embedded AWS, through Airflow, and a table of what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sluice.deploy import deploy
from sluice.embedded import airflow, server
from sluice.embedded.dockerhub import DockerHubStandIn
from sluice.errors import SluiceError
from sluice.events.produce import produce
from sluice.settings import PROJECT_ROOT, Settings

PULLS = 5
"""Each pull moves the stand-in's history one step on."""

REPOSITORIES = (
    "localstack/localstack,library/redis,library/postgres,apache/airflow,grafana/grafana,"
    "faulty/no-fraction,faulty/html,faulty/wrong-type,missing/gone"
)
"""What the demo watches; the last three cannot be read and show the quarantine."""

WHERE = {
    "dockerhub_pull": "curated/dockerhub_history/",
    "dockerhub_aggregate": "sluice dockerhub show",
    "events_ingest": "raw/events/",
    "events_hourly": "sluice events read --hour {hour}",
}
EVENTS = 30_000
"""Events of the demo, a tenth of them duplicates, late or malformed."""

COUNTS = ("records_in", "published", "duplicates", "quarantined")


class DemoFailed(SluiceError):
    """A pipeline of the demo failed."""


def run(settings: Settings, console: Console, *, live: bool) -> None:
    """Start what is needed, run the pipelines, print the table.

    Raises:
        DemoFailed: a Dag run failed; its log is named.
    """
    with ExitStack() as stack:
        with console.status("embedded AWS"):
            server.start(settings)
            deploy(settings)
        with console.status("PostgreSQL and Airflow's metadata"):
            environment = dict(os.environ) | airflow.prepare(settings)
            airflow.password(settings)
        environment["PYTHONPATH"] = str(PROJECT_ROOT / "plugins")
        pulls = 1
        if not live:
            pulls = PULLS
            environment["SLUICE_DOCKERHUB_URL"] = stack.enter_context(DockerHubStandIn()).url
            environment["SLUICE_DOCKERHUB_REPOSITORIES"] = REPOSITORIES
        with console.status(f"producing {EVENTS:,} events"):
            hours = _produce_events()
        planned = ["dockerhub_pull"] * pulls + ["dockerhub_aggregate", "events_ingest"]
        planned += [f"events_hourly@{hour.isoformat()}" for hour in hours]
        status = stack.enter_context(console.status("Airflow"))
        runs = []
        for finished in _run_dags(settings, environment, planned):
            runs.append(finished)
            status.update(f"Airflow: {len(runs)} of {len(planned)} Dag runs")
    console.print(summary(runs, hours[-1]))
    console.print(
        "The web UI: [bold]make up[/], then open the address that it prints. Stop everything: [bold]make down[/]"
    )


def _produce_events() -> list[datetime]:
    """Send the events of the last two full hours, with late ones; returns the hours that they fall into."""
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    start = until - timedelta(hours=2)
    sent = produce(
        rate=EVENTS,
        seconds=1,
        start=start,
        until=until,
        duplicates=0.08,
        late=0.02,
        malformed=0.01,
        # Other events in each hour's demo, the same when it is repeated within the hour.
        seed=int(until.timestamp()),
        paced=False,
    )
    return sorted(sent.truth)


def _run_dags(settings: Settings, environment: dict[str, str], runs: list[str]) -> Iterator[dict[str, Any]]:
    """Run the Dags one after another in one Airflow process; yields each run's counts as it ends."""
    log = settings.home / "logs" / "demo.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sluice_airflow.demo", *runs],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        if process.wait():
            last = "\n  ".join(log.read_text().splitlines()[-10:])
            raise DemoFailed(f"a pipeline failed, see {log}; its last lines:\n  {last}")


def summary(runs: list[dict[str, Any]], hour: datetime) -> Table:
    """One row a Dag: counts of all its runs, and where to look (a command, or a prefix of the lake bucket)."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("pipeline", "runs", *COUNTS, "seconds", "where to look"):
        is_text = name in ("pipeline", "where to look")
        table.add_column(name.replace("_", " "), justify="left" if is_text else "right", no_wrap=is_text)
    for dag_id in dict.fromkeys(each["dag_id"] for each in runs):
        of_dag = [each for each in runs if each["dag_id"] == dag_id]
        counts = [f"{sum(each.get(name, 0) for each in of_dag):,}" for name in COUNTS]
        seconds = sum(each["seconds"] for each in of_dag)
        table.add_row(
            dag_id, str(len(of_dag)), *counts, f"{seconds:.1f}", WHERE[dag_id].format(hour=f"{hour:%Y-%m-%dT%H}")
        )
    return table
