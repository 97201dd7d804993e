from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events_data import ARRIVED_AT, CREATED_AT, SHARD, envelopes, event, rows, transformed, uuid_of
from sluice.pipelines.events.dedup import dedup_hour
from sluice.pipelines.events.measures import measure_hour

HOUR = datetime(2024, 4, 7, 17, tzinfo=UTC)


class Row(NamedTuple):
    """Columns that decide between two rows; `payload` distinguishes them."""

    uuid: int
    created_at: float = CREATED_AT
    arrived_at: datetime = ARRIVED_AT
    sequence_number: str = "1"
    shard_id: str = SHARD
    payload: int = 0


def write_raw(path: Path, raw: Sequence[Row], **further: Any) -> Path:
    """A raw file of these rows, as the transform would write it."""
    columns: dict[str, Any] = {
        "event_uuid": pa.array([uuid_of(row.uuid) for row in raw], pa.string()),
        "event_name": pa.array(["account:created"] * len(raw), pa.string()),
        "created_at": pa.array([row.created_at for row in raw], pa.float64()),
        "created_datetime": pa.array(["2024-04-07T17:42:01Z"] * len(raw), pa.string()),
        "event_type": pa.array(["account"] * len(raw), pa.string()),
        "event_subtype": pa.array([""] * len(raw), pa.string()),
        "event_action": pa.array(["created"] * len(raw), pa.string()),
        "arrived_at": pa.array([row.arrived_at for row in raw], pa.timestamp("us", "UTC")),
        "shard_id": pa.array([row.shard_id for row in raw], pa.string()),
        "sequence_number": pa.array([row.sequence_number for row in raw], pa.string()),
        "payload": pa.array([row.payload for row in raw], pa.int64()),
        **further,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def kept(folder: Path, raw: Sequence[Row], previous: Sequence[Row] = ()) -> list[int]:
    """Payloads that are left of one raw file."""
    result = dedup_hour(
        [write_raw(folder / "raw.parquet", raw)],
        [write_raw(folder / "previous.parquet", previous)] if previous else [],
        folder / "out",
        memory_limit_mb=256,
    )
    found = [row["payload"] for row in rows(result.files)]
    assert result.rows_in == len(raw)
    assert result.rows_out == len(found) == len(raw) - result.duplicates_in_hour - result.duplicates_of_previous
    return found


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            Row(1, created_at=CREATED_AT),
            Row(1, created_at=CREATED_AT + 0.000001, arrived_at=ARRIVED_AT - timedelta(hours=1)),
        ),
        (Row(1, arrived_at=ARRIVED_AT), Row(1, arrived_at=ARRIVED_AT + timedelta(microseconds=1), sequence_number="0")),
        (Row(1, sequence_number="9"), Row(1, sequence_number="10")),
        (Row(1, sequence_number="9" * 55), Row(1, sequence_number="1" + "0" * 55)),
        (Row(1, shard_id="shardId-000000000000"), Row(1, shard_id="shardId-000000000001")),
    ],
    ids=["created_at", "arrived_at", "sequence numbers are numbers", "of 56 digits", "shard"],
)
def test_the_earliest_row_of_an_event_is_kept_for_any_order(tmp_path: Path, first: Row, second: Row) -> None:
    first, second = first._replace(payload=1), second._replace(payload=2)
    assert kept(tmp_path / "a", [first, second]) == [1]
    assert kept(tmp_path / "b", [second, first]) == [1]


def test_duplicates_in_different_files_are_found(tmp_path: Path) -> None:
    files = [
        write_raw(
            tmp_path / f"{number}.parquet",
            [Row(1, CREATED_AT + number, payload=number), Row(100 + number, payload=100 + number)],
        )
        for number in range(5)
    ]
    result = dedup_hour(files, [], tmp_path / "out", memory_limit_mb=256)
    assert sorted(row["payload"] for row in rows(result.files)) == [0, 100, 101, 102, 103, 104]
    assert result.duplicates_in_hour == 4


def test_the_same_record_in_two_files_is_published_once(tmp_path: Path) -> None:
    files = [write_raw(tmp_path / name, [Row(1), Row(2)]) for name in ("batch-1-5.parquet", "batch-1-7.parquet")]
    result = dedup_hour(files, [], tmp_path / "out", memory_limit_mb=256)
    assert (result.rows_in, result.rows_out, result.duplicates_in_hour) == (4, 2, 2)


