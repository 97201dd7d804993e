"""The table of the demo fits a terminal, a pipeline ends when its work is done, a signal ends all processes."""

from __future__ import annotations

import signal
from collections import Counter

import pytest
from rich.console import Console

from sluice_dev.demo import COUNTS, IDLE_POLLS, Pipeline, deferrable_interrupts, summary
from sluice_dev.samples.sample import Sample, Trigger, tally_tasks

TALLY_TASKS = tally_tasks()

TWO_STAGES = Sample([[Trigger("first"), Trigger("first")], [Trigger("second", {"hour": "x"})]], "look")


def triggers(pipeline: Pipeline, *polls: set[str]) -> list[str]:
    """What is triggered while polls find these Dags with a run under way."""
    return [trigger.dag_id for active in polls if pipeline.is_idle(active) for trigger in pipeline.next_stage()]


def test_the_table_shows_every_number_whole_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    number = 9_999_999
    tallies = {dag_id: Counter({"runs": 999} | dict.fromkeys(COUNTS, number)) for dag_id in TALLY_TASKS}

    Console(width=80).print(summary(tallies))

    said = capsys.readouterr().out
    assert said.count(f"{number:,}") == len(TALLY_TASKS) * len(COUNTS)
    assert all(dag_id in said for dag_id in TALLY_TASKS)
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_stage_waits_until_the_dags_of_the_pipeline_are_idle() -> None:
    pipeline = Pipeline(TWO_STAGES, lambda: 0)

    assert triggers(pipeline, set()) == ["first", "first"]
    assert triggers(pipeline, {"first"}, {"another"}, {"second"}, {"another"}) == []
    assert triggers(pipeline, {"another"}) == ["second"]
    assert not pipeline.is_done
    assert triggers(pipeline, *([set()] * IDLE_POLLS)) == []
    assert pipeline.is_done


@pytest.mark.parametrize(("left", "runs"), [([0], 1), ([7, 4, 0], 3), ([7, 4, 4], 3)], ids=["none", "all", "stuck"])
def test_the_last_stage_is_repeated_while_messages_become_fewer(left: list[int], runs: int) -> None:
    counts = iter(left)
    pipeline = Pipeline(Sample([[Trigger("drain")]], "look"), lambda: next(counts))

    made = [trigger for _ in range(10) if not pipeline.is_done for trigger in triggers(pipeline, set(), set())]

    assert made == ["drain"] * runs
    assert pipeline.is_done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_once_services_are_started(number: signal.Signals) -> None:
    """An exception between the start of a process and its record would leave the process behind."""
    before = signal.getsignal(number)
    with deferrable_interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    with deferrable_interrupts() as interrupts:
        interrupts.check()
        interrupts.deferred = True
        signal.raise_signal(number)
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert signal.getsignal(number) == before
