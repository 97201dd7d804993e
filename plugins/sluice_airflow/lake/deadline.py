"""Reads of AWS with a time limit, so that a dead or slow AWS gives an error state and never stalls the API server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

from sluice.aws.sessions import client_of
from sluice.errors import SluiceError

Read = TypeVar("Read")

ANSWER_SECONDS = 2.5
"""Time that a page waits for AWS."""

THREADS = 8
"""Reads at the same time; those that hang end by the time limits of their clients."""

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="lake")


class NoAnswer(SluiceError):
    """AWS did not answer in time."""


def within(read: Callable[[], Read], seconds: float = ANSWER_SECONDS) -> Read:
    """What a function reads from AWS.

    Raises:
        NoAnswer: it took longer; the call goes on in its thread, whose clients give up soon.
    """
    # For the whole process: the API server asks AWS for these pages alone.
    client_of.is_hasty = True
    try:
        return _pool.submit(read).result(seconds)
    except FutureTimeout:
        raise NoAnswer(f"AWS did not answer within {seconds:g} s") from None
