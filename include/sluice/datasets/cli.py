"""Commands of the pipeline: `sluice produce dataset`, `sluice datasets list` and `sluice datasets show`."""

from __future__ import annotations

import secrets
from dataclasses import replace

import click

from sluice.console import Column, print_json_lines, print_table


@click.command("dataset")
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

    from sluice.console import console
    from sluice.datasets.produce import Shape, produce, rows_of_size

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


@click.group()
def datasets() -> None:
    """CSV in, aggregated parquet out."""


@datasets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of a table.")
def list_datasets(as_json: bool) -> None:
    """The published datasets: rows of the source, the source and its version, and when it was published."""
    from sluice.datasets.storage import list_outputs

    found = list_outputs()
    if as_json:
        print_json_lines(found)
        return
    if not found:
        click.echo("no dataset is published yet: `sluice produce dataset` drops a sample off")
        return
    columns = (
        Column("name"),
        Column("rows", "number"),
        Column("source"),
        Column("published (UTC)", "time"),
        Column("version"),
    )
    print_table(columns, [tuple(each.values()) for each in found])


@datasets.command()
@click.argument("name")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=0), help="Rows to print.")
@click.option("--json", "as_json", is_flag=True, help="Print rows as JSON Lines instead of a table.")
def show(name: str, limit: int, as_json: bool) -> None:
    """The published dataset NAME, and which source it was made of."""
    from urllib.parse import unquote

    from sluice.datasets.storage import read_output

    found, published = read_output(name)
    if as_json:
        print_json_lines(found[:limit])
        return
    click.echo(f"{name}: {len(found)} dps of {published.records} rows, from {unquote(published.source)}")
    if not found:
        return
    columns = [Column(name, "text" if name == "dp" else "number") for name in found[0]]
    print_table(columns, [tuple(row.values()) for row in found[:limit]])
    if len(found) > limit:
        click.echo(f"{limit} of {len(found)} rows shown; --limit shows more")
