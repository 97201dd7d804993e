"""`sluice dockerhub`: show the published statistics."""

from __future__ import annotations

import click

from sluice.core.commands import AwsGroup
from sluice.core.console import Column, print_json_lines, print_table
from sluice.pipelines.dockerhub import storage
from sluice.settings import load_settings


@click.group(cls=AwsGroup)
def dockerhub() -> None:
    """Show the popularity of images over time."""


@dockerhub.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines instead of a table.")
def show(as_json: bool) -> None:
    """Stars and pulls of every watched repository, by month."""
    name = load_settings().dockerhub_table
    months = storage.read_all_months(name)
    if as_json:
        fields = ("repository", "month", "star_count", "pull_count")
        print_json_lines(dict(zip(fields, month, strict=True)) for month in months)
        return
    columns = (Column("repository"), Column("month", "time"), Column("stars", "number"), Column("pulls", "number"))
    rows = [(repository, month, f"{stars:,}", f"{pulls:,}") for repository, month, stars, pulls in months]
    print_table(columns, rows, title=f"DynamoDB table {name}")
