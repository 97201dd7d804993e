from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.lake_views.files import CELL_CHARACTERS, cell, whole_lines
from sluice.lake_views.quarantine import QuarantineFile, counts, parse

FILE = QuarantineFile("quarantine/events/shard/x.jsonl", 10, datetime(2026, 11, 27, 23, 59, tzinfo=UTC))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**64 - 1, "18446744073709551615"),
        (3, 3),
        (float("nan"), "nan"),
        (Decimal("1.10"), "1.10"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        ({"a": [1]}, '{"a": [1]}'),
        (None, None),
        (True, True),
    ],
)
def test_a_cell_shows_a_value_as_it_is(value: Any, shown: Any) -> None:
    assert cell(value) == shown


@settings(max_examples=50)
@given(st.recursive(st.none() | st.integers() | st.floats() | st.text() | st.binary(), st.lists))
def test_every_value_can_be_sent_to_a_browser_and_is_short(value: Any) -> None:
    sent = json.dumps(cell(value), allow_nan=False)
    assert len(json.loads(sent) if isinstance(cell(value), str) else sent) <= CELL_CHARACTERS + 3


def test_the_last_line_of_a_beginning_is_left_out_where_it_may_be_cut() -> None:
    assert list(whole_lines("a\nb\nc", is_whole=False)) == ["a", "b"]
    assert list(whole_lines("a\nb\nc", is_whole=True)) == ["a", "b", "c"]


def test_rejected_records_are_counted_by_pipeline_reason_and_day() -> None:
    line = json.dumps({"source": "s", "reason": "not_json", "record": "{", "detail": "no JSON"})
    records = parse("events", FILE, [line, line, "no JSON at all"])
    assert counts(records) == [
        {"pipeline": "events", "reason": "not_json", "day": "2026-11-27", "records": 2},
        {"pipeline": "events", "reason": "unreadable", "day": "2026-11-27", "records": 1},
    ]
