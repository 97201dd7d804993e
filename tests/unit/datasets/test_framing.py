"""The end of a record, compared with an independent state machine; independent of blocks and other records."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasets_world import csv_of, row, write
from sluice.pipelines.datasets import blocks, framing
from sluice.pipelines.datasets.records import COLUMNS
from sluice.pipelines.datasets.transform import aggregate_file

MAX_BYTES, MAX_LINES, STORED_BYTES = 120, 4, 100


@pytest.fixture(autouse=True, scope="module")
def small_limits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "RECORD_MAX_BYTES", MAX_BYTES)
        patch.setattr(framing, "RECORD_MAX_LINES", MAX_LINES)
        patch.setattr(framing, "BLOCK_MAX_LINES", 7)
        for module in (framing, blocks):
            patch.setattr(module, "STORED_BYTES", STORED_BYTES)
        patch.setattr(framing, "_CHECKED_BYTES", 50)
        yield


class Found(NamedTuple):
    line: int
    record: bytes
    fault: str | None


def read_byte_by_byte(body: bytes) -> list[Found]:
    """The records of a body by the rules of `framing`, without any of its code."""
    found, start, line = [], 0, 2
    while start < len(body):
        length = len(body[start:].split(b"\n")[0])
        end, lines = (None, 1) if length > MAX_BYTES else end_of_record(body, start)
        if end is None:
            fault = "record_too_long" if length > MAX_BYTES else "unclosed_quote"
            end, lines = start + length, 1
        else:
            fault = None
        shown = start + STORED_BYTES if fault == "record_too_long" else end
        found.append(Found(line, body[start:shown], fault))
        start, line = end + 1, line + lines
    return found


def end_of_record(body: bytes, start: int) -> tuple[int | None, int]:
    """Where the record ends that begins at `start`, and its lines; None where a quote is not closed."""
    state, is_over_lines, lines, at = "field start", False, 1, start
    while True:
        byte = body[at : at + 1]
        if state == "quoted":
            if byte == b"":
                return None, 1
            if byte == b"\n":
                lines, is_over_lines = lines + 1, True
            elif byte == b'"' and body[at + 1 : at + 2] == b'"':
                at += 1
            elif byte == b'"':
                behind = body[at + 1 :].split(b"\n")[0].lstrip(b" \t")
                if is_over_lines and not behind.startswith(b",") and behind not in (b"", b"\r"):
                    return None, 1
                state = "plain"
        elif byte in (b"", b"\n"):
            too_much = lines > 1 and (lines > MAX_LINES or at - start > MAX_BYTES)
            return (None, 1) if too_much else (at, lines)
        elif byte == b",":
            state = "field start"
        elif byte == b'"' and state == "field start":
            state, is_over_lines = "quoted", False
        else:
            state = "plain"
        at += 1


GOOD = b"i,c,1,0.5,2.0,f,a,0"
PIECES = [
    b'"',
    b'"',
    b'""',
    b'",',
    b',"',
    b",",
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b"\xef\xbb\xbf",
    b"\0",
    b"\xff",
    b" ",
    b"x",
]
ROWS = [
    GOOD,
    GOOD + b"\n",
    GOOD[1:],
    b'"q\nr"' + GOOD[1:] + b"\n",
    b'"q,""",' + GOOD[2:] + b"\r\n",
    GOOD.replace(b"c", b"f\rx") + b"\n",
    GOOD.replace(b"c", b'5" x') + b"\n",
    b'1,"5,' + GOOD[4:] + b"\n",
    b"1,2,",
    b"z" * 99,
]
bodies = st.lists(st.sampled_from(PIECES + ROWS), max_size=30).map(b"".join)


def framed(body: bytes, block_bytes: int) -> list[Found]:
    found: list[Found] = []
    for block in framing.read_blocks(io.BytesIO(body), block_bytes):
        if block.records is None:
            lines = block.data.removesuffix(b"\n").split(b"\n")
            found += [Found(number, line, None) for number, line in enumerate(lines, block.first_line)]
        else:
            found += [Found(line, block.data[start:end], fault) for line, start, end, fault in block.records]
    return found


def parsed(body: bytes, block_bytes: int) -> tuple[list[Any], list[Any]]:
    """Rows that are no blanks, and rejected ones."""
    rows: list[Any] = []
    rejected: list[Any] = []
    for block in framing.read_blocks(io.BytesIO(body), block_bytes):
        found = blocks.parse_block(block, COLUMNS)
        taken = list(zip(*found.table.to_pydict().values(), strict=True))
        records = blocks.records_at(block, [each[0] for each in taken])
        rows += [(*each, record) for each, record in zip(taken, records, strict=True) if not blocks.is_blank(record)]
        rejected += found.rejected
    return rows, rejected


