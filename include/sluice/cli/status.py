"""`sluice status`: all pipelines on one screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from sluice.aws.account import account_id
from sluice.aws.sessions import as_terminal, giving_up_soon
from sluice.core.pipeline import Dag, Pipeline
from sluice.core.run import utc_now
from sluice.core.tally import COUNTS
from sluice.environment import web_url
from sluice.errors import SluiceError
from sluice.monitoring.canary import records as canary_records
from sluice.monitoring.observation import Observation, QueueState, look
from sluice.monitoring.pipelines import pipelines
from sluice.monitoring.problems import Problem, at_text, duration_text, find_problems, state_of, trend_text
from sluice.monitoring.runs import LastRun, Running
from sluice.settings import Settings, load_settings

COLUMNS = ("Dag", "state", "last run", "in", "published", "quarantined", "freshness")
"""Of the table of Dags; the age of the last run that succeeded, its counts, and the age of the data."""

WIDE_COLUMNS = 92
"""Width of a terminal that shows all of them."""

ANSWER_SECONDS = 5
"""Timeout of the first request to AWS, after which the status reports that AWS does not answer."""


class StatusUnknown(SluiceError):
    """AWS did not answer."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def status(as_json: bool) -> None:
    """Show runs, backlogs and the age of the data; exit code 1 when something is wrong."""
    settings = load_settings()
    # One attempt with an error that says what to do, before many requests that would each be retried for long.
    account_id(settings, timeout_seconds=ANSWER_SECONDS)
    watched = pipelines(settings)
    try:
        with giving_up_soon():
            seen = look(settings, watched, utc_now())
    except (BotoCoreError, ClientError) as error:
        raise as_terminal(error) or StatusUnknown(f"AWS did not answer: {error}") from None
    problems = find_problems(watched, seen, web_url(settings))
    if as_json:
        click.echo(json.dumps(document(settings, watched, seen, problems), indent=2))
    else:
        _print(settings, watched, seen, problems)
    sys.exit(1 if problems else 0)


def document(
    settings: Settings, watched: Sequence[Pipeline], seen: Observation, problems: Sequence[Problem]
) -> dict[str, Any]:
    """The status as plain values: times in ISO 8601 (UTC), durations in seconds, null for unknown values."""
    return {
        "environment": settings.environment,
        "at": seen.at.isoformat(),
        "ok": not problems,
        "pipelines": [
            {
                "pipeline": pipeline.name,
                "ok": all(problem.pipeline != pipeline.name for problem in problems),
                "dags": [_dag_document(pipeline, dag, seen, problems) for dag in pipeline.dags],
            }
            for pipeline in watched
        ],
        "canary": {
            name: {
                "run": result.run_id,
                "at": result.at.isoformat(),
                "latency_seconds": result.latency_seconds,
                "failure": result.failure or None,
            }
            for name, result in seen.runs.canary.items()
        },
        "problems": [
            {
                "key": problem.key,
                "pipeline": problem.pipeline,
                "dag": problem.dag_id,
                "task": problem.task_id or None,
                "run": problem.run_id or None,
                "title": problem.title,
                "what": problem.what,
                "where_to_look": problem.where,
                "run_again": problem.again,
            }
            for problem in problems
        ],
    }


def _dag_document(pipeline: Pipeline, dag: Dag, seen: Observation, problems: Sequence[Problem]) -> dict[str, Any]:
    last = seen.runs.dags.get(dag.dag_id, LastRun())
    return {
        "dag": dag.dag_id,
        "state": state_of(dag, seen, problems),
        "running": _running_document(seen.runs.running.get(dag.dag_id)),
        "last_success_at": last.success_at.isoformat() if last.success_at else None,
        "last_success_run": last.success_run or None,
        "last_tally_at": last.tally_at.isoformat() if last.tally_at else None,
        **{name: last.tally.get(name) for name in COUNTS},
        "freshness_seconds": {table: seen.freshness_seconds(pipeline.dags, table) for table in dag.tables},
        "queues": {
            queue: {
                "depth": seen.queues[queue].depth,
                "in_flight": seen.queues[queue].in_flight,
                "age_seconds": seen.queues[queue].age_seconds,
                "growth_per_minute": seen.queues[queue].growth_per_minute,
                "gone_in_seconds": seen.queues[queue].gone_in_seconds,
                "dead_letters": seen.queues[queue].dead_letters,
            }
            for queue in dag.queues
        },
        "stream_lag_seconds": {stream.name: seen.lags[stream.name] for stream in dag.streams},
    }


