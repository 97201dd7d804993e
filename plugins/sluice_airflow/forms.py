"""Formats of parameters: a trigger form and the REST API refuse a wrong value in the words of the pipeline.

A `pattern` would be refused with the regular expression itself. Airflow checks a `format` with jsonschema, which asks
the function registered here; the function raises the error of the pipeline, and Airflow answers with its sentence.
Airflow loads this module with the plugin, before it checks what a run was triggered with.
"""

from __future__ import annotations

from collections.abc import Callable

from jsonschema import FormatChecker

from sluice.settings import load_settings

DATASET_SOURCE = "sluice-dataset-source"
"""File of the landing bucket, or an https URL."""

DATASET_KEY = "sluice-dataset-key"
"""File of the landing bucket."""

EVENTS_HOUR = "sluice-events-hour"
"""Date and hour in ISO 8601."""

EVENTS_DAY = "sluice-events-day"
"""Date in ISO 8601."""


# The pipelines are imported by the first value that is checked, not by every task that imports the plugin.


def _dataset_source(value: str) -> None:
    from sluice.pipelines.datasets.records import parse_source

    parse_source(value, load_settings().landing_bucket)


def _dataset_key(value: str) -> None:
    from sluice.pipelines.datasets.records import parse_key

    parse_key(value, load_settings().landing_bucket)


def _events_hour(value: str) -> None:
    from sluice.pipelines.events.steps import hour_to_process

    hour_to_process(None, {"hour": value})


def _events_day(value: str) -> None:
    from sluice.pipelines.events.rebuild import day_to_process

    day_to_process(None, {"day": value})


def _checked(require: Callable[[str], None]) -> Callable[[object], bool]:
    """A check of jsonschema that lets the error of `require` through; other types than text are not checked."""

    def check(value: object) -> bool:
        if isinstance(value, str):
            require(value)
        return True

    return check


FORMATS = {
    DATASET_SOURCE: _dataset_source,
    DATASET_KEY: _dataset_key,
    EVENTS_HOUR: _events_hour,
    EVENTS_DAY: _events_day,
}

FormatChecker.checkers |= {name: (_checked(require), ()) for name, require in FORMATS.items()}
