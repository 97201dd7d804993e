"""The rule on files: types, reasons, line numbers and aggregates, compared with an oracle that shares no code."""

from __future__ import annotations

import csv
import io
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_data import ADDRESS, NUMBER, aggregate, integer_of, lines
from datasets_world import HEADER, csv_of, expected, row, write
from sluice.core.quarantine import RejectedRecord
from sluice.pipelines.datasets import blocks, framing
from sluice.pipelines.datasets.transform import aggregate_file, check_not_all_rejected, exact_sum
from sluice_dev.samples.datasets import Shape, generate, write_csv


def test_two_hundred_rows_equal_an_independent_computation_exactly(tmp_path: Path) -> None:
    made = list(generate(Shape(200, dps=7, malformed=0.1, seed=3)))
    good = [(each.dp, each.memory, each.percentage, each.ratio) for each in made if not each.is_malformed]
    found, rows, rejected = aggregate(tmp_path, csv_of(*(each.text for each in made)))
    assert rows == expected(good)
    assert found.accepted == len(good)
    assert sorted(rejected) == [number for number, each in enumerate(made, 2) if each.is_malformed]


def test_the_types_of_the_file_are_those_of_the_contract(tmp_path: Path) -> None:
    found, _, _ = aggregate(tmp_path, csv_of(row()), metadata={"source": ADDRESS})
    schema = pq.read_schema(found.output_path)
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "dp": pa.string(),
        "memory_min": pa.int16(),
        "memory_max": pa.int16(),
        "memory_count": pa.int64(),
        "percentage_max": pa.float64(),
        "percentage_avg": pa.float64(),
        "ratio_max": pa.float64(),
    }
    assert schema.metadata[b"source"] == ADDRESS.encode()


def test_a_file_gives_the_same_bytes_in_any_number_of_threads_and_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_csv(path, Shape(3000, dps=50, malformed=0.05, seed=1))
    results = set()
    for number, (threads, block_bytes) in enumerate([(1, 1 << 23), (2, 5000), (3, 1777)]):
        found = aggregate_file(
            path, ADDRESS, tmp_path / str(number), metadata={"a": "b"}, threads=threads, block_bytes=block_bytes
        )
        assert found.rejected_path
        results.add((found.output_path.read_bytes(), found.rejected_path.read_bytes()))
    assert len(results) == 1


def judge(fields: list[str]) -> tuple[str, int, float, float] | None:
    """What the contract makes of a row; None to reject it."""
    if len(fields) != 8:
        return None
    _, _, memory, percentage, ratio, _, dp, recovered = fields
    memory_value, recovered_value = integer_of(memory), integer_of(recovered)
    if memory_value is None or recovered_value is None:
        return None
    if not (NUMBER.fullmatch(percentage) and NUMBER.fullmatch(ratio)):
        return None
    if not (-(2**15) <= memory_value < 2**15 and -(2**7) <= recovered_value < 2**7):
        return None
    if not (0 <= float(percentage) <= 1 and math.isfinite(float(ratio)) and dp.strip(" \t\n\f\r")):
        return None
    return dp, memory_value, float(percentage), float(ratio)


anything = st.sampled_from(
    [
        "",
        "nan",
        "inf",
        "-1",
        "1_0",
        "0x1",
        "1,5",
        "1e3",
        " 7 ",
        "\u0661",
        "\x00",
        "1e999",
        "12.0",
        "1.2e1",
        "12.5",
        "+-1",
        "\v7",
    ]
)
names = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=5)
rows_of_text = st.tuples(
    names,
    names,
    st.one_of(st.integers(-40000, 40000).map(str), anything),
    st.one_of(st.floats(0, 1).map(repr), st.floats().map(repr), anything),
    st.one_of(st.floats().map(repr), anything),
    names,
    st.one_of(st.sampled_from(["a", "b", "ü", 'q"', "1,2", "x\ny"]), names),
    st.one_of(st.integers(-200, 200).map(str), anything),
).map(list)
ragged_rows = st.lists(names, min_size=1, max_size=10)


@settings(max_examples=60)
@given(
    rows=st.lists(st.one_of(rows_of_text, rows_of_text, ragged_rows), max_size=12),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    last_newline=st.booleans(),
    block_bytes=st.sampled_from([250, 1000, 1 << 20]),
)
def test_any_file_is_read_as_python_reads_it(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    quoting: Any,
    newline: str,
    bom: bool,
    last_newline: bool,
    block_bytes: int,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=newline)
    good, bad, line = [], [], 2
    for each in rows:
        before = text.tell()
        writer.writerow(each)
        written = text.getvalue()[before:]
        judged = judge(each)
        if judged:
            good.append(judged)
        elif written.strip(", \t\r\n"):
            bad.append(line)
        line += written.count("\n")
    body = HEADER + newline + text.getvalue()
    body = body if last_newline else body.removesuffix(newline)
    found, aggregated, rejected = aggregate(
        tmp_path_factory.mktemp("x"),
        (b"\xef\xbb\xbf" if bom else b"") + body.encode(),
        block_bytes=block_bytes,
        threads=2,
    )
    assert aggregated == expected(good)
    assert list(rejected) == bad
    assert found.records_in == len(good) + len(bad)


