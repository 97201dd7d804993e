"""`sluice demo`: every pipeline once, on the embedded AWS, through Airflow, and a table of what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sluice.deploy import deploy
from sluice.embedded import airflow, samples, server
from sluice.embedded.dockerhub import DockerHubStandIn
from sluice.embedded.samples import Sample
from sluice.errors import SluiceError
from sluice.settings import PROJECT_ROOT, Settings

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
        environment["SLUICE_MODULES_MAX_MESSAGES"] = str(samples.MODULES_MAX_MESSAGES)
        if not live:
            environment["SLUICE_DOCKERHUB_URL"] = stack.enter_context(DockerHubStandIn()).url
            environment["SLUICE_DOCKERHUB_REPOSITORIES"] = samples.REPOSITORIES
        with console.status("sample data"):
            made = _produce(live=live)
        planned = [run for sample in made for run in sample.runs]
        status = stack.enter_context(console.status("Airflow"))
        runs = []
        for finished in _run_dags(settings, environment, planned):
            runs.append(finished)
            status.update(f"Airflow: {len(runs)} of {len(planned)} Dag runs")
    console.print(summary(runs))
    _compare(made, console)
    for sample in made:
        console.print(f"  look   .venv/bin/{sample.look}")
    console.print("  look   .venv/bin/sluice status")
    console.print()
    console.print(
        "The web UI: [bold]make up[/], then open the address that it prints. Stop everything: [bold]make down[/]"
    )


def _produce(*, live: bool) -> list[Sample]:
    """Put the data of every pipeline where it takes it from."""
    now = datetime.now(UTC)
    return [
        samples.dockerhub(1 if live else samples.PULLS),
        samples.events(now),
        samples.modules(now),
        samples.accommodations(now),
        samples.datasets(now),
    ]


def _compare(made: list[Sample], console: Console) -> None:
    """Say what was published and what was to be.

    Raises:
        DemoFailed: they differ.
    """
    found = [sample.check() for sample in made if sample.check]
    for said, is_right in found:
        console.print(f"  {'[green]right[/]' if is_right else '[red]wrong[/]'}  {said}")
    console.print()
    if not all(is_right for _, is_right in found):
        raise DemoFailed("what was published is not what was produced, see above")


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


def summary(runs: list[dict[str, Any]]) -> Table:
    """One row a Dag: counts of all its runs."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("pipeline", "runs", *COUNTS, "seconds"):
        table.add_column(name.replace("_", " "), justify="left" if name == "pipeline" else "right", no_wrap=True)
    for dag_id in dict.fromkeys(each["dag_id"] for each in runs):
        of_dag = [each for each in runs if each["dag_id"] == dag_id]
        counts = [f"{sum(each.get(name, 0) for each in of_dag):,}" for name in COUNTS]
        seconds = sum(each["seconds"] for each in of_dag)
        table.add_row(dag_id, str(len(of_dag)), *counts, f"{seconds:.1f}")
    return table
