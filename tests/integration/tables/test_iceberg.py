"""Iceberg tables on the embedded Glue and S3: one snapshot a publication, with lost responses and other writers."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from embedded_aws import FaultInjection
from sluice.aws.emulator import EMBEDDED_SECRET_KEY
from sluice.aws.sessions import client
from sluice.aws.tables import commits, definitions, reading, row_commits
from sluice.settings import Settings
from tables_world import HOUR, START, VISITS, append, files, pages, publish, rows, where


def test_a_part_is_replaced_by_one_snapshot_and_the_same_content_by_none(lake: Settings) -> None:
    first = publish(lake, START, "ab").snapshot
    publish(lake, START + HOUR, "xyz")
    second = publish(lake, START, "cd").snapshot
    assert first
    assert second
    assert pages() == "cdxyz"
    assert second.summary["sluice.run"] == "run-cd"
    again = publish(lake, START, "cd")
    assert (again.snapshot, again.is_new) == (second, False), "it is known which snapshot holds the content"
    found = reading.history("visits")
    assert [each.is_current for each in found] == [True, False, False], "a second snapshot would show a part half-way"
    assert pages(as_of=first.snapshot_id) == "ab"
    assert pages(as_of=second.committed_at - timedelta(milliseconds=1)) == "abxyz"
    assert pages(where="page > 'd'", limit=2) in ("xy", "xz", "yz")


def test_a_part_can_be_emptied(lake: Settings) -> None:
    publish(lake, START, "ab")
    publish(lake, START + HOUR, "x")
    assert publish(lake, START, "").is_new
    assert pages() == "x"
    assert not publish(lake, START, "").is_new


@pytest.mark.parametrize("kind", ["drop", "throttle", "error"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_after_any_outcome_of_a_commit_the_rows_are_correct_and_readable(
    lake: Settings, faults: FaultInjection, kind: str, nth: int
) -> None:
    """By PyIceberg's defaults a dropped answer deletes the manifests of the commit that took place."""
    faults.inject(kind, service="glue", operation="UpdateTable", every=nth, times=1)
    publish(lake, START, "ab")
    publish(lake, START, "cd")
    append(rows(START + HOUR, "x"), START + HOUR)
    assert faults.injected() == 1
    assert pages() == "cdx"
    assert len(reading.history("visits")) == 3, "each publication is one snapshot"
    for snapshot in reading.history("visits"):
        pages(as_of=snapshot.snapshot_id)


def test_rows_that_the_table_has_are_not_appended_again(lake: Settings) -> None:
    first = append(rows(START, "ab"), START)
    again = append(rows(START, "ab"), START)
    assert (again.snapshot, first.is_new, again.is_new) == (first.snapshot, True, False)
    assert append(rows(START, "abc"), START).is_new, "one row is"
    assert pages() == "abc"


def test_rows_that_two_writers_append_at_the_same_moment_are_not_doubled(lake: Settings) -> None:
    added = rows(START, "ab")
    key = ("at", "page")
    looks: list[int] = []

    def is_new(known: pa.Table) -> list[bool]:
        looks.append(known.num_rows)
        if len(looks) == 1:
            append(added, START)
        return row_commits.without_keys(added, key)(known)

    row_commits.append(VISITS.name, added, where=where(START), columns=key, is_new=is_new, summary={"run": "slow"})
    assert looks == [0, 2], "it reads the table again after its commit is refused"
    assert pages() == "ab"
    assert "commit.retry.num-retries" not in definitions.load(lake, VISITS.name).properties


def test_deleting_rows_leaves_the_others_of_their_file_as_they_were(lake: Settings) -> None:
    publish(lake, START, "abc")
    publish(lake, START + HOUR, "bb")
    publish(lake, START + 2 * HOUR, "xy")

    def delete(wanted: str) -> bool:
        return row_commits.delete_rows(
            VISITS.name,
            where=f"page = '{wanted}'",
            columns=("page",),
            is_deleted=lambda rows: [each == wanted for each in rows["page"].to_pylist()],
            summary={"run": "deletes"},
        ).is_new

    def visits() -> dict[datetime, str]:
        return {row["at"]: row["page"] for row in reading.read("visits").to_pylist()}

    before = visits()
    assert delete("b")
    assert visits() == {at: page for at, page in before.items() if page != "b"}
    assert len(reading.history("visits")) == 4, "one snapshot for any number of files"
    assert not delete("b")


def test_of_two_writers_of_one_part_the_second_meets_a_conflict(lake: Settings) -> None:
    expected = commits.live_files(VISITS.name, where(START))
    publish(lake, START, "ab", expected)
    with pytest.raises(commits.Conflict, match=r"sluice\.visits: another writer replaced at >= '2024-04-07T17"):
        publish(lake, START, "cd", expected)
    assert pages() == "ab"


def test_writers_at_once_lose_nothing_and_double_nothing(lake: Settings) -> None:
    """Two for each of two parts: one of each wins, the other meets a conflict."""
    expected = commits.live_files(VISITS.name, where(START))
    gate = threading.Barrier(4)

    def write(number: int) -> str:
        gate.wait()
        hour = START + number % 2 * HOUR
        try:
            publish(lake, hour, "abcd"[number] * 2, expected)
        except commits.Conflict:
            return ""
        return "abcd"[number] * 2

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(write, range(4)))
    assert sum(map(bool, won)) == 2
    assert pages() == "".join(sorted("".join(won)))


