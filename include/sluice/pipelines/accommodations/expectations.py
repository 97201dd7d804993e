"""Gate of the pipeline (docs/pipelines.md, accommodations), on measures: one row for a batch of any size.

Built inside a task: Great Expectations takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice.pipelines.accommodations.current import COUNTS
from sluice.pipelines.accommodations.records import MAX_BYTES

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

RECORD_COUNTS = ("records_in", "published", "duplicates", "unlisted", "blocked", "quarantined")
EVENT_COUNTS = ("events_in", "files", "duplicate_events", "quarantined_events", "unreadable")

BATCH_COLUMNS = (
    *RECORD_COUNTS,
    "accounted",
    *EVENT_COUNTS,
    "events_accounted",
    "distinct_ids",
    "unusable",
    "largest_file_bytes",
    "smallest_file_bytes",
    "outputs",
    "unknown_partners",
    *COUNTS,
)


def batch_expectations() -> list[Expectation]:
    """Expectations on a batch before it is published.

    Each record and each event accounted for, each accommodation once, none of a blocked or unlisted partner, no file
    empty or too large. Unlisted partners only warn.
    """
    from great_expectations import expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        gxe.ExpectColumnPairValuesToBeEqual(column_A="records_in", column_B="accounted"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="events_in", column_B="events_accounted"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="published", column_B="distinct_ids"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="current_rows", column_B="current_distinct"),
        *(
            gxe.ExpectColumnValuesToBeInSet(column=name, value_set=[0])
            for name in ("unusable", "current_unusable", "current_misplaced")
        ),
        gxe.ExpectColumnValuesToBeBetween(column="largest_file_bytes", max_value=MAX_BYTES),
        gxe.ExpectColumnValuesToBeBetween(column="smallest_file_bytes", min_value=1),
        gxe.ExpectColumnValuesToBeInSet(column="unknown_partners", value_set=[""], severity=FailureSeverity.WARNING),
    ]
