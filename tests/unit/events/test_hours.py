"""Which hours are marked, and how an hour is read from a text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sluice.pipelines.events.batch import RawFile
from sluice.pipelines.events.dirty_hours import hours_to_mark
from sluice.pipelines.events.storage import hour_text, parse_hour


def test_hours_are_dirtied_by_their_events_and_those_of_the_hours_before() -> None:
    hour = datetime(2024, 4, 7, 17, tzinfo=UTC)
    files = [
        RawFile("", "", hour_text(hour), 3),
        RawFile("", "", hour_text(hour), 4),
        RawFile("", "", hour_text(hour + timedelta(hours=1)), 1),
    ]
    marked = hours_to_mark(files, "run", lookback_hours=2)
    assert list(marked.values()) == [
        "events of hour 2024-04-07T17 arrived in run: 7",
        "events of hour 2024-04-07T18 arrived in run: 1",
        "events of hour 2024-04-07T17 arrived in run: 7, perhaps duplicated here",
        "events of hour 2024-04-07T18 arrived in run: 1, perhaps duplicated here",
    ]
    assert [at - hour for at in marked] == [timedelta(hours=distance) for distance in range(4)]


@pytest.mark.parametrize("text", ["2024-04-07T17", "2024-04-07T17:59:59Z", "2024-04-07T23:29:00+05:30"])
def test_an_hour_is_read_from_any_time_in_it(text: str) -> None:
    assert parse_hour(text) == datetime(2024, 4, 7, 17, tzinfo=UTC)
