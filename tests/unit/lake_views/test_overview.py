from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sluice.core.pipeline import Dag, Pipeline
from sluice.lake_views.overview import due_by, hours_document, readable_pipelines
from sluice.monitoring.history import RunRecord
from sluice.settings import load_settings

NOW = datetime(2026, 11, 27, 15, 30, tzinfo=UTC)
INGEST = Dag("events_ingest", "*/5 * * * *", deadline_seconds=900)
HOURLY = Dag("events_hourly", "0 * * * *", deadline_seconds=1800, tables=("events",))
EVENTS = Pipeline("events", (INGEST, HOURLY))


def ran(dag_id: str, at: datetime, outcome: str = "succeeded", **tally: int) -> RunRecord:
    counts = {"records_in": 0, "published": 0, "duplicates": 0, "quarantined": 0} | tally if tally else {}
    return RunRecord(dag_id, f"run-{at:%H%M}", at, at, outcome, counts)


def test_the_counts_of_each_dag_add_up_also_if_an_hour_is_processed_again() -> None:
    hour = timedelta(hours=1)
    runs = {
        "events_ingest": [
            ran("events_ingest", NOW, records_in=10, published=9, quarantined=1),
            ran("events_ingest", NOW - 2 * hour, records_in=5, published=5),
        ],
        "events_hourly": [
            ran("events_hourly", NOW - hour, records_in=9, published=7, duplicates=2),
            ran("events_hourly", NOW - hour, records_in=14, published=12, duplicates=2),
        ],
    }
    found = hours_document(EVENTS, NOW, runs)
    assert found["start"] == "2026-11-26T16:00:00+00:00"
    ingest, hourly = found["dags"]
    assert (ingest["dag"], ingest["records_in"][-3:], ingest["published"][-3:]) == (
        "events_ingest",
        [5, 0, 10],
        [5, 0, 9],
    )
    assert (hourly["dag"], hourly["records_in"][-3:], hourly["duplicates"][-3:]) == (
        "events_hourly",
        [0, 23, 0],
        [0, 4, 0],
    )
    for dag in found["dags"]:
        parts = zip(dag["published"], dag["duplicates"], dag["quarantined"], strict=True)
        assert dag["records_in"] == [sum(counts) for counts in parts]


def test_a_run_of_yesterday_is_not_charted_and_a_failed_one_is_counted() -> None:
    runs = {
        "events_ingest": [
            ran("events_ingest", NOW - timedelta(hours=25), records_in=5, published=5),
            ran("events_ingest", NOW, outcome="failed"),
        ],
    }
    found = hours_document(EVENTS, NOW, runs)
    assert found["dags"] == []
    assert found["failed"] == 1


def test_the_deadline_of_freshness_is_the_next_scheduled_time_and_a_margin() -> None:
    assert due_by(INGEST, NOW) == datetime(2026, 11, 27, 15, 50, tzinfo=UTC)
    assert due_by(HOURLY, NOW) == datetime(2026, 11, 27, 16, 30, tzinfo=UTC)
    assert due_by(Dag("events_rebuild", None), NOW) is None


def test_a_person_sees_the_pipelines_of_the_dags_that_they_may_read() -> None:
    (found,) = readable_pipelines(load_settings(), {"events_ingest"})
    assert (found.name, [dag.dag_id for dag in found.dags]) == ("events", ["events_ingest"])
