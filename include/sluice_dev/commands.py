"""Commands that run the stack of this checkout."""

from __future__ import annotations

import os
import sys

import click

from sluice.settings import load_settings


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def airflow(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Run any Airflow command with the environment of this project: `sluice airflow dags list`."""
    from sluice_dev.stack import airflow, airflow_command

    os.environ |= airflow.prepare(load_settings())
    module = "airflow"
    if not (airflow_command.writes_logs(arguments) or context.find_root().params["traceback"]):
        module = airflow_command.__name__
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


@click.command()
def env() -> None:
    """Print the environment of Airflow and AWS as shell exports: `eval "$(sluice env)"`."""
    import shlex

    from sluice_dev.stack.airflow import environment

    for name, value in sorted(environment(load_settings()).items()):
        click.echo(f"export {name}={shlex.quote(value)}")


@click.command()
@click.option("--live", is_flag=True, envvar="LIVE", help="Pull from the real Docker Hub, not from its stand-in.")
def up(live: bool) -> None:
    """Run the embedded AWS, PostgreSQL and Airflow in the foreground, until ctrl-C."""
    from sluice.core.console import console
    from sluice_dev.stack import lifecycle

    lifecycle.up(load_settings(), console(), live=live)


@click.command()
def down() -> None:
    """Stop everything that runs of this checkout."""
    from sluice_dev.stack import lifecycle

    stopped = lifecycle.down(load_settings())
    click.echo(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running")


@click.command()
@click.option("--port", default=4580, show_default=True, type=click.IntRange(1, 65535), help="Port on 127.0.0.1.")
@click.option(
    "--error-share", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="Share of requests that fail."
)
def stand_in(port: int, error_share: float) -> None:
    """Serve the Docker Hub stand-in in the foreground, for work without internet."""
    from sluice_dev import dockerhub

    dockerhub.serve(port, error_share)


@click.command()
@click.option("--live", is_flag=True, envvar="LIVE", help="Pull from the real Docker Hub, not from its stand-in.")
def demo(live: bool) -> None:
    """Run every pipeline on sample data, through Airflow, and print a summary of the results."""
    from functools import partial

    from sluice.core.console import console
    from sluice_dev import demo as demonstration
    from sluice_dev.samples import sample

    demonstration.run(load_settings(), console(), partial(sample.of_every_pipeline, live=live), live=live)
