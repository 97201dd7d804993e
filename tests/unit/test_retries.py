"""Attempts are bounded, and the pauses between them grow."""

from __future__ import annotations

import pytest

from sluice.aws.retries import PAUSE_MAX_SECONDS, until_done


def no_pause(seconds: float) -> None:
    raise AssertionError(f"paused {seconds} s")


def test_an_attempt_is_made_again_until_it_is_done_with_growing_pauses() -> None:
    results, pauses = iter([None, None, None, "done"]), list[float]()
    assert until_done(lambda: next(results), attempts=9, first_pause_seconds=1.0, sleep=pauses.append) == "done"
    assert [bound / 2 <= pause <= bound for pause, bound in zip(pauses, [1, 2, 4], strict=True)] == [True] * 3


@pytest.mark.parametrize("done", [False, 0, []])
def test_a_result_that_is_empty_is_a_result(done: object) -> None:
    assert until_done(lambda: done, attempts=2, first_pause_seconds=1.0, sleep=no_pause) == done


def test_attempts_and_pauses_have_a_bound_and_no_pause_follows_the_last() -> None:
    pauses: list[float] = []
    assert until_done(lambda: None, attempts=12, first_pause_seconds=1.0, sleep=pauses.append) is None
    assert len(pauses) == 11
    assert max(pauses) <= PAUSE_MAX_SECONDS


def test_an_error_is_raised_at_once() -> None:
    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        until_done(broken, attempts=3, first_pause_seconds=1.0, sleep=no_pause)