def test_each_reason_names_the_value_and_the_row_is_kept_as_it_came(tmp_path: Path) -> None:
    bad = {
        "memory_not_integer": row(memory='"1,234"'),
        "memory_out_of_range": row(memory=32768),
        "percentage_not_number": row(percentage="nan"),
        "percentage_out_of_range": row(percentage=1.0000001),
        "ratio_not_number": row(ratio="inf"),
        "ratio_out_of_range": row(ratio="1e999"),
        "recovered_not_integer": row(recovered="yes"),
        "recovered_out_of_range": row(recovered=-129),
        "missing_dp": row(dp="  "),
        "wrong_column_count": row() + ",more",
    }
    found, rows, _ = aggregate(tmp_path, csv_of(row(), *bad.values()))
    assert {each["reason"]: each["record"] for _, each in lines(found)} == bad
    assert [line for line, _ in lines(found)] == list(range(3, 13))
    details = {each["reason"]: each["detail"] for _, each in lines(found)}
    assert details["memory_not_integer"] == "memory '1,234' is not an integer"
    assert details["wrong_column_count"] == "the row has 9 fields, not 8"
    assert rows == expected([("a", 1, 0.5, 2.0)])


def test_line_numbers_are_those_of_an_editor_also_behind_quoted_newlines(tmp_path: Path) -> None:
    body = csv_of(
        row(record_id='"one\ntwo\nthree"'), row(memory="x"), row(record_id='"one\ntwo"', memory="y"), row(memory="z")
    )
    found, rows, rejected = aggregate(tmp_path, body)
    assert list(rejected) == [5, 6, 8]
    assert lines(found)[1][1]["record"] == row(record_id='"one\ntwo"', memory="y")
    assert rows == expected([("a", 1, 0.5, 2.0)])


def test_a_quote_that_is_never_closed_costs_its_own_row_only(tmp_path: Path) -> None:
    good = [row(memory=number) for number in range(500)]
    body = csv_of(*good[:250], row(record_id='"never closed'), *good[250:])
    for block_bytes in (700, 1 << 20):
        _, rows, rejected = aggregate(tmp_path, body, block_bytes=block_bytes)
        assert rejected == {252: "unclosed_quote"}
        assert rows[0]["memory_count"] == 500


@pytest.mark.parametrize("block_bytes", [100, 2000, 1 << 20])
def test_only_the_line_that_is_too_long_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(framing, "RECORD_MAX_BYTES", 20_000)
    body = csv_of(row(), "x" * 20_001, row(memory="bad"), row(memory=3))
    found, rows, rejected = aggregate(tmp_path, body, block_bytes=block_bytes)
    assert rejected == {3: "record_too_long", 4: "memory_not_integer"}
    assert lines(found)[0][1]["record"] == "x" * 16 * 1024
    assert rows[0]["memory_count"] == 2


def test_bytes_that_are_not_utf8_cost_their_own_row_only(tmp_path: Path) -> None:
    body = csv_of(row(), row(memory=2), row(memory=3)).replace(b"c,2", b"\xff,2")
    found, rows, rejected = aggregate(tmp_path, body)
    assert rejected == {3: "bad_encoding"}
    assert rows[0]["memory_count"] == 2
    assert found.records_in == 3


def test_nul_bytes_are_read_as_what_they_are(tmp_path: Path) -> None:
    _, rows, rejected = aggregate(tmp_path, csv_of(row(record_id="a\0b"), row(memory="1\x002"), row(dp="a\0")))
    assert rejected == {3: "memory_not_integer"}
    assert [each["dp"] for each in rows] == ["a", "a\0"]


def test_empty_lines_and_what_a_spreadsheet_leaves_are_no_records(tmp_path: Path) -> None:
    found, rows, rejected = aggregate(tmp_path, csv_of(row(), "", ",,,,,,,", "  ", ",,", row(memory="x")) + b"\n\r\n")
    assert (found.records_in, rejected) == (2, {7: "memory_not_integer"})
    assert rows[0]["memory_count"] == 1


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    body = b"dp,memory,recovered,ratio,percentage,fob,class,id\na,7,1,3.5,0.25,f,c,i\n"
    _, rows, _ = aggregate(tmp_path, body)
    assert rows == expected([("a", 7, 0.25, 3.5)])


