from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.events.records import (
    ENGINE_COLUMNS,
    FURTHER_COLUMNS_MAX,
    PARTITION_COLUMNS,
    RAW_COLUMNS,
    FurtherColumn,
    Reason,
    check_known_columns,
    hour_of,
    is_column_name,
    plan_columns,
    record_text,
)

KINDS = ["BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR"]


def types(columns: list[FurtherColumn]) -> dict[str, str]:
    return {column.name: column.type for column in columns}


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
        *PARTITION_COLUMNS,
        *ENGINE_COLUMNS,
    ],
)
def test_a_field_cannot_shadow_a_column_or_break_a_query(field: str) -> None:
    assert not is_column_name(field)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["BIGINT"], "BIGINT"),
        (["BIGINT", "DOUBLE"], "DOUBLE"),
        (["BOOLEAN"], "BOOLEAN"),
        (["BOOLEAN", "BIGINT"], "VARCHAR"),
        (["VARCHAR", "DOUBLE"], "VARCHAR"),
    ],
)
def test_a_new_field_has_the_type_that_holds_all_its_values(kinds: list[str], expected: str) -> None:
    assert types(plan_columns({}, [("Amount", kind) for kind in kinds])) == {"amount": expected}


def test_the_type_of_the_table_is_never_changed() -> None:
    assert types(plan_columns({"amount": "BIGINT"}, [("amount", "DOUBLE"), ("amount", "VARCHAR")])) == {
        "amount": "BIGINT"
    }


def test_all_spellings_of_a_field_are_one_column() -> None:
    columns = plan_columns({"userid": "BIGINT"}, [("userId", "BIGINT"), ("USERID", "BIGINT")])
    assert columns == [FurtherColumn("userid", "BIGINT", ("USERID", "userId", "userid"))]


def test_columns_of_the_table_come_first_and_new_ones_by_name() -> None:
    assert list(types(plan_columns({"z": "BIGINT", "b": "DOUBLE"}, [("y", "BIGINT"), ("a", "BIGINT")]))) == [
        "z",
        "b",
        "a",
        "y",
    ]


def test_a_table_never_has_more_columns_than_the_limit() -> None:
    seen = [(f"f{number:04d}", "BIGINT") for number in range(FURTHER_COLUMNS_MAX + 5)]
    columns = plan_columns({"known": "BIGINT"}, seen)
    assert len(columns) == FURTHER_COLUMNS_MAX
    assert columns[-1].name == f"f{FURTHER_COLUMNS_MAX - 2:04d}"


@given(
    st.lists(st.tuples(st.sampled_from(["a", "A", "b", "c d", "hour"]), st.sampled_from(KINDS)), max_size=8).flatmap(
        st.permutations
    )
)
def test_the_plan_does_not_depend_on_the_order_of_the_records(seen: list[tuple[str, str]]) -> None:
    assert plan_columns({"b": "DOUBLE"}, seen) == plan_columns({"b": "DOUBLE"}, sorted(seen))


def test_raw_and_partition_columns_of_the_table_are_no_further_ones() -> None:
    assert check_known_columns({**RAW_COLUMNS, "hour": "VARCHAR", "amount": "DOUBLE"}) == {"amount": "DOUBLE"}


def test_a_column_type_that_no_field_can_have_names_the_column() -> None:
    with pytest.raises(ValueError, match="column amount of the events table has type DECIMAL"):
        check_known_columns({"amount": "DECIMAL"})


@pytest.mark.parametrize(
    ("created_at", "hour"),
    [(1712511721.022075, "2024-04-07T17"), (1712509200.0, "2024-04-07T17"), (1712509199.999999, "2024-04-07T16")],
)
def test_the_hour_begins_with_its_first_second(created_at: float, hour: str) -> None:
    assert f"{hour_of(created_at):%Y-%m-%dT%H}" == hour


def test_every_mixture_of_kinds_has_a_type() -> None:
    for size in range(1, 5):
        for kinds in itertools.combinations(KINDS, size):
            assert types(plan_columns({}, [("a", kind) for kind in kinds]))["a"] in KINDS
