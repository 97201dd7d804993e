from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from sluice.monitoring.canary import records
from sluice.monitoring.canary.records import DAGS, EVENT_HOUR, NAME, Observed
from sluice.pipelines.dockerhub.records import parse_answer, parse_raw_key
from sluice.pipelines.dockerhub.transform import partition_key
from sluice.pipelines.events.records import hour_of
from sluice.pipelines.modules.records import parse_diagnostic, parse_message

NOW = datetime(2026, 11, 27, 12, 0, 30, 123456, tzinfo=UTC)


def test_records_of_the_canary_have_the_reserved_name_and_are_accepted() -> None:
    sent = records.records(NOW)
    assert list(sent) == list(DAGS)
    stats = parse_answer(sent["dockerhub"]["body"].encode(), now=NOW)
    assert (stats.user, stats.name, stats.namespace) == (NAME, NAME, NAME)
    assert parse_raw_key(sent["dockerhub"]["key"]).namespace == NAME
    assert partition_key(stats) == records.REPOSITORY_KEY
    event = json.loads(sent["events"]["body"])
    assert event["event_name"].partition(":")[0] == NAME
    assert hour_of(event["created_at"]) == EVENT_HOUR
    assert parse_message(sent["modules"]["message"]).module_id == NAME
    diagnostic = parse_diagnostic(sent["modules"]["diagnostic"], 0)
    assert (diagnostic.module_id, diagnostic.timestamp) == (NAME, int(sent["modules"]["timestamp"]))
    partner = json.loads(sent["accommodations"]["body"])
    assert (partner["partner_name"], partner["accommodation_id"]) == (NAME, NAME)


def test_two_runs_send_different_records() -> None:
    first, second = records.records(NOW), records.records(NOW + timedelta(milliseconds=1))
    for pipeline in DAGS:
        assert first[pipeline] != second[pipeline]


@pytest.mark.parametrize(
    ("pipeline", "observed", "expected"),
    [
        ("datasets", Observed(), ""),
        ("modules", Observed("modules.rate"), "no success rate of module sluice-canary after 300 s; "),
        (
            "events",
            Observed("events.hour", paused=("events_hourly",)),
            "events_hourly is paused; `sluice airflow dags unpause events_hourly`",
        ),
        ("accommodations", Observed("accommodations.put", error="the priority list is missing"), "the priority list"),
        ("datasets", Observed("datasets.put"), "task datasets.put of platform_canary failed; see its log"),
    ],
)
def test_the_sentence_says_what_is_missing_or_what_hinders(pipeline: str, observed: Observed, expected: str) -> None:
    found = records.sentence(pipeline, observed, 300)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_a_latency_is_known_only_where_all_tasks_succeeded() -> None:
    later = NOW + timedelta(seconds=8.2)
    assert Observed(sent_at=NOW, arrived_at=later).latency_seconds == pytest.approx(8.2)
    assert Observed("events.hour", sent_at=NOW, arrived_at=later).latency_seconds is None
    assert Observed(sent_at=NOW).latency_seconds is None


def test_a_record_may_come_late_where_it_was_sent_and_not_seen() -> None:
    assert Observed("events.hour").may_come_late
    assert not Observed("events.put", error="events_ingest is paused").may_come_late
    assert not Observed(sent_at=NOW, arrived_at=NOW).may_come_late


def test_the_summary_names_each_pipeline() -> None:
    assert records.summary({"dockerhub": 8.2, "events": None}) == "dockerhub 8 s, events failed"
