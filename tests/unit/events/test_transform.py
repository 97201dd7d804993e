from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events_data import (
    ABSENT,
    ARRIVED_AT,
    CREATED_AT,
    SHARD,
    envelopes,
    event,
    rejections,
    rows,
    transformed,
    uuid_of,
)
from sluice.pipelines.events.records import RAW_COLUMNS, RESCUED_COLUMN, Envelope
from sluice.pipelines.events.transform import transform_batch, write_envelopes


def only_row(folder: Path, record: str) -> dict[str, Any]:
    result = transformed(folder, envelopes([record]))
    (row,) = rows(file.path for file in result.files)
    return row


def reason_of(folder: Path, record: str) -> str | None:
    result = transformed(folder, envelopes([record]))
    assert result.rows_in == 1 == result.rows_out + result.rows_rejected
    assert [line["record"] for line in rejections(result)] == [record] * result.rows_rejected
    return next(iter(result.rejected), None)


def test_an_event_becomes_a_row_with_what_is_known_of_it(tmp_path: Path) -> None:
    assert only_row(tmp_path, event(7)) == {
        "event_uuid": uuid_of(7),
        "event_name": "account:created",
        "created_at": CREATED_AT,
        "created_datetime": "2024-04-07T17:42:01Z",
        "event_type": "account",
        "event_subtype": "",
        "event_action": "created",
        "arrived_at": ARRIVED_AT,
        "shard_id": SHARD,
        "sequence_number": str(10**55),
        "rescued_data": None,
    }


