"""The commands of the pipeline as a person types them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from sluice.cli import main

PRODUCE = ["produce", "events", "--rate", "300", "--seconds", "1", "--burst", "--seed", "1"]
HOUR = ["--start", "2024-04-07T17", "--until", "2024-04-07T18"]


def test_events_are_produced_and_then_read_through_the_catalog(world: Any) -> None:
    made = CliRunner().invoke(main, [*PRODUCE, *HOUR, "--late", "0"])
    assert made.exit_code == 0, made.output
    assert "300 records in" in made.output
    assert "seed 1" in made.output
    hour, events = made.output.split()[-2:]
    assert hour == "2024-04-07T17"
    world.process_late(world.ingest("run"))
    read = ["tables", "read", "events", "--partition", "2024-04-07T19:30+02:00"]
    shown = CliRunner().invoke(main, read)
    assert shown.exit_code == 0, shown.output
    assert "10 rows shown" in shown.output
    rows = CliRunner().invoke(main, [*read, "--json", "--limit", "1000"])
    assert len({json.loads(line)["event_uuid"] for line in rows.output.splitlines()}) == int(events)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--late", "0.8", "--malformed", "0.5"], "1.35 together"),
        (["--late", "2"], "0<=x<=1"),
        (["--start", "yesterday"], "'yesterday' is not a time: write it like"),
        (["--start", "2024-04-08", "--until", "2024-04-07"], "must be later than start"),
    ],
)
def test_a_wrong_option_says_what_it_may_be(world: Any, arguments: list[str], problem: str) -> None:
    done = CliRunner().invoke(main, [*PRODUCE, *arguments])
    assert done.exit_code == 2
    assert problem in " ".join(done.output.split())


def hours(*arguments: str) -> str:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["events", "hours", *arguments])
    assert shown.exit_code == 0, shown.output
    return shown.output


def test_each_hour_shows_its_run_snapshot_and_files_and_why_it_is_dirty(world: Any) -> None:
    assert "no such hour was published" in hours()
    world.put(20, seed=1)
    (late, *_) = world.ingest("first")
    assert "events of" in hours("--dirty")
    published = world.process(late["trigger_run_id"], world.hour)
    shown = hours("--from", "2024-04-07T17", "--to", "2024-04-07T17")
    assert all(len(line) <= 80 for line in shown.splitlines())
    (row,) = [json.loads(line) for line in hours("--to", "2024-04-07T17", "--json").splitlines()]
    assert (row["state"], row["rows"], row["dirty_since"]) == ("published", published["published"], None)
    assert (row["published_by"], row["snapshot_id"]) == (late["trigger_run_id"], published["snapshots"]["events"])
    world.put(5, seed=2)
    world.ingest("second")
    dirty = [json.loads(line) for line in hours("--dirty", "--json").splitlines()]
    assert [each["hour"] for each in dirty] == ["2024-04-07T17"]
    assert dirty[0]["dirty_reason"] == "events of hour 2024-04-07T17 arrived in second: 5"
    assert (dirty[0]["requested_by"], dirty[0]["raw_files"]) == ("second", row["raw_files"])
    assert dirty[0]["dirty_since"] > "2026"
    for text in (dirty[0]["snapshot_id"], "dirty hour", "published by"):
        assert text in hours()


def test_an_hour_that_is_none_is_refused_with_an_example() -> None:
    refused = CliRunner().invoke(main, ["events", "hours", "--from", "yesterday"])
    assert refused.exit_code == 2
    assert "'yesterday' is not an hour" in refused.output
    assert "write it like 2024-04-07T17" in refused.output
