from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.dockerhub.records import Reason, Repository, parse_answer
from sluice.pipelines.dockerhub.source import (
    BODY_MAX_BYTES,
    WAIT_MAX_SECONDS,
    Answer,
    all_unreachable,
    fetch_all,
    parse_retry_after,
)
from sluice_dev.dockerhub import DockerHubStandIn

NOW_SECONDS = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


class FakeTime:
    """Time that passes only where someone sleeps; sleeps that overlap pass together."""

    def __init__(self) -> None:
        self.start = self.now = time.time()
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)

    @property
    def passed_seconds(self) -> float:
        return self.now - self.start


@pytest.fixture
def hub() -> Iterator[DockerHubStandIn]:
    with DockerHubStandIn(slow_seconds=600, retry_after_seconds=7) as stand_in:
        yield stand_in


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


def ask(
    url: str,
    *repositories: str,
    fake_time: FakeTime,
    concurrency: int = 8,
    timeout_seconds: float = 20,
    attempts: int = 3,
    retry_max_seconds: float = 30,
) -> list[Answer]:
    return fetch_all(
        [Repository.parse(each) for each in repositories],
        url=url,
        concurrency=concurrency,
        timeout_seconds=timeout_seconds,
        attempts=attempts,
        retry_max_seconds=retry_max_seconds,
        clock=fake_time.clock,
        sleep=fake_time.sleep,
    )


def closed_port_url() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_every_repository_has_its_own_whole_answer_in_the_order_asked(
    hub: DockerHubStandIn, fake_time: FakeTime
) -> None:
    names = [f"team/image-{number}" for number in range(40)]
    answers = ask(hub.url, *names, fake_time=fake_time)
    assert [str(answer.repository) for answer in answers] == names
    now = datetime.now(UTC)
    for answer in answers:
        assert (answer.status_code, answer.reason, answer.detail, answer.attempts) == (200, None, "", 1)
        assert answer.url == f"{hub.url}/v2/repositories/{answer.repository}/"
        assert parse_answer(answer.body, now=now, expected=answer.repository).pull_count >= 0
        assert "full_description" in json.loads(answer.body), "the whole answer is kept"


def test_no_repositories_need_no_docker_hub(fake_time: FakeTime) -> None:
    assert ask(closed_port_url(), fake_time=fake_time) == []


@pytest.mark.parametrize(
    ("bad", "reason", "status_code", "attempts"),
    [
        ("missing/image", Reason.NOT_FOUND, 404, 1),
        ("private/image", Reason.PRIVATE, 401, 1),
        ("faulty/rate-limited", Reason.RATE_LIMITED, 429, 3),
        ("faulty/rate-limited-date", Reason.RATE_LIMITED, 429, 3),
        ("faulty/rate-limited-epoch", Reason.RATE_LIMITED, 429, 3),
        ("faulty/rate-limited-bare", Reason.RATE_LIMITED, 429, 3),
        ("faulty/rate-limited-long", Reason.RATE_LIMITED, 429, 1),
        ("faulty/server-error", Reason.SERVER_ERROR, 500, 3),
        ("faulty/truncated", Reason.TRUNCATED, None, 3),
        ("faulty/dropped", Reason.UNREACHABLE, None, 3),
        ("faulty/too-large", Reason.TOO_LARGE, None, 1),
        ("faulty/redirect", Reason.UNEXPECTED_STATUS, 302, 1),
    ],
)
def test_a_failed_repository_has_a_reason_and_does_not_stop_the_others(
    hub: DockerHubStandIn,
    fake_time: FakeTime,
    bad: str,
    reason: Reason,
    status_code: int | None,
    attempts: int,
) -> None:
    before, failed, after = ask(hub.url, "library/redis", bad, "library/postgres", fake_time=fake_time)
    assert (failed.reason, failed.status_code, failed.attempts) == (reason, status_code, attempts)
    assert hub.requests[bad] == attempts
    assert bad in failed.detail
    assert hub.url in failed.detail
    assert [before.reason, after.reason] == [None, None]


