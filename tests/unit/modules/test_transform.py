from __future__ import annotations

import json
import math
import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.modules.records import ATTEMPTS_MAX, TIMESTAMP_MAX
from sluice.pipelines.modules.transform import (
    Diagnostic,
    Due,
    Judgement,
    Verdict,
    find_due,
    find_resets,
    judge,
    rate_message,
    success_rate,
)


def diagnostics(*attempts: int) -> list[Diagnostic]:
    return [Diagnostic("a", 10 * (place + 1), each) for place, each in enumerate(attempts)]


@pytest.mark.parametrize(
    ("attempts", "resets"),
    [
        ([], []),
        ([5], [0]),
        ([5, 9, 9], [0, 0, 0]),
        ([5, 3], [0, 10]),
        ([5, 3, 8, 9], [0, 10, 10, 10]),
        ([5, 3, 2, 7], [0, 10, 20, 20]),
        ([5, 3, 8, 1], [0, 10, 10, 30]),
        ([5, 0, 7], [0, 10, 10]),
    ],
)
def test_a_module_counts_from_the_diagnostic_before_its_last_reset(attempts: list[int], resets: list[int]) -> None:
    assert find_resets(diagnostics(*attempts)) == resets


@given(received=st.integers(0, ATTEMPTS_MAX), attempts=st.integers(1, ATTEMPTS_MAX))
def test_a_rate_is_the_float_next_to_the_exact_quotient_and_survives_json(received: int, attempts: int) -> None:
    received = min(received, attempts)
    rate = success_rate(received, attempts)
    assert 0 <= rate <= 100
    exact = Fraction(100 * received, attempts)
    assert abs(Fraction(rate) - exact) <= min(
        abs(Fraction(each) - exact) for each in (math.nextafter(rate, -math.inf), math.nextafter(rate, math.inf))
    )
    assert json.loads(rate_message("a", 1, rate))["success_rate"] == rate


def test_no_attempts_and_more_messages_than_attempts_have_no_rate() -> None:
    for received, attempts, reason in ((0, 0, "no_attempts"), (3, 0, "no_attempts"), (6, 5, "rate_above_100")):
        with pytest.raises(RejectedRecord) as raised:
            success_rate(received, attempts)
        assert raised.value.reason == reason
        verdict = judge(Due(Diagnostic("a", 5, attempts), 0), received)
        assert (verdict.reason, verdict.judgement.success_rate) == (reason, None)


def test_a_rate_message_has_the_contract_s_fields_and_a_64_bit_timestamp() -> None:
    body = rate_message("モジュール", TIMESTAMP_MAX, 87.5)
    assert json.loads(body) == {"moduleid": "モジュール", "timestamp": TIMESTAMP_MAX, "success_rate": 87.5}


def judge_all(found: list[Diagnostic], received: dict[int, int]) -> list[Verdict]:
    return [judge(due, received[due.diagnostic.timestamp] - received.get(due.reset, 0)) for due in find_due(found)]


@given(
    attempts=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    messages=st.lists(st.integers(1, 80), max_size=20, unique=True),
    seed=st.integers(0, 2**32),
)
def test_diagnostics_in_any_order_and_batches_give_the_same_judgements(
    attempts: list[int], messages: list[int], seed: int
) -> None:
    received = {timestamp: sum(each <= timestamp for each in messages) for timestamp in range(0, 90, 10)}
    at_once = {each.due.diagnostic.timestamp: each.judgement for each in judge_all(diagnostics(*attempts), received)}

    table: dict[int, Diagnostic] = {}
    published: dict[int, Any] = {}
    for arriving in random.Random(seed).sample(diagnostics(*attempts), len(attempts)):
        table[arriving.timestamp] = arriving
        for verdict in judge_all([table[timestamp] for timestamp in sorted(table)], received):
            timestamp = verdict.due.diagnostic.timestamp
            table[timestamp] = table[timestamp]._replace(judged=verdict.judgement)
            if verdict.is_news and verdict.judgement.success_rate is not None:
                published[timestamp] = verdict.judgement.success_rate
    assert {timestamp: each.judged for timestamp, each in table.items()} == at_once
    assert find_due([table[timestamp] for timestamp in sorted(table)]) == []
    # The last received rate of a diagnostic is its rate.
    for timestamp, judgement in at_once.items():
        if judgement.success_rate is not None:
            assert published[timestamp] == judgement.success_rate


def test_the_same_again_is_not_due_and_a_correction_is() -> None:
    judged = Judgement(attempts=8, reset=0, received=6, success_rate=75.0)
    assert find_due([Diagnostic("a", 10, 8, judged)]) == []
    (due,) = find_due([Diagnostic("a", 10, 12, judged)])
    verdict = judge(due, 6)
    assert verdict.is_news
    assert verdict.judgement == Judgement(12, 0, 6, 50.0)


def test_a_correction_is_news_even_where_the_rate_stays() -> None:
    judged = Judgement(attempts=8, reset=0, received=0, success_rate=0.0)
    (due,) = find_due([Diagnostic("a", 10, 9, judged)])
    assert judge(due, 0).is_news


def test_a_reset_that_moved_is_news_only_where_the_rate_changed() -> None:
    judged = Judgement(attempts=4, reset=0, received=2, success_rate=50.0)
    due = find_due([Diagnostic("a", 10, 5), Diagnostic("a", 20, 4, judged)])
    assert [each.reset for each in due] == [0, 10]
    assert not judge(due[1], 2).is_news
    assert judge(due[1], 1).is_news
    assert judge(due[1], 5).is_news, "it is rejected now"