@settings(max_examples=150)
@example(b"\n" * 6 + b'"q\nr"' + GOOD[1:] + b"\n" + b"z" * 99)
@given(bodies)
def test_records_end_where_a_state_machine_ends_them_in_blocks_of_any_size(body: bytes) -> None:
    expected = read_byte_by_byte(body)
    for block_bytes in {*range(1, 12), 17, 40, 100, len(body) // 2 + 1, len(body) + 1}:
        assert framed(body, block_bytes) == expected


@settings(max_examples=60)
@given(bodies)
def test_rows_and_rejections_do_not_depend_on_block_size_and_arrow(body: bytes) -> None:
    whole = parsed(body, len(body) + 1)
    for block_bytes in {1, 3, 10, 30, 64, len(body) // 2 + 1}:
        assert parsed(body, block_bytes) == whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_is_for_arrow", lambda _: False)
        assert parsed(body, len(body) + 1) == whole


@settings(max_examples=60)
@given(bodies)
def test_a_record_alone_gets_the_verdict_that_it_gets_among_others(body: bytes) -> None:
    rows, rejected = parsed(body, len(body) + 1)
    among = {line: rest for line, *rest in rows} | {line: rest for line, *rest in rejected}
    for line, record, fault in read_byte_by_byte(body):
        if fault == "record_too_long":
            continue
        rows, rejected = parsed(record + b"\n", 1000)
        # A line whose quote was never closed is alone what it is among others.
        assert [rest for _, *rest in rows + rejected] == ([among[line]] if line in among else [])


CASES = {
    "a bare CR beside a quoted newline": (
        [row(record_id="a\rb"), '"q\nr"' + row()[1:], row(memory=3)],
        3,
        {},
    ),
    "a quote never closed before quoted neighbours": (
        ['i,"never closed,1,0.5,2.0,f,a,0', 'i,"c, d",2,0.5,2.0,f,a,0', '"i",c,3,0.5,2.0,f,a,0'],
        2,
        {2: "unclosed_quote"},
    ),
    "an even number of quotes, one of them open": (
        ['5",c,1,0.5,2.0,f,a,0', 'i,"c\nd",2,0.5,2.0,f,a,0', row(memory=3)],
        3,
        {},
    ),
    "mixed line ends and a CR before a CRLF": ([row() + "\r", row() + "\r\r", '"a\r\nb"' + row()[1:] + "\r"], 3, {}),
    "a byte order mark in a field": ([row(), "\ufeff" + row(), row(memory="\ufeff1")], 2, {4: "memory_not_integer"}),
}


@pytest.mark.parametrize("name", CASES)
def test_good_rows_are_accepted_wherever_blocks_begin(name: str, tmp_path: Path) -> None:
    rows, accepted, rejected = CASES[name]
    for number, block_bytes in enumerate((1, 45, 1 << 20)):
        path = write(tmp_path, csv_of(*rows))
        found = aggregate_file(path, "x", tmp_path / str(number), block_bytes=block_bytes, threads=1)
        told = found.rejected_path.read_text().splitlines() if found.rejected_path else []
        assert {int(each["source"].split()[-1]): each["reason"] for each in map(json.loads, told)} == rejected
        assert found.accepted == accepted


def test_a_mark_at_the_start_of_a_block_is_no_part_of_a_number(tmp_path: Path) -> None:
    header, values = b"memory,id,class,percentage,ratio,fob,dp,recovered\n", b",i,c,0.5,2.0,f,a,0\n"
    path = write(tmp_path, header + b"\xef\xbb\xbf1" + values + b"1" + values)
    assert aggregate_file(path, "x", tmp_path / "out").rejected == {"memory_not_integer": 1}


def test_a_row_that_only_begins_with_blanks_is_not_lost(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "RECORD_MAX_BYTES", 100_000)
        for number, blank in enumerate((",", " ")):
            path = write(tmp_path, csv_of(blank * 20_000 + "x"))
            found = aggregate_file(path, "x", tmp_path / str(number))
            assert (found.records_in, found.rejected) == (1, {"wrong_column_count": 1})


HOSTILE = {
    "quotes": b'"' * 1_000_000,
    "lines of one quote": b'"\n' * 200_000,
    "quotes that each line opens anew": b'x","\n' * 100_000,
    "a quote far from its end": b'"' + b"a\n" * 300_000,
    "long lines that never close": (b'x"' + b"y" * 10_000 + b',"\n') * 200,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_each_byte_of_a_hostile_file_is_looked_at_a_few_times(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "RECORD_MAX_BYTES", 1_000_000)
    monkeypatch.setattr(framing, "RECORD_MAX_LINES", 100)
    monkeypatch.setattr(framing, "BLOCK_MAX_LINES", 200_000)
    looked_at = 0
    for original in ("_is_open", "_closes"):
        function = getattr(framing, original)

        def counted(data: bytes, start: int, end: int, function: Any = function) -> Any:
            nonlocal looked_at
            looked_at += end - start
            return function(data, start, end)

        monkeypatch.setattr(framing, original, counted)
    found = list(framing.read_blocks(io.BytesIO(HOSTILE[name]), 500_000))
    assert sum(len(each.data) for each in found) == len(HOSTILE[name])
    assert max(len(each.records or ()) for each in found) <= 200_000
    assert looked_at <= 4 * len(HOSTILE[name])
