"""A file's aggregation as its tests look at it, and numbers by arithmetic that shares no code with it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from datasets_world import write
from sluice.pipelines.datasets.transform import Aggregation, aggregate_file

ADDRESS = "s3://landing/datasets/x.csv"


def aggregate(folder: Path, body: bytes, **arguments: Any) -> tuple[Aggregation, list[dict[str, Any]], dict[int, str]]:
    """A file's aggregation, its rows, and line -> reason of what was rejected."""
    found = aggregate_file(write(folder, body), ADDRESS, folder / "out", **arguments)
    return found, pq.read_table(found.output_path).to_pylist(), {line: each["reason"] for line, each in lines(found)}


def lines(found: Aggregation) -> list[tuple[int, dict[str, str]]]:
    """Line number and quarantine line of each rejected row."""
    if not found.rejected_path:
        return []
    rows = [json.loads(line) for line in found.rejected_path.read_text().split("\n")[:-1]]
    assert all(each["source"].startswith(f"{ADDRESS} line ") for each in rows)
    return [(int(each["source"].rsplit(" ", 1)[1]), each) for each in rows]


NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", re.ASCII)


def integer_of(text: str) -> int | None:
    """The integer that a text spells; None if it is no number or has a fraction."""
    value = Fraction(Decimal(text.strip())) if NUMBER.fullmatch(text) else Fraction(1, 2)
    return value.numerator if value.denominator == 1 else None
