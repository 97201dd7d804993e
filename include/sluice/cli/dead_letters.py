"""`sluice dead-letters`: list messages that failed ten times, and send them back once the cause is fixed."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from sluice.monitoring import dead_letters as letters
from sluice.settings import load_settings

PIPELINE = click.argument("pipeline")
MAX = click.option(
    "--max", "max_messages", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="Of each queue."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group("dead-letters")
def dead_letters() -> None:
    """Messages that failed ten times."""


@dead_letters.command("list")
@PIPELINE
@MAX
@JSON
def list_command(pipeline: str, max_messages: int, as_json: bool) -> None:
    """Show the dead letters of PIPELINE with their subjects and errors."""
    found = letters.list_letters(load_settings(), pipeline, max_messages)
    if as_json:
        rows = [asdict(each) | {"first_sent_at": each.first_sent_at.isoformat()} for each in found]
        click.echo(json.dumps({"pipeline": pipeline, "dead_letters": rows}, indent=2))
        return
    for each in found:
        click.echo(f"{each.queue} {each.message_id}")
        click.echo(f"  first sent: {each.first_sent_at:%Y-%m-%d %H:%M:%S} UTC, received {each.receive_count} times")
        click.echo(f"  about:      {each.about}")
        click.echo(f"  reason:     {each.reason or 'unknown; see the log of the runs that received it'}")
    click.echo(f"{len(found)} dead letters" if found else f"{pipeline} has no dead letters")


@dead_letters.command()
@PIPELINE
@MAX
@click.option("--dry-run/--no-dry-run", default=True, show_default=True, help="Only print how many would be sent back.")
@JSON
def redrive(pipeline: str, max_messages: int, dry_run: bool, as_json: bool) -> None:
    """Send the dead letters of PIPELINE back to its queues, for its next run."""
    done = letters.redrive(load_settings(), pipeline, max_messages, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"pipeline": pipeline, "dry_run": dry_run, "queues": done}, indent=2))
        return
    for queue, counts in done.items():
        if dry_run:
            click.echo(f"{min(counts['waiting'], max_messages)} dead letters would go back to {queue}")
        else:
            click.echo(f"{counts['redriven']} dead letters sent back to {queue}, {counts['refused']} refused by SQS")
    if dry_run:
        click.echo(f"A dry run. To send them: sluice dead-letters redrive {pipeline} --no-dry-run")
