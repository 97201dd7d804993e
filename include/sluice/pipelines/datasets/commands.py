"""`sluice datasets list` and `sluice datasets show`: the published datasets."""

from __future__ import annotations

import click

from sluice.core.console import Column, print_json_lines, print_table


@click.group()
def datasets() -> None:
    """Published datasets: aggregates of CSV files."""


@datasets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of a table.")
def list_datasets(as_json: bool) -> None:
    """The published datasets: rows of the source, the source and its version, and when it was published."""
    from sluice.pipelines.datasets.storage import list_outputs

    found = list_outputs()
    if as_json:
        print_json_lines(found)
        return
    if not found:
        click.echo("no dataset is published yet: `sluice produce dataset` uploads a sample")
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
    """The published dataset NAME and its source."""
    from urllib.parse import unquote

    from sluice.pipelines.datasets.storage import read_output

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
