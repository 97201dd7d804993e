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
        (["--start", "yesterday"], "'yesterday' is no time: write it like"),
        (["--start", "2024-04-08", "--until", "2024-04-07"], "must be later than start"),
    ],
)
def test_a_wrong_option_says_what_it_may_be(world: Any, arguments: list[str], problem: str) -> None:
    done = CliRunner().invoke(main, [*PRODUCE, *arguments])
    assert done.exit_code == 2
    assert problem in " ".join(done.output.split())
