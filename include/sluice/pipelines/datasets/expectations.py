"""The gate of the pipeline (docs/pipelines.md, datasets). Built inside a task: its import takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

COLUMNS = (
    "output",
    "records_in",
    "accepted",
    "quarantined",
    "quarantined_share",
    "memory_count_sum",
    "accounted",
    "dps",
    "distinct_dps",
    "null_values",
    "min_above_max",
    "percentage_outside",
)
"""Measures of one staged file, one row each."""

QUARANTINED_SHARE_MAX = 0.1
"""A larger share is published with a warning for the producer of the file."""


def dataset_expectations() -> list[Expectation]:
    """Expectations on each staged file before it is published."""
    from great_expectations import expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnPairValuesToBeEqual(column_A="memory_count_sum", column_B="accepted"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="records_in", column_B="accounted"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="distinct_dps", column_B="dps"),
        gxe.ExpectColumnValuesToBeBetween(column="null_values", max_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="min_above_max", max_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="percentage_outside", max_value=0),
        gxe.ExpectColumnValuesToBeBetween(
            column="quarantined_share", max_value=QUARANTINED_SHARE_MAX, severity=FailureSeverity.WARNING
        ),
    ]