def test_the_parquet_types_are_those_of_the_catalog(tmp_path: Path) -> None:
    (file,) = transformed(tmp_path, envelopes([event()])).files
    schema = pq.ParquetFile(file.path).schema_arrow
    assert schema.names == [*RAW_COLUMNS, RESCUED_COLUMN]
    assert str(schema.field("arrived_at").type) == "timestamp[us, tz=UTC]"
    assert str(schema.field("created_at").type) == "double"


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_the_hour_is_that_of_utc_on_a_machine_in_any_time_zone(tmp_path: Path, zone: str) -> None:
    write_envelopes(envelopes([event()]), tmp_path / "e.parquet")
    program = f"""
from pathlib import Path
from sluice.pipelines.events.transform import transform_batch
from sluice.pipelines.events.records import hour_of
import pyarrow.parquet as pq
(file,) = transform_batch([Path({str(tmp_path / "e.parquet")!r})], {{}}, Path({str(tmp_path / "out")!r})).files
print(file.hour.isoformat(), hour_of({CREATED_AT}).isoformat(), pq.read_table(file.path)["created_datetime"][0])
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["2024-04-07T17:00:00+00:00", "2024-04-07T17:00:00+00:00", "2024-04-07T17:42:01Z"]


@pytest.mark.parametrize(
    ("event_name", "tokens"),
    [
        ("login", ("login", "", "")),
        ("account:created", ("account", "", "created")),
        ("lesson:video:started", ("lesson", "video", "started")),
        ("a:b:c:d", ("a", "b", "d")),
        (":created", ("", "", "created")),
        ("account:", ("account", "", "")),
        ("a:b:", ("a", "b", "")),
        ("::", ("", "", "")),
        (":", ("", "", "")),
        ("", ("", "", "")),
        ("überweisung:✓:完了", ("überweisung", "✓", "完了")),
        ("a\nb:c", ("a\nb", "", "c")),
        ("5:true", ("5", "", "true")),
        ("true", ("true", "", "")),
        ("null", ("null", "", "")),
        ("[x]:{y}", ("[x]", "", "{y}")),
        ('quo"ted:\\back', ('quo"ted', "", "\\back")),
        ("nul\x00:x", ("nul\x00", "", "x")),
    ],
)
def test_tokens_of_the_name(tmp_path: Path, event_name: str, tokens: tuple[str, str, str]) -> None:
    row = only_row(tmp_path, event(event_name=event_name))
    assert row["event_name"] == event_name
    assert (row["event_type"], row["event_subtype"], row["event_action"]) == tokens


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8"), max_size=12) | st.from_regex(r"[a-z:]{0,8}", fullmatch=True),
        min_size=1,
        max_size=40,
    )
)
def test_tokens_follow_the_rule_for_any_name(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    batch = envelopes(event(number, event_name=name) for number, name in enumerate(names))
    result = transformed(tmp_path_factory.mktemp("names"), batch)
    found = rows(file.path for file in result.files)
    assert [row["event_name"] for row in found] == names
    for row in found:
        first, *others = row["event_name"].split(":")
        assert row["event_type"] == first
        assert row["event_subtype"] == (others[0] if len(others) > 1 else "")
        assert row["event_action"] == (others[-1] if others else "")


@pytest.mark.parametrize("spelling", [str.upper, lambda text: "{" + text + "}", lambda text: "{" + text.upper() + "}"])
def test_two_spellings_of_a_uuid_are_one_event(tmp_path: Path, spelling: Any) -> None:
    canonical = "123e4567-e89b-42d3-a456-42661417400a"
    assert only_row(tmp_path, event(event_uuid=spelling(canonical)))["event_uuid"] == canonical


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("", "empty"),
        (" \t\r\n", "empty"),
        ("hello", "not_json"),
        ('{"event_uuid":', "not_json"),
        (event()[:-1], "not_json"),
        (event() + event(), "not_json"),
        (event().replace('"', "'"), "not_json"),
        ("\ufeff" + event(), "not_json"),
        ("b'\\xff'", "not_json"),
        (event(x=float("nan")), "not_json"),
        (event(x=[float("-inf")]), "not_json"),
        (event()[:-1] + ", }", "not_json"),
        ('{"event_uuid": "\\ud800"}', "not_json"),
        ("null", "not_object"),
        ("5", "not_object"),
        (f"[{event()}]", "not_object"),
        (json.dumps(event()), "not_object"),
        ("{}", "missing_field"),
        (event(event_uuid=ABSENT), "missing_field"),
        (event(event_name=None), "missing_field"),
        (event(created_at=ABSENT), "missing_field"),
        (event(event_uuid=5), "wrong_type"),
        (event(event_uuid=[uuid_of(1)]), "wrong_type"),
        (event(event_name=5), "wrong_type"),
        (event(event_name=-0.5), "wrong_type"),
        (event(event_name=True), "wrong_type"),
        (event(event_name=float("nan")), "not_json"),
        (event(event_name={"a": 1}), "wrong_type"),
        (event(event_name=["a"]), "wrong_type"),
        (event(created_at="1712511721.022075"), "wrong_type"),
        (event(created_at="soon"), "wrong_type"),
        (event(created_at=True), "wrong_type"),
        (event(created_at=[CREATED_AT]), "wrong_type"),
        (event(event_uuid=""), "bad_uuid"),
        (event(event_uuid="123"), "bad_uuid"),
        (event(event_uuid=uuid_of(1) + "\n"), "bad_uuid"),
        (event(event_uuid=uuid_of(1).replace("-", "")), "bad_uuid"),
        (event(event_uuid=uuid_of(1)[:-1] + "g"), "bad_uuid"),
        (event(event_uuid="{" + uuid_of(1)), "bad_uuid"),
        (event(event_uuid="urn:uuid:" + uuid_of(1)), "bad_uuid"),
        (event(created_at=0), "bad_time"),
        (event(created_at=-CREATED_AT), "bad_time"),
        (event(created_at=946684799.999), "bad_time"),
        (event(created_at=CREATED_AT * 1000), "bad_time"),
        (event(created_at=32503680000), "bad_time"),
        (event(created_at=1e300), "bad_time"),
        (event(created_at=float("nan")), "not_json"),
        (event(created_at=float("-inf")), "not_json"),
        (event(created_at=123).replace("123", "1e999"), "bad_time"),
        (event(event_uuid="x", created_at=0), "bad_uuid"),
        (event().replace("}", ', "event_name": "other"}'), "repeated_field"),
        (event(a=1).replace("}", ', "a": 1}'), "repeated_field"),
        (event(**{"a b": 1}).replace("}", ', "a b": 2}'), "repeated_field"),
    ],
)
def test_a_record_that_breaks_a_rule_is_kept_with_its_reason(tmp_path: Path, record: str, reason: str) -> None:
    assert reason_of(tmp_path, record) == reason


NO_COLUMN: dict[str, Any] = {"a b": None}
NAMES_TAKEN: dict[str, Any] = {"": 1, "~/": 1, "hour": 3, "shard_id": "x"}


@pytest.mark.parametrize(
    "record",
    [
        "\n " + event() + "\r\n",
        event(created_at=1712511721),
        event(created_at=946684800),
        event(created_at=(ARRIVED_AT + timedelta(days=1)).timestamp()),
        event(event_name="unknown:thing"),
        event(text="x" * 1_000_000),
        event(**NO_COLUMN),
        event(**NAMES_TAKEN),
        event(userId=1, userid=2),
        event(Event_Name="x"),
        event(text="NaN, -Infinity, }"),
        event(event_name="a").replace('"a"', '"\\u0061"'),
    ],
)
def test_what_is_only_unusual_is_published(tmp_path: Path, record: str) -> None:
    assert reason_of(tmp_path, record) is None


def test_a_time_more_than_a_day_after_its_arrival_is_absurd(tmp_path: Path) -> None:
    assert (
        reason_of(tmp_path, event(created_at=(ARRIVED_AT + timedelta(days=1, milliseconds=1)).timestamp()))
        == "bad_time"
    )


def test_bad_records_never_fail_the_good_ones_of_their_batch(tmp_path: Path) -> None:
    bad = ["", "{", "[]", event(event_uuid=1), event(created_at="x"), "\x00"]
    batch = envelopes(record for number in range(50) for record in [event(number), bad[number % len(bad)]])
    result = transformed(tmp_path, batch)
    assert (result.rows_in, result.rows_out, result.rows_rejected) == (100, 50, 50)
    assert [row["event_uuid"] for row in rows(file.path for file in result.files)] == [
        uuid_of(number) for number in range(50)
    ]
    assert {line["sequence_number"] for line in rejections(result)} == {each.sequence_number for each in batch[1::2]}
    assert {line["shard_id"] for line in rejections(result)} == {SHARD}


def test_each_hour_and_shard_has_its_own_file(tmp_path: Path) -> None:
    other = "shardId-000000000001"
    batch = [
        *envelopes([event(1), event(2, created_at=CREATED_AT - 3600), event(3)]),
        *envelopes([event(4), event(5, created_at=CREATED_AT - 86400)], other),
    ]
    found = {
        (f"{file.hour:%dT%H}", file.shard_id): (file.rows, len(rows([file.path])))
        for file in transformed(tmp_path, batch).files
    }
    assert found == {
        ("07T17", SHARD): (2, 2),
        ("07T16", SHARD): (1, 1),
        ("07T17", other): (1, 1),
        ("06T17", other): (1, 1),
    }


def test_events_of_many_late_hours_all_arrive(tmp_path: Path) -> None:
    batch = envelopes(event(number, created_at=CREATED_AT - 3600 * number) for number in range(200))
    result = transformed(tmp_path, batch)
    assert len(result.files) == 200
    assert {row["event_uuid"] for row in rows(file.path for file in result.files)} == {
        uuid_of(number) for number in range(200)
    }


def test_the_same_batch_gives_the_same_bytes(tmp_path: Path) -> None:
    batch = envelopes(
        event(number, created_at=CREATED_AT - number, size=number) if number % 7 else "{" for number in range(5000)
    )
    hashes = []
    for name in ("first", "second"):
        result = transformed(tmp_path / name, batch)
        assert result.rejected_path
        hashes.append(
            [
                sha256(path.read_bytes()).hexdigest()
                for path in [*(file.path for file in result.files), result.rejected_path]
            ]
        )
    assert hashes[0] == hashes[1]


def test_no_envelopes_no_files(tmp_path: Path) -> None:
    result = transform_batch([], {"a": "BIGINT"}, tmp_path)
    assert (result.files, result.rejected_path, result.rows_in, result.columns) == ([], None, 0, {"a": "BIGINT"})
    empty = transformed(tmp_path, [])
    assert (empty.files, empty.rejected_path, empty.rows_in) == ([], None, 0)


def test_the_engine_writes_only_the_files(tmp_path: Path) -> None:
    result = transformed(tmp_path, envelopes([event(), "{"]))
    left = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {result.rejected_path, *(file.path for file in result.files)}
    assert not (tmp_path / "out" / "spill").exists()


def test_envelopes_are_streamed_in_groups(tmp_path: Path) -> None:
    count = write_envelopes(
        (Envelope(SHARD, str(number), datetime(2024, 4, 7, tzinfo=UTC), "{}") for number in range(50_001)),
        tmp_path / "e.parquet",
    )
    written = pq.ParquetFile(tmp_path / "e.parquet")
    assert (count, written.metadata.num_rows, written.metadata.num_row_groups) == (50_001, 50_001, 2)
