"""Output of the command line: tables that fit the terminal, JSON Lines for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

LOG_WIDTH = 140
TEXT_WIDTH = 12
"""Width to which a text may be wrapped; numbers and times never are."""

GAP = 2
"""Blanks between two columns."""


def console() -> Console:
    """Standard output; lines are not cut at 80 columns if it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else LOG_WIDTH)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        kind: `number` (aligned right) and `time` are never wrapped, `text` is.
    """

    name: str
    kind: str = "text"


def time_text(moment: datetime, timespec: str = "auto") -> str:
    """A time in ISO 8601, in UTC: `2024-04-07T17:42:01Z`; one without a zone is UTC.

    Args:
        moment: the time.
        timespec: as in `datetime.isoformat`: `seconds`, `milliseconds`, ...
    """
    in_utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return in_utc.isoformat(timespec=timespec).replace("+00:00", "Z")


def print_json_lines(rows: Iterable[Mapping[str, object]]) -> None:
    """Print each row as one line of JSON; times in ISO 8601 (UTC)."""
    out = sys.stdout
    for row in rows:
        out.write(json.dumps(row, ensure_ascii=False, default=_json_value) + "\n")


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print rows as a table that fits the width: texts are wrapped, then columns are left out from the end.

    Args:
        columns: the most important one first.
        rows: a value for each column; None is printed as `-`.
        title: above the table.
    """
    out = console()
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(cell_len(line[index]) for line in [[each.name for each in columns], *cells])
        for index in range(len(columns))
    ]
    narrow = [
        min(width, max(cell_len(column.name), TEXT_WIDTH)) if column.kind == "text" else width
        for column, width in zip(columns, widths, strict=True)
    ]
    shown = len(columns)
    while shown > 1 and sum(narrow[:shown]) + GAP * (shown - 1) > out.width:
        shown -= 1
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), title=title or None, title_justify="left")
    for column, width in zip(columns[:shown], narrow, strict=False):
        table.add_column(
            column.name,
            justify="right" if column.kind == "number" else "left",
            no_wrap=column.kind != "text",
            overflow="fold",
            min_width=width,
        )
    for line in cells:
        # As Text, so that cells are never parsed as markup.
        table.add_row(*(Text(cell) for cell in line[:shown]))
    out.print(table)
    if shown < len(columns):
        left_out = ", ".join(column.name for column in columns[shown:])
        out.print(f"Too narrow for: {left_out} (a wider terminal, or --json, shows them)", highlight=False)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, float):
        # Six decimals, and every digit before them: six digits in all would make one number of many times and amounts.
        return f"{value:.6f}".rstrip("0").rstrip(".") if 1e-4 <= abs(value) < 1e15 else f"{value:.6g}"
    return str(value)