def test_a_slow_answer_is_a_timeout_and_the_others_do_not_wait_for_it(
    hub: DockerHubStandIn, fake_time: FakeTime
) -> None:
    slow, good = ask(hub.url, "faulty/slow", "library/redis", fake_time=fake_time, timeout_seconds=0.5, attempts=2)
    assert (slow.reason, slow.status_code, slow.attempts) == (Reason.TIMEOUT, None, 2)
    assert "SLUICE_DOCKERHUB_TIMEOUT_SECONDS" in slow.detail
    assert good.reason is None


def test_an_answer_that_drips_without_end_is_a_timeout_too(httpserver: HTTPServer, fake_time: FakeTime) -> None:
    done = threading.Event()

    def drip() -> Iterator[bytes]:
        while not done.wait(0.02):
            yield b" "

    httpserver.expect_request("/v2/repositories/a/b/").respond_with_handler(lambda _: Response(drip()))
    try:
        (answer,) = ask(httpserver.url_for(""), "a/b", fake_time=fake_time, timeout_seconds=0.3, attempts=1)
    finally:
        done.set()
    assert answer.reason == Reason.TIMEOUT


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("html", Reason.NOT_JSON),
        ("missing-field", Reason.MISSING_FIELD),
        ("wrong-type", Reason.WRONG_TYPE),
        ("negative-count", Reason.COUNT_OUT_OF_RANGE),
        ("wrong-repository", Reason.WRONG_REPOSITORY),
        ("null-last-updated", Reason.BAD_LAST_UPDATED),
        ("future", Reason.FUTURE_LAST_UPDATED),
    ],
)
def test_a_wrong_answer_is_kept_as_received_and_not_asked_for_again(
    hub: DockerHubStandIn, fake_time: FakeTime, name: str, reason: Reason
) -> None:
    (answer,) = ask(hub.url, f"faulty/{name}", fake_time=fake_time)
    assert (answer.status_code, answer.reason, answer.attempts) == (200, None, 1)
    with pytest.raises(RejectedRecord) as rejected:
        parse_answer(answer.body, now=datetime.now(UTC), expected=answer.repository)
    assert rejected.value.reason == reason


def test_a_last_updated_without_a_fraction_is_a_good_answer(hub: DockerHubStandIn, fake_time: FakeTime) -> None:
    (answer,) = ask(hub.url, "faulty/no-fraction", fake_time=fake_time)
    stats = parse_answer(answer.body, now=datetime.now(UTC), expected=answer.repository)
    assert "." not in stats.last_updated


def test_a_body_up_to_the_bound_is_read_whole(httpserver: HTTPServer, fake_time: FakeTime) -> None:
    httpserver.expect_request("/v2/repositories/a/b/").respond_with_data(b"x" * BODY_MAX_BYTES)
    httpserver.expect_request("/v2/repositories/a/c/").respond_with_data(b"x" * (BODY_MAX_BYTES + 1))
    whole, too_large = ask(httpserver.url_for(""), "a/b", "a/c", fake_time=fake_time)
    assert (len(whole.body), whole.reason) == (BODY_MAX_BYTES, None)
    assert (too_large.body, too_large.reason) == (b"", Reason.TOO_LARGE)


def test_a_redirect_is_not_followed_and_its_target_named(hub: DockerHubStandIn, fake_time: FakeTime) -> None:
    (answer,) = ask(hub.url, "faulty/redirect", fake_time=fake_time)
    assert "http://elsewhere.invalid/" in answer.detail


