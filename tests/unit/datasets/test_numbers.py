"""Numbers of a CSV: what is one, and which integer one is, however it is spelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_data import aggregate, integer_of
from datasets_world import csv_of, row

NOT_NUMBERS = [
    *(
        "nan",
        "-NaN",
        "inf",
        "Infinity",
        "0x1",
        "0x1p-1",
        "0b1",
        "1_0",
        "0.1_0",
        "+-0",
        "\t+-1",
        "--1",
        "+ 1",
        "1 2",
        "1/2",
    ),
    *('"1,0"', '"1.000,5"', "1e", "e1", ".", "+", "", " ", "1e1.0", "1f", "1%", "1.0.0", "true"),
    *("\uff11", "0.\uff15", "\u0661", "\u22121", "\u00a01", "\u20031", "\x851", "\x1c1", "1\x00"),
]


@pytest.mark.parametrize("column", ["memory", "percentage", "ratio", "recovered"])
def test_what_is_no_number_is_rejected_in_each_column_of_numbers(tmp_path: Path, column: Any) -> None:
    _, rows, rejected = aggregate(tmp_path, csv_of(row(), *(row(**{column: text}) for text in NOT_NUMBERS)))
    reason = f"{column}_not_{'integer' if column in ('memory', 'recovered') else 'number'}"
    assert rejected == dict.fromkeys(range(3, len(NOT_NUMBERS) + 3), reason)
    assert rows[0]["memory_count"] == 1


@pytest.mark.parametrize("column", ["memory", "percentage", "ratio", "recovered"])
def test_the_same_blanks_may_be_around_each_number(tmp_path: Path, column: Any) -> None:
    texts = [
        f'"{before}{number}{after}"'
        for number in ("1", "1.0", "1e0", "+1", "1.")
        for before, after in [(" ", ""), ("", " "), *((each, each) for each in "\t\n\v\f\r")]
    ]
    _, rows, rejected = aggregate(tmp_path, csv_of(*(row(**{column: text}) for text in texts)))
    assert rejected == {}
    assert rows[0]["memory_count"] == len(texts)


LONG = 100_000
FAR = "9" * 30


@pytest.mark.parametrize(
    ("memory", "wanted"),
    [
        ("1.2e1", 12),
        ("-32768.0", -32768),
        ("3.2767E+4", 32767),
        ("3276700000e-5", 32767),
        ("00000000.000120e5", 12),
        ("-0.0", 0),
        ("." + "0" * LONG, 0),
        ("1" + "0" * LONG + f"e-{LONG}", 1),
        ("0." + "0" * LONG + f"12e{LONG + 2}", 12),
        (f"12.{'0' * LONG}", 12),
        (f"1.2e{'0' * LONG}1", 12),
        (f"0e{FAR}", 0),
        (f"0.0e-{FAR}", 0),
        ("32767.5", "memory_not_integer"),
        ("12.0000000000000000000000000001", "memory_not_integer"),
        ("123456.5", "memory_not_integer"),
        ("1e-1", "memory_not_integer"),
        (f"1e-{FAR}", "memory_not_integer"),
        ("1e-9223372036854775808", "memory_not_integer"),
        ("32768.0", "memory_out_of_range"),
        ("-3.2769e4", "memory_out_of_range"),
        ("65537.0", "memory_out_of_range"),
        ("1e1000000", "memory_out_of_range"),
        ("-1e1000000000000", "memory_out_of_range"),
        ("1e9223372036854775807", "memory_out_of_range"),
        (f"1.5e{FAR}", "memory_out_of_range"),
        ("1" * LONG, "memory_out_of_range"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_integer_is_exact_however_it_is_spelled(tmp_path: Path, memory: str, wanted: int | str) -> None:
    # Arrow reads the first file, Python the second.
    for folder, other in (("arrow", row(dp="b")), ("python", row(dp="b", record_id='"i\nj"'))):
        (tmp_path / folder).mkdir()
        _, rows, rejected = aggregate(tmp_path / folder, csv_of(row(memory=memory), other))
        found = [each["memory_min"] for each in rows if each["dp"] == "a"] or list(rejected.values())
        assert found == [wanted]


@st.composite
def spelled_numbers(draw: st.DrawFn) -> str:
    """A number near the limits, its digits and point moved by an exponent and zeros around it."""
    limits = st.sampled_from([0, 1, 12, 100, 127, 128, 129, 32767, 32768, 32769, 65536, 99999, 100000, 2**32])
    digits = str(draw(limits)) + draw(st.sampled_from(["", "0", "000", "5", "0001"]))
    exponent = draw(st.integers(-12, 12))
    digits = "0" * draw(st.integers(0, 9)) + digits
    cut = draw(st.integers(0, len(digits)))
    point = draw(st.sampled_from(["", ".", ".0"])) if cut == len(digits) else "."
    sign, e = draw(st.sampled_from(["", "-", "+"])), draw(st.sampled_from(["e", "E", "e+", "e-0"]))
    power = f"{e.rstrip('+-0')}{exponent}" if exponent < 0 else f"{e}{exponent}"
    blank = draw(st.sampled_from(["", " ", "\t", "\v"]))
    return blank + sign + digits[:cut] + point + digits[cut:] + draw(st.sampled_from([power, ""])) + blank


@settings(max_examples=12)
@given(texts=st.lists(spelled_numbers(), min_size=20, max_size=40), arrow=st.booleans())
def test_integers_are_those_of_exact_arithmetic(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], arrow: bool
) -> None:
    first = row(dp="z", record_id="i" if arrow else '"i\nj"')
    for column, limit in (("memory", 2**15), ("recovered", 2**7)):
        body = csv_of(first, *(row(dp=f"{at:03d}", **{column: text}) for at, text in enumerate(texts)))
        _, rows, rejected = aggregate(tmp_path_factory.mktemp("x"), body)
        kept = {each["dp"]: each["memory_min"] for each in rows if each["dp"] != "z"}
        values = {f"{at:03d}": integer_of(text) for at, text in enumerate(texts)}
        good = {dp: value for dp, value in values.items() if value is not None and -limit <= value < limit}
        assert kept == (good if column == "memory" else dict.fromkeys(good, 1))
        assert [reason for _, reason in sorted(rejected.items())] == [
            f"{column}_{'not_integer' if value is None else 'out_of_range'}"
            for dp, value in values.items()
            if dp not in good
        ]
