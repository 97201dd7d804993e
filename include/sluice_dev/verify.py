"""`sluice verify`: run the canary through Airflow, and print a line for each pipeline."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Mapping

import click
from rich.console import Console

from sluice.core.commands import AwsCommand, pasted
from sluice.core.console import console
from sluice.core.run import utc_now
from sluice.environment import web_url
from sluice.errors import SluiceError
from sluice.monitoring.canary.records import DAGS
from sluice.monitoring.runs import CanaryResult, read_runs
from sluice.settings import Settings, load_settings
from sluice_dev.stack import airflow
from sluice_dev.stack.airflow_api import ENDED, AirflowApi, AirflowApiError, DagRun

CANARY_DAG = "platform_canary"

POLL_SECONDS = 0.5

MARGIN_SECONDS = 600
"""Additional time to that of the pipelines: for an earlier run that must end first, and for removing the records."""

WIDTH = 80
NAME_WIDTH = max(map(len, DAGS)) + 2


class NotVerified(SluiceError):
    """The canary could not be run to its end."""


@click.command(cls=AwsCommand)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines.")
def verify(as_json: bool) -> None:
    """Send a record through every pipeline and compare what is published; exit code 1 where one fails."""
    settings = load_settings()
    # The progress is not part of the output.
    run = run_canary(settings, Console(stderr=True))
    noted = read_runs(settings.runs_table, utc_now()).canary
    results = {name: result for name, result in noted.items() if result.run_id == run.run_id}
    failures = failures_of(run, results, web_url(settings))
    if as_json:
        click.echo(json.dumps(document(run, results, failures), indent=2))
    else:
        for line in lines_of(run, results, failures):
            console().print(pasted(line), highlight=False, markup=False, soft_wrap=True)
    sys.exit(1 if failures else 0)


def run_canary(settings: Settings, progress: Console) -> DagRun:
    """Trigger a run of the canary and follow it to its end.

    Raises:
        NotVerified: Airflow does not answer, does not run the Dag, or the run does not end in time.
    """
    try:
        api = AirflowApi(web_url(settings), airflow.USER, airflow.password(settings))
    except AirflowApiError as error:
        raise NotVerified(f"{error}. `sluice up` starts it") from None
    paused = api.dags().get(CANARY_DAG)
    if paused is None:
        raise NotVerified(
            f"Airflow does not know {CANARY_DAG}: {'; '.join(api.import_errors()) or 'is it up to date?'}"
        )
    if paused:
        raise NotVerified(f"{CANARY_DAG} is paused; `sluice airflow dags unpause {CANARY_DAG}`")
    run_id = api.trigger(CANARY_DAG)
    seconds = settings.canary_timeout_seconds + MARGIN_SECONDS
    deadline = time.monotonic() + seconds
    with progress.status("the canary is queued") as status:
        while (run := api.run(CANARY_DAG, run_id)).state not in ENDED:
            if time.monotonic() > deadline:
                raise NotVerified(
                    f"{CANARY_DAG} {run_id} has not ended after {seconds} s: {page_of(run, web_url(settings))}"
                )
            status.update(stage_of(api.task_states(run)))
            time.sleep(POLL_SECONDS)
    return run


def page_of(run: DagRun, url: str) -> str:
    """Address of a run in the web UI."""
    return f"{url}/dags/{run.dag_id}/runs/{run.run_id}"


def stage_of(states: Mapping[str, str]) -> str:
    """What a run waits for, by the states of its tasks."""
    ended = ("success", "failed", "upstream_failed", "skipped")
    waiting = [
        name
        for name in DAGS
        if any(task.startswith(f"{name}.") and state not in ended for task, state in states.items())
    ]
    if states.get("prepare") not in ended:
        return "removing what earlier canaries left"
    return f"waiting for {', '.join(waiting)}" if waiting else "comparing, then removing the records"


def failures_of(run: DagRun, results: Mapping[str, CanaryResult], url: str) -> dict[str, str]:
    """Pipeline, or `canary` for the run itself, -> why it failed."""
    failures = {name: results[name].failure for name in DAGS if name in results and results[name].failure}
    if len(results) < len(DAGS):
        failures["canary"] = f"its run ended as {run.state} before all was compared; {page_of(run, url)}"
    elif run.state != "success" and not failures:
        failures["canary"] = f"its records were not all removed; {page_of(run, url)}"
    return failures


def lines_of(run: DagRun, results: Mapping[str, CanaryResult], failures: Mapping[str, str]) -> list[str]:
    """A line for each pipeline, and below it what to do where it failed; they fit 80 columns."""
    lines = []
    for name in (*DAGS, *(each for each in failures if each not in DAGS)):
        if name in failures:
            what, *others = failures[name].split("; ")
            lines += _wrapped(f"{name:<{NAME_WIDTH}}failed  ", what)
            lines += [line for other in others for line in _wrapped("  ", other)]
        elif name in results:
            latency = results[name].latency_seconds
            lines.append(f"{name:<{NAME_WIDTH}}right   {f'{latency:.1f} s' if latency is not None else '-'}")
    took = f" in {(run.ended - run.started).total_seconds():.0f} s" if run.ended and run.started else ""
    return [*lines, f"{len(failures)} failed{took}" if failures else f"all right{took}"]


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def document(run: DagRun, results: Mapping[str, CanaryResult], failures: Mapping[str, str]) -> dict[str, object]:
    """The same as plain values: latencies in seconds, null where nothing is known."""
    return {
        "run": run.run_id,
        "ok": not failures,
        "pipelines": [
            {
                "pipeline": name,
                "ok": name not in failures,
                "latency_seconds": results[name].latency_seconds if name in results else None,
                "failure": failures.get(name),
            }
            for name in DAGS
        ],
        "failure": failures.get("canary"),
    }
