"""Reads of AWS with a time limit, so that a slow AWS gives an error state and never stalls the API server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from threading import BoundedSemaphore
from typing import Any, TypeVar

from sluice.aws.sessions import client_of
from sluice.errors import SluiceError

Read = TypeVar("Read")

ANSWER_SECONDS = 2.5
"""Time that a page waits for AWS."""

THREADS = 8
"""Reads at the same time; those that hang end by the time limits of their clients."""

WAITING = 32
"""Maximum number of reads that wait for a thread; more are refused at once."""

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="lake")
_places = BoundedSemaphore(THREADS + WAITING)


def _leave(done: Future[Any]) -> None:  # noqa: ARG001
    _places.release()


class NoAnswer(SluiceError):
    """AWS did not answer in time."""


def within(read: Callable[[], Read], seconds: float = ANSWER_SECONDS) -> Read:
    """What a function reads from AWS.

    Raises:
        NoAnswer: it took longer, or too many wait already. A running call continues in its thread, whose clients time
            out soon; a call that waits for a thread is cancelled.
    """
    # For the whole process: only these pages send requests to AWS in the API server.
    client_of.is_hasty = True
    if not _places.acquire(blocking=False):
        raise NoAnswer(f"AWS is slow: {WAITING} reads wait for it already; try again soon")
    asked = _pool.submit(read)
    asked.add_done_callback(_leave)
    try:
        return asked.result(seconds)
    except FutureTimeout:
        asked.cancel()
        raise NoAnswer(f"AWS did not answer within {seconds:g} s") from None
