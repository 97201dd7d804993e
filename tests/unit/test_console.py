"""A table fits 80 columns: numbers and times are printed whole, texts are wrapped, then columns are left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from sluice.core.console import Column, print_json_lines, print_table, time_text


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_number_is_never_cut_where_a_text_can_be_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    print_table((Column("module"), Column("timestamp", "number")), [("m" * 200, 2**64 - 1)])
    said = capsys.readouterr().out
    assert str(2**64 - 1) in said
    assert said.count("m") == 200 + "module timestamp".count("m")
    assert max(map(len, said.splitlines())) <= 80
    assert "…" not in said


def test_columns_that_do_not_fit_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [Column(f"column {number}", "number") for number in range(10)]
    print_table(columns, [[10**14 + number for number in range(10)]])
    said = capsys.readouterr().out
    assert [number for number in range(10) if str(10**14 + number) in said] == [0, 1, 2, 3]
    assert "Too narrow for: column 4, column 5" in said
    assert max(map(len, said.splitlines())) <= 80


def test_what_stands_in_a_cell_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table((Column("partner"),), [("[bold]A[/]",)])
    assert "[bold]A[/]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (1795810000.123, "1795810000.123"),
        (120.0, "120"),
        (100 / 3, "33.333333"),
        (0.0, "0"),
        (1e-7, "1e-07"),
    ],
)
def test_nothing_is_a_dash_and_a_float_has_six_decimals(
    number: float, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table((Column("a"), Column("b", "number")), [(None, number)])
    assert capsys.readouterr().out.split() == ["a", "b", "-", text]


def test_a_time_is_iso_8601_in_utc() -> None:
    moment = datetime(2024, 4, 7, 19, 42, 1, 22075, timezone(timedelta(hours=2)))
    assert time_text(moment) == "2024-04-07T17:42:01.022075Z"
    assert time_text(moment, "seconds") == "2024-04-07T17:42:01Z"
    assert time_text(moment.replace(tzinfo=None)) == "2024-04-07T19:42:01.022075Z"


def test_rows_for_programs_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_json_lines([{"at": datetime(2024, 4, 7, tzinfo=UTC), "n": Decimal(2**63), "s": "é"}, {"at": None}])
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == {"at": "2024-04-07T00:00:00Z", "n": 2**63, "s": "é"}
    assert "é" in first
    assert json.loads(second) == {"at": None}
