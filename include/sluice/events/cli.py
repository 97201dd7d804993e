"""Commands of the pipeline: `sluice produce events` and `sluice events read`."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sluice.commands import AwsCommand, AwsGroup
from sluice.console import Column, console, print_json_lines, print_table, time_text

SHARE = click.FloatRange(0, 1)
POSITIVE = click.FloatRange(min=0, min_open=True)


class _Moment(click.ParamType[datetime]):
    """A time in ISO 8601; without a zone it is UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time, in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time: write it like 2024-04-07T17:00", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


MOMENT = _Moment()
NOT_IN_TABLE = ("created_datetime", "shard_id", "sequence_number")
"""Columns that only `--json` prints."""


@click.command("events", cls=AwsCommand)
@click.option("--rate", default=100.0, show_default=True, type=POSITIVE, help="Records a second.")
@click.option("--seconds", default=60.0, show_default=True, type=POSITIVE, help="For how long.")
@click.option(
    "--duplicates", default=0.05, show_default=True, type=SHARE, help="Share of records that repeat an event."
)
@click.option("--late", default=0.02, show_default=True, type=SHARE, help="Share that is 1 to 3 hours late.")
@click.option("--malformed", default=0.01, show_default=True, type=SHARE, help="Share that is to be rejected.")
@click.option("--seed", type=int, help="Same seed, start and until: same records. At random if not given.")
@click.option("--start", type=MOMENT, help="created_at of the first event; now if not given.")
@click.option("--until", type=MOMENT, help="created_at just behind the last event; start and seconds if not given.")
@click.option("--burst", is_flag=True, help="Send as fast as Kinesis takes them, not at the rate.")
def produce_events(
    rate: float,
    seconds: float,
    duplicates: float,
    late: float,
    malformed: float,
    seed: int | None,
    start: datetime | None,
    until: datetime | None,
    burst: bool,
) -> None:
    """Put events into the stream, with known shares of duplicates, late and malformed ones."""
    from sluice.events.produce import produce as put_events

    seed = secrets.randbelow(2**32) if seed is None else seed
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("events", total=round(rate * seconds))
        try:
            made = put_events(
                rate=rate,
                seconds=seconds,
                duplicates=duplicates,
                late=late,
                malformed=malformed,
                seed=seed,
                start=start,
                until=until,
                paced=not burst,
                progress=lambda records: bar.advance(task, records),
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    counts = made.counts
    click.echo(
        f"{counts['records']} records in {made.seconds:.1f} s ({counts['records'] / made.seconds:.0f}/s), seed {seed}:"
        f" {counts['distinct']} events ({counts['late']} late), {counts['duplicates']} duplicates,"
        f" {counts['malformed']} malformed"
    )
    rows = [(f"{hour:%Y-%m-%dT%H}", events) for hour, events in made.truth.items()]
    print_table((Column("hour (UTC)", "time"), Column("distinct events", "number")), rows)


@click.group(cls=AwsGroup)
def events() -> None:
    """Look at the events of the lake."""


@events.command()
@click.option("--hour", required=True, type=MOMENT, help="Any time in the hour, such as 2024-04-07T17.")
@click.option("--limit", default=10, show_default=True, type=click.IntRange(min=0), help="Rows to print.")
@click.option("--json", "as_json", is_flag=True, help="Print rows as JSON Lines instead of a table.")
def read(hour: datetime, limit: int, as_json: bool) -> None:
    """Read a published hour of events, as a query engine would."""
    from sluice.events.storage import hour_text, read_hour

    found = read_hour(hour.replace(minute=0, second=0, microsecond=0))
    rows = found.slice(0, limit).to_pylist()
    if as_json:
        print_json_lines(rows)
        return
    first = ("event_uuid", "created_at", "event_name")
    others = [name for name in found.schema.names if name not in (*first, *NOT_IN_TABLE)]
    columns = [
        Column("event_uuid", "time"),
        Column("created_at", "time"),
        Column("event_name"),
        *(Column(name, "time" if name == "arrived_at" else "text") for name in others),
    ]
    lines = [
        [row["event_uuid"], _created(row["created_at"]), row["event_name"], *(row[name] for name in others)]
        for row in rows
    ]
    print_table(columns, lines)
    click.echo(f"{found.num_rows} events in hour {hour_text(hour)}, {len(rows)} shown")


def _created(epoch_seconds: float | None) -> str | None:
    if epoch_seconds is None:
        return None
    return time_text(datetime.fromtimestamp(epoch_seconds, UTC), "milliseconds")
