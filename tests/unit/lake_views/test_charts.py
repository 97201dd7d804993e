from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from sluice.aws.tables import definitions
from sluice.lake_views import charts
from sluice.lake_views.charts import (
    EVENT_HOURS,
    POINTS,
    TYPES_SHOWN,
    by_partner,
    dropped,
    events_by_type,
    popularity,
    shares,
    success_rates,
)
from sluice.monitoring import history
from sluice.monitoring.history import RunRecord
from sluice.settings import Settings

NOW = datetime(2026, 11, 27, 15, tzinfo=UTC)


def pull(minute: int, name: str, pulls: int) -> dict[str, Any]:
    at = NOW + timedelta(minutes=minute)
    return {"observed_at": at, "namespace": "library", "name": name, "star_count": 1, "pull_count": pulls}


def test_a_line_a_repository_has_no_value_where_it_was_not_pulled() -> None:
    pulls, stars = popularity([pull(5, "a", 11), pull(0, "a", 10), pull(5, "b", 7)])
    assert pulls["labels"] == ["2026-11-27 15:00", "2026-11-27 15:05"]
    assert pulls["series"] == {"library/a": [10, 11], "library/b": [None, 7]}
    assert stars["title"] == "Stars by repository"


def test_a_long_history_is_drawn_with_few_points_and_its_newest_one() -> None:
    pulls, _ = popularity(pull(minute, "a", minute) for minute in range(5 * POINTS + 3))
    assert len(pulls["labels"]) <= POINTS + 1
    assert pulls["series"]["library/a"][-1] == 5 * POINTS + 2


def test_rare_event_types_are_drawn_together_and_no_event_is_left_out() -> None:
    start = NOW - timedelta(hours=EVENT_HOURS)
    rows: list[dict[str, Any]] = [
        {"hour": start + timedelta(hours=40 + place % 2), "event_type": f"type-{place}", "count_all": 100 - place}
        for place in range(TYPES_SHOWN + 3)
    ]
    found = events_by_type(rows, start)
    assert "others" in found["series"]
    assert sum(map(sum, found["series"].values())) == sum(row["count_all"] for row in rows)
    assert found["labels"][0] == f"{start + timedelta(hours=40):%m-%d %H:00}"


def test_an_hour_processed_again_shows_the_share_of_its_newest_run() -> None:
    def ran(minute: int, duplicates: int) -> RunRecord:
        tally = {"records_in": 100, "published": 100 - duplicates, "duplicates": duplicates, "quarantined": 0}
        at = NOW + timedelta(minutes=minute)
        return RunRecord("events_hourly", f"run-{minute}", at, at, "succeeded", tally, "2026-11-27T14:00+00:00")

    duplicates, again = shares([ran(9, 8), ran(0, 5)])
    assert duplicates["series"] == {"duplicates": [8.0]}
    assert again["series"] == {"processed again": [1]}


def test_the_newest_rate_of_a_diagnostic_counts_and_worst_modules_show() -> None:
    def rate(module: str, timestamp: int, value: float, minute: int = 0) -> dict[str, Any]:
        at = NOW + timedelta(minutes=minute)
        return {"module": module, "timestamp": timestamp, "success_rate": value, "published_at": at}

    bins, worst = success_rates([rate("a", 1, 100), rate("b", 1, 10), rate("b", 1, 50, minute=5), rate("b", 2, 4.9)])
    assert sum(bins["series"]["diagnostics"]) == 3
    assert (bins["series"]["diagnostics"][0], bins["series"]["diagnostics"][-1]) == (1, 1)
    assert worst["series"] == {"b": [50, 4.9], "a": [100, None]}


def test_partners_and_dropped_records_are_counted() -> None:
    assert by_partner(["b", "a", "b"])["series"] == {"accommodations": [2, 1]}
    found = dropped([{"duplicates": 2, "unlisted": 1}, {"duplicates": 3}, {}])
    assert dict(zip(found["labels"], found["series"]["records"], strict=True)) == {
        "a better record won": 5,
        "partner on no list": 1,
        "partner blocked": 0,
        "rejected": 0,
    }


@pytest.mark.parametrize(("rows", "is_whole"), [(4, True), (5, True), (6, False)])
def test_a_chart_of_more_rows_than_are_read_says_that_it_is_a_part(
    monkeypatch: pytest.MonkeyPatch, rows: int, *, is_whole: bool
) -> None:
    def scan(*, limit: int, **_: Any) -> Any:
        table = pa.table({"partner_name": ["a"] * rows, "created_datetime": [NOW] * rows, "event_type": ["x"] * rows})
        return SimpleNamespace(to_arrow=lambda: table.select(_["selected_fields"]).slice(0, limit))

    monkeypatch.setattr(charts, "ROWS_READ", 5)
    monkeypatch.setattr(definitions, "load", lambda *_: SimpleNamespace(scan=scan))
    monkeypatch.setattr(history, "read_runs_of", lambda *_: [])
    monkeypatch.setattr(history, "read_gate_history", lambda *_: [])
    settings = Settings(_env_file=None)
    for table in ("accommodations_current", "events"):
        chart, *others = charts.read_charts(settings, table, NOW)
        assert (chart["is_whole"], chart["rows_read"]) == (is_whole, 5)
        assert sum(map(sum, chart["series"].values())) == min(rows, 5)
        assert not any("is_whole" in other for other in others)
