"""Gates of the pipeline (docs/pipelines.md, dockerhub). Built inside a task: its import takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluice.pipelines.dockerhub.records import FIELDS

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

PULL_COLUMNS = (*FIELDS, "asked_name", "asked_namespace", "last_updated_us", "observed_at_us", "last_pull_count")
AGGREGATE_COLUMNS = (*FIELDS, "key", "year_month", "last_updated_us", "read_at_us")


def _field_expectations() -> list[Expectation]:
    """Fields present and typed, counts not negative."""
    from great_expectations import expectations as gxe

    found: list[Expectation] = [gxe.ExpectColumnValuesToNotBeNull(column=field) for field in FIELDS]
    for count in ("star_count", "pull_count"):
        found.append(gxe.ExpectColumnValuesToBeInTypeList(column=count, type_list=["int", "int64"]))
        found.append(gxe.ExpectColumnValuesToBeBetween(column=count, min_value=0))
    return found


def pull_expectations() -> list[Expectation]:
    """Expectations on the responses of one pull before they are raw data; a falling pull_count only warns."""
    from great_expectations import expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    return [
        *_field_expectations(),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="name", column_B="asked_name"),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="namespace", column_B="asked_namespace"),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="observed_at_us", column_B="last_updated_us", or_equal=True
        ),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A="pull_count",
            column_B="last_pull_count",
            or_equal=True,
            ignore_row_if="either_value_is_missing",
            severity=FailureSeverity.WARNING,
        ),
    ]


def aggregate_expectations() -> list[Expectation]:
    """Expectations on the objects of one batch before they are written to the table."""
    from great_expectations import expectations as gxe

    return [
        *_field_expectations(),
        gxe.ExpectColumnValuesToBeUnique(column="key"),
        gxe.ExpectColumnValuesToMatchRegex(column="year_month", regex=r"^\d{4}-(?:0[1-9]|1[0-2])$"),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="read_at_us", column_B="last_updated_us", or_equal=True),
    ]