def test_a_file_without_rows_is_a_dataset_without_rows(tmp_path: Path) -> None:
    for body in (HEADER.encode(), csv_of(), b"\xef\xbb\xbf" + HEADER.encode() + b"\r\n"):
        found, rows, _ = aggregate(tmp_path, body)
        check_not_all_rejected(found)
        assert (rows, found.records_in, found.rejected_path) == ([], 0, None)


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        (b"", "empty_file", "without a header"),
        (b"\xef\xbb\xbf\n", "empty_file", "without a header"),
        (b"\n" + csv_of(row()), "wrong_header", "line 1 is empty"),
        (HEADER.encode("utf-16"), "not_utf8", "save it as UTF-8"),
        (HEADER.encode("utf-16-le"), "not_utf8", "NUL"),
        (b"caf\xe9," + HEADER.encode(), "not_utf8", "save the file as UTF-8"),
        (b"\x1f\x8b\x08\x00rest", "not_csv", "gzip"),
        (b"PK\x03\x04rest", "not_csv", "xlsx"),
        (HEADER.replace(",", ";").encode(), "wrong_header", "lacks 'id'"),
        (
            HEADER.replace("memory", "Memory").encode(),
            "wrong_header",
            "lacks 'memory' and has unknown columns 'Memory'",
        ),
        (HEADER.encode() + b",more\n", "wrong_header", "has unknown columns 'more'"),
        (HEADER.encode() + b",dp\n", "wrong_header", "has twice 'dp'"),
        (HEADER.removesuffix(",recovered").encode(), "wrong_header", "lacks 'recovered'"),
        (b'"id,class\n', "wrong_header", "not CSV"),
        (row().encode() + b"\n", "wrong_header", "line 1 must name id, class, memory"),
        (b"x" * 3_000_000, "wrong_header", "line 1 is not CSV"),
    ],
)
def test_a_file_that_is_no_such_csv_is_rejected_whole_and_says_what_to_do(
    tmp_path: Path, body: bytes, reason: str, said: str
) -> None:
    with pytest.raises(RejectedRecord, match=re.escape(said)) as rejected:
        aggregate(tmp_path, body)
    assert rejected.value.reason == reason
    assert len(rejected.value.detail) < 600


def test_a_file_of_which_no_row_is_good_is_rejected(tmp_path: Path) -> None:
    found, _, _ = aggregate(tmp_path, csv_of(row(percentage=45.2), row(percentage=77)))
    with pytest.raises(RejectedRecord, match=re.escape("none of 2 rows is valid (2 percentage_out_of_range)")):
        check_not_all_rejected(found)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_the_average_is_that_of_the_exact_sum(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    body = csv_of(*(row(percentage=repr(value)) for value in values))
    _, rows, _ = aggregate(tmp_path_factory.mktemp("x"), body, block_bytes=200)
    assert rows[0]["percentage_avg"] == math.fsum(values) / len(values)
    assert rows[0]["percentage_avg"] == float(sum(map(Fraction, values))) / len(values)


def test_a_sum_of_more_than_a_float_holds_is_rounded_once() -> None:
    # Between two float64 and a little more: rounding the parts first would give the lower one.
    assert exact_sum(2**93 + 2**40, 1) == 2.0**53 + 2
    assert exact_sum(2**93 + 2**40, 0) == 2.0**53
    assert exact_sum(2**93 + 2**40, 0, [2.0**-900]) == 2.0**53 + 2


def test_a_negative_zero_is_zero(tmp_path: Path) -> None:
    _, rows, _ = aggregate(tmp_path, csv_of(row(percentage="-0.0", ratio="-0")))
    assert [math.copysign(1, rows[0][name]) for name in ("percentage_max", "percentage_avg", "ratio_max")] == [1, 1, 1]


@pytest.mark.large
def test_many_groups_spill_and_are_written_in_order(tmp_path: Path) -> None:
    body = csv_of(*(row(dp=f"{number * 7919 % 100_000:06d}", memory=number % 100) for number in range(100_000)))
    found, _, _ = aggregate(tmp_path, body, memory_limit_mb=256)
    dps = pq.read_table(found.output_path).column("dp").to_pylist()
    assert dps == [f"{number:06d}" for number in range(100_000)]
    assert not (tmp_path / "out" / "spill").exists()


def test_blocks_are_bounded_and_hold_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "RECORD_MAX_BYTES", 500)
    path = write(tmp_path, csv_of(*[row()] * 500, '"never closed', *[row()] * 500, '"a', 'b"', *[row()] * 500))
    with path.open("rb") as file:
        blocks.read_header(file)
        found = list(framing.read_blocks(file, 4000))
    assert b"".join(each.data for each in found) == path.read_bytes().split(b"\n", 1)[1]
    assert max(len(each.data) for each in found) <= 4000
    assert not [each for each in found if each.data.startswith(b'b"')], "a record was cut in two"
