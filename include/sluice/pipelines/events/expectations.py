"""Gates of the pipeline (docs/pipelines.md, events), on measures: one row for a batch or an hour of any size.

Built inside a task: Great Expectations takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice.pipelines.events.records import RAW_COLUMNS

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

NULL_COUNTS = tuple(f"null_{column}" for column in RAW_COLUMNS)
ROW_MEASURES = (*NULL_COUNTS, "outside_hour")
"""Counts of rows that violate a rule; a batch sums them over its hours."""

BATCH_COLUMNS = ("records_in", "accounted", "rows", "quarantined", "unknown_types", *ROW_MEASURES)

HOURLY_COUNTS = ("records_in", "rows", "duplicates_in_hour", "duplicates_of_previous")
HOURLY_COLUMNS = (*HOURLY_COUNTS, "accounted", "quarantined", "distinct_uuids", "unknown_types", *ROW_MEASURES)


def _row_expectations() -> list[Expectation]:
    """Every record accounted for, required columns not null, created_at inside the hour of its partition.

    An unknown event_type only warns.
    """
    from great_expectations import expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnPairValuesToBeEqual(column_A="records_in", column_B="accounted"),
        *(gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[0]) for name in ROW_MEASURES),
        gxe.ExpectColumnValuesToBeInSet(column="unknown_types", value_set=[""], severity=FailureSeverity.WARNING),
    ]


def batch_expectations() -> list[Expectation]:
    """Expectations on a batch before it is raw data: every record is a row or in quarantine."""
    return _row_expectations()


def hourly_expectations() -> list[Expectation]:
    """Expectations on an hour before it is published: unique uuids, and raw = curated + duplicates + quarantined."""
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnPairValuesToBeEqual(column_A="rows", column_B="distinct_uuids"), *_row_expectations()]