def test_an_event_of_a_previous_hour_is_dropped_with_all_its_copies(tmp_path: Path) -> None:
    raw = write_raw(
        tmp_path / "raw.parquet", [Row(1), Row(1), Row(2, payload=2), Row(3, payload=3), Row(3, CREATED_AT + 1)]
    )
    previous = [
        write_raw(tmp_path / "h1.parquet", [Row(1), Row(1), Row(7)]),
        write_raw(tmp_path / "h2.parquet", [Row(1), Row(8)]),
    ]
    result = dedup_hour([raw], previous, tmp_path / "out", memory_limit_mb=256)
    assert [row["payload"] for row in rows(result.files)] == [2, 3]
    assert (result.duplicates_in_hour, result.duplicates_of_previous) == (1, 2)


def test_an_hour_of_nothing_but_old_events_has_no_file(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw.parquet", [Row(1)])
    result = dedup_hour([raw], [raw], tmp_path / "out", memory_limit_mb=256)
    assert (result.files, result.rows_out, result.duplicates_of_previous) == ([], 0, 1)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_hour_without_raw_files_is_empty(tmp_path: Path) -> None:
    result = dedup_hour([], [], tmp_path / "out")
    assert (result.files, result.rows_in) == ([], 0)


def test_rows_without_a_uuid_are_left_for_the_gate(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw.parquet", [Row(1), Row(2)], event_uuid=pa.array([None, None], pa.string()))
    result = dedup_hour([raw], [raw], tmp_path / "out", memory_limit_mb=256)
    assert result.rows_out == 2
    assert measure_hour(result.files, HOUR, ["account"]).counts["null_event_uuid"] == 2


@settings(max_examples=30, deadline=None)
@given(
    files=st.lists(
        st.lists(
            st.builds(
                Row,
                uuid=st.integers(0, 6),
                created_at=st.sampled_from([CREATED_AT, CREATED_AT + 0.5, CREATED_AT + 1e-6]),
                arrived_at=st.sampled_from([ARRIVED_AT, ARRIVED_AT + timedelta(microseconds=1)]),
                sequence_number=st.sampled_from(["9", "10", "11", "1" * 56]),
                shard_id=st.sampled_from(["a", "b"]),
            ),
            max_size=12,
        ),
        min_size=2,
        max_size=5,
    )
)
def test_dedup_follows_the_rule_for_any_hour(tmp_path_factory: pytest.TempPathFactory, files: list[list[Row]]) -> None:
    folder = tmp_path_factory.mktemp("hour")
    paths = [
        write_raw(
            folder / f"{number}.parquet", [row._replace(payload=100 * number + place) for place, row in enumerate(file)]
        )
        for number, file in enumerate(files)
    ]
    raw, previous = paths[:-1], paths[-1:]
    in_order = sorted(
        (row.uuid, row.created_at, row.arrived_at, int(row.sequence_number), row.shard_id, 100 * number + place)
        for number, file in enumerate(files[:-1])
        for place, row in enumerate(file)
    )
    seen = {row.uuid for row in files[-1]}
    expected: dict[int, int] = {}
    for uuid, *_, payload in in_order:
        if uuid not in seen:
            expected.setdefault(uuid, payload)
    result = dedup_hour(raw, previous, folder / "out", memory_limit_mb=256)
    assert sorted(row["payload"] for row in rows(result.files)) == sorted(expected.values())
    assert result.duplicates_of_previous == sum(row.uuid in seen for file in files[:-1] for row in file)


def test_the_same_hour_gives_the_same_bytes(tmp_path: Path) -> None:
    files = [
        write_raw(
            tmp_path / f"{number}.parquet",
            [Row(place % 3000, payload=place) for place in range(number * 2000, number * 2000 + 4000)],
        )
        for number in range(6)
    ]
    # Many times: threads that mix rows do not mix them each time.
    results = [
        dedup_hour(order, [], tmp_path / f"{attempt}", memory_limit_mb=256)
        for attempt, order in enumerate([files, files[::-1]] * 10)
    ]
    assert len({tuple(sha256(path.read_bytes()).hexdigest() for path in result.files) for result in results}) == 1


@pytest.mark.parametrize("copies", [1, 2, 9])
def test_rows_keep_the_order_of_the_raw_files(tmp_path: Path, copies: int) -> None:
    files = [
        write_raw(
            tmp_path / f"{number}.parquet", [Row(place, payload=10_000 * number + place) for place in range(5000)]
        )
        for number in range(copies)
    ]
    result = dedup_hour(files, [], tmp_path / "out", memory_limit_mb=256)
    assert [row["payload"] for row in rows(result.files)] == list(range(5000))


def test_small_files_become_parts_of_about_the_target_size(tmp_path: Path) -> None:
    files = [
        write_raw(
            tmp_path / f"{number:02d}.parquet", [Row(number * 1000 + place, payload=place) for place in range(1000)]
        )
        for number in range(12)
    ]
    size = files[0].stat().st_size
    result = dedup_hour(files, [], tmp_path / "out", target_file_bytes=4 * size + 1000, memory_limit_mb=256)
    assert [path.name for path in result.files] == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert [pq.ParquetFile(path).metadata.num_rows for path in result.files] == [4000, 4000, 4000]


def test_large_hours_in_buckets_give_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [
        write_raw(
            tmp_path / f"{number}.parquet",
            [Row((number + place) % 700, payload=1000 * number + place) for place in range(600)],
        )
        for number in range(3)
    ]
    whole = dedup_hour(files, files[:1], tmp_path / "whole", memory_limit_mb=256)
    monkeypatch.setattr("sluice.pipelines.events.dedup.KEY_BYTES", 256 * 1024 * 1024 // 2 // 300)
    buckets = dedup_hour(files, files[:1], tmp_path / "buckets", memory_limit_mb=256)
    assert rows(whole.files) == rows(buckets.files)
    assert (whole.duplicates_in_hour, whole.duplicates_of_previous) == (
        buckets.duplicates_in_hour,
        buckets.duplicates_of_previous,
    )


def test_a_column_that_older_files_lack_is_null_in_every_part(tmp_path: Path) -> None:
    old = write_raw(tmp_path / "0.parquet", [Row(1)])
    new = write_raw(tmp_path / "1.parquet", [Row(2)], extra=pa.array([1.5]))
    result = dedup_hour([old, new], [], tmp_path / "out", target_file_bytes=1, memory_limit_mb=256)
    assert len(result.files) == 2
    assert [row["extra"] for row in rows(result.files)] == [None, 1.5]
    assert len({str(pq.ParquetFile(path).schema_arrow) for path in result.files}) == 1


def test_a_folder_that_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "year=2024" / "hour=17" / "raw.parquet", [Row(1)])
    (part,) = dedup_hour([raw], [], tmp_path / "out", memory_limit_mb=256).files
    assert "hour" not in pq.ParquetFile(part).schema_arrow.names


def test_what_the_transform_writes_is_deduplicated(tmp_path: Path) -> None:
    batches = [
        transformed(tmp_path / str(number), envelopes([event(1, filename="a"), event(2 + number)]))
        for number in range(2)
    ]
    result = dedup_hour(
        [file.path for batch in batches for file in batch.files], [], tmp_path / "out", memory_limit_mb=256
    )
    assert sorted(row["event_uuid"] for row in rows(result.files)) == [uuid_of(1), uuid_of(2), uuid_of(3)]
    assert str(pq.ParquetFile(result.files[0]).schema_arrow.field("arrived_at").type) == "timestamp[us, tz=UTC]"


# Measures of the gate


def test_the_measures_of_a_good_hour(tmp_path: Path) -> None:
    measures = measure_hour([write_raw(tmp_path / "a.parquet", [Row(1), Row(2)])], HOUR, ["account", "user"])
    assert {name: value for name, value in measures.counts.items() if value} == {"rows": 2, "distinct_uuids": 2}


def test_the_measures_show_what_is_wrong(tmp_path: Path) -> None:
    raw = [Row(1), Row(1), Row(2, HOUR.timestamp() - 0.001), Row(3, HOUR.timestamp() + 3600), Row(4, HOUR.timestamp())]
    path = write_raw(tmp_path / "a.parquet", raw, event_type=pa.array(["x", "b", "account", "x", None]))
    measures = measure_hour([path], HOUR, ["account"])
    assert measures.counts["distinct_uuids"] == 4
    assert measures.counts["outside_hour"] == 2
    assert measures.counts["null_event_type"] == 1
    assert (measures.unknown_types, measures.counts["unknown_type_rows"]) == (["b", "x"], 3)


def test_every_type_is_unknown_where_none_is_named(tmp_path: Path) -> None:
    assert measure_hour([write_raw(tmp_path / "a.parquet", [Row(1)])], HOUR, []).unknown_types == ["account"]


def test_an_hour_without_files_measures_zero(tmp_path: Path) -> None:
    measures = measure_hour([], HOUR, [])
    assert measures.counts["rows"] == 0
    filled = measure_hour([write_raw(tmp_path / "a.parquet", [Row(1)])], HOUR, ["account"])
    assert measures.counts.keys() == filled.counts.keys()
