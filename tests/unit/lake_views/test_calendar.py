from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluice.lake_views.tables import CALENDAR_HOURS, fill, partition_start, runs_by_hour, state_of
from sluice.monitoring.history import RunRecord

NOW = datetime(2026, 11, 27, 15, 30, tzinfo=UTC)
THIRTEEN = NOW.replace(hour=13, minute=0)
FOUND: dict[str, Any] = {"rows": 3, "run": "manual__x"}


def test_an_hour_without_rows_is_missing_unless_a_run_found_it_empty() -> None:
    processed_by = {"2026-11-27T14:00+00:00": ["scheduled__x"]}
    cells = fill("hour", {THIRTEEN - timedelta(hours=2): FOUND, THIRTEEN: FOUND}, processed_by, NOW)
    assert [(cell["start"][11:16], cell["state"]) for cell in cells] == [
        ("11:00", "present"),
        ("12:00", "missing"),
        ("13:00", "present"),
        ("14:00", "empty"),
    ], "the hour of 15:00 is not over"


def test_a_calendar_is_bounded_however_old_the_table_is() -> None:
    old = {THIRTEEN - timedelta(days=1000): FOUND, THIRTEEN: FOUND}
    assert len(fill("hour", old, {}, NOW)) == CALENDAR_HOURS
    assert fill("hour", {}, {}, NOW) == []
    ancient = fill("hour", {datetime(2024, 4, 7, 17, tzinfo=UTC): FOUND}, {}, NOW)
    assert ancient[0]["state"] == "present", "a table whose hours are all long ago still shows them"


def test_months_are_filled_over_the_end_of_a_year() -> None:
    found = {datetime(2025, 11, 1, tzinfo=UTC): FOUND, datetime(2026, 2, 1, tzinfo=UTC): FOUND}
    cells = fill("month", found, {}, NOW)
    assert [cell["start"][:7] for cell in cells] == ["2025-11", "2025-12", "2026-01", "2026-02"]


@pytest.mark.parametrize(
    ("run", "runs", "state"),
    [
        ("manual__x", ["manual__x"], "present"),
        ("manual__long_ago", [], "present"),
        ("late__13__x", ["late__13__x"], "present"),
        ("late__13__x", ["late__13__x", "scheduled__x"], "late"),
        ("scheduled__x", ["late__13__x", "scheduled__x"], "late"),
        ("manual__x", ["manual__x", "late__13__x", "scheduled__x"], "reprocessed"),
        ("backfill__x", [], "reprocessed"),
        (None, ["scheduled__x"], "empty"),
        (None, [], "missing"),
    ],
)
def test_a_partition_says_whether_it_was_published_again(run: str | None, runs: list[str], state: str) -> None:
    assert state_of(run, runs) == state


def test_a_rebuild_of_a_day_processes_each_of_its_hours() -> None:
    def ran(run: str, partition: str, minutes: int, tally: int = 1) -> RunRecord:
        return RunRecord("dag", run, NOW, NOW + timedelta(minutes=minutes), "", {"records_in": tally}, partition)

    hourly = [ran("scheduled", "2026-11-26T05:42+00:00", 1), RunRecord("dag", "failed", NOW, NOW, "failed")]
    found = runs_by_hour(hourly, [ran("rebuild", "2026-11-26T03:42+00:00", 2)])
    assert found["2026-11-26T05:00+00:00"] == ["rebuild", "scheduled"]
    assert found["2026-11-26T23:00+00:00"] == ["rebuild"]
    assert len(found) == 24


def test_the_number_of_a_partition_is_its_begin() -> None:
    assert partition_start("hour", 475_817) == datetime(2024, 4, 12, 17, tzinfo=UTC)
    assert partition_start("month", 12 * 54 + 3) == datetime(2024, 4, 1, tzinfo=UTC)
