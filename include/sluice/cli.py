"""The `sluice` command."""

from __future__ import annotations

import os
import sys

import click

from sluice.commands import ReportingGroup
from sluice.settings import load_settings

ELSEWHERE = {
    "partners": "sluice.accommodations.cli:partners",
    "aws": "sluice.embedded.server:aws",
    "dead-letters": "sluice.dead_letters.cli:dead_letters",
    "deploy": "sluice.deploy:deploy_command",
    "produce": "sluice.produce:produce",
    "docs": "sluice.embedded.docs:docs",
    "dockerhub": "sluice.dockerhub.cli:dockerhub",
    "modules": "sluice.modules.cli:modules",
    "datasets": "sluice.datasets.cli:datasets",
    "migrate": "sluice.migrate:migrate",
    "status": "sluice.watch.cli:status",
    "tables": "sluice.tables.cli:tables",
    "verify": "sluice.embedded.verify:verify",
}
"""Commands that live beside their logic, loaded when they are asked for."""


class _Commands(ReportingGroup):
    elsewhere = ELSEWHERE


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sluice", prog_name="sluice", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show where in the program an error was raised.")
def main(traceback: bool) -> None:
    """Five data pipelines on Airflow and AWS, run from here.

    Settings are environment variables SLUICE_... or lines of .env; .env.example lists them all.
    """


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def airflow(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Run any Airflow command with the environment of this project: `sluice airflow dags list`."""
    from sluice.embedded import airflow, airflow_command

    os.environ |= airflow.prepare(load_settings())
    module = "airflow"
    if not (airflow_command.writes_logs(arguments) or context.find_root().params["traceback"]):
        module = airflow_command.__name__
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


@main.command()
def env() -> None:
    """Print the environment of Airflow and AWS as shell exports: `eval "$(sluice env)"`."""
    import shlex

    from sluice.embedded.airflow import environment

    for name, value in sorted(environment(load_settings()).items()):
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@click.option("--live", is_flag=True, envvar="LIVE", help="Pull from the real Docker Hub, not from its stand-in.")
def up(live: bool) -> None:
    """Run the embedded AWS, PostgreSQL and Airflow in the foreground, until ctrl-C."""
    from sluice.console import console
    from sluice.embedded import stack

    stack.up(load_settings(), console(), live=live)


@main.command()
def down() -> None:
    """Stop everything that runs of this checkout."""
    from sluice.embedded import stack

    stopped = stack.down(load_settings())
    click.echo(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running")


@main.command()
@click.option("--port", default=4580, show_default=True, type=click.IntRange(1, 65535), help="Port on 127.0.0.1.")
@click.option(
    "--error-share", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="Share of requests that fail."
)
def stand_in(port: int, error_share: float) -> None:
    """Serve the Docker Hub stand-in in the foreground, for work without internet."""
    from sluice.embedded import dockerhub

    dockerhub.serve(port, error_share)


@main.command(name="demo")
@click.option("--live", is_flag=True, envvar="LIVE", help="Pull from the real Docker Hub, not from its stand-in.")
def demo_command(live: bool) -> None:
    """Run every pipeline on sample data, through Airflow, and print a summary of the results."""
    from functools import partial

    from sluice.console import console
    from sluice.embedded import demo, samples

    demo.run(load_settings(), console(), partial(samples.of_every_pipeline, live=live), live=live)
