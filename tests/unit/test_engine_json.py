"""DuckDB's `is_json`: what it lets through is published, so it must be JSON for every strict reader."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.engines.duckdb import create_is_json, duckdb_connection

GOOD = [
    *["0", "-0", "-0.0", "1E5", "1e-5", "0e0", "1e999", "true", "false", "null", '""', "[]", "{}", " \t\r\n1\n"],
    *[
        '"NaN, Infinity ,}"',
        '"\\",]"',
        '["a,]", "nan"]',
        '{"nan": "inf", "a\\\\": ",}"}',
        '{"infant": [1, {"x": "y,"}]}',
    ],
    *['{"a": 1, "a": 2}', '"\\ud83d\\ude00"', '"\\/\\u00e9"', '"\x7f"', '"\u2028"', "[" * 400 + "]" * 400],
]
BAD = [
    *["NaN", "nan", "nAn", "-NaN", "Infinity", "infinity", "-Infinity", "inf", "INF", "-inf", "[NaN]", '{"a":iNf}'],
    *['{"a": "nan", "b": NaN}', '["\\"", NaN, "\\""]', "[1,]", '{"a": 1 , \r\n\t}', '[{"a": [1,]}]', '["a,]", 1 ,]'],
    *["[,]", "{,}", "[1,,2]", "'a'", "{a: 1}", "// a\n1", "/* a */ 1", "1 // a", "[1 /* a */]", "01", "-01", ".5"],
    *["5.", "1.e5", "+1", "1e", "1e+", "-", "--1", "0x10", "1_000", '"\x01"', '"\t"', '"\n"', '"\\x41"', '"\\u12"'],
    *["\ufeff1", "1 1", "", "   ", "\x0b1", "\xa01", "1\x00", '{"a" 1}', '{"a":}', "[1 2]", "tru", "TRUE", "nul", '"a'],
]


def is_strict_json(text: str) -> bool:
    """By Python's own parser, which passes over NaN, Infinity and half of a surrogate pair unless asked not to."""

    def reject(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        json.dumps(json.loads(text, parse_constant=reject), ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def is_json(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str | None], bool]]:
    with duckdb_connection(128, tmp_path_factory.mktemp("json") / "spill", threads=1) as connection:
        create_is_json(connection)

        def ask(text: str | None) -> bool:
            found = connection.execute("SELECT is_json(?::VARCHAR)", [text]).fetchone()
            assert found is not None
            return bool(found[0])

        yield ask


@pytest.mark.parametrize("text", GOOD)
def test_json_is_accepted(is_json: Callable[[str | None], bool], text: str) -> None:
    assert is_json(text)


@pytest.mark.parametrize("text", [*BAD, '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', None])
def test_what_a_strict_reader_refuses_is_not_json(is_json: Callable[[str | None], bool], text: str | None) -> None:
    assert not is_json(text)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-9, 2**64)
    | st.text(',}]\\"nNaAifFx {[', max_size=6)
    | st.sampled_from([",}", "nan", "\\", '"', "inf,]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a,}\\"n', max_size=3), inner, max_size=3),
    max_leaves=6,
)
pieces = st.sampled_from([",", " ", "\n", "NaN", "inf", "}", "]", "[", "{", '"', "\\", "1", "-", "null", "\\u00", ",]"])


@settings(max_examples=300, deadline=None)
@given(value=values, data=st.data())
def test_any_damaged_text_is_judged_as_a_strict_reader_does(
    is_json: Callable[[str | None], bool], value: object, data: st.DataObject
) -> None:
    text = json.dumps(value)
    for _ in range(data.draw(st.integers(0, 2))):
        first = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(first, min(len(text), first + 2)))
        text = text[:first] + data.draw(pieces) + text[end:]
    assert is_json(text) == is_strict_json(text)
