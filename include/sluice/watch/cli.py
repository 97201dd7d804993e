"""`sluice status`: all pipelines on one screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from sluice.deploy import account_id
from sluice.environment import web_url
from sluice.errors import SluiceError
from sluice.settings import Settings, load_settings
from sluice.tally import COUNTS
from sluice.watch.observation import Observation, look
from sluice.watch.pipelines import Pipeline, WatchedDag, pipelines
from sluice.watch.problems import Problem, at_text, duration_text, find_problems
from sluice.watch.runs import LastRun, utc_now


class StatusUnknown(SluiceError):
    """AWS did not answer."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def status(as_json: bool) -> None:
    """Show what ran, what waits and how old the data is; exit code 1 when something is wrong."""
    settings = load_settings()
    # One try that names the way out, before the many requests that would each try for long.
    account_id(settings)
    watched = pipelines(settings)
    try:
        seen = look(settings, watched, utc_now())
    except (BotoCoreError, ClientError) as error:
        raise StatusUnknown(f"AWS did not answer: {error}") from None
    problems = find_problems(watched, seen, web_url(settings))
    if as_json:
        click.echo(json.dumps(document(settings, watched, seen, problems), indent=2))
    else:
        _print(settings, watched, seen, problems)
    sys.exit(1 if problems else 0)


def document(
    settings: Settings, watched: Sequence[Pipeline], seen: Observation, problems: Sequence[Problem]
) -> dict[str, Any]:
    """The status as plain values: times in ISO 8601 (UTC), durations in seconds, null where nothing is known."""
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


def _dag_document(
    pipeline: Pipeline, dag: WatchedDag, seen: Observation, problems: Sequence[Problem]
) -> dict[str, Any]:
    last = seen.runs.dags.get(dag.dag_id, LastRun())
    return {
        "dag": dag.dag_id,
        "state": state_of(dag, seen, problems),
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
                "dead_letters": seen.queues[queue].dead_letters,
            }
            for queue in dag.queues
        },
        "stream_lag_seconds": {stream.name: seen.lags[stream.name] for stream in dag.streams},
    }


def state_of(dag: WatchedDag, seen: Observation, problems: Sequence[Problem]) -> str:
    """`failing`, `stale`, another kind of problem, `never ran`, or `ok`."""
    kinds = [problem.kind for problem in problems if problem.dag_id == dag.dag_id]
    if kinds:
        return kinds[0]
    last = seen.runs.dags.get(dag.dag_id)
    return "ok" if last and last.success_at else "never ran"


def _print(settings: Settings, watched: Sequence[Pipeline], seen: Observation, problems: Sequence[Problem]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from sluice.console import console

    out = console()
    title = f"{settings.resource_prefix} at {at_text(seen.at)}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for name in ("Dag", "state", "last run", "in", "published", "quarantined", "freshness", "waiting", "dead letters"):
        table.add_column(name, justify="left" if name in ("Dag", "state") else "right", no_wrap=True)
    for pipeline in watched:
        for dag in pipeline.dags:
            table.add_row(*_row(pipeline, dag, seen, problems))
        table.add_section()
    out.print(table)
    for problem in problems:
        out.print(f"[bold red]{escape(problem.title)}[/]")
        for name, value in (("what", problem.what), ("look at", problem.where), ("run again", problem.again)):
            # Not wrapped: a command is there to be copied.
            out.print(f"  {name + ':':<11}{escape(value)}", soft_wrap=True)
    if not problems:
        out.print("[green]Nothing is wrong.[/]")


def _row(pipeline: Pipeline, dag: WatchedDag, seen: Observation, problems: Sequence[Problem]) -> list[str]:
    state = state_of(dag, seen, problems)
    colour = {"ok": "green", "never ran": "dim"}.get(state, "bold red")
    last = seen.runs.dags.get(dag.dag_id, LastRun())
    ago = f"{duration_text((seen.at - last.success_at).total_seconds())} ago" if last.success_at else "-"
    counts = [f"{last.tally[name]:,}" if name in last.tally else "-" for name in COUNTS if name != "duplicates"]
    ages = [seen.freshness_seconds(pipeline.dags, table) for table in dag.tables]
    known = [age for age in ages if age is not None]
    freshness = duration_text(max(known)) if known else "-"
    queues = [seen.queues[queue] for queue in dag.queues]
    waiting = [f"{(queue.depth or 0) + queue.in_flight:,}" for queue in queues]
    waiting += [f"lag {duration_text(seen.lags[stream.name] or 0)}" for stream in dag.streams]
    dead = f"{sum(queue.dead_letters or 0 for queue in queues):,}" if queues else "-"
    return [dag.dag_id, f"[{colour}]{state}[/]", ago, *counts, freshness, " + ".join(waiting) or "-", dead]
