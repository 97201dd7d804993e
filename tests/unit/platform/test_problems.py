"""Problems that are found, and their messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from croniter import croniter
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.core.pipeline import Dag, Pipeline, Stream
from sluice.monitoring import alerts
from sluice.monitoring.observation import Observation, QueueState
from sluice.monitoring.pipelines import QUEUE_AGE_MAX_SECONDS, STREAM_LAG_MAX_SECONDS, find_dag
from sluice.monitoring.problems import Problem, duration_text, find_problems, overdue
from sluice.monitoring.runs import Failure, LastRun, Runs
from sluice.settings import load_settings

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOURLY = Dag("d", "0 * * * *", deadline_seconds=1800)

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
schedules = st.sampled_from(["*/5 * * * *", "*/30 * * * *", "0 * * * *", "0 6 * * 1-5", "0 0 1 * *", "15 3 29 2 *"])


def seen(dag: Dag, at: datetime, success_at: datetime | None, *failures: Failure, **more: object) -> Observation:
    """An observation of one Dag, deployed a day before noon."""
    runs = Runs(
        NOON - timedelta(days=1),
        {dag.dag_id: LastRun(success_at, "run-1", success_at)} if success_at else {},
        failures,
        {},
        {},
    )
    return replace(Observation(at, runs, {}, {}), **more)  # type: ignore[arg-type]


def kinds(dag: Dag, observation: Observation) -> list[str]:
    return [each.kind for each in find_problems([Pipeline("p", (dag,))], observation, "http://airflow/")]


@given(schedules, st.integers(0, 7 * 86400), moments)
@example("*/5 * * * *", 0, datetime(2020, 1, 1, 0, 4, 59, 1, tzinfo=UTC))
def test_the_latest_scheduled_time_with_a_passed_deadline_is_due(
    schedule: str, deadline_seconds: int, now: datetime
) -> None:
    due = Dag("d", schedule, deadline_seconds).due(now)
    assert due is not None
    assert croniter.match(schedule, due)
    deadline = timedelta(seconds=deadline_seconds)
    assert due + deadline <= now
    assert croniter(schedule, due).get_next(datetime) + deadline > now


@given(schedules, st.integers(60, 86400), moments)
def test_a_dag_that_ran_on_time_is_never_overdue_and_a_stopped_one_always(
    schedule: str, deadline_seconds: int, now: datetime
) -> None:
    dag = Dag("d", schedule, deadline_seconds)
    due = dag.due(now)
    assert due is not None
    assert overdue(dag, seen(dag, now, due)) is None
    assert overdue(dag, seen(dag, now, due - timedelta(microseconds=1))) == due


@pytest.mark.parametrize(
    ("now", "stale"), [("2026-11-21T13:29:59", False), ("2026-11-21T13:30:00", True), ("2026-11-22T13:00:00", True)]
)
def test_a_dag_is_stale_once_its_deadline_has_passed(now: str, stale: bool) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert kinds(HOURLY, seen(HOURLY, at, NOON + timedelta(minutes=1))) == ["stale"] * stale


def test_a_dag_that_never_ran_is_stale_only_after_its_first_deadline() -> None:
    monthly = Dag("d", "0 0 1 * *", deadline_seconds=3600)
    assert kinds(monthly, seen(monthly, NOON, None)) == []
    assert kinds(monthly, seen(monthly, datetime(2026, 12, 1, 1, tzinfo=UTC), None)) == ["stale"]


def test_a_dag_without_a_schedule_is_never_stale() -> None:
    by_hand = Dag("d", None)
    assert kinds(by_hand, seen(by_hand, NOON + timedelta(days=999), None)) == []


def test_a_failure_before_the_missed_time_does_not_hide_that_nothing_runs() -> None:
    failure = Failure("d", "t", "", "run-0", NOON, NOON, 1, "no", "log", "again")
    later = NOON + timedelta(hours=5)
    assert kinds(HOURLY, seen(HOURLY, later, None, failure)) == ["failing", "stale"]
    assert kinds(HOURLY, seen(HOURLY, later, None, replace(failure, at=later))) == ["failing"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (QueueState(0, 0, 0), []),
        (QueueState(500, 10, 0, QUEUE_AGE_MAX_SECONDS), []),
        (QueueState(1, 0, 0, QUEUE_AGE_MAX_SECONDS + 1), ["queue-age"]),
        (QueueState(0, 0, 1), ["dead-letters"]),
        (QueueState(None, 0, None), ["missing"]),
        (QueueState(0, 0, None), ["missing"]),
    ],
)
def test_an_old_or_missing_queue_and_dead_letters_are_problems(state: QueueState, expected: list[str]) -> None:
    dag = Dag("d", None, queues=("q",))
    assert kinds(dag, seen(dag, NOON, None, queues={"q": state})) == expected


@pytest.mark.parametrize(
    ("lag", "expected"),
    [(0.0, []), (STREAM_LAG_MAX_SECONDS, []), (STREAM_LAG_MAX_SECONDS + 1, ["stream-lag"]), (None, ["missing"])],
)
def test_a_stream_is_wrong_when_it_lags_or_is_gone(lag: float | None, expected: list[str]) -> None:
    dag = Dag("d", None, streams=(Stream("s", "t"),))
    assert kinds(dag, seen(dag, NOON, None, lags={"s": lag})) == expected


@given(st.text(max_size=300))
def test_a_subject_is_one_that_sns_takes(title: str) -> None:
    subject = alerts.subject_of(load_settings(), title)
    assert len(subject) < 100
    assert subject.isascii()
    assert subject.isprintable()
    assert subject.startswith("[sluice-dev] ")


def test_a_message_answers_what_a_person_on_call_asks() -> None:
    problem = Problem("failing/d/t", "p", "d", "d.t failed", "it broke", "http://log", "run it", "t", "run-1")
    assert alerts.body_of(load_settings(), problem, NOON) == (
        "d.t failed (sluice-dev)\n"
        "\n"
        "Pipeline:      p\n"
        "Dag:           d\n"
        "Task:          t\n"
        "Run:           run-1\n"
        "What:          it broke\n"
        "Where to look: http://log\n"
        "Run again:     run it\n"
        "Seen:          2026-11-21 12:00:00 UTC\n"
        "\n"
        "All pipelines: sluice status. This alert is repeated every 6 hours while the problem lasts.\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (302, "5 min 2 s"), (7200, "2 h"), (273_600, "3 d 4 h")],
)
def test_a_duration_is_shown_in_its_two_greatest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_an_undeclared_dag_belongs_to_the_pipeline_of_its_name() -> None:
    pipeline, dag = find_dag(load_settings(), "events_experiment")
    assert (pipeline, dag.schedule, dag.queues) == ("events", None, ())