def _running_document(running: Running | None) -> dict[str, str] | None:
    return {"run": running.run_id, "started_at": running.started_at.isoformat()} if running else None


def _print(settings: Settings, watched: Sequence[Pipeline], seen: Observation, problems: Sequence[Problem]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from sluice.core.console import console

    out = console()
    title = f"{settings.resource_prefix} at {at_text(seen.at)}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=0)
    left_out = "quarantined" if out.width < WIDE_COLUMNS else ""
    shown = [name for name in COLUMNS if name != left_out]
    for name in shown:
        table.add_column(name, justify="left" if name in ("Dag", "state") else "right", no_wrap=name != "state")
    backlog = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    backlog.add_column("queue or stream", overflow="fold")
    for name in ("waiting", "in flight", "dead letters"):
        backlog.add_column(name, justify="right", no_wrap=True)
    backlog.add_column("trend", overflow="fold")
    for pipeline in watched:
        for dag in pipeline.dags:
            row = _row(pipeline, dag, seen, problems)
            table.add_row(*(row[name] for name in shown))
            for queue in dag.queues:
                backlog.add_row(*_queue_row(queue, seen.queues[queue]))
            for stream in dag.streams:
                lag = seen.lags[stream.name]
                backlog.add_row(stream.name, "missing" if lag is None else duration_text(lag), "-", "-", "")
        table.add_section()
    out.print(table)
    if left_out:
        out.print(f"Too narrow for: {left_out} (a wider terminal, or --json, shows it)", highlight=False)
    out.print(backlog)
    if seen.runs.canary:
        out.print(canary_line(seen), highlight=False)
    for problem in problems:
        out.print(f"[bold red]{escape(problem.title)}[/]")
        for name, value in (("what", problem.what), ("look at", problem.where), ("run again", problem.again)):
            # Not wrapped, so that a command can be copied.
            out.print(f"  {name + ':':<11}{escape(value)}", soft_wrap=True)
    if not problems:
        out.print("[green]Nothing is wrong.[/]")


def canary_line(seen: Observation) -> str:
    """`canary: dockerhub 8 s, events failed, ...; 12 min ago`: the result of the last one."""
    results = seen.runs.canary
    latencies = {name: results[name].latency_seconds for name in canary_records.DAGS if name in results}
    ago = duration_text((seen.at - max(each.at for each in results.values())).total_seconds())
    return f"canary: {canary_records.summary(latencies)}; {ago} ago"


def _row(pipeline: Pipeline, dag: Dag, seen: Observation, problems: Sequence[Problem]) -> dict[str, str]:
    state = state_of(dag, seen, problems)
    colour = {"ok": "green", "first run": "green", "never ran": "dim"}.get(state, "bold red")
    last = seen.runs.dags.get(dag.dag_id, LastRun())
    age = duration_text((seen.at - last.success_at).total_seconds()) if last.success_at else "-"
    counts = [f"{last.tally[name]:,}" if name in last.tally else "-" for name in COUNTS if name != "duplicates"]
    ages = [seen.freshness_seconds(pipeline.dags, table) for table in dag.tables]
    known = [age for age in ages if age is not None]
    freshness = duration_text(max(known)) if known else "-"
    return dict(zip(COLUMNS, [dag.dag_id, f"[{colour}]{state}[/]", age, *counts, freshness], strict=True))


def _queue_row(queue: str, state: QueueState) -> list[str]:
    waiting = "missing" if state.depth is None else f"{state.depth:,}"
    dead = "missing" if state.dead_letters is None else f"{state.dead_letters:,}"
    has_backlog = bool(state.depth or state.in_flight)
    return [queue, waiting, f"{state.in_flight:,}", dead, trend_text(state).removeprefix(", ") if has_backlog else ""]
