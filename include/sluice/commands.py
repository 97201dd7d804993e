"""Groups of the command line whose commands live beside their logic, loaded when they are asked for."""

from __future__ import annotations

import importlib

import click


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for.

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
