"""`sluice dockerhub`: look at what the pipeline published."""

from __future__ import annotations

import click

from sluice.dockerhub import storage
from sluice.settings import load_settings


@click.group()
def dockerhub() -> None:
    """How popular is an image, over time."""


@dockerhub.command()
def show() -> None:
    """Stars and pulls of every watched repository, by month."""
    from rich.table import Table

    from sluice.console import console

    table = Table("repository", "month", "stars", "pulls", title=f"DynamoDB table {load_settings().dockerhub_table}")
    for column in table.columns[2:]:
        column.justify = "right"
    for repository, month, star_count, pull_count in storage.read_all_months(load_settings().dockerhub_table):
        table.add_row(repository, month, f"{star_count:,}", f"{pull_count:,}")
    console().print(table)
