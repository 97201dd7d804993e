from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipelines.events.records import (
    ENGINE_COLUMNS,
    PARTITION_COLUMNS,
    RAW_COLUMNS,
    RESCUED_COLUMN,
    Reason,
    hour_of,
    is_column_name,
    plan_columns,
    record_text,
    split_known_columns,
)

KINDS = ["BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR"]


def test_utf8_is_kept_as_it_is() -> None:
    assert record_text('{"a": "é☃"}'.encode()) == '{"a": "é☃"}'


@given(st.binary())
def test_bytes_that_are_not_utf8_stay_readable_in_the_quarantine(data: bytes) -> None:
    text = record_text(data)
    assert text.encode() == data or eval(text) == data


def test_every_reason_says_what_is_wrong() -> None:
    assert all(len(reason.detail) > 15 for reason in Reason)


@pytest.mark.parametrize("field", ["user_id", "userId", "_id", "A", "x" * 128])
def test_usual_field_names_become_columns(field: str) -> None:
    assert is_column_name(field)


@pytest.mark.parametrize(
    "field",
    [
        "",
        "a b",
        "a-b",
        "a.b",
        "1a",
        "é",
        "__reason",
        "x" * 129,
        'a"b',
        "Shard_ID",
        *RAW_COLUMNS,
        RESCUED_COLUMN,
        *PARTITION_COLUMNS,
        *ENGINE_COLUMNS,
    ],
)
def test_a_field_cannot_shadow_a_column_or_break_a_query(field: str) -> None:
    assert not is_column_name(field)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"BIGINT": 1}, "BIGINT"),
        ({"BIGINT": 5, "DOUBLE": 1}, "DOUBLE"),
        ({"BOOLEAN": 1}, "BOOLEAN"),
        ({"BOOLEAN": 1, "BIGINT": 1}, "BIGINT"),
        ({"BOOLEAN": 1, "VARCHAR": 1}, "BOOLEAN"),
        ({"VARCHAR": 1, "DOUBLE": 1}, "DOUBLE"),
        ({"VARCHAR": 2, "DOUBLE": 1}, "VARCHAR"),
        ({"VARCHAR": 2, "DOUBLE": 1, "BIGINT": 1}, "DOUBLE"),
    ],
)
def test_a_new_column_has_the_type_of_most_values(counts: dict[str, int], expected: str) -> None:
    assert plan_columns({("amount", kind): count for kind, count in counts.items()}, 5) == {"amount": expected}


def test_the_fields_of_most_records_get_columns_then_the_first_by_name() -> None:
    counts = {("z", "BIGINT"): 3, ("y", "BIGINT"): 1, ("y", "VARCHAR"): 1, ("b", "BIGINT"): 1, ("a", "BOOLEAN"): 1}
    assert plan_columns(counts, 3) == {"a": "BOOLEAN", "y": "BIGINT", "z": "BIGINT"}
    assert list(plan_columns(counts, 9)) == ["a", "b", "y", "z"]
    assert plan_columns(counts, 0) == plan_columns(counts, -1) == {}


@given(
    st.dictionaries(st.tuples(st.sampled_from("abcdef"), st.sampled_from(KINDS)), st.integers(1, 3)), st.integers(0, 6)
)
def test_the_plan_does_not_depend_on_the_order_of_the_records(counts: dict[tuple[str, str], int], room: int) -> None:
    planned = plan_columns(counts, room)
    assert planned == plan_columns(dict(reversed(counts.items())), room)
    assert list(planned) == sorted(planned)
    assert len(planned) == min(room, len({name for name, _ in counts}))


def test_raw_and_partition_columns_of_the_table_are_no_additional_ones() -> None:
    known = {**RAW_COLUMNS, RESCUED_COLUMN: "VARCHAR", "hour": "VARCHAR", "amount": "DOUBLE"}
    assert split_known_columns(known) == ({"amount": "DOUBLE"}, frozenset())


def test_a_column_of_a_type_that_no_field_fits_is_set_apart() -> None:
    assert split_known_columns({"amount": "DECIMAL", "size": "BIGINT"}) == ({"size": "BIGINT"}, frozenset({"amount"}))


@pytest.mark.parametrize(
    ("created_at", "hour"),
    [(1712511721.022075, "2024-04-07T17"), (1712509200.0, "2024-04-07T17"), (1712509199.999999, "2024-04-07T16")],
)
def test_the_hour_begins_with_its_first_second(created_at: float, hour: str) -> None:
    assert f"{hour_of(created_at):%Y-%m-%dT%H}" == hour
