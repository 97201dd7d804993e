"""Every field of an accepted event is in a column or, as it came, in `rescued_data`, independent of other events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events_data import CREATED_AT, envelopes, event, rejections, rows, transformed, uuid_of
from sluice.pipelines.events.ingest import _log_rescued
from sluice.pipelines.events.records import RAW_COLUMNS, RESCUED_COLUMN
from sluice.pipelines.events.rescue import column_fields, read_fields, split_record
from sluice.pipelines.events.transform import SAMPLE_ROWS, Rescued, TransformResult
from sluice.settings import load_settings


def raw_event(fields: Mapping[str, str], number: int = 1) -> str:
    """An event with additional fields whose values are JSON text."""
    more = "".join(f", {json.dumps(name)}: {text}" for name, text in fields.items())
    return event(number)[:-1] + more + "}"


def further(
    folder: Path, records: list[str], known: dict[str, str] | None = None, **options: Any
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Additional columns with their types, and what each row has in them and in `rescued_data`; none is rejected."""
    result = transformed(folder, envelopes(records), known, **options)
    assert result.rejected == {}
    return result.columns, [
        {name: value for name, value in row.items() if name not in RAW_COLUMNS} for row in in_order(result)
    ]


def in_order(result: TransformResult) -> list[dict[str, Any]]:
    """Rows in the order of the records."""
    return sorted(rows(file.path for file in result.files), key=lambda row: int(row["sequence_number"]))


@pytest.mark.parametrize(
    ("texts", "kind", "values", "rescued"),
    [
        (["1", "-2", "null", "9223372036854775807"], "BIGINT", [1, -2, None, 2**63 - 1], []),
        (["5", "5.0", "0.5e1", "-0"], "BIGINT", [5, 5, 5, 0], []),
        (["1.5", "2"], "DOUBLE", [1.5, 2.0], []),
        (["1e-7", "0", "1712511721.022075"], "DOUBLE", [1e-7, 0.0, CREATED_AT], []),
        (["true", "false", "null"], "BOOLEAN", [True, False, None], []),
        (['"5"', '"true"', '"null"', '""', '"NaN"'], "VARCHAR", ["5", "true", "null", "", "NaN"], []),
        (['{"b": [1, 2.50,null]}', "[ ]", "{}"], "VARCHAR", ['{"b": [1, 2.50,null]}', "[ ]", "{}"], []),
        (['"a"', "5", "1.5", "true"], "DOUBLE", [None, 5.0, 1.5, None], ['"a"', "true"]),
        (["10", "10.5", '"free"'], "DOUBLE", [10.0, 10.5, None], ['"free"']),
        (["9007199254740993", "1.5"], "DOUBLE", [None, 1.5], ["9007199254740993"]),
        (["0.10000000000000000000000001"], "DOUBLE", [None], ["0.10000000000000000000000001"]),
        (["18446744073709551616"], "DOUBLE", [None], ["18446744073709551616"]),
        (["1e400", "1.5"], "DOUBLE", [None, 1.5], ["1e400"]),
        (["1e1000000000000000000", "1.5"], "DOUBLE", [None, 1.5], ["1e1000000000000000000"]),
    ],
)
def test_a_new_field_has_the_type_of_most_values_and_others_are_rescued(
    tmp_path: Path, texts: list[str], kind: str, values: list[Any], rescued: list[str]
) -> None:
    columns, found = further(tmp_path, [raw_event({"extra": text}, number) for number, text in enumerate(texts)])
    assert columns == {"extra": kind}
    assert [row["extra"] for row in found] == values
    assert [row[RESCUED_COLUMN] for row in found if row[RESCUED_COLUMN]] == [f'{{"extra":{text}}}' for text in rescued]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            "BIGINT",
            {"1": 1, "-1": -1, "5.0": 5, "12e1": 120, "-9223372036854775808": -(2**63)},
            ["1.5", "1e-7", '"5"', "true", "[1]", '{"a":1}', "9223372036854775808", "1e19"],
        ),
        (
            "DOUBLE",
            {"1": 1.0, "2.5": 2.5, "-1e300": -1e300, "1e5": 1e5, "4000000001": 4000000001.0},
            ['"2.5"', "false", "[]", "{}", "9007199254740993", "1e999", "0.30000000000000001"],
        ),
        ("BOOLEAN", {"true": True, "false": False}, ["1", "0", '"true"', "[]"]),
        ("VARCHAR", {'"5"': "5", '"é"': "é", "[1.0]": "[1.0]", '{"a" : 1}': '{"a" : 1}'}, ["5", "1.50", "true", "1e3"]),
    ],
)
def test_a_value_that_its_column_cannot_hold_exactly_is_rescued(
    tmp_path: Path, kind: str, good: dict[str, Any], bad: list[str]
) -> None:
    records = [raw_event({"extra": text}, number) for number, text in enumerate([*good, *bad])]
    columns, found = further(tmp_path, records, {"extra": kind})
    assert columns == {"extra": kind}
    assert found == [
        *({"extra": value, RESCUED_COLUMN: None} for value in good.values()),
        *({"extra": None, RESCUED_COLUMN: f'{{"extra":{text}}}'} for text in bad),
    ]


