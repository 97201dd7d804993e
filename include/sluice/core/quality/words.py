"""Expectations and findings in words, for the report, the web page and the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

UNITS = {"_bytes": "bytes", "_share": "share", "_seconds": "seconds", "_us": "UTC", "rate_min": "%", "rate_max": "%"}
"""Ending of a column's name -> unit of its values; a count has none."""

_EXAMPLES = 3


def unit_of(column: str) -> str:
    """Unit of a measure or field by its name; "" for a count or a text."""
    return next((unit for ending, unit in UNITS.items() if column.endswith(ending)), "")


SUBJECTS = {
    "accounted": "records accounted for",
    "records_in": "records in",
    "events_in": "events in",
    "events_accounted": "events accounted for",
    "rows": "rows",
    "outside_hour": "rows outside their hour",
    "unknown_types": "unknown event types",
    "distinct_uuids": "distinct uuids",
    "distinct_ids": "distinct accommodations",
    "published": "published records",
    "current_rows": "rows of the current catalogue",
    "current_distinct": "distinct accommodations of the current catalogue",
    "unusable": "records of blocked or unlisted partners",
    "current_unusable": "current records of blocked or unlisted partners",
    "current_misplaced": "current records in another partition",
    "largest_file_bytes": "size of the largest file",
    "smallest_file_bytes": "size of the smallest file",
    "unknown_partners": "unlisted partners",
    "memory_count_sum": "sum of memory_count",
    "accepted": "accepted rows",
    "distinct_dps": "distinct values of dp",
    "dps": "aggregates",
    "null_values": "missing values",
    "min_above_max": "aggregates with a minimum above the maximum",
    "percentage_outside": "percentages outside 0 to 1",
    "quarantined_share": "share of quarantined rows",
    "diagnostics": "diagnostics",
    "rate_min": "lowest success rate",
    "rate_max": "highest success rate",
}
"""A measure's name in words."""


def subject(column: str) -> str:
    """A measure in words, `null_created_at` as `rows without created_at`; a field of a record as it is."""
    if column in SUBJECTS:
        return SUBJECTS[column]
    return f"rows without {column.removeprefix('null_')}" if column.startswith("null_") else column


def expected(kind: str, arguments: Mapping[str, Any]) -> str:
    """An expectation in words, such as `records in: as many as records accounted for`.

    Args:
        kind: its name in Great Expectations, such as `expect_column_values_to_be_unique`.
        arguments: of the expectation.
    """
    column = subject(str(arguments.get("column") or ""))
    name = kind.removeprefix("expect_column_")
    if name == "pair_values_to_be_equal":
        one, other = arguments["column_A"], arguments["column_B"]
        # Of measures the count is compared, of fields the value.
        return f"{subject(one)}{': as many as' if one in SUBJECTS else ' equals'} {subject(other)}"
    if name == "pair_values_a_to_be_greater_than_b":
        relation = "not less than" if arguments.get("or_equal") else "greater than"
        return f"{subject(arguments['column_A'])} is {relation} {subject(arguments['column_B'])}"
    if name == "values_to_not_be_null":
        return f"{column} is present"
    if name == "values_to_be_unique":
        return f"{column} is unique"
    if name == "values_to_be_in_type_list":
        types = arguments.get("type_list") or []
        return f"{column} is an integer" if "int" in types else f"{column} is one of the types {', '.join(types)}"
    if name == "values_to_match_regex":
        return f"{column} matches {arguments.get('regex')}"
    if name == "values_to_be_in_set":
        allowed = list(arguments.get("value_set") or [])
        if allowed == [""]:
            return f"there are no {column}"
        return f"{column}: {' or '.join(_value(str(arguments.get('column')), each) for each in allowed)}"
    if name == "values_to_be_between":
        return f"{column}: {_between(str(arguments.get('column')), arguments)}"
    return kind.removeprefix("expect_").replace("_", " ")


def _between(column: str, arguments: Mapping[str, Any]) -> str:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    if low is None:
        return f"at most {_value(column, high)}"
    if high is None:
        return f"at least {_value(column, low)}"
    return f"between {_value(column, low)} and {_value(column, high)}"


def found(arguments: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The observed values of the columns of an expectation, in words; also if it passed.

    Args:
        arguments: of the expectation.
        rows: what was validated: records, or one row of measures.
    """
    columns = [str(arguments[key]) for key in ("column", "column_A", "column_B") if arguments.get(key)]
    if not columns:
        return ""
    if not rows:
        return "no rows"
    if len(rows) == 1:
        return " and ".join(_value(column, rows[0].get(column)) for column in columns)
    return "; ".join(_of_many(column, [row.get(column) for row in rows], name=len(columns) > 1) for column in columns)


def _of_many(column: str, values: Sequence[Any], *, name: bool) -> str:
    present = [value for value in values if value is not None]
    missing = f", {len(values) - len(present)} of {len(values)} missing" if len(present) < len(values) else ""
    start = f"{column} " if name else ""
    if not present:
        return f"{start}all {len(values)} missing"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        low, high = min(present), max(present)
        span = _value(column, low) if low == high else f"{_value(column, low)} to {_value(column, high)}"
        return f"{start}{span}{missing}"
    distinct = list(dict.fromkeys(str(value) for value in present))
    shown = ", ".join(distinct[:_EXAMPLES]) + (" ..." if len(distinct) > _EXAMPLES else "")
    return f"{start}{len(distinct)} distinct ({shown}){missing}"


def _value(column: str, value: Any) -> str:
    """A value with its unit, as a person reads it."""
    if value is None:
        return "nothing"
    if value == "":
        return "none"
    unit = unit_of(column)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if unit == "UTC":
        return f"{datetime.fromtimestamp(value / 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if unit == "share":
        return f"{100 * value:.1f} %"
    if not math.isfinite(value):
        return str(value)
    number = f"{int(value):,}" if value == int(value) else f"{value:,.4g}"
    return f"{number} {unit}".strip()
