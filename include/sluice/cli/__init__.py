"""The `sluice` command."""

from __future__ import annotations

from importlib.metadata import distribution
from importlib.util import find_spec

import click

from sluice import pipelines
from sluice.core.commands import ReportingGroup

PRODUCT = {
    "dead-letters": "sluice.cli.dead_letters:dead_letters",
    "deploy": "sluice.deployment.deploy:deploy_command",
    "migrate": "sluice.deployment.migrate:migrate",
    "quality": "sluice.cli.lake_views:quality",
    "quarantine": "sluice.cli.lake_views:quarantine",
    "status": "sluice.cli.status:status",
    "tables": "sluice.cli.tables:tables",
}
"""Commands that belong to no pipeline, imported when they are called."""


def installed_commands() -> dict[str, str]:
    """Name -> `<module>:<attribute>` of every command; those of `sluice_dev` are in a checkout only."""
    entries = distribution("sluice").entry_points.select(group="sluice.commands")
    return (
        PRODUCT
        | pipelines.commands()
        | {entry.name: entry.value for entry in entries if find_spec(entry.module.partition(".")[0])}
    )


class _Commands(ReportingGroup):
    elsewhere = installed_commands()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sluice", prog_name="sluice", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show where in the program an error was raised.")
def main(traceback: bool) -> None:
    """Operate five data pipelines on Airflow and AWS.

    Settings are environment variables SLUICE_... or lines of .env; .env.example lists them all.
    """
