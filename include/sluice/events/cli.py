"""The command of the pipeline: `sluice produce events`; what it publishes is read by `sluice tables`."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sluice.commands import AwsCommand
from sluice.console import Column, console, print_table

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
