"""The expected rates of the generator are correct: tests and the demo rely on them."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.aws import sns
from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.modules.records import MessageKey, parse_diagnostic, parse_message
from sluice.pipelines.modules.transform import Diagnostic, find_due, success_rate
from sluice_dev.samples import modules
from sluice_dev.samples.modules import Fleet, Sent, generate, true_rates

FLEET = Fleet(modules=200, weeks=5, losses=0.2, resets=0.3, duplicates=0.1, late=0.1, malformed=0.1, seed=1)


def test_the_same_seed_gives_the_same_fleet_and_another_one_other_modules() -> None:
    assert list(generate(FLEET)) == list(generate(FLEET))
    assert true_rates(FLEET).keys().isdisjoint(true_rates(Fleet(modules=200, weeks=5, seed=2)))


def test_every_malformed_message_is_rejected_and_no_other() -> None:
    for week in generate(FLEET):
        for kind, body in week.messages:
            if kind == "malformed":
                with pytest.raises(RejectedRecord):
                    parse_message(body)
            else:
                parse_message(body)


@given(
    modules=st.integers(1, 5),
    weeks=st.integers(1, 6),
    attempts=st.integers(1, 6),
    losses=st.floats(0, 1),
    resets=st.floats(0, 1),
    late=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_the_truth_is_what_the_rule_makes_of_the_messages(modules: int, weeks: int, **rest: Any) -> None:
    messages: set[MessageKey] = set()
    diagnostics: dict[str, list[Diagnostic]] = {}
    fleet = Fleet(modules=modules, weeks=weeks, duplicates=0.3, malformed=0.1, **rest)
    for week in generate(fleet):
        messages |= {parse_message(each.body) for each in week.messages if each.kind != "malformed"}
        for each in week.diagnostics:
            module_id, timestamp, count, _ = parse_diagnostic(each.body, 0)
            if each.kind == "diagnostic":
                diagnostics.setdefault(module_id, []).append(Diagnostic(module_id, timestamp, count))
        # Nothing comes after the diagnostic that counts it.
        rates = {
            (module_id, due.diagnostic.timestamp): success_rate(
                sum(each.module_id == module_id and due.reset < each.timestamp <= due.diagnostic.timestamp
                    for each in messages),
                due.diagnostic.attempts,
            )
            for module_id, reported in diagnostics.items()
            for due in find_due(reported)
        }  # fmt: skip
        assert week.rates.items() <= rates.items()
    assert rates == true_rates(fleet)


def test_a_fleet_has_what_was_asked_for() -> None:
    weeks = list(generate(FLEET))
    kinds = Counter(each.kind for week in weeks for each in (*week.messages, *week.diagnostics))
    delivered = kinds["message"] + kinds["late"]
    assert kinds["diagnostic"] == 1000
    assert delivered == pytest.approx(1000 * 6 * 0.8, rel=0.15)
    assert kinds["late"] == pytest.approx(delivered * 0.1, rel=0.25)
    assert kinds["malformed"] == pytest.approx(delivered * 0.1, rel=0.25)
    assert kinds["duplicate"] == pytest.approx((delivered + 1000) * 0.1, rel=0.25)
    attempts: dict[str, list[int]] = {}
    for week in weeks:
        for each in week.diagnostics:
            if each.kind == "diagnostic":
                diagnostic = parse_diagnostic(each.body, 0)
                attempts.setdefault(diagnostic.module_id, []).append(diagnostic.attempts)
    resets = sum(later < before for each in attempts.values() for before, later in pairwise(each))
    assert resets == pytest.approx(200 * 4 * 0.3, rel=0.25)
    timestamps = [parse_message(each.body).timestamp for each in weeks[0].messages if each.kind == "message"]
    assert timestamps != sorted(timestamps)


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"late": 1.5}, "late is a share"), ({"losses": -0.1}, "losses is a share"), ({"weeks": 0}, "at least one")],
)
def test_a_fleet_that_cannot_be_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Fleet(**options)


def test_the_messages_of_a_week_are_published_before_its_diagnostics(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(modules=30, weeks=2, seed=3)
    published: list[tuple[str, str]] = []
    monkeypatch.setattr(sns, "topic_arn", lambda name: name)
    monkeypatch.setattr(sns, "publish_batch", lambda arn, bodies: published.extend((arn, body) for body in bodies))
    progress: list[int] = []
    made = modules.produce(fleet, progress.append)

    left = published
    for week in generate(fleet):
        for topic, records in (
            ("sluice-dev-recv_message", week.messages),
            ("sluice-dev-weekly_diagnostic", week.diagnostics),
        ):
            sent, left = left[: len(records)], left[len(records) :]
            assert sorted(sent) == sorted((topic, each.body) for each in records)
    assert left == []
    assert sum(progress) == sum(made.counts.values()) == len(published)
    assert made.rates == true_rates(fleet)


def test_spellings_are_mixed() -> None:
    bodies: list[Sent] = next(generate(FLEET)).messages
    fields = Counter(min(json.loads(each.body)) for each in bodies if each.kind == "message")
    assert set(fields) == {"moduleId", "moduleid"}
