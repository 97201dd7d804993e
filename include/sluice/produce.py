"""`sluice produce`: sample data of every pipeline, each beside the logic that it feeds."""

from __future__ import annotations

import click

from sluice.commands import LazyGroup


class _Producers(LazyGroup):
    elsewhere = {  # noqa: RUF012
        "events": "sluice.events.cli:produce_events",
    }


@click.group(cls=_Producers)
def produce() -> None:
    """Make sample data."""
