"""The gate of the pipeline (docs/pipelines.md, modules), on measures: one row for a batch of any size.

Built inside a task: Great Expectations takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

RATE_COLUMNS = ("diagnostics", "accounted", "rate_min", "rate_max")


def rate_expectations() -> list[Expectation]:
    """Expectations on the rates of a batch before they are published.

    Every diagnostic is published, rejected or a duplicate; `rate_min` and `rate_max` are null if none is published.
    """
    from great_expectations import expectations as gxe

    return [
        gxe.ExpectColumnPairValuesToBeEqual(column_A="diagnostics", column_B="accounted"),
        gxe.ExpectColumnValuesToBeBetween(column="rate_min", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="rate_max", max_value=100),
    ]
