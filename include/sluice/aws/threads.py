"""Thread pool for work that waits for the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

THREADS = 16
"""Concurrent requests of one step."""


def in_parallel(function: Callable[[Given], Made], many: Iterable[Given], threads: int = THREADS) -> list[Made]:
    """Call a function for each item, `threads` at a time; returns the results in order.

    The first error is raised after the running calls have ended.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, many))
