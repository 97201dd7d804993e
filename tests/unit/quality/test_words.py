from __future__ import annotations

from typing import Any

import pytest

from sluice.core.quality import words


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (
            "expect_column_pair_values_to_be_equal",
            {"column_A": "records_in", "column_B": "accounted"},
            "records in: as many as records accounted for",
        ),
        (
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "pull_count", "column_B": "last_pull_count", "or_equal": True},
            "pull_count is not less than last_pull_count",
        ),
        (
            "expect_column_pair_values_to_be_equal",
            {"column_A": "name", "column_B": "asked_name"},
            "name equals asked_name",
        ),
        ("expect_column_values_to_not_be_null", {"column": "name"}, "name is present"),
        ("expect_column_values_to_be_unique", {"column": "key"}, "key is unique"),
        (
            "expect_column_values_to_be_in_type_list",
            {"column": "star_count", "type_list": ["int", "int64"]},
            "star_count is an integer",
        ),
        (
            "expect_column_values_to_be_in_set",
            {"column": "null_created_at", "value_set": [0]},
            "rows without created_at: 0",
        ),
        (
            "expect_column_values_to_be_in_set",
            {"column": "unknown_types", "value_set": [""]},
            "there are no unknown event types",
        ),
        (
            "expect_column_values_to_be_between",
            {"column": "largest_file_bytes", "max_value": 500_000.0},
            "size of the largest file: at most 500,000 bytes",
        ),
        (
            "expect_column_values_to_be_between",
            {"column": "quarantined_share", "max_value": 0.1},
            "share of quarantined rows: at most 10.0 %",
        ),
        ("expect_column_values_to_be_between", {"column": "n", "min_value": 1, "max_value": 2}, "n: between 1 and 2"),
        ("expect_table_row_count_to_equal", {"value": 3}, "table row count to equal"),
    ],
)
def test_an_expectation_is_said_in_words(kind: str, arguments: dict[str, Any], sentence: str) -> None:
    assert words.expected(kind, arguments) == sentence


@pytest.mark.parametrize(
    ("arguments", "rows", "sentence"),
    [
        ({"column_A": "a", "column_B": "b"}, [{"a": 12_000, "b": 11}], "12,000 and 11"),
        ({"column": "largest_file_bytes"}, [{"largest_file_bytes": 499_787}], "499,787 bytes"),
        ({"column": "read_at_us"}, [{"read_at_us": 1_700_000_000_000_000}], "2023-11-14 22:13:20 UTC"),
        ({"column": "unknown_types"}, [{"unknown_types": ""}], "none"),
        ({"column": "rate_min"}, [{"rate_min": None}], "nothing"),
        ({"column": "n"}, [{"n": 3}, {"n": 1}, {"n": None}], "1 to 3, 1 of 3 missing"),
        ({"column": "key"}, [{"key": "a"}, {"key": "b"}], "2 distinct (a, b)"),
        ({"column": "n"}, [], "no rows"),
        ({}, [{"n": 1}], ""),
    ],
)
def test_what_was_found_is_said_with_its_unit_also_where_it_holds(
    arguments: dict[str, Any], rows: list[dict[str, Any]], sentence: str
) -> None:
    assert words.found(arguments, rows) == sentence
