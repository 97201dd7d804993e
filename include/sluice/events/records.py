"""An event as received and as a row, further fields as columns, and the reason codes (contract, section 2). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

REQUIRED_FIELDS = ("event_uuid", "event_name", "created_at")
"""Fields of every event; further ones are kept as they come."""

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
"""Columns of raw and curated events with their types in DuckDB, in order; further fields follow.

`event_uuid` is lower-case without braces, `created_at` epoch seconds as received, `created_datetime` the same like
2024-04-07T17:42:01Z (UTC, its fraction cut), `arrived_at` in microseconds, adjusted to UTC in parquet.
"""

PARTITION_COLUMNS = ("year", "month", "day", "hour")
"""In the path only (contract, section 2)."""

ENGINE_COLUMNS = ("file_index", "file_row_number")
"""Columns that DuckDB adds to a parquet file; one of a file would hide them."""

FURTHER_TYPES = ("BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR")
"""Types that the column of a further field may have."""

FURTHER_COLUMNS_MAX = 500
"""Further columns a table may have; a record with one more field is quarantined as `bad_field`."""

ENVELOPE_COLUMNS = ("shard_id", "sequence_number", "arrived_at", "record")
"""Columns of the files that the transform reads."""

_COLUMN_PATTERN = re.compile(r"(?!__)[a-z_][a-z0-9_]{0,127}")  # for Glue, Athena and DuckDB alike


class Reason(StrEnum):
    """Why a record was rejected: stable codes for the quarantine, in the order in which they are looked for."""

    EMPTY = "empty"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    REPEATED_FIELD = "repeated_field"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_UUID = "bad_uuid"
    BAD_TIME = "bad_time"
    BAD_FIELD = "bad_field"
    INCOMPATIBLE_TYPE = "incompatible_type"

    @property
    def detail(self) -> str:
        """One sentence for a person."""
        return _DETAILS[self]


_DETAILS = {
    Reason.EMPTY: "the record has no content",
    Reason.NOT_JSON: "the record is not JSON in UTF-8",
    Reason.NOT_OBJECT: "the record is JSON, but not an object",
    Reason.REPEATED_FIELD: "two fields have one name, letter case aside",
    Reason.MISSING_FIELD: "event_uuid, event_name or created_at is missing or null",
    Reason.WRONG_TYPE: "event_uuid or event_name is not a string, or created_at is not a number",
    Reason.BAD_UUID: "event_uuid is not a uuid such as 123e4567-e89b-42d3-a456-426614174000",
    Reason.BAD_TIME: "created_at is before 2000 or more than a day after the arrival; it counts seconds since 1970",
    Reason.BAD_FIELD: "a further field cannot be a column: its name is reserved, or not of letters, digits and _, "
    f"or is one more than {FURTHER_COLUMNS_MAX}",
    Reason.INCOMPATIBLE_TYPE: "a further field has a value that does not fit the type of its column",
}


class Envelope(NamedTuple):
    """A record of the stream with what the stream says of it.

    Attributes:
        shard_id: shard it was read from.
        sequence_number: its place in the shard, decimal digits.
        arrived_at: when the stream took it (ApproximateArrivalTimestamp), aware.
        record: its content as text, see `record_text`.
    """

    shard_id: str
    sequence_number: str
    arrived_at: datetime
    record: str


@dataclass(frozen=True)
class FurtherColumn:
    """The column of a further field.

    Attributes:
        name: of the column: that of the field in lower case, as in the Glue catalog.
        type: one of `FURTHER_TYPES`.
        fields: the spellings of the field in the batch; at least one.
    """

    name: str
    type: str
    fields: tuple[str, ...]


def record_text(data: bytes) -> str:
    """The content of a record as text; bytes that are not UTF-8 become their Python literal, which is never JSON."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return repr(data)


def is_column_name(field: str) -> bool:
    """Whether a further field can be a column under its lower-case name."""
    name = field.lower()
    return (
        field.isascii()
        and bool(_COLUMN_PATTERN.fullmatch(name))
        and name not in {*RAW_COLUMNS, *PARTITION_COLUMNS, *ENGINE_COLUMNS}
    )


def check_known_columns(known: Mapping[str, str]) -> dict[str, str]:
    """The further columns that a table has, name -> type.

    Args:
        known: columns of the table, lower case -> type; raw and partition columns among them are passed over.

    Raises:
        ValueError: one has a type that no further field can have.
    """
    further = {name: kind for name, kind in known.items() if name not in RAW_COLUMNS and name not in PARTITION_COLUMNS}
    for name, kind in further.items():
        if kind not in FURTHER_TYPES or not is_column_name(name) or name != name.lower():
            raise ValueError(
                f"column {name} of the events table has type {kind}; a further field can be"
                f" {', '.join(FURTHER_TYPES)}: change the table"
            )
    return further


def plan_columns(known: Mapping[str, str], seen: Iterable[tuple[str, str]]) -> list[FurtherColumn]:
    """The columns of the further fields of a batch; what the table has already stays as it is.

    A new field of integers is BIGINT, of numbers DOUBLE, of booleans BOOLEAN, and VARCHAR with anything else or a
    mixture; VARCHAR takes every value, what is not a string as JSON text.

    Args:
        known: further columns of the table, name -> type.
        seen: (field, kind) for each kind of value in the batch: BIGINT, DOUBLE, BOOLEAN or VARCHAR (all else).

    Returns:
        Columns of the table first, in its order, then new ones by name, `FURTHER_COLUMNS_MAX` at the most.
    """
    spellings: dict[str, set[str]] = {name: set() for name in known}
    kinds: dict[str, set[str]] = {}
    for field, kind in seen:
        if is_column_name(field):
            spellings.setdefault(field.lower(), set()).add(field)
            kinds.setdefault(field.lower(), set()).add(kind)
    new = sorted(spellings.keys() - known.keys())[: max(0, FURTHER_COLUMNS_MAX - len(known))]
    types = {**known, **{name: _common_type(kinds[name]) for name in new}}
    return [
        FurtherColumn(name, kind, tuple(sorted(spellings[name] | ({name} if name in known else set()))))
        for name, kind in types.items()
    ]


def hour_of(created_at: float) -> datetime:
    """The hour, in UTC, whose partition holds an event; `created_at` in epoch seconds."""
    return datetime.fromtimestamp(int(created_at // 3600) * 3600, UTC)


def _common_type(kinds: set[str]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds))
    return "DOUBLE" if kinds == {"BIGINT", "DOUBLE"} else "VARCHAR"
