from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore

import pytest

from sluice.aws.sessions import giving_up_soon
from sluice_airflow.lake import deadline
from sluice_airflow.lake.deadline import NoAnswer, within


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A pool whose only thread hangs until the event is set, with room for two calls that wait."""
    released = threading.Event()
    with giving_up_soon(), ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(deadline, "_pool", pool)
        monkeypatch.setattr(deadline, "_places", BoundedSemaphore(3))
        with pytest.raises(NoAnswer, match="within"):
            within(released.wait, seconds=0.01)
        yield released
        released.set()


def test_a_read_that_timed_out_before_it_began_is_never_made(hung: threading.Event) -> None:
    made: list[int] = []
    for number in range(5):
        with pytest.raises(NoAnswer, match="within"):
            within(lambda number=number: made.append(number), seconds=0.01)  # type: ignore[misc]
    hung.set()
    assert within(lambda: "answer", seconds=5) == "answer"
    assert made == []


def test_when_too_many_wait_the_next_is_refused_at_once(hung: threading.Event) -> None:
    def wait() -> None:
        within(lambda: None, seconds=5)

    with ThreadPoolExecutor(2) as waiting:
        both = [waiting.submit(wait) for _ in range(2)]
        while deadline._pool._work_queue.qsize() < 2:
            time.sleep(0.001)
        began = time.monotonic()
        with pytest.raises(NoAnswer, match="wait for it already"):
            within(lambda: None, seconds=5)
        assert time.monotonic() - began < 1
        hung.set()
        for each in both:
            each.result(5)
    assert within(lambda: "answer", seconds=5) == "answer"


def test_a_read_that_fails_leaves_its_place(hung: threading.Event) -> None:
    hung.set()
    for _ in range(9):
        with pytest.raises(ValueError, match="no"):
            within(lambda: int("no"), seconds=5)
