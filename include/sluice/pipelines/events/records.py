"""An event as received and as a row, additional fields, and the reason codes (docs/pipelines.md, events). Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

REQUIRED_FIELDS = ("event_uuid", "event_name", "created_at")
"""Required fields of an event; additional fields are kept as received."""

RAW_COLUMNS = {
    "event_uuid": "VARCHAR",
    "event_name": "VARCHAR",
    "created_at": "DOUBLE",
    "created_datetime": "VARCHAR",
    "event_type": "VARCHAR",
    "event_subtype": "VARCHAR",
    "event_action": "VARCHAR",
    "arrived_at": "TIMESTAMP",
    "shard_id": "VARCHAR",
    "sequence_number": "VARCHAR",
}
"""Columns of raw and curated events with their types in DuckDB, in order; additional columns follow.

`event_uuid` is lower-case without braces, `created_at` epoch seconds as received, `created_datetime` the same like
2024-04-07T17:42:01Z (UTC, its fraction cut), `arrived_at` in microseconds, adjusted to UTC in parquet.
"""

PARTITION_COLUMNS = ("year", "month", "day", "hour")
"""In the path only (docs/pipelines.md, events)."""

ENGINE_COLUMNS = ("file_index", "file_row_number", "rowid")
"""Columns that DuckDB adds to a parquet file or a table; a column of the data would hide them."""

FURTHER_TYPES = ("BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR")
"""Types of columns of additional fields."""

RESCUED_COLUMN = "rescued_data"
"""Column after `RAW_COLUMNS`: JSON object of the additional fields without a column, as received; null for none."""

ENVELOPE_COLUMNS = ("shard_id", "sequence_number", "arrived_at", "record")
"""Columns of the files that the transform reads."""

_COLUMN_PATTERN = re.compile(r"(?!__)[a-z_][a-z0-9_]{0,127}")  # for Glue, Athena and DuckDB alike


class Reason(StrEnum):
    """Reasons to reject a record: stable codes for the quarantine, in the order in which they are checked."""

    EMPTY = "empty"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    REPEATED_FIELD = "repeated_field"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_UUID = "bad_uuid"
    BAD_TIME = "bad_time"

    @property
    def detail(self) -> str:
        """One sentence for a person."""
        return _DETAILS[self]


_DETAILS = {
    Reason.EMPTY: "the record has no content",
    Reason.NOT_JSON: "the record is not JSON in UTF-8",
    Reason.NOT_OBJECT: "the record is JSON, but not an object",
    Reason.REPEATED_FIELD: "two fields have one name",
    Reason.MISSING_FIELD: "event_uuid, event_name or created_at is missing or null",
    Reason.WRONG_TYPE: "event_uuid or event_name is not a string, or created_at is not a number",
    Reason.BAD_UUID: "event_uuid is not a uuid such as 123e4567-e89b-42d3-a456-426614174000",
    Reason.BAD_TIME: "created_at is before 2000 or more than a day after the arrival; it counts seconds since 1970",
}


class Envelope(NamedTuple):
    """A record of the stream with its metadata.

    Attributes:
        shard_id: shard it was read from.
        sequence_number: its place in the shard, decimal digits.
        arrived_at: when the stream received it (ApproximateArrivalTimestamp), aware.
        record: its content as text, see `record_text`.
    """

    shard_id: str
    sequence_number: str
    arrived_at: datetime
    record: str


def record_text(data: bytes) -> str:
    """The content of a record as text; bytes that are not UTF-8 become their Python literal, which is never JSON."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return repr(data)


def is_column_name(field: str) -> bool:
    """Whether an additional field can be a column under its lower-case name."""
    name = field.lower()
    return (
        field.isascii()
        and bool(_COLUMN_PATTERN.fullmatch(name))
        and name not in {*RAW_COLUMNS, RESCUED_COLUMN, *PARTITION_COLUMNS, *ENGINE_COLUMNS}
    )


def split_known_columns(known: Mapping[str, str]) -> tuple[dict[str, str], frozenset[str]]:
    """The additional columns of a table, name -> type, and the names of those of an unsupported type.

    A field of such a name is rescued, so that it is neither lost nor fails a run.

    Args:
        known: columns of the table, lower case -> type in DuckDB; columns of every event are ignored.
    """
    additional = {
        name: kind
        for name, kind in known.items()
        if name not in RAW_COLUMNS and name not in PARTITION_COLUMNS and name != RESCUED_COLUMN
    }
    usable = {name: kind for name, kind in additional.items() if kind in FURTHER_TYPES and is_column_name(name)}
    return usable, frozenset(additional.keys() - usable.keys())


def plan_columns(counts: Mapping[tuple[str, str], int], room: int) -> dict[str, str]:
    """New columns, name -> type, by name.

    If not all fit, the most frequent ones are chosen, then the first by name: most data is readable as columns, and the
    same batch gives the same columns. The type is that of most values (numbers, booleans, others; in this order if
    equally frequent); numbers are BIGINT if all are integers, else DOUBLE.

    Args:
        counts: (column, kind) -> records that have such a value; kinds of `rescue.count_kinds`.
        room: number of columns that may still be added.
    """
    records: Counter[str] = Counter()
    for (name, _), count in counts.items():
        records[name] += count
    names = sorted(records, key=lambda name: (-records[name], name))[: max(0, room)]
    return {name: _column_type({kind: counts.get((name, kind), 0) for kind in FURTHER_TYPES}) for name in sorted(names)}


def _column_type(counts: Mapping[str, int]) -> str:
    number = "DOUBLE" if counts["DOUBLE"] else "BIGINT"
    totals = {number: counts["BIGINT"] + counts["DOUBLE"], "BOOLEAN": counts["BOOLEAN"], "VARCHAR": counts["VARCHAR"]}
    return max(totals, key=lambda kind: totals[kind])


def hour_of(created_at: float) -> datetime:
    """The hour, in UTC, whose partition holds an event; `created_at` in epoch seconds."""
    return datetime.fromtimestamp(int(created_at // 3600) * 3600, UTC)
