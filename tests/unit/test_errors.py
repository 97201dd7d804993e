"""Every error is of one of two kinds, by its class: a retry may cure it, or only a person can."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import sluice
from sluice.errors import SluiceError, TerminalError

TRANSIENT = {
    "sluice.aws.glue.CatalogBusy",
    "sluice.pipelines.datasets.connections.UrlUnreachable",
    "sluice.aws.dynamodb.ItemsRefused",
    "sluice.aws.kinesis.IteratorsExpire",
    "sluice.aws.kinesis.PutFailed",
    "sluice.aws.s3.DeleteFailed",
    "sluice.aws.sns.PublishFailed",
    "sluice.aws.tables.commits.Conflict",
    "sluice.aws.tables.commits.TableBusy",
    "sluice.cli.status.StatusUnknown",
}
"""A retry may succeed: throttling, a network error, a concurrent run."""


def subclasses(of: type[Any]) -> Iterator[type[Any]]:
    for each in of.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_error_of_a_task_is_terminal_or_listed_as_transient() -> None:
    for module in pkgutil.walk_packages(sluice.__path__, "sluice."):
        # The emulator's processes are started by commands, never by a task.
        if not module.name.startswith(("sluice_dev", "sluice.__main__")):
            importlib.import_module(module.name)
    found = {
        f"{each.__module__}.{each.__name__}": each for each in subclasses(SluiceError) if each is not TerminalError
    }
    errors = {name: each for name, each in found.items() if name.startswith("sluice.")}
    assert {name for name, each in errors.items() if not issubclass(each, TerminalError)} == TRANSIENT
