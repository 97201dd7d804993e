"""`sluice events hours`: publications of hours, and dirty hours."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from sluice.core.commands import AwsGroup
from sluice.core.console import Column, print_json_lines, print_table

if TYPE_CHECKING:
    from sluice.pipelines.events.dirty_hours import DirtyHour
    from sluice.pipelines.events.hours import PublishedHour

NEWEST_HOURS = 24
"""Number of published hours printed by default, in addition to all dirty ones."""


@click.group(cls=AwsGroup)
def events() -> None:
    """Show the hours of the table `events`."""


def _hour(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    from sluice.pipelines.events.storage import parse_hour

    try:
        return None if value is None else parse_hour(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not an hour ({error}): write it like 2024-04-07T17, in UTC") from None


@events.command("hours")
@click.option("--from", "first", metavar="HOUR", callback=_hour, help="First hour (UTC), such as 2024-04-07T17.")
@click.option("--to", "last", metavar="HOUR", callback=_hour, help="Last hour (UTC), included.")
@click.option("--dirty", "only_dirty", is_flag=True, help="Only hours whose raw data changed since.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of tables.")
def show_hours(first: datetime | None, last: datetime | None, only_dirty: bool, as_json: bool) -> None:
    """Hours with run, snapshot and number of raw files of their publication, and the reason of each dirty hour.

    A dirty hour is published again by events_hourly once it is over. Without --from and --to: the newest 24 hours, and
    all that are dirty.
    """
    from sluice.pipelines.events.dirty_hours import list_dirty_hours
    from sluice.pipelines.events.hours import list_published
    from sluice.settings import load_settings

    settings = load_settings()
    table, stream = settings.events_hours_table, settings.events_stream
    dirty = {each.hour: each for each in list_dirty_hours(table, stream, first, last)}
    published = list_published(table, stream, first, last)
    asked = set(dirty) if only_dirty else set(dirty) | set(published)
    if not (first or last or only_dirty):
        asked = set(dirty) | set(sorted(published)[-NEWEST_HOURS:])
    rows = [_row(hour, published.get(hour), dirty.get(hour)) for hour in sorted(asked)]
    if as_json:
        print_json_lines(rows)
        return
    if not rows:
        click.echo("no hour is dirty" if only_dirty else "no such hour was published, and none is dirty")
        return
    _print(rows, table)
    if (hidden := len(set(published) - asked)) and not only_dirty:
        click.echo(f"{hidden:,} older hours are not shown; --from and --to show them")


def _row(hour: datetime, published: PublishedHour | None, dirty: DirtyHour | None) -> dict[str, Any]:
    from sluice.pipelines.events.storage import hour_text

    return {
        "hour": hour_text(hour),
        "state": "dirty" if dirty else "published",
        "rows": published.rows if published else None,
        "raw_files": published.raw_files if published else None,
        "snapshot_id": published.snapshot_id if published else None,
        "published_by": published.run if published else None,
        "published_at": published.published_at if published else None,
        "dirty_since": dirty.since if dirty else None,
        "dirty_reason": dirty.reason if dirty else None,
        "requested_by": dirty.requested_by if dirty else None,
        "requested_at": dirty.requested_at if dirty else None,
    }


def _print(rows: list[dict[str, Any]], table: str) -> None:
    """Two tables, as one with all columns would not fit 80 characters."""
    columns = (
        Column("hour (UTC)", "time"),
        Column("state", "time"),
        Column("rows", "number"),
        Column("raw files", "number"),
        Column("snapshot", "number"),
        Column("published by"),
    )
    names = ("hour", "state", "rows", "raw_files", "snapshot_id", "published_by")
    print_table(columns, [[row[name] for name in names] for row in rows], title=f"DynamoDB table {table}")
    dirty = [row for row in rows if row["state"] == "dirty"]
    if dirty:
        click.echo()
        lines = [[row["hour"], _seconds(row["dirty_since"]), row["dirty_reason"], row["requested_by"]] for row in dirty]
        names_shown = (Column("dirty hour", "time"), Column("since", "time"), Column("reason"), Column("requested by"))
        print_table(names_shown, lines)


def _seconds(at: datetime | None) -> datetime | None:
    return at.replace(microsecond=0) if at else None