def test_new_columns_of_a_file_are_added_and_types_widened_with_its_rows(lake: Settings) -> None:
    publish(lake, START, "ab")
    many = {"who": pa.array(["u", "v"]), "share": pa.array([0.5, None], pa.float64())}
    publish(lake, START + HOUR, "cd", count=pa.int64(), **many)
    publish(lake, START + 2 * HOUR, "e")
    found = reading.read("visits").sort_by("page").to_pydict()
    assert found["page"] == list("abcde")
    assert found["count"] == [1] * 5
    assert found["who"] == [None, None, "u", "v", None]
    assert found["share"] == [None, None, 0.5, None, None]
    assert len(reading.history("visits")) == 3
    assert definitions.create_missing(lake, [VISITS]) == [], "a deployment does not change the columns"
    assert "share" in reading.read("visits", limit=0).column_names


def test_readers_see_an_earlier_snapshot_again_after_a_roll_back(lake: Settings) -> None:
    first = publish(lake, START, "ab").snapshot
    publish(lake, START, "cd")
    assert first
    reading.roll_back("visits", first.snapshot_id)
    assert pages() == "ab"
    publish(lake, START, "ef")
    assert pages() == "ef"
    with pytest.raises(reading.SnapshotMissing, match="`sluice tables history visits` lists"):
        reading.roll_back("visits", 1)


def test_what_does_not_exist_is_named_with_the_way_out(lake: Settings) -> None:
    with pytest.raises(definitions.TableMissing, match=r"table sluice\.nothing does not exist: run `sluice deploy`"):
        reading.read("nothing")
    with pytest.raises(reading.SnapshotMissing, match="no snapshot as of 2020-01-01"):
        reading.read("visits", as_of=datetime(2020, 1, 1, tzinfo=UTC))


def test_a_table_whose_entry_in_the_catalog_was_deleted_comes_back_whole(lake: Settings) -> None:
    for number in range(11):
        publish(lake, START, f"{number:x}" * 2)
    client("glue").delete_table(DatabaseName=lake.glue_database, Name="visits")
    assert definitions.create_missing(lake, [VISITS]) == ["Restore visits"]
    assert pages() == "aa"
    assert len(reading.history("visits")) == 11


def test_a_table_whose_entry_a_killed_emulator_forgot_is_as_its_files_say(lake: Settings) -> None:
    publish(lake, START, "ab")
    glue = client("glue")
    saved = glue.get_table(DatabaseName=lake.glue_database, Name="visits")["Table"]
    publish(lake, START, "cd")
    kept = {name: saved[name] for name in ("Name", "TableType", "Parameters", "StorageDescriptor")}
    glue.update_table(DatabaseName=lake.glue_database, TableInput=kept)  # type: ignore[arg-type]
    assert pages() == "ab"
    assert definitions.create_missing(lake, [VISITS]) == ["Restore visits"]
    assert pages() == "cd"
    assert definitions.create_missing(lake, [VISITS]) == []


def test_a_commit_that_is_refused_by_a_rival_leaves_no_manifests(lake: Settings, faults: FaultInjection) -> None:
    """Leftovers of attempts would grow with the number of concurrent writers."""
    faults.inject("error", service="glue", operation="UpdateTable", times=1)
    publish(lake, START, "ab")
    kinds = Counter(key.rpartition(".")[2] for key in files(lake, "metadata"))
    assert kinds["json"] == 3
    assert len(files(lake, "data")) == 1


def test_readers_see_whole_snapshots_while_fifty_are_published(lake: Settings) -> None:
    """Each publication has one row more than the one before."""
    import polars

    done = threading.Event()
    seen: list[tuple[str, str]] = []
    options = {
        "aws_endpoint_url": str(lake.endpoint_url),
        "aws_access_key_id": lake.aws_account_id,
        "aws_secret_access_key": EMBEDDED_SECRET_KEY,
        "aws_region": lake.aws_region,
        "aws_allow_http": "true",
    }

    def by_pyiceberg() -> list[str]:
        return reading.read("visits", where=where(START))["page"].to_pylist()  # type: ignore[no-any-return]

    def by_polars() -> list[str]:
        table = definitions.load(lake, "visits")
        return polars.scan_iceberg(table, storage_options=options).collect()["page"].to_list()

    def read_on(name: str, read: Callable[[], list[str]]) -> None:
        while not done.wait(0.5):
            seen.append((name, "".join(sorted(read()))))

    letters = [chr(ord("A") + number) for number in range(51)]
    publish(lake, START, letters[0])
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_on, "pyiceberg", by_pyiceberg), pool.submit(read_on, "polars", by_polars)]
        try:
            for size in range(2, 52):
                publish(lake, START, "".join(letters[:size]))
        finally:
            done.set()
        for reader in readers:
            reader.result()
    whole = {"".join(letters[:size]) for size in range(1, 52)}
    assert {pages for _, pages in seen} <= whole
    for name in ("pyiceberg", "polars"):
        assert len({pages for by, pages in seen if by == name}) > 5, f"{name} hardly read while it was published"
