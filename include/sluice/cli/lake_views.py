"""`sluice quality` and `sluice quarantine`: results of gates and rejected records, as in the page Lake."""

from __future__ import annotations

import json
from typing import Any, TextIO
from urllib.parse import urlencode

import click

from sluice.core.commands import AwsGroup
from sluice.core.console import Column, console, print_json_lines, print_table
from sluice.environment import web_url
from sluice.lake_views import quality as gates
from sluice.lake_views import quarantine as rejected
from sluice.lake_views import release
from sluice.lake_views.overview import gate_document
from sluice.monitoring.pipelines import pipelines
from sluice.settings import Settings, load_settings

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def _dags(settings: Settings) -> set[str]:
    return {dag.dag_id for pipeline in pipelines(settings) for dag in pipeline.dags}


def _page(settings: Settings, path: str, **values: str) -> str:
    given = urlencode({name: value for name, value in values.items() if value})
    return f"{web_url(settings)}/plugin/lake/{path}" + (f"?{given}" if given else "")


@click.group(cls=AwsGroup)
def quality() -> None:
    """Results of the data-quality gates."""


@quality.command("list")
@AS_JSON
def list_gates(as_json: bool) -> None:
    """The newest result of every gate, failed and warned ones first."""
    settings = load_settings()
    found = gates.read_newest(settings, _dags(settings))
    if as_json:
        print_json_lines(gate_document(gate) for gate in found)
        return
    columns = (Column("gate", "time"), Column("outcome", "time"), Column("at (UTC)", "time"), Column("run"))
    print_table(columns, [(gate.gate, gate.outcome, f"{gate.at:%Y-%m-%d %H:%M:%S}", gate.run_id) for gate in found])
    if found:
        click.echo(f"`sluice quality open {found[0].gate}` shows one; {_page(settings, 'quality')}")
    else:
        click.echo("No gate has run yet: a run of any pipeline has one.")


@quality.command("open")
@click.argument("gate")
@click.option("--run", default="", help="Id of a run; the newest one if not given.")
@AS_JSON
def open_gate(gate: str, run: str, as_json: bool) -> None:
    """The expectations and findings of GATE, such as events/hourly, for a run, and the address of its page."""
    settings = load_settings()
    found = gates.read_gate(settings, gate, run)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    chosen, report = found["chosen"], found["report"]
    click.echo(f"{gate} {chosen['outcome']} at {chosen['at'][:19].replace('T', ' ')} UTC, run {chosen['run']}")
    if report is None:
        click.echo("Its report has expired.")
        return
    columns = (Column("outcome", "time"), Column("expected"), Column("found"))
    print_table(columns, [_finding(each) for each in report["findings"]])
    click.echo(f"page:       {_page(settings, f'quality/{gate}', run=chosen['run'])}")
    for name in ("report", "staging", "quarantine"):
        click.echo(f"{name + ':':<11} s3://{settings.lake_bucket}/{found['places'][name]}")


def _finding(finding: dict[str, Any]) -> tuple[str, str, str]:
    observed = finding["observed"]
    seen = finding.get("found", "")
    return (
        gates.outcome_of(finding),
        finding.get("expected") or finding["expectation"],
        f"{seen}; {observed}" if seen and observed else seen or observed,
    )


@click.group(cls=AwsGroup)
def quarantine() -> None:
    """Rejected records."""


PIPELINE = click.option("--pipeline", default="", help="Only records of this pipeline.")
REASON = click.option("--reason", default="", help="Only records of this reason, such as not_json.")
DAY = click.option("--day", default="", metavar="YYYY-MM-DD", help="Only records of this day (UTC).")


@quarantine.command("list")
@PIPELINE
@DAY
@AS_JSON
def list_counts(pipeline: str, day: str, as_json: bool) -> None:
    """Rejected records by pipeline, reason and day, of the newest files."""
    settings = load_settings()
    found = _read(settings, pipeline=pipeline, day=day)
    if as_json:
        print_json_lines(found["counts"])
        return
    columns = (Column("pipeline", "time"), Column("reason", "time"), Column("day", "time"), Column("records", "number"))
    rows = [(each["pipeline"], each["reason"], each["day"], f"{each['records']:,}") for each in found["counts"]]
    print_table(columns, rows)
    if not found["is_listed"]:
        note = f" in the newest of the first {found['files_listed']:,} files by key: there are more, see Files"
    else:
        note = "" if found["is_whole"] else " in the newest files: choose a --pipeline and a --day for others"
    click.echo(f"{sum(each['records'] for each in found['counts']):,} records{note}")


@quarantine.command("show")
@PIPELINE
@REASON
@DAY
@click.option("--limit", default=10, show_default=True, type=click.IntRange(1, rejected.RECORDS_SHOWN), help="Records.")
@AS_JSON
def show_records(pipeline: str, reason: str, day: str, limit: int, as_json: bool) -> None:
    """The newest rejected records with reason, source, and content as received."""
    settings = load_settings()
    found = _read(settings, pipeline=pipeline, reason=reason, day=day)
    records = found["records"][:limit]
    if as_json:
        print_json_lines(records)
        return
    out = console()
    for each in records:
        out.print(f"{each['reason']}: {each['detail']}", highlight=False, markup=False)
        for name, value in (
            ("from", each["source"]),
            ("record", str(each["record"])),
            ("file", f"s3://{found['bucket']}/{each['key']}"),
        ):
            out.print(f"  {name + ':':<7} {value}", highlight=False, markup=False, soft_wrap=True)
    click.echo(f"{len(records)} of {found['matching']} records")
    click.echo(_page(settings, "quarantine", pipeline=pipeline, reason=reason, day=day))


@quarantine.command("release")
@click.argument("pipeline")
@click.argument("source")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.confirmation_option(prompt="It is sent back to its pipeline, which validates it again. Continue?")
def release_record(pipeline: str, source: str, file: TextIO) -> None:
    """Send the corrected record in FILE (- for standard input) back into PIPELINE.

    SOURCE is the source of the rejected record, as printed by `sluice quarantine show`. For datasets FILE is the whole
    corrected file, which replaces the one of SOURCE.
    """
    done = release.release(load_settings(), pipeline, source, file.read())
    click.echo(f"Sent to {done.address}; the next run of {done.dag_id} processes it.")


def _read(settings: Settings, **chosen: str) -> dict[str, Any]:
    names = [pipeline.name for pipeline in pipelines(settings)]
    if chosen.get("pipeline", "") not in ("", *names):
        raise click.BadParameter(f"{chosen['pipeline']!r} is not a pipeline; those are {', '.join(names)}")
    return rejected.read_quarantine(settings, names, **chosen)
