"""`sluice produce`: sample data of every pipeline, with known shares of duplicates, late and malformed records."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sluice.core.commands import AwsCommand
from sluice.core.console import Column, console, print_table

if TYPE_CHECKING:
    from sluice_dev.samples.modules import Fleet

SHARE = click.FloatRange(0, 1)
COUNT = click.IntRange(min=1)
POSITIVE = click.FloatRange(min=0, min_open=True)
Command = TypeVar("Command", bound=Callable[..., Any])

EXAMPLES = 5
"""Rates that a message shows."""


@click.group()
def produce() -> None:
    """Make sample data, and check what was made of it."""


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


@produce.command("events", cls=AwsCommand)
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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sluice_dev.samples.events import produce as put_events

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


def fleet_options(command: Command) -> Command:
    """The options that describe a fleet, but for its seed."""
    for option in (
        click.option("--malformed", default=0.01, show_default=True, type=SHARE, help="Share followed by a bad one."),
        click.option("--late", default=0.05, show_default=True, type=SHARE, help="Share that comes late."),
        click.option("--duplicates", default=0.05, show_default=True, type=SHARE, help="Share that comes twice."),
        click.option("--resets", default=0.1, show_default=True, type=SHARE, help="Share of weeks with a reset."),
        click.option("--losses", default=0.1, show_default=True, type=SHARE, help="Share that never arrives."),
        click.option("--attempts", default=6, show_default=True, type=COUNT, help="Transmissions a module and week."),
        click.option("--weeks", default=4, show_default=True, type=COUNT, help="Diagnostics of each module."),
        click.option("--modules", default=100, show_default=True, type=COUNT, help="Size of the fleet."),
    ):
        command = option(command)
    return command


def _fleet(options: dict[str, Any]) -> Fleet:
    from sluice_dev.samples.modules import Fleet

    return Fleet(**options)


@produce.command("modules", cls=AwsCommand)
@fleet_options
@click.option("--seed", type=int, help="Same seed and options: same fleet. At random if not given.")
def produce_modules(seed: int | None, **options: Any) -> None:
    """Publish the messages and weekly diagnostics of a fleet, with known losses and resets."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from sluice_dev.samples.modules import produce

    fleet = _fleet(options | {"seed": secrets.randbelow(2**32) if seed is None else seed})
    with Progress(TextColumn("records"), BarColumn(), MofNCompleteColumn(), console=console(), transient=True) as bar:
        task = bar.add_task("records", total=None)
        made = produce(fleet, lambda records: bar.advance(task, records))
    counts = made.counts
    records = sum(counts.values())
    click.echo(
        f"{records} records in {made.seconds:.1f} s ({records / made.seconds:.0f}/s), seed {fleet.seed}:"
        f" {counts['message'] + counts['late']} messages ({counts['late']} late), {counts['diagnostic']} diagnostics,"
        f" {counts['duplicate']} duplicates, {counts['malformed']} malformed"
    )


@produce.command("check-modules", cls=AwsCommand)
@fleet_options
@click.option("--seed", type=int, required=True, help="Of the fleet that was produced.")
def check_modules(seed: int, **options: Any) -> None:
    """Compare every published rate of a fleet with its true rate; fails where one differs."""
    from sluice.pipelines.modules import storage
    from sluice.settings import load_settings
    from sluice_dev.samples.modules import true_rates

    truth = true_rates(_fleet(options | {"seed": seed}))
    found = {
        (each.module_id, each.timestamp): each.judged.success_rate
        for each in storage.read_all_diagnostics(load_settings().modules_diagnostic_table)
        if each.judged
    }
    wrong = [key for key, rate in truth.items() if found.get(key) != rate]
    click.echo(f"{len(truth) - len(wrong)} of {len(truth)} published rates equal the true rate exactly")
    if wrong:
        examples = [f"  {key[0]} at {key[1]}: {found.get(key)}, should be {truth[key]}" for key in wrong[:EXAMPLES]]
        raise click.ClickException("\n".join([f"{len(wrong)} rates differ or are missing:", *examples]))


@produce.command("partners", cls=AwsCommand)
@click.option("--partners", "partners_count", default=6, show_default=True, type=COUNT, help="How many partners.")
@click.option("--accommodations", default=1000, show_default=True, type=COUNT, help="Different accommodations.")
@click.option("--overlap", default=0.3, show_default=True, type=SHARE, help="Share that several partners have.")
@click.option(
    "--malformed",
    default=0.01,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    help="Share that is to be rejected.",
)
@click.option("--record-bytes", default=250, show_default=True, type=COUNT, help="Size of a record, about.")
@click.option("--file-records", default=1000, show_default=True, type=COUNT, help="Records of a file at the most.")
@click.option("--seed", type=click.IntRange(min=0), help="Same seed: same files. At random if not given.")
def produce_partners(
    partners_count: int,
    accommodations: int,
    overlap: float,
    malformed: float,
    record_bytes: int,
    file_records: int,
    seed: int | None,
) -> None:
    """Drop files of partners, whose catalogues overlap, in the landing bucket."""
    from collections import Counter

    from sluice_dev.samples.accommodations import Catalogues, produce

    seed = secrets.randbelow(2**32) if seed is None else seed
    what = Catalogues(partners_count, accommodations, overlap, malformed, record_bytes, file_records, seed)
    with console().status("dropping files"):
        made = produce(what)
    counts = made.counts
    click.echo(
        f"{counts['files']} files with {counts['records']} records ({counts['malformed']} malformed), seed {seed}"
    )
    rows = sorted(Counter(partner for partner, _ in made.truth.values()).items())
    print_table((Column("partner"), Column("accommodations that must come from it", "number")), rows)


@produce.command("dataset", cls=AwsCommand)
@click.argument("name", default="sample")
@click.option("--rows", default=1000, show_default=True, type=click.IntRange(min=0), help="Rows of the file.")
@click.option("--size-mb", type=click.FloatRange(min=0, min_open=True), help="Size of the file, instead of --rows; MB.")
@click.option("--dps", default=20, show_default=True, type=click.IntRange(min=1), help="Distinct values of dp, about.")
@click.option(
    "--malformed", default=0.02, show_default=True, type=click.FloatRange(0, 1), help="Share that is to be rejected."
)
@click.option("--seed", type=int, help="Same seed: same rows. At random if not given.")
def produce_dataset(name: str, rows: int, size_mb: float | None, dps: int, malformed: float, seed: int | None) -> None:
    """Drop off a CSV, datasets/NAME.csv of the landing bucket."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sluice.core.console import console
    from sluice_dev.samples.datasets import Shape, produce, rows_of_size

    shape = Shape(rows, dps, malformed, secrets.randbelow(2**32) if seed is None else seed)
    if size_mb is not None:
        shape = replace(shape, rows=rows_of_size(size_mb * 1e6, shape))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("rows", total=shape.rows)
        made = produce(name, shape, lambda count: bar.advance(task, count))
    click.echo(
        f"{made.address}: {made.rows:,} rows, {made.malformed:,} malformed, {made.size_bytes:,} bytes,"
        f" seed {shape.seed}"
    )
