"""`sluice produce`: sample data of every pipeline, each beside the logic that it feeds."""

from __future__ import annotations

import click

from sluice.commands import LazyGroup


class _Producers(LazyGroup):
    elsewhere = {  # noqa: RUF012
        "dataset": "sluice.datasets.cli:produce_dataset",
        "events": "sluice.events.cli:produce_events",
        "modules": "sluice.modules.cli:produce_modules",
        "partners": "sluice.accommodations.cli:produce_partners",
    }


@click.group(cls=_Producers)
def produce() -> None:
    """Make sample data."""
