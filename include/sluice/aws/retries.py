"""Retry with a bounded number of attempts and growing, jittered pauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_exponential
from tenacity import wait_random_exponential as wait_full_jitter

T = TypeVar("T")

PAUSE_MAX_SECONDS = 5.0


def until_done(
    attempt: Callable[[], T | None],
    *,
    attempts: int,
    first_pause_seconds: float,
    sleep: Callable[[float], None] | None = None,
) -> T | None:
    """Call `attempt` until it returns something else than None; returns None if the last attempt does too.

    The n-th pause is drawn from the upper half of `first_pause_seconds * 2**(n-1)`, at most 5 seconds. Errors
    of `attempt` are raised at once.

    Args:
        attempt: returns None to be called again.
        attempts: maximum number of calls, at least 1.
        first_pause_seconds: upper bound of the first pause.
        sleep: waits so many seconds; `time.sleep` unless given.
    """
    half = {"multiplier": first_pause_seconds / 2, "max": PAUSE_MAX_SECONDS / 2}
    retrying = Retrying(
        retry=retry_if_result(lambda result: result is None),
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(**half) + wait_full_jitter(**half),
        sleep=sleep or time.sleep,
        retry_error_callback=_none,
    )
    return retrying(attempt)


def _none(_: RetryCallState) -> None:
    return None
