"""Request many repositories from Docker Hub concurrently (docs/pipelines.md, dockerhub).

A failed repository does not delay the others: it becomes an `Answer` with a reason code.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import NamedTuple

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from sluice.pipelines.dockerhub.records import Reason, Repository

log = logging.getLogger(__name__)

BODY_MAX_BYTES = 1024 * 1024
"""Maximum size of a response, which is usually a few KiB, mostly the full description."""

BACKOFF_SECONDS = 0.5
"""The n-th wait is drawn from 0 to 0.5 * 2**(n-1) seconds (full jitter)."""

EPOCH_FROM_SECONDS = 1_000_000_000
"""A `Retry-After` from this value on is in epoch seconds, as Docker Hub sends it (docker/hub-feedback issue 2459)."""

WAIT_MAX_SECONDS = 366 * 86400.0
"""Upper bound of a `Retry-After`, so that its end is a valid date."""

_FINAL = {401: Reason.PRIVATE, 403: Reason.PRIVATE, 404: Reason.NOT_FOUND}
_WAY_OUT = {
    Reason.NOT_FOUND: "no such repository, or a private one: correct SLUICE_DOCKERHUB_REPOSITORIES",
    Reason.PRIVATE: "a private repository: remove it from SLUICE_DOCKERHUB_REPOSITORIES",
    Reason.UNEXPECTED_STATUS: "is SLUICE_DOCKERHUB_URL that of Docker Hub?",
}


@dataclass(frozen=True)
class Answer:
    """Outcome of the requests for one repository.

    Attributes:
        repository: the requested repository.
        url: its URL.
        status_code: HTTP status of the last attempt; None without a complete response.
        body: bytes of that response, of any status; empty for none.
        reason: None for a 200; else the reason code.
        detail: one sentence for a person; empty for a 200.
        attempts: number of requests; 0 if Docker Hub refuses this machine for longer than the maximum wait.
    """

    repository: Repository
    url: str
    status_code: int | None
    body: bytes
    reason: Reason | None
    detail: str
    attempts: int


def fetch_all(
    repositories: Sequence[Repository],
    *,
    url: str,
    concurrency: int,
    timeout_seconds: float,
    attempts: int,
    retry_max_seconds: float,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Answer]:
    """Request every repository; returns one answer each, in the order given. Errors of Docker Hub raise nothing.

    Transport errors, timeouts, truncated bodies, 429 and 5xx are retried, with exponential backoff and full jitter;
    other responses are final. A `Retry-After` delays every request, since Docker Hub limits by IP address (Docker Hub
    API reference, "Rate limiting").

    Args:
        repositories: repositories to request.
        url: base URL of Docker Hub, without a path.
        concurrency: maximum number of concurrent requests.
        timeout_seconds: timeout of one request, from connecting to the last byte.
        attempts: maximum number of requests for one repository.
        retry_max_seconds: longest wait; with a longer `Retry-After`, the repository fails at once as `rate_limited`.
        clock: returns epoch seconds.
        sleep: waits the given seconds.
    """

    async def ask_all() -> list[Answer]:
        async with httpx.AsyncClient(
            headers={
                "User-Agent": f"sluice/{version('sluice')}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # the size of a compressed body is unbounded
            },
            # With half of the timeout for connecting, an unreachable host differs from a slow one.
            timeout=httpx.Timeout(None, connect=timeout_seconds / 2),
            follow_redirects=False,  # responses of other hosts are not trusted
            trust_env=not _is_loopback(url),  # for a proxy, 127.0.0.1 would be itself
        ) as http:
            hub = _DockerHub(http, url, concurrency, timeout_seconds, attempts, retry_max_seconds, clock, sleep)
            return await asyncio.gather(*(hub.fetch(repository) for repository in repositories))

    return asyncio.run(ask_all())


def all_unreachable(answers: Sequence[Answer]) -> bool:
    """Whether Docker Hub is unreachable: there are answers, and all have the reason `unreachable`."""
    return bool(answers) and all(answer.reason is Reason.UNREACHABLE for answer in answers)


def parse_retry_after(value: str | None, now_seconds: float) -> float | None:
    """Seconds to wait, at least 0, from a `Retry-After` header; None if it is missing or invalid.

    It is a number of seconds or an HTTP date (RFC 9110, section 10.2.3), or at Docker Hub epoch seconds.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,10}", text):
        seconds = int(text) - (now_seconds if int(text) >= EPOCH_FROM_SECONDS else 0.0)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        # `-0000` gives a naive time; HTTP dates are UTC.
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now_seconds
    return min(max(seconds, 0.0), WAIT_MAX_SECONDS)


class _Response(NamedTuple):
    status_code: int
    headers: httpx.Headers
    body: bytes


class _AttemptFailed(Exception):
    """One attempt failed; `is_final` if a retry would not help."""

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        is_final: bool = False,
        response: _Response | None = None,
        has_pause: bool = False,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.is_final = is_final
        self.response = response
        self.has_pause = has_pause


