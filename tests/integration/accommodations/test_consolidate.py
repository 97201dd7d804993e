"""Batches of partner files: what is published, quarantined and kept, for files of any content."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from accommodations_world import a_record, json_lines
from sluice.aws import sqs
from sluice.aws.sessions import client
from sluice.aws.tables import reading
from sluice.pipelines.accommodations import catalogue, current, steps, storage
from sluice.pipelines.accommodations.storage import PriorityListError
from sluice.pipelines.accommodations.transform import ROW_BYTES

GOOD = [a_record("1", "A"), a_record("2", "T")]
GOOD_CURRENT = {"1": ("A", "Hotel"), "2": ("T", "Hotel")}


def test_the_worked_example_of_the_contract(world: Any) -> None:
    world.drop("R.jsonl", [a_record("104", "R")])
    world.drop("W.jsonl", [a_record("104", "W")])
    world.drop("XE.jsonl", [a_record("105", "X"), a_record("105", "E")])
    world.drop("LD.jsonl", json.dumps([a_record("441", "L"), a_record("441", "D")]).encode())
    world.drop("OC.jsonl", [a_record("107", "O"), a_record("107", "C")])
    assert world.consolidate() == {
        "records_in": 8,
        "published": 3,
        "duplicates": 5,
        "quarantined": 0,
        "unlisted": 4,
        "blocked": 0,
    }
    assert world.published() == [("105", "X"), ("107", "C"), ("441", "D")]
    assert world.current() == {"105": ("X", "Hotel"), "107": ("C", "Hotel"), "441": ("D", "Hotel")}
    (key,) = world.outputs()
    assert key == "curated/accommodations/year=2026/month=11/day=21/output_object-1795262401000000.jsonl"
    line = json.loads(world.outputs()[key].split(b"\n")[0])
    assert list(line) == ["accommodation_id", "partner_name", "accommodation_data"]
    assert world.unfinished() == 0
    tables = ("accommodations_candidates", "accommodations_current")
    assert world.snapshots == {name: str(reading.history(name)[0].snapshot_id) for name in tables}


@pytest.mark.parametrize(
    ("body", "published"),
    [
        (b"", 0),
        (b"\n \r\n\n", 0),
        (b"[]", 0),
        (b"\xef\xbb\xbf" + json_lines(GOOD), 2),
        (b"\xef\xbb\xbf" + json.dumps(GOOD, indent=2).encode(), 2),
        (json_lines(GOOD).replace(b"\n", b"\r\n\r\n"), 2),
        (json_lines(GOOD).rstrip(b"\n"), 2),
        (json.dumps(GOOD).encode(), 2),
        (json_lines([each | {"more": {"nested": [None, {"deeper": None}]}} for each in GOOD]), 2),
    ],
    ids=["empty", "blank", "empty-array", "bom", "bom-array", "crlf", "no-newline", "array", "further-fields"],
)
def test_a_file_that_is_only_written_otherwise_is_read(world: Any, body: bytes, published: int) -> None:
    world.drop("a.jsonl", body)
    assert world.consolidate()["published"] == published
    assert world.quarantined() == []
    assert world.unfinished() == 0


def test_a_bad_line_is_quarantined_with_its_reason_and_place(world: Any) -> None:
    lines = [
        json.dumps(a_record("1", "A")).encode(),
        b"not json",
        b"[1]",
        json.dumps(a_record(104, "A")).encode(),
        json.dumps({"partner": "A", "accommodation_id": "3", "accommodation_data": {}}).encode(),
        json.dumps(a_record("4", "A") | {"accommodation_data": None}).encode(),
        json.dumps(a_record("", "A")).encode(),
        b'{"partner_name": "\xff", "accommodation_id": "5", "accommodation_data": {}}',
        b'{"partner_name": "A", "accommodation_id": "6", "accommodation_id": "7", "accommodation_data": {}}',
        json.dumps(a_record("8", "A", "x" * 500_000)).encode(),
        json.dumps(a_record("2", "T")).encode(),
        json.dumps(a_record("9", "A")).encode()[:-9],
    ]
    world.drop("a b+%é.jsonl", b"\n".join(lines))
    assert world.consolidate()["quarantined"] == 10
    assert world.current() == GOOD_CURRENT
    name = "a b+%é.jsonlline="
    assert dict(world.quarantined()) == {
        f"{name}2": "not_json",
        f"{name}3": "not_object",
        f"{name}4": "wrong_type",
        f"{name}5": "missing_field",
        f"{name}6": "missing_field",
        f"{name}7": "empty_field",
        f"{name}8": "not_utf8",
        f"{name}9": "repeated_field",
        f"{name}10": "too_large",
        f"{name}12": "not_json",
    }
    assert world.unfinished() == 0


UNREADABLE = {
    "compressed": gzip.compress(json_lines(GOOD)),
    "utf16": json_lines(GOOD).decode().encode("utf-16"),
    "no_json": b"partner_name;accommodation_id\nA;1\n",
}


def test_messages_of_unreadable_files_stay_and_other_files_go_through(world: Any) -> None:
    for name, body in UNREADABLE.items():
        world.drop(f"{name}.jsonl", body)
    world.drop("good.jsonl", GOOD)
    tally = world.consolidate()
    assert (tally["records_in"], tally["published"], tally["quarantined"]) == (2, 2, 0)
    assert world.current() == GOOD_CURRENT
    assert world.unfinished() == len(UNREADABLE)


def test_the_good_file_of_a_message_with_an_unreadable_one_publishes_once(world: Any) -> None:
    keys = [world.put("good.jsonl", GOOD), world.put("bad.jsonl", UNREADABLE["no_json"])]
    world.send(world.event(*keys))
    assert world.consolidate("one")["published"] == 2
    assert world.unfinished() == 1
    world.redeliver("one")
    assert world.consolidate("two")["published"] == 0
    world.put("bad.jsonl", [a_record("3", "A")])
    world.redeliver("two")
    assert world.consolidate("three")["published"] == 1
    assert world.published() == [("1", "A"), ("2", "T"), ("3", "A")]
    assert world.unfinished() == 0


def test_an_object_overwritten_before_it_is_read_is_read_once_as_it_is_now(world: Any) -> None:
    world.drop("a.jsonl", [a_record("1", "A", "old")])
    world.drop("a.jsonl", [a_record("1", "A", "new")])
    assert world.consolidate("one")["records_in"] == 1
    assert world.current() == {"1": ("A", "new")}
    world.drop("a.jsonl", [a_record("1", "A", "newest")])
    world.consolidate("two")
    assert world.current() == {"1": ("A", "newest")}


def test_an_unreadable_event_is_quarantined_and_other_events_go_through(world: Any) -> None:
    world.prioritise(["p1"])
    world.drop("good.jsonl", [a_record("a", "p1")])
    world.send(world.event("accommodations/half.jsonl").replace("half", "\\ud800"))
    world.send(world.event("accommodations/a.jsonl").replace("{", '{"x": 1e1000000000000000000, ', 1))

    world.consolidate()
    assert [reason for _, reason in world.quarantined()] == ["bad_notification"] * 2
    assert world.published() == [("a", "p1")]
    assert world.unfinished() == 0


def test_what_can_never_be_read_is_quarantined_and_its_message_deleted(world: Any) -> None:
    key = world.drop("gone.jsonl", GOOD)
    client("s3").delete_object(Bucket=world.settings.landing_bucket, Key=key)
    world.send("no json", world.event("elsewhere/a.jsonl"), json.dumps({"Event": "s3:TestEvent"}))
    world.consolidate()
    assert sorted(reason for _, reason in world.quarantined()) == [
        "bad_notification",
        "bad_notification",
        "object_missing",
    ]
    assert world.unfinished() == 0
    assert world.outputs() == {}


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (None, "is missing"),
        ({"L": []}, "is empty"),
        ({"S": "A"}, "must be a list of names"),
        ({"L": [{"S": "A"}, {"N": "1"}]}, "must be a list of names"),
        ({"SS": ["A", "T"]}, "must be a list of names"),
    ],
)
def test_without_a_priority_list_a_run_fails_clearly_and_takes_no_message(world: Any, item: Any, problem: str) -> None:
    table = world.settings.accommodations_priority_table
    if item is None:
        client("dynamodb").delete_item(TableName=table, Key={"contentType": {"S": "PriorityList"}})
    else:
        client("dynamodb").put_item(TableName=table, Item={"contentType": {"S": "PriorityList"}, "partner_list": item})
    world.drop("a.jsonl", GOOD)
    with pytest.raises(PriorityListError, match=problem) as raised:
        world.consolidate()
    assert "sluice partners set-priority" in str(raised.value)
    assert sqs.queue_depth(world.queue_url) == 1


def test_a_run_without_work_does_nothing(world: Any) -> None:
    assert world.consolidate() == {}
    world.drop("a.jsonl", GOOD)
    world.consolidate("one")
    before = world.keys("")
    assert world.consolidate("two") == {}
    assert world.keys("") == before


def test_the_current_catalogue_follows_the_lists_without_a_new_file(world: Any) -> None:
    world.drop("1.jsonl", [a_record("1", "A"), a_record("1", "T"), a_record("1", "Z"), a_record("2", "A")])
    world.consolidate("one")
    assert world.current() == {"1": ("A", "Hotel"), "2": ("A", "Hotel")}
    world.block(["A"])
    world.consolidate("blocked")
    assert world.current() == {"1": ("T", "Hotel")}
    world.prioritise(["Z", "A", "T"])
    world.consolidate("listed")
    assert world.current() == {"1": ("Z", "Hotel")}
    world.block([])
    world.prioritise(["A"])
    world.consolidate("again")
    assert world.current() == {"1": ("A", "Hotel"), "2": ("A", "Hotel")}
    assert len(world.outputs()) == 1, "only new files lead to output files"
    assert world.consolidate("unchanged") == {}


def test_a_catalogue_that_outgrows_its_buckets_keeps_every_record(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "BUCKET_BYTES", 300)
    expected: dict[str, tuple[str, str]] = {}
    for batch in range(4):
        names = [f"{batch}-{number}" for number in range(5)]
        world.drop(f"{batch}.jsonl", [a_record(name, "T") for name in names] + [a_record("same", "T", f"new {batch}")])
        expected |= dict.fromkeys(names, ("T", "Hotel")) | {"same": ("T", f"new {batch}")}
        world.consolidate(f"run-{batch}")
        assert world.current() == expected
        tables = catalogue.read_tables("")
        assert tables.candidate_bytes == size_of_candidates()
    assert tables.buckets > 4, "it has been split more than once"
    assert max(map(len, tables.candidates.files.values())) == 1
    assert reading.describe(catalogue.CANDIDATES.name).rows == len(expected)
    world.block(["T"])
    world.consolidate("blocked")
    assert world.current() == {}


def size_of_candidates() -> int:
    rows = reading.read(catalogue.CANDIDATES.name, columns=("accommodation_id", "accommodation_data"))
    texts: list[str] = [value for row in rows.to_pylist() for value in row.values()]
    return ROW_BYTES * int(rows.num_rows) + sum(len(text.encode()) for text in texts)


def test_an_older_file_that_comes_later_does_not_win(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old = world.put("z-old.jsonl", [a_record("1", "A", "old"), a_record("2", "A", "only")])
    find = storage.find_file

    def aged(bucket: str, key: str) -> Any:
        # S3 stamps an object itself: no test can put one of yesterday.
        found = find(bucket, key)
        return replace(found, modified_at=found.modified_at - timedelta(days=1)) if found and key == old else found

    monkeypatch.setattr(storage, "find_file", aged)
    world.drop("a-new.jsonl", [a_record("1", "A", "new")])
    world.consolidate("one")
    world.send(world.event(old))
    world.consolidate("two")
    assert world.current() == {"1": ("A", "new"), "2": ("A", "only")}


def test_a_batch_takes_no_more_messages_than_the_setting(world: Any) -> None:
    for number in range(12):
        world.drop(f"{number}.jsonl", [a_record(str(number), "A")])
    assert world.consolidate("one")["published"] == 10
    assert world.consolidate("two")["published"] == 2
    assert len(world.current()) == 12


def test_the_gate_passes_what_is_right_and_warns_of_a_partner_on_no_list(world: Any) -> None:
    world.drop("a.jsonl", [*GOOD, a_record("3", "R"), {"partner_name": 1}])
    steps.collect("run")
    steps.consolidate("run")
    passed = steps.check_outputs("run")
    assert [warning for warning in passed["warnings"] if "'R'" in warning]
    assert world.outputs() == {}


def test_a_withdrawn_accommodation_is_gone_until_a_partner_sends_it_again(world: Any) -> None:
    world.drop("a.jsonl", [a_record("1", "A"), a_record("1", "T"), a_record("2", "T")])
    world.consolidate("first")

    def withdraw(run: str, *ids: str) -> dict[str, int]:
        steps.collect(run, ids)
        for step in ("consolidate", "publish"):
            tally: dict[str, int] = world.step(step, run)
        return tally

    assert withdraw("second", "1", "unknown")["records_in"] == 0
    assert world.current() == {"2": ("T", "Hotel")}
    assert steps.collect("third") == {}, "the catalogue is what follows from the candidates"
    world.drop("b.jsonl", [a_record("1", "T", "Inn")])
    world.consolidate("fourth")
    assert world.current() == {"1": ("T", "Inn"), "2": ("T", "Hotel")}
    withdraw("fifth", "1", "2")
    assert world.current() == {}


def test_the_reserved_names_are_used_together_only_and_else_unlisted(world: Any) -> None:
    canary = "sluice-canary"
    records = [a_record("1", canary), a_record("2", canary), a_record("2", "Q"), a_record(canary, "A")]
    world.drop("a.jsonl", [*records, a_record(canary, canary)])
    tally = world.consolidate()
    assert (tally["published"], tally["unlisted"]) == (2, 3)
    assert world.current() == {"2": ("Q", "Hotel"), canary: (canary, "Hotel")}
