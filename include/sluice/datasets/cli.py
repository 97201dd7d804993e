"""Commands of the pipeline: `sluice produce dataset` and `sluice datasets show`."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace

import click


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


@datasets.command()
@click.argument("name")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=0), help="Rows to print.")
@click.option("--json", "as_json", is_flag=True, help="Print rows as JSON Lines instead of a table.")
def show(name: str, limit: int, as_json: bool) -> None:
    """The published dataset NAME, and which source it was made of."""
    from urllib.parse import unquote

    from rich.table import Table

    from sluice.console import console
    from sluice.datasets.storage import read_output

    found, published = read_output(name)
    if as_json:
        for row in found[:limit]:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    click.echo(f"{name}: {len(found)} dps of {published.records} rows, from {unquote(published.source)}")
    if not found:
        return
    table = Table(box=None)
    for column in found[0]:
        table.add_column(column, justify="left" if column == "dp" else "right", overflow="fold")
    for row in found[:limit]:
        table.add_row(*(str(value) for value in row.values()))
    console().print(table)
    if len(found) > limit:
        click.echo(f"{limit} of {len(found)} rows shown; --limit shows more")