def test_passing_trouble_is_asked_again_until_it_is_over(httpserver: HTTPServer, fake_time: FakeTime) -> None:
    path = "/v2/repositories/a/b/"
    httpserver.expect_ordered_request(path).respond_with_data(b"busy", status=503)
    httpserver.expect_ordered_request(path).respond_with_data(b"", status=429, headers={"Retry-After": "2"})
    httpserver.expect_ordered_request(path).respond_with_data(b"{}")
    (answer,) = ask(httpserver.url_for(""), "a/b", fake_time=fake_time)
    assert (answer.status_code, answer.body, answer.reason, answer.attempts) == (200, b"{}", None, 3)


@pytest.mark.parametrize("name", ["rate-limited", "rate-limited-date", "rate-limited-epoch"])
def test_retry_after_is_waited_for_in_every_form_it_comes_in(
    hub: DockerHubStandIn, fake_time: FakeTime, name: str
) -> None:
    ask(hub.url, f"faulty/{name}", fake_time=fake_time, attempts=2)
    # The date and the moment are whole seconds, and the stand-in has its own clock.
    assert 4 < fake_time.passed_seconds <= 8


def test_a_429_delays_every_request_as_the_limit_is_by_ip_address(httpserver: HTTPServer, fake_time: FakeTime) -> None:
    asked_at: list[tuple[str, float]] = []

    def handle(request: Request) -> Response:
        asked_at.append((request.path, fake_time.now))
        if len(asked_at) == 1:
            return Response(status=429, headers={"Retry-After": "7"})
        return Response(b"{}")

    httpserver.expect_request("/v2/repositories/a/b/").respond_with_handler(handle)
    httpserver.expect_request("/v2/repositories/a/c/").respond_with_handler(handle)
    httpserver.expect_request("/v2/repositories/a/d/").respond_with_handler(handle)
    answers = ask(httpserver.url_for(""), "a/b", "a/c", "a/d", fake_time=fake_time, concurrency=1)
    assert [answer.reason for answer in answers] == [None, None, None]
    (_, refused_at), *later = asked_at
    assert len(later) == 3
    assert all(moment >= refused_at + 7 for _, moment in later)


def test_a_long_retry_after_fails_the_repository_at_once_with_its_time(
    hub: DockerHubStandIn, fake_time: FakeTime
) -> None:
    names = ["faulty/rate-limited-long", "library/redis", "library/postgres"]
    refused, *others = ask(hub.url, *names, fake_time=fake_time, concurrency=1)
    come_back = datetime.fromtimestamp(fake_time.start + 7000, UTC).isoformat(timespec="seconds")
    assert come_back in refused.detail
    assert "SLUICE_DOCKERHUB_RETRY_MAX_SECONDS=30" in refused.detail
    assert fake_time.passed_seconds == 0
    assert [other.reason for other in others] == [None, None]


def test_once_two_repositories_are_refused_for_long_the_rest_is_not_asked(
    hub: DockerHubStandIn, fake_time: FakeTime
) -> None:
    names = ["faulty/rate-limited-long-1", "faulty/rate-limited-long-2", "library/redis", "library/postgres"]
    *_, redis, postgres = ask(hub.url, *names, fake_time=fake_time, concurrency=1)
    for unasked in (redis, postgres):
        assert (unasked.reason, unasked.status_code, unasked.attempts) == (Reason.RATE_LIMITED, None, 0)
        assert "no request was sent" in unasked.detail
    assert hub.requests.total() == 2


def test_two_long_refusals_with_an_answer_between_them_stop_no_one(hub: DockerHubStandIn, fake_time: FakeTime) -> None:
    names = ["faulty/rate-limited-long-1", "library/redis", "faulty/rate-limited-long-2", "library/postgres"]
    answers = ask(hub.url, *names, fake_time=fake_time, concurrency=1)
    assert [answer.reason for answer in answers] == [Reason.RATE_LIMITED, None, Reason.RATE_LIMITED, None]


