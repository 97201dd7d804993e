"""Published rates for messages and diagnostics in any order and delivered any number of times."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from modules_world import World, send_raw
from sluice.aws.tables import reading
from sluice.core.run import Run
from sluice.pipelines.modules import steps, storage, transform
from sluice.pipelines.modules.batch import StagedVerdict
from sluice.pipelines.modules.records import ATTEMPTS_MAX, TIMESTAMP_MAX, ReceivedDiagnostic
from sluice_dev.samples.modules import Fleet, generate

FLEET = Fleet(modules=20, weeks=4, losses=0.2, resets=0.3, duplicates=0.2, late=0.2, malformed=0.1, seed=4)


def test_a_diagnostic_publishes_the_share_of_messages_that_arrived(world: World) -> None:
    world.message("a", 1, 2, 3, 10, 11)
    world.message("b", 4)
    world.diagnostic("a", 10, 5)
    assert world.run("run") == {"records_in": 7, "published": 7, "duplicates": 0, "quarantined": 0, "rates": 1}
    assert world.published() == [("a", 10, 80.0)]
    assert world.stored() == {("a", 1), ("a", 2), ("a", 3), ("a", 10), ("a", 11), ("b", 4)}
    assert world.unfinished() == (0, 0)


def test_every_published_rate_of_a_fleet_is_the_true_one(world: World) -> None:
    truth = world.send_fleet(FLEET)
    tally = world.run("run")
    assert tally["rates"] == len(truth) == 80
    assert tally["quarantined"] > 0
    published = world.published()
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in published} == truth
    assert len(published) == len(truth)
    assert world.rates() == truth
    rows = world.rate_rows()
    assert {(row["module"], int(row["timestamp"])): row["success_rate"] for row in rows} == truth
    assert len(rows) == len(truth)


def test_the_order_of_messages_and_how_often_they_come_change_nothing(world: World) -> None:
    draw = random.Random(5)
    truth: dict[tuple[str, int], float] = {}
    for number, week in enumerate(generate(FLEET)):
        truth |= week.rates
        for records, url in ((week.messages, world.messages_url), (week.diagnostics, world.diagnostics_url)):
            bodies = [each.body for each in records] * 2
            draw.shuffle(bodies)
            send_raw(url, bodies)
        world.run(f"week-{number}")
    published = world.published()
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in published} == truth
    assert len(published) == len(truth), "a rate was published twice"


def test_diagnostics_in_any_order_one_by_one_end_in_the_true_rates(world: World) -> None:
    fleet = Fleet(modules=6, weeks=4, resets=0.6, duplicates=0, malformed=0, seed=6)
    weeks = list(generate(fleet))
    for week in weeks:
        world.publish(world.messages_arn, [each.body for each in week.messages])
    diagnostics = [each.body for week in weeks for each in week.diagnostics]
    random.Random(6).shuffle(diagnostics)
    truth = {key: rate for week in weeks for key, rate in week.rates.items()}
    for number in range(0, len(diagnostics), 6):
        world.publish(world.diagnostics_arn, diagnostics[number : number + 6])
        world.run(f"run-{number}")
    # The last received rate of a diagnostic counts.
    heard = {(module_id, timestamp): rate for module_id, timestamp, rate in world.published()}
    assert heard == world.rates() == truth


def test_a_reset_between_two_diagnostics_and_another_one(world: World) -> None:
    world.message("a", 1, 2, 3, 4, 11, 12, 21, 31, 32)
    for timestamp, attempts in ((10, 8), (20, 4), (30, 2), (40, 10)):
        world.diagnostic("a", timestamp, attempts)
    world.run("run")
    assert sorted(world.published()) == [("a", 10, 50.0), ("a", 20, 50.0), ("a", 30, 50.0), ("a", 40, 30.0)]


def test_an_earlier_diagnostic_that_changes_no_reset_leaves_those_after_it(world: World) -> None:
    world.message("a", 1, 11)
    world.diagnostic("a", 20, 10)
    world.run("first")
    world.published()
    world.diagnostic("a", 10, 5)
    world.run("second")
    assert world.published() == [("a", 10, 20.0)]


def test_a_correction_publishes_again_and_a_redelivered_original_does_not(world: World) -> None:
    world.message("a", 1)
    world.diagnostic("a", 10, 4)
    world.run("first")
    world.diagnostic("a", 10, 2)
    world.run("second")
    assert sorted(world.published()) == [("a", 10, 25.0), ("a", 10, 50.0)]
    # SQS delivers it again, after the correction.
    original = ReceivedDiagnostic("a", 10, 4, "0000000000001-0000000000001-0000000004")
    storage.write_diagnostic(world.settings.modules_diagnostic_table, original)
    world.diagnostic("a", 20, 100)
    world.run("third")
    assert world.published() == [("a", 20, 1.0)]
    assert world.rates()["a", 10] == 50.0


def test_every_published_rate_is_a_row_that_says_how_it_was_computed(world: World) -> None:
    world.message("a", 1, 2, 3, 10)
    world.diagnostic("a", 5, 5)
    world.run("first")
    world.diagnostic("a", 20, 1)
    world.run("second")
    world.diagnostic("a", 5, 3)
    world.run("correction")
    world.diagnostic("a", 5, 5)
    world.run("as-before")
    assert world.snapshots == {"module_success_rates": str(reading.history("module_success_rates")[0].snapshot_id)}
    world.message("a", 11)
    world.run("no rate")
    assert world.snapshots == {}
    rows = world.rate_rows()
    assert len({row["published_at"] for row in rows}) == 4
    names = ("module", "timestamp", "attempts", "received", "counted_from", "success_rate", "rule_version", "run")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("a", 5, 5, 3, 0, 60.0, 1, "first"),
        ("a", 20, 1, 1, 5, 100.0, 1, "second"),
        ("a", 5, 3, 3, 0, 100.0, 1, "correction"),
        ("a", 5, 5, 3, 0, 60.0, 1, "as-before"),
    ]
    assert [(module, at, rate) for module, at, *_, rate, _, _ in (tuple(row[n] for n in names) for row in rows)] == [
        *world.published()
    ]


def test_a_rebuild_judges_again_what_an_older_rule_judged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.message("a", 1, 2)
    world.message("b", 1)
    world.diagnostic("a", 5, 4)
    world.diagnostic("b", 5, 1)
    world.run("before")
    world.published()
    # A new rule, which does not count the first attempt.
    monkeypatch.setattr(transform, "RULE_VERSION", 2)
    monkeypatch.setattr(steps, "RULE_VERSION", 2)
    rate = transform.success_rate
    monkeypatch.setattr(
        transform, "success_rate", lambda got, sent: rate(got, sent) if sent == 1 else rate(got, sent - 1)
    )
    assert world.run("no rebuild") == {}
    tally = world.run("rebuild", rebuild=True)
    assert tally == {"records_in": 0, "published": 0, "duplicates": 0, "quarantined": 0, "rates": 1}
    assert world.published() == [("a", 5, 100 * 2 / 3)], "the rate of b did not change"
    last = world.rate_rows()[-1]
    assert (last["module"], last["rule_version"], last["run"]) == ("a", 2, "rebuild")
    assert world.run("again", rebuild=True)["rates"] == 0


def test_a_correction_counts_in_one_batch_with_its_diagnostic(world: World) -> None:
    world.message("a", 1)
    world.diagnostic("a", 10, 2)
    world.diagnostic("a", 10, 4)
    assert world.run("run")["duplicates"] == 1
    assert world.published() == [("a", 10, 25.0)]


def test_a_message_after_its_diagnostic_counts_from_the_next_one_on(world: World) -> None:
    world.message("a", 1)
    world.diagnostic("a", 10, 4)
    world.run("first")
    world.message("a", 2)
    world.diagnostic("a", 10, 4)
    world.diagnostic("a", 20, 8)
    world.run("second")
    assert world.published() == [("a", 10, 25.0), ("a", 20, 25.0)]


def test_diagnostics_without_a_possible_rate_are_quarantined(world: World) -> None:
    world.message("a", 1, 2, 3)
    world.diagnostic("a", 10, 2)
    world.diagnostic("never heard of", 10, 0)
    world.diagnostic("never heard of either", 10, 5)
    tally = world.run("run")
    assert tally == {"records_in": 6, "published": 4, "duplicates": 0, "quarantined": 2, "rates": 1}
    assert world.published() == [("never heard of either", 10, 0.0)]
    rejected = sorted(world.quarantined("run", "publish_rates"), key=lambda row: row["reason"])
    assert [row["reason"] for row in rejected] == ["no_attempts", "rate_above_100"]
    for row in rejected:
        assert row["source"].startswith("sqs://sluice-test-weekly_diagnostic/")
        assert json.loads(json.loads(row["record"])["Message"])["timestamp"] == 10
    # Delivered again it is a duplicate, not once more in quarantine.
    world.diagnostic("never heard of", 10, 0)
    assert world.run("again")["duplicates"] == 1
    assert world.quarantined("again", "publish_rates") == []


def test_a_correction_of_a_rejected_diagnostic_is_published(world: World) -> None:
    world.diagnostic("a", 10, 0)
    world.run("first")
    world.diagnostic("a", 10, 4)
    world.run("second")
    assert world.published() == [("a", 10, 0.0)]


def test_a_rate_that_another_correction_makes_impossible_is_quarantined(world: World) -> None:
    world.message("a", 1, 2, 3, 15, 16)
    world.diagnostic("a", 10, 8)
    world.diagnostic("a", 20, 4)
    world.run("first")
    assert sorted(world.published()) == [("a", 10, 37.5), ("a", 20, 50.0)]
    # Now there was no reset, and all five messages count.
    world.diagnostic("a", 10, 3)
    assert world.run("second") == {"records_in": 1, "published": 1, "duplicates": 0, "quarantined": 0, "rates": 1}
    assert world.published() == [("a", 10, 100.0)]
    (row,) = world.quarantined("second", "publish_rates")
    assert (row["reason"], row["source"]) == ("rate_above_100", "dynamodb://weekly_diagnostic/a/20")
    assert json.loads(row["record"]) == {"moduleId": "a", "timestamp": 20, "attempts": 4}
    assert world.rates() == {("a", 10): 100.0}


def test_the_largest_numbers_and_ids_come_out_exactly(world: World) -> None:
    module_id = "ü" * 1024
    world.message(module_id, TIMESTAMP_MAX, TIMESTAMP_MAX - 1, 2**53 + 1, 2**53)
    world.diagnostic(module_id, TIMESTAMP_MAX - 1, ATTEMPTS_MAX)
    world.diagnostic(module_id, TIMESTAMP_MAX, 3)
    world.run("run")
    first, second = sorted(world.published())
    assert first == (module_id, TIMESTAMP_MAX - 1, 100 * 3 / ATTEMPTS_MAX)
    assert second == (module_id, TIMESTAMP_MAX, 100 / 3)
    assert {timestamp for _, timestamp in world.stored()} == {TIMESTAMP_MAX, TIMESTAMP_MAX - 1, 2**53 + 1, 2**53}


def test_bad_messages_are_quarantined_and_hold_nothing_back(world: World) -> None:
    huge = '{"moduleId": "a", "timestamp": 5, "x": 1e1000000000000000000}'
    bad: list[Any] = ["not json", huge, '{"moduleId": "a", "timestamp": -1}', '{"moduleId": "", "timestamp": 1}', "[]"]
    send_raw(world.messages_url, [*bad, '{"moduleid": "a", "timestamp": 1, "battery": 0.5}'])
    send_raw(
        world.diagnostics_url,
        ['{"moduleId": "a", "timestamp": 5}', '{"moduleid":"a","timestamp":5.0,"attempts":1e0}', huge + " "],
    )
    tally = world.run("run")
    assert tally == {"records_in": 9, "published": 2, "duplicates": 0, "quarantined": 7, "rates": 1}
    rows = world.quarantined("run")
    assert sorted(row["reason"] for row in rows) == [
        "bad_module_id", "missing_field", "not_json", "not_object", "out_of_range", "out_of_range", "out_of_range",
    ]  # fmt: skip
    assert {row["record"] for row in rows} == {*bad, '{"moduleId": "a", "timestamp": 5}', huge + " "}
    assert world.published() == [("a", 5, 100.0)]
    assert world.unfinished() == (0, 0)


def test_empty_queues_are_nothing_to_do(world: World) -> None:
    assert world.run("run") == {}
    assert list(world.published()) == []


def test_a_gate_that_fails_publishes_nothing_and_its_diagnostics_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sluice.core.quality import GateFailed

    world.message("a", 1)
    world.diagnostic("a", 10, 4)
    steps.collect("run")
    steps.store("run")
    with monkeypatch.context() as spoilt:
        spoilt.setattr(
            "sluice.pipelines.modules.transform.success_rate", lambda received, attempts: 100 * attempts / received
        )
        steps.compute_rates("run")
    with pytest.raises(GateFailed, match="rate_max"):
        steps.check_rates("run")
    assert world.published() == []
    assert world.unfinished() == (0, 1)
    world.redeliver()
    world.run("next")
    assert world.published() == [("a", 10, 25.0)]


def test_a_diagnostic_without_an_outcome_fails_the_gate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from sluice.core.quality import GateFailed

    world.diagnostic("a", 10, 4)
    world.diagnostic("b", 10, 4)
    steps.collect("run")
    steps.store("run")
    with monkeypatch.context() as spoilt:
        spoilt.setattr(steps, "_judge_module", lambda *_: [])
        steps.compute_rates("run")
    assert steps.check_rates("run")["expectations"] == 3, "a duplicate is accounted for"
    run = Run.of("modules", "run")
    run.save(steps.VERDICTS, run.load(steps.VERDICTS, list[StagedVerdict])[:-1])
    with pytest.raises(GateFailed, match="accounted"):
        steps.check_rates("run")


def test_a_publication_that_crashed_publishes_no_noted_rate_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = world.send_fleet(Fleet(modules=25, weeks=1, duplicates=0, seed=8))
    collected = steps.collect("run")
    steps.store("run")
    steps.compute_rates("run")
    noted = iter(range(12))
    write = storage.write_judgement

    class Crash(BaseException):
        """No code of the worker gets to handle this."""

    def crash_after_12(*arguments: Any) -> Any:
        if next(noted, None) is None:
            raise Crash
        return write(*arguments)

    with monkeypatch.context() as crashing:
        crashing.setattr(storage, "write_judgement", crash_after_12)
        with pytest.raises(Crash):
            steps.publish_rates("run", collected)
    assert steps.publish_rates("run", collected)["rates"] == 25
    heard = world.published()
    assert {(module_id, timestamp): rate for module_id, timestamp, rate in heard} == truth
    assert len(heard) <= 2 * 25 - 12
    assert world.unfinished() == (0, 0)