def test_fields_that_cannot_be_columns_are_rescued_as_they_came(tmp_path: Path) -> None:
    fields = {
        "Source-Name": '"shop"',
        "@id": "1.50",
        "$ref": '"\\u00e9\\/"',
        "a.b": '{"x" : [1,  2]}',
        "naïve": "true",
        "month": '"04"',
        "": "0",
        "__id": "9007199254740993",
        'qu"ote': "[]",
        "event_type": '"mine"',
        "Event_Name": '"other"',
        "rescued_data": '"{}"',
    }
    text = "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{value}" for name, value in fields.items()) + "}"
    columns, found = further(tmp_path, [raw_event(fields | {"ok": "1", "gone-away": "null"})])
    assert (columns, found) == ({"ok": "BIGINT"}, [{"ok": 1, RESCUED_COLUMN: text}])


def test_of_two_spellings_of_a_column_one_is_rescued(tmp_path: Path) -> None:
    fields = [{"orderId": '"a"'}, {"orderid": '"b"'}, {"orderId": '"x"', "orderid": '"y"'}, {"ORDERID": "1"}]
    columns, found = further(tmp_path, [raw_event(each, number) for number, each in enumerate(fields)])
    assert columns == {"orderid": "VARCHAR"}
    assert [(row["orderid"], row[RESCUED_COLUMN]) for row in found] == [
        ("a", None),
        ("b", None),
        ("y", '{"orderId":"x"}'),
        (None, '{"ORDERID":1}'),
    ]


def test_a_rejected_record_plans_no_column_and_decides_no_type(tmp_path: Path) -> None:
    bad = [event(number, event_uuid="x", junk=1, price="none") for number in range(5)]
    result = transformed(tmp_path, envelopes([*bad, event(6, price=5)]))
    assert (result.rejected, result.columns) == ({"bad_uuid": 5}, {"price": "BIGINT"})


def test_fields_beyond_the_limit_are_rescued_and_frequent_ones_are_columns(tmp_path: Path) -> None:
    wide = raw_event({f"f{number:03d}": f"{number}.0" for number in range(600)})
    result = transformed(tmp_path, envelopes([wide, event(2, z=1), event(3, z=2)]))
    assert list(result.columns) == [*(f"f{number:03d}" for number in range(499)), "z"]
    assert result.rescued == Rescued(records=1, fields=101, over_limit=101, looked_at=3)
    found = in_order(result)
    assert [row["f498"] for row in found] == [498, None, None]
    assert [row["z"] for row in found] == [None, 1, 2]
    assert found[0][RESCUED_COLUMN] == "{" + ",".join(f'"f{number}":{number}.0' for number in range(499, 600)) + "}"
    full, later = further(tmp_path / "full", [event(4, new=1, f000=7)], result.columns)
    assert full == result.columns
    assert (later[0]["f000"], later[0][RESCUED_COLUMN]) == (7, '{"new":1}')


def test_a_record_of_100000_fields_is_one_row(tmp_path: Path) -> None:
    fields = {f"f{number:05d}": "1" for number in range(100_000)}
    result = transformed(tmp_path, envelopes([raw_event(fields), event(2)]), max_columns=50)
    assert result.rescued == Rescued(records=1, fields=99_950, over_limit=99_950, looked_at=1)
    first, second = in_order(result)
    assert json.loads(first[RESCUED_COLUMN]) == dict.fromkeys(sorted(fields)[50:], 1)
    assert second[RESCUED_COLUMN] is None


