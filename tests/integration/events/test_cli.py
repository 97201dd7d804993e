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
    read = CliRunner().invoke(main, ["events", "read", "--hour", "2024-04-07T17:30"])
    assert read.exit_code == 0, read.output
    assert f"{events} events in hour 2024-04-07T17, 10 shown" in read.output
    rows = CliRunner().invoke(main, ["events", "read", "--hour", "2024-04-07T19:00+02:00", "--json", "--limit", "3"])
    assert len([json.loads(line)["event_uuid"] for line in rows.output.splitlines()]) == 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--late", "0.8", "--malformed", "0.5"], "1.35 together"),
        (["--late", "2"], "0<=x<=1"),
        (["--start", "yesterday"], "'yesterday' is no time: write it like"),
        (["--start", "2024-04-08", "--until", "2024-04-07"], "must be later than start"),
    ],
)
def test_a_wrong_option_says_what_it_may_be(world: Any, arguments: list[str], problem: str) -> None:
    done = CliRunner().invoke(main, [*PRODUCE, *arguments])
    assert done.exit_code == 2
    assert problem in " ".join(done.output.split())


def test_an_hour_that_was_never_published_says_how_to_make_it(world: Any) -> None:
    done = CliRunner().invoke(main, ["events", "read", "--hour", "2024-04-07T17"])
    assert done.exit_code == 1
    assert "dags test events_hourly 2024-04-07T17:00:00+00:00" in done.output
