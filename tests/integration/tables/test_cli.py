"""`sluice tables` on the embedded AWS."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from sluice import cli
from sluice.aws.tables import definitions, reading
from sluice.settings import Settings
from tables_world import HOUR, START, pages, publish


def sluice(*arguments: str, code: int = 0, answer: str = "") -> str:
    result = CliRunner().invoke(cli.main, ["tables", *arguments], input=answer, env={"COLUMNS": "80"})
    assert result.exit_code == code, result.output
    assert max(map(len, result.output.splitlines())) <= 80 or code or "--json" in arguments, result.output
    return result.output


def lines(*arguments: str) -> list[Any]:
    return [json.loads(line) for line in sluice(*arguments, "--json").splitlines()]


@pytest.fixture
def published(lake: Settings) -> list[definitions.Snapshot]:
    """Two hours, the first of them replaced; the newest snapshot first."""
    publish(lake, START, "ab")
    publish(lake, START + HOUR, "xyz")
    publish(lake, START, "cd")
    return reading.history("visits")


def test_tables_are_listed_and_described_with_their_columns(published: list[definitions.Snapshot]) -> None:
    (table,) = lines("list")
    assert (table["table"], table["rows"], table["files"], table["snapshots"]) == ("visits", 5, 2, 3)
    said = sluice("describe", "visits")
    assert "visits: A visit\n" in said
    assert "partitioned by at_hour = hour(at)" in said
    assert "page    string       which" in said
    assert {"column": "at", "type": "timestamptz", "description": "when (UTC)"} in lines("describe", "visits")


def test_rows_are_read_by_condition_and_as_of_a_time_or_a_snapshot(published: list[definitions.Snapshot]) -> None:
    before = published[1]
    assert [row["page"] for row in lines("read", "visits", "--where", "page = 'c'")] == ["c"]
    for as_of in (str(before.snapshot_id), before.committed_at.isoformat()):
        found = lines("read", "visits", "--as-of", as_of, "--columns", "page")
        assert sorted(row["page"] for row in found) == list("abxyz")
    assert sorted(row["page"] for row in lines("read", "visits", "--partition", "2024-04-07T18")) == list("xyz")
    (row,) = lines("read", "visits", "--partition", "2024-04-07T18", "--where", "page = 'y' or page = 'c'")
    assert row["page"] == "y"
    said = sluice("read", "visits", "--limit", "2")
    assert "2 rows shown" in said
    assert "2024-04-07T1" in said


def test_history_shows_the_run_of_each_change(published: list[definitions.Snapshot]) -> None:
    newest = lines("history", "visits")[0]
    assert newest["summary"]["sluice.run"] == "run-cd"
    assert newest["is_current"] is True
    first = sluice("history", "visits").splitlines()[1]
    assert first.split()[2:] == ["2", "2", "run-cd"]


def test_a_roll_back_asks_first(published: list[definitions.Snapshot]) -> None:
    older = str(published[1].snapshot_id)
    sluice("rollback", "visits", older, code=1, answer="n\n")
    assert pages() == "cdxyz"
    assert f"visits: readers see snapshot {older}" in sluice("rollback", "visits", older, "--yes")
    assert pages() == "abxyz"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("read", "nothing"), "table sluice.nothing does not exist: run `"),
        (("read", "visits", "--as-of", "2020-01-01"), "table visits has no snapshot as of 2020-01-01"),
        (("read", "visits", "--where", "nothing = 1"), "tables describe visits` lists the columns"),
        (("read", "visits", "--where", "page ="), "tables describe visits` lists the columns"),
        (("read", "visits", "--partition", "seventeen"), "write it like 2024-04-07T17"),
        (("read", "visits", "--columns", "nothing"), "tables describe visits` lists the columns"),
        (("rollback", "visits", "1", "--yes"), "tables history visits` lists those that can be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    published: list[definitions.Snapshot], arguments: tuple[str, ...], said: str
) -> None:
    assert said in " ".join(sluice(*arguments, code=1).split())


def test_a_wrong_time_is_wrong_usage(published: list[definitions.Snapshot]) -> None:
    assert "write it like 2024-04-07T17:00" in sluice("read", "visits", "--as-of", "yesterday", code=2)
