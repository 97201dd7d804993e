"""dockerhub_pull from Docker Hub to the lake, against the stand-in and the emulator."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from dockerhub_account import DockerHubAccount
from sluice.aws import s3
from sluice.core.quality import GateFailed
from sluice.core.run import Run
from sluice.pipelines.dockerhub import expectations, steps
from sluice.pipelines.dockerhub.batch import Answers
from sluice.pipelines.dockerhub.records import FIELDS, parse_stats, raw_key
from sluice.settings import Settings
from sluice_dev.dockerhub import DockerHubStandIn, history_of

OBSERVED = datetime(2026, 11, 21, 23, 59, 59, 123456, UTC)
Configure = Callable[..., Settings]


@pytest.fixture
def hub() -> Iterator[DockerHubStandIn]:
    with DockerHubStandIn(slow_seconds=600, retry_after_seconds=0) as stand_in:
        yield stand_in


@pytest.fixture
def watch(account: DockerHubAccount, configure: Configure, hub: DockerHubStandIn) -> Callable[..., None]:
    """Watch repositories of the stand-in, without long waits."""

    def these(*repositories: str, **values: object) -> None:
        configure(
            dockerhub_url=hub.url,
            dockerhub_repositories=",".join(repositories),
            **{"dockerhub_attempts": 2, "dockerhub_retry_max_seconds": 0.05} | values,
        )

    return these


def pull(run: str = "run", observed_at: datetime = OBSERVED) -> dict[str, int]:
    fetched = steps.fetch(run, clock=lambda: observed_at)
    steps.check_answers(run)
    published = steps.publish_answers(run, fetched)
    return {name: count for name, count in published.items() if isinstance(count, int)}


def test_every_answer_is_a_whole_raw_object_and_a_row_of_the_history(
    account: DockerHubAccount, watch: Callable[..., None]
) -> None:
    names = ["localstack/localstack", "library/redis", "faulty/no-fraction"]
    watch(*names)
    assert pull() == {"records_in": 3, "published": 3, "duplicates": 0, "quarantined": 0}
    answers = [history_of(name)[0] for name in names]
    answers[2]["last_updated"] = answers[2]["last_updated"].partition(".")[0] + "Z"
    stats = [parse_stats(answer, now=OBSERVED) for answer in answers]
    for answer, each in zip(answers, stats, strict=True):
        stored = json.loads(s3.read_object(account.settings.lake_bucket, raw_key(each)).body)
        assert stored == answer
        assert set(FIELDS) < set(stored), "the whole answer"
    assert len(account.keys("raw/")) == 3
    assert account.history() == [
        {
            "observed_at": OBSERVED,
            "namespace": each.namespace,
            "name": each.name,
            "star_count": each.star_count,
            "pull_count": each.pull_count,
            "last_updated": each.last_updated_at,
        }
        for each in stats
    ]
    assert account.waiting() == 3, "each raw object has called the aggregation"


def test_pulls_between_two_pushes_share_a_raw_object_and_each_has_its_row(
    account: DockerHubAccount, configure: Configure, httpserver: HTTPServer
) -> None:
    configure(dockerhub_url=httpserver.url_for("").rstrip("/"))
    answer = history_of("localstack/localstack")[0]
    for number in range(2):
        httpserver.expect_ordered_request("/v2/repositories/localstack/localstack/").respond_with_json(
            answer | {"pull_count": 100 + number}
        )
    for number in range(2):
        pull(f"run-{number}", OBSERVED + timedelta(minutes=5 * number))
    (key,) = account.keys("raw/")
    assert json.loads(s3.read_object(account.settings.lake_bucket, key).body)["pull_count"] == 101
    assert [(row["observed_at"], row["pull_count"]) for row in account.history()] == [
        (OBSERVED, 100),
        (OBSERVED + timedelta(minutes=5), 101),
    ]


def test_each_bad_response_is_quarantined_and_the_others_are_published(
    account: DockerHubAccount, watch: Callable[..., None]
) -> None:
    expected = {
        "missing/image": "not_found",
        "private/image": "private",
        "faulty/rate-limited": "rate_limited",
        "faulty/server-error": "server_error",
        "faulty/slow": "timeout",
        "faulty/truncated": "truncated",
        "faulty/dropped": "unreachable",
        "faulty/redirect": "unexpected_status",
        "faulty/html": "not_json",
        "faulty/missing-field": "missing_field",
        "faulty/wrong-type": "wrong_type",
        "faulty/negative-count": "count_out_of_range",
        "faulty/wrong-repository": "wrong_repository",
        "faulty/null-last-updated": "bad_last_updated",
        "faulty/future": "future_last_updated",
    }
    watch(*expected, "library/redis", "library/postgres", dockerhub_timeout_seconds=1.0)
    assert pull() == {
        "records_in": len(expected) + 2,
        "published": 2,
        "duplicates": 0,
        "quarantined": len(expected),
    }
    rows = account.rows("quarantine/dockerhub/run/fetch.jsonl")
    found = {row["source"].partition("/v2/repositories/")[2].rstrip("/"): row["reason"] for row in rows}
    assert found == expected
    assert all(set(row) == {"source", "reason", "record", "detail"} and row["detail"] for row in rows)
    html = next(row for row in rows if row["reason"] == "not_json")
    assert html["record"].startswith("<!doctype html>"), "the record as received"
    assert len(account.keys("raw/")) == 2


def test_a_pull_without_a_good_answer_publishes_nothing_and_succeeds(
    account: DockerHubAccount, watch: Callable[..., None]
) -> None:
    watch("missing/image", "faulty/html")
    assert pull() == {"records_in": 2, "published": 0, "duplicates": 0, "quarantined": 2}
    assert account.keys("raw/") == []
    assert account.history() == []


def test_a_docker_hub_out_of_reach_is_a_clear_error_and_nothing_is_written(
    account: DockerHubAccount, configure: Configure
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        configure(dockerhub_url=url, dockerhub_attempts=2, dockerhub_retry_max_seconds=0.05)
        with pytest.raises(steps.SourceUnreachable) as refused:
            steps.fetch("run")
    assert url in str(refused.value)
    assert "SLUICE_DOCKERHUB_URL" in str(refused.value)
    assert account.keys("") == []


def impossible() -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="star_count", max_value=-1)]


def test_a_failed_gate_publishes_nothing_and_leaves_staging_and_a_report(
    account: DockerHubAccount, watch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch("library/redis")
    steps.fetch("run", clock=lambda: OBSERVED)
    monkeypatch.setattr(expectations, "pull_expectations", impossible)
    with pytest.raises(GateFailed, match=r"dockerhub/pull failed.*nothing was published") as failed:
        steps.check_answers("run")
    assert "expect_column_values_to_be_between(column=star_count" in str(failed.value)
    assert account.keys("") == [
        "quality/dockerhub/pull/run.html",
        "quality/dockerhub/pull/run.json",
        "staging/dockerhub/run/answers.json",
    ]


def test_staging_that_someone_has_spoilt_does_not_pass_the_gate(
    account: DockerHubAccount, watch: Callable[..., None]
) -> None:
    watch("library/redis")
    steps.fetch("run", clock=lambda: OBSERVED)
    run = Run.of("dockerhub", "run")
    staged = run.load(steps.ANSWERS, Answers)
    spoilt = [replace(each, stats=replace(each.stats, name="another")) for each in staged.answers]
    run.save(steps.ANSWERS, replace(staged, answers=spoilt))
    with pytest.raises(GateFailed, match="column_A=name"):
        steps.check_answers("run")


def test_a_pull_count_below_the_last_one_seen_warns_and_is_published(
    account: DockerHubAccount, configure: Configure, httpserver: HTTPServer
) -> None:
    configure(dockerhub_url=httpserver.url_for("").rstrip("/"))
    answer = history_of("localstack/localstack")[0]
    later = history_of("localstack/localstack")[-1]["last_updated"]
    for pull_count, last_updated in ((100, answer["last_updated"]), (99, later)):
        httpserver.expect_ordered_request("/v2/repositories/localstack/localstack/").respond_with_json(
            answer | {"pull_count": pull_count, "last_updated": last_updated}
        )
    pull("first")
    account.aggregate("first")
    fetched = steps.fetch("second", clock=lambda: OBSERVED)
    (warning,) = steps.check_answers("second")["warnings"]
    assert "pull_count" in warning
    assert steps.publish_answers("second", fetched)["published"] == 1
    assert account.aggregate("second")["published"] == 1


def test_a_failed_gate_of_an_aggregation_leaves_table_staging_and_messages(
    account: DockerHubAccount, watch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch("localstack/localstack")
    pull()
    with monkeypatch.context() as spoilt:
        spoilt.setattr(expectations, "aggregate_expectations", impossible)
        with pytest.raises(GateFailed, match="dockerhub/aggregate"):
            account.aggregate("failed")
    assert account.items() == {}
    assert account.unfinished() == 1
    assert account.keys("staging/dockerhub/failed/") == ["staging/dockerhub/failed/collected.json"]
    account.redeliver("failed")
    assert account.aggregate("next")["published"] == 1
