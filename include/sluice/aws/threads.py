"""Work that waits for the network, some of it at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

THREADS = 16
"""Requests of one step at the same time."""


def in_parallel(function: Callable[[Given], Made], many: Iterable[Given], threads: int = THREADS) -> list[Made]:
    """Call a function that waits for the network on each, `threads` at a time; the results in order.

    The first error is raised once the calls that had begun have ended.
    """
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, many))
