"""Numbers are published as spelled by the partner, and a repeated field is found next to any of them."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accommodations_world import consolidate_texts
from sluice.pipelines.accommodations import json_scan
from sluice.pipelines.accommodations.json_scan import quote_numbers
from sluice.pipelines.accommodations.records import MAX_BYTES

SPELLINGS = ["1e5", "1.10", "9007199254740993", "-0", "-0.0", "1E400", "1e-400", "0.1", "52.370216000000001", "1e+05"]

NUMBERS = st.sampled_from(SPELLINGS) | st.from_regex(
    r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", fullmatch=True
)
TEXTS = st.builds(json.dumps, st.text(max_size=6) | st.sampled_from(["\x01", "\x011.0\x01", "\\u0001", ": -0.5,", '"']))
BLANKS = st.sampled_from(["", " ", "\t", "  "])
VALUES = st.recursive(
    NUMBERS | TEXTS | st.sampled_from(["true", "false", "null"]),
    lambda values: (
        st.builds(lambda each, blank: f"[{blank}{f'{blank},'.join(each)}]", st.lists(values, max_size=3), BLANKS)
        | st.builds(
            lambda each, blank: "{" + ",".join(f"{name}{blank}:{blank}{value}" for name, value in each) + "}",
            st.lists(st.tuples(TEXTS, values), max_size=3),
            BLANKS,
        )
    ),
    max_leaves=6,
)


class Spelled(str):
    """A number as it is spelled."""

    __slots__ = ()


def spelled(text: str) -> Any:
    """JSON with its numbers as they are spelled and its objects as pairs."""
    return json.loads(text, parse_float=Spelled, parse_int=Spelled, object_pairs_hook=lambda pairs: ("object", pairs))


@settings(max_examples=10)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=8))
def test_data_is_published_with_every_number_as_it_is_spelled(values: list[tuple[str, str]]) -> None:
    data = [f'{{"n": {value}, "m": 1}}' for value, _ in values]
    lines = [
        f'{{"more": {more}, "partner_name": "A", "accommodation_data": {each}, "accommodation_id": "{number:02d}"}}'
        for number, (each, (_, more)) in enumerate(zip(data, values, strict=True))
    ]
    with TemporaryDirectory() as folder:
        published, result = consolidate_texts("\n".join(lines), Path(folder))
    assert result.rejected == {}
    found = [line.partition('"accommodation_data":')[2][:-1] for line in published]
    assert [spelled(each) for each in found] == [spelled(each) for each in data]


@pytest.mark.parametrize("number", SPELLINGS)
def test_a_repeated_field_is_found_next_to_any_number(tmp_path: Path, number: str) -> None:
    data = ",".join(f'"{name}":{number}' for name in "abcdefgh")
    lines = [
        f'{{"partner_name":"A","partner_name":"B","accommodation_id":"1","accommodation_data":{{{data}}}}}',
        f'{{"partner_name":"A","accommodation_id":"2","accommodation_data":{{"x":1}},"y":{number},"y":{number}}}',
        '{"partner_name":"A","accommodation_id":"3","accommodation_data":{"x":1,"x":1e5}}',
    ]
    published, result = consolidate_texts("\n".join(lines), tmp_path)
    assert result.rejected == {"repeated_field": 2}
    # Within the data it is the partner's own.
    assert published == ['{"accommodation_id":"3","partner_name":"A","accommodation_data":{"x":1,"x":1e5}}']


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=6), st.integers(1, 60), st.integers(0, 2))
def test_numbers_are_quoted_in_chunks_of_any_size(values: list[str], scanned_bytes: int, skipped: int) -> None:
    # As in a record, a number is next to brackets or a comma, and not to a number of another record.
    values = [f"[{value}]" for value in values]
    texts = pa.array(values, pa.string())[skipped:]
    marks = pa.array([f"<{number}>" for number in range(len(texts))], pa.string())
    with patch.object(json_scan, "SCANNED_BYTES", scanned_bytes):
        found = quote_numbers(texts, marks).to_pylist()
    for number, (text, quoted) in enumerate(zip(values[skipped:], found, strict=True)):
        json.loads(quoted)
        mark = f"<{number}>"
        assert quoted.replace(f'"{mark}', "").replace(f'{mark}"', "") == text
        assert quoted.count(f'"{mark}') == quoted.count(f'{mark}"') == count_numbers(spelled(text))


def count_numbers(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(count_numbers(each) for _, each in value[1])
    return sum(map(count_numbers, value)) if isinstance(value, list) else isinstance(value, Spelled)


@pytest.mark.parametrize("is_array", [False, True], ids=["lines", "array"])
def test_a_record_is_measured_by_its_output_and_not_by_its_blanks(tmp_path: Path, is_array: bool) -> None:
    record = {"accommodation_id": "1", "partner_name": "A", "accommodation_data": {"rooms": [[1.5]] * 50_000}}
    empty = len(json.dumps(record, separators=(",", ":"))) + 1 + len(',"x":""')
    for more, rejected in ((0, {}), (1, {"too_large": 1})):
        record["accommodation_data"] = {"rooms": [[1.5]] * 50_000, "x": "x" * (MAX_BYTES - empty + more)}
        text = json.dumps(record, separators=(" ,  ", " :  "))
        assert len(text) > MAX_BYTES + 100_000
        (tmp_path / str(more)).mkdir()
        published, result = consolidate_texts(f"[\n{text} \n]" if is_array else text, tmp_path / str(more))
        assert result.rejected == rejected
        assert [len(line) + 1 for line in published] == ([MAX_BYTES] if not more else [])


@pytest.mark.parametrize(
    ("value", "rejected"),
    [
        ("[" * 498 + "]" * 498, {}),
        ("[" * 499 + "]" * 499, {"not_json": 1}),
        (json.dumps("[" * 2_000), {}),
        ("[" + ",".join(["[]"] * 2_000) + "]", {}),
    ],
    ids=["500 deep", "501 deep", "brackets in a string", "many beside each other"],
)
def test_data_nested_deeper_than_parsers_read_is_rejected(value: str, rejected: dict[str, int], tmp_path: Path) -> None:
    odd = f'{{"partner_name":"A","accommodation_id":"1","accommodation_data":{{"n":{value}}}}}'
    good = '{"partner_name":"A","accommodation_id":"2","accommodation_data":{}}'
    found, result = consolidate_texts(f"{odd}\n{good}\n", tmp_path)
    assert result.rejected == rejected
    assert len(found) == 2 - len(rejected)
