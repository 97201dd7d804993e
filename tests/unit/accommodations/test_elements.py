"""One JSON array as a partner's file: a bad element costs itself alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.pipelines.accommodations import elements
from sluice.pipelines.accommodations.records import PartnerFile
from sluice.pipelines.accommodations.source import UnreadableFile, detect_format
from sluice.pipelines.accommodations.transform import consolidation, read_files

NOW = datetime(2026, 11, 21, tzinfo=UTC)
GOOD = [
    b'{"partner_name":"A","accommodation_id":"%d","accommodation_data":{"n":"x [,] {y} \\\\","g":[1.5,2]}}' % number
    for number in range(9)
]
NESTED = b'{"accommodation_data":{"m":[{"a":1}, {"partner_name":1}]},"partner_name":"A","accommodation_id":"n"}'
BAD = [
    GOOD[1].replace(b"x ", b"\\ud83c "),
    GOOD[1].replace(b"2]", b"2,]"),
    GOOD[1].replace(b"1.5", b"NaN"),
    GOOD[1].replace(b"x ", b"\xff "),
    GOOD[1].replace(b"x ", b"\x07"),
    GOOD[1].replace(b"2]}", b"2}}"),
    GOOD[1].replace(b":[", b" ["),
    GOOD[1] + b"}",
    GOOD[1] + b" garbage",
    NESTED.replace(b"1}]", b"1,}]"),
    b'{"partner_name":"A"}',
    b'"text, {"',
    b"[{},[]]",
    b"NaN",
    b"7",
]


def validated(files: Sequence[bytes]) -> list[list[tuple[str | None, str | None]]]:
    """Accommodation and reason of every record of each file, in order."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        batch = {}
        for number, body in enumerate(files):
            (folder / str(number)).write_bytes(body)
            batch[number] = (PartnerFile("b", str(number), "v", NOW, 0), folder / str(number))
        with consolidation(folder, 256) as connection:
            read_files(connection, folder, batch)
            rows = connection.execute(
                "SELECT record_id >> 40, accommodation_id, reason FROM validated ORDER BY record_id"
            ).fetchall()
    return [[(key, reason) for file, key, reason in rows if file == number] for number in range(len(files))]


blanks = st.sampled_from([b"", b"", b" ", b"\n", b"\r\n\t", b" " * 70])
separators = st.tuples(blanks, st.sampled_from([b",", b",", b",,", b", ,"]), blanks).map(b"".join)
written = st.tuples(st.lists(st.tuples(st.sampled_from([*GOOD, NESTED, *BAD]), separators), max_size=12), blanks)


@settings(max_examples=8, database=None, deadline=None)
@given(st.lists(written, min_size=6, max_size=6), st.sampled_from([(16, 8), (200, 64), (512 * 1024, 4096)]))
def test_an_element_is_judged_as_the_same_text_on_a_line(
    arrays: list[tuple[list[tuple[bytes, bytes]], bytes]], windows: tuple[int, int]
) -> None:
    bodies = [b"[" + ONE + b"," + lead + b"".join(map(b"".join, each)) + b"]" for each, lead in arrays]
    lines = [b"\n".join([ONE, *(text for text, _ in each)]) for each, _ in arrays]
    with patch.object(elements, "WINDOW_BYTES", windows[0]), patch.object(elements, "NARROW_BYTES", windows[1]):
        found = validated([*bodies, *lines])
    assert found[: len(bodies)] == found[len(bodies) :]


ONE, TWO, THREE, FOUR = GOOD[1:5]
DAMAGED = {
    "no quote": (TWO.replace(b'A"', b"A"), b","),
    "no first quote": (TWO.replace(b'{"', b"{", 1), b","),
    "one backslash more": (TWO.replace(b'A"', b'A\\"'), b","),
    "no closing brace": (TWO[:-1], b","),
    "no closing bracket": (TWO.replace(b"2]", b"2"), b","),
    "cut": (TWO[:-30], b",\n"),
    "cut in an array": (TWO[:-4], b","),
    "garbage": (b"garbage", b", "),
}


@pytest.mark.parametrize("window_bytes", [16, 512 * 1024])
def test_an_element_without_an_end_is_cut_where_the_next_begins(window_bytes: int) -> None:
    bodies = [
        b"[" + ONE + b"," + bad + comma + THREE + b"," + bad + comma + FOUR + b"]" for bad, comma in DAMAGED.values()
    ]
    with patch.object(elements, "WINDOW_BYTES", window_bytes), patch.object(elements, "NARROW_BYTES", 16):
        found = validated(bodies)
    bad = (None, "not_json")
    expected = [("1", None), bad, ("3", None), bad, ("4", None)]
    assert dict(zip(DAMAGED, found, strict=True)) == dict.fromkeys(DAMAGED, expected)


def test_what_lies_before_the_cut_end_of_a_file_is_published() -> None:
    whole = b"[" + ONE + b",\n" + TWO
    found = validated([whole + b"," + THREE[:40], whole + b",", whole, whole.replace(b",\n", b"\n") + b",]"])
    good: list[tuple[str | None, str | None]] = [("1", None), ("2", None)]
    assert found == [[*good, (None, "not_json")], [*good, (None, "cut_off")], [*good, (None, "cut_off")], good]


def test_an_element_longer_than_the_limit_is_skipped_to_its_end() -> None:
    long = json.dumps({"partner_name": "x\\", "accommodation_data": [{"a": "\\" * 99}] * 99}).encode()
    endless = b'{"a":[' + b"[1,{}]," * 999
    bodies = [b"[" + b",".join((ONE, bad, THREE)) + b"]" for bad in (long, endless, b'"' + b"x" * 3000, b"[" * 3000)]
    for window_bytes in (300, 100_000):
        with (
            patch.object(elements, "MAX_RAW_BYTES", 1000),
            patch.object(elements, "MAX_BYTES", 500),
            patch.object(elements, "WINDOW_BYTES", window_bytes),
            patch("sluice.pipelines.accommodations.source.MAX_RAW_BYTES", 1000),
        ):
            found = validated(bodies)
        for each in found:
            assert each[0] == ("1", None)
            assert each[-1] == ("3", None)
            assert {reason for _, reason in each[1:-1]} == {"too_large"}


@settings(max_examples=150, database=None, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"{", b"}", b"[", b"]", b",", b'"', b"\\", b" ", b"\n", b"\xff", b"1", ONE, b'{"partner_name"']
        )
        | st.binary(max_size=9),
        max_size=25,
    ),
    st.sampled_from([1, 50, 4096]),
)
def test_any_bytes_are_split_without_an_error(parts: list[bytes], window_bytes: int) -> None:
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(elements, "WINDOW_BYTES", window_bytes)
        patched.setattr(elements, "NARROW_BYTES", 1)
        patched.setattr(elements, "MAX_RAW_BYTES", 150)
        path = Path(name) / "file"
        path.write_bytes(b"[" + b"".join(parts))
        try:
            is_array = detect_format(path) == "array"
        except UnreadableFile:
            return
        if is_array:
            numbers = [
                number for batch in elements.element_batches(path, 7) for number in batch["record_id"].to_pylist()
            ]
            assert numbers == list(range(7, 7 + len(numbers)))
