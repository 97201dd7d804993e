from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.core.quarantine import RejectedRecord
from sluice.core.strict_json import DEPTH_MAX, Reason, integral, is_number, parse


def reason_of(document: str | bytes) -> str:
    with pytest.raises(RejectedRecord) as rejected:
        parse(document)
    assert rejected.value.detail
    return rejected.value.reason


@pytest.mark.parametrize(
    "document",
    [
        "",
        " ",
        "NaN",
        "[Infinity]",
        "[-Infinity]",
        "[-inf]",
        "[nan]",
        "[1,]",
        '{"a":1,}',
        "[1 2]",
        "[01]",
        "[+1]",
        "[.5]",
        "[5.]",
        "[1e]",
        "[0x1F]",
        "[1_000]",
        "[١]",
        "['a']",
        "{a:1}",
        "[1] // comment",
        "[1] [2]",
        '["a\tb"]',
        '["a\nb"]',
        '["\\x41"]',
        '["\\ud8"]',
        "[True]",
        "\xa0[]",
        "\ufeff\ufeff[]",
        b'["\xff"]',
        b'["\xed\xa0\x80"]',
        json.dumps([1]).encode("utf-16"),
        json.dumps([1]).encode("utf-16-le"),
        json.dumps([1]).encode("utf-32"),
    ],
)
def test_what_rfc_8259_does_not_allow_is_not_json(document: str | bytes) -> None:
    assert reason_of(document) == Reason.NOT_JSON


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_text_and_bytes_give_the_same_value_also_with_a_byte_order_mark(mark: str) -> None:
    document = mark + ' {"a": ["é", "\\ud800", -0, 1.10, true, null]} '
    expected = {"a": ["é", "\ud800", 0, Decimal("1.10"), True, None]}
    assert parse(document) == parse(document.encode()) == expected


@pytest.mark.parametrize("nested", ["[" * 9, '{"a":' * 9], ids=["arrays", "objects"])
def test_a_document_may_be_deep_but_not_deeper_than_the_limit(nested: str) -> None:
    one, close = (nested[:1], "]") if nested[0] == "[" else (nested[:5], "}")

    def deep(levels: int) -> str:
        return one * levels + "1" + close * levels

    assert parse(deep(DEPTH_MAX))
    assert reason_of(deep(DEPTH_MAX + 1)) == reason_of(deep(200_000)) == reason_of(one * 200_000) == Reason.NOT_JSON


@pytest.mark.parametrize("string", ["[{" * 1000, '\\"[' * 1000, "\\\\"], ids=["brackets", "quotes", "backslash"])
def test_brackets_within_a_string_are_not_depth(string: str) -> None:
    assert parse(f'["{string}", {"[]," * 1000}1]')


@pytest.mark.parametrize("document", ['{"a":1,"a":1}', '[{"a":{"b":1,"\\u0062":2}}]'])
def test_two_fields_of_one_name_are_a_repeated_field(document: str) -> None:
    assert reason_of(document) == Reason.REPEATED_FIELD


@pytest.mark.parametrize(
    "number",
    [
        "1e309",
        "-1e309",
        "1e1000000000",
        "1e1000000000000000000",
        "-1E+1000000000000000000000",
        "1e-1000000000000000000",
        "1e-400",
        "9" * 310,
        "9" * 5000,
        "-" + "9" * 1_000_000,
        f"1e{'9' * 1_000_000}",
        f"0.{'0' * 1_000_000}1",
    ],
    ids=lambda number: number[:30],
)
@pytest.mark.parametrize("place", ["{}", '{{"a": {}}}', '{{"a": [1, {{"b": {}}}]}}'], ids=["alone", "field", "nested"])
def test_a_number_that_no_reader_can_hold_is_out_of_range_wherever_it_is(number: str, place: str) -> None:
    assert reason_of(place.format(number)) == Reason.OUT_OF_RANGE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("12.0", 12),
        ("1.2e1", 12),
        ("120e-1", 12),
        ("1.7e9", 1_700_000_000),
        ("18446744073709551615.0", 2**64 - 1),
        ("18446744073709551616.0", 2**64),
        ("1.8446744073709551615e19", 2**64 - 1),
        ("-9.007199254740993e15", -9007199254740993),
        ("-0.0", 0),
        ("0e9999999999999999999", 0),
        ("0.0e-9999999999999999999", 0),
        ("1e308", 10**308),
        (f"1{'0' * 100_000}e-100000", 1),
        (f"0.{'0' * 100_000}12e100002", 12),
        (f"1e{'0' * 100_000}5", 100_000),
        ("12.5", None),
        ("1e-1", None),
        ("18446744073709551615.5", None),
        (f"1.{'0' * 100_000}1", None),
        ("5e-324", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_integral_number_is_its_integer_however_it_is_spelled(text: str, value: int | None) -> None:
    number = parse(text)
    assert is_number(number)
    assert integral(number) == value


@settings(max_examples=50)
@given(integer=st.integers(-(2**70), 2**70), zeros=st.integers(0, 30))
def test_no_spelling_of_an_integer_changes_it(integer: int, zeros: int) -> None:
    spellings = [
        f"{integer}",
        f"{integer}.{'0' * (zeros + 1)}",
        f"{integer}e0",
        f"{integer}{'0' * zeros}e-{zeros}",
        f"{integer}{'0' * zeros}.0E-{zeros}",
    ]
    assert [integral(parse(each)) for each in spellings] == [integer] * len(spellings)
    assert [integral(parse(f"{integer}.{'0' * zeros}1"))] == [None]


@pytest.mark.parametrize("value", [True, False, None, "1", [1], {"a": 1}])
def test_nothing_else_is_a_number(value: Any) -> None:
    assert not is_number(parse(json.dumps(value)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def as_decimals(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_float=Decimal)


@settings(max_examples=50)
@given(json_values)
def test_a_json_value_is_read_as_it_was_written(value: Any) -> None:
    assert parse(json.dumps(value)) == as_decimals(value)
