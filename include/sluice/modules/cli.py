"""Commands of the pipeline: `sluice produce modules`, `sluice modules show` and `sluice modules check`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sluice.commands import AwsCommand, AwsGroup
from sluice.console import Column, console, print_json_lines, print_table

if TYPE_CHECKING:
    from sluice.modules.produce import Fleet
    from sluice.modules.transform import Diagnostic

SHARE = click.FloatRange(0, 1)
COUNT = click.IntRange(min=1)
Command = TypeVar("Command", bound=Callable[..., Any])

EXAMPLES = 5
"""Rates that a message shows."""


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
    from sluice.modules.produce import Fleet

    return Fleet(**options)


@click.command("modules", cls=AwsCommand)
@fleet_options
@click.option("--seed", type=int, help="Same seed and options: same fleet. At random if not given.")
def produce_modules(seed: int | None, **options: Any) -> None:
    """Publish the messages and weekly diagnostics of a fleet, with known losses and resets."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from sluice.modules.produce import produce

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


@click.group(cls=AwsGroup)
def modules() -> None:
    """Look at the success rates of modules."""


@modules.command()
@click.option("--module", "module_id", help="Only this module.")
@click.option("--limit", default=20, show_default=True, type=COUNT, help="Rows to print.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of a table.")
def show(module_id: str | None, limit: int, as_json: bool) -> None:
    """Weekly diagnostics and the rates that were published."""
    from sluice.modules import storage
    from sluice.settings import load_settings

    name = load_settings().modules_diagnostic_table
    found = storage.read_all_diagnostics(name) if module_id is None else storage.read_diagnostics(name, module_id)
    rows = [_row(each) for each in islice(found, limit)]
    if module_id is not None and not rows:
        raise click.ClickException(f"there is no weekly diagnostic of module {module_id!r} in DynamoDB table {name}")
    if as_json:
        print_json_lines(rows)
        return
    names = ("module", "timestamp", "success rate", "attempts", "received", "counted from")
    columns = [Column(each, "text" if each == "module" else "number") for each in names]
    lines = []
    for row in rows:
        rate = row["success_rate"]
        shown = row["state"] if rate is None else f"{rate:.2f} %"
        lines.append((row["module"], row["timestamp"], shown, row["attempts"], row["received"], row["counted_from"]))
    print_table(columns, lines, title=f"DynamoDB table {name}")


def _row(diagnostic: Diagnostic) -> dict[str, Any]:
    judged = diagnostic.judged
    return {
        "module": diagnostic.module_id,
        "timestamp": diagnostic.timestamp,
        "attempts": diagnostic.attempts,
        "received": judged.received if judged else None,
        "counted_from": judged.reset if judged else None,
        "success_rate": judged.success_rate if judged else None,
        "state": "not judged yet" if judged is None else "rejected" if judged.success_rate is None else "published",
    }


@modules.command()
@fleet_options
@click.option("--seed", type=int, required=True, help="Of the fleet that was produced.")
def check(seed: int, **options: Any) -> None:
    """Compare every published rate of a fleet with its true rate; fails where one differs."""
    from sluice.modules import storage
    from sluice.modules.produce import true_rates
    from sluice.settings import load_settings

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
