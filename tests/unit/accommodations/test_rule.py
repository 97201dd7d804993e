"""The rule of the pipeline, on files, against an oracle of ten lines."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accommodations_world import PRIORITY, a_record, consolidate_bodies, json_lines
from sluice.engines.duckdb import duckdb_connection
from sluice.pipelines.accommodations import transform
from sluice.pipelines.accommodations.current import (
    BUCKET_BYTES,
    merge_bucket,
    newest_bytes,
    plan_buckets,
    write_by_bucket,
    write_newest,
)
from sluice.pipelines.accommodations.records import MAX_BYTES, PartnerFile, usable_partners
from sluice.pipelines.accommodations.transform import (
    Consolidated,
    consolidate_batch,
    consolidation,
    create_priority,
    read_files,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

IDS = st.sampled_from(["1", "2", "10", "é", 'a"b', "\\", "\U0001f3e8"])
PARTNERS = st.sampled_from(["A", "B", "C", 'D"', "é"])
FILES = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.tuples(IDS, PARTNERS), max_size=6), st.booleans()), max_size=4
)
LISTS = st.lists(PARTNERS, max_size=6)
SORTED_BYTES = st.sampled_from([1, transform.SORTED_BYTES])
"""With the first, each file and each of its accommodations begins a range."""


def consolidate(
    bodies: Sequence[tuple[bytes, datetime]], priority: Sequence[str], blocked: Sequence[str], folder: Path
) -> tuple[list[dict[str, Any]], Consolidated]:
    """Lines of the output files in order, and what was counted."""
    lines, result = consolidate_bodies(bodies, priority, blocked, folder)
    return [json.loads(line) for line in lines], result


def oracle(files: Sequence[list[dict[str, Any]]], priority: Sequence[str], blocked: Sequence[str]) -> dict[str, Any]:
    """The rule of the contract, from the oldest file to the newest."""
    best: dict[str, dict[str, Any]] = {}
    for record in (record for records in files for record in records):
        partner = record["partner_name"]
        if partner in blocked or partner not in priority:
            continue
        kept = best.get(record["accommodation_id"])
        if kept is None or priority.index(partner) <= priority.index(kept["partner_name"]):
            best[record["accommodation_id"]] = record
    return best


@settings(max_examples=40)
@given(FILES, LISTS, LISTS, SORTED_BYTES)
def test_a_batch_gives_what_the_oracle_gives(
    files: list[tuple[int, list[tuple[str, str]], bool]], priority: list[str], blocked: list[str], sorted_bytes: int
) -> None:
    records = [
        [a_record(key, partner, f"{file}-{line}") for line, (key, partner) in enumerate(pairs)]
        for file, (_, pairs, _) in enumerate(files)
    ]
    bodies = [
        (json.dumps(each).encode() if is_array else json_lines(each), NOW + timedelta(seconds=age))
        for each, (age, _, is_array) in zip(records, files, strict=True)
    ]
    aged = [each for _, _, each in sorted((at, index, records[index]) for index, (_, at) in enumerate(bodies))]
    expected = oracle(aged, priority, blocked)
    with TemporaryDirectory() as folder, patch.object(transform, "SORTED_BYTES", sorted_bytes):
        found, result = consolidate(bodies, priority, blocked, Path(folder))
    assert {line["accommodation_id"]: line for line in found} == expected
    # By code points, as every engine sorts them.
    assert [line["accommodation_id"] for line in found] == sorted(expected)
    counts = result.counts
    assert counts["records_in"] == sum(len(each) for each in records)
    assert counts["records_in"] == sum(
        counts[name] for name in ("published", "duplicates", "unlisted", "blocked", "quarantined")
    )
    assert counts["published"] == counts["distinct_ids"] == len(expected)


@settings(max_examples=15)
@given(
    st.permutations(range(4)),
    st.lists(st.lists(st.tuples(IDS, PARTNERS), max_size=5), min_size=4, max_size=4),
    SORTED_BYTES,
)
def test_the_current_catalogue_is_the_same_for_any_order_of_files(
    order: list[int], files: list[list[tuple[str, str]]], sorted_bytes: int
) -> None:
    priority = ["B", "A", "é"]
    records = [
        [a_record(key, partner, f"{file}-{line}") for line, (key, partner) in enumerate(pairs)]
        for file, pairs in enumerate(files)
    ]
    with TemporaryDirectory() as name, patch.object(transform, "SORTED_BYTES", sorted_bytes):
        catalogue = merge_in_order(Path(name), records, order, priority)
    expected = {key: record["accommodation_data"] for key, record in oracle(records, priority, []).items()}
    assert catalogue == expected


def merge_in_order(
    folder: Path, records: Sequence[list[dict[str, Any]]], order: Sequence[int], priority: Sequence[str]
) -> dict[str, Any]:
    """accommodation -> data of the catalogue after one batch for each file, in this order."""
    import pyarrow.parquet as pq

    candidates: list[Path] = []
    current = folder / "current.parquet"
    found: dict[str, Any] = {}
    for batch, index in enumerate(order):
        file = PartnerFile("landing", f"accommodations/{index}", "v", NOW + timedelta(seconds=index // 2), 0)
        work = folder / f"work-{batch}"
        with consolidation(work, 256) as connection:
            (folder / "file").write_bytes(json_lines(records[index]))
            read_files(connection, work, {0: (file, folder / "file")})
            ranges = consolidate_batch(connection, priority, [], folder / f"out-{batch}").ranges
            new, buckets = write_newest(connection, ranges, batch + 1, 1, work)
            assert buckets == ([0] if records[index] else [])
            merged = folder / f"candidates-{batch}.parquet"
            create_priority(connection, priority)
            counts = merge_bucket(connection, [*candidates, *new], 0, 1, batch + 1, merged, current)
        assert counts["current_distinct"] == counts["current_rows"]
        assert counts["current_unusable"] == counts["current_misplaced"] == 0
        candidates = [merged]
        rows = pq.read_table(current).to_pylist()
        found = {row["accommodation_id"]: json.loads(row["accommodation_data"]) for row in rows}
    return found


def test_the_worked_example_of_the_contract(tmp_path: Path) -> None:
    offers = {"104": "RW", "105": "XE", "441": "LD", "107": "OC"}
    body = json_lines([a_record(key, partner) for key, partners in offers.items() for partner in partners])
    found, result = consolidate([(body, NOW)], PRIORITY, [], tmp_path)
    assert {line["accommodation_id"]: line["partner_name"] for line in found} == {"105": "X", "441": "D", "107": "C"}
    assert result.unknown_partners == ["L", "O", "R", "W"]


def test_a_repeated_partner_has_its_first_place_and_a_blocked_one_none() -> None:
    assert usable_partners(["Q", "B", "Q", "C"], ["B", "X"]) == ["Q", "C"]


@given(st.lists(st.integers(60, 40_000), min_size=1, max_size=60))
@settings(max_examples=15)
def test_output_files_are_full_in_order_and_no_line_is_split(sizes: list[int]) -> None:
    records = [a_record(f"{number:05d}", "A", "é" * (size // 2)) for number, size in enumerate(sizes)]
    with TemporaryDirectory() as folder:
        found, result = consolidate([(json_lines(records), NOW)], ["A"], [], Path(folder))
        packed = [path.read_bytes() for path in result.outputs]
    assert [line["accommodation_data"] for line in found] == [each["accommodation_data"] for each in records]
    assert all(0 < len(content) <= MAX_BYTES and content.endswith(b"}\n") for content in packed)
    assert all(len(content) >= 0.9 * MAX_BYTES for content in packed[:-1])


def test_a_line_of_500_000_bytes_is_published_and_a_longer_one_is_not(tmp_path: Path) -> None:
    empty = len(json.dumps(a_record("1", "A", ""), separators=(",", ":"))) + 1
    for more, published in ((0, 1), (1, 0)):
        record = a_record("1", "A", "x" * (MAX_BYTES - empty + more))
        body = json.dumps(record, separators=(",", ":")).encode()
        folder = tmp_path / str(more)
        folder.mkdir()
        found, result = consolidate([(body, NOW)], ["A"], [], folder)
        assert len(found) == published
        assert result.rejected == ({} if published else {"too_large": 1})


def test_a_number_that_is_longer_after_parsing_does_not_exceed_the_limit(tmp_path: Path) -> None:
    data = "[" + ",".join(["1E15"] * 60_000) + "]"
    body = f'{{"partner_name":"A","accommodation_id":"1","accommodation_data":{{"n":{data}}}}}'.encode()
    _, result = consolidate([(body, NOW)], ["A"], [], tmp_path)
    assert result.counts["largest_file_bytes"] <= MAX_BYTES


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    body = json_lines([a_record(str(number % 700), "ABC"[number % 3], str(number)) for number in range(5000)])
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _, result = consolidate([(body, NOW), (body, NOW)], ["C", "A"], ["B"], tmp_path / name)
        found.append([path.read_bytes() for path in result.outputs])
    assert found[0] == found[1]


@pytest.mark.large
def test_candidates_of_many_buckets_are_written_in_bounded_memory(tmp_path: Path) -> None:
    rows, buckets, path = 1_000_000, 256, tmp_path / "sorted.parquet"
    query = (
        f"SELECT md5(n::VARCHAR) AS accommodation_id, repeat(md5((n + 1)::VARCHAR), 8) AS data FROM range({rows}) t(n)"
    )
    with duckdb_connection(160, tmp_path / "spill", threads=2) as connection:
        assert write_by_bucket(connection, query, buckets, path) == list(range(buckets))
        bucket = connection.execute(f"SELECT bucket FROM read_parquet('{path}')").fetchnumpy()["bucket"]
    assert len(bucket) == rows
    assert (bucket[1:] >= bucket[:-1]).all(), "who reads one bucket would read the whole file"


@pytest.mark.large
def test_records_of_any_width_are_consolidated_in_bounded_memory(tmp_path: Path) -> None:
    wide, narrow, files = 16_000, 60_000, {}
    for number in range(4):
        path = tmp_path / f"file-{number}"
        with path.open("w") as lines:
            for row in range(narrow):
                lines.write(line_of(f"a{number}-{row}", "{}"))
            for row in range(wide):
                text = random.Random(row + number).randbytes(2_500).hex()
                lines.write(line_of(hashlib.md5(f"{row + number * 5_000}".encode()).hexdigest(), f'{{"n":"{text}"}}'))
                if row % 5 == 0:
                    lines.write(line_of("not an object", f'"{text}"'))
        files[number] = (PartnerFile("landing", f"{number}", "v", NOW, 0), path)
    expected = wide + 15_000 + 4 * narrow
    (tmp_path / "work").mkdir()
    with consolidation(tmp_path / "work", 352) as connection:
        read_files(connection, tmp_path / "work", files)
        result = consolidate_batch(connection, ["A"], [], tmp_path / "out")
        assert result.counts["published"] == result.counts["distinct_ids"] == expected
        assert len(result.ranges) > 4
        buckets = plan_buckets(1, newest_bytes(connection))
        newest, found = write_newest(connection, result.ranges, 1, buckets, tmp_path)
        assert len(found) == buckets > 1
        targets = tmp_path / "candidates.parquet", tmp_path / "current.parquet"
        merged = [merge_bucket(connection, newest, bucket, buckets, 1, *targets)["current_rows"] for bucket in found]
    assert sum(merged) == expected
    assert result.rejected_path
    with result.rejected_path.open() as lines:
        sources = [json.loads(line)["source"].partition("#line=") for line in lines]
    assert result.rejected == {"wrong_type": 4 * wide // 5} == {"wrong_type": len(sources)}
    places = [(file, int(line)) for file, _, line in sources]
    assert places == sorted(places)


def line_of(name: str, data: str) -> str:
    return f'{{"partner_name":"A","accommodation_id":"{name}","accommodation_data":{data}}}\n'


@pytest.mark.parametrize(
    ("buckets", "size_bytes", "expected"), [(1, 0, 1), (1, BUCKET_BYTES, 1), (1, BUCKET_BYTES + 1, 4), (4, 10**9, 64)]
)
def test_buckets_grow_with_the_catalogue(buckets: int, size_bytes: int, expected: int) -> None:
    assert plan_buckets(buckets, size_bytes) == expected
