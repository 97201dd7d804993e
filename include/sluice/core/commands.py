"""Shared by all commands of the command line: lazy imports, errors in one sentence, commands that can be pasted."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit

from sluice.errors import SluiceError
from sluice.settings import load_settings, unknown_settings


class LazyGroup(click.Group):
    """A group that imports a command when it is called.

    Attributes:
        elsewhere: name of a command -> `<module>:<attribute>`.
    """

    elsewhere: dict[str, str]

    def list_commands(self, context: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted([*super().list_commands(context), *self.elsewhere])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of that name."""
        if name not in self.elsewhere:
            return super().get_command(context, name)
        module, attribute = self.elsewhere[name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


class AwsCommand(click.Command):
    """A command that sends requests to AWS, and fails within seconds if AWS does not answer."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command.

        Raises:
            SluiceError: AWS does not answer, or refuses the credentials.
        """
        from sluice.aws.account import account_id

        # One attempt, before requests that would each be retried for half a minute.
        account_id(load_settings())
        return super().invoke(context)


class AwsGroup(click.Group):
    """A group whose commands send requests to AWS."""

    command_class = AwsCommand


class ReportingGroup(LazyGroup):
    """The outermost group: every error of a command is one message and exit code 1, wrong usage exit code 2.

    Warns about unknown settings once, before the command runs.
    """

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        for warning in unknown_settings():
            click.echo(f"Warning: {warning}", err=True)
        try:
            return super().invoke(context)
        except (click.ClickException, click.Abort, Exit):
            raise
        except Exception as error:
            # click exits silently when standard output was closed (`| head -1`).
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            if context.params.get("traceback"):
                raise
            raise click.ClickException(pasted(explain(error))) from None


def explain(error: Exception) -> str:
    """The message for any error of a command: one sentence with the cause and what to do."""
    from botocore import exceptions as aws_errors

    from sluice.aws.sessions import NOT_FOUND, as_terminal, error_code

    if isinstance(error, SluiceError):
        return str(error)
    if terminal := as_terminal(error):
        return str(terminal)
    if isinstance(error, aws_errors.ClientError):
        said = f"{error.operation_name}: {error.response['Error'].get('Message') or error_code(error)}"
        if error_code(error) in NOT_FOUND:
            prefix = load_settings().resource_prefix
            return f"A resource of {prefix} that this command needs does not exist ({said}). Run `sluice deploy`."
        return f"AWS refused a request ({said})."
    if isinstance(error, aws_errors.ConnectionError | aws_errors.HTTPClientError):
        way_out = "Check the network." if load_settings().target == "aws" else "Run `sluice aws start`."
        return f"AWS does not answer: {error} {way_out}"
    if isinstance(error, aws_errors.BotoCoreError):
        return f"{error}"
    if isinstance(error, OSError):
        what = error.strerror or str(error)
        return f"{error.filename}: {what}" if error.filename else what
    return f"{type(error).__name__}: {error}. This is a bug in sluice: `sluice --traceback ...` shows where."


def pasted(text: str) -> str:
    """A text in which each `sluice ...` in backticks is a command that works where this one was typed."""
    return re.sub(r"`sluice (?=[a-z-])", f"`{program()} ", text)


def program() -> str:
    """`sluice` if the shell finds this installation under that name, else its path."""
    own = Path(sys.prefix) / "bin" / "sluice"
    # `uv run` puts the environment on the PATH of its child process only.
    found = None if "UV" in os.environ else shutil.which("sluice")
    if not own.exists() or (found and Path(found).resolve() == own.resolve()):
        return "sluice"
    # A bare name would be looked up on the PATH.
    is_below = own.is_relative_to(Path.cwd()) and own.parent != Path.cwd()
    return str(own.relative_to(Path.cwd())) if is_below else str(own)
