"""The pipelines: each package here that has a module `pipeline`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluice.core.pipeline import Pipeline
    from sluice.settings import Settings


@cache
def names() -> tuple[str, ...]:
    """Names of the pipelines, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg))


def declared(settings: Settings) -> tuple[Pipeline, ...]:
    """The declarations of all pipelines, for these settings."""
    return tuple(declaration(name, settings) for name in names())


def commands() -> dict[str, str]:
    """Name -> `<module>:<attribute>` of the commands of all pipelines; needs no settings."""
    modules = (importlib.import_module(f"{__name__}.{name}.pipeline") for name in names())
    return {name: where for module in modules for name, where in getattr(module, "COMMANDS", {}).items()}


def declaration(name: str, settings: Settings) -> Pipeline:
    """The declaration of one pipeline, for these settings."""
    found: Pipeline = importlib.import_module(f"{__name__}.{name}.pipeline").pipeline(settings)
    return found
