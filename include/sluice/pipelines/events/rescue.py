"""Distributes the additional fields of a record to columns and `rescued_data` (docs/decisions/0015). Pure.

The transform reads plain records in SQL. Others are processed here one by one: each is split into its fields and the
text of their values as received, so a number is never rewritten.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import NamedTuple

import msgspec

from sluice.pipelines.events.records import REQUIRED_FIELDS, is_column_name

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_is_column_name = lru_cache(maxsize=4096)(is_column_name)
_dump_name = lru_cache(maxsize=4096)(lambda name: json.dumps(name, ensure_ascii=False))
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_SHORT_NUMBER = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,6})?")
_NUMBER_START = frozenset("-0123456789")


class SplitRecord(NamedTuple):
    """The additional fields of one record.

    Attributes:
        columns: JSON object of the values for columns: column -> value, as read by the transform.
        rescued: JSON object of the rest, values as received, fields in their order; None for none.
        rescued_fields: number of its fields.
        over_limit: of these, fields without a column only because of the maximum number of columns.
    """

    columns: str
    rescued: str | None
    rescued_fields: int = 0
    over_limit: int = 0


def read_fields(record: str) -> dict[str, str]:
    """Fields of a record that is a JSON object without repeated names: name -> text of the value, in their order."""
    return {name: bytes(value).decode() for name, value in _split(record).items()}


def column_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """Column -> its field: of several spellings the lower-case one, else the first; without nulls."""
    chosen: dict[str, str] = {}
    for name, text in fields.items():
        if text != "null" and _is_column_name(name):
            column = name.lower()
            if name == column or column not in chosen:
                chosen[column] = name
    return chosen


def count_kinds(records: Iterable[str], known: Iterable[str]) -> Counter[tuple[str, str]]:
    """Number of records that have a value of each kind for a new column.

    Args:
        records: accepted records.
        known: names of the columns of the table.

    Returns:
        (column, kind) -> records; kind is BIGINT, DOUBLE (a number that is not a BIGINT), BOOLEAN or VARCHAR (strings,
        arrays and objects).
    """
    passed = frozenset(known)
    counts: Counter[tuple[str, str]] = Counter()
    for record in records:
        fields = read_fields(record)
        counts.update(
            (column, _kind(fields[name])) for column, name in column_fields(fields).items() if column not in passed
        )
    return counts


def _kind(text: str) -> str:
    if text[0] in _NUMBER_START:
        return "DOUBLE" if _as_bigint(text) is None else "BIGINT"
    return "BOOLEAN" if text in ("true", "false") else "VARCHAR"


def split_record(record: str, columns: Mapping[str, str], taken: frozenset[str] = frozenset()) -> SplitRecord:
    """Split the additional fields by the record and the columns of the table only.

    Args:
        record: an accepted record.
        columns: additional columns, name -> type.
        taken: names of columns of unsupported types, whose fields are rescued.
    """
    fields = read_fields(record)
    chosen = column_fields(fields)
    kept: list[str] = []
    rescued: list[str] = []
    over_limit = 0
    for name, text in fields.items():
        if name in REQUIRED_FIELDS:
            if name == "created_at" and _as_double(text) is None:
                rescued.append(f'"created_at":{text}')
            continue
        if text == "null":
            continue
        column = name.lower()
        if chosen.get(column) == name:
            kind = columns.get(column)
            value = fit(text, kind) if kind else None
            if value is not None:
                kept.append(f'"{column}":{value}')
                continue
            over_limit += kind is None and column not in taken
        rescued.append(f"{_dump_name(name)}:{text}")
    return SplitRecord(
        "{" + ",".join(kept) + "}", "{" + ",".join(rescued) + "}" if rescued else None, len(rescued), over_limit
    )


def fit(text: str, kind: str) -> str | None:
    """A value as JSON text, if a column of the type holds it exactly; else None.

    Args:
        text: the value as received, not null.
        kind: BIGINT, DOUBLE, BOOLEAN, or VARCHAR (strings, and arrays and objects as text as received).
    """
    if kind == "VARCHAR":
        if text[0] == '"':
            return text
        return json.dumps(text, ensure_ascii=False) if text[0] in "{[" else None
    if kind == "BOOLEAN":
        return text if text in ("true", "false") else None
    if text[0] not in _NUMBER_START:
        return None
    return _as_bigint(text) if kind == "BIGINT" else _as_double(text)


def _as_bigint(text: str) -> str | None:
    """An integer of 64 bits, however it is spelled (12, 12.0, 1.2e1)."""
    if _INTEGER.fullmatch(text):
        return text
    number = _decimal(text)
    if number is None or number.adjusted() > 18 or number != number.to_integral_value():
        return None
    integer = int(number)
    return str(integer) if -(2**63) <= integer < 2**63 else None


def _as_double(text: str) -> str | None:
    """A number whose nearest double is written, at its shortest, with the same value."""
    if _SHORT_NUMBER.fullmatch(text):
        return text
    number, shortest = _decimal(text), repr(float(text))
    return shortest if number is not None and number == Decimal(shortest) else None


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond the range of Decimal
        return None
