"""The JSON functions that Spark is given read and write as DuckDB does; tests/spark compares the whole rules."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.events.events_data import envelopes, event

from sluice.events import spark_job
from sluice.events.records import FurtherColumn, plan_columns

TEXTS = [
    *["-0", "-0.0", "0", "1E5", "1e-5", "0.000001", "1e-7", "1e16", "123456.7e15", "1e20", "1e21", "1e999", "-1e999"],
    *["5e-324", "18446744073709551616", "-9223372036854775809", "123456789012345678901234567890.5", "NaN", "-Infinity"],
    *[
        "true",
        "false",
        "null",
        '""',
        '"\\u001f\\/\\u00e9\\ud83d\\ude00\\u2028\\u007f\\b\\f\\n\\r\\t\\"\\\\"',
        '"\\u0000"',
    ],
    *["[]", "{}", "[1, [],\t2.50 ]", '{"a": {"b": null}, "a": 1e-5}', "[1,]", '{"a": 1 , }', '["a,]", "b,}"]'],
]
DAMAGED = [
    *["", " ", "{", "[1,,2]", "[,]", "{,}", "{ ,}", "+1", "01", ".5", "'a'", "{a:1}"],
    *['"\\ud800"', '"\x01"', "1 2", "// 1", "\ufeff1"],
]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner)
    ),
    max_leaves=8,
)


def functions(columns: list[FurtherColumn]) -> dict[str, Any]:
    return {name: function for name, (function, _) in spark_job.json_functions(columns).items()}


def by_duckdb(text: str) -> tuple[str | None, ...]:
    """A field as DuckDB reads it: JSON text, as it is, kind."""
    found = duckdb.execute(
        """SELECT json_transform($1, '{"f": "JSON"}').f::VARCHAR, json_transform($1, '{"f": "VARCHAR"}').f""",
        [f'{{"f": {text}}}'],
    ).fetchone()
    assert found is not None
    return found


def by_python(text: str) -> tuple[str | None, ...]:
    record = f'{{"f": {text}}}'
    as_json, as_is = (
        functions([FurtherColumn("f", kind, ("f",))])["json_fields_0"](record)[3] for kind in ("DOUBLE", "VARCHAR")
    )
    return as_json, as_is


@pytest.mark.parametrize("text", TEXTS)
def test_an_unusual_value_is_read_as_duckdb_reads_it(text: str) -> None:
    assert by_python(text) == by_duckdb(text)


@settings(max_examples=200, deadline=None)
@given(values)
def test_any_value_is_read_as_duckdb_reads_it(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert by_python(text) == by_duckdb(text)


@pytest.mark.parametrize("text", [*TEXTS, *DAMAGED])
def test_what_is_json_is_the_same_for_both(text: str) -> None:
    assert duckdb.execute("SELECT json_valid(?)", [text]).fetchone() == (functions([])["is_json"](text),)


def test_no_record_is_no_json() -> None:
    assert functions([])["is_json"](None) is False


@pytest.mark.parametrize(
    ("record", "kind"),
    [("{}", "OBJECT"), ("[]", "ARRAY"), ('"a"', "VARCHAR"), ("true", "BOOLEAN"), ("null", "NULL"), ("1", "NUMBER")],
)
def test_kinds(record: str, kind: str) -> None:
    assert functions([])["json_kind"](record, "$") == kind
    assert functions([])["json_kind"](f'{{"f": {record}}}', "$.f") == kind


@pytest.mark.parametrize(
    ("record", "count", "repeated"),
    [
        ("{}", 0, False),
        ("[1]", 0, False),
        ('{"a": 1, "b": 2}', 2, False),
        ('{"a": 1, "A": 2}', 2, True),
        ('{"a": 1, "a": 1}', 2, True),
    ],
)
def test_fields_are_counted(record: str, count: int, repeated: bool) -> None:
    assert functions([])["field_count"](record) == count
    assert functions([])["has_repeated_field"](record) is repeated


def test_a_planned_field_or_one_without_a_value_is_no_news() -> None:
    has_unplanned_field = functions([FurtherColumn("userid", "BIGINT", ("userId", "userid"))])["has_unplanned_field"]
    assert not has_unplanned_field(event(userId=1, other=None))
    assert not has_unplanned_field(event(userid=1))
    assert has_unplanned_field(event(USERID=1))


def test_other_spellings_are_read_by_functions_of_their_own() -> None:
    given_functions = functions([FurtherColumn("userid", "VARCHAR", ("userId", "userid"))])
    assert given_functions["json_fields_0"](event(userId="a"))[3] == "a"
    assert given_functions["json_fields_1"](event(userid=5)) == ("5",)


@pytest.mark.parametrize("value", [1, -(2**63), 2**63, 1.0, 1e-7, True, "a", [], {}, float("nan")])
def test_a_new_field_gets_the_same_column_on_both(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.unit.events.events_data import transformed

    seen = spark_job._field_kinds(event(extra=value))
    by_spark = {column.name: column.type for column in plan_columns({}, seen)}
    assert by_spark == transformed(tmp_path_factory.mktemp("kinds"), envelopes([event(extra=value)])).columns


def test_an_hour_without_raw_files_needs_no_spark(tmp_path: Any) -> None:
    assert spark_job.dedup_hour([], [], tmp_path).rows_in == 0
