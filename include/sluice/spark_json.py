"""JSON as DuckDB reads and writes it, for the functions that Spark is given: one SQL sees the same on both engines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any


class JsonObject(list[tuple[str, Any]]):
    """The fields of a JSON object, repeated ones too."""


class JsonNumber(str):
    """A number as DuckDB writes it."""


def _integer(text: str) -> JsonNumber:
    return JsonNumber("0" if text == "-0" else text)


def _float(text: str) -> JsonNumber:
    """As DuckDB (yyjson) writes a number with a fraction or an exponent: the shortest that reads back."""
    value = float(text)
    if math.isinf(value):
        return JsonNumber(text)
    digits, _, exponent = repr(value).partition("e")
    if not exponent:
        return JsonNumber(digits)
    return JsonNumber(_positional(digits, int(exponent)))


def _positional(digits: str, exponent: int) -> str:
    """Python writes exponents from 1e16 and below 1e-4, yyjson from 1e21 and below 1e-6."""
    if not -7 < exponent < 21:
        return f"{digits}e{exponent}"
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.lstrip("-").partition(".")
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{whole}{fraction}"
    return f"{sign}{whole}{fraction.ljust(exponent, '0')[:exponent]}.{fraction[exponent:] or '0'}"


_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*"|[{\[,:]\s*,)|,(?=\s*[}\]])')


@lru_cache(maxsize=64)  # the functions below see each record several times in a row
def read_json(record: str) -> Any:
    """The value of a JSON text, or `_Invalid`; like DuckDB it lets NaN, Infinity and a last comma pass."""
    for text in (record, _LAST_COMMA.sub(lambda match: match[1] or "", record)):
        try:
            value = json.loads(
                text, object_pairs_hook=JsonObject, parse_int=_integer, parse_float=_float, parse_constant=JsonNumber
            )
            write_json(value).encode()  # fails on half of a surrogate pair
        except (ValueError, RecursionError):
            continue
        return value
    return _Invalid


class _Invalid:
    """Not JSON."""


def is_json(record: str | None) -> bool:
    """Whether a text is JSON; no text is not."""
    return record is not None and read_json(record) is not _Invalid


def write_json(value: Any) -> str:
    """The JSON text of a value without blanks."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case JsonNumber():
            return str(value)
        case str():
            return re.sub(
                r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), json.dumps(value, ensure_ascii=False)
            )
        case JsonObject():
            return "{" + ",".join(f"{write_json(name)}:{write_json(each)}" for name, each in value) + "}"
        case _:
            return "[" + ",".join(map(write_json, value)) + "]"


def _text(value: Any, as_is: bool) -> str | None:
    if value is None:
        return None
    if as_is and type(value) is str:
        return value
    if as_is and isinstance(value, JsonNumber) and value.strip("-0123456789") and math.isfinite(float(value)):
        return repr(float(value))  # DuckDB writes a number of its own as 1e-05, in an object as 0.00001
    return write_json(value)


def json_fields(record: str) -> Iterator[tuple[str, Any]]:
    """The fields of a JSON object in order, repeated ones too; none of any other value."""
    value = read_json(record)
    return iter(value if isinstance(value, JsonObject) else ())


def json_field(record: str, name: str) -> Any:
    """The first field of that name, None where there is none."""
    return next((value for field, value in json_fields(record) if field == name), None)


def field_count(record: str) -> int:
    """Number of fields of a JSON object, repeated ones too."""
    return sum(1 for _ in json_fields(record))


def json_struct(record: str, fields: Mapping[str, bool]) -> tuple[str | None, ...]:
    """Values of fields as text, None where absent or null.

    Args:
        record: JSON text.
        fields: name -> whether a string is given as it is (True) or as JSON text.
    """
    return tuple(_text(json_field(record, name), as_is) for name, as_is in fields.items())


def json_kind(record: str, path: str = "$") -> str:
    """OBJECT, ARRAY, VARCHAR, NUMBER, BOOLEAN or NULL of the whole (`$`) or of a field (`$.<name>`)."""
    value = read_json(record) if path == "$" else json_field(record, path.removeprefix("$."))
    kinds = {JsonObject: "OBJECT", list: "ARRAY", str: "VARCHAR", JsonNumber: "NUMBER", bool: "BOOLEAN"}
    return kinds.get(type(value), "NULL")
