from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluice.lake_views.tables import CALENDAR_HOURS, fill, partition_start, state_of

NOW = datetime(2026, 11, 27, 15, 30, tzinfo=UTC)
THIRTEEN = NOW.replace(hour=13, minute=0)
FOUND: dict[str, Any] = {"rows": 3, "run": "manual__x", "times": 1}


def test_an_hour_between_others_that_has_no_rows_is_missing() -> None:
    cells = fill("hour", {THIRTEEN - timedelta(hours=2): FOUND, THIRTEEN: FOUND}, NOW)
    assert [(cell["start"][11:16], cell["state"]) for cell in cells] == [
        ("11:00", "present"),
        ("12:00", "missing"),
        ("13:00", "present"),
        ("14:00", "missing"),
    ], "the hour of 15:00 is not over"


def test_a_calendar_is_bounded_however_old_the_table_is() -> None:
    old = {THIRTEEN - timedelta(days=1000): FOUND, THIRTEEN: FOUND}
    assert len(fill("hour", old, NOW)) == CALENDAR_HOURS
    assert fill("hour", {}, NOW) == []
    ancient = fill("hour", {datetime(2024, 4, 7, 17, tzinfo=UTC): FOUND}, NOW)
    assert ancient[0]["state"] == "present", "a table whose hours are all long ago still shows them"


def test_months_are_filled_over_the_end_of_a_year() -> None:
    cells = fill("month", {datetime(2025, 11, 1, tzinfo=UTC): FOUND, datetime(2026, 2, 1, tzinfo=UTC): FOUND}, NOW)
    assert [cell["start"][:7] for cell in cells] == ["2025-11", "2025-12", "2026-01", "2026-02"]


@pytest.mark.parametrize(
    ("run", "times", "state"),
    [
        ("manual__x", 1, "present"),
        ("late__2026-11-27T13__x", 1, "present"),
        ("late__2026-11-27T13__x", 2, "late"),
        ("manual__x", 2, "reprocessed"),
        ("backfill__x", 0, "reprocessed"),
    ],
)
def test_a_partition_says_whether_it_was_published_again(run: str, times: int, state: str) -> None:
    assert state_of(run, times) == state


def test_the_number_of_a_partition_is_its_begin() -> None:
    assert partition_start("hour", 475_817) == datetime(2024, 4, 12, 17, tzinfo=UTC)
    assert partition_start("month", 12 * 54 + 3) == datetime(2024, 4, 1, tzinfo=UTC)
