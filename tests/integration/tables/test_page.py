"""What the page of a table in the web UI reads of it."""

from __future__ import annotations

import json
from datetime import timedelta

from sluice.aws.tables import reading
from sluice.lake_views import tables
from sluice.settings import Settings
from tables_world import HOUR, START, publish

NOW = START + timedelta(hours=4, minutes=40)
"""The hour that began three hours after START is over for longer than the deadline of events_hourly."""


def test_a_table_shows_its_hours_and_snapshots_and_which_run_made_them(lake: Settings) -> None:
    publish(lake, START, "ab")
    publish(lake, START + 2 * HOUR, "xyz")
    page = tables.read_table(lake, "visits", NOW)
    cells = page["calendar"]["partitions"]
    assert [(cell["state"], cell.get("rows"), cell.get("run")) for cell in cells] == [
        ("present", 2, "run-ab"),
        ("missing", None, None),
        ("present", 3, "run-xyz"),
        ("missing", None, None),
    ]
    in_time = tables.read_table(lake, "visits", NOW - timedelta(minutes=30))
    assert [cell["state"] for cell in in_time["calendar"]["partitions"]] == ["present", "missing", "present"]
    newest, first = page["snapshot_list"]
    assert (newest["is_current"], newest["total"], first["total"]) == (True, 5, 2)
    assert newest["snapshot"] == cells[2]["snapshot"] == str(reading.history("visits")[0].snapshot_id)
    assert [column["description"] for column in page["columns"]] == ["when (UTC)", "which", "how often"]
    assert json.dumps(page)


def test_first_rows_come_with_a_profile_of_each_column(lake: Settings) -> None:
    publish(lake, START, "abb")
    found = tables.preview(lake, "visits")
    assert [row[1:] for row in found["rows"]] == [["a", 1], ["b", 1], ["b", 1]]
    assert found["profile"][1] == {"column": "page", "nulls": 0, "distinct": 2, "min": "a", "max": "b"}
    assert found["profile"][0]["min"] == START.isoformat()


def test_a_table_without_rows_has_a_page(lake: Settings) -> None:
    page = tables.read_table(lake, "visits", NOW)
    assert (page["rows"], page["calendar"], page["snapshot_list"]) == (0, None, [])
    assert tables.preview(lake, "visits")["rows"] == []