def test_a_record_nested_too_deep_adds_no_row_to_its_second(tmp_path: Path) -> None:
    deep = raw_event({"a": "[" * 501 + "]" * 501})
    result = transformed(tmp_path, envelopes([event(2), deep]))
    assert (result.rows_in, result.rows_out, result.rejected) == (2, 1, {"not_json": 1})
    assert [row["event_uuid"] for row in in_order(result)] == [uuid_of(2)]


def test_a_frozen_table_gets_no_column(tmp_path: Path) -> None:
    columns, found = further(tmp_path, [event(1, known=1, new=2)], {"known": "BIGINT"}, evolve=False)
    assert (columns, found) == ({"known": "BIGINT"}, [{"known": 1, RESCUED_COLUMN: '{"new":2}'}])


def test_a_field_is_rescued_where_the_table_has_another_type_of_its_name(tmp_path: Path) -> None:
    columns, found = further(tmp_path, [event(1, amount=1.5)], {"amount": "DECIMAL(10,2)"})
    assert (columns, found) == ({}, [{RESCUED_COLUMN: '{"amount":1.5}'}])


def test_a_time_that_a_double_cannot_hold_is_kept_as_received(tmp_path: Path) -> None:
    record = event(1).replace(str(CREATED_AT), "1712511721.02207512345678")
    assert further(tmp_path, [record]) == ({}, [{RESCUED_COLUMN: '{"created_at":1712511721.02207512345678}'}])


@pytest.mark.parametrize("value", ["NaN", "NAN", "nan", "INF", "inf", "-Infinity", "INFINITY"])
def test_what_is_no_json_number_is_rejected_also_for_a_known_text_column(tmp_path: Path, value: str) -> None:
    result = transformed(tmp_path, envelopes([raw_event({"note": value})]), {"note": "VARCHAR"})
    assert result.rejected == {"not_json": 1}


def test_a_known_column_is_there_even_when_no_event_has_it(tmp_path: Path) -> None:
    assert further(tmp_path, [event()], {"gone": "DOUBLE"}) == (
        {"gone": "DOUBLE"},
        [{"gone": None, RESCUED_COLUMN: None}],
    )


def test_a_field_first_seen_after_the_sample_is_not_lost(tmp_path: Path) -> None:
    late = SAMPLE_ROWS + 10
    records = [event(number, early=1) if number < late else event(number, later="x") for number in range(late + 5)]
    columns, found = further(tmp_path, records)
    assert columns == {"early": "BIGINT", "later": "VARCHAR"}
    assert [row["later"] for row in found] == [None] * late + ["x"] * 5


def test_a_field_may_have_the_name_of_anything_inside(tmp_path: Path) -> None:
    names = ["reason", "record", "fields", "cause", "envelopes", "select", "filename", "split", "row_id"]
    columns, found = further(tmp_path, [event(**dict.fromkeys(names, 1), other="-")])
    assert columns == dict.fromkeys(sorted(names), "BIGINT") | {"other": "VARCHAR"}
    assert found == [dict.fromkeys(names, 1) | {"other": "-", RESCUED_COLUMN: None}]
    again, found = further(
        tmp_path / "known", [event(**dict.fromkeys(names, 1)), event(2, record="x", rowid=5)], columns
    )
    assert again == columns
    assert found[0] == dict.fromkeys(names, 1) | {"other": None, RESCUED_COLUMN: None}
    assert found[1][RESCUED_COLUMN] == '{"record":"x","rowid":5}'


@pytest.mark.parametrize("contract", ["evolve", "freeze"])
def test_the_log_says_how_much_is_rescued_and_when_columns_run_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, contract: str
) -> None:
    monkeypatch.setenv("SLUICE_EVENTS_SCHEMA_CONTRACT", contract)
    monkeypatch.setenv("SLUICE_EVENTS_MAX_COLUMNS", "7")
    caplog.set_level("INFO")
    result = TransformResult([], None, {}, 0, rescued=Rescued(records=2, fields=9, over_limit=4, looked_at=5))
    _log_rescued(load_settings(), result)
    assert "2 of 0 events have rescued_data, 9 fields" in caplog.text
    assert ("4 fields were rescued instead; SLUICE_EVENTS_MAX_COLUMNS is 7" in caplog.text) == (contract == "evolve")


# Laws

TABLE = {"count": "BIGINT", "amount": "DOUBLE", "flag": "BOOLEAN", "note": "VARCHAR"}

_numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-1000, 1000, places=7).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
)
_texts = st.one_of(
    _numbers,
    st.sampled_from(["true", "false", "null", "[]", "{}", "1e99999999999999999999", '{"a" : [1.0, null]}', '"NaN"']),
    st.text(st.characters(codec="utf-8"), max_size=5).map(json.dumps),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters='"\\'), max_size=5).map(
        lambda text: f'"{text}"'
    ),
)
_names = st.sampled_from(
    ["count", "Count", "amount", "AMOUNT", "flag", "note", "Note", "new", "New", "other", "a-b", "year", "é", "", "__a"]
)
_fields = st.dictionaries(_names, _texts, max_size=6)


def assert_nothing_lost(fields: Mapping[str, str], row: Mapping[str, Any]) -> None:
    """Each field is in the column of its name, with the same value, or in `rescued_data` with the same text."""
    rescued = read_fields(row[RESCUED_COLUMN] or "{}")
    chosen = column_fields(fields)
    for name, text in fields.items():
        column = name.lower()
        if text == "null":
            assert name not in rescued
        elif name in rescued:
            assert rescued.pop(name) == text
            assert chosen.get(column) != name or row.get(column) is None
        else:
            assert chosen[column] == name
            value = row[column]
            if isinstance(value, bool):
                assert text == str(value).lower()
            elif isinstance(value, int | float):
                assert Decimal(text) == Decimal(repr(value))
            else:
                assert value == (json.loads(text) if text.startswith('"') else text)
    assert rescued == {}


@settings(max_examples=12, deadline=None)
@given(batch=st.lists(_fields, min_size=1, max_size=20), known=st.sampled_from([{}, TABLE]))
def test_columns_and_rescued_data_hold_every_field_as_it_came(
    tmp_path_factory: pytest.TempPathFactory, batch: list[dict[str, str]], known: dict[str, str]
) -> None:
    records = [raw_event(fields, number) for number, fields in enumerate(batch)]
    _, found = further(tmp_path_factory.mktemp("batch"), records, known)
    for fields, row in zip(batch, found, strict=True):
        assert_nothing_lost(fields, row)


@given(
    fields=_fields,
    columns=st.dictionaries(st.sampled_from(["count", "new", "note"]), st.sampled_from([*TABLE.values()])),
)
def test_splitting_a_record_loses_nothing(fields: dict[str, str], columns: dict[str, str]) -> None:
    split = split_record(raw_event(fields), columns)
    row: dict[str, Any] = {}
    for name, text in read_fields(split.columns).items():
        row[name] = float(text) if columns[name] == "DOUBLE" else json.loads(text)
    assert_nothing_lost(fields, row | {RESCUED_COLUMN: split.rescued})


_records = st.one_of(
    _fields.map(raw_event),
    _fields.map(raw_event).map(lambda record: record[:-1] + ', "count": 1}'),
    st.sampled_from(
        [
            "",
            "[]",
            raw_event({"a": "NaN"}),
            raw_event({"note": "INF"}),
            raw_event({"note": "nan"}),
            raw_event({"note": "-inf"}),
            raw_event({"a": "1"})[:-1] + ",}",
            event(event_uuid="x", new=1),
        ]
    ),
)


@settings(max_examples=6, deadline=None)
@given(record=_records, before=st.lists(_records, max_size=4), after=st.lists(_records, max_size=4))
def test_a_record_alone_becomes_what_it_becomes_among_neighbours(
    tmp_path_factory: pytest.TempPathFactory, record: str, before: list[str], after: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("neighbours")

    def outcome(name: str, records: list[str], place: int, *, evolve: bool) -> dict[str, Any]:
        batch = envelopes(records)
        result = transformed(folder / name, batch, TABLE, evolve=evolve)
        found = [*rows(file.path for file in result.files), *rejections(result)]
        (row,) = (each for each in found if each["sequence_number"] == batch[place].sequence_number)
        row["sequence_number"] = ""
        return row

    alone = outcome("alone", [record], 0, evolve=False)
    among = [*before, record, *after]
    assert outcome("frozen", among, len(before), evolve=False) == alone
    evolved = outcome("evolved", among, len(before), evolve=True)
    assert evolved.get("reason") == alone.get("reason")
    if "reason" not in alone:
        assert {name: evolved[name] for name in [*RAW_COLUMNS, *TABLE]} == {
            name: alone[name] for name in [*RAW_COLUMNS, *TABLE]
        }


def test_a_uuid_and_a_name_are_never_rescued() -> None:
    assert split_record(event(5, event_name="a"), {}).rescued is None
    assert read_fields(event(5))["event_uuid"] == f'"{uuid_of(5)}"'