class _DockerHub:
    """State of the requests from one IP address: number in progress, and end of a pause for all."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        concurrency: int,
        timeout_seconds: float,
        attempts: int,
        retry_max_seconds: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout_seconds = timeout_seconds
        self._attempts = attempts
        self._retry_max_seconds = retry_max_seconds
        self._clock = clock
        self._sleep = sleep
        self._paused_until = 0.0
        self._refused_until = 0.0
        self._refused: set[Repository] = set()
        self._backoff = wait_random_exponential(multiplier=BACKOFF_SECONDS, max=retry_max_seconds)

    async def fetch(self, repository: Repository) -> Answer:
        """The answer for one repository after all its attempts."""
        url = f"{self._url}/v2/repositories/{repository}/"
        requests = 0

        async def attempt() -> _Response:
            nonlocal requests
            async with self._slots:
                await self._wait_for_pause()
                requests += 1
                response = await self._request(url)
                # Within the slot, so that a pause takes effect before the next request.
                self._check(response, repository, url)
                return response

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            retry=retry_if_exception(lambda error: isinstance(error, _AttemptFailed) and not error.is_final),
            wait=self._seconds_to_next_attempt,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            response: _Response = await retrying(attempt)
        except _AttemptFailed as failed:
            log.warning("%s failed after %d requests: %s", repository, requests, failed.detail)
            status_code, body = (failed.response.status_code, failed.response.body) if failed.response else (None, b"")
            return Answer(repository, url, status_code, body, failed.reason, failed.detail, requests)
        return Answer(repository, url, response.status_code, response.body, None, "", requests)

    async def _wait_for_pause(self) -> None:
        # One long refusal may concern the repository; two without a response in between concern this IP address.
        if len(self._refused) > 1 and self._clock() < self._refused_until:
            raise _AttemptFailed(
                Reason.RATE_LIMITED,
                f"{self._url} refuses this machine until {_iso(self._refused_until)}: no request was sent",
                is_final=True,
            )
        while (left_seconds := self._paused_until - self._clock()) > 0:
            await self._sleep(left_seconds)

    async def _request(self, url: str) -> _Response:
        response: httpx.Response | None = None
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_seconds), self._http.stream("GET", url) as response:
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > BODY_MAX_BYTES:
                        raise _AttemptFailed(
                            Reason.TOO_LARGE, f"{url} sent more than {BODY_MAX_BYTES} bytes", is_final=True
                        )
        except TimeoutError:
            raise _AttemptFailed(
                Reason.TIMEOUT, f"{url} took longer than {self._timeout_seconds:g} s (SLUICE_DOCKERHUB_TIMEOUT_SECONDS)"
            ) from None
        except httpx.RequestError as error:
            what = f"{type(error).__name__} {error}".strip()
            if response is not None:
                raise _AttemptFailed(Reason.TRUNCATED, f"{url} broke off after {len(body)} bytes: {what}") from error
            raise _AttemptFailed(
                Reason.UNREACHABLE, f"{url} cannot be reached: {what}; check SLUICE_DOCKERHUB_URL and the network"
            ) from error
        return _Response(response.status_code, response.headers, bytes(body))

    def _check(self, response: _Response, repository: Repository, url: str) -> None:
        """Accept a 200; apply a `Retry-After` to all requests, and raise _AttemptFailed for any other status."""
        status = response.status_code
        if status != 429:
            self._refused.clear()
        if status == 200:
            return
        answered = f"{url} answered {status}"
        if status != 429 and status < 500:
            reason = _FINAL.get(status, Reason.UNEXPECTED_STATUS)
            location = f" to {response.headers['location']!r}" if "location" in response.headers else ""
            raise _AttemptFailed(reason, f"{answered}{location}: {_WAY_OUT[reason]}", is_final=True, response=response)
        reason = Reason.RATE_LIMITED if status == 429 else Reason.SERVER_ERROR
        # `X-Retry-After` is the name in Docker Hub's reference until June 2025.
        header = response.headers.get("retry-after") or response.headers.get("x-retry-after")
        now_seconds = self._clock()
        wait_seconds = parse_retry_after(header, now_seconds)
        if wait_seconds is None:
            raise _AttemptFailed(reason, answered, response=response)
        until = now_seconds + wait_seconds
        detail = f"{answered}: come back at {_iso(until)}"
        if wait_seconds > self._retry_max_seconds:
            if status == 429:
                self._refused.add(repository)
                self._refused_until = max(self._refused_until, until)
            detail += f", later than SLUICE_DOCKERHUB_RETRY_MAX_SECONDS={self._retry_max_seconds:g} allows"
            raise _AttemptFailed(reason, detail, is_final=True, response=response)
        self._paused_until = max(self._paused_until, until)
        raise _AttemptFailed(reason, detail, response=response, has_pause=True)

    def _seconds_to_next_attempt(self, state: RetryCallState) -> float:
        failed = state.outcome.exception() if state.outcome else None
        if not isinstance(failed, _AttemptFailed):
            raise TypeError(f"{failed!r} is never retried")
        # Every request waits for the pause right before it is sent.
        seconds = 0.0 if failed.has_pause else self._backoff(state)
        log.info("attempt %d: %s; next in %.1f s", state.attempt_number, failed.detail, seconds)
        return seconds


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _iso(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="seconds")
