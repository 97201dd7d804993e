"""`sluice produce`: sample data of every pipeline, with known shares of duplicates, late and malformed records."""

from __future__ import annotations

import click

from sluice_dev.samples import sample


@click.group()
def produce() -> None:
    """Produce sample data, and check the published results."""


for _command in sample.commands():
    produce.add_command(_command)