def test_backoff_doubles_with_full_jitter_up_to_the_longest_wait(hub: DockerHubStandIn, fake_time: FakeTime) -> None:
    names = [f"faulty/server-error-{number}" for number in range(20)]
    ask(hub.url, *names, fake_time=fake_time, attempts=5, retry_max_seconds=3)
    assert len(fake_time.slept) == 20 * 4
    assert max(fake_time.slept) <= 3
    assert max(fake_time.slept) > 1, "later waits are longer than the first may be"
    assert len({round(seconds, 6) for seconds in fake_time.slept}) > 40, "two clients do not come back together"


def test_as_many_requests_are_under_way_as_allowed_and_no_more(fake_time: FakeTime) -> None:
    together = threading.Barrier(3)
    lock = threading.Lock()
    under_way = most_under_way = 0

    def handle(_: Request) -> Response:
        nonlocal under_way, most_under_way
        with lock:
            under_way += 1
            most_under_way = max(most_under_way, under_way)
        together.wait(timeout=20)
        with lock:
            under_way -= 1
        return Response(b"{}")

    names = [f"a/b{number}" for number in range(9)]
    with HTTPServer(threaded=True) as server:
        for name in names:
            server.expect_request(f"/v2/repositories/{name}/").respond_with_handler(handle)
        answers = ask(server.url_for(""), *names, fake_time=fake_time, concurrency=3, attempts=1)
    assert [answer.reason for answer in answers] == [None] * 9
    assert most_under_way == 3


def test_an_unreachable_endpoint_is_distinguished_from_one_that_answers(
    hub: DockerHubStandIn, fake_time: FakeTime
) -> None:
    gone = ask(closed_port_url(), "a/b", "a/c", fake_time=fake_time)
    assert [answer.reason for answer in gone] == [Reason.UNREACHABLE] * 2
    assert "SLUICE_DOCKERHUB_URL" in gone[0].detail
    assert all_unreachable(gone)
    assert not all_unreachable([*gone, *ask(hub.url, "missing/image", fake_time=fake_time)])
    assert not all_unreachable([])


def test_a_proxy_is_used_for_docker_hub_but_not_for_a_local_stand_in(
    hub: DockerHubStandIn, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", closed_port_url())
    (answer,) = ask(hub.url, "library/redis", fake_time=fake_time)
    assert answer.reason is None
    monkeypatch.setenv("http_proxy", hub.url)
    (answer,) = ask("http://docker-hub.invalid", "library/redis", fake_time=fake_time)
    assert answer.reason == Reason.NOT_FOUND, "the stand-in, taken for a proxy, knows no such address"


def test_the_request_has_a_user_agent(httpserver: HTTPServer, fake_time: FakeTime) -> None:
    httpserver.expect_request("/v2/repositories/a/b/").respond_with_data(b"{}")
    ask(httpserver.url_for(""), "a/b", fake_time=fake_time)
    ((request, _),) = httpserver.log
    assert request.headers["User-Agent"].startswith("sluice/")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        (str(int(NOW_SECONDS) + 45), 45),
        (str(int(NOW_SECONDS) - 45), 0),
        (format_datetime(datetime(2026, 11, 21, 12, 1, tzinfo=UTC), usegmt=True), 60),
        ("Sat, 21 Nov 2026 12:01:00 -0000", 60),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 -1200", WAIT_MAX_SECONDS),
        ("9999999999", WAIT_MAX_SECONDS),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("1763726400000", None),
        ("Sat, 99999999999999999999 Nov 2026 12:01:00 GMT", None),
        ("Sat, 21 Nov 2026 12:01:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_a_date_or_a_moment_and_nonsense_is_nothing(
    header: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(header, NOW_SECONDS) == seconds


@given(st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, \d+ (Jan|Nov) \d+ \d+:\d+:\d+ [+-]\d+\Z"))
def test_no_value_of_retry_after_stops_the_pull(header: str) -> None:
    seconds = parse_retry_after(header, NOW_SECONDS)
    assert seconds is None or 0 <= seconds <= WAIT_MAX_SECONDS
